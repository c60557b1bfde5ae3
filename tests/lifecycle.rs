//! Age, idleness, use counts, generations, sizes and the end; time is moved by hand.

mod support;

use millpond::event::{Closed, Connected};
use millpond::testing::{Act, Call, HandClock, Refused, Script, tick};
use millpond::{Breaker, CloseReason, ErrorKind, EventHandler, Maintenance, Pool, PooledConnection, Stats, Validation};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{Gate, LONG, Lab, Scripted, assert_healthy, eventually, settle};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn ten_connections_born_together_never_leave_fewer_than_nine() {
    for max_size in [10, 12] {
        let (lab, clock) = (Lab::new(), HandClock::new());
        let pool = Pool::builder(lab.manager())
            .max_size(max_size)
            .min_idle(10)
            .max_lifetime(Some(60 * SECOND))
            .idle_timeout(None)
            .clock(clock.clone())
            .build()
            .expect("it connects");
        for _ in 0..1200 {
            clock.advance(SECOND / 10);
            // Between two moments the keeper comes as often as it is called: here, until nothing is due.
            for _ in 0..3 {
                pool.maintain();
                let live = lab.live.load(SeqCst);
                assert!((9..=max_size).contains(&live), "{live} live");
            }
            settle(&pool);
        }
        assert!(lab.attempts.load(SeqCst) >= 20, "all were replaced: {}", lab.attempts.load(SeqCst));
        assert!(lab.most_live.load(SeqCst) <= max_size);
        assert_healthy(&pool);
    }
}

#[test]
fn of_those_that_are_to_die_the_next_one_waits_until_the_last_one_is_closed() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(10).min_idle(10).max_lifetime(Some(60 * SECOND));
    let pool = pool.idle_timeout(None).keepalive(None).clock(clock.clone()).build().expect("it connects");
    let gate = Lab::gate(&lab.drop_gate);
    // All of them have been due for a while, and the maximum leaves no room for others.
    clock.advance(60 * SECOND - SECOND / 100);
    for _ in 0..5 {
        pool.maintain();
        eventually("one is being closed", || gate.waiting() == 1);
    }
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.size, gate.waiting()), (9, 10, 1));
    gate.open();
    *lab.drop_gate.lock().expect("no panic") = None;
    settle(&pool);
    assert_healthy(&pool);
}

#[test]
fn the_last_connection_is_not_given_up_for_its_age_while_nothing_can_be_opened() {
    let (script, clock) = (Script::new(), HandClock::new());
    let pool = Pool::builder(script.manager())
        .max_size(2)
        .min_idle(2)
        .max_lifetime(Some(60 * SECOND))
        .maintenance(Maintenance::Manual)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    script.set(Call::Connect, Act::fail(|| Refused::new("away")));
    PooledConnection::discard(pool.get().expect("idle"));
    tick(&clock, &pool, SECOND);
    pool.resize(1).expect("one is allowed");
    assert_eq!((pool.stats().size, pool.stats().breaker), (1, Breaker::Open));
    // Its planned death comes at some time from 54 s on.
    for _ in 0..589 {
        tick(&clock, &pool, SECOND / 10);
        assert_eq!(pool.stats().size, 1, "there is no successor, and it may live for some time yet");
    }
    tick(&clock, &pool, SECOND / 10);
    assert_eq!(pool.stats().closed.by(CloseReason::Lifetime), 1, "but never for longer than its lifetime");
    script.clear();
    tick(&clock, &pool, 2 * SECOND);
    assert_healthy(&pool);
}

#[test]
fn a_hundred_born_together_die_apart_and_no_checkout_waits() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(100)
        .min_idle(100)
        .max_connecting(100)
        .max_lifetime(Some(10 * SECOND))
        .idle_timeout(None)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    let mut closed = vec![0_u64];
    for _ in 0..200 {
        clock.advance(SECOND / 10);
        // The keeper comes until nothing is due: those whose turn was not yet have theirs on the next visit.
        loop {
            let before = pool.stats().closed.total();
            settle(&pool);
            if pool.stats().closed.total() == before {
                break;
            }
        }
        drop(pool.try_get().expect("somebody is always idle"));
        closed.push(pool.stats().closed.total());
    }
    for second in closed.windows(11) {
        let died = second[10] - second[0];
        assert!(died <= 20, "{died} closed within a second");
    }
    assert!(*closed.last().expect("pushed above") >= 100, "{closed:?}");
    assert_eq!(pool.stats().waits, 0);
    assert!(pool.stats().idle >= 99);
}

