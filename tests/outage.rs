//! A server that is away and comes back: attempts, callers, and the way back to full service. Time is moved by hand.

mod support;

use millpond::event::{EventHandler, State};
use millpond::testing::HandClock;
use millpond::{Breaker, Error, ErrorKind, Pool, RetryPolicy, WhenDown};
use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, Refused, assert_healthy, eventually};

const TENTH: Duration = Duration::from_millis(100);

/// Moves the clock in small steps, and at each lets the upkeep and the attempts that it begins come to rest.
fn pass(pool: &Pool<support::Scripted>, clock: &HandClock, time: Duration, mut each: impl FnMut(Duration)) {
    let step = Duration::from_millis(5);
    for n in 1..=(time.as_millis() / step.as_millis()) as u32 {
        clock.advance(step);
        pool.maintain();
        eventually("the attempt has ended", || pool.stats().connecting == 0);
        each(step * n);
    }
}

#[derive(Default)]
struct States {
    seen: Mutex<Vec<State>>,
    turned_away: AtomicU32,
}

impl States {
    fn take(&self) -> Vec<State> {
        std::mem::take(&mut self.seen.lock().expect("no panic"))
    }
}

impl EventHandler for States {
    fn state_changed(&self, _: &str, state: State) {
        self.seen.lock().expect("no panic").push(state);
    }
    fn timed_out(&self, _: &str, _: &Error) {
        self.turned_away.fetch_add(1, SeqCst);
    }
}

#[test]
fn while_the_server_refuses_attempts_are_few_and_one_at_a_time_and_stop_when_nobody_waits() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    lab.refuse.store(true, SeqCst);
    let pool = Pool::builder(lab.manager()).max_size(64).clock(clock.clone()).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let callers: Vec<_> = (0..64).map(|_| scope.spawn(|| pool.get_timeout(100 * TENTH))).collect();
        eventually("they wait", || pool.stats().waiting == 64 && pool.stats().connect_failures > 0);
        pass(&pool, &clock, 100 * TENTH, |_| {});
        for caller in callers {
            let error = caller.join().expect("no panic").expect_err("it refuses");
            assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
            assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
        }
        // Four were begun together before anything was known to be wrong.
        let attempts = lab.attempts.load(SeqCst);
        assert!((30..=104).contains(&attempts), "{attempts} in 10 s");
        let at_once = lab.at_once.lock().expect("no panic").clone();
        assert!(at_once.iter().skip(4).all(|&(under_way, _)| under_way == 1), "{at_once:?}");
    });
    pass(&pool, &clock, 201 * TENTH, |_| {});
    let after_thirty = lab.attempts.load(SeqCst);
    assert!(after_thirty <= 180, "{after_thirty} in 30 s");
    pass(&pool, &clock, 100 * TENTH, |_| {});
    assert_eq!(lab.attempts.load(SeqCst), after_thirty, "nobody waits, and half a minute has passed");
    assert_eq!(pool.stats().breaker, Breaker::Open);
    lab.refuse.store(false, SeqCst);
    drop(pool.get_timeout(LONG).expect("the next caller tries again"));
    assert_eq!(pool.stats().breaker, Breaker::Closed);
    assert_healthy(&pool);
}

#[test]
fn a_server_that_is_back_is_noticed_soon_however_long_it_was_away() {
    for (away, within) in [(20, 2), (330, 11)] {
        let (lab, clock) = (Lab::new(), HandClock::new());
        lab.refuse.store(true, SeqCst);
        let pool = Pool::builder(lab.manager())
            .retry(RetryPolicy::default().give_up(None))
            .clock(clock.clone())
            .build_lazy()
            .expect("good settings");
        thread::scope(|scope| {
            let caller = scope.spawn(|| pool.get_timeout(LONG * 60));
            eventually("an attempt has failed", || pool.stats().connect_failures > 0);
            pass(&pool, &clock, away * TENTH, |_| {});
            lab.refuse.store(false, SeqCst);
            let mut after = Duration::MAX;
            pass(&pool, &clock, within * TENTH, |passed| {
                if pool.stats().breaker == Breaker::Closed {
                    after = after.min(passed);
                }
            });
            assert!(after <= within * TENTH, "{after:?} after an outage of {:?}", away * TENTH);
            drop(caller.join().expect("no panic").expect("it is back"));
        });
        assert_healthy(&pool);
    }
}

