//! What is opened before anybody asks, and starting while the server is away. Time is moved by hand.

mod support;

use millpond::testing::HandClock;
use millpond::{ErrorKind, Pool, RetryPolicy, WarmUp};
use std::error::Error as _;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, Refused, assert_healthy, eventually};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn batches_are_opened_side_by_side_with_a_pause_between() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let told: Arc<Mutex<Vec<u32>>> = Arc::default();
    let bar = Arc::clone(&told);
    let plan = WarmUp::background(7)
        .batch(3)
        .pause(SECOND)
        .on_progress(move |progress| bar.lock().expect("no panic").push(progress.ready));
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).warm_up(plan).clock(clock.clone()).build().expect("nobody waits");
    eventually("three at once", || gate.waiting() == 3);
    pool.maintain();
    assert_eq!(lab.connecting.load(SeqCst), 3, "and no more");
    *lab.connect_gate.lock().expect("no panic") = None;
    gate.open();
    eventually("the first batch is there", || pool.stats().idle == 3);
    pool.maintain();
    assert_eq!(lab.attempts.load(SeqCst), 3, "the pause is not over");
    clock.advance(SECOND);
    pool.maintain();
    eventually("the second batch is there", || pool.stats().idle == 6);
    clock.advance(SECOND);
    pool.maintain();
    pool.wait_ready(LONG).expect("the rest");
    eventually("all are there", || pool.stats().idle == 7);
    clock.advance(10 * SECOND);
    pool.maintain();
    assert_eq!(lab.attempts.load(SeqCst), 7, "exactly as many as were asked for");
    eventually("all of it is told", || told.lock().expect("no panic").last() == Some(&7));
    let told = told.lock().expect("no panic").clone();
    assert!(told.is_sorted() && told.last() == Some(&7), "{told:?}");
    assert_healthy(&pool);
}

#[test]
fn a_lazy_pool_opens_nothing_and_a_later_warm_up_exactly_what_is_asked() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).warm_up(WarmUp::lazy()).build().expect("nothing can fail");
    assert_eq!(lab.attempts.load(SeqCst), 0);
    pool.warm_up(WarmUp::blocking(5).required()).expect("it connects");
    assert_eq!((lab.attempts.load(SeqCst), pool.stats().idle), (5, 5));
    pool.warm_up(WarmUp::blocking(3)).expect("they are there already");
    assert_eq!(lab.attempts.load(SeqCst), 5);
    assert_healthy(&pool);
}

#[test]
fn a_server_that_is_away_is_an_error_only_where_that_is_asked() {
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    let builder = || Pool::builder(lab.manager()).max_size(4);
    let short = |plan: WarmUp| plan.within(Duration::from_millis(30));

    let error = builder().warm_up(short(WarmUp::blocking(2)).required()).build().expect_err("it refuses");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
    assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));

    let pool = builder().warm_up(short(WarmUp::blocking(2))).build().expect("a warning is enough");
    lab.refuse.store(false, SeqCst);
    pool.wait_ready(LONG).expect("the warm-up has gone on in the background");
    eventually("both are there", || pool.stats().idle == 2);
    assert_healthy(&pool);
}

#[test]
fn a_start_may_wait_for_the_server_without_end_or_give_up_by_its_own_policy() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    lab.refuse.store(true, SeqCst);
    let builder = || Pool::builder(lab.manager()).clock(clock.clone()).retry(RetryPolicy::default());
    let pass = |pool: &Pool<support::Scripted>, seconds: u32| {
        for _ in 0..seconds * 4 {
            clock.advance(SECOND / 4);
            pool.maintain();
            eventually("the attempt has ended", || pool.stats().connecting == 0);
        }
    };

    // Nobody waits: 30 s are enough in operation, but not at the start.
    let endless = builder().warm_up(WarmUp::background(2)).build().expect("nobody waits");
    pass(&endless, 60);
    let after_a_minute = lab.attempts.load(SeqCst);
    pass(&endless, 60);
    assert!(lab.attempts.load(SeqCst) > after_a_minute + 10, "it goes on");
    lab.refuse.store(false, SeqCst);
    pass(&endless, 2);
    assert_eq!(endless.stats().idle, 2);

    // Once it has been up, it gives up.
    lab.refuse.store(true, SeqCst);
    endless.refresh();
    endless.set_min_idle(2).expect("no more than the maximum");
    pass(&endless, 40);
    let after_forty = lab.attempts.load(SeqCst);
    pass(&endless, 40);
    assert_eq!(lab.attempts.load(SeqCst), after_forty, "nobody waits, and half a minute has passed");
    lab.refuse.store(false, SeqCst);
    assert_healthy(&endless);
    drop(endless);

    // A start that gives up ends the waiting of `build`.
    lab.refuse.store(true, SeqCst);
    let policy = RetryPolicy::default().give_up(Some(10 * SECOND));
    let plan = WarmUp::blocking(1).within(Duration::MAX).required();
    let begun = lab.attempts.load(SeqCst);
    let pool = builder().start_up(policy).build_lazy().expect("nothing is opened");
    thread::scope(|scope| {
        let (waits, its) = (scope.spawn(|| pool.warm_up(plan)), &pool);
        eventually("it tries", || lab.attempts.load(SeqCst) > begun);
        pass(its, 11);
        let error = waits.join().expect("no panic").expect_err("it refuses");
        assert_eq!(error.kind(), ErrorKind::Connect);
    });
}

