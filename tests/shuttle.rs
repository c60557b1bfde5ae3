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

// ---- the models ----

#[test]
fn callers_share_few_connections_and_each_has_one_to_itself() {
    explore("sharing", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let pool = build(lab.builder(&clock, max).min_idle(thread_rng().gen_range(0..=max)));
        let callers = (0..thread_rng().gen_range(4..=6))
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        match thread_rng().gen_range(0..4) {
                            0 => pool.with(|conn| conn.exclusively()).expect("somebody returns one"),
                            1 => pool.try_get().iter().for_each(|conn| conn.exclusively()),
                            _ => pool.get().expect("somebody returns one").exclusively(),
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_guard_may_be_dropped_by_another_thread_than_the_borrower() {
    explore("moving guards", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..4)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let conn = pool.get().expect("somebody returns one");
                    conn.exclusively();
                    let returner = thread::spawn(move || drop(conn));
                    pool.get().expect("somebody returns one").exclusively();
                    returner.join().expect("returning does not panic");
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn nobody_is_forgotten_when_deadlines_pass() {
    explore("time-outs", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..thread_rng().gen_range(4..=6))
            .map(|n| {
                let (pool, clock) = (pool.clone(), clock.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        // Some wait for ever: that they are served is what the model is about.
                        let timeout = if n < 2 { FOR_EVER } else { micros(thread_rng().gen_range(0..20)) };
                        match pool.get_timeout(timeout) {
                            Ok(conn) => conn.exclusively(),
                            Err(error) => assert!(error.is_timeout() && n >= 2, "{error}"),
                        }
                        if n == 2 {
                            clock.advance(micros(thread_rng().gen_range(1..10)));
                        }
                    }
                })
            })
            .collect::<Vec<_>>();
        let timer = thread::spawn({
            let clock = clock.clone();
            // Enough for each deadline, one after the other, however they are laid.
            move || (0..16).for_each(|_| clock.advance(micros(10)))
        });
        // The callers with deadlines that begin to wait after the timer has ended.
        // Untended, because upkeep opens connections for those whom a defect has forgotten.
        with_keeper(None, &clock, micros(3), callers);
        timer.join().expect("the timer does not panic");
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn failing_and_panicking_callbacks_cost_no_place() {
    explore("failing callbacks", |lab| {
        let clock = HandClock::new();
        let Ills { connect, has_broken, reset, close, hooks, .. } = &lab.ills;
        for ill in [connect, has_broken, reset, close, hooks] {
            ill.store(thread_rng().gen_range(0..2) * thread_rng().gen_range(10..60), SeqCst);
        }
        lab.fault.store(thread_rng().gen_range(0..3), SeqCst);
        let mut builder = lab.builder(&clock, some_size());
        if thread_rng().gen_range(0..2) == 0 {
            builder = builder
                .on_open(|conn: &mut Conn| act(&conn.lab.ills.hooks))
                .on_return(|conn: &mut Conn| act(&conn.lab.ills.hooks))
                .on_close(|conn| drop(act(&conn.lab.ills.hooks)));
        }
        let pool = build(builder);
        let callers = (0..4)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let timeout = if n == 0 { FOR_EVER } else { micros(thread_rng().gen_range(0..40)) };
                        match pool.get_timeout(timeout) {
                            Ok(conn) => conn.exclusively(),
                            Err(error) => {
                                let hopeless = error.kind() == ErrorKind::Connect;
                                assert!(hopeless || error.is_timeout(), "{error}");
                            }
                        }
                    }
                })
            })
            .collect();
        with_keeper(Some(&pool), &clock, micros(4), callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_borrower_that_panics_costs_a_connection_but_no_place() {
    explore("panicking borrowers", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..4)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let using = catch_unwind(AssertUnwindSafe(|| {
                            let conn = pool.get().expect("somebody returns one");
                            conn.exclusively();
                            if n == 0 {
                                scripted_panic();
                            }
                        }));
                        assert_eq!(using.is_err(), n == 0);
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn connections_that_do_not_come_back_are_replaced() {
    explore("leaving connections", |lab| {
        let clock = HandClock::new();
        let max_uses = [None, Some(1), Some(2)][thread_rng().gen_range(0..3)];
        let pool = build(lab.builder(&clock, some_size()).max_uses(max_uses));
        let callers = (0..thread_rng().gen_range(3..=5))
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let mut conn = pool.get().expect("there is always a place");
                        conn.exclusively();
                        assert!(max_uses.is_none_or(|max| PooledConnection::uses(&conn) <= max));
                        match thread_rng().gen_range(0..5) {
                            0 => PooledConnection::discard(conn),
                            1 => {
                                conn.leave();
                                drop(PooledConnection::into_inner(conn));
                            }
                            2 => PooledConnection::mark_broken(&mut conn),
                            _ => drop(conn),
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_pool_may_be_resized_refreshed_and_paused_beneath_its_callers() {
    explore("changes", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        // Shrinking takes effect as connections come back, so the largest maximum is the limit.
        lab.limit.store(4, SeqCst);
        let mut threads: Vec<_> = (0..4)
            .map(|_| {
                let (pool, lab) = (pool.clone(), Arc::clone(lab));
                thread::spawn(move || (0..2).for_each(|_| lab.get_and_use(&pool)))
            })
            .collect();
        for what in 0..3 {
            let (pool, lab) = (pool.clone(), Arc::clone(lab));
            threads.push(thread::spawn(move || match what {
                0 => (0..2).for_each(|_| pool.resize(thread_rng().gen_range(1..=4)).expect("a good size")),
                1 => lab.refresh(&pool),
                _ => {
                    pool.pause();
                    switch();
                    pool.resume();
                }
            }));
        }
        join(threads);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn none_that_was_open_before_a_refresh_is_lent_after_it() {
    explore("refresh", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..5)
            .map(|n| {
                let (pool, lab) = (pool.clone(), Arc::clone(lab));
                thread::spawn(move || {
                    if n < 2 {
                        lab.refresh(&pool);
                    }
                    lab.get_and_use(&pool);
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn closing_ends_all_waits_and_leaves_no_connection() {
    explore("close", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()).min_idle(1));
        lab.ills.close.store(20, SeqCst);
        let callers = (0..4)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        match pool.get() {
                            Ok(conn) => conn.exclusively(),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                        }
                    }
                })
            })
            .collect();
        let closers = (0..2)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    switch();
                    if n == 0 {
                        pool.close();
                    } else {
                        pool.close_and_wait(FOR_EVER).expect("all connections come back");
                    }
                })
            })
            .collect();
        join(callers);
        join(closers);
        assert!(pool.get().is_err_and(|error| error.kind() == ErrorKind::Closed));
        assert_gone(pool, lab);
    });
}

#[test]
fn when_the_last_handle_goes_every_connection_does() {
    explore("last handle", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let guards = Arc::new(shuttle::sync::Mutex::new(Vec::new()));
        let callers: Vec<_> = (0..4)
            .map(|n| {
                let (pool, guards) = (pool.clone(), Arc::clone(&guards));
                thread::spawn(move || {
                    let conn = pool.get_timeout(if n < 3 { FOR_EVER } else { Duration::ZERO });
                    let Ok(conn) = conn else {
                        assert_eq!(n, 3);
                        return;
                    };
                    conn.exclusively();
                    if n == 0 {
                        // This one outlives the pool, if it is not the only place.
                        drop(pool);
                        guards.lock().expect("no panic under this lock").push(conn);
                        switch();
                        let kept = guards.lock().expect("no panic under this lock").pop();
                        drop(kept);
                    }
                })
            })
            .collect();
        drop(pool);
        join(callers);
        // The helpers that close the last ones are attached to the model; it waits for them.
        while lab.live.load(SeqCst) > 0 {
            thread::yield_now();
        }
    });
}

#[test]
fn those_who_want_several_and_those_who_want_one_do_not_hold_each_other_up() {
    explore("several", |lab| {
        let clock = HandClock::new();
        let max = thread_rng().gen_range(2..=3);
        let pool = build(lab.builder(&clock, max));
        let callers = (0..4)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        if n < 2 {
                            let both = pool.get_many(2).expect("nobody holds one for ever");
                            both.iter().for_each(|conn| conn.exclusively());
                        } else {
                            pool.get().expect("nobody holds one for ever").exclusively();
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn failing_checks_cost_connections_but_no_caller_and_no_place() {
    explore("checks", |lab| {
        let clock = HandClock::new();
        lab.ills.is_valid.store(thread_rng().gen_range(0..60), SeqCst);
        let validation = [Validation::Always, Validation::IfIdleFor(Duration::ZERO)][thread_rng().gen_range(0..2)];
        let pool = build(lab.builder(&clock, some_size()).validation(validation));
        let callers = (0..4)
            .map(|n| {
                let (pool, clock) = (pool.clone(), clock.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        pool.get().expect("a new connection needs no check").exclusively();
                        if n == 0 {
                            clock.advance(micros(1));
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn upkeep_beside_callers_takes_nothing_away_from_them() {
    explore("upkeep", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let mut rng = thread_rng();
        let builder = lab
            .builder(&clock, max)
            .min_idle(rng.gen_range(0..=max))
            .max_lifetime(Some(micros(rng.gen_range(10..60))))
            .idle_timeout(Some(micros(rng.gen_range(5..40))))
            .max_uses(Some(3));
        let pool = build(builder);
        let callers = callers(&pool, 3, 3, borrow);
        with_keeper(Some(&pool), &clock, micros(2), callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn rules_may_change_beneath_the_callers() {
    explore("new rules", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let pool = build(lab.builder(&clock, max).idle_timeout(None).max_lifetime(None));
        let mut callers = callers(&pool, 3, 3, borrow);
        callers.push(thread::spawn({
            let (pool, lab) = (pool.clone(), Arc::clone(lab));
            move || {
                for _ in 0..3 {
                    let mut rng = thread_rng();
                    let some = Some(micros(rng.gen_range(2..30)));
                    match rng.gen_range(0..6) {
                        0 => pool.set_max_lifetime(some).expect("more than nothing"),
                        1 => pool.set_idle_timeout(some).expect("more than nothing"),
                        2 => pool.set_min_idle(rng.gen_range(0..=max)).expect("no more than the maximum"),
                        3 => pool.refresh_over(micros(rng.gen_range(2..30))),
                        4 => lab.refresh(&pool),
                        _ => pool.set_validation(Validation::IfIdleFor(micros(1))),
                    }
                    switch();
                }
            }
        }));
        with_keeper(Some(&pool), &clock, micros(2), callers);
        pool.set_validation(Validation::Never);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_staggered_refresh_is_complete_when_its_time_is_over() {
    explore("staggered refresh", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()).idle_timeout(None).max_lifetime(None));
        drop(pool.get().expect("it connects"));
        let before = lab.opened.load(SeqCst);
        pool.refresh_over(micros(20));
        let callers = callers(&pool, 3, 2, borrow);
        with_keeper(Some(&pool), &clock, micros(2), callers);
        clock.advance(micros(20));
        pool.maintain();
        lab.outdated.fetch_max(before, SeqCst);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_pool_that_rejects_for_a_while_forgets_nobody() {
    explore("rejecting", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let mut callers = callers(&pool, 4, 2, |pool| borrow_unless(pool, ErrorKind::Paused));
        callers.push(thread::spawn({
            let pool = pool.clone();
            move || {
                for _ in 0..2 {
                    if thread_rng().gen_range(0..2) == 0 {
                        pool.pause()
                    } else {
                        pool.pause_and_reject()
                    }
                    switch();
                    pool.resume();
                }
            }
        }));
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn callers_of_a_pool_without_threads_serve_themselves_and_each_other() {
    explore("no threads", |lab| {
        let clock = HandClock::new();
        let builder = lab.builder(&clock, some_size()).maintenance(Maintenance::Manual);
        let failing = thread_rng().gen_range(0..2) == 0;
        if failing {
            lab.ills.connect.store(thread_rng().gen_range(10..60), SeqCst);
        }
        let pool = build(builder.max_uses(Some(thread_rng().gen_range(1..4))));
        let callers = callers(&pool, 4, 2, |pool| borrow_unless(pool, ErrorKind::Connect));
        if failing {
            // Time passes, or nobody would try again; nobody but the callers does, who look round every 20 ms.
            with_keeper(None, &clock, micros(5000), callers);
        } else {
            // Time stands still: whoever is forgotten sleeps for ever.
            join(callers);
        }
        lab.well();
        // Looking round is all that there is to end a pause after a failure.
        let timer = thread::spawn({
            let clock = clock.clone();
            move || (0..50).for_each(|_| clock.advance(micros(1000)))
        });
        timer.join().expect("the timer does not panic");
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn warming_up_beside_callers_opens_what_was_asked_and_tells_of_it_in_order() {
    explore("warm-up", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let wanted = thread_rng().gen_range(1..=max);
        let told = Arc::new(AtomicU32::new(0));
        let plan = WarmUp::background(wanted)
            .batch(thread_rng().gen_range(1..=2))
            .pause(micros(thread_rng().gen_range(0..10)))
            .on_progress({
                let told = Arc::clone(&told);
                move |progress| {
                    let before = told.load(SeqCst);
                    switch();
                    assert_eq!(told.swap(progress.ready, SeqCst), before, "told by two at once");
                    assert!(progress.ready >= before, "fewer than before");
                }
            });
        if thread_rng().gen_range(0..2) == 0 {
            lab.ills.connect.store(thread_rng().gen_range(10..60), SeqCst);
        }
        let pool = build(lab.builder(&clock, max));
        let mut callers = callers(&pool, 2, 1, |pool| borrow_unless(pool, ErrorKind::Connect));
        callers.push(thread::spawn({
            let pool = pool.clone();
            move || {
                pool.warm_up(plan).expect("a good plan");
                if let Err(error) = pool.wait_ready(FOR_EVER) {
                    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
                }
            }
        }));
        with_keeper(Some(&pool), &clock, micros(4), callers);
        assert_whole(pool, lab, &clock);
    });
}
