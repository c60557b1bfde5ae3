//! Outages of a real `redis-server`, met by millpond and by r2d2 side by side, each with its default settings:
//! `outage-drill [--long]`. Prints the scoreboard.

#![forbid(unsafe_code)]

use std::env;
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use millpond_benches::table::{Table, number};
use millpond_drivers::Redis;
use r2d2::ManageConnection;
use redis::{Client, Connection, RedisError};

const THREADS: usize = 64;
const SIZE: u32 = 16;
const TIMEOUT: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

/// Lines at the levels that people see.
static LINES: AtomicU64 = AtomicU64::new(0);

struct Count;

impl Log for Count {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }
    fn log(&self, record: &Record<'_>) {
        // Of the pools alone.
        if self.enabled(record.metadata()) && (record.target().starts_with("millpond") || record.target() == "r2d2") {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn flush(&self) {}
}

/// Counts attempts to connect.
#[derive(Debug)]
struct Counted {
    client: Client,
    attempts: Arc<AtomicU64>,
}

impl ManageConnection for Counted {
    type Connection = Connection;
    type Error = RedisError;

    fn connect(&self) -> Result<Connection, RedisError> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.client.get_connection()
    }
    fn is_valid(&self, connection: &mut Connection) -> Result<(), RedisError> {
        self.client.is_valid(connection)
    }
    fn has_broken(&self, connection: &mut Connection) -> bool {
        self.client.has_broken(connection)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Millpond,
    R2d2,
}

const KINDS: [Kind; 2] = [Kind::Millpond, Kind::R2d2];

enum Pool {
    Millpond(millpond::Pool<millpond::R2d2<Counted>>),
    R2d2(r2d2::Pool<Counted>),
}

impl Pool {
    fn new(kind: Kind, url: &str, size: u32) -> (Self, Arc<AtomicU64>) {
        let attempts = Arc::new(AtomicU64::new(0));
        let client = Client::open(url).expect("a good URL");
        let manager = Counted { client, attempts: Arc::clone(&attempts) };
        let pool = match kind {
            Kind::Millpond => {
                Self::Millpond(millpond::Pool::builder(manager).max_size(size).build().expect("the server is up"))
            }
            Kind::R2d2 => Self::R2d2(r2d2::Pool::builder().max_size(size).build(manager).expect("the server is up")),
        };
        (pool, attempts)
    }

    /// One checkout and one round trip. What the caller sees: whether both were good.
    fn ping(&self, timeout: Duration) -> bool {
        let ping = |conn: &mut Connection| redis::cmd("PING").query::<String>(conn).is_ok();
        match self {
            Self::Millpond(pool) => pool.get_timeout(timeout).is_ok_and(|mut conn| ping(&mut conn)),
            Self::R2d2(pool) => pool.get_timeout(timeout).is_ok_and(|mut conn| ping(&mut conn)),
        }
    }

    fn fill(&self, size: u32) {
        match self {
            Self::Millpond(pool) => drop(pool.get_many(size as usize).expect("the server is up")),
            Self::R2d2(pool) => {
                drop((0..size).map(|_| pool.get().expect("the server is up")).collect::<Vec<_>>());
            }
        }
    }
}

/// What came of an outage.
struct Outcome {
    /// From the first answer of the port to the first good round trip.
    first: Duration,
    /// The same to the first tenth of a second with 90 % of the rate before.
    full: Option<Duration>,
    attempts: u64,
    lines: u64,
    failed: u64,
}

/// Kills the server under load for so long.
fn outage(kind: Kind, away: Duration) -> Outcome {
    let redis = Redis::start().expect("it was there a moment ago");
    let (pool, attempts) = Pool::new(kind, &redis.url(), SIZE);
    let good: Mutex<Vec<Instant>> = Mutex::new(Vec::new());
    let (stop, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    let (killed, before, during, answered) = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut own = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if pool.ping(TIMEOUT) {
                        own.push(Instant::now());
                    } else {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                good.lock().expect("no panic under this lock").append(&mut own);
            });
        }
        thread::sleep(Duration::from_secs(1));
        let before = (attempts.load(Ordering::Relaxed), LINES.load(Ordering::Relaxed));
        let killed = Instant::now();
        redis.kill();
        thread::sleep(away);
        let during = attempts.load(Ordering::Relaxed);
        // The harness polls for the first answer, so the port is watched from here as well.
        let port = redis.port();
        let answered = thread::scope(|inner| {
            let watch = inner.spawn(|| {
                while TcpStream::connect(("127.0.0.1", port)).is_err() {
                    thread::sleep(Duration::from_micros(500));
                }
                Instant::now()
            });
            redis.restart();
            watch.join().expect("no panic")
        });
        thread::sleep(if away > Duration::from_secs(5) { Duration::from_secs(9) } else { Duration::from_secs(3) });
        stop.store(true, Ordering::Relaxed);
        (killed, before, during, answered)
    });
    let mut good = good.into_inner().expect("no panic under this lock");
    good.sort_unstable();
    let usual = good.iter().filter(|at| **at < killed && **at + 5 * TENTH >= killed).count() as f64 / 5.0;
    let first = good.iter().find(|at| **at >= answered).map_or(Duration::MAX, |at| *at - answered);
    let rate = |from: Instant| good.iter().filter(|at| **at >= from && **at < from + TENTH).count() as f64;
    let full = (0..800).map(|n| Duration::from_millis(10 * n)).find(|&after| rate(answered + after) >= 0.9 * usual);
    Outcome {
        first,
        full: full.map(|at| at + TENTH),
        attempts: during - before.0,
        lines: LINES.load(Ordering::Relaxed) - before.1,
        failed: failed.load(Ordering::Relaxed),
    }
}

