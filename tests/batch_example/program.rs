//! The program, a folder for its files, and the database that it has filled.

use crate::support::{Folder, built_example};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

/// A file that is to be loaded into `t.db` beside it.
pub(crate) struct Job {
    folder: Folder,
    name: String,
}

/// What the program has said.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Job {
    pub(crate) fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let folder = Folder::new();
        fs::write(folder.file(name), text).expect("there is room");
        Self { folder, name: name.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// With nothing but these arguments.
    pub(crate) fn bare(&self, args: &[&str]) -> Done {
        let output = self.command(args).stdin(Stdio::null()).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("it writes text");
        Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Loads the file.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.bare(&[&[&*self.name, "--into", "t.db"], args].concat())
    }

    /// Begins to load the file, and returns when the program is at this gate.
    pub(crate) fn run_to(&self, gate: &str, args: &[&str]) -> Running {
        let mut command = self.command(&[&[&*self.name, "--into", "t.db"], args].concat());
        let running = Running::start(command.env("MILLPOND_BATCH_GATE", gate).stdin(Stdio::null()));
        running.wait_for(&format!("gate: {}", gate.replace(':', " ")))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(built_example("batch"));
        command.current_dir(self.folder.path()).args(args).env_remove("MILLPOND_BATCH_GATE");
        command
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.database().execute_batch(sql).expect("it is valid");
    }

    /// Rows of a query, with bars between the values.
    pub(crate) fn rows(&self, query: &str) -> Vec<String> {
        let conn = self.database();
        let mut query = conn.prepare(query).expect("it is valid");
        let columns = query.column_count();
        let value = |row: &rusqlite::Row<'_>, at| match row.get_ref(at).expect("it is there") {
            rusqlite::types::ValueRef::Null => String::new(),
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            rusqlite::types::ValueRef::Real(number) => format!("{number:?}"),
            rusqlite::types::ValueRef::Text(text) | rusqlite::types::ValueRef::Blob(text) => {
                String::from_utf8_lossy(text).into_owned()
            }
        };
        let row = |row: &rusqlite::Row<'_>| Ok((0..columns).map(|at| value(row, at)).collect::<Vec<_>>().join("|"));
        query.query_map([], row).expect("it runs").map(|row| row.expect("a row")).collect()
    }

    fn database(&self) -> Connection {
        Connection::open(self.file("t.db")).expect("it opens")
    }
}

/// The program at work; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let err = BufReader::new(child.stderr.take().expect("it is a pipe"));
        Self { child, err }
    }

    /// Reads what it says until this line.
    pub(crate) fn wait_for(mut self, wanted: &str) -> Self {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.err.read_line(&mut line).expect("it writes text");
            assert!(read > 0, "it has ended without {wanted:?}: {all}");
            if line.trim_end().starts_with(wanted) {
                return self;
            }
            all.push_str(&line);
        }
    }

    pub(crate) fn feed(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// Waits for its end; what it reads from stays open.
    pub(crate) fn end(mut self) -> Done {
        let _input = self.child.stdin.take();
        let (mut out, mut err) = (String::new(), String::new());
        self.err.read_to_string(&mut err).expect("it writes text");
        self.child.stdout.take().expect("it is a pipe").read_to_string(&mut out).expect("it writes text");
        let code = self.child.wait().expect("it ends").code().unwrap_or(-1);
        Done { code, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is not there to be killed.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Records with an id, a name, in each tenth of which there is a line break, and an amount.
pub(crate) fn good_csv(records: u32) -> String {
    let mut text = "id,name,amount\n".to_owned();
    for id in 0..records {
        let gap = if id % 10 == 0 { "\n" } else { " " };
        text.push_str(&format!("{id},\"name{gap}{id}\",{id}.25\n"));
    }
    text
}
