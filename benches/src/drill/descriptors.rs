//! The process has no more descriptors, and then has some again.

use std::error::Error;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use millpond_drivers::Redis;
use redis::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::child::{Answer, Child, hear, report};
use super::{KINDS, Kind, Row, span};

pub(super) const ROLE: &str = "descriptors";

const SIZE: u32 = 8;
const TIMEOUT: Duration = Duration::from_secs(1);
/// Long enough for the pauses between attempts to have grown.
const AWAY: Duration = Duration::from_secs(3);
/// `EMFILE` in words, as strerror says it.
const WORDS: &str = "Too many open files";

/// Starves one process with each pool.
pub(super) fn rows() -> Vec<Row> {
    let Some(redis) = Redis::start() else { return Vec::new() };
    let answers = KINDS.map(|kind| starve(kind, &redis).unwrap_or_default());
    let of = |value: &dyn Fn(&Answer) -> String| [value(&answers[0]), value(&answers[1])];
    let back = |answer: &Answer| span(Duration::from_secs_f64(answer.number("back").max(0.0) / 1e3));
    let fault = format!("no more descriptors for {} s", AWAY.as_secs());
    vec![
        Row::new(&fault, "cause in the error", "yes", of(&|a| a.text("cause"))),
        Row::new("", "first new connection after that", "≤ 100 ms", of(&back))
            .judged((0.0..=100.0).contains(&answers[0].number("back"))),
        Row::new("", "connections in the end", &SIZE.to_string(), of(&|a| a.text("whole"))),
    ]
}

fn starve(kind: Kind, redis: &Redis) -> Option<Answer> {
    let mut child = Child::start(ROLE, kind, &[&redis.url()], |_| {}).expect("it is this program");
    child.answer()?;
    thread::sleep(AWAY);
    child.tell("feed");
    child.answer()
}

pub(super) enum Pool {
    Millpond(millpond::Pool<millpond::R2d2<Client>>),
    R2d2(r2d2::Pool<Client>),
}

/// A guard of either pool, held for its drop.
pub(super) enum Lent {
    Millpond { _conn: millpond::PooledConnection<millpond::R2d2<Client>> },
    R2d2 { _conn: r2d2::PooledConnection<Client> },
}

impl Pool {
    /// A pool with one open connection.
    pub(super) fn new(kind: Kind, url: &str) -> Result<Self, String> {
        let client = Client::open(url).expect("it is a URL");
        match kind {
            Kind::Millpond => {
                let pool = millpond::Pool::builder(client).max_size(SIZE).build();
                pool.map(Self::Millpond).map_err(|error| said(&error))
            }
            Kind::R2d2 => {
                // With more it would open the next one as soon as this one is lent.
                let pool = r2d2::Pool::builder().max_size(SIZE).min_idle(Some(0)).build(client);
                pool.map(Self::R2d2).map_err(|error| said(&error))
            }
        }
    }

    pub(super) fn get(&self, timeout: Duration) -> Result<Lent, String> {
        match self {
            Self::Millpond(pool) => match pool.get_timeout(timeout) {
                Ok(_conn) => Ok(Lent::Millpond { _conn }),
                Err(error) => Err(said(&error)),
            },
            Self::R2d2(pool) => match pool.get_timeout(timeout) {
                Ok(_conn) => Ok(Lent::R2d2 { _conn }),
                Err(error) => Err(said(&error)),
            },
        }
    }

    /// How many connections it lends at once.
    pub(super) fn whole(&self) -> usize {
        let guards: Vec<_> = (0..SIZE).map_while(|_| self.get(Duration::from_secs(5)).ok()).collect();
        guards.len()
    }
}

/// An error with all its causes.
fn said(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Sets the soft limit, which a process may raise again.
pub(super) fn limit(resource: Resource, soft: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    setrlimit(resource, Rlimit { current: soft.or(maximum), maximum }).expect("not above the hard limit");
}

/// Lets four callers loose once `starve` has begun the fault, until `feed` has ended it and one of them was served: how
/// long that took. They are threads from before.
pub(super) fn first_after(pool: &Pool, starve: impl FnOnce(), feed: impl FnOnce()) -> Duration {
    let (begun, fed, first) = (Barrier::new(5), AtomicBool::new(false), OnceLock::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                begun.wait();
                while first.get().is_none() {
                    let got = pool.get(TIMEOUT);
                    if got.is_ok() && fed.load(Ordering::SeqCst) {
                        // Somebody else may have been a little faster.
                        let _ = first.set(Instant::now());
                    }
                }
            });
        }
        starve();
        begun.wait();
        feed();
        let end = Instant::now();
        fed.store(true, Ordering::SeqCst);
        first.wait().saturating_duration_since(end)
    })
}

/// The process that starves.
pub(super) fn child(kind: Kind, arguments: &[String]) {
    let [url] = arguments else { panic!("a URL") };
    let pool = Pool::new(kind, url).expect("the server is up");
    // The only one that there is, so that everybody else waits for a new one.
    let held = pool.get(TIMEOUT).expect("it is idle");
    let (mut files, mut error) = (Vec::new(), String::new());
    let starve = || {
        limit(Resource::Nofile, Some(64));
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        report(&[("ready", &true)]);
        error = pool.get(TIMEOUT).map(drop).expect_err("there is no descriptor for it");
    };
    let feed = || {
        hear();
        limit(Resource::Nofile, None);
    };
    let back = first_after(&pool, starve, feed);
    drop((files, held));
    let cause = if error.contains(WORDS) { "yes".to_owned() } else { format!("no: {error}") };
    report(&[("cause", &cause), ("back", &(back.as_secs_f64() * 1e3)), ("whole", &pool.whole())]);
}
