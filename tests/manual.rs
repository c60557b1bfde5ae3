//! Pools without threads: callers do the work, and `maintain` the rest. One test, because it counts the threads of its
//! process.

mod support;

use millpond::testing::HandClock;
use millpond::{CloseReason, ErrorKind, FnManager, Maintenance, Pool, RetryPolicy, Validation, WarmUp};
use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;
use support::{LONG, Lab, Refused, assert_healthy, eventually};

const SECOND: Duration = Duration::from_secs(1);

/// Threads of the pool's own, by their names.
#[cfg(target_os = "linux")]
fn own_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a process has threads");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("millpond")).count()
}

#[cfg(not(target_os = "linux"))]
fn own_threads() -> usize {
    0
}

#[test]
fn a_pool_without_threads_does_everything_on_its_callers() {
    everything_happens_on_the_caller();
    waiters_are_served_by_each_other_and_try_again_after_failures();
    upkeep_is_done_by_maintain();
    after_a_failure_what_is_idle_is_checked_by_whoever_takes_it();
    a_caller_that_connects_keeps_nothing_from_others();
    no_caller_begins_another_check_after_its_deadline();
    one_call_of_maintain_opens_all_that_is_wanted();
    assert_eq!(own_threads(), 0, "not one thread was started");
    // The same with a pool that has threads, so that the count is known to count.
    let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).build().expect("it connects");
    if cfg!(target_os = "linux") {
        assert!(own_threads() > 0);
    }
    pool.close_and_wait(LONG).expect("nothing is left");
    eventually("the threads are gone", || own_threads() == 0);
    the_last_pool_is_closed_when_the_threads_have_ended();
}

fn the_last_pool_is_closed_when_the_threads_have_ended() {
    static BEGUN: AtomicU32 = AtomicU32::new(0);
    static ENDED: AtomicU32 = AtomicU32::new(0);
    /// Lives as long as the helper thread that has used it.
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(50));
            ENDED.fetch_add(1, SeqCst);
        }
    }
    thread_local! {
        static SLOW: Slow = {
            BEGUN.fetch_add(1, SeqCst);
            Slow
        };
    }
    let (go, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let slow = move || {
        SLOW.with(|_| ());
        hold.lock().expect("no panic").recv().expect("it may go on");
        Ok::<_, std::io::Error>(())
    };
    let pool = Pool::builder(slow).connection_timeout(LONG).build_lazy().expect("the settings are good");
    let other = Pool::builder(|| Ok::<_, std::io::Error>(())).build().expect("it connects");
    thread::scope(|scope| {
        let caller = scope.spawn(|| drop(pool.get().expect("it connects at last")));
        eventually("a helper connects", || BEGUN.load(SeqCst) == 1);
        other.close_and_wait(LONG).expect("a helper of another pool is not waited for");
        go.send(()).expect("it waits");
        caller.join().expect("no panic");
    });
    pool.close_and_wait(LONG).expect("nothing is left");
    assert_eq!((BEGUN.load(SeqCst), ENDED.load(SeqCst)), (1, 1));
}

fn everything_happens_on_the_caller() {
    /// A connection that knows where it was opened, and is closed on the same thread.
    struct Local(ThreadId);
    impl Drop for Local {
        fn drop(&mut self) {
            assert_eq!(self.0, thread::current().id());
        }
    }
    let open = || Ok::<_, std::io::Error>(Local(thread::current().id()));
    let pool = Pool::builder(open).max_size(2).maintenance(Maintenance::Manual).build().expect("it connects");
    assert_eq!(pool.stats().idle, 1, "opened by `build`");
    let both = pool.get_many(2).expect("the second one is opened here");
    assert!(both.iter().all(|conn| conn.0 == thread::current().id()));
    drop(both);
    drop(pool.get().expect("idle"));
    pool.close_and_wait(LONG).expect("all are closed");
    assert_eq!(pool.stats().size, 0);
}

fn waiters_are_served_by_each_other_and_try_again_after_failures() {
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    let quick = RetryPolicy::default().initial_delay(Duration::from_millis(1)).max_delay(Duration::from_millis(5));
    let builder = Pool::builder(lab.manager()).max_size(2).maintenance(Maintenance::Manual).retry(quick);
    let pool = builder.connection_timeout(LONG).build_lazy().expect("good settings");
    let error = pool.get_timeout(Duration::from_millis(50)).expect_err("it refuses");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
    assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
    assert!(pool.stats().connect_failures > 1, "the caller has tried again while it waited");
    thread::scope(|scope| {
        let users: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.get().expect("the server comes back").exclusively(thread::yield_now);
                    }
                })
            })
            .collect();
        eventually("they wait", || pool.stats().waiting == 6);
        lab.refuse.store(false, SeqCst);
        for user in users {
            user.join().expect("no panic");
        }
    });
    assert!(lab.most_live.load(SeqCst) <= 2);
    assert_healthy(&pool);
}

