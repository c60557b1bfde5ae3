//! The pool against a model of it, over random operations: every outcome of every callback is drawn, panics included,
//! and after every operation the pool's numbers, its connections and the reasons why it closed any are compared.
//!
//! ```text
//! MILLPOND_CASES=2000 cargo test --test state_machine
//! ```
//!
//! One thread operates, on a clock that is moved by hand. What helper threads decide among themselves (how many are
//! opened, which of two stale connections is checked first) the model does not predict. It learns it from the
//! manager's own records, and asks of each step whether it was allowed and of each pause whether anything that had to
//! happen is missing. What the caller's thread decides it predicts exactly.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]
#![allow(clippy::significant_drop_tightening, reason = "locks of tests are held for as long as it reads well")]

use millpond::testing::HandClock;
use millpond::{Builder, CloseReason, ErrorKind, Fairness, Fault, Manager, Pool, PooledConnection, Stats, Validation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const LIFETIME: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
const FRESH: Duration = Duration::from_millis(500);
/// A check that is so young counts for whoever comes.
const JUST_CHECKED: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The clock of a slot's word ticks about once a millisecond.
const TICK: Duration = Duration::from_millis(2);

// ---- what is drawn ----

#[derive(Clone, Debug)]
struct Setup {
    max_size: u32,
    min_idle: u32,
    max_connecting: u32,
    validation: Validation,
    strict: bool,
    max_uses: Option<u64>,
    lifetime: bool,
    idle_timeout: bool,
    hooks: bool,
    use_times: bool,
    /// How often a callback fails or panics, in percent.
    ills: u32,
    seed: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Get,
    GetNow,
    TryGet,
    Return(usize),
    Discard(usize),
    IntoInner(usize),
    MarkBroken(usize),
    Advance(u64),
    Maintain,
    Refresh,
    Resize(u32),
    Pause,
    Resume,
    Close,
}

fn setups() -> impl Strategy<Value = Setup> {
    let validation = prop_oneof![
        Just(Validation::Never),
        Just(Validation::Always),
        Just(Validation::IfIdleFor(FRESH)),
        Just(Validation::IfIdleFor(Duration::ZERO)),
    ];
    (
        (1..=4_u32, 0..=4_u32, 1..=4_u32, validation, any::<bool>()),
        (
            prop_oneof![2 => Just(None), 1 => (1..=3_u64).prop_map(Some)],
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            prop_oneof![1 => Just(0), 2 => 5..40_u32],
            any::<u64>(),
        ),
    )
        .prop_map(|(sizes, rest)| {
            let (max_size, min_idle, max_connecting, validation, strict) = sizes;
            let (max_uses, lifetime, idle_timeout, hooks, use_times, ills, seed) = rest;
            Setup {
                max_size,
                min_idle: min_idle.min(max_size),
                max_connecting,
                validation,
                strict,
                max_uses,
                lifetime,
                idle_timeout,
                hooks,
                use_times,
                ills,
                seed,
            }
        })
}

fn ops() -> impl Strategy<Value = Op> {
    let which = 0..8_usize;
    prop_oneof![
        12 => Just(Op::Get),
        4 => Just(Op::GetNow),
        6 => Just(Op::TryGet),
        14 => which.clone().prop_map(Op::Return),
        2 => which.clone().prop_map(Op::Discard),
        2 => which.clone().prop_map(Op::IntoInner),
        2 => which.prop_map(Op::MarkBroken),
        6 => prop_oneof![0..20_u64, 0..700_u64, 0..6_000_u64].prop_map(Op::Advance),
        5 => Just(Op::Maintain),
        1 => Just(Op::Refresh),
        2 => (1..=5_u32).prop_map(Op::Resize),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        // Once in some cases: nothing happens afterwards.
        1 => (0..16_u32).prop_map(|n| if n == 0 { Op::Close } else { Op::Maintain }),
    ]
}

// ---- the manager, which does what was drawn and keeps the records ----

#[derive(Clone, Debug)]
struct Record {
    born: Duration,
    checked: Duration,
    /// It passed a check, or was opened, and has not been lent since.
    vouched: bool,
    check_failed: bool,
    /// What the callbacks of its last return came to.
    returned: Option<CloseReason>,
    calls: u64,
    gone: bool,
}

#[derive(Default)]
struct Records {
    connections: BTreeMap<u32, Record>,
    attempts: u32,
    connect_failures: u64,
    check_failures: u64,
    panics: u64,
    /// The last attempt failed, and how.
    outage: Option<Fault>,
    failed_at: Option<Duration>,
    /// A failure took all connections with it.
    discarded_all: u64,
}

struct Lab {
    setup: Setup,
    clock: Mutex<Duration>,
    records: Mutex<Records>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    Bad,
    Panic,
}

impl Lab {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("no panic under this lock")
    }

    fn now(&self) -> Duration {
        *self.clock.lock().expect("no panic under this lock")
    }

    /// Depends on what is called for which time, not on when: so it is the same again whatever the threads do.
    fn draw(&self, callback: u64, connection: u32, call: u64) -> Outcome {
        let mut x = self.setup.seed ^ callback.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for part in [u64::from(connection), call] {
            x = (x ^ part.wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x ^= x >> 29;
        }
        if (x >> 8) % 100 >= u64::from(self.setup.ills) {
            Outcome::Good
        } else if x & 3 == 0 {
            Outcome::Panic
        } else {
            Outcome::Bad
        }
    }

    fn panic(&self) -> ! {
        self.records().panics += 1;
        // Not `panic!`, which would print a line a hundred thousand times.
        resume_unwind(Box::new("scripted"))
    }

    /// What the n-th callback about this connection comes to.
    fn act(&self, callback: u64, number: u32) -> Outcome {
        let call = {
            let mut records = self.records();
            records.connections.get_mut(&number).map_or(0, |record| {
                record.calls += 1;
                record.calls
            })
        };
        self.draw(callback, number, call)
    }

    fn note_return(&self, number: u32, reason: CloseReason) {
        if let Some(record) = self.records().connections.get_mut(&number) {
            record.returned = Some(reason);
        }
    }

    fn admit(&self, number: u32) {
        let now = self.now();
        let record = Record {
            born: now,
            checked: now,
            vouched: true,
            check_failed: false,
            returned: None,
            calls: 0,
            gone: false,
        };
        let mut records = self.records();
        records.outage = None;
        records.connections.insert(number, record);
    }

    fn connect_failed(&self, fault: Fault) {
        let now = self.now();
        let mut records = self.records();
        records.connect_failures += 1;
        records.failed_at = Some(now);
        records.outage = Some(fault);
        records.discarded_all += u64::from(fault == Fault::DiscardAll);
    }
}

/// An attempt to connect, or an established connection, that failed.
#[derive(Debug)]
enum Refused {
    Attempt(u32),
    Connection(u32),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {self:?}")
    }
}

