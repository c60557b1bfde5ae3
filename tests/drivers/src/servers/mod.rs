//! What the servers have in common: a program, a port, a directory, a probe.

mod mariadb;
mod pgbouncer;
mod postgres;
mod process;
mod redis;
mod redis_cluster;

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

pub use self::{
    mariadb::MariaDb,
    pgbouncer::PgBouncer,
    postgres::Postgres,
    redis::Redis,
    redis_cluster::{RedisCluster, Role},
};
use crate::{
    TempDir,
    port::{free_port, loopback},
};
use process::{Account, Process};

/// How long a server may take to answer. Generous: only a server that does not
/// start at all waits this long, and a loaded machine must not fail for it.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A real server that belongs to one test, or to one test binary.
///
/// It is ended, and its directory removed, when this value is dropped, and also
/// when the test process ends without dropping it.
#[derive(Debug)]
pub struct Server {
    recipe: Recipe,
    port: u16,
    /// `None` between [`kill`](Self::kill) and [`restart`](Self::restart).
    process: Mutex<Option<Process>>,
    // Declared last: the directory goes after the process that works in it.
    dir: TempDir,
}

/// How to start one kind of server.
#[derive(Debug)]
struct Recipe {
    program: PathBuf,
    /// Arguments for a directory and a port.
    args: fn(&Path, u16) -> Vec<String>,
    /// Whether the server on that port answers as it would answer a client.
    probe: fn(u16) -> bool,
}

impl Server {
    /// Starts a server in `dir` on a free port and waits until it answers.
    fn start(recipe: Recipe, dir: TempDir) -> Self {
        Self::start_on(free_port, recipe, dir)
    }

    /// The same on a port that is chosen otherwise.
    fn start_on(choose: fn() -> u16, recipe: Recipe, dir: TempDir) -> Self {
        let mut server = Self { recipe, port: 0, process: Mutex::new(None), dir };
        for _ in 0..5 {
            // Between the choice of a port and its use another process may take it.
            server.port = choose();
            if server.launch() {
                return server;
            }
        }
        panic!("{} does not start; its log:\n{}", server.recipe.program.display(), server.log());
    }

    /// The port on 127.0.0.1 where the server listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address where the server listens, for a [`Proxy`](crate::Proxy).
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The server's process id, or `None` after [`kill`](Self::kill).
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::pid)
    }

    /// Kills the server as `kill -9` does, its children included, and returns
    /// when it is gone. Its data stay for [`restart`](Self::restart).
    pub fn kill(&self) {
        let process = self.process().take();
        if let Some(process) = process {
            process.kill();
        }
    }

    /// Suspends the server: it keeps its connections, accepts more of them (the
    /// kernel does that), and never answers, until [`cont`](Self::cont).
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a suspended server go on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts the server again on the same port and the same data, after a
    /// [`kill`](Self::kill) if it still runs, and returns when it answers.
    ///
    /// # Panics
    ///
    /// If the server does not come back.
    pub fn restart(&self) {
        self.kill();
        for _ in 0..5 {
            if self.launch() {
                return;
            }
        }
        panic!("{} does not start again; its log:\n{}", self.recipe.program.display(), self.log());
    }

    /// What the server has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts the process and waits for its first answer; `false` if it ended.
    fn launch(&self) -> bool {
        let args = (self.recipe.args)(self.dir.path(), self.port);
        let account = Account::if_root();
        let process = Process::spawn(self.dir.path(), account, &self.recipe.program, &args)
            .unwrap_or_else(|error| panic!("{}: {error}", self.recipe.program.display()));
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if process.has_ended() {
                process.kill();
                return false;
            }
            if (self.recipe.probe)(self.port) {
                *self.process() = Some(process);
                return true;
            }
            // Another process, without a channel to us: polling is all there is.
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{} does not answer; its log:\n{}", self.recipe.program.display(), self.log());
    }

    fn signal(&self, signal: Signal) {
        self.process().as_ref().expect("a killed server takes no signals").signal(signal);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A test that panicked elsewhere must still be able to end its server.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a directory that the server's user may write.
fn directory(name: &str) -> TempDir {
    let dir = TempDir::new(name);
    give_away(dir.path());
    dir
}

fn give_away(path: &Path) {
    if let Some(Account { uid, gid }) = Account::if_root() {
        chown(path, Some(uid), Some(gid)).expect("root may give files away");
    }
}

/// Writes a configuration file that the server may read.
fn write(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    give_away(&path);
}

/// Runs a set-up program to its end, as the server's user.
fn run(dir: &TempDir, program: &Path, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir.path()).env("TMPDIR", dir.path());
    Account::apply(Account::if_root(), &mut command);
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{} failed: {}{}",
        program.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Looks for a program in `PATH` and in `more`; says so if it is not there.
///
/// # Panics
///
/// If it is not there and `MILLPOND_REQUIRE_SERVERS` is `1`.
fn find(program: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = more
        .iter()
        .cloned()
        .chain(env::split_paths(&path))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        let required = env::var_os("MILLPOND_REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "no {program}, and MILLPOND_REQUIRE_SERVERS=1 is set");
        // Past libtest's capture: a skip that nobody sees looks like a pass.
        drop(writeln!(io::stderr(), "skipped: no {program}"));
    }
    found
}

/// Sends `request` to a port and returns the first `n` bytes of the answer.
fn exchange(port: u16, request: &[u8], n: usize) -> Option<Vec<u8>> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&loopback(port), patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = vec![0; n];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}
