//! What event handlers hear, and when they are given samples of the numbers.

mod support;

use millpond::event::{CheckedIn, Closed, EventHandler, Invalid, Reset, Valid};
use millpond::testing::HandClock;
use millpond::{Error, Maintenance, Pool, PooledConnection, Stats, Validation};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Gate, LONG, Lab, Scripted, eventually};

const SECOND: Duration = Duration::from_secs(1);

/// Writes down what it hears.
#[derive(Default)]
struct Story {
    lines: Mutex<Vec<String>>,
    every: Option<Duration>,
    panics: bool,
    gate: Option<Gate>,
    begun: AtomicU32,
}

impl Story {
    fn note(&self, line: String) {
        self.lines.lock().expect("no panic").push(line);
        if self.panics {
            std::panic::resume_unwind(Box::new("a handler panics"));
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().expect("no panic"))
    }
}

impl EventHandler for Story {
    fn checked_in(&self, _: &str, event: &CheckedIn<'_>) {
        self.note(format!("checked in {:?} after {:?}", event.label, event.held));
    }
    fn reset(&self, _: &str, event: &Reset<'_>) {
        self.note(format!("reset in {:?}", event.took));
    }
    fn valid(&self, _: &str, event: &Valid) {
        self.note(format!("valid in {:?}", event.took));
    }
    fn invalid(&self, _: &str, event: &Invalid<'_>) {
        self.note(format!("{} in {:?}", event.error, event.took));
    }
    fn closed(&self, _: &str, event: &Closed<'_>) {
        self.note(format!("closed in {:?}: {}", event.took, event.reason));
    }
    fn sample_every(&self) -> Option<Duration> {
        self.every
    }
    fn sampled(&self, pool: &str, stats: &Stats) {
        self.begun.fetch_add(1, SeqCst);
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        let Stats { size, in_use, closed_for_good, .. } = stats;
        self.note(format!("{pool}: {size} open, {in_use} in use, closed: {closed_for_good}"));
    }
}

/// A pool's connection whose every callback takes a second of the clock.
struct Slow(HandClock, Arc<Lab>);

impl millpond::Manager for Slow {
    type Connection = ();
    type Error = support::Refused;

    fn connect(&self) -> Result<(), support::Refused> {
        Ok(())
    }
    fn is_valid(&self, (): &mut ()) -> Result<(), support::Refused> {
        self.0.advance(SECOND);
        if self.1.invalid.load(SeqCst) { Err(support::Refused(7)) } else { Ok(()) }
    }
    fn reset(&self, (): &mut ()) -> Result<(), support::Refused> {
        self.0.advance(2 * SECOND);
        Ok(())
    }
    fn close(&self, (): ()) {
        self.0.advance(3 * SECOND);
    }
}

#[test]
fn every_step_tells_how_long_it_took_and_whose_label_was_on_it() -> Result<(), Error> {
    let (lab, clock, story) = (Lab::new(), HandClock::new(), Arc::new(Story::default()));
    let builder = Pool::builder(Slow(clock.clone(), Arc::clone(&lab))).max_size(1).clock(clock.clone());
    let builder = builder.maintenance(Maintenance::Manual).validation(Validation::Always);
    let pool = builder.event_handler(Arc::clone(&story)).build()?;
    let mut held = pool.get()?;
    PooledConnection::set_label(&mut held, "report");
    clock.advance(5 * SECOND);
    drop(held);
    assert_eq!(story.take(), ["checked in Some(\"report\") after 5s", "reset in 2s"]);
    drop(pool.get()?);
    assert_eq!(story.take(), ["valid in 1s", "checked in None after 0ns", "reset in 2s"]);
    lab.invalid.store(true, SeqCst);
    drop(pool.get()?);
    let told = story.take();
    assert_eq!(told[..2], ["refused (attempt 7) in 1s", "closed in 3s: invalid"]);
    let stats = pool.stats();
    assert_eq!((stats.checks, stats.check_failures), (2, 1));
    Ok(())
}