impl std::error::Error for Refused {}

struct Conn {
    number: u32,
    lab: Arc<Lab>,
    /// It has left the pool: its end is nobody's business.
    free: bool,
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.free {
            return;
        }
        if let Some(record) = self.lab.records().connections.get_mut(&self.number) {
            record.gone = true;
        }
        if !std::thread::panicking() && self.lab.draw(DROP, self.number, 0) == Outcome::Panic {
            self.lab.panic();
        }
    }
}

const CONNECT: u64 = 1;
const ON_OPEN: u64 = 2;
const IS_VALID: u64 = 3;
const HAS_BROKEN: u64 = 4;
const RESET: u64 = 5;
const ON_RETURN: u64 = 6;
const ON_CLOSE: u64 = 7;
const CLOSE: u64 = 8;
const DROP: u64 = 9;
const CLASSIFY: u64 = 10;

struct Scripted(Arc<Lab>);

impl Manager for Scripted {
    type Connection = Conn;
    type Error = Refused;

    fn connect(&self) -> Result<Conn, Refused> {
        let lab = &self.0;
        let number = {
            let mut records = lab.records();
            records.attempts += 1;
            records.attempts
        };
        match lab.draw(CONNECT, number, 0) {
            Outcome::Good => {}
            Outcome::Bad => return Err(Refused::Attempt(number)),
            Outcome::Panic => {
                lab.connect_failed(Fault::Transient);
                lab.panic()
            }
        }
        if !lab.setup.hooks {
            lab.admit(number);
        }
        Ok(Conn { number, lab: Arc::clone(lab), free: false })
    }

    fn is_valid(&self, connection: &mut Conn) -> Result<(), Refused> {
        let (lab, number) = (&self.0, connection.number);
        let outcome = lab.act(IS_VALID, number);
        let now = lab.now();
        {
            let mut records = lab.records();
            records.check_failures += u64::from(outcome != Outcome::Good);
            let record = records.connections.get_mut(&number).expect("only what was opened is checked");
            if outcome == Outcome::Good {
                (record.checked, record.vouched) = (now, true);
            } else {
                record.check_failed = true;
            }
        }
        match outcome {
            Outcome::Good => Ok(()),
            Outcome::Bad => Err(Refused::Connection(number)),
            Outcome::Panic => lab.panic(),
        }
    }

    fn has_broken(&self, connection: &mut Conn) -> bool {
        match self.0.act(HAS_BROKEN, connection.number) {
            Outcome::Good => false,
            Outcome::Bad => {
                self.0.note_return(connection.number, CloseReason::Broken);
                true
            }
            Outcome::Panic => {
                self.0.note_return(connection.number, CloseReason::Panicked);
                self.0.panic()
            }
        }
    }

