//! A server that runs, and what it is asked and says.

use crate::support::{Folder, LONG, built_example};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use ureq::Agent;

/// Ends the server when the tests end in whatever way: the kernel closes the pipe that this shell reads from.
const GUARD: &str = r#"trap '' HUP INT TERM; read -r _; kill -KILL "$1""#;

pub(crate) struct Server {
    child: Child,
    guard: (Child, ChildStdin),
    pub(crate) url: String,
    pub(crate) agent: Agent,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    folder: Folder,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// As `eventually`, but with pauses that leave the processor to the server that is asked: for half a minute and more.
pub(crate) fn soon(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never so: {what}");
}

impl Server {
    /// On a free port, over a file of its own.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let folder = Folder::new();
        let mut child = Command::new(built_example("server"))
            .args(["--port", "0", "--database"])
            .arg(folder.file("book.db"))
            .args(flags)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is built");
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("every Unix has a shell");
        let lifeline = guard.stdin.take().expect("it was asked for above");
        let stdout = gather(child.stdout.take().expect("it was asked for above"));
        let stderr = gather(child.stderr.take().expect("it was asked for above"));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(LONG))
            .max_idle_connections(300)
            .max_idle_connections_per_host(300)
            .build()
            .new_agent();
        let mut server = Self { child, guard: (guard, lifeline), url: String::new(), agent, stdout, stderr, folder };
        soon("it says where it is, or ends", || {
            server.said().contains("at once.\n") || server.child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        let said = server.said();
        let url = said.split_once("open, at ").and_then(|(_, rest)| rest.split_once("/\n"));
        server.url = url.unwrap_or_else(|| panic!("{said}\n{}", server.logged())).0.to_owned();
        server
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub(crate) fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        Answer::of(self.agent.get(format!("{}{path}", self.url)).call()?)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Answer {
        self.try_write(name, text).unwrap_or_else(|error| panic!("POST of {name:?}: {error}"))
    }

    pub(crate) fn try_write(&self, name: &str, text: &str) -> Result<Answer, ureq::Error> {
        let form =
            form_urlencoded::Serializer::new(String::new()).extend_pairs([("name", name), ("text", text)]).finish();
        self.send("/entries", "application/x-www-form-urlencoded", &form)
    }

    pub(crate) fn send(&self, path: &str, kind: &str, body: &str) -> Result<Answer, ureq::Error> {
        Answer::of(self.agent.post(format!("{}{path}", self.url)).content_type(kind).send(body)?)
    }

    /// What `/pools.json` says of the pool with that ending.
    pub(crate) fn pool(&self, ending: &str) -> Json {
        let status = self.get("/pools.json").json();
        let named = |pool: &&Json| {
            let name = pool.pointer("/health/pool").and_then(Json::as_str);
            name.is_some_and(|name| name.ends_with(ending))
        };
        let one = status.get("pools").and_then(Json::as_array).and_then(|pools| pools.iter().find(named));
        one.and_then(|pool| pool.get("stats")).unwrap_or_else(|| panic!("{status}")).clone()
    }

    /// A connection to its file, as another program has one.
    pub(crate) fn database(&self) -> Connection {
        Connection::open(self.folder.file("book.db")).expect("a file that can be opened")
    }

    /// Nobody writes until this is dropped.
    pub(crate) fn lock(&self) -> Connection {
        let conn = self.database();
        conn.busy_timeout(LONG).expect("a number is written down");
        conn.execute_batch("BEGIN IMMEDIATE").expect("nobody writes for long");
        conn
    }

    pub(crate) fn signal(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it is not waited for yet");
    }

    /// Stops it, and lets it go on: what waits with a time-out is interrupted by that.
    pub(crate) fn interrupt(&self) {
        let pid = Pid::from_child(&self.child);
        for (signal, change) in [(Signal::STOP, WaitOptions::UNTRACED), (Signal::CONT, WaitOptions::CONTINUED)] {
            kill_process(pid, signal).expect("it is not waited for yet");
            waitpid(Some(pid), change).expect("it is a child of this process");
        }
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        soon("it ends", || {
            ended = self.child.try_wait().expect("it is a child of this process");
            ended.is_some()
        });
        ended.expect("it has just ended")
    }

    /// What it has printed until now.
    pub(crate) fn said(&self) -> String {
        self.stdout.lock().expect("no panic under this lock").clone()
    }

    /// What it has logged until now.
    pub(crate) fn logged(&self) -> String {
        self.stderr.lock().expect("no panic under this lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // First the guard, which knows the server by a number that may soon be somebody else's.
        drop(self.guard.0.kill());
        drop(self.guard.0.wait());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn gather(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let its = Arc::clone(&all);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            its.lock().expect("no panic under this lock").push_str(&(line + "\n"));
        }
    });
    all
}

impl Answer {
    fn of(mut answer: ureq::http::Response<ureq::Body>) -> Result<Self, ureq::Error> {
        let body = answer.body_mut().read_to_string()?;
        let text = |value: &ureq::http::HeaderValue| value.to_str().expect("it is ASCII").to_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        Ok(Self { status: answer.status().as_u16(), headers, body })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A 503 that says which pool it is about, and when to come back; and nothing that is nobody's business.
    pub(crate) fn assert_names(&self, pool: &str) {
        assert_eq!(self.status, 503, "{self:?}");
        assert!(self.body.contains(&format!("the pool &quot;{pool}&quot; cannot serve this now: ")), "{self:?}");
        assert!(self.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{self:?}");
        for internal in [".rs:", ".db", "thread", "client-"] {
            assert!(!self.body.contains(internal), "{self:?}");
        }
    }
}
