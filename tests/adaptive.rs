//! A size that follows the load: the rule in simulations, and a pool that goes by it. Time is simulated or moved by hand.

mod simulation;
mod support;

use millpond::adaptive::{Adaptive, Decision, Observation, Reason, Rule};
use millpond::event::{EventHandler, Resized};
use millpond::testing::HandClock;
use millpond::{Budget, Error, ErrorKind, Maintenance, Pool, PooledConnection, RetryPolicy, WarmUp};
use proptest::prelude::*;
use simulation::load::{self, Hold, Load};
use simulation::{Outcome, Sizer, best_fixed, run};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, Scripted, assert_healthy, eventually, settle};

const SECOND: Duration = Duration::from_secs(1);

/// What became of a load: with the rule, with the best fixed size, and with the rule of a fifth.
struct Compared {
    load: Load,
    own: Outcome,
    fixed: u32,
    simple: Outcome,
}

impl Compared {
    /// Connections, on average, over those of the smallest fixed size with the same p99.
    fn over_fixed(&self) -> f64 {
        self.own.size / f64::from(self.fixed)
    }
}

fn compared() -> &'static [Compared] {
    static COMPARED: OnceLock<Vec<Compared>> = OnceLock::new();
    COMPARED.get_or_init(|| {
        let compare = |load: Load| {
            let own = run(&load, Sizer::rule());
            let (fixed, _) = best_fixed(&load, own.p99);
            let simple = run(&load, Sizer::Fifth);
            Compared { load, own, fixed, simple }
        };
        load::all().into_iter().map(compare).collect()
    })
}

fn of(name: &str) -> &'static Compared {
    compared().iter().find(|one| one.load.name == name).expect("there is such a load")
}

#[test]
fn under_every_load_it_needs_at_most_a_fifth_more_than_the_best_fixed_size_with_the_same_p99() {
    for one in compared() {
        let (name, p99) = (one.load.name, one.own.p99 * 1e3);
        assert!(one.over_fixed() <= 1.2, "{name}: {:.1}, and {} fixed, p99 {p99:.1} ms", one.own.size, one.fixed);
    }
}

#[test]
fn the_target_is_kept_except_where_peaks_are_too_rare_to_learn_from() {
    let late = compared().iter().filter(|one| one.own.p99 > simulation::TARGET.as_secs_f64());
    assert_eq!(late.map(|one| one.load.name).collect::<Vec<_>>(), ["rare peaks"]);
}

#[test]
fn it_beats_the_rule_of_a_fifth_under_every_load() {
    for Compared { load, own, simple, .. } in compared() {
        let (name, target) = (load.name, simulation::TARGET.as_secs_f64());
        if simple.p99 > target {
            assert!(own.p99 < simple.p99 / 5.0, "{name}: p99 {} s, and {} s by fifths", own.p99, simple.p99);
            assert!(own.turns < simple.turns / 5, "{name}: {} turns, and {}", own.turns, simple.turns);
        } else {
            assert!(own.p99 <= target && own.size < 0.9 * simple.size, "{name}: {:.1}, {:.1}", own.size, simple.size);
        }
    }
}

#[test]
fn where_the_load_changes_slowly_it_needs_less_than_the_best_fixed_size() {
    assert!(of("step").over_fixed() <= 0.8, "{}", of("step").over_fixed());
    assert!(of("wave").over_fixed() <= 0.96, "{}", of("wave").over_fixed());
}

#[test]
fn a_step_up_is_followed_within_seconds_and_a_step_down_after_the_patience() {
    let outcome = &of("step").own;
    let at = |second: f64| outcome.sizes.iter().rfind(|(at, _)| *at <= second).expect("it had a size").1;
    assert!(at(419.0) <= 10, "{}", at(419.0));
    assert!(at(424.0) >= 25, "{}", at(424.0));
    assert_eq!(at(725.0), at(719.0), "not at once");
    assert!(at(1190.0) <= 15, "{}", at(1190.0));
}