    fn reset(&self, connection: &mut Conn) -> Result<(), Refused> {
        clean(&self.0, RESET, connection.number)
    }

    fn close(&self, connection: Conn) {
        if self.0.draw(CLOSE, connection.number, 0) == Outcome::Panic {
            self.0.panic();
        }
        drop(connection);
    }

    fn classify(&self, error: &Refused) -> Fault {
        let (number, connecting) = match *error {
            Refused::Attempt(number) => (number, true),
            Refused::Connection(number) => (number, false),
        };
        let outcome = self.0.draw(CLASSIFY, number, u64::from(connecting));
        let fault = match outcome {
            Outcome::Bad if number % 2 == 0 => Fault::Permanent,
            Outcome::Bad => Fault::DiscardAll,
            Outcome::Good | Outcome::Panic => Fault::Transient,
        };
        if connecting {
            self.0.connect_failed(fault);
        } else {
            self.0.records().discarded_all += u64::from(fault == Fault::DiscardAll);
        }
        if outcome == Outcome::Panic {
            self.0.panic();
        }
        fault
    }
}

fn clean(lab: &Lab, callback: u64, number: u32) -> Result<(), Refused> {
    match lab.act(callback, number) {
        Outcome::Good => Ok(()),
        Outcome::Bad => {
            lab.note_return(number, CloseReason::ResetFailed);
            Err(Refused::Connection(number))
        }
        Outcome::Panic => {
            lab.note_return(number, CloseReason::Panicked);
            lab.panic()
        }
    }
}

fn with_hooks(builder: Builder<Scripted>) -> Builder<Scripted> {
    builder
        .on_open(|conn: &mut Conn| match conn.lab.draw(ON_OPEN, conn.number, 0) {
            Outcome::Good => {
                conn.lab.admit(conn.number);
                Ok(())
            }
            // It counts when it is classed, as what `connect` fails with.
            Outcome::Bad => Err(Refused::Attempt(conn.number)),
            Outcome::Panic => {
                conn.lab.connect_failed(Fault::Transient);
                conn.lab.panic()
            }
        })
        .on_return(|conn: &mut Conn| clean(&conn.lab, ON_RETURN, conn.number))
        .on_close(|conn| {
            if conn.lab.draw(ON_CLOSE, conn.number, 0) == Outcome::Panic {
                conn.lab.panic();
            }
        })
}

// ---- the model ----

type Guard = PooledConnection<Scripted>;
type Checked<T = ()> = Result<T, TestCaseError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Paused,
    Closed,
}

#[derive(Clone, Debug)]
struct Known {
    lent: bool,
    marked: bool,
    uses: u64,
    /// When it came back, or was opened.
    used: Duration,
    /// Belongs to the time before a refresh.
    old: bool,
    /// Was opened while a refresh was under way: nobody can say to which time it belongs.
    perhaps_old: bool,
    /// Was opened while the clock was being moved: the pool may give it another age.
    skewed: bool,
    /// In which operation it was first seen.
    seen: u64,
    /// Why it may be closed, told by the operation.
    may: BTreeSet<&'static str>,
}

struct Model {
    lab: Arc<Lab>,
    clock: HandClock,
    pool: Pool<Scripted>,
    guards: Vec<Guard>,
    phase: Phase,
    max_size: u32,
    min_idle: u32,
    connections: BTreeMap<u32, Known>,
    ended: BTreeSet<u32>,
    /// By reason: how many were closed for it at least, and how many may have been.
    closed: BTreeMap<&'static str, (u64, u64)>,
    closed_total: u64,
    checkouts: u64,
    timeouts: u64,
    discards_seen: u64,
    /// The operation at hand makes connections old.
    refreshing: bool,
    /// The operation at hand moves the clock.
    moved: bool,
    operation: u64,
    /// It is upkeep.
    upkeep: bool,
    /// How many the operation at hand may close for want of use, and for want of room.
    spare: usize,
    surplus: usize,
}