#[test]
fn a_connection_in_constant_use_is_retired_on_its_return_past_its_lifetime() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(1)
        .max_lifetime(Some(60 * SECOND))
        .clock(clock.clone())
        .build()
        .expect("it connects");
    let conn = pool.get().expect("idle");
    clock.advance(61 * SECOND);
    pool.maintain();
    assert_eq!(lab.dropped.load(SeqCst), 0, "nobody closes what is borrowed");
    drop(conn);
    assert_eq!(pool.get_timeout(LONG).expect("a new one").number, 2);
    assert_eq!(pool.stats().closed.by(CloseReason::Lifetime), 1);
}

#[test]
fn idle_connections_go_oldest_first_and_never_below_the_minimum() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(6)
        .min_idle(2)
        .idle_timeout(Some(60 * SECOND))
        .max_lifetime(None)
        .validation(Validation::Never)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    let mut all = pool.get_many(6).expect("opened");
    let kept: Vec<_> = all.drain(4..).map(|conn| (conn.number, conn)).collect();
    drop(all);
    clock.advance(30 * SECOND);
    let young: Vec<_> = kept.into_iter().map(|(number, conn)| (number, drop(conn)).0).collect();
    clock.advance(31 * SECOND);
    settle(&pool);
    assert_eq!(pool.stats().closed.by(CloseReason::IdleTimeout), 4);
    let left: Vec<_> = pool.get_many(2).expect("idle").iter().map(|conn| conn.number).collect();
    assert!(young.iter().all(|number| left.contains(number)), "{young:?} {left:?}");
    clock.advance(3600 * SECOND);
    settle(&pool);
    assert_eq!(pool.stats().size, 2, "the minimum stays");
    assert_eq!(pool.stats().opened, 6, "and nothing was opened in exchange");
}

#[test]
fn uses_are_counted_exactly() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).max_uses(Some(5)).build().expect("it connects");
    for n in 0..50 {
        let conn = pool.get_timeout(LONG).expect("replaced in time");
        assert_eq!((conn.number, PooledConnection::uses(&conn)), (n / 5 + 1, u64::from(n % 5 + 1)));
    }
    eventually("the last is closed too", || pool.stats().closed.by(CloseReason::MaxUses) == 10);
    assert_healthy(&pool);
}

#[test]
fn what_returns_for_the_last_time_is_replaced_before_it_is_closed_where_there_is_room() {
    // On a clock that stands still, a close that hangs does not give its place away.
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(2).max_uses(Some(1)).clock(clock).build().expect("it connects");
    let gate = Lab::gate(&lab.drop_gate);
    drop(pool.get().expect("idle"));
    eventually("the old one is being closed", || gate.waiting() == 1);
    eventually("the new one is there", || pool.stats().idle == 1);
    drop(pool.get().expect("the new one"));
    eventually("both are being closed", || gate.waiting() == 2);
    assert_eq!(lab.attempts.load(SeqCst), 2, "there is no room for a third one");
    gate.open();
    *lab.drop_gate.lock().expect("no panic") = None;
    eventually("the third one is there", || pool.stats().idle == 1);
    assert_healthy(&pool);
}

