//! A process that is stopped for longer than its connections may live, and goes on.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond_drivers::Redis;
use r2d2::ManageConnection;
use redis::{Client, Connection, RedisError};
use rustix::process::Signal;

use super::child::{Answer, Child, hear, report};
use super::{KINDS, Kind, Row, span};

pub(super) const ROLE: &str = "suspended";

const SIZE: u32 = 20;
/// Callers who come and go all the time: enough to be there at the moment, too few to use every connection.
const CALLERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_secs(1);
const WATCHED: Duration = Duration::from_secs(3);

/// Stops one process with each pool, for a minute or for some seconds.
pub(super) fn rows(long: bool) -> Vec<Row> {
    let away = Duration::from_secs(if long { 60 } else { 5 });
    // Side by side, each with a server of its own: there is next to no load.
    let outcomes = thread::scope(|scope| {
        let threads = KINDS.map(|kind| scope.spawn(move || suspend(kind, away)));
        threads.map(|thread| thread.join().expect("the scene does not panic"))
    });
    let [Some(own), Some(its)] = outcomes else { return Vec::new() };
    let fault = format!("process suspended for {} s, {SIZE} expired", away.as_secs());
    let of = |value: &dyn Fn(&Outcome) -> String| [value(&own), value(&its)];
    let millis = |answer: &Answer, key| span(Duration::from_secs_f64(answer.number(key).max(0.0) / 1e3));
    vec![
        Row::new(&fault, "closed in the worst 100 ms", "≤ 4", of(&|o| o.worst_tenth.to_string()))
            .judged(own.worst_tenth <= SIZE as usize / 5),
        Row::new("", "closed in the first second", "", of(&|o| o.first_second.to_string())),
        Row::new("", "closed in three seconds", "", of(&|o| o.in_all.to_string())),
        Row::new("", "lent past its lifetime and not checked since", "0", of(&|o| o.answer.text("old"))),
        Row::new("", "failed calls", "0", of(&|o| o.answer.text("failed"))),
        Row::new("", "longest call afterwards", "", of(&|o| millis(&o.answer, "longest"))),
    ]
}

struct Outcome {
    /// How many of the connections from before were gone at the server after one second, and after all.
    first_second: usize,
    in_all: usize,
    /// The most that went between two looks a tenth of a second apart.
    worst_tenth: usize,
    answer: Answer,
}

fn suspend(kind: Kind, away: Duration) -> Option<Outcome> {
    let redis = Redis::start()?;
    let mut observer = Client::open(redis.url()).and_then(|client| client.get_connection()).expect("the server is up");
    let lifetime = away.mul_f64(0.8).as_millis().to_string();
    let mut child = Child::start(ROLE, kind, &[&redis.url(), &lifetime], |_| {}).expect("it is this program");
    child.answer()?;
    thread::sleep(Duration::from_millis(300));
    let before = clients(&mut observer);
    child.signal(Signal::STOP);
    thread::sleep(away);
    let begun = Instant::now();
    child.signal(Signal::CONT);
    child.tell("on");
    let mut gone = Vec::new();
    while begun.elapsed() < WATCHED {
        let now = clients(&mut observer);
        gone.push((begun.elapsed(), before.difference(&now).count()));
        thread::sleep(Duration::from_millis(10));
    }
    child.tell("report");
    let answer = child.answer()?;
    let until = |limit: Duration| gone.iter().take_while(|(at, _)| *at <= limit).last().map_or(0, |(_, n)| *n);
    let tenth = Duration::from_millis(100);
    let worst = (1..=30).map(|n| until(tenth * n) - until(tenth * (n - 1))).max();
    Some(Outcome {
        first_second: until(Duration::from_secs(1)),
        in_all: until(WATCHED),
        worst_tenth: worst.unwrap_or(0),
        answer,
    })
}

/// The server's numbers for its clients, without the one that asks.
fn clients(observer: &mut Connection) -> HashSet<u64> {
    let mine: u64 = redis::cmd("CLIENT").arg("ID").query(observer).expect("it answers");
    let list: String = redis::cmd("CLIENT").arg("LIST").query(observer).expect("it answers");
    let numbers = list.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok());
    numbers.filter(|&number| number != mine).collect()
}