impl Model {
    fn new(setup: &Setup) -> Self {
        let lab = Arc::new(Lab {
            setup: setup.clone(),
            clock: Mutex::new(Duration::from_secs(1)),
            records: Mutex::default(),
        });
        let clock = HandClock::new();
        let mut builder = Pool::builder(Scripted(Arc::clone(&lab)))
            .name("model")
            .max_size(setup.max_size)
            .min_idle(setup.min_idle)
            .max_connecting(setup.max_connecting)
            .validation(setup.validation)
            .max_uses(setup.max_uses)
            .max_lifetime(setup.lifetime.then_some(LIFETIME))
            .idle_timeout(setup.idle_timeout.then_some(IDLE_TIMEOUT))
            .use_times(setup.use_times)
            .connection_timeout(TIMEOUT)
            .clock(clock.clone());
        if setup.strict {
            builder = builder.fairness(Fairness::Strict);
        }
        if setup.hooks {
            builder = with_hooks(builder);
        }
        Self {
            pool: builder.build_lazy().expect("the settings are good"),
            lab,
            clock,
            guards: Vec::new(),
            phase: Phase::Open,
            max_size: setup.max_size,
            min_idle: setup.min_idle,
            connections: BTreeMap::new(),
            ended: BTreeSet::new(),
            closed: BTreeMap::new(),
            closed_total: 0,
            checkouts: 0,
            timeouts: 0,
            discards_seen: 0,
            refreshing: false,
            moved: false,
            operation: 0,
            upkeep: false,
            spare: 0,
            surplus: 0,
        }
    }

    fn run(&mut self, op: &Op) -> Checked {
        (self.refreshing, self.moved, self.spare, self.surplus) = (false, false, 0, 0);
        self.upkeep = matches!(op, Op::Maintain);
        self.operation += 1;
        let which = |n: usize, guards: &Vec<Guard>| (!guards.is_empty()).then(|| n % guards.len());
        match *op {
            Op::Get => self.get()?,
            Op::GetNow => {
                let before = self.idle();
                let must = self.must_lend(&before);
                let mut got = self.pool.get_timeout(Duration::ZERO);
                let mut patience = Patience::new();
                // What was opened last may count as idle a moment before it can be taken.
                while must && got.is_err() && patience.goes_on() {
                    self.timeouts += 1;
                    got = self.pool.get_timeout(Duration::ZERO);
                }
                prop_assert!(!must || got.is_ok(), "all idle ones are fit, and none was lent: {:?}", got.err());
                self.got(got, self.lab.now())?;
            }
            Op::TryGet => {
                let before = self.idle();
                let must = self.must_lend(&before);
                let mut got = self.pool.try_get();
                let mut patience = Patience::new();
                while must && got.is_none() && patience.goes_on() {
                    got = self.pool.try_get();
                }
                prop_assert!(!must || got.is_some(), "all idle ones are fit, and none was lent");
                if let Some(guard) = got {
                    // Instead of one whose time was over another one may have come meanwhile.
                    let new = !self.connections.contains_key(&guard.number);
                    prop_assert!(before.contains(&guard.number) || new, "lent, but not idle before");
                    self.got(Ok(guard), self.lab.now())?;
                }
            }
            Op::Return(n) => {
                if let Some(n) = which(n, &self.guards) {
                    self.give_back(n)?;
                }
            }
            Op::Discard(n) => {
                if let Some(n) = which(n, &self.guards) {
                    let guard = self.guards.swap_remove(n);
                    let known = self.known(guard.number);
                    (known.lent, known.may) = (false, BTreeSet::from(["discarded"]));
                    PooledConnection::discard(guard);
                }
            }
            Op::IntoInner(n) => {
                if let Some(n) = which(n, &self.guards) {
                    let guard = self.guards.swap_remove(n);
                    let mut connection = PooledConnection::into_inner(guard);
                    connection.free = true;
                    self.connections.remove(&connection.number);
                    self.ended.insert(connection.number);
                    self.count(&BTreeSet::from(["detached"]));
                }
            }
            Op::MarkBroken(n) => {
                if let Some(n) = which(n, &self.guards) {
                    PooledConnection::mark_broken(&mut self.guards[n]);
                    let number = self.guards[n].number;
                    self.known(number).marked = true;
                }
            }
            Op::Advance(millis) => self.advance(Duration::from_millis(millis)),
            Op::Maintain => self.maintain()?,
            Op::Refresh => {
                self.refreshing = true;
                self.pool.refresh();
                self.connections.values_mut().for_each(|known| known.old = true);
            }
            Op::Resize(max_size) => {
                let live = self.connections.len();
                self.pool.resize(max_size).expect("a good size");
                self.max_size = max_size;
                self.min_idle = self.min_idle.min(max_size);
                if self.phase != Phase::Closed {
                    let surplus = live.saturating_sub(max_size as usize).min(self.idle().len());
                    // A helper may have been about to open one more when the room went.
                    self.surplus = surplus + self.lab.setup.max_connecting as usize;
                }
            }
            Op::Pause => {
                self.pool.pause();
                if self.phase == Phase::Open {
                    self.phase = Phase::Paused;
                }
            }
            Op::Resume => {
                self.pool.resume();
                if self.phase == Phase::Paused {
                    self.phase = Phase::Open;
                }
            }
            Op::Close => {
                self.pool.close();
                self.phase = Phase::Closed;
                for known in self.connections.values_mut().filter(|known| !known.lent) {
                    known.may = BTreeSet::from(["pool_closed"]);
                }
            }
        }
        self.settle(op)
    }

