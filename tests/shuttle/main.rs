//! The whole pool, through its public names, under schedules that are drawn at random.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test -p millpond --release --test shuttle -- --nocapture
//! ```
//!
//! Each model is run by a random scheduler and by PCT (which finds bugs that need few but particular switches) until
//! the two have lent and taken back `MILLPOND_SHUTTLE_OPS` connections (default 100,000 in each model, 1.3 million in all). What a
//! model chooses for itself (sizes, outcomes of callbacks) comes from the scheduler too, so a schedule is the whole
//! truth about a run.
//!
//! **Again.** A failure prints `failing schedule:` and a text in quotation marks. Put that text into a file and run
//! the one test again with `MILLPOND_SCHEDULE=file`: it then runs that schedule and no other. `MILLPOND_SEED=n`
//! repeats a whole run; each test prints the seed that it used.
//!
//! **Time.** A pool with a clock that is moved by hand has no keeper, so a model's keeper thread moves the clock and
//! calls `maintain`. Everything is in microseconds here, far below the 100 ms after which the pool gives up waiting
//! for a close: so the number of live connections never exceeds the maximum, not even for a moment.
//!
//! **Not modelled.** Memory orderings (this checker knows sequential consistency only; the loom models are for those),
//! the reuse of helper threads (each job has a thread of its own here), and the handle of the rack that a thread
//! keeps (all threads of a model share one real thread).
#![cfg(shuttle)]

mod budget;
mod models;

