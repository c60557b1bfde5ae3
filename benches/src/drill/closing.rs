//! A pool is closed, or dropped, while its connections are borrowed, waited for and being opened.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{ErrorKind, Manager, R2d2};
use millpond_drivers::{Mode, Proxy, Redis};

use super::process::{descriptors, threads, wait_until};
use super::{Row, span};
use crate::measure::quantile;

const SIZE: u32 = 3;
const WAITERS: u32 = 8;
/// How long connecting takes: long enough to be under way when the pool goes.
const SLOW: Duration = Duration::from_millis(5);
/// For what must come, and for threads to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Closes pools over a scripted manager 1,000 times, and over a real server some dozen times; r2d2, which cannot be
/// closed, is dropped. With `long` its threads are waited for.
pub(super) fn rows(long: bool) -> Vec<Row> {
    let mut rows = scripted(long);
    if let Some(redis) = Redis::start() {
        let proxy = Proxy::to(redis.addr());
        proxy.set(Mode::Delay(SLOW));
        let client = redis::Client::open(Redis::url_at(proxy.port())).expect("it is a URL");
        let before = descriptors();
        let mut left = Left::default();
        for round in 0..100 {
            close_once(millpond::Pool::builder(R2d2(client.clone())), round, &mut left);
        }
        // The proxy has two descriptors and two threads for each connection, which go a moment after it.
        let settled = wait_until(PATIENCE, || descriptors() <= before);
        left.descriptors = if settled.is_some() { 0 } else { descriptors() - before };
        let none = || "–".to_owned();
        let fault = "close × 100, redis";
        let waits = Row::new(fault, "a waiter fails within: p50, p99, worst", "p99 ≤ 10 ms", [left.waits(), none()]);
        rows.push(waits.judged(left.in_time()));
        rows.push(Row::new("", "threads, descriptors left", "0, 0", [left.rest(), none()]));
    }
    rows
}

fn scripted(long: bool) -> Vec<Row> {
    let before = descriptors();
    let live = Arc::new(AtomicI64::new(0));
    let mut left = Left::default();
    for round in 0..1000 {
        close_once(millpond::Pool::builder(R2d2(Slow { live: Arc::clone(&live) })), round, &mut left);
    }
    left.descriptors = wait_until(PATIENCE, || descriptors() <= before).map_or(descriptors() - before, |_| 0);
    left.connections = live.load(Ordering::SeqCst);
    let its = r2d2_dropped(long);
    let fault = "close or drop × 1,000: 2 borrowed, 1 opening, 8 waiting";
    vec![
        Row::new(
            fault,
            "a waiter fails within: p50, p99, worst",
            "p99 ≤ 10 ms",
            [left.waits(), "cannot be closed".to_owned()],
        )
        .judged(left.in_time()),
        Row::new("", "waiters without the error Closed", "0", [left.wrong.to_string(), "–".to_owned()]),
        Row::new("", "rounds that met a connect under way", "", [left.opening.to_string(), "–".to_owned()]),
        Row::new("", "threads, descriptors left", "0, 0", [left.rest(), its.rest]),
        Row::new("", "connections left", "0", [left.connections.to_string(), its.connections.to_string()]),
        Row::new("", "until the threads are gone, worst", "", [span(left.slowest), its.gone]),
    ]
}

/// What many rounds left behind.
#[derive(Debug, Default)]
struct Left {
    /// From the call of `close` to the end of each waiter, in nanoseconds.
    waits: Vec<u64>,
    /// Waiters who got something else than the error that says so.
    wrong: u64,
    /// Rounds in which a connection was being opened at the moment.
    opening: u64,
    /// The most threads left when all guards had been dropped, after a wait.
    threads: usize,
    slowest: Duration,
    descriptors: usize,
    connections: i64,
}

impl Left {
    fn waits(&mut self) -> String {
        let mut at = |q| span(Duration::from_nanos(quantile(&mut self.waits, q)));
        format!("{}, {}, {}", at(0.5), at(0.99), at(1.0))
    }

    fn in_time(&mut self) -> bool {
        quantile(&mut self.waits, 0.99) <= 10_000_000
    }

    fn rest(&self) -> String {
        format!("{}, {}", self.threads, self.descriptors)
    }
}