    fn advance(&mut self, by: Duration) {
        self.moved = true;
        let operation = self.operation;
        self.connections.values_mut().filter(|known| known.seen == operation).for_each(|known| known.skewed = true);
        *self.lab.clock.lock().expect("no panic under this lock") += by;
        self.clock.advance(by);
    }

    /// Two visits: a connection that is arriving is marked idle a moment before it can be taken; a visit at that moment
    /// passes it over, and the next one does not.
    fn maintain(&mut self) -> Checked {
        self.visit()?;
        self.visit()
    }

    fn visit(&mut self) -> Checked {
        let (idle, opened) = (self.idle().len(), self.lab.records().connections.len());
        self.pool.maintain();
        let mut patience = Patience::new();
        while patience.goes_on() {
            let stats = self.pool.stats();
            if stats.connecting == 0 && stats.checking == 0 && stats.size == stats.idle + stats.in_use {
                break;
            }
        }
        // What the visit has opened makes others superfluous.
        let opened = self.lab.records().connections.len() - opened;
        self.spare = (idle + opened).saturating_sub(self.min_idle as usize);
        self.learn()
    }

    fn idle(&self) -> Vec<u32> {
        self.connections.iter().filter(|(_, known)| !known.lent).map(|(number, _)| *number).collect()
    }

    fn known(&mut self, number: u32) -> &mut Known {
        self.connections.get_mut(&number).expect("the model has seen it")
    }

    fn record(&self, number: u32) -> Record {
        self.lab.records().connections[&number].clone()
    }

    /// Whether somebody who does not wait gets one, beyond doubt.
    fn must_lend(&self, idle: &[u32]) -> bool {
        self.phase == Phase::Open && !idle.is_empty() && idle.iter().all(|number| self.fit(*number))
    }

    /// Whether it may be lent as it is, beyond doubt.
    fn fit(&self, number: u32) -> bool {
        let (known, record, now) = (&self.connections[&number], self.record(number), self.lab.now());
        let young = !self.lab.setup.lifetime || now - record.born < LIFETIME;
        let rested = now - known.used.max(record.checked);
        let proven = match self.lab.setup.validation {
            Validation::Never => true,
            // The slot's word knows ticks only, and not when a connection was checked.
            Validation::IfIdleFor(limit) => rested + TICK < limit,
            _ => false,
        };
        let crowded = self.connections.len() > self.max_size as usize;
        !known.old && !known.perhaps_old && !known.skewed && young && proven && !crowded
    }

    /// Whether lending it was right, with a clock that has not moved since `began`.
    fn lent_rightly(&self, number: u32) -> Checked {
        let (known, record, now) = (&self.connections[&number], self.record(number), self.lab.now());
        let setup = &self.lab.setup;
        prop_assert!(!known.lent, "lent twice");
        prop_assert!(!known.old, "lent although older than a refresh");
        prop_assert!(!record.gone && !record.check_failed, "lent although closed or found bad");
        prop_assert!(!setup.lifetime || known.skewed || now - record.born < LIFETIME, "lent although too old");
        prop_assert!(setup.max_uses.is_none_or(|max| known.uses < max), "lent too often");
        let just_checked = record.vouched && now - record.checked < JUST_CHECKED;
        let proven = match setup.validation {
            Validation::Never => true,
            Validation::IfIdleFor(limit) => now - known.used.max(record.checked) < limit,
            _ => false,
        };
        prop_assert!(proven || just_checked || known.skewed, "lent unchecked");
        Ok(())
    }

    fn got(&mut self, got: Result<Guard, millpond::Error>, began: Duration) -> Checked {
        self.learn()?;
        match got {
            Ok(guard) => {
                let number = guard.number;
                prop_assert!(self.phase != Phase::Closed, "a closed pool lends");
                prop_assert!(self.connections.contains_key(&number), "lent, but unknown or closed: {number}");
                if self.lab.now() == began {
                    prop_assert!(self.phase == Phase::Open, "a paused pool lends");
                    self.lent_rightly(number)?;
                }
                let known = self.known(number);
                known.lent = true;
                known.uses += 1;
                let (uses, skewed) = (known.uses, known.skewed);
                self.lab.records().connections.get_mut(&number).expect("it was opened").vouched = false;
                prop_assert_eq!(PooledConnection::uses(&guard), uses);
                let age = self.lab.now() - self.record(number).born;
                prop_assert!(skewed || PooledConnection::age(&guard) == age, "{} is not the age", age.as_secs_f64());
                self.checkouts += 1;
                self.guards.push(guard);
            }
            Err(error) => {
                prop_assert_eq!(error.kind() == ErrorKind::Closed, self.phase == Phase::Closed, "{}", error);
                if self.phase == Phase::Closed {
                } else if error.is_timeout() {
                    self.timeouts += 1;
                } else {
                    prop_assert_eq!(error.kind(), ErrorKind::Connect);
                    // It was sent away by a failure that is known to be permanent; since then others may have come.
                    prop_assert!(self.lab.records().connect_failures > 0, "{}", error);
                }
            }
        }
        Ok(())
    }