#[test]
fn a_server_that_hangs_is_not_sent_more_connections() {
    let outcome = &of("outage").own;
    let during = outcome.sizes.iter().filter(|(at, _)| (421.5..440.5).contains(at)).count();
    assert_eq!(during, 0, "{:?}", outcome.sizes);
    let before = outcome.sizes.iter().rfind(|(at, _)| *at < 420.0).expect("it had a size").1;
    let most = outcome.sizes.iter().filter(|(at, _)| *at >= 420.0).map(|(_, size)| *size).max().unwrap_or(before);
    assert!(most <= before * 7 / 4, "{before}, then {most} for the queue that was left");
}

#[test]
fn a_constant_load_is_left_alone() {
    let per_second = [2.0, 20.0, 150.0];
    for (seed, per_second) in (1..=3).flat_map(|seed| per_second.map(|rate| (seed, rate))) {
        for mean in [0.005, 0.04, 0.2] {
            for hold in
                [Hold::Always(mean), Hold::Exponential(mean), Hold::Lognormal(mean, 1.0), Hold::Lognormal(mean, 1.5)]
            {
                let outcome = run(&load::constant(seed, per_second, hold), Sizer::rule());
                assert!(outcome.turns <= 2, "{per_second} per second, {hold:?}, seed {seed}: {:?}", outcome.sizes);
                assert!(outcome.decisions <= 6, "{per_second} per second, {hold:?}, seed {seed}: {:?}", outcome.sizes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_seen_the_size_stays_in_its_range_and_above_what_is_in_use(
        seen in proptest::collection::vec(
            (0_u64..3_000, 0_u32..80, 0_u32..500, 0_u64..10_000, 0_u64..100_000, any::<bool>()),
            1..200,
        ),
        (floor, more) in (1_u32..20, 0_u32..60),
    ) {
        let mut rule = Rule::new(&Adaptive::between(floor, floor + more).patience(SECOND));
        let mut size = floor;
        for (millis, in_use, waiting, longest, checkouts, outage) in seen {
            let mut now = Observation::default();
            now.interval = Duration::from_millis(millis);
            (now.max_size, now.in_use, now.waiting) = (size, in_use.min(size), waiting);
            now.waiting_for_room = waiting - waiting / 5;
            (now.longest_wait, now.checkouts, now.outage) = (Duration::from_millis(longest), checkouts, outage);
            now.late = checkouts / 7;
            match rule.observe(&now) {
                Decision::Grow { to, .. } => {
                    prop_assert!(to > size && !outage);
                    size = to;
                }
                Decision::Shrink { to, .. } => {
                    prop_assert!(to < size && to >= now.in_use && waiting == 0 && !outage);
                    size = to;
                }
                _ => {}
            }
            prop_assert!((floor..=floor + more).contains(&size));
        }
    }
}

#[test]
fn one_caller_that_waits_for_seconds_counts_as_much_as_five_that_are_late_once() {
    let mut rule = Rule::new(&Adaptive::between(1, 8));
    let mut seen = Observation::default();
    (seen.interval, seen.max_size, seen.in_use) = (SECOND, 2, 2);
    (seen.waiting, seen.waiting_for_room) = (1, 1);
    let decisions: Vec<_> = (1..=5)
        .map(|second| {
            seen.longest_wait = second * SECOND;
            rule.observe(&seen)
        })
        .collect();
    assert_eq!(decisions.iter().position(|decision| matches!(decision, Decision::Grow { .. })), Some(4));
}

/// From, to, why, and on what grounds.
type Told = (u32, u32, Reason, Option<String>);

/// Hears of changes of the size.
#[derive(Default)]
struct Heard(Mutex<Vec<Told>>);

impl EventHandler for Heard {
    fn resized(&self, _: &str, event: &Resized<'_>) {
        let told = (event.from, event.to, event.reason, event.grounds.map(ToString::to_string));
        self.0.lock().expect("no panic under this lock").push(told);
    }
}

impl Heard {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.lock().expect("no panic under this lock"))
    }
}

struct Scene {
    lab: Arc<Lab>,
    clock: HandClock,
    heard: Arc<Heard>,
    pool: Pool<Scripted>,
}

/// A pool that starts with two connections.
fn scene(adaptive: Adaptive) -> Scene {
    let (lab, clock, heard) = (Lab::new(), HandClock::new(), Arc::new(Heard::default()));
    let pool = Pool::builder(lab.manager())
        .max_size(2)
        .adaptive(adaptive)
        .connection_timeout(LONG)
        .idle_timeout(None)
        .max_lifetime(None)
        .keepalive(None)
        .event_handler(Arc::clone(&heard))
        .clock(clock.clone())
        .build()
        .expect("it connects");
    Scene { lab, clock, heard, pool }
}

/// Sends those away who wait when an assertion fails: their clock stands still.
struct Release<'a>(&'a Pool<Scripted>);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}

