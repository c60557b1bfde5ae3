//! Checks: of what has been idle, of what is suspect, and in the background; time is moved by hand.

mod support;

use millpond::testing::HandClock;
use millpond::{CloseReason, Manager, Pool, Validation};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, assert_healthy, come_to_rest, eventually};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn after_one_failed_check_nobody_meets_another_dead_connection() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(50).clock(clock.clone()).build().expect("it connects");
    drop(pool.get_many(50).expect("opened"));
    clock.advance(Duration::from_secs(1));
    // The server was restarted: what is open is dead, and what is opened from now on is not.
    lab.dead_below.store(51, SeqCst);
    let conn = pool.get_timeout(LONG).expect("a new one");
    assert!(conn.number > 50);
    come_to_rest(&pool);
    assert_eq!(pool.stats().check_failures, 50, "each of the old ones was checked once");
    assert_eq!(pool.stats().closed.by(CloseReason::Invalid), 50);
    // On a clock that stands still, a new one may be as old as the last failure, and be checked as well.
    let checks = lab.checks.load(SeqCst);
    drop(conn);
    for _ in 0..50 {
        assert!(pool.get_timeout(LONG).expect("lent").number > 50);
    }
    assert_eq!((lab.checks.load(SeqCst), pool.stats().timeouts), (checks, 0));
    assert_healthy(&pool);
}

#[test]
fn what_is_suspected_and_passes_its_check_stays() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(10).clock(clock.clone()).build().expect("it connects");
    drop(pool.get_many(10).expect("opened"));
    clock.advance(Duration::from_secs(1));
    lab.dead_below.store(4, SeqCst);
    // A thread that has borrowed nothing yet begins with the first, which is dead.
    let lent = thread::scope(|scope| scope.spawn(|| pool.get_timeout(LONG).map(drop)).join().expect("no panic"));
    lent.expect("seven are left");
    come_to_rest(&pool);
    let stats = pool.stats();
    assert_eq!((stats.closed.by(CloseReason::Invalid), stats.check_failures), (3, 3));
    assert_eq!(stats.opened - stats.closed, u64::from(stats.size));
    assert!(stats.size >= 7, "{stats:?}");
    assert_healthy(&pool);
}

#[test]
fn a_failed_attempt_to_connect_makes_what_lies_idle_suspect_too() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(4).clock(clock.clone()).build().expect("it connects");
    let mut all = pool.get_many(3).expect("opened");
    let held = all.pop();
    drop(all);
    clock.advance(Duration::from_millis(100));
    lab.refuse.store(true, SeqCst);
    lab.dead_below.store(u32::MAX, SeqCst);
    // Two are idle and fresh: they are lent without a check. The fourth must be opened, and that fails.
    let lent = (pool.try_get(), pool.try_get());
    assert!(lent.0.is_some() && lent.1.is_some());
    drop(lent);
    let caller = thread::scope(|scope| {
        let all = scope.spawn(|| pool.get_many(4));
        eventually("an attempt has failed", || pool.stats().connect_failures > 0);
        clock.advance(LONG);
        all.join().expect("no panic")
    });
    assert!(caller.is_err());
    lab.refuse.store(false, SeqCst);
    lab.dead_below.store(0, SeqCst);
    drop(held);
    assert_healthy(&pool);
}

#[test]
fn idle_connections_are_checked_in_the_background_a_quarter_at_a_time() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(8).min_idle(8).clock(clock.clone()).build().expect("it connects");
    pool.maintain();
    assert_eq!(lab.checks.load(SeqCst), 0);
    clock.advance(2 * MINUTE);
    let gate = Lab::gate(&lab.check_gate);
    for _ in 0..3 {
        pool.maintain();
    }
    eventually("two are being checked", || gate.waiting() == 2);
    assert_eq!(pool.stats().idle, 6, "the others are there for callers");
    gate.open();
    for _ in 0..8 {
        come_to_rest(&pool);
        pool.maintain();
    }
    come_to_rest(&pool);
    assert_eq!((lab.checks.load(SeqCst), pool.stats().idle), (8, 8), "each was checked once");
    assert!(pool.try_get().is_some(), "what has just been checked is lent without another check");
    assert_healthy(&pool);
}