use millpond::testing::HandClock;
use millpond::{
    Builder, ErrorKind, Fairness, Fault, Maintenance, Manager, Pool, PooledConnection, RetryPolicy, Validation, WarmUp,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::sync::atomic::AtomicU32 as Point;
use shuttle::thread;
use shuttle::{Config, MaxSteps, Runner};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const FOR_EVER: Duration = Duration::MAX;

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

// ---- running models ----

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 0x4_0000;
    // The longest good run takes a few thousand steps; one that takes this many has a thread that waits for ever
    // beside a keeper that never ends.
    config.max_steps = MaxSteps::FailAfter(200_000);
    config.silence_warnings = true;
    config
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Schedules run with one seed, before the next one is drawn.
const BATCH: usize = 500;

fn explore(name: &str, model: fn(&Arc<Lab>)) {
    let ops = Arc::new(AtomicU64::new(0));
    let run = {
        let ops = Arc::clone(&ops);
        move || {
            let lab = Arc::new(Lab::default());
            model(&lab);
            ops.fetch_add(lab.lent.load(SeqCst), SeqCst);
        }
    };
    if let Ok(file) = std::env::var("MILLPOND_SCHEDULE") {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let schedule = text.trim().trim_matches('"').trim();
        Runner::new(ReplayScheduler::new_from_encoded(schedule), config()).run(run);
        return;
    }
    let seed = env("MILLPOND_SEED").unwrap_or_else(|| RandomState::new().hash_one(name));
    let wanted = env("MILLPOND_SHUTTLE_OPS").unwrap_or(100_000);
    println!("{name}: seed {seed}");
    #[allow(clippy::disallowed_methods, reason = "for the report only")]
    let began = Instant::now();
    let mut schedules = 0;
    let mut batch = 0;
    while ops.load(SeqCst) < wanted {
        let seed = seed.wrapping_add(batch);
        schedules += if batch % 2 == 0 {
            let scheduler = RandomScheduler::new_from_seed(seed, BATCH);
            Runner::new(scheduler, config()).run(run.clone())
        } else {
            let depth = 2 + (batch / 2 % 3) as usize;
            let scheduler = PctScheduler::new_from_seed(seed, depth, BATCH);
            Runner::new(scheduler, config()).run(run.clone())
        };
        batch += 1;
    }
    let took = began.elapsed();
    println!("{name}: {schedules} schedules, {} lent and returned, {took:.1?}", ops.load(SeqCst));
}

// ---- the manager ----

/// How often a callback does not do what it should, in percent.
#[derive(Default)]
struct Ills {
    connect: AtomicU32,
    is_valid: AtomicU32,
    has_broken: AtomicU32,
    reset: AtomicU32,
    close: AtomicU32,
    hooks: AtomicU32,
}

#[derive(Default)]
struct Lab {
    ills: Ills,
    /// Connections that exist, and how many may.
    live: AtomicU32,
    limit: AtomicU32,
    opened: AtomicU32,
    dropped: AtomicU32,
    lent: AtomicU64,
    /// Nothing that was opened so early is lent any more.
    outdated: AtomicU32,
    /// Errors of connecting are of this kind.
    fault: AtomicU32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    Bad,
    Panic,
}

/// Lets the scheduler switch, as anything that a callback does would.
fn switch() {
    Point::new(0).load(SeqCst);
}

fn draw(percent: &AtomicU32) -> Outcome {
    for _ in 0..thread_rng().gen_range(0..3) {
        switch();
    }
    let percent = percent.load(SeqCst);
    if percent == 0 || thread_rng().gen_range(0..100) >= percent {
        Outcome::Good
    } else if thread_rng().gen_range(0..3) == 0 {
        Outcome::Panic
    } else {
        Outcome::Bad
    }
}

fn scripted_panic() -> ! {
    // Not `panic!`, which would print, and which the checker would take for a failure.
    resume_unwind(Box::new("scripted"))
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

fn act(percent: &AtomicU32) -> Result<(), Refused> {
    match draw(percent) {
        Outcome::Good => Ok(()),
        Outcome::Bad => Err(Refused),
        Outcome::Panic => scripted_panic(),
    }
}

struct Conn {
    lab: Arc<Lab>,
    number: u32,
    used: AtomicBool,
    /// It was taken out of the pool and does not count against the maximum any more.
    gone: AtomicBool,
}

impl Conn {
    /// Uses the connection, for a few switches, and asserts that nobody else does.
    fn exclusively(&self) {
        assert!(!self.used.swap(true, SeqCst), "two borrowers of one connection");
        for _ in 0..thread_rng().gen_range(0..3) {
            switch();
        }
        assert!(self.used.swap(false, SeqCst), "two borrowers of one connection");
        self.lab.lent.fetch_add(1, SeqCst);
    }

    fn leave(&self) {
        if !self.gone.swap(true, SeqCst) {
            self.lab.live.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.leave();
        self.lab.dropped.fetch_add(1, SeqCst);
    }
}

struct Scripted(Arc<Lab>);

impl Manager for Scripted {
    type Connection = Conn;
    type Error = Refused;

    fn connect(&self) -> Result<Conn, Refused> {
        act(&self.0.ills.connect)?;
        let live = self.0.live.fetch_add(1, SeqCst) + 1;
        let limit = self.0.limit.load(SeqCst);
        assert!(live <= limit, "{live} connections where {limit} are allowed");
        let number = self.0.opened.fetch_add(1, SeqCst) + 1;
        let lab = Arc::clone(&self.0);
        Ok(Conn { lab, number, used: AtomicBool::new(false), gone: AtomicBool::new(false) })
    }

    fn is_valid(&self, connection: &mut Conn) -> Result<(), Refused> {
        assert!(!connection.used.load(SeqCst), "checked while it is borrowed");
        act(&self.0.ills.is_valid)
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        act(&self.0.ills.has_broken).is_err()
    }

    fn reset(&self, connection: &mut Conn) -> Result<(), Refused> {
        assert!(!connection.used.load(SeqCst), "cleaned while it is borrowed");
        act(&self.0.ills.reset)
    }

    fn close(&self, connection: Conn) {
        assert!(!connection.used.load(SeqCst), "closed while it is borrowed");
        // A panic drops the connection too.
        drop(act(&self.0.ills.close));
    }

    fn classify(&self, _: &Refused) -> Fault {
        match self.0.fault.load(SeqCst) {
            0 => Fault::Transient,
            1 => Fault::Permanent,
            _ => Fault::DiscardAll,
        }
    }
}

// ---- what all models share ----

type TestPool = Pool<Scripted>;

impl Lab {
    /// A pool of 1 to 3, of either fairness.
    fn builder(self: &Arc<Self>, clock: &HandClock, max_size: u32) -> Builder<Scripted> {
        self.limit.store(max_size, SeqCst);
        let mut rng = thread_rng();
        let fairness = match rng.gen_range(0..3) {
            0 => Fairness::Strict,
            1 => Fairness::Bounded(Duration::ZERO),
            _ => Fairness::Bounded(micros(8)),
        };
        Pool::builder(Scripted(Arc::clone(self)))
            .name("model")
            .max_size(max_size)
            .max_connecting(rng.gen_range(1..=3))
            .fairness(fairness)
            .validation(Validation::Never)
            .retry(RetryPolicy::default().initial_delay(micros(5)).max_delay(micros(20)))
            .connection_timeout(FOR_EVER)
            .clock(clock.clone())
    }

    /// Asserts, of all who begin to look for a connection later, that they get a younger one.
    fn refresh(&self, pool: &TestPool) {
        let before = self.opened.load(SeqCst);
        pool.refresh();
        self.outdated.fetch_max(before, SeqCst);
    }

    fn get_and_use(&self, pool: &TestPool) {
        let outdated = self.outdated.load(SeqCst);
        let conn = pool.get().expect("somebody returns one");
        assert!(conn.number > outdated, "lent after a refresh although it was open before");
        conn.exclusively();
    }

    fn well(&self) {
        let Ills { connect, is_valid, has_broken, reset, close, hooks } = &self.ills;
        for ill in [connect, is_valid, has_broken, reset, close, hooks] {
            ill.store(0, SeqCst);
        }
    }
}

fn some_size() -> u32 {
    thread_rng().gen_range(1..=3)
}

fn build(builder: Builder<Scripted>) -> TestPool {
    builder.build_lazy().expect("the settings are good")
}

/// Waits for the callers beside a keeper, which moves the clock by `tick` and tends the pool, if there is one to be
/// tended, until all of them are done.
fn with_keeper(pool: Option<&TestPool>, clock: &HandClock, tick: Duration, callers: Vec<thread::JoinHandle<()>>) {
    let done = Arc::new(AtomicBool::new(false));
    let keeper = thread::spawn({
        let (pool, clock, done) = (pool.cloned(), clock.clone(), Arc::clone(&done));
        move || {
            while !done.load(SeqCst) {
                clock.advance(tick);
                pool.iter().for_each(Pool::maintain);
                thread::yield_now();
            }
        }
    });
    join(callers);
    done.store(true, SeqCst);
    keeper.join().expect("the keeper does not panic");
}

/// So many callers, each a thread that does the same with the pool so many times.
fn callers(
    pool: &TestPool,
    count: usize,
    times: usize,
    each: impl Fn(&TestPool) + Copy + Send + 'static,
) -> Vec<thread::JoinHandle<()>> {
    let one = |_| {
        let pool = pool.clone();
        thread::spawn(move || (0..times).for_each(|_| each(&pool)))
    };
    (0..count).map(one).collect()
}

/// Borrows a connection, uses it, gives it back, and lets others have a turn.
fn borrow(pool: &TestPool) {
    pool.get().expect("nobody holds one for ever").exclusively();
    switch();
}

/// Borrows a connection where there may be none for this reason.
fn borrow_unless(pool: &TestPool, reason: ErrorKind) {
    match pool.get() {
        Ok(conn) => conn.exclusively(),
        Err(error) => assert_eq!(error.kind(), reason, "{error}"),
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("a caller does not panic");
    }
}

/// What must hold when the fault is over: the pool lends its maximum, no more, and after its end nothing is left.
fn assert_whole(pool: TestPool, lab: &Arc<Lab>, clock: &HandClock) {
    lab.well();
    // Attempts that were begun before may still fail, and set a pause that no keeper ends any more.
    while pool.stats().connecting > 0 {
        thread::yield_now();
    }
    clock.advance(micros(1000));
    let max = pool.stats().max_size;
    lab.limit.store(max.max(lab.limit.load(SeqCst)), SeqCst);
    let all: Vec<_> = (0..max).map(|_| pool.get().expect("the pool lends its maximum again")).collect();
    assert!(pool.try_get().is_none(), "more than the maximum is lent");
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.idle, stats.waiting), (max, 0, 0));
    all.iter().for_each(|conn| conn.exclusively());
    drop(all);
    assert_gone(pool, lab);
}

fn assert_gone(pool: TestPool, lab: &Arc<Lab>) {
    pool.close_and_wait(FOR_EVER).expect("all connections are closed in the end");
    // A helper may still be about to write down that what it opened has arrived.
    while pool.stats().connecting > 0 {
        thread::yield_now();
    }
    let stats = pool.stats();
    assert_eq!((stats.size, stats.idle, stats.in_use, stats.connecting), (0, 0, 0, 0));
    assert_eq!(stats.opened, stats.closed.total());
    drop(pool);
    assert_eq!(lab.live.load(SeqCst), 0, "a connection is left over");
    assert_eq!(lab.opened.load(SeqCst), lab.dropped.load(SeqCst), "a connection was never dropped");
}
