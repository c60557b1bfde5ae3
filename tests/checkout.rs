//! Borrowing and returning.

mod support;

use millpond::testing::HandClock;
use millpond::{
    Error, ErrorKind, Fairness, FnManager, Maintenance, Manager, Nested, Pool, PooledConnection, Validation,
};
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, Refused, assert_healthy, eventually};

#[test]
fn the_same_connection_is_lent_again_to_the_thread_that_returned_it() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).build().expect("it connects");
    for uses in 1..=1000 {
        let conn = pool.get().expect("idle");
        assert_eq!((conn.number, PooledConnection::uses(&conn)), (1, uses));
    }
    assert_eq!(lab.attempts.load(SeqCst), 1);
    assert_eq!(lab.checks.load(SeqCst), 0, "what is used all the time is not checked");
    assert_eq!(pool.stats().checkouts, 1000);
    assert_eq!(pool.stats().waits, 0);
}

#[test]
fn a_lazy_pool_opens_nothing_until_somebody_comes() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).build_lazy().expect("the settings are good");
    assert_eq!((lab.attempts.load(SeqCst), pool.stats().size), (0, 0));
    assert!(pool.try_get().is_none());
    drop(pool.get().expect("it connects"));
    assert_eq!(lab.attempts.load(SeqCst), 1);
}

#[test]
fn build_opens_what_min_idle_asks_for() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).min_idle(3).max_size(5).build().expect("it connects");
    assert_eq!(pool.stats().size, 3);
    assert_eq!(lab.attempts.load(SeqCst), 3);
}

#[test]
fn a_busy_thread_with_min_idle_one_never_opens_more_than_two() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).min_idle(1).build().expect("it connects");
    for _ in 0..10_000 {
        drop(pool.get().expect("idle"));
    }
    let _held = pool.get().expect("idle");
    eventually("one is kept ready beside the borrowed one", || pool.stats().idle == 1);
    for _ in 0..10_000 {
        drop(pool.get().expect("idle"));
    }
    assert!(lab.attempts.load(SeqCst) <= 3, "{} opened", lab.attempts.load(SeqCst));
}

#[test]
fn no_more_than_the_maximum_are_ever_open_however_many_want_one() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(3).build_lazy().expect("the settings are good");
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let conn = pool.get_timeout(LONG).expect("they are returned at once");
                    conn.exclusively(thread::yield_now);
                    if conn.number % 7 == 0 {
                        PooledConnection::discard(conn);
                    }
                }
            });
        }
    });
    assert!(lab.most_live.load(SeqCst) <= 3, "{} at once", lab.most_live.load(SeqCst));
    assert_healthy(&pool);
}

#[test]
fn several_are_lent_together_or_not_at_all() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(3).connection_timeout(LONG).build().expect("it connects");
    assert_eq!(pool.get_many(3).expect("all are free").len(), 3);
    let held = pool.get().expect("idle");
    pool.set_connection_timeout(Duration::from_millis(30)).expect("more than nothing");
    let error = pool.get_many(3).expect_err("one is out");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(pool.stats().in_use, 1, "those that were gathered went back");
    drop(held);
    let error = pool.get_many(4).expect_err("there are never four");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains('4') && error.to_string().contains("max_size"), "{error}");
    assert!(pool.get_many(0).expect("nothing is always there").is_empty());
}

#[test]
fn several_that_could_not_all_be_had_go_back_as_they_came() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(3).build().expect("it connects");
    drop(pool.get_many(3).expect("there is room"));
    let held = pool.get().expect("idle");
    let resets = lab.resets.load(SeqCst);
    pool.set_connection_timeout(Duration::from_millis(20)).expect("more than nothing");
    let error = pool.get_many(3).expect_err("one is held");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(lab.resets.load(SeqCst), resets, "nobody has used them");
    pool.set_connection_timeout(LONG).expect("more than nothing");
    drop(held);
    let all = pool.get_many(3).expect("all are idle");
    assert!(all.iter().all(|conn| PooledConnection::uses(conn) <= 3), "and nobody is said to have");
    drop(all);
    assert_healthy(&pool);
}

#[test]
fn callers_that_want_several_never_block_each_other_for_good() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(4).connection_timeout(LONG).build().expect("it connects");
    thread::scope(|scope| {
        for want in [2, 3, 4, 3, 2, 1] {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(pool.get_many(want).expect("they are returned at once").len(), want);
                }
            });
        }
    });
    assert_healthy(&pool);
}

