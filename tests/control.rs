//! What is changed while a pool runs: times, connections, and whether it lends. Time is moved by hand.

mod support;

use millpond::testing::{Act, Call, Gate, HandClock, Script};
use millpond::{CloseReason, ErrorKind, Manager, Pool, PooledConnection, Validation};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, assert_healthy, eventually, settle};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_new_lifetime_holds_for_idle_and_for_borrowed_connections() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let builder = Pool::builder(lab.manager()).min_idle(3).idle_timeout(None).clock(clock.clone());
    let pool = builder.build().expect("it connects");
    let borrowed = pool.get().expect("idle");
    clock.advance(60 * SECOND);
    pool.set_max_lifetime(Some(61 * SECOND)).expect("more than nothing");
    settle(&pool);
    clock.advance(2 * SECOND);
    settle(&pool);
    assert_eq!(pool.stats().closed.by(CloseReason::Lifetime), 2, "the idle ones");
    drop(borrowed);
    eventually("and the borrowed one", || pool.stats().closed.by(CloseReason::Lifetime) == 3);

    pool.set_max_lifetime(None).expect("for ever");
    settle(&pool);
    let opened = pool.stats().opened;
    clock.advance(10_000 * SECOND);
    settle(&pool);
    assert_eq!(pool.stats().opened, opened, "nothing dies any more");
    assert_healthy(&pool);
}

#[test]
fn new_idle_times_and_checks_hold_for_what_lies_idle() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let builder = Pool::builder(lab.manager()).max_size(4).keepalive(None).idle_timeout(None).clock(clock.clone());
    let pool = builder.build().expect("it connects");
    drop(pool.get_many(4).expect("there is room"));
    clock.advance(100 * SECOND);
    settle(&pool);
    assert_eq!((pool.stats().idle, lab.checks.load(SeqCst)), (4, 0));

    pool.set_keepalive(Some(100 * SECOND)).expect("more than nothing");
    eventually("all are checked that are due, a few at a time", || {
        settle(&pool);
        lab.checks.load(SeqCst) == 4
    });
    settle(&pool);

    pool.set_validation(Validation::Never);
    clock.advance(100 * SECOND);
    drop(pool.get().expect("idle"));
    assert_eq!(lab.checks.load(SeqCst), 4);
    pool.set_validation(Validation::IfIdleFor(SECOND));
    clock.advance(2 * SECOND);
    drop(pool.get().expect("idle"));
    assert_eq!(lab.checks.load(SeqCst), 5, "it is checked again");

    pool.set_idle_timeout(Some(50 * SECOND)).expect("more than nothing");
    clock.advance(50 * SECOND);
    settle(&pool);
    assert_eq!(pool.stats().closed.by(CloseReason::IdleTimeout), 4);
    pool.set_min_idle(2).expect("no more than the maximum");
    settle(&pool);
    assert_eq!(pool.stats().idle, 2);
    assert_healthy(&pool);
}

#[test]
fn a_setting_that_cannot_be_is_refused_by_name_and_value_and_changes_nothing() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(4).build().expect("it connects");
    let zero = Duration::ZERO;
    for (error, text) in [
        (pool.set_connection_timeout(zero), "connection_timeout is 0 s"),
        (pool.set_max_lifetime(Some(zero)), "max_lifetime is 0 s"),
        (pool.set_idle_timeout(Some(zero)), "idle_timeout is 0 s"),
        (pool.set_keepalive(Some(zero)), "keepalive is 0 s"),
        (pool.set_leak_threshold(Some(zero)), "leak_threshold is 0 s"),
        (pool.set_min_idle(5), "min_idle is 5, which is more than max_size 4"),
        (pool.resize(0), "max_size is 0"),
        (pool.resize(u32::MAX), "max_size is 4294967295"),
    ] {
        let error = error.expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(text), "{error}");
    }
    drop(pool.get().expect("it still waits for 5 s"));
    assert_healthy(&pool);
}

#[test]
fn a_new_connection_timeout_holds_for_those_who_come_later() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).connection_timeout(LONG).build().expect("it connects");
    let held = pool.get().expect("idle");
    thread::scope(|scope| {
        let patient = scope.spawn(|| pool.get());
        eventually("it waits", || pool.stats().waiting == 1);
        pool.set_connection_timeout(Duration::from_millis(1)).expect("more than nothing");
        assert_eq!(pool.get().expect_err("nothing is returned").kind(), ErrorKind::Exhausted);
        assert_eq!(pool.get_many(1).expect_err("nothing is returned").kind(), ErrorKind::Exhausted);
        assert!(pool.with(|_| ()).is_err());
        drop(held);
        patient.join().expect("no panic").expect("it still has its minute");
    });
    assert_healthy(&pool);
}