impl Scene {
    fn tick(&self) {
        self.clock.advance(SECOND);
        settle(&self.pool);
    }

    /// So many callers wait; then `meanwhile`, and then each gets a connection and gives it back.
    fn with_callers(&self, callers: u32, meanwhile: impl FnOnce()) {
        thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| drop(self.pool.get().expect("it is served in the end")));
            }
            let _release = Release(&self.pool);
            eventually("they wait", || self.pool.stats().waiting == callers);
            meanwhile();
        });
    }
}

#[test]
fn callers_that_wait_for_a_full_pool_make_it_grow_to_its_ceiling_and_no_further() {
    let scene = scene(Adaptive::between(1, 7));
    let held = scene.pool.get_many(2).expect("there is room");
    scene.with_callers(6, || {
        scene.clock.advance(SECOND);
        scene.pool.maintain();
        assert!(scene.pool.stats().max_size > 2);
        eventually("all are served", || scene.pool.stats().waiting == 0);
    });
    let told = scene.heard.take();
    assert_eq!((told[0].0, told[0].2), (2, Reason::Load));
    assert!(told[0].3.as_ref().is_some_and(|grounds| grounds.contains("6 wait")), "{told:?}");
    let more = scene.pool.get_many(5).expect("there is room now");
    scene.with_callers(6, || {
        (0..10).for_each(|_| {
            scene.clock.advance(SECOND);
            scene.pool.maintain();
        });
        assert_eq!((scene.pool.stats().max_size, scene.pool.stats().size), (7, 7));
        drop((held, more));
    });
    assert!(scene.lab.most_live.load(SeqCst) <= 7);
    assert_healthy(&scene.pool);
}

#[test]
fn a_pool_that_needs_less_for_long_shrinks_to_its_floor_and_never_below_what_is_in_use() {
    let scene = scene(Adaptive::between(2, 20).patience(10 * SECOND));
    scene.pool.resize(20).expect("within the range");
    drop(scene.pool.get_many(20).expect("there is room"));
    let held = scene.pool.get_many(5).expect("idle");
    (0..9).for_each(|_| scene.tick());
    assert_eq!(scene.pool.stats().size, 20, "not before the patience is over");
    (0..120).for_each(|_| scene.tick());
    let stats = scene.pool.stats();
    assert!((5..20).contains(&stats.max_size), "{stats:?}");
    assert_eq!((stats.size, stats.in_use), (stats.max_size, 5), "surplus idle ones are closed, gently");
    drop(held);
    (0..300).for_each(|_| scene.tick());
    assert_eq!((scene.pool.stats().max_size, scene.pool.stats().size), (2, 2));
    let told = scene.heard.take();
    assert_eq!(told[0], (2, 20, Reason::ByHand, None));
    assert!(told[1..].iter().all(|(from, to, reason, _)| from > to && *reason == Reason::Idle), "{told:?}");
    assert_eq!((scene.pool.stats().grown, scene.pool.stats().shrunk), (1, told.len() as u64 - 1));
    assert_healthy(&scene.pool);
}