#[test]
fn one_may_be_discarded_detached_marked_and_labelled() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(2).build().expect("it connects");
    PooledConnection::discard(pool.get().expect("idle"));
    eventually("it is closed", || lab.dropped.load(SeqCst) == 1);

    let mut conn = pool.get().expect("a new one");
    PooledConnection::mark_broken(&mut conn);
    drop(conn);
    eventually("it is closed", || lab.dropped.load(SeqCst) == 2);

    let conn = PooledConnection::into_inner(pool.get().expect("a new one"));
    assert_healthy(&pool);
    assert_eq!(conn.number, 3, "it is still open");
    let stats = pool.stats();
    assert_eq!(stats.closed.by(millpond::CloseReason::Discarded), 1);
    assert_eq!(stats.closed.by(millpond::CloseReason::Broken), 1);
    assert_eq!(stats.closed.by(millpond::CloseReason::Detached), 1);

    let mut conn = pool.get().expect("idle");
    PooledConnection::set_label(&mut conn, "report");
    assert_eq!(pool.holders()[0].label(), Some("report"));
    let id = PooledConnection::id(&conn);
    assert_eq!(pool.holders()[0].connection(), id);
    drop(conn);
    let _again = pool.get().expect("idle");
    assert_eq!(pool.holders()[0].label(), None, "the label goes with the lease");
}

#[test]
fn extensions_live_as_long_as_their_connection() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    let mut conn = pool.get().expect("idle");
    PooledConnection::extensions_mut(&mut conn).insert(41_u32);
    drop(conn);
    let mut conn = pool.get().expect("idle");
    *PooledConnection::extensions_mut(&mut conn).get_mut::<u32>().expect("kept") += 1;
    assert_eq!(PooledConnection::extensions(&conn).get::<u32>(), Some(&42));
    PooledConnection::discard(conn);
    let conn = pool.get().expect("a new one");
    assert_eq!(PooledConnection::extensions(&conn).get::<u32>(), None);
}

#[test]
fn a_guard_may_be_dropped_on_another_thread_and_outlive_every_handle() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    for _ in 0..100 {
        let conn = pool.get_timeout(LONG).expect("returned");
        thread::spawn(move || drop(conn));
    }
    let conn = pool.get_timeout(LONG).expect("returned");
    drop(pool);
    assert_eq!(conn.number, 1);
    assert_eq!(lab.dropped.load(SeqCst), 0);
    drop(conn);
    eventually("it is closed on return", || lab.dropped.load(SeqCst) == 1);
}

#[test]
fn many_pools_used_by_turns_keep_their_connections_apart() {
    let labs: Vec<_> = (0..9).map(|_| Lab::new()).collect();
    let pools: Vec<_> =
        labs.iter().map(|lab| Pool::builder(lab.manager()).max_size(2).build().expect("it connects")).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2000 {
                    let conn = pools[round % 9].get_timeout(LONG).expect("returned at once");
                    conn.exclusively(|| ());
                }
            });
        }
    });
    for (pool, lab) in pools.iter().zip(&labs) {
        assert!(lab.attempts.load(SeqCst) <= 2);
        assert_healthy(pool);
    }
}

#[test]
fn every_kind_of_manager_is_taken() {
    fn open() -> io::Result<u32> {
        Ok(1)
    }
    assert_eq!(*Pool::new(open).expect("opens").get().expect("opens"), 1);
    assert_eq!(*Pool::new(|| Ok::<_, io::Error>(2)).expect("opens").get().expect("opens"), 2);
    assert_eq!(*Pool::from_fn(|| Ok::<_, io::Error>(3)).expect("opens").get().expect("opens"), 3);
    let lab = Lab::new();
    assert_eq!(Pool::new(Arc::new(lab.manager())).expect("opens").get().expect("opens").number, 1);
    assert_eq!(Pool::new(Box::new(lab.manager())).expect("opens").get().expect("opens").number, 2);
    let shared: Arc<dyn Manager<Connection = support::Conn, Error = Refused>> = Arc::new(lab.manager());
    assert_eq!(Pool::new(shared).expect("opens").get().expect("opens").number, 3);
    let checked = FnManager::new(|| Ok::<_, io::Error>(5)).check(|_| Ok(())).reset(|n| {
        *n += 1;
        Ok(())
    });
    let pool = Pool::new(checked).expect("opens");
    drop(pool.get().expect("opens"));
    assert_eq!(*pool.get().expect("idle"), 6);
}

#[cfg(feature = "r2d2")]
#[test]
fn a_manager_for_r2d2_is_taken_as_it_is() {
    let sqlite = r2d2_sqlite::SqliteConnectionManager::memory();
    let pool = Pool::new(sqlite).expect("opens");
    let one: i64 = pool.with(|c| c.query_row("SELECT 1", [], |row| row.get(0))).expect("idle").expect("valid SQL");
    assert_eq!(one, 1);
}