/// Opens connections that know since when nobody has looked at them.
#[derive(Debug)]
struct Dated(Client);

struct Member {
    connection: Connection,
    /// When it was opened, or last passed a check.
    proven: Instant,
}

impl ManageConnection for Dated {
    type Connection = Member;
    type Error = RedisError;

    fn connect(&self) -> Result<Member, RedisError> {
        Ok(Member { connection: self.0.get_connection()?, proven: Instant::now() })
    }
    fn is_valid(&self, member: &mut Member) -> Result<(), RedisError> {
        self.0.is_valid(&mut member.connection)?;
        member.proven = Instant::now();
        Ok(())
    }
    fn has_broken(&self, member: &mut Member) -> bool {
        self.0.has_broken(&mut member.connection)
    }
}

enum Pool {
    Millpond(millpond::Pool<millpond::R2d2<Dated>>),
    R2d2(r2d2::Pool<Dated>),
}

impl Pool {
    fn new(kind: Kind, url: &str, lifetime: Duration) -> Self {
        let manager = Dated(Client::open(url).expect("it is a URL"));
        let (lifetime, idle) = (Some(lifetime), Some(lifetime.mul_f64(0.75)));
        match kind {
            Kind::Millpond => {
                let builder = millpond::Pool::builder(manager).max_size(SIZE).min_idle(SIZE / 4);
                let pool = builder.max_lifetime(lifetime).idle_timeout(idle).build().expect("the server is up");
                drop(pool.get_many(SIZE as usize).expect("the server is up"));
                Self::Millpond(pool)
            }
            Kind::R2d2 => {
                let builder = r2d2::Pool::builder().max_size(SIZE).min_idle(Some(SIZE / 4));
                let pool = builder.max_lifetime(lifetime).idle_timeout(idle).build(manager).expect("the server is up");
                drop((0..SIZE).map(|_| pool.get().expect("the server is up")).collect::<Vec<_>>());
                Self::R2d2(pool)
            }
        }
    }

    /// One checkout and one round trip: how long ago the connection had been opened or checked when it came, or `None` for a
    /// failure.
    fn ping(&self) -> Option<Duration> {
        let ping = |member: &mut Member| {
            let age = member.proven.elapsed();
            redis::cmd("PING").query::<String>(&mut member.connection).ok().map(|_| age)
        };
        match self {
            Self::Millpond(pool) => pool.get_timeout(TIMEOUT).ok().and_then(|mut member| ping(&mut member)),
            Self::R2d2(pool) => pool.get_timeout(TIMEOUT).ok().and_then(|mut member| ping(&mut member)),
        }
    }
}

/// The process that is stopped.
pub(super) fn child(kind: Kind, arguments: &[String]) {
    let [url, lifetime] = arguments else { panic!("a URL and a lifetime") };
    let lifetime = Duration::from_millis(lifetime.parse().expect("milliseconds"));
    let pool = Pool::new(kind, url, lifetime);
    let (failed, old) = (AtomicU64::new(0), AtomicU64::new(0));
    let (done, longest) = (AtomicBool::new(false), Mutex::new(Duration::ZERO));
    let on: Mutex<Option<Instant>> = Mutex::new(None);
    report(&[("ready", &true)]);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    match pool.ping() {
                        // The clock of a pool may have steps of 10 ms.
                        Some(age) if age > lifetime + Duration::from_millis(20) => old.fetch_add(1, Ordering::Relaxed),
                        Some(_) => 0,
                        None => failed.fetch_add(1, Ordering::Relaxed),
                    };
                    let after = on.lock().expect("no panic under this lock").is_some_and(|on| begun >= on);
                    if after {
                        let mut longest = longest.lock().expect("no panic under this lock");
                        *longest = longest.max(begun.elapsed());
                    }
                    thread::sleep(PAUSE);
                }
            });
        }
        hear();
        *on.lock().expect("no panic under this lock") = Some(Instant::now());
        hear();
        done.store(true, Ordering::Relaxed);
    });
    let longest = longest.lock().expect("no panic under this lock").as_secs_f64() * 1e3;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    report(&[("failed", &count(&failed)), ("old", &count(&old)), ("longest", &longest)]);
}