#[test]
fn what_died_in_silence_is_found_before_a_caller_finds_it() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(4)
        .min_idle(4)
        .keepalive(Some(MINUTE))
        .clock(clock.clone())
        .build()
        .expect("it connects");
    clock.advance(MINUTE);
    lab.dead_below.store(5, SeqCst);
    eventually("all are replaced", || {
        pool.maintain();
        come_to_rest(&pool);
        let stats = pool.stats();
        stats.closed.by(CloseReason::Invalid) == 4 && stats.idle == 4
    });
    assert!(pool.try_get().expect("idle").number > 4);
    assert_healthy(&pool);
}

#[test]
fn checks_in_the_background_do_not_keep_alive_what_nobody_uses() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(4).clock(clock.clone()).build().expect("it connects");
    drop(pool.get_many(4).expect("opened"));
    for _ in 0..22 {
        clock.advance(MINUTE / 2);
        for _ in 0..4 {
            pool.maintain();
            come_to_rest(&pool);
        }
    }
    assert!(lab.checks.load(SeqCst) >= 4);
    assert_eq!(pool.stats().closed.by(CloseReason::IdleTimeout), 4);
}

#[test]
fn connections_that_cannot_go_away_are_never_checked() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(4)
        .min_idle(4)
        .validation(Validation::Never)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    clock.advance(5 * MINUTE);
    pool.maintain();
    assert!(pool.try_get().is_some());
    come_to_rest(&pool);
    assert_eq!(lab.checks.load(SeqCst), 0);
}

#[test]
fn a_check_that_hangs_is_not_waited_for_when_another_connection_can_be_had() {
    // Another one is idle, or there is room for another one.
    for idle in [2, 1] {
        let (lab, clock) = (Lab::new(), HandClock::new());
        let pool = Pool::builder(lab.manager()).max_size(2).clock(clock.clone()).build().expect("it connects");
        drop(pool.get_many(idle).expect("opened"));
        clock.advance(Duration::from_secs(1));
        let hangs = Lab::gate(&lab.check_gate);
        thread::scope(|scope| {
            let caller = scope.spawn(|| pool.get_timeout(LONG).map(|conn| conn.number));
            eventually("a check hangs", || hangs.waiting() == 1 && pool.stats().waiting == 1);
            *lab.check_gate.lock().expect("no panic") = None;
            clock.advance(Duration::from_millis(99));
            pool.maintain();
            assert_eq!((pool.stats().waiting, lab.attempts.load(SeqCst)), (1, idle as u32), "it may still end");
            clock.advance(Duration::from_millis(1));
            pool.maintain();
            caller.join().expect("no panic").expect("served while the check hangs");
            assert_eq!(hangs.waiting(), 1);
            hangs.open();
        });
        come_to_rest(&pool);
        assert_healthy(&pool);
    }
}

#[test]
fn a_check_that_hangs_is_hedged_by_the_keeper_also_if_it_has_other_things_to_do() {
    let lab = Lab::new();
    let builder = Pool::builder(lab.manager()).max_size(2).min_idle(2).validation(Validation::Always);
    let pool = builder.build().expect("it connects");
    // Both have been lent, so both need a check.
    drop(pool.get_many(2).expect("they are idle"));
    let gate = Lab::gate(&lab.check_gate);
    thread::scope(|scope| {
        let (pool, lab) = (&pool, &lab);
        let caller = scope.spawn(|| pool.get_timeout(LONG).map(drop));
        eventually("the first check hangs", || gate.waiting() == 1);
        *lab.check_gate.lock().expect("no panic") = None;
        // A visit on the way, which must not forget what the next one is for.
        pool.set_keepalive(Some(LONG)).expect("more than nothing");
        caller.join().expect("no panic").expect("the other one is good");
        assert_eq!(gate.waiting(), 1, "while the first check still hangs");
        gate.open();
    });
    assert_healthy(&pool);
}

#[test]
fn a_manager_whose_check_finds_nothing_out_is_never_asked_to_check() {
    struct File;
    impl Manager for File {
        type Connection = ();
        type Error = std::convert::Infallible;

        fn connect(&self) -> Result<(), Self::Error> {
            Ok(())
        }
        fn is_valid(&self, (): &mut ()) -> Result<(), Self::Error> {
            panic!("it is never asked");
        }
        fn can_validate(&self) -> bool {
            false
        }
    }
    let pool = Pool::builder(Box::new(File)).validation(Validation::Always).build().expect("it connects");
    pool.set_validation(Validation::Always);
    for _ in 0..3 {
        drop(pool.get().expect("one is idle"));
        pool.maintain();
    }
    let stats = pool.stats();
    assert_eq!((stats.opened, stats.check_failures, stats.panics), (1, 0, 0));
}
