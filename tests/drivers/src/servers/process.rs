//! One server process and the shell that guards it.
//!
//! A server must not outlive the test process, however that one ends: by
//! returning, by a panic, by `abort`, by `kill -9`, or by `exit` while the
//! server is in a static that nobody drops. No destructor runs in most of those
//! cases, but the kernel closes the test's descriptors in all of them. So the
//! parent of each server is a small shell that waits on a pipe from the test,
//! the lifeline, and kills the server when the pipe closes. Ending a server in
//! the ordinary way closes the same pipe: there is one way to end, and every run
//! tries it.

use std::{
    fs, io,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// Starts the server, tells its number, waits on the lifeline, ends the server.
///
/// The stop comes first so that the server starts no child while its children
/// are listed: each backend of a postmaster is a session of its own and outlives
/// it. The loop waits until they are gone, because a postmaster refuses to start
/// again beside a backend of its predecessor. The trap: when a test process dies,
/// the kernel sends SIGHUP to a process group that it leaves behind with a stopped
/// member, and that is this one, at this moment.
const GUARD: &str = r#"
dir=$1; shift
cd "$dir" || exit 1
"$@" </dev/null >>log 2>&1 &
server=$!
trap '' HUP INT TERM
echo "$server"
read -r word
kill -STOP "$server" 2>/dev/null
children=$(grep -ls "^PPid:[[:space:]]*$server\$" /proc/[0-9]*/status | cut -d/ -f3)
kill -KILL $children "$server" 2>/dev/null
wait "$server" 2>/dev/null
for pid in $children; do
    while grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status"; do sleep 0.01; done
done
[ "$word" = keep ] || rm -rf "$dir"
"#;

/// The user that servers run as when the tests run as root: `postgres`,
/// `pgbouncer` and `mariadbd` refuse to be root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `nobody` if this process is root, else `None`: the servers run as we do.
    pub(super) fn if_root() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("every Unix has a list of users");
        let nobody = users.lines().find_map(|line| {
            let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        });
        // 65534 is what Linux and the BSDs reserve for it.
        Some(nobody.unwrap_or(Self { uid: 65534, gid: 65534 }))
    }

    /// Makes `command` run as this user, in a process group of its own, where
    /// Ctrl-C in a terminal does not reach it.
    pub(super) fn apply(account: Option<Self>, command: &mut Command) {
        if let Some(Self { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
        command.process_group(0);
    }
}

/// A running server; ends it and removes its directory when dropped.
#[derive(Debug)]
pub(super) struct Process {
    guard: Child,
    lifeline: Option<ChildStdin>,
    pid: Pid,
}

impl Process {
    /// Starts `program` in `dir`, where its output goes to the file `log`.
    pub(super) fn spawn(dir: &Path, account: Option<Account>, program: &Path, args: &[String]) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "guard"]).arg(dir);
        command.arg(program).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null()).current_dir("/");
        // A starting mariadbd removes the temporary tables of others in a directory that they share.
        command.env("TMPDIR", dir);
        Account::apply(account, &mut command);
        let mut guard = command.spawn()?;
        let lifeline = guard.stdin.take();
        let mut number = String::new();
        let stdout = guard.stdout.take().expect("it was asked for above");
        BufReader::new(stdout).read_line(&mut number)?;
        let pid = number.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the guard could not start the server"))?;
        Ok(Self { guard, lifeline, pid })
    }

    /// The server's process id. It cannot be given to another process while this
    /// value lives, because the guard collects the server only when it ends it.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the server has ended by itself, say because its port was taken.
    pub(super) fn has_ended(&self) -> bool {
        state_and_parent(self.pid()).is_none_or(|(state, _)| state == "Z" || state == "X")
    }

    /// Sends `signal` to the server and to its children.
    pub(super) fn signal(&self, signal: Signal) {
        // The server first: a stopped one forks no more while we look.
        let _ = kill_process(self.pid, signal);
        for child in children(self.pid()) {
            let _ = kill_process(child, signal);
        }
    }

    /// Kills the server and its children, and leaves the directory in place.
    pub(super) fn kill(mut self) {
        if let Some(lifeline) = &mut self.lifeline {
            // A guard that is gone already has nothing left to be told.
            drop(lifeline.write_all(b"keep\n"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        drop(self.guard.wait());
    }
}

/// The children of `parent`: the backends of a postmaster.
fn children(parent: u32) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|process| process.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| state_and_parent(pid).is_some_and(|(_, its)| its == parent))
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

/// The third and fourth field of `/proc/<pid>/stat`, after the name in brackets.
fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
