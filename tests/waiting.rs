//! Waiting: order, deadlines, limits, and that nobody is forgotten.

mod support;

use millpond::testing::HandClock;
use millpond::{ErrorKind, Fairness, Pool, PooledConnection};
use std::error::Error as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;
use support::{Gate, LONG, Lab, Refused, assert_healthy, eventually};

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    for fairness in [Fairness::Strict, Fairness::Bounded(Duration::from_nanos(1))] {
        let lab = Lab::new();
        let pool = Pool::builder(lab.manager()).max_size(1).fairness(fairness).build().expect("it connects");
        let order = Mutex::new(Vec::new());
        let held = pool.get().expect("idle");
        thread::scope(|scope| {
            for n in 0..20 {
                let (pool, order) = (&pool, &order);
                scope.spawn(move || {
                    let conn = pool.get_timeout(LONG).expect("served");
                    order.lock().expect("no panic").push(n);
                    drop(conn);
                });
                eventually("it waits", || pool.stats().waiting == n + 1);
            }
            drop(held);
        });
        assert_eq!(order.into_inner().expect("no panic"), (0..20).collect::<Vec<_>>());
        assert_healthy(&pool);
    }
}

#[test]
fn a_connection_that_was_handed_over_is_in_use_before_its_new_holder_has_woken() {
    let pool = Pool::builder(Lab::new().manager()).max_size(1).fairness(Fairness::Strict).build().expect("it connects");
    for _ in 0..200 {
        let held = pool.get().expect("idle");
        let ended = Gate::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let conn = pool.get_timeout(LONG).expect("served");
                    ended.pass();
                    drop(conn);
                });
            }
            eventually("both wait", || pool.stats().waiting == 2);
            drop(held);
            // The next holder may or may not have woken by now.
            let stats = pool.stats();
            ended.open();
            assert_eq!((stats.size, stats.idle, stats.in_use, stats.waiting), (1, 0, 1, 1));
        });
    }
}

#[test]
fn capacity_that_comes_free_by_any_route_wakes_a_waiter() {
    type Free = fn(&Lab, PooledConnection<support::Scripted>);
    let routes: [(&str, Free); 5] = [
        ("return", |_, conn| drop(conn)),
        ("discard", |_, conn| PooledConnection::discard(conn)),
        ("detach", |_, conn| drop(PooledConnection::into_inner(conn))),
        ("broken", |lab, conn| {
            lab.broken.store(true, SeqCst);
            drop(conn);
            lab.broken.store(false, SeqCst);
        }),
        ("failed reset", |lab, conn| {
            lab.unclean.store(true, SeqCst);
            drop(conn);
            lab.unclean.store(false, SeqCst);
        }),
    ];
    for (name, free) in routes {
        let lab = Lab::new();
        let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
        let held = pool.get().expect("idle");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.get_timeout(LONG).map(drop));
            eventually("it waits", || pool.stats().waiting == 1);
            free(&lab, held);
            waiter.join().expect("no panic").unwrap_or_else(|error| panic!("{name}: {error}"));
        });
        assert_healthy(&pool);
    }
}

#[test]
fn growing_the_pool_wakes_those_who_wait() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    let held = pool.get().expect("idle");
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("they wait", || pool.stats().waiting == 3);
        pool.resize(2).expect("a good size");
        for waiter in waiters {
            waiter.join().expect("no panic").expect("served by the second connection");
        }
    });
    drop(held);
    assert_healthy(&pool);
}

#[test]
fn a_caller_too_many_is_turned_away_at_once_with_its_own_error() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).max_waiting(Some(2)).build().expect("it connects");
    let held = pool.get().expect("idle");
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..2).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("two wait", || pool.stats().waiting == 2);
        let error = pool.get_timeout(LONG).expect_err("there is no room to wait");
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(!error.is_timeout());
        assert_eq!(pool.stats().overloads, 1);
        drop(held);
        for waiter in waiters {
            waiter.join().expect("no panic").expect("served");
        }
    });
    assert_healthy(&pool);
}

#[test]
fn a_thousand_who_give_up_while_others_are_served_swallow_nothing() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(2).clock(clock.clone()).build().expect("it connects");
    let step = Duration::from_micros(50);
    for _ in 0..5 {
        let held = pool.get_many(2).expect("idle");
        thread::scope(|scope| {
            for n in 1..=200 {
                let pool = &pool;
                // Their deadlines come one by one, while two connections go from hand to hand.
                scope.spawn(move || drop(pool.get_timeout(n * step)));
            }
            eventually("all wait", || pool.stats().waiting == 200);
            clock.advance(100 * step);
            eventually("half of them give up", || pool.stats().waiting == 100);
            scope.spawn(|| (0..100).for_each(|_| clock.advance(step)));
            drop(held);
        });
        let stats = pool.stats();
        assert_eq!((stats.waiting, stats.in_use), (0, 0));
        assert_healthy(&pool);
    }
    assert!(pool.stats().timeouts >= 5 * 100, "{} gave up", pool.stats().timeouts);
}