#[test]
fn a_connection_is_checked_at_every_checkout_if_asked() {
    for fairness in [Fairness::default(), Fairness::Strict] {
        let lab = Lab::new();
        let pool = Pool::builder(lab.manager())
            .validation(Validation::Always)
            .fairness(fairness)
            .build()
            .expect("it connects");
        for _ in 0..50 {
            drop(pool.get().expect("valid"));
        }
        assert!(lab.checks.load(SeqCst) >= 49, "{}", lab.checks.load(SeqCst));
        assert!(pool.try_get().is_none(), "nothing is lent unchecked");
        assert_eq!(lab.attempts.load(SeqCst), 1);
    }
}

#[test]
fn who_does_not_wait_has_what_is_stale_checked_and_gets_it_the_next_time() {
    for validation in [Validation::default(), Validation::Always] {
        let (lab, clock) = (Lab::new(), HandClock::new());
        let pool = Pool::builder(lab.manager()).max_size(2).min_idle(2).validation(validation).clock(clock.clone());
        let pool = pool.build().expect("it connects");
        clock.advance(Duration::from_secs(1));
        let gate = Lab::gate(&lab.check_gate);
        for _ in 0..10 {
            assert!(pool.try_get().is_none(), "nothing is lent unchecked");
        }
        eventually("one of the two is being checked", || gate.waiting() == 1);
        gate.open();
        eventually("it is back", || pool.stats().idle == 2);
        assert_eq!(pool.stats().checks, 1, "one at a time, whoever asks");
        let lent = pool.try_get().expect("it has been checked just now");
        assert_eq!((PooledConnection::uses(&lent), lab.checks.load(SeqCst)), (1, 1));
        drop(lent);
        *lab.check_gate.lock().expect("no panic") = None;
        assert_healthy(&pool);
    }
    // Nobody is there to check anything.
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).validation(Validation::Always).maintenance(Maintenance::Manual);
    let pool = pool.build().expect("it connects");
    assert!(pool.try_get().is_none() && pool.stats().idle == 1);
}

#[test]
fn with_lends_a_plain_reference_and_passes_the_result_through() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    let number = pool.with(|conn: &mut support::Conn| conn.number).expect("idle");
    assert_eq!(number, 1);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.with(|_| std::panic::resume_unwind(Box::new("the user's own")))
    }));
    assert!(caught.is_err());
    eventually("a connection over which its user panicked is closed", || lab.dropped.load(SeqCst) == 1);
    assert_healthy(&pool);
}

#[test]
fn an_error_is_cloneable_sendable_and_says_what_it_is() {
    fn check<T: Clone + Send + Sync + std::error::Error + 'static>(_: &T) {}
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    let error = Pool::builder(lab.manager())
        .name("orders")
        .connection_timeout(Duration::from_millis(30))
        .build()
        .expect_err("it refuses");
    check(&error);
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.is_timeout());
    assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
    assert!(error.to_string().contains("\"orders\""), "{error}");
    assert!(!error.to_string().contains("refused (attempt"), "the source is not in the text: {error}");
}

#[test]
fn an_error_names_its_pool_as_data_and_in_its_text() {
    const SHORT: Duration = Duration::from_millis(20);
    let lab = Lab::new();
    let build = |max| Pool::builder(lab.manager()).name("orders").max_size(max).connection_timeout(SHORT);
    let mut errors = Vec::new();

    let pool = build(1).nested(Nested::Deny).build().expect("it connects");
    errors.push(pool.get_many(2).expect_err("more than there may be"));
    let held = pool.get().expect("idle");
    errors.push(pool.get().expect_err("nested"));
    let other = pool.clone();
    errors.push(thread::spawn(move || other.get().expect_err("exhausted")).join().expect("no panic"));
    errors.push(pool.close_and_wait(SHORT).expect_err("held"));
    drop(held);
    errors.push(pool.get().expect_err("closed"));

    let pool = build(1).max_waiting(Some(0)).build().expect("it connects");
    let held = pool.get().expect("idle");
    errors.push(pool.get().expect_err("nobody may wait"));
    drop(held);
    pool.pause_and_reject();
    errors.push(pool.get().expect_err("paused"));

    lab.refuse.store(true, SeqCst);
    errors.push(build(1).build().expect_err("it refuses"));
    lab.permanent.store(true, SeqCst);
    errors.push(build(1).build_lazy().expect("the settings are good").get().expect_err("for good"));
    let mut kinds = errors.iter().map(Error::kind).collect::<Vec<_>>();
    kinds.dedup();
    {
        use ErrorKind::{Closed, Config, Connect, Deadlock, Exhausted, Overloaded, Paused};
        assert_eq!(kinds, [Config, Deadlock, Exhausted, Closed, Overloaded, Paused, Connect]);
    }
    for error in &errors {
        assert_eq!(error.pool(), Some("orders"), "{error}");
        assert!(error.to_string().contains("\"orders\""), "{error}");
    }

    let error = build(0).build().expect_err("no connections at all");
    assert_eq!((error.kind(), error.pool()), (ErrorKind::Config, None), "there is no pool yet: {error}");
}