/// One round: in three of four the pool is closed under its waiters, in the fourth the last handle is dropped, which
/// nobody who waits can outlive.
fn close_once<M: Manager>(builder: millpond::Builder<M>, round: usize, left: &mut Left) {
    let pool = builder.max_size(SIZE).min_idle(2).connection_timeout(PATIENCE).build().expect("connecting works");
    let guards = [(); 2].map(|()| pool.get().expect("both are idle"));
    if round % 4 == 3 {
        // Somebody waits, gives up at once, and leaves an attempt to connect behind.
        let in_vain = pool.get_timeout(Duration::from_millis(1));
        left.opening += u64::from(pool.stats().connecting > 0);
        drop(pool);
        drop(in_vain);
        drop(guards);
    } else {
        let closed = OnceLock::new();
        let waits = Mutex::new(Vec::new());
        let (served, wrong) = (AtomicU32::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| match pool.get() {
                    // By the connection that was being opened, before the pool was closed.
                    Ok(_guard) => {
                        served.fetch_add(1, Ordering::SeqCst);
                        closed.wait();
                    }
                    Err(error) if error.kind() == ErrorKind::Closed => {
                        let ended = Instant::now();
                        let waited = ended.saturating_duration_since(*closed.wait());
                        waits.lock().expect("no panic under this lock").push(waited.as_nanos() as u64);
                    }
                    Err(_) => drop(wrong.fetch_add(1, Ordering::Relaxed)),
                });
            }
            while pool.stats().waiting + served.load(Ordering::SeqCst) < WAITERS {
                thread::yield_now();
            }
            left.opening += u64::from(pool.stats().connecting > 0);
            closed.set(Instant::now()).expect("once a round");
            pool.close();
        });
        left.waits.extend(waits.into_inner().expect("no panic under this lock"));
        left.wrong += wrong.into_inner();
        drop(guards);
        drop(pool);
    }
    match wait_until(PATIENCE, || threads("millpond-") == 0) {
        Some(took) => left.slowest = left.slowest.max(took),
        None => left.threads = left.threads.max(threads("millpond-")),
    }
}

/// What r2d2 leaves behind after some drops.
struct Dropped {
    rest: String,
    connections: i64,
    gone: String,
}

fn r2d2_dropped(long: bool) -> Dropped {
    const ROUNDS: usize = 20;
    let live = Arc::new(AtomicI64::new(0));
    let before = descriptors();
    let others = threads("r2d2-worker");
    for _ in 0..ROUNDS {
        let builder = r2d2::Pool::builder().max_size(SIZE).min_idle(Some(2));
        let pool = builder.build(Slow { live: Arc::clone(&live) }).expect("connecting works");
        let guards = [(); 2].map(|()| pool.get().expect("both are idle"));
        drop(pool);
        drop(guards);
    }
    // As long as connecting takes, several times over.
    thread::sleep(10 * SLOW);
    let count = || threads("r2d2-worker").saturating_sub(others);
    let rest = format!("{}, {} after {ROUNDS} drops", count(), descriptors().saturating_sub(before));
    let connections = live.load(Ordering::SeqCst);
    let limit = if long { Duration::from_secs(40) } else { Duration::from_secs(3) };
    let gone = wait_until(limit, || count() == 0).map_or_else(|| format!("more than {}", span(limit)), span);
    Dropped { rest, connections, gone }
}

/// Opens connections that are descriptors, slowly, and counts those that live.
#[derive(Debug)]
struct Slow {
    live: Arc<AtomicI64>,
}

struct Open {
    live: Arc<AtomicI64>,
    _file: File,
}

impl Slow {
    fn open(&self) -> io::Result<Open> {
        thread::sleep(SLOW);
        let _file = File::open("/dev/null")?;
        self.live.fetch_add(1, Ordering::SeqCst);
        Ok(Open { live: Arc::clone(&self.live), _file })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl r2d2::ManageConnection for Slow {
    type Connection = Open;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Open> {
        self.open()
    }
    fn is_valid(&self, _: &mut Open) -> io::Result<()> {
        Ok(())
    }
    fn has_broken(&self, _: &mut Open) -> bool {
        false
    }
}