#[test]
fn while_connecting_fails_or_the_pool_is_paused_the_size_stays_as_it_is() {
    let scene = scene(Adaptive::between(1, 20));
    let held = scene.pool.get_many(2).expect("there is room");
    scene.lab.refuse.store(true, SeqCst);
    // One of the two is lost, so somebody must connect.
    let [held, lost] = <[_; 2]>::try_from(held).expect("two");
    PooledConnection::discard(lost);
    scene.with_callers(8, || {
        eventually("connecting fails", || scene.pool.stats().connect_failures > 0);
        for _ in 0..10 {
            scene.clock.advance(SECOND);
            scene.pool.maintain();
        }
        let state = scene.pool.adaptive_state().expect("it adapts");
        assert_eq!(state.decision, Decision::Hold(Reason::Outage));
        assert_eq!(scene.pool.stats().max_size, 2);
        scene.lab.refuse.store(false, SeqCst);
        drop(held);
        eventually("all are served", || {
            scene.clock.advance(SECOND / 10);
            scene.pool.maintain();
            scene.pool.stats().waiting == 0
        });
    });
    scene.pool.pause();
    let before = scene.pool.stats().max_size;
    scene.with_callers(8, || {
        (0..10).for_each(|_| {
            scene.clock.advance(SECOND);
            scene.pool.maintain();
        });
        assert_eq!(scene.pool.stats().max_size, before);
        scene.pool.resume();
    });
    assert_healthy(&scene.pool);
}

#[test]
fn waiting_for_a_connection_to_be_opened_is_no_reason_to_grow() {
    let scene = scene(Adaptive::between(1, 20));
    scene.pool.resize(10).expect("within the range");
    let gate = Lab::gate(&scene.lab.connect_gate);
    let held = scene.pool.get().expect("it is open");
    scene.with_callers(4, || {
        for _ in 0..3 {
            scene.clock.advance(SECOND / 3);
            scene.pool.maintain();
        }
        gate.open();
        eventually("all are served", || scene.pool.stats().waiting == 0);
    });
    (0..5).for_each(|_| scene.tick());
    assert_eq!((scene.pool.stats().late, scene.pool.stats().max_size), (0, 10));
    drop(held);
}

#[test]
fn waiting_for_a_connection_that_takes_many_intervals_to_open_is_no_reason_to_grow_either() {
    // With room left, and where all that there is is being opened.
    for size in [10, 4] {
        let scene = scene(Adaptive::between(1, 20));
        scene.pool.resize(size).expect("within the range");
        let gate = Lab::gate(&scene.lab.connect_gate);
        let held = (size > 4).then(|| scene.pool.get().expect("it is open"));
        if size == 4 {
            scene.pool.refresh();
        }
        scene.with_callers(16, || {
            for _ in 0..10 {
                scene.clock.advance(SECOND);
                scene.pool.maintain();
            }
            let state = scene.pool.adaptive_state().expect("it adapts");
            assert_eq!((state.grounds.waiting, scene.pool.stats().max_size), (16, size), "{state:?}");
            gate.open();
            eventually("all are served", || scene.pool.stats().waiting == 0);
        });
        (0..5).for_each(|_| scene.tick());
        assert_eq!(scene.pool.stats().max_size, size, "nor what is late in the end");
        drop(held);
    }
}

#[test]
fn who_waits_for_too_long_because_all_are_borrowed_is_counted() {
    let scene = scene(Adaptive::between(2, 2).target_wait(SECOND / 100));
    let mut rounds = 0;
    // A caller that stands in line may not have seen yet that all are borrowed.
    eventually("one is counted", || {
        rounds += 1;
        let held = scene.pool.get_many(2).expect("all are idle");
        scene.with_callers(1, || {
            scene.clock.advance(SECOND / 50);
            drop(held);
        });
        scene.pool.stats().late > 0
    });
    assert!(scene.pool.stats().late <= rounds);
}