    /// A caller with a deadline. While it waits for a good reason, time passes; without one it must be served.
    fn get(&mut self) -> Checked {
        let began = self.lab.now();
        let pool = self.pool.clone();
        let caller = std::thread::spawn(move || pool.get());
        let mut patience = Patience::new();
        while !caller.is_finished() {
            let stats = self.pool.stats();
            let in_motion = stats.connecting + stats.checking > 0 || stats.size != stats.idle + stats.in_use;
            let outage = self.outage();
            let in_vain = self.phase == Phase::Paused || stats.idle == 0 && (stats.in_use >= stats.max_size || outage);
            if stats.waiting == 1 && !in_motion && in_vain {
                self.learn()?;
                self.advance(Duration::from_millis(1250));
                self.maintain()?;
                patience = Patience::new();
            } else if !patience.goes_on() {
                return Err(TestCaseError::fail(format!("a caller is forgotten: {stats:?}")));
            }
        }
        let got = caller.join().expect("a caller does not panic");
        self.got(got, began)
    }

    /// The last attempt failed; or one failed so recently that the pool may have heard of it after a success, which
    /// was under way at the same time, and makes a pause of up to a second.
    fn outage(&self) -> bool {
        let now = self.lab.now();
        let records = self.lab.records();
        records.outage.is_some() || records.failed_at.is_some_and(|at| now - at <= Duration::from_secs(1))
    }

