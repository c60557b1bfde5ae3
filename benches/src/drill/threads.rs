//! The process may start no more threads: while a pool is built, and later.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use millpond_drivers::Redis;
use rustix::process::{Resource, geteuid};

use super::child::{Child, hear, report};
use super::descriptors::{Pool, first_after, limit};
use super::{KINDS, Kind, Row, span};

pub(super) const AT_BUILD: &str = "threads-at-build";
pub(super) const LATER: &str = "threads-later";

/// `nobody`: the limit on threads counts all of a user, and root is exempt from it.
const NOBODY: u32 = 65534;
/// Longer than an idle helper of millpond waits for another job.
const IDLE: Duration = Duration::from_secs(6);
const AWAY: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Takes the threads from two processes with each pool.
pub(super) fn rows() -> Vec<Row> {
    let fault = "no more threads";
    let skipped = |why: &str| {
        eprintln!("skipped: {fault}: {why}");
        vec![Row::new(fault, "", "", ["skipped", "skipped"].map(str::to_owned))]
    };
    if !geteuid().is_root() {
        return skipped("only root may start a process of another user");
    }
    let Some(redis) = Redis::start() else { return Vec::new() };
    let as_nobody = |command: &mut Command| {
        // A panic is an outcome here, and its text is noise.
        command.uid(NOBODY).gid(NOBODY).current_dir("/").stderr(Stdio::null());
    };
    let start = |role: &str, kind: Kind| Child::start(role, kind, &[&redis.url()], as_nobody);
    if let Err(error) = start(AT_BUILD, Kind::Millpond) {
        return skipped(&format!("another user cannot run this program: {error}"));
    }
    let at_build = KINDS.map(|kind| {
        let mut child = start(AT_BUILD, kind).expect("it could be started a moment ago");
        match child.answer() {
            Some(answer) => answer.text("built"),
            None => child.ending(),
        }
    });
    let later = KINDS.map(|kind| {
        let mut child = start(LATER, kind).expect("it could be started a moment ago");
        if child.answer().is_some() {
            thread::sleep(AWAY);
        }
        child.tell("feed");
        match child.answer() {
            Some(answer) => {
                let back = span(Duration::from_secs_f64(answer.number("back").max(0.0) / 1e3));
                (answer.text("later"), back, answer.text("whole"))
            }
            None => (child.ending(), "–".to_owned(), "–".to_owned()),
        }
    });
    let of = |value: &dyn Fn(&(String, String, String)) -> String| [value(&later[0]), value(&later[1])];
    vec![
        {
            let met = at_build[0].starts_with("error");
            Row::new(fault, "building a pool", "an error", at_build).judged(met)
        },
        Row::new("", "a new connection later", "an error or service", of(&|l| l.0.clone())),
        Row::new("", "first one after that", "", of(&|l| l.1.clone())),
        Row::new("", "connections in the end", "8", of(&|l| l.2.clone())),
    ]
}

/// A process that cannot start a thread when it builds a pool.
pub(super) fn child_at_build(kind: Kind, arguments: &[String]) {
    let [url] = arguments else { panic!("a URL") };
    limit(Resource::Nproc, Some(1));
    let built = match Pool::new(kind, url) {
        Ok(_) => "works".to_owned(),
        Err(error) => format!("error: {}", cause(&error)),
    };
    report(&[("built", &built)]);
}

/// A process that cannot start a thread once its pool has one connection.
pub(super) fn child_later(kind: Kind, arguments: &[String]) {
    let [url] = arguments else { panic!("a URL") };
    let pool = Pool::new(kind, url).expect("the server is up");
    let held = pool.get(TIMEOUT).expect("it is idle");
    let mut later = String::new();
    let starve = || {
        thread::sleep(IDLE);
        limit(Resource::Nproc, Some(1));
        report(&[("ready", &true)]);
        later = match pool.get(TIMEOUT) {
            Ok(_) => "works".to_owned(),
            Err(error) => format!("error: {}", cause(&error)),
        };
    };
    let feed = || {
        hear();
        limit(Resource::Nproc, None);
    };
    let back = first_after(&pool, starve, feed);
    drop(held);
    report(&[("later", &later), ("back", &(back.as_secs_f64() * 1e3)), ("whole", &pool.whole())]);
}

/// The system's word for `EAGAIN`, or all that was said.
fn cause(error: &str) -> &str {
    let words = "Resource temporarily unavailable";
    if error.contains(words) { words } else { error }
}