fn upkeep_is_done_by_maintain() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(6)
        .min_idle(2)
        .idle_timeout(Some(10 * SECOND))
        .max_lifetime(Some(100 * SECOND))
        .keepalive(Some(30 * SECOND))
        .warm_up(WarmUp::background(4))
        .maintenance(Maintenance::Manual)
        .clock(clock.clone())
        .build()
        .expect("nothing is opened before maintain");
    assert_eq!(lab.attempts.load(SeqCst), 0);
    pool.maintain();
    assert_eq!(pool.stats().idle, 4, "the warm-up");
    clock.advance(11 * SECOND);
    pool.maintain();
    assert_eq!((pool.stats().idle, pool.stats().closed.by(CloseReason::IdleTimeout)), (2, 2));
    clock.advance(30 * SECOND);
    pool.maintain();
    pool.maintain();
    assert_eq!(lab.checks.load(SeqCst), 2, "the keepalive");
    clock.advance(100 * SECOND);
    for _ in 0..4 {
        pool.maintain();
    }
    assert_eq!((pool.stats().idle, pool.stats().closed.by(CloseReason::Lifetime)), (2, 2), "replaced");
    assert_healthy(&pool);
}

fn a_caller_that_connects_keeps_nothing_from_others() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(2).maintenance(Maintenance::Manual).build().expect("it connects");
    let held = pool.get().expect("idle");
    let gate = Lab::gate(&lab.connect_gate);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| pool.get_timeout(LONG).map(drop));
        eventually("it connects", || gate.waiting() == 1);
        drop(held);
        drop(pool.get_timeout(LONG).expect("what came back is lent at once"));
        assert_eq!(gate.waiting(), 1);
        gate.open();
        stuck.join().expect("no panic").expect("it is served");
    });
    *lab.connect_gate.lock().expect("no panic") = None;
    assert_healthy(&pool);
}

fn no_caller_begins_another_check_after_its_deadline() {
    let (clock, slow) = (HandClock::new(), Arc::new(AtomicU32::new(0)));
    let (checking, checks) = (clock.clone(), Arc::clone(&slow));
    let manager = FnManager::new(|| Ok::<_, std::io::Error>(())).check(move |()| {
        checks.fetch_add(1, SeqCst);
        checking.advance(SECOND / 5);
        Err(std::io::Error::other("it is gone"))
    });
    let builder = Pool::builder(manager).max_size(10).maintenance(Maintenance::Manual).clock(clock.clone());
    let pool = builder.build().expect("it connects");
    drop(pool.get_many(10).expect("there is room"));
    clock.advance(10 * SECOND);
    drop(pool.get_timeout(SECOND / 2));
    assert_eq!(slow.load(SeqCst), 3, "the third one was begun before the deadline");
}

fn one_call_of_maintain_opens_all_that_is_wanted() {
    let lab = Lab::new();
    let builder = Pool::builder(lab.manager()).max_size(20).min_idle(12).max_connecting(4);
    let pool = builder.maintenance(Maintenance::Manual).build_lazy().expect("good settings");
    pool.maintain();
    assert_eq!(pool.stats().idle, 12);
    assert_healthy(&pool);
}

fn after_a_failure_what_is_idle_is_checked_by_whoever_takes_it() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager())
        .max_size(5)
        .validation(Validation::IfIdleFor(60 * SECOND))
        .maintenance(Maintenance::Manual)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    drop(pool.get_many(5).expect("there is room"));
    clock.advance(70 * SECOND);
    let used = pool.get().expect("checked and lent");
    clock.advance(SECOND);
    drop(used);
    clock.advance(SECOND);
    assert_eq!(lab.checks.load(SeqCst), 1);
    // All but the one just used have gone bad. Nobody is told, except by the first that fails.
    lab.dead_below.store(100, SeqCst);
    let lent: Vec<_> = (0..2).map(|_| pool.get().expect("bad ones are passed over")).collect();
    assert_eq!(lent.iter().filter(|conn| conn.number > 5).count(), 1, "one needed no check, one is new");
    assert_eq!(pool.stats().closed.by(CloseReason::Invalid), 4);
    lab.dead_below.store(0, SeqCst);
    drop(lent);
    // An attempt to connect that fails makes even what was used a second ago suspect.
    let checks = lab.checks.load(SeqCst);
    clock.advance(SECOND);
    lab.refuse.store(true, SeqCst);
    pool.warm_up(WarmUp::background(5)).expect("a good plan");
    pool.maintain();
    assert!(pool.stats().connect_failures > 0);
    drop(pool.get().expect("idle"));
    assert_eq!(lab.checks.load(SeqCst), checks + 1);
    lab.refuse.store(false, SeqCst);
    clock.advance(SECOND);
    assert_healthy(&pool);
}