    fn give_back(&mut self, n: usize) -> Checked {
        let guard = self.guards.swap_remove(n);
        let number = guard.number;
        self.lab.records().connections.get_mut(&number).expect("it was opened").returned = None;
        let crowded = self.connections.len() > self.max_size as usize;
        drop(guard);
        let (record, now) = (self.record(number), self.lab.now());
        let setup = self.lab.setup.clone();
        let closed = self.phase == Phase::Closed;
        let known = self.known(number);
        known.lent = false;
        known.used = now;
        let age = now - record.born;
        // In the pool's order: what is certain ends the list.
        let said = record.returned.filter(|&reason| {
            // A panic in `has_broken` comes before what the user said; the rest is not asked after that.
            !known.marked || matches!(reason, CloseReason::Panicked | CloseReason::Broken)
        });
        let mut may = BTreeSet::new();
        let certain = 'list: {
            if let Some(reason) = said {
                break 'list Some(reason.as_str());
            }
            if known.marked {
                break 'list Some("broken");
            }
            if known.old {
                break 'list Some("refresh");
            }
            if known.perhaps_old {
                may.insert("refresh");
            }
            if setup.lifetime && age >= LIFETIME && !known.skewed {
                break 'list Some("lifetime");
            }
            if setup.lifetime && (age >= LIFETIME.mul_f64(0.4) || known.skewed) {
                // Its planned death is a secret of the pool.
                may.insert("lifetime");
            }
            if setup.max_uses.is_some_and(|max| known.uses >= max) {
                break 'list Some("max_uses");
            }
            if closed {
                break 'list Some("pool_closed");
            }
            crowded.then_some("resize")
        };
        if certain.is_none() && !may.is_empty() {
            may.insert("perhaps");
        }
        may.extend(certain);
        known.may = may;
        Ok(())
    }

    // ---- what the pool did by itself ----

    /// Takes over from the manager's records what was opened and closed, and asks whether it was allowed.
    fn learn(&mut self) -> Checked {
        let (now, discards, new, gone) = {
            let records = self.lab.records();
            let new: Vec<_> = records
                .connections
                .iter()
                .filter(|(number, _)| !self.connections.contains_key(number) && !self.ended.contains(number))
                .map(|(number, record)| (*number, record.born))
                .collect();
            let gone: Vec<_> = records
                .connections
                .iter()
                .filter(|(number, record)| record.gone && !self.ended.contains(number))
                .map(|(number, record)| (*number, record.clone()))
                .collect();
            (self.lab.now(), records.discarded_all, new, gone)
        };
        let discarding = discards != self.discards_seen;
        if discarding {
            // For the rest of the operation: an attempt that was under way then may end later.
            self.refreshing = true;
            self.discards_seen = discards;
            self.connections.values_mut().for_each(|known| known.perhaps_old = true);
        }
        for (number, born) in new {
            let known = Known {
                lent: false,
                marked: false,
                uses: 0,
                used: born,
                old: false,
                perhaps_old: self.refreshing,
                skewed: self.moved,
                seen: self.operation,
                may: BTreeSet::new(),
            };
            self.connections.insert(number, known);
        }
        for (number, record) in gone {
            let known = self.connections.remove(&number).expect("taken over a few lines before");
            self.ended.insert(number);
            prop_assert!(!known.lent, "closed while it is lent: {}", number);
            let mut reasons = known.may.clone();
            if reasons.remove("perhaps") || reasons.is_empty() {
                reasons.extend(self.reasons(&known, &record, now));
            }
            prop_assert!(!reasons.is_empty(), "closed without a reason: {number} {record:?}");
            self.count(&reasons);
        }
        Ok(())
    }

    /// Why an idle connection may be closed now.
    fn reasons(&mut self, known: &Known, record: &Record, now: Duration) -> BTreeSet<&'static str> {
        let mut reasons = BTreeSet::new();
        if record.check_failed {
            return BTreeSet::from(["invalid"]);
        }
        if known.old || known.perhaps_old {
            reasons.insert("refresh");
        }
        if self.lab.setup.lifetime && (known.skewed || now - record.born >= LIFETIME.mul_f64(0.4)) {
            reasons.insert("lifetime");
        }
        if self.lab.setup.idle_timeout && (known.skewed || now - known.used >= IDLE_TIMEOUT) && self.spare > 0 {
            self.spare -= usize::from(reasons.is_empty());
            reasons.insert("idle_timeout");
        }
        if self.surplus > 0 {
            self.surplus -= 1;
            reasons.insert("resize");
        }
        if self.phase == Phase::Closed {
            reasons.insert("pool_closed");
        }
        reasons
    }

    fn count(&mut self, reasons: &BTreeSet<&'static str>) {
        self.closed_total += 1;
        for &reason in reasons {
            let (least, most) = self.closed.entry(reason).or_default();
            *least += u64::from(reasons.len() == 1);
            *most += 1;
        }
    }

    /// Waits until nothing moves and the pool's numbers are the model's, twice running: the numbers are read one after
    /// another, so once may be by chance.
    fn settle(&mut self, op: &Op) -> Checked {
        let mut patience = Patience::new();
        let mut agreed = 0;
        loop {
            self.learn()?;
            match self.difference() {
                // The numbers may agree while a helper stands between two steps, on a machine that has others to run.
                None if agreed == 1 => match self.nothing_is_missing(op) {
                    Err(_) if patience.goes_on() => agreed = 0,
                    checked => return checked,
                },
                None => agreed += 1,
                Some(_) if patience.goes_on() => agreed = 0,
                Some(difference) => return Err(TestCaseError::fail(difference)),
            }
        }
    }

    fn difference(&self) -> Option<String> {
        let stats = self.pool.stats();
        let records = self.lab.records();
        let lent = self.connections.values().filter(|known| known.lent).count() as u64;
        let live = self.connections.len() as u64;
        let pairs = [
            ("max_size", u64::from(stats.max_size), u64::from(self.max_size)),
            ("connecting", u64::from(stats.connecting), 0),
            ("checking", u64::from(stats.checking), 0),
            ("waiting", u64::from(stats.waiting), 0),
            ("in use", u64::from(stats.in_use), lent),
            ("idle", u64::from(stats.idle), live - lent),
            ("size", u64::from(stats.size), live),
            ("opened", stats.opened, records.connections.len() as u64),
            ("closed", stats.closed.total(), self.closed_total),
            ("connect failures", stats.connect_failures, records.connect_failures),
            ("check failures", stats.check_failures, records.check_failures),
            ("panics", stats.panics, records.panics),
            ("checkouts", stats.checkouts, self.checkouts),
            ("time-outs", stats.timeouts, self.timeouts),
        ];
        let wrong = pairs.iter().find(|(_, pool, model)| pool != model);
        if let Some((what, pool, model)) = wrong {
            return Some(format!("{what}: the pool says {pool}, the model {model}: {stats:?}"));
        }
        // Upkeep keeps the minimum, as far as there is room. (Where attempts fail it may have to wait.)
        let wanted = u64::from(self.min_idle).min(u64::from(self.max_size).saturating_sub(lent));
        if self.upkeep && self.lab.setup.ills == 0 && self.phase == Phase::Open && live - lent < wanted {
            return Some(format!("{} idle, but {wanted} wanted: {stats:?}", live - lent));
        }
        self.wrong_reasons(&stats)
    }

    fn wrong_reasons(&self, stats: &Stats) -> Option<String> {
        use CloseReason as R;
        let all = [
            R::Lifetime,
            R::IdleTimeout,
            R::MaxUses,
            R::Refresh,
            R::Resize,
            R::Broken,
            R::Invalid,
            R::ResetFailed,
            R::Panicked,
            R::Discarded,
            R::Detached,
            R::PoolClosed,
        ];
        all.into_iter().find_map(|reason| {
            let (least, most) = self.closed.get(reason.as_str()).copied().unwrap_or_default();
            let count = stats.closed.by(reason);
            let right = (least..=most).contains(&count);
            (!right).then(|| format!("{count} closed for {reason}, but the model says {least} to {most}"))
        })
    }

    /// What had to happen has happened.
    fn nothing_is_missing(&mut self, op: &Op) -> Checked {
        let now = self.lab.now();
        let idle: Vec<_> = self.idle();
        for &number in &idle {
            let (known, record) = (&self.connections[&number], self.record(number));
            let must_go = !known.may.is_empty() && !known.may.contains("perhaps");
            prop_assert!(!must_go, "should have been closed: {} {:?}", number, known.may);
            prop_assert!(!record.check_failed, "failed its check and is still there: {}", number);
            prop_assert!(self.phase != Phase::Closed, "idle in a closed pool: {}", number);
            if matches!(op, Op::Refresh) && known.uses > 0 {
                // (One that was just arriving may be put down after the refresh; it will be found out when it is taken.)
                prop_assert!(!known.old, "idle, and older than the refresh: {}", number);
            }
            if matches!(op, Op::Maintain) && self.lab.setup.lifetime && self.phase != Phase::Closed && !known.skewed {
                prop_assert!(now - record.born < LIFETIME, "idle, and older than the lifetime: {}", number);
            }
            self.known(number).may.clear();
        }
        let live = self.connections.len();
        let crowded = live > self.max_size as usize;
        prop_assert!(!crowded || idle.is_empty(), "more than max_size, and {} of them idle", idle.len());
        let swept = matches!(op, Op::Maintain) && self.phase == Phase::Open;
        if swept && self.lab.setup.idle_timeout && idle.len() > self.min_idle as usize {
            let long = |number: &&u32| {
                let (known, record) = (&self.connections[number], self.record(**number));
                !known.skewed && now - known.used.max(record.checked) >= IDLE_TIMEOUT + TICK
            };
            let kept = idle.iter().filter(long).count();
            prop_assert!(kept <= self.min_idle as usize, "{} have been idle for too long", kept);
        }
        Ok(())
    }

    /// Whatever happened: the pool lends its maximum again, and its books are closed without a remainder.
    fn end(mut self) -> Checked {
        while !self.guards.is_empty() {
            self.run(&Op::Return(0))?;
        }
        if self.phase != Phase::Closed {
            self.run(&Op::Resume)?;
            // Failing callbacks make it take a few attempts; each `get` is one, with its deadline.
            for _ in 0..2000 {
                if self.guards.len() == self.max_size as usize {
                    break;
                }
                self.run(&Op::Get)?;
                // The pause after a failure passes.
                self.run(&Op::Advance(1000))?;
            }
            prop_assert_eq!(self.guards.len(), self.max_size as usize, "the pool does not lend its maximum again");
            prop_assert!(self.pool.try_get().is_none(), "more than the maximum is lent");
            self.run(&Op::Close)?;
            while !self.guards.is_empty() {
                self.run(&Op::Return(0))?;
            }
        }
        prop_assert!(self.connections.is_empty());
        let stats = self.pool.stats();
        prop_assert_eq!(stats.opened, stats.closed.total());
        Ok(())
    }
}