#[test]
fn a_breaker_fails_callers_at_once_except_the_one_that_comes_for_the_next_attempt() {
    let (lab, clock, states) = (Lab::new(), HandClock::new(), Arc::new(States::default()));
    lab.refuse.store(true, SeqCst);
    let pool = Pool::builder(lab.manager())
        .when_down(WhenDown::FailFast)
        .event_handler(Arc::clone(&states))
        .clock(clock.clone())
        .build_lazy()
        .expect("good settings");
    let error = pool.get_timeout(LONG).expect_err("it refuses");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, false));
    assert!(error.source().is_some_and(|cause| cause.is::<Refused>()), "{error}");
    assert_eq!(states.take(), [State::Down]);
    for _ in 0..100 {
        let error = pool.get_timeout(LONG).expect_err("nobody tries before the time has come");
        assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
        assert!(error.to_string().contains("(1 attempts), the next attempt is in 0.0"), "{error}");
    }
    assert_eq!((lab.attempts.load(SeqCst), pool.stats().fast_failures), (1, 101));
    assert_eq!(states.turned_away.load(SeqCst), 101, "each of them is told");
    eventually("the attempt is over", || pool.stats().breaker == Breaker::Open);

    clock.advance(TENTH);
    let gate = Lab::gate(&lab.connect_gate);
    thread::scope(|scope| {
        let prober = scope.spawn(|| pool.get_timeout(LONG).map(drop));
        eventually("it tries", || gate.waiting() == 1);
        assert_eq!(pool.stats().breaker, Breaker::HalfOpen);
        drop(pool.get_timeout(LONG).expect_err("one attempt at a time"));
        lab.refuse.store(false, SeqCst);
        gate.open();
        prober.join().expect("no panic").expect("it is back");
    });
    assert_eq!(states.take(), [State::HalfOpen, State::Up]);
    assert_eq!(pool.stats().breaker, Breaker::Closed);
    assert_healthy(&pool);
}

#[test]
fn idle_connections_are_lent_while_connecting_fails() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(2)
        .when_down(WhenDown::FailFast)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    lab.refuse.store(true, SeqCst);
    let held = pool.get_timeout(LONG).expect("idle");
    drop(pool.get_timeout(LONG).expect_err("the second must be opened"));
    drop(held);
    assert!(pool.get_timeout(LONG).is_ok(), "the first still works");
    lab.refuse.store(false, SeqCst);
    eventually("the server is back, and the pool knows", || {
        clock.advance(TENTH);
        pool.maintain();
        pool.stats().breaker == Breaker::Closed
    });
    assert_healthy(&pool);
}

#[test]
fn after_an_outage_the_gates_open_one_by_one() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    lab.refuse.store(true, SeqCst);
    let pool = Pool::builder(lab.manager())
        .max_size(16)
        .max_connecting(8)
        .clock(clock.clone())
        .build_lazy()
        .expect("good settings");
    thread::scope(|scope| {
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(|| pool.get_timeout(LONG))).collect();
        eventually("they wait", || pool.stats().waiting == 16 && pool.stats().connect_failures > 0);
        eventually("all attempts have ended", || pool.stats().connecting == 0);
        lab.refuse.store(false, SeqCst);
        lab.at_once.lock().expect("no panic").clear();
        let gate = Lab::gate(&lab.connect_gate);
        clock.advance(TENTH);
        pool.maintain();
        eventually("one tries", || gate.waiting() == 1);
        pool.maintain();
        assert_eq!(pool.stats().connecting, 1, "and nobody else, though sixteen wait");
        *lab.connect_gate.lock().expect("no panic") = None;
        gate.open();
        for caller in callers {
            drop(caller.join().expect("no panic").expect("it is back"));
        }
    });
    for &(at_once, open) in &*lab.at_once.lock().expect("no panic") {
        assert!(at_once <= 1 << open.min(3), "{at_once} at once when {open} were open");
    }
    assert_healthy(&pool);
}

#[test]
fn who_would_rather_fail_fast_waits_for_the_end_of_a_pause_all_the_same() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let builder = Pool::builder(lab.manager()).when_down(WhenDown::FailFast).clock(clock.clone());
    let pool = builder.connection_timeout(Duration::MAX).build_lazy().expect("good settings");
    lab.refuse.store(true, SeqCst);
    pool.get().expect_err("it refuses");
    eventually("the attempt is over", || pool.stats().connecting == 0);
    pool.pause();
    clock.advance(Duration::from_secs(60));
    lab.refuse.store(false, SeqCst);
    thread::scope(|scope| {
        let caller = scope.spawn(|| pool.get().map(drop));
        eventually("it waits", || pool.stats().waiting == 1);
        pool.resume();
        // It makes the attempt itself, or is told that one is under way.
        let answer = caller.join().expect("no panic");
        assert!(answer.is_err_and(|error| error.kind() == ErrorKind::Connect) || pool.stats().idle == 1);
    });
}

#[test]
fn what_the_hook_on_open_fails_with_is_classed_like_any_other_error() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    lab.permanent.store(true, SeqCst);
    let refuse = |_: &mut support::Conn| Err(Refused(0));
    let pool = Pool::builder(lab.manager()).on_open(refuse).clock(clock).build_lazy().expect("good settings");
    let error = pool.get_timeout(LONG).expect_err("its password is wrong");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, false), "{error}");
    assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
    assert!(error.to_string().contains("trying again would not help"), "{error}");
    assert_eq!((lab.attempts.load(SeqCst), lab.live.load(SeqCst)), (1, 0));
}
