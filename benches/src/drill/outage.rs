//! Servers that are gone for seconds, under the load of 64 threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::chart::{Curve, Timeline};
use super::pair::{Counted, KINDS, Kind, Pool};
use super::servers::{Database, Redis};
use super::{Amount, Score};

const THREADS: usize = 64;
const SIZE: u32 = 16;
const TIMEOUT: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);
/// The load before the outage, of which the last half gives the old rate.
const BEFORE: Duration = Duration::from_secs(1);

/// By then a pool knows that the server is away. What it began to open in the first moment is no repetition.
const KNOWN: Duration = Duration::from_millis(500);

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

fn count_lines() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Count).expect("nobody else logs here");
        log::set_max_level(LevelFilter::Info);
    });
}

/// What came of an outage.
struct Outcome {
    killed: Instant,
    /// When the server took connections again, and how long after its start.
    answered: Instant,
    restart: Duration,
    /// From there to the first good round trip.
    first: Duration,
    /// The same to the end of the first tenth of a second with 90 % of the rate before.
    full: Duration,
    /// During the outage.
    attempts: u64,
    /// The same, without its first moment.
    most_at_once: u64,
    lines: u64,
    /// When calls ended, in order, and whether they were good.
    calls: Vec<(Instant, bool)>,
}

impl Outcome {
    fn failed(&self) -> u64 {
        self.calls.iter().filter(|(_, good)| !good).count() as u64
    }

    /// Calls in each tenth of a second, from the beginning to the end of the load.
    fn curve(&self, kind: Kind, end: Duration) -> Curve {
        let tenths = (BEFORE + end).as_millis() as usize / 100;
        let mut curve = Curve { kind, good: vec![0; tenths], failed: vec![0; tenths] };
        for (at, good) in &self.calls {
            // Both pools stand on one axis, where 0 is the kill.
            let Some(since) = (*at + BEFORE).checked_duration_since(self.killed) else { continue };
            let column = if *good { &mut curve.good } else { &mut curve.failed };
            if let Some(count) = column.get_mut((since.as_millis() / 100) as usize) {
                *count += 1;
            }
        }
        curve
    }
}

/// Away for 2 s, the median of so many outages.
pub(super) fn short<D: Database>(rounds: usize) -> Score {
    let (away, tail) = (Duration::from_secs(2), Duration::from_secs(3));
    let (mut score, own, its) = match drill::<D>(away, tail, rounds) {
        Ok(outcomes) => outcomes,
        Err(skipped) => return skipped,
    };
    let both = |value: fn(&Outcome) -> Amount| [value(&own), value(&its)];
    score.at_most("first good call", Amount::millis(100), both(|outcome| Amount::Time(outcome.first)));
    score.at_most("90 % of the old rate", Amount::millis(300), both(|outcome| Amount::Time(outcome.full)));
    score.tell("attempts a second", both(|outcome| rate(outcome, 2.0)));
    score.at_most("log lines", Amount::count(2), both(|outcome| Amount::count(outcome.lines)));
    score.tell("failed calls", both(|outcome| Amount::count(outcome.failed())));
    score.tell("the server's own start", both(|outcome| Amount::Time(outcome.restart)));
    score
}

/// Away for 10 s: how a server that refuses is left in peace. This one is drawn.
pub(super) fn refused() -> Score {
    let (away, tail) = (Duration::from_secs(10), Duration::from_secs(6));
    let (mut score, own, its) = match drill::<Redis>(away, tail, 1) {
        Ok(outcomes) => outcomes,
        Err(skipped) => return skipped,
    };
    let both = |value: fn(&Outcome) -> Amount| [value(&own), value(&its)];
    back(&mut score, both);
    score.at_most("attempts a second", Amount::count(10), both(|outcome| rate(outcome, 10.0)));
    score.at_most(
        "the most at a time, after 0.5 s",
        Amount::count(1),
        both(|outcome| Amount::count(outcome.most_at_once)),
    );
    log_lines(&mut score, both);
    let end = away + tail;
    score.chart = Some(
        Timeline {
            title: format!("A redis-server away for {} s, {THREADS} threads on {SIZE} connections", away.as_secs()),
            about: format!(
                "Good calls in each tenth of a second, and below them failed ones. After the server answered again, \
                 millpond's first good call came after {}, r2d2's after {}.",
                Amount::Time(own.first),
                Amount::Time(its.first),
            ),
            begin: -BEFORE.as_secs_f64(),
            away: (own.answered - own.killed).as_secs_f64(),
            curves: [own.curve(Kind::Millpond, end), its.curve(Kind::R2d2, end)],
        }
        .to_svg(),
    );
    score
}

/// Away for longer: recovery must not grow with the outage.
pub(super) fn long(seconds: u64) -> Score {
    let away = Duration::from_secs(seconds);
    let (mut score, own, its) = match drill::<Redis>(away, Duration::from_secs(9), 1) {
        Ok(outcomes) => outcomes,
        Err(skipped) => return skipped,
    };
    let both = |value: fn(&Outcome) -> Amount| [value(&own), value(&its)];
    back(&mut score, both);
    log_lines(&mut score, both);
    score
}