/// Looks again, often at first; ends after some ten seconds, which only a defect reaches.
struct Patience(u32);

impl Patience {
    fn new() -> Self {
        Self(0)
    }

    fn goes_on(&mut self) -> bool {
        self.0 += 1;
        if self.0 < 50 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(if self.0 < 1000 { 50 } else { 2000 }));
        }
        self.0 < 6000
    }
}

// ---- the test ----

fn env(name: &str) -> Option<u32> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

#[test]
fn over_any_sequence_of_operations_and_outcomes_the_pool_does_what_the_model_does() {
    let cases = env("MILLPOND_CASES").unwrap_or(3000);
    // Threads decide between runs that both are right, so a failure is not shrunk for long.
    let config = Config {
        cases,
        max_shrink_iters: 1000,
        max_shrink_time: 30_000,
        failure_persistence: None,
        ..Config::default()
    };
    let operations = proptest::collection::vec(ops(), 1..=60);
    let result = TestRunner::new(config).run(&(setups(), operations), |(setup, operations)| {
        let mut model = Model::new(&setup);
        for (n, op) in operations.iter().enumerate() {
            model.run(op).map_err(|error| TestCaseError::fail(format!("operation {n}, {op:?}: {error}")))?;
        }
        model.end()
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (setup, operations))) => {
            panic!("{reason}\n{setup:?}\n{operations:?}");
        }
        Err(error) => panic!("{error}"),
    }
}