#[test]
fn waiting_for_a_place_of_a_budget_is_no_reason_to_grow() {
    let (lab, clock, budget) = (Lab::new(), HandClock::new(), Budget::new(2));
    let builder = Pool::builder(lab.manager()).max_size(10).adaptive(Adaptive::between(2, 40)).budget(&budget);
    let pool = builder.connection_timeout(LONG).clock(clock.clone()).build().expect("it connects");
    let held = pool.get_many(2).expect("there is room");
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| drop(pool.get()));
        }
        let _release = Release(&pool);
        eventually("they wait", || pool.stats().waiting == 30);
        for _ in 0..20 {
            clock.advance(SECOND);
            pool.maintain();
        }
        assert_eq!(pool.stats().max_size, 10, "{:?}", pool.adaptive_state());
        drop(held);
        pool.close();
    });
}

fn seen(size: u32, in_use: u32, checkouts: u64) -> Observation {
    let mut seen = Observation::default();
    seen.interval = SECOND;
    (seen.max_size, seen.in_use, seen.checkouts) = (size, in_use, checkouts);
    seen
}

#[test]
fn an_interval_in_which_the_process_stood_still_is_neither_load_nor_patience() {
    // The first one, and one after others: an hour in which four connections were out is not four hours of use.
    for ordinary in [0, 100] {
        let mut rule = Rule::new(&Adaptive::between(2, 100));
        (0..ordinary).for_each(|_| assert_eq!(rule.observe(&seen(6, 4, 100)), Decision::Hold(Reason::Fits)));
        let mut hour = seen(6, 4, 100);
        hour.interval = 3600 * SECOND;
        assert_eq!(rule.observe(&hour), Decision::Hold(Reason::Fits));
        let mut busy = seen(6, 6, 130);
        (busy.waiting, busy.waiting_for_room, busy.late, busy.longest_wait) = (10, 10, 20, SECOND / 20);
        let decisions: Vec<_> = (0..5).map(|_| rule.observe(&busy)).collect();
        assert!(rule.grounds().demand < 10.0, "{ordinary}: {}", rule.grounds());
        for decision in decisions {
            assert!(!matches!(decision, Decision::Grow { to, .. } if to > 20), "{ordinary}: {decision:?}");
        }
    }
    let mut rule = Rule::new(&Adaptive::between(2, 100));
    (0..300).for_each(|_| _ = rule.observe(&seen(60, 40, 400)));
    let mut night = seen(60, 2, 40);
    night.interval = 600 * SECOND;
    assert_eq!(rule.observe(&night), Decision::Hold(Reason::Fits));
    assert_eq!(rule.observe(&seen(60, 2, 40)), Decision::Hold(Reason::Fits), "what was needed is not forgotten");
}

#[test]
fn an_outage_is_no_patience() {
    let mut rule = Rule::new(&Adaptive::between(2, 100));
    (0..300).for_each(|_| _ = rule.observe(&seen(60, 40, 400)));
    let mut outage = seen(60, 0, 0);
    outage.outage = true;
    (0..200).for_each(|_| assert_eq!(rule.observe(&outage), Decision::Hold(Reason::Outage)));
    (0..10).for_each(|_| assert_eq!(rule.observe(&seen(60, 4, 40)), Decision::Hold(Reason::Fits)));
}

#[test]
fn a_pool_that_opens_nothing_yet_decides_before_its_first_caller() {
    let pool = Pool::builder(Lab::new().manager()).adaptive(Adaptive::between(2, 20).every(Duration::from_millis(10)));
    let pool = pool.build_lazy().expect("it is well set");
    eventually("it decides", || pool.adaptive_state().is_some_and(|state| state.grounds.needed > 0));
}