/// Rotation of credentials: the manager reads them for each connection.
struct Rotating {
    password: Mutex<u32>,
    lab: Arc<Lab>,
}

impl Manager for Rotating {
    type Connection = (u32, support::Conn);
    type Error = support::Refused;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        let password = *self.password.lock().expect("no panic");
        Ok((password, self.lab.manager().connect()?))
    }
    fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[test]
fn after_a_rotation_no_connection_with_the_old_credentials_is_lent_nor_one_that_was_being_opened() {
    let lab = Lab::new();
    let manager = Rotating { password: Mutex::new(1), lab: Arc::clone(&lab) };
    let pool = Pool::builder(manager).max_size(4).build().expect("it connects");
    let held = pool.get().expect("idle");
    let gate = Lab::gate(&lab.connect_gate);
    thread::scope(|scope| {
        let (pool, lab) = (&pool, &lab);
        let late = scope.spawn(move || pool.get_timeout(LONG).expect("a new one in the end").0);
        eventually("it is being opened with the old ones", || gate.waiting() == 1);
        *pool.manager().password.lock().expect("no panic") = 2;
        pool.refresh();
        *lab.connect_gate.lock().expect("no panic") = None;
        gate.open();
        assert_eq!(late.join().expect("no panic"), 2, "the one that was being opened was not lent");
    });
    assert_eq!(held.0, 1, "a borrower keeps what it has");
    drop(held);
    let all = pool.get_many(4).expect("there is room");
    assert!(all.iter().all(|conn| conn.0 == 2));
    drop(all);
    eventually("both old ones are closed", || pool.stats().closed.by(CloseReason::Refresh) == 2);
}

#[test]
fn a_staggered_refresh_replaces_one_after_the_other_and_is_complete_in_time() {
    for max_size in [10, 12] {
        let (lab, clock) = (Lab::new(), HandClock::new());
        let builder = Pool::builder(lab.manager()).max_size(max_size).min_idle(10).idle_timeout(None);
        let pool = builder.keepalive(None).clock(clock.clone()).build().expect("it connects");
        let held = pool.get().expect("idle");
        settle(&pool);
        let before = lab.attempts.load(SeqCst);
        let old = pool.stats().size;
        pool.refresh_over(100 * SECOND);
        let mut renewed = Vec::new();
        for _ in 0..100 {
            clock.advance(SECOND);
            for _ in 0..5 {
                pool.maintain();
                let live = lab.live.load(SeqCst);
                assert!((9..=max_size).contains(&live), "{live} live of {max_size}");
                settle(&pool);
            }
            renewed.push(lab.attempts.load(SeqCst) - before);
        }
        assert!((3..=7).contains(&renewed[49]), "about half after half of the time: {renewed:?}");
        let steps = renewed.windows(2).map(|two| two[1] - two[0]).max();
        assert!(steps <= Some(2), "one after the other: {renewed:?}");
        drop(held);
        settle(&pool);
        clock.advance(SECOND);
        settle(&pool);
        assert_eq!(pool.stats().closed.by(CloseReason::Refresh), u64::from(old));
        let numbers: Vec<_> = pool.get_many(10).expect("they are there").iter().map(|conn| conn.number).collect();
        assert!(numbers.iter().all(|&number| number > before), "{numbers:?}");
        assert_healthy(&pool);
    }
}

#[test]
fn a_pool_that_is_paused_may_send_callers_away_at_once() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).connection_timeout(LONG).build().expect("it connects");
    let held = pool.get().expect("idle");
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| pool.get())).collect();
        eventually("they wait", || pool.stats().waiting == 3);
        pool.pause_and_reject();
        for waiter in waiters {
            let error = waiter.join().expect("no panic").expect_err("it is paused");
            assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Paused, false));
        }
        let error = pool.get().expect_err("who comes later neither waits");
        assert!(error.to_string().contains("is paused"), "{error}");
        assert!(pool.try_get().is_none());
    });
    pool.pause();
    assert!(pool.get_timeout(Duration::from_millis(1)).expect_err("it waits now").is_timeout());
    drop(held);
    pool.resume();
    assert_healthy(&pool);
}