#[test]
fn each_of_several_handlers_hears_everything_and_one_that_panics_keeps_nothing_from_the_others() -> Result<(), Error> {
    let lab = Lab::new();
    let stories = [false, true, false].map(|panics| Arc::new(Story { panics, ..Story::default() }));
    let builder = Pool::builder(lab.manager()).max_size(1).maintenance(Maintenance::Manual);
    let builder = stories.iter().fold(builder, |builder, story| builder.event_handler(Arc::clone(story)));
    let pool = builder.build()?;
    drop(pool.get()?);
    pool.close();
    let told: Vec<_> = stories.iter().map(|story| story.take().len()).collect();
    assert_eq!(told, [3, 3, 3], "returned, cleaned, closed");
    assert_eq!(pool.stats().panics, 3);
    Ok(())
}

#[test]
fn samples_come_when_it_is_time_and_when_everything_has_ended() -> Result<(), Error> {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let stories = [1, 3].map(|seconds| Arc::new(Story { every: Some(seconds * SECOND), ..Story::default() }));
    let samples =
        |story: &Story| story.take().into_iter().filter(|line| line.starts_with("orders")).collect::<Vec<_>>();
    let builder = Pool::builder(lab.manager()).name("orders").max_size(2).maintenance(Maintenance::Manual);
    let builder = stories.iter().fold(builder, |builder, story| builder.event_handler(Arc::clone(story)));
    let pool = builder.clock(clock.clone()).build()?;
    pool.maintain();
    assert_eq!(samples(&stories[0]), ["orders: 1 open, 0 in use, closed: false"], "as soon as it is built");
    let held = pool.get()?;
    for _ in 0..3 {
        clock.advance(SECOND);
        pool.maintain();
        pool.maintain();
    }
    assert_eq!(samples(&stories[0]), ["orders: 1 open, 1 in use, closed: false"; 3]);
    assert_eq!(samples(&stories[1]).len(), 2, "the first one, and another after three seconds");
    pool.close();
    drop(held);
    for story in &stories {
        let end = ["orders: 1 open, 1 in use, closed: true", "orders: 0 open, 0 in use, closed: true"];
        assert_eq!(samples(story), end, "at the close, and when the last connection is closed");
    }
    Ok(())
}

#[test]
fn the_end_is_told_once_and_last_however_it_comes() -> Result<(), Error> {
    let ends: [fn(Pool<Scripted>, PooledConnection<Scripted>); 4] = [
        |pool, held| {
            pool.close();
            drop(held);
        },
        |pool, held| {
            pool.close();
            drop(PooledConnection::into_inner(held));
        },
        |pool, held| {
            drop(held);
            pool.close();
        },
        |pool, held| {
            drop(pool);
            PooledConnection::discard(held);
        },
    ];
    for (case, end) in ends.into_iter().enumerate() {
        let lab = Lab::new();
        let story = Arc::new(Story { every: Some(Duration::from_millis(20)), ..Story::default() });
        let pool = Pool::builder(lab.manager()).name("p").max_size(4).event_handler(Arc::clone(&story)).build()?;
        let mut all = pool.get_many(4)?;
        let held = all.pop().expect("four");
        drop(all);
        end(pool, held);
        let told = || story.lines.lock().expect("no panic").clone();
        let last = "p: 0 open, 0 in use, closed: true";
        eventually("the end is told", || told().iter().any(|line| line == last));
        eventually("everything has ended", || lab.live.load(SeqCst) == 0);
        let samples: Vec<_> = told().into_iter().filter(|line| line.starts_with("p: ")).collect();
        assert_eq!(samples.iter().position(|line| line == last), Some(samples.len() - 1), "{case}: {samples:?}");
    }
    Ok(())
}

#[test]
fn the_keeper_samples_by_itself_and_a_handler_that_hangs_is_not_called_again_meanwhile() -> Result<(), Error> {
    let (lab, gate) = (Lab::new(), Gate::new());
    let every = Some(Duration::from_millis(20));
    let hanging = Arc::new(Story { every, gate: Some(gate.clone()), ..Story::default() });
    let other = Arc::new(Story { every, ..Story::default() });
    let builder = Pool::builder(lab.manager()).max_size(1).event_handler(Arc::clone(&hanging));
    let pool = builder.event_handler(Arc::clone(&other)).build()?;
    eventually("it is called", || hanging.begun.load(SeqCst) == 1);
    let before = other.begun.load(SeqCst);
    eventually("another handler of the same pool goes on", || other.begun.load(SeqCst) >= before + 5);
    assert_eq!(hanging.begun.load(SeqCst), 1);
    drop(pool.get_timeout(LONG)?);
    gate.open();
    eventually("it goes on, too", || hanging.begun.load(SeqCst) >= 3);
    Ok(())
}