#[test]
fn what_was_opened_and_not_closed_is_there_at_every_moment() {
    /// Looks at its pool whenever something happens.
    #[derive(Default)]
    struct Auditor(Mutex<Option<Pool<Scripted>>>, AtomicU32);
    fn audit(stats: &Stats) {
        assert_eq!(stats.opened - stats.closed, u64::from(stats.size), "{stats:?}");
    }
    impl Auditor {
        fn look(&self) {
            let pool = self.0.lock().expect("no panic").clone();
            if let Some(pool) = pool {
                audit(&pool.stats());
                self.1.fetch_add(1, SeqCst);
            }
        }
    }
    impl EventHandler for Auditor {
        fn connected(&self, _: &str, _: &Connected) {
            self.look();
        }
        fn closed(&self, _: &str, _: &Closed<'_>) {
            self.look();
        }
    }
    let (lab, auditor) = (Lab::new(), Arc::new(Auditor::default()));
    let pool = Pool::builder(lab.manager()).max_size(4).event_handler(Arc::clone(&auditor)).build().expect("connects");
    *auditor.0.lock().expect("no panic") = Some(pool.clone());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let users: Vec<_> = (0..6)
            .map(|user| {
                let pool = &pool;
                scope.spawn(move || {
                    for turn in 0..100 {
                        let conn = pool.get_timeout(LONG).expect("there is one");
                        match (user + turn) % 3 {
                            0 => PooledConnection::discard(conn),
                            1 => drop(PooledConnection::into_inner(conn)),
                            _ => drop(conn),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(SeqCst) {
                audit(&pool.stats());
            }
        });
        users.into_iter().for_each(|user| user.join().expect("no panic"));
        done.store(true, SeqCst);
    });
    drop(auditor.0.lock().expect("no panic").take());
    assert!(auditor.1.load(SeqCst) > 200, "each of them twice, or so");
    assert_eq!(pool.stats().panics, 0, "the auditor found nothing");
    assert_healthy(&pool);
}

#[test]
fn a_refresh_parts_with_idle_borrowed_and_half_open_connections() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(3).build().expect("it connects");
    let (idle, borrowed) = (pool.get().expect("idle"), pool.get_timeout(LONG).expect("opened"));
    drop(idle);
    let gate = Lab::gate(&lab.connect_gate);
    thread::scope(|scope| {
        let _both = pool.try_get().expect("idle");
        let late = scope.spawn(|| pool.get_timeout(LONG).map(|conn| conn.number));
        eventually("it connects", || gate.waiting() == 1);
        pool.refresh();
        gate.open();
        let number = late.join().expect("no panic").expect("a new one");
        assert!(number > 3, "connection {number} was begun before the refresh");
    });
    drop(borrowed);
    eventually("all three of the old generation are closed", || pool.stats().closed.by(CloseReason::Refresh) == 3);
    assert_healthy(&pool);
}

#[test]
fn shrinking_closes_what_is_idle_now_and_what_is_borrowed_on_return() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(5).build().expect("it connects");
    let mut all = pool.get_many(5).expect("opened");
    let borrowed = all.split_off(2);
    drop(all);
    pool.resize(2).expect("a good size");
    eventually("two idle ones go", || lab.live.load(SeqCst) == 3);
    drop(borrowed);
    eventually("one borrowed one goes", || lab.live.load(SeqCst) == 2);
    assert_eq!(pool.stats().closed.by(CloseReason::Resize), 3);
    assert_healthy(&pool);
    pool.resize(4).expect("a good size");
    assert_healthy(&pool);
    for bad in [0, u32::MAX] {
        let error = pool.resize(bad).expect_err("no pool has that size");
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(&bad.to_string()), "{error}");
    }
}

#[test]
fn closing_fails_waiters_closes_idle_ones_and_late_ones_and_leaves_nothing() {
    for round in 0..1000 {
        let lab = Lab::new();
        let pool = Pool::builder(lab.manager()).max_size(3).build().expect("it connects");
        let held = pool.get_many(2).expect("opened");
        let gate = Lab::gate(&lab.connect_gate);
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
            eventually("one connects for them", || gate.waiting() == 1);
            eventually("they wait", || pool.stats().waiting == 3);
            pool.close();
            for waiter in waiters {
                let error = waiter.join().expect("no panic").expect_err("it is closed");
                assert_eq!(error.kind(), ErrorKind::Closed, "{round}");
            }
        });
        assert_eq!(pool.get().expect_err("it is closed").kind(), ErrorKind::Closed);
        assert!(pool.try_get().is_none());
        let error = pool.close_and_wait(Duration::from_millis(1)).expect_err("two are out");
        assert_eq!(error.holders().len(), 2);
        assert!(error.to_string().contains("tests/lifecycle.rs:"), "{error}");
        gate.open();
        drop(held);
        pool.close_and_wait(LONG).expect("all have come back");
        assert_eq!((lab.live.load(SeqCst), pool.stats().size), (0, 0));
        assert_eq!(pool.stats().opened - pool.stats().closed, 0);
    }
}

