//! The example server as a process.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Ends the server when this program ends in whatever way: the kernel closes the pipe that this shell reads from.
const GUARD: &str = r#"trap '' HUP INT TERM; read -r _; kill -KILL "$1" 2>/dev/null"#;

/// Until it has said where it is.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub struct Host {
    child: Child,
    guard: (Child, ChildStdin),
    output: BufReader<ChildStdout>,
    pub address: SocketAddr,
    folder: PathBuf,
}

impl Host {
    /// Starts it on a free port, over a file of its own.
    ///
    /// # Errors
    ///
    /// It was not built, or does not start.
    pub fn start(flags: &[&str]) -> io::Result<Self> {
        let this = env::current_exe()?;
        let program = this.with_file_name("examples").join("server");
        let folder = env::temp_dir().join(format!("millpond-server-load-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut child = Command::new(&program)
            .args(["--port", "0", "--database"])
            .arg(folder.join("book.db"))
            .args(flags)
            // What it warns of is in the tables.
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a pipe that was asked for is not there");
        let lifeline = guard.stdin.take().ok_or_else(missing)?;
        let mut output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let mut first = String::new();
        output.read_line(&mut first)?;
        let address =
            first.split_once("http://").and_then(|(_, rest)| rest.trim_end().trim_end_matches('/').parse().ok());
        let mut host = Self { child, guard: (guard, lifeline), output, address: NOWHERE, folder };
        host.address =
            address.ok_or_else(|| io::Error::other(format!("the server does not say where it is: {first:?}")))?;
        Ok(host)
    }

    /// The file of its database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("book.db")
    }

    /// Ends it in good order, and returns what it says at the end.
    ///
    /// # Errors
    ///
    /// It has ended already, or with a failure.
    pub fn end(mut self) -> io::Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!("the server ended with {status}")));
        }
        Ok(said.split_once("The server is closed.").map_or(said.clone(), |(_, report)| report.trim_start().to_owned()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // First the guard, which knows the server by a number that may soon be somebody else's.
        drop(self.guard.0.kill());
        drop(self.guard.0.wait());
        drop(self.child.kill());
        drop(self.child.wait());
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
    // What cannot be removed is left to the system's cleaning of temporary files.
    drop(fs::remove_dir_all(folder));
}