/// Cuts fifty idle connections; how long the next fifty checkouts took, the longest and all, and how many failed.
fn cut(kind: Kind) -> (Duration, Duration, u32) {
    let redis = Redis::start().expect("it was there a moment ago");
    let (pool, _) = Pool::new(kind, &redis.url(), 50);
    pool.fill(50);
    thread::sleep(Duration::from_millis(700));
    let mut admin = Client::open(redis.url()).and_then(|client| client.get_connection()).expect("the server is up");
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .exec(&mut admin)
        .expect("it obeys");
    let (mut longest, mut all, mut failed) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..50 {
        let begun = Instant::now();
        failed += u32::from(!pool.ping(TIMEOUT));
        let took = begun.elapsed();
        (longest, all) = (longest.max(took), all + took);
    }
    (longest, all, failed)
}

fn millis(duration: Duration) -> String {
    if duration == Duration::MAX { "never".to_owned() } else { format!("{} ms", number(duration.as_secs_f64() * 1e3)) }
}

fn main() -> ExitCode {
    log::set_logger(&Count).expect("nobody else logs here");
    log::set_max_level(LevelFilter::Info);
    if Redis::start().is_none() {
        return ExitCode::SUCCESS;
    }
    let long = env::args().any(|argument| argument == "--long");
    let mut table = Table::new(["fault", "figure", "to reach", "millpond", "r2d2"]);
    let mut row = |fault: &str, figure: &str, reach: &str, values: [String; 2]| {
        let [own, its] = values;
        table.row([fault, figure, reach, own.as_str(), its.as_str()]);
    };
    let scenes: &[u64] = if long { &[2, 10, 20, 33] } else { &[2, 10] };
    for &seconds in scenes {
        let name = format!("killed for {seconds} s, {THREADS} threads");
        eprintln!("{name} …");
        let rounds = if seconds < 5 { 5 } else { 1 };
        let outcomes = KINDS.map(|kind| {
            let mut outcomes: Vec<_> = (0..rounds).map(|_| outage(kind, Duration::from_secs(seconds))).collect();
            outcomes.sort_by_key(|outcome| outcome.first);
            outcomes.swap_remove(outcomes.len() / 2)
        });
        let of = |value: &dyn Fn(&Outcome) -> String| [value(&outcomes[0]), value(&outcomes[1])];
        let first = if seconds < 5 { "≤ 100 ms" } else { "≤ 1.1 s" };
        row(&name, "first good checkout", first, of(&|o| millis(o.first)));
        row(
            "",
            "90 % of the old rate",
            if seconds < 5 { "≤ 300 ms" } else { "" },
            of(&|o| o.full.map_or_else(|| "later".to_owned(), millis)),
        );
        row("", "attempts per second", "≤ 10", of(&|o| number(o.attempts as f64 / seconds as f64)));
        row("", "log lines", "2", of(&|o| o.lines.to_string()));
        row("", "failed calls", "", of(&|o| o.failed.to_string()));
    }
    eprintln!("50 idle connections cut …");
    let cuts = KINDS.map(cut);
    row("50 idle connections cut", "longest of the next 50", "", cuts.map(|(longest, ..)| millis(longest)));
    row("", "all of them", "", cuts.map(|(_, all, _)| millis(all)));
    row("", "failed", "0", cuts.map(|(.., failed)| failed.to_string()));
    println!(
        "\nA real redis-server; {SIZE} connections, calls with {} s; medians of 5 for the short outage.\n",
        TIMEOUT.as_secs()
    );
    println!("{table}");
    ExitCode::SUCCESS
}