#[test]
fn an_interval_that_would_keep_the_keeper_busy_is_refused() {
    let adaptive = |every| Pool::builder(Lab::new().manager()).adaptive(Adaptive::between(2, 20).every(every)).build();
    let error = adaptive(Duration::from_nanos(1)).expect_err("too short").to_string();
    assert!(error.contains("adaptive.every is 1ns, but 10ms is the least"), "{error}");
    assert!(adaptive(Duration::from_millis(10)).is_ok());
}

#[test]
fn sizes_outside_of_the_range_are_refused_until_the_range_is_changed() -> Result<(), Error> {
    let scene = scene(Adaptive::between(2, 8));
    let error = scene.pool.resize(9).expect_err("outside");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("max_size is 9, which is outside of adaptive's 2 to 8"), "{error}");
    assert!(scene.pool.set_min_idle(3).is_err_and(|error| error.to_string().contains("adaptive.floor 2")));
    scene.pool.set_adaptive(Some(Adaptive::between(4, 12)))?;
    assert_eq!(scene.pool.stats().max_size, 4);
    scene.pool.set_min_idle(3)?;
    assert!(scene.pool.set_adaptive(Some(Adaptive::between(2, 12))).is_err());
    scene.pool.set_adaptive(None)?;
    scene.pool.resize(30)?;
    (0..300).for_each(|_| scene.tick());
    assert_eq!(scene.pool.stats().max_size, 30, "nobody changes it any more");
    let told: Vec<_> = scene.heard.take().into_iter().map(|(from, to, reason, _)| (from, to, reason)).collect();
    assert_eq!(told, [(2, 4, Reason::ByHand), (4, 30, Reason::ByHand)]);
    Ok(())
}

#[test]
fn settings_that_cannot_be_are_all_named_at_once() {
    let zero = Duration::ZERO;
    let adaptive = Adaptive::between(0, u32::MAX).target_wait(zero).every(zero).patience(zero);
    let error = Pool::builder(Lab::new().manager()).min_idle(1).adaptive(adaptive).build().expect_err("it cannot be");
    for part in [
        "adaptive.floor is 0",
        "adaptive.ceiling is 4294967295",
        "min_idle is 1",
        "adaptive.target_wait is 0 s",
        "adaptive.every is 0 s",
        "adaptive.patience is 0 s",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let lab = Lab::new();
    let builder = || Pool::builder(lab.manager()).max_size(3).adaptive(Adaptive::between(12, 20));
    let pool = builder().min_idle(12).build().expect("the floor is where it starts");
    assert_eq!(pool.stats().max_size, 12);
    assert!(builder().warm_up(WarmUp::blocking(13)).build().is_err());
}

#[test]
fn a_pool_with_threads_grows_by_itself() {
    let lab = Lab::new();
    let quick = Adaptive::between(1, 4).every(Duration::from_millis(10)).target_wait(Duration::from_millis(1));
    let pool = Pool::builder(lab.manager()).max_size(1).adaptive(quick).connection_timeout(LONG).build();
    let pool = pool.expect("it connects");
    let held = pool.get().expect("idle");
    drop(pool.get().expect("the pool grows while this one waits"));
    assert!(pool.stats().max_size > 1);
    drop(held);
    assert_healthy(&pool);
}

#[test]
fn a_pool_without_threads_grows_while_its_callers_wait() {
    let lab = Lab::new();
    let quick = Adaptive::between(1, 4).every(Duration::from_millis(10)).target_wait(Duration::from_millis(1));
    let builder = Pool::builder(lab.manager()).max_size(1).adaptive(quick).retry(RetryPolicy::default());
    let pool = builder.maintenance(Maintenance::Manual).connection_timeout(LONG).build().expect("it connects");
    pool.maintain();
    let held = pool.get().expect("idle");
    drop(pool.get().expect("the pool grows while this one waits"));
    assert!(pool.stats().max_size > 1);
    drop(held);
    assert_healthy(&pool);
}