#[test]
fn a_permanent_error_ends_a_warm_up_at_once() {
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    lab.permanent.store(true, SeqCst);
    let plan = WarmUp::blocking(3).within(Duration::MAX).required();
    let error = Pool::builder(lab.manager()).max_connecting(1).warm_up(plan).build().expect_err("it refuses for good");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(lab.attempts.load(SeqCst), 1);
}

#[test]
fn a_plan_that_cannot_be_is_refused_by_name_and_value() {
    let builder = || Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(4);
    for (plan, text) in [
        (WarmUp::blocking(5), "warm_up.connections is 5, which is more than max_size 4"),
        (WarmUp::background(2).batch(0), "warm_up.batch is 0"),
        (WarmUp::blocking(2).within(Duration::ZERO), "warm_up.within is 0 s"),
        (WarmUp::background(2).required(), "warm_up.required is true, but nobody waits"),
    ] {
        for error in [
            builder().warm_up(plan.clone()).build().expect_err(text),
            builder().build_lazy().expect("nothing is opened").warm_up(plan).expect_err(text),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}

#[test]
fn a_progress_callback_that_panics_costs_nothing() {
    let lab = Lab::new();
    let plan = WarmUp::blocking(3).required().on_progress(|_| std::panic::resume_unwind(Box::new("scripted panic")));
    let pool = Pool::builder(lab.manager()).max_size(3).warm_up(plan).build().expect("it connects");
    assert!(pool.stats().panics > 0);
    assert_healthy(&pool);
}

#[test]
fn who_asks_again_after_the_pool_gave_up_is_tried_for_again() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).clock(clock.clone()).build().expect("it connects");
    let give_up = |permanent: bool| {
        lab.refuse.store(true, SeqCst);
        lab.permanent.store(permanent, SeqCst);
        pool.refresh();
        drop(pool.warm_up(WarmUp::background(1)));
        for _ in 0..200 {
            clock.advance(SECOND / 4);
            pool.maintain();
            eventually("the attempt has ended", || pool.stats().connecting == 0);
        }
        let attempts = lab.attempts.load(SeqCst);
        clock.advance(10 * SECOND);
        pool.maintain();
        assert_eq!(lab.attempts.load(SeqCst), attempts, "it has given up");
        lab.refuse.store(false, SeqCst);
    };
    give_up(false);
    pool.wait_ready(LONG).expect("the server is back");
    give_up(true);
    pool.wait_ready(LONG).expect("what was permanent then may be mended by now");
    give_up(false);
    pool.warm_up(WarmUp::background(3)).expect("a good plan");
    eventually("all are there", || {
        clock.advance(SECOND / 4);
        pool.maintain();
        pool.stats().idle == 3
    });
    assert_healthy(&pool);
}

#[test]
fn connections_that_are_being_closed_are_not_ready() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(8).min_idle(4).build().expect("it connects");
    let gate = Lab::gate(&lab.drop_gate);
    pool.refresh();
    pool.warm_up(WarmUp::blocking(4).required()).expect("it connects");
    assert_eq!(pool.stats().idle, 4, "and not the old ones");
    assert!(lab.attempts.load(SeqCst) >= 8);
    *lab.drop_gate.lock().expect("no panic") = None;
    gate.open();
    assert_healthy(&pool);
}

#[test]
fn warm_ups_do_not_replace_each_other() {
    let lab = Lab::new();
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).max_size(8).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let large = scope.spawn(|| pool.warm_up(WarmUp::blocking(6).within(LONG).required()));
        eventually("it has begun", || gate.waiting() == 4);
        pool.warm_up(WarmUp::background(3)).expect("a good plan");
        *lab.connect_gate.lock().expect("no panic") = None;
        gate.open();
        large.join().expect("no panic").expect("all six");
    });
    assert_eq!(lab.attempts.load(SeqCst), 6);
    assert_healthy(&pool);
}

#[test]
fn a_plan_that_was_too_slow_says_how_far_it_came() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).clock(clock.clone()).build_lazy().expect("good settings");
    let slow = WarmUp::blocking(6).batch(2).pause(60 * SECOND).within(SECOND).required();
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.warm_up(slow));
        eventually("the first two are there", || pool.stats().idle == 2);
        clock.advance(SECOND);
        let error = waits.join().expect("no panic").expect_err("the pause is longer");
        assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
        assert!(error.to_string().contains("2 of 6 connections"), "{error}");
        assert_eq!(pool.stats().timeouts, 0, "nobody was to borrow one");
    });
}

#[test]
fn the_end_of_a_warm_up_runs_nothing_of_the_users_under_a_lock_and_keeps_nothing_alive() {
    /// Asks the pool something when it goes.
    struct Asks(Pool<support::Scripted>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.wait_ready(LONG).expect("it is ready");
        }
    }
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(4).build_lazy().expect("good settings");
    let asks = Asks(pool.clone());
    let plan = WarmUp::blocking(2).required().on_progress(move |_| assert!(asks.0.stats().max_size == 4));
    pool.warm_up(plan).expect("it connects");
    assert_healthy(&pool);

    // One that never comes to its end, and holds a handle: closing the pool lets it go.
    lab.refuse.store(true, SeqCst);
    let alive = Arc::new(());
    let (handle, witness) = (pool.clone(), Arc::clone(&alive));
    let endless = WarmUp::background(4).on_progress(move |_| drop((handle.stats(), Arc::clone(&witness))));
    pool.refresh();
    pool.warm_up(endless).expect("a good plan");
    pool.close();
    drop(pool);
    eventually("nobody holds what it owned", || Arc::strong_count(&alive) == 1);
}