fn back(score: &mut Score, both: impl Fn(fn(&Outcome) -> Amount) -> [Amount; 2]) {
    score.at_most("first good call", Amount::millis(1100), both(|outcome| Amount::Time(outcome.first)));
    score.tell("90 % of the old rate", both(|outcome| Amount::Time(outcome.full)));
}

fn log_lines(score: &mut Score, both: impl Fn(fn(&Outcome) -> Amount) -> [Amount; 2]) {
    score.at_most("log lines", Amount::count(2), both(|outcome| Amount::count(outcome.lines)));
    score.tell("failed calls", both(|outcome| Amount::count(outcome.failed())));
}

fn rate(outcome: &Outcome, seconds: f64) -> Amount {
    Amount::Number(outcome.attempts as f64 / seconds)
}

/// Both pools in turn with the same server; the median of the rounds, or the score of a scene without its server.
fn drill<D: Database>(away: Duration, tail: Duration, rounds: usize) -> Result<(Score, Outcome, Outcome), Score> {
    let mut fault = format!("{} killed for {} s, {THREADS} threads", D::NAME, away.as_secs());
    if rounds > 1 {
        fault.push_str(&format!(", median of {rounds}"));
    }
    let score = Score::of(fault);
    let Some(database) = D::start() else { return Err(score.skipped(D::PROGRAM)) };
    count_lines();
    let [own, its] = KINDS.map(|kind| {
        let mut outcomes: Vec<_> = (0..rounds).map(|_| outage(kind, &database, away, tail)).collect();
        outcomes.sort_by_key(|outcome| outcome.first);
        outcomes.swap_remove(rounds / 2)
    });
    Ok((score, own, its))
}

/// Kills the server under load for so long, and keeps the load up for `tail` when it is back.
fn outage<D: Database>(kind: Kind, database: &D, away: Duration, tail: Duration) -> Outcome {
    let server = database.server();
    let (manager, tally) = Counted::new(D::manager(server.port()));
    let pool = kind.full_pool(manager, SIZE);
    let calls = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let mut outcome = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let own = call_until::<D>(&stop, &pool);
                calls.lock().expect("no panic under this lock").extend(own);
            });
        }
        thread::sleep(BEFORE);
        let (attempts, lines) = (tally.attempts(), LINES.load(Ordering::Relaxed));
        let killed = Instant::now();
        server.kill();
        thread::sleep(KNOWN);
        tally.take_most_at_once();
        thread::sleep(away - KNOWN);
        let (attempts, most_at_once) = (tally.attempts() - attempts, tally.take_most_at_once());
        let begun = Instant::now();
        let answered = restart(database);
        thread::sleep(tail);
        stop.store(true, Ordering::Relaxed);
        let lines = LINES.load(Ordering::Relaxed) - lines;
        let (first, full) = (Duration::MAX, Duration::MAX);
        let restart = answered - begun;
        Outcome { killed, answered, restart, first, full, attempts, most_at_once, lines, calls: Vec::new() }
    });
    outcome.calls = calls.into_inner().expect("no panic under this lock");
    outcome.calls.sort_unstable();
    outcome.measure(tail);
    outcome
}

/// One checkout and one round trip after another.
fn call_until<D: Database>(stop: &AtomicBool, pool: &Pool<Counted<D::Manager>>) -> Vec<(Instant, bool)> {
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let good = pool.get(TIMEOUT).is_some_and(|mut conn| D::ping(&mut conn));
        calls.push((Instant::now(), good));
    }
    calls
}

/// Starts the server again; when it took its first connection. The harness looks every few milliseconds, which is too
/// seldom here.
fn restart<D: Database>(database: &D) -> Instant {
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !database.answers() {
                thread::sleep(Duration::from_micros(500));
            }
            Instant::now()
        });
        database.server().restart();
        watch.join().expect("no panic")
    })
}

impl Outcome {
    fn measure(&mut self, tail: Duration) {
        let good: Vec<_> = self.calls.iter().filter(|(_, good)| *good).map(|(at, _)| *at).collect();
        let between = |from: Instant, to: Instant| {
            good.partition_point(|at| *at < to).saturating_sub(good.partition_point(|at| *at < from)) as f64
        };
        let usual = between(self.killed - 5 * TENTH, self.killed) / 5.0;
        let after = good.partition_point(|at| *at < self.answered);
        self.first = good.get(after).map_or(Duration::MAX, |at| *at - self.answered);
        let mut ends = (10..).map(|n| n * TENTH / 10).take_while(|end| *end <= tail);
        let full = ends.find(|end| between(self.answered + *end - TENTH, self.answered + *end) >= 0.9 * usual);
        self.full = full.unwrap_or(Duration::MAX);
    }
}