#[test]
fn a_pause_and_a_refresh_leave_no_connection_open_and_wait_idle_says_who_has_one() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(3).min_idle(3).build().expect("it connects");
    let mut held = pool.get().expect("idle");
    PooledConnection::set_label(&mut held, "report");
    pool.pause();
    pool.refresh();
    let error = pool.wait_idle(Duration::from_millis(5)).expect_err("one is borrowed");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.holders().len(), 1);
    assert!(error.to_string().contains("is not idle") && error.to_string().contains("report"), "{error}");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.wait_idle(LONG));
        drop(held);
        waiting.join().expect("no panic").expect("it has come back");
    });
    eventually("none is open, and none is opened for the minimum", || lab.live.load(SeqCst) == 0);
    pool.maintain();
    assert_eq!(pool.stats().size, 0);
    pool.resume();
    assert_healthy(&pool);
}

#[test]
fn a_pool_is_idle_while_a_connection_is_being_opened() {
    let script = Script::new();
    let gate = Gate::new();
    let pool = Pool::builder(script.manager()).min_idle(1).build().expect("it connects");
    script.set(Call::Connect, Act::hang(&gate));
    PooledConnection::discard(pool.get().expect("idle"));
    eventually("another is being opened", || pool.stats().connecting == 1);
    pool.pause();
    pool.wait_idle(LONG).expect("nobody has one");
    assert_eq!(pool.stats().connecting, 1);
    gate.open();
    pool.resume();
    assert_healthy(&pool);
}

#[test]
fn the_last_handle_may_go_inside_a_callback() {
    // In the destructor of what is kept beside a connection, on the helper thread that closes it.
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).build().expect("it connects");
    let mut conn = pool.get().expect("idle");
    PooledConnection::extensions_mut(&mut conn).insert(pool.clone());
    drop(pool);
    PooledConnection::discard(conn);
    eventually("the connection is closed", || lab.live.load(SeqCst) == 0);

    // In `connect` itself, with a caller whose own handle is gone by then.
    let handle: Arc<Mutex<Option<Pool<millpond::manager::FnManager<_, _, _>>>>> = Arc::default();
    let inside = Arc::clone(&handle);
    let open = move || {
        drop(inside.lock().expect("no panic").take());
        Ok::<_, std::io::Error>(())
    };
    let open: Box<dyn Fn() -> Result<(), std::io::Error> + Send + Sync> = Box::new(open);
    let pool = Pool::builder(open).build_lazy().expect("good settings");
    *handle.lock().expect("no panic") = Some(pool.clone());
    drop(pool.get().expect("it connects"));
    assert!(handle.lock().expect("no panic").is_none(), "it was dropped there");
    pool.close_and_wait(LONG).expect("nothing is left");
}

#[test]
fn a_refresh_puts_off_no_other_refresh() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let builder = Pool::builder(lab.manager()).max_size(10).min_idle(10).idle_timeout(None).max_lifetime(None);
    let pool = builder.keepalive(None).clock(clock.clone()).build().expect("it connects");
    for _ in 0..4 {
        pool.refresh_over(100 * SECOND);
        for _ in 0..50 {
            clock.advance(SECOND);
            settle(&pool);
        }
    }
    let numbers: Vec<_> = pool.get_many(10).expect("they are there").iter().map(|conn| conn.number).collect();
    assert!(numbers.iter().all(|&number| number > 10), "none is left from the beginning: {numbers:?}");
    assert_healthy(&pool);
}

#[test]
fn a_pool_is_not_idle_while_a_connection_is_on_its_way_to_a_waiter() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    for _ in 0..300 {
        let held = pool.get().expect("idle");
        let quiet = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let conn = pool.get_timeout(LONG).expect("it comes back");
                conn.exclusively(|| assert!(!quiet.load(SeqCst), "somebody was told that nobody has one"));
            });
            eventually("it waits", || pool.stats().waiting == 1);
            drop(held);
            pool.pause();
            quiet.store(pool.wait_idle(Duration::ZERO).is_ok(), SeqCst);
            // Whoever was given one before the pause wakes up now.
            thread::yield_now();
            quiet.store(false, SeqCst);
            pool.resume();
            waiter.join().expect("no panic");
        });
    }
    pool.pause();
    pool.wait_idle(LONG).expect("nobody has one");
    pool.resume();
    assert_healthy(&pool);
}

#[test]
fn what_comes_back_after_its_turn_of_a_refresh_bit_by_bit_is_replaced() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(1).clock(clock.clone()).build().expect("it connects");
    let held = pool.get().expect("idle");
    pool.refresh_over(100 * SECOND);
    clock.advance(101 * SECOND);
    drop(held);
    eventually("a new one is there, although none is to be kept idle", || pool.stats().idle == 1);
    assert_eq!((pool.stats().closed.by(CloseReason::Refresh), lab.attempts.load(SeqCst)), (1, 2));
    assert_healthy(&pool);
}