#[test]
fn an_error_names_a_few_who_hold_connections_and_carries_all_of_them() {
    let pool = Pool::builder(Lab::new().manager()).max_size(20).build_lazy().expect("the settings are good");
    let mut held = pool.get_many(20).expect("they are opened");
    let told = |error: millpond::Error| (error.holders().len(), error.to_string());
    let (carried, text) = told(pool.wait_idle(Duration::ZERO).expect_err("all are out"));
    assert_eq!((carried, text.matches("tests/lifecycle.rs:").count()), (20, 4), "{text}");
    assert!(text.ends_with(", and 16 more"), "{text}");
    held.truncate(4);
    let (carried, text) = told(pool.close_and_wait(Duration::ZERO).expect_err("some are out"));
    assert_eq!((carried, text.matches("tests/lifecycle.rs:").count()), (4, 4), "{text}");
    assert!(!text.contains(" more"), "{text}");
}

#[test]
fn a_leaked_guard_is_named_and_does_not_keep_the_pool_from_closing() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(2).build().expect("it connects");
    std::mem::forget(pool.get().expect("idle"));
    let holders = pool.holders();
    assert_eq!(holders.len(), 1);
    assert!(holders[0].location().is_some_and(|place| place.file().ends_with("lifecycle.rs")));
    drop(pool.get_timeout(LONG).expect("the other place is still there"));
    let error = pool.close_and_wait(Duration::from_millis(20)).expect_err("one is lost");
    assert_eq!(error.holders().len(), 1);
    assert_eq!(lab.live.load(SeqCst), 1, "all others are closed");
}

#[test]
fn the_last_handle_may_be_dropped_anywhere() {
    let lab = Lab::new();
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).max_size(2).build_lazy().expect("the settings are good");
    drop(pool.get_timeout(Duration::from_millis(5)).expect_err("connecting hangs"));
    drop(pool);
    gate.open();
    eventually("the late connection is closed", || lab.dropped.load(SeqCst) == 1);

    // In a callback, on a helper thread.
    let lab = Lab::new();
    let slot = Arc::new(Mutex::new(None::<Pool<Scripted>>));
    let inner = Arc::clone(&slot);
    let pool = Pool::builder(lab.manager())
        .on_close(move |_| drop(inner.lock().expect("no panic").take()))
        .build()
        .expect("it connects");
    let conn = pool.get().expect("idle");
    *slot.lock().expect("no panic") = Some(pool);
    PooledConnection::discard(conn);
    eventually("the pool closed itself", || lab.live.load(SeqCst) == 0);
}

/// Holds up whoever retires a connection, except for the keeper.
struct HoldUp(Gate);

impl EventHandler for HoldUp {
    fn retired(&self, _pool: &str, _connection: u64, _reason: CloseReason) {
        if thread::current().name() != Some("millpond-keeper") {
            self.0.pass();
        }
    }
}

#[test]
fn the_keeper_comes_again_after_it_met_somebody_else_at_work() {
    let (gate, idle) = (Gate::new(), Duration::from_millis(20));
    let builder = Pool::builder(|| Ok::<_, std::io::Error>(())).idle_timeout(Some(idle));
    let pool = builder.event_handler(HoldUp(gate.clone())).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            while gate.waiting() == 0 && !gate.is_open() {
                pool.maintain();
            }
        });
        eventually("somebody else than the keeper retires one", || {
            drop(pool.get().expect("it opens"));
            thread::sleep(idle * 2);
            gate.waiting() == 1
        });
        // The keeper is asked to come, and finds that somebody is at work.
        for _ in 0..20 {
            pool.set_idle_timeout(Some(idle)).expect("a good time");
            thread::sleep(Duration::from_millis(1));
        }
        gate.open();
        busy.join().expect("no panic");
    });
    drop(pool.get_many(3).expect("they open"));
    eventually("what is idle for too long goes without anybody's asking", || pool.stats().size == 0);
}