#[test]
fn the_exhaustion_error_names_the_pool_its_numbers_and_its_holders() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).name("orders").max_size(1).build().expect("it connects");
    let (line, held) = thread::Builder::new()
        .name("nightly".to_owned())
        .spawn({
            let pool = pool.clone();
            move || (line!(), pool.get().expect("idle"))
        })
        .expect("a thread can be had")
        .join()
        .expect("no panic");
    let error = pool.get_timeout(Duration::from_millis(20)).expect_err("it is borrowed");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.is_timeout() && error.source().is_none());
    let text = error.to_string();
    for part in [
        "from \"orders\"",
        "max 1: 1 in use, 0 idle, 0 opening; 1 waiting",
        "thread \"nightly\"",
        &format!("tests/waiting.rs:{line} for 0."),
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(error.holders().len(), 1);
    assert_eq!(error.stats().expect("it is about a pool").in_use, 1);
    drop(held);
    assert_healthy(&pool);
}

#[test]
fn every_waiter_gets_the_managers_own_error() {
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    let pool = Pool::builder(lab.manager())
        .connection_timeout(Duration::from_millis(100))
        .build_lazy()
        .expect("the settings are good");
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..8).map(|_| scope.spawn(|| pool.get().map(drop))).collect();
        for waiter in waiters {
            let error = waiter.join().expect("no panic").expect_err("it refuses");
            assert_eq!(error.kind(), ErrorKind::Connect);
            assert!(error.source().is_some_and(|cause| cause.downcast_ref::<Refused>().is_some()));
        }
    });
    lab.refuse.store(false, SeqCst);
    assert_healthy(&pool);
}

#[test]
fn a_permanent_error_fails_everybody_at_once_after_one_attempt() {
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    lab.permanent.store(true, SeqCst);
    let pool = Pool::builder(lab.manager()).build_lazy().expect("the settings are good");
    let gate = Lab::gate(&lab.connect_gate);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("they wait", || pool.stats().waiting == 4);
        gate.open();
        for waiter in waiters {
            let error = waiter.join().expect("no panic").expect_err("it refuses");
            assert_eq!(error.kind(), ErrorKind::Connect);
            assert!(!error.is_timeout(), "nobody waited for the deadline");
            assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
        }
    });
    assert!(lab.attempts.load(SeqCst) <= 4, "at most one attempt a place, none repeated");
    lab.refuse.store(false, SeqCst);
    eventually("it is let in again", || pool.get().is_ok());
    assert_healthy(&pool);
}

#[test]
fn a_connection_that_is_late_for_its_caller_is_kept_for_the_next() {
    let lab = Lab::new();
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).build_lazy().expect("the settings are good");
    let error = pool.get_timeout(Duration::from_millis(20)).expect_err("connecting hangs");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.source().is_none(), "the server has not said anything");
    gate.open();
    assert_eq!(pool.get_timeout(LONG).expect("it arrives").number, 1);
    assert_eq!(lab.attempts.load(SeqCst), 1);
}

#[test]
fn a_pool_that_is_paused_lends_nothing_until_it_is_resumed() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(2).build().expect("it connects");
    pool.pause();
    assert!(pool.try_get().is_none());
    let error = pool.get_timeout(Duration::from_millis(20)).expect_err("it is paused");
    assert_eq!(error.kind(), ErrorKind::Paused);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("they wait", || pool.stats().waiting == 4);
        pool.resume();
        for waiter in waiters {
            waiter.join().expect("no panic").expect("served");
        }
    });
    assert_healthy(&pool);
}

#[test]
fn the_longest_duration_waits_for_ever_and_overflows_nowhere() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager())
        .max_size(1)
        .connection_timeout(Duration::MAX)
        .max_lifetime(Some(Duration::MAX))
        .idle_timeout(Some(Duration::MAX))
        .build()
        .expect("it connects");
    let held = pool.get().expect("idle");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.get_timeout(Duration::MAX).map(drop));
        eventually("it waits", || pool.stats().waiting == 1);
        drop(held);
        waiter.join().expect("no panic").expect("served");
    });
    assert_healthy(&pool);
}
