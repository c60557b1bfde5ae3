//! Scenes that need a process of their own, because it is stopped, starved or given another clock: the program starts
//! itself again with a hidden argument.

use std::collections::HashMap;
use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::{Kind, descriptors, suspended, threads, wall_clock};

const HIDDEN: &str = "--as-child";

/// Plays the child's part if this process was started as one. A program with scenes calls it first of all.
pub fn play() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() != Some(HIDDEN) {
        return None;
    }
    // Also while it is stopped: the parent may be killed without a word.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a good signal");
    let role = arguments.next().unwrap_or_default();
    let kind = arguments.next().and_then(|name| Kind::named(&name)).expect("the parent names a pool");
    let rest: Vec<String> = arguments.collect();
    match role.as_str() {
        suspended::ROLE => suspended::child(kind, &rest),
        wall_clock::ROLE => wall_clock::child(kind),
        descriptors::ROLE => descriptors::child(kind, &rest),
        threads::AT_BUILD => threads::child_at_build(kind, &rest),
        threads::LATER => threads::child_later(kind, &rest),
        _ => return Some(ExitCode::FAILURE),
    }
    Some(ExitCode::SUCCESS)
}

/// This program once more, in another part. Killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// # Errors
    ///
    /// The program cannot be run, say by the user that `prepare` asks for.
    pub fn start(role: &str, kind: Kind, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([HIDDEN, role, kind.name()]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        prepare(&mut command);
        let mut process = command.spawn()?;
        let input = process.stdin.take().expect("it was asked for above");
        let output = process.stdout.take().expect("it was asked for above");
        Ok(Self { process, input, output: BufReader::new(output).lines() })
    }

    /// Says a word to the child, which hears it by [`hear`].
    pub fn tell(&mut self, word: &str) {
        // A child that is gone says so by its missing answer.
        drop(writeln!(self.input, "{word}"));
    }

    /// The child's next answer; `None` if it has ended instead.
    pub fn answer(&mut self) -> Option<Answer> {
        let line = self.output.next()?.ok()?;
        let pairs = line.split('\t').filter_map(|pair| pair.split_once('='));
        Some(Answer(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("the system gave it");
        kill_process(pid, signal).expect("it is ours and has not been waited for");
    }

    /// How a child ended that ended by itself.
    pub fn ending(&mut self) -> String {
        match self.process.wait() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(101), _) => "panicked".to_owned(),
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            },
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Of a child that has ended there is nothing left to kill.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What a child reports, by name.
#[derive(Clone, Debug, Default)]
pub struct Answer(HashMap<String, String>);

impl Answer {
    pub fn text(&self, key: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| "–".to_owned())
    }

    pub fn number(&self, key: &str) -> f64 {
        self.0.get(key).and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }
}

/// In the child: waits for the parent's next word. A parent that is gone ends the child.
pub fn hear() -> String {
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(1..) => line.trim().to_owned(),
        Ok(0) | Err(_) => process::exit(1),
    }
}

/// In the child: reports to the parent.
pub fn report(pairs: &[(&str, &dyn Display)]) {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    println!("{}", pairs.join("\t").replace('\n', " "));
}
