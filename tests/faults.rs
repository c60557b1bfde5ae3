//! Panics, hangs, failures and slow destructors of callbacks.

#![allow(clippy::significant_drop_tightening, reason = "locks of tests are held for as long as it reads well")]

mod support;

use millpond::event::{self, EventHandler};
use millpond::testing::HandClock;
use millpond::{CloseReason, ErrorKind, Pool, PooledConnection, Validation};
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, Refused, assert_healthy, eventually};

/// By default what was idle for this long is checked before it is lent.
const IDLE_FOR_LONG: Duration = Duration::from_millis(600);

/// How often each callback panics: 10 000 in all.
const PANICS: u32 = 10_000 / 8;

#[test]
fn a_panic_in_a_callback_costs_no_place_and_kills_no_thread() {
    for callback in ["connect", "is_valid", "has_broken", "reset", "close", "drop", "classify"] {
        let lab = Lab::new();
        let pool = Pool::builder(lab.manager())
            .max_size(3)
            .validation(Validation::Always)
            .retry(
                millpond::RetryPolicy::default()
                    .initial_delay(Duration::from_nanos(1))
                    .max_delay(Duration::from_nanos(1)),
            )
            .build()
            .expect("it connects");
        lab.set_panics(Some(callback));
        lab.refuse.store(callback == "classify", SeqCst);
        let mut rounds = 0;
        while pool.stats().panics < u64::from(PANICS) {
            match pool.get_timeout(Duration::from_millis(200)) {
                // In every second round the connection is closed, so that the callbacks of its end run too.
                Ok(conn) if rounds % 2 == 0 => PooledConnection::discard(conn),
                Ok(conn) => drop(conn),
                Err(error) => assert_ne!(error.kind(), ErrorKind::Exhausted, "{callback}: {error}"),
            }
            rounds += 1;
            assert!(rounds < 100_000, "{callback}: only {} panics", pool.stats().panics);
        }
        lab.set_panics(None);
        lab.refuse.store(false, SeqCst);
        assert_healthy(&pool);
    }
}

#[test]
fn a_panic_in_a_hook_or_an_event_handler_costs_no_place_either() {
    struct Panics;
    impl EventHandler for Panics {
        fn connected(&self, _: &str, _: &event::Connected) {
            resume_unwind(Box::new("connected"));
        }
        fn checked_out(&self, _: &str, _: &event::CheckedOut<'_>) {
            resume_unwind(Box::new("checked_out"));
        }
        fn checked_in(&self, _: &str, _: &event::CheckedIn<'_>) {
            resume_unwind(Box::new("checked_in"));
        }
        fn closed(&self, _: &str, _: &event::Closed<'_>) {
            resume_unwind(Box::new("closed"));
        }
        fn timed_out(&self, _: &str, _: &millpond::Error) {
            resume_unwind(Box::new("timed_out"));
        }
        fn panicked(&self, _: &str, _: &event::Panicked<'_>) {
            resume_unwind(Box::new("panicked"));
        }
    }
    let lab = Lab::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let pool = Pool::builder(lab.manager())
        .max_size(2)
        .event_handler(Panics)
        .on_open(move |_| {
            // Every second one, or nothing would ever be opened.
            if counted.fetch_add(1, SeqCst) % 2 == 1 {
                resume_unwind(Box::new("on_open"));
            }
            Ok::<_, Refused>(())
        })
        .on_return(|conn| {
            if conn.number.is_multiple_of(3) { resume_unwind(Box::new("on_return")) } else { Ok::<_, Refused>(()) }
        })
        .on_close(|_| resume_unwind(Box::new("on_close")))
        .build()
        .expect("it connects");
    for _ in 0..200 {
        let held = pool.get_timeout(LONG).expect("lent");
        let other = pool.get_timeout(LONG).expect("lent");
        assert!(pool.get_timeout(Duration::from_micros(100)).is_err());
        PooledConnection::discard(held);
        drop(other);
    }
    assert!(pool.stats().panics > 1000, "{}", pool.stats().panics);
    assert_healthy(&pool);
}

#[test]
fn a_connection_over_which_its_user_panicked_is_never_lent_again() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    for n in 1..=20 {
        let conn = pool.get_timeout(LONG).expect("a new one");
        assert_eq!(conn.number, n);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _moved = conn;
            resume_unwind(Box::new("the user's own"));
        }));
        assert!(caught.is_err());
    }
    assert_healthy(&pool);
    assert_eq!(pool.stats().closed.by(CloseReason::Panicked), 20);
}

#[test]
fn hanging_checks_cost_nobody_more_than_the_deadline() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(3).min_idle(3).clock(clock.clone()).build().expect("it connects");
    clock.advance(IDLE_FOR_LONG);
    let gate = Lab::gate(&lab.check_gate);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| pool.get_timeout(Duration::from_millis(200)))).collect();
        eventually("three checks hang", || gate.waiting() == 3 && pool.stats().waiting == 8);
        clock.advance(Duration::from_millis(199));
        assert_eq!(pool.stats().waiting, 8, "nobody gives up before the deadline");
        clock.advance(Duration::from_millis(1));
        for caller in callers {
            let error = caller.join().expect("no panic").expect_err("no check ends");
            assert_eq!(error.kind(), ErrorKind::Validate);
        }
        assert_eq!(gate.waiting(), 3, "all are back while the checks still hang");
        gate.open();
    });
    *lab.check_gate.lock().expect("no panic") = None;
    assert_healthy(&pool);
}

#[test]
fn a_fresh_connection_is_lent_at_once_while_others_are_being_checked() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(5).min_idle(5).clock(clock.clone()).build().expect("it connects");
    let fresh = pool.get().expect("idle");
    clock.advance(IDLE_FOR_LONG);
    let gate = Lab::gate(&lab.check_gate);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| pool.get_timeout(LONG))).collect();
        eventually("four checks run at the same time", || gate.waiting() == 4);
        let number = fresh.number;
        drop(fresh);
        // One of the waiters is served by it; its check goes on for whoever comes next.
        eventually("the fresh one is lent", || pool.stats().idle == 0 && pool.stats().waiting == 3);
        gate.open();
        let numbers: Vec<_> = waiters.into_iter().map(|w| w.join().expect("no panic").expect("lent").number).collect();
        assert!(numbers.contains(&number));
    });
    *lab.check_gate.lock().expect("no panic") = None;
    assert_healthy(&pool);
}

#[test]
fn failing_checks_end_in_their_own_error_and_are_replaced() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(2).clock(clock.clone()).build().expect("it connects");
    drop(pool.get_many(2).expect("opened"));
    clock.advance(IDLE_FOR_LONG);
    lab.invalid.store(true, SeqCst);
    lab.refuse.store(true, SeqCst);
    let error = thread::scope(|scope| {
        let caller = scope.spawn(|| pool.get_timeout(Duration::from_millis(100)));
        eventually("both checks and a connect have failed", || {
            pool.stats().check_failures == 2 && pool.stats().connect_failures > 0
        });
        clock.advance(Duration::from_millis(100));
        caller.join().expect("no panic").expect_err("nothing is valid")
    });
    assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Validate), "{error}");
    assert!(error.source().is_some_and(|cause| cause.is::<Refused>()));
    lab.invalid.store(false, SeqCst);
    lab.refuse.store(false, SeqCst);
    // There may have been another attempt in vain, and the pause after that is not over yet.
    clock.advance(IDLE_FOR_LONG);
    assert_healthy(&pool);
}

#[test]
fn a_hanging_connect_delays_nobody_else() {
    let (hung, fine) = (Lab::new(), Lab::new());
    let gate = Lab::gate(&hung.connect_gate);
    let stuck = Pool::builder(hung.manager()).build_lazy().expect("the settings are good");
    let other = Pool::builder(fine.manager()).build_lazy().expect("the settings are good");
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..64).map(|_| scope.spawn(|| stuck.get_timeout(Duration::from_millis(100)).map(drop))).collect();
        for _ in 0..100 {
            PooledConnection::discard(other.get_timeout(LONG).expect("the other pool is not slowed"));
        }
        for caller in callers {
            let error = caller.join().expect("no panic").expect_err("connecting hangs");
            assert_eq!(error.kind(), ErrorKind::Connect);
        }
    });
    assert!(gate.waiting() <= 4, "no more attempts at once than max_connecting");
    gate.open();
    *hung.connect_gate.lock().expect("no panic") = None;
    assert_healthy(&stuck);
    assert_healthy(&other);
}

#[test]
fn a_destructor_that_hangs_delays_no_return_and_no_checkout() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(2).build().expect("it connects");
    let (one, two) = (pool.get().expect("idle"), pool.get_timeout(LONG).expect("opened"));
    let gate = Lab::gate(&lab.drop_gate);
    PooledConnection::discard(one);
    eventually("it hangs", || gate.waiting() == 1);
    drop(two);
    drop(pool.get().expect("the other connection is there"));
    // Both places are lent although the first connection never finishes closing.
    let both = pool.get_many(2).expect("the place is not lost");
    eventually("the one that hangs is counted as long as it is there", || pool.stats().size == 3);
    drop(both);
    let last = Pool::builder(lab.manager()).max_size(1).build().expect("it connects");
    PooledConnection::discard(last.get().expect("idle"));
    eventually("its place is given away, too", || gate.waiting() == 2 && last.get_timeout(LONG).is_ok());
    let error = last.close_and_wait(Duration::from_millis(300)).expect_err("destructors hang");
    assert_eq!(error.kind(), ErrorKind::Closed);
    gate.open();
    *lab.drop_gate.lock().expect("no panic") = None;
    eventually("it is closed", || pool.stats().size == 2);
    assert_healthy(&pool);
}

#[test]
fn destructors_that_hang_do_not_pile_up_without_end() {
    const MOST: u32 = 16;
    let (lab, clock) = (Lab::new(), HandClock::new());
    let pool = Pool::builder(lab.manager()).max_size(2).clock(clock.clone()).build().expect("it connects");
    let gate = Lab::gate(&lab.drop_gate);
    for hanging in 1..=MOST + 2 {
        PooledConnection::discard(pool.get_timeout(LONG).expect("the places of so many are given away"));
        eventually("it hangs", || gate.waiting() == hanging);
        clock.advance(IDLE_FOR_LONG);
        pool.maintain();
    }
    assert_eq!(pool.stats().size, MOST + 2);
    let error = pool.get_timeout(Duration::ZERO).expect_err("two more keep their places");
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert_eq!(lab.attempts.load(SeqCst), MOST + 2);
    gate.open();
    *lab.drop_gate.lock().expect("no panic") = None;
    eventually("all are closed", || pool.stats().size == 0);
    assert_healthy(&pool);
}

#[test]
fn events_tell_the_whole_story_of_a_connection() {
    #[derive(Default)]
    struct Story(std::sync::Mutex<Vec<String>>);
    impl Story {
        fn note(&self, what: String) {
            self.0.lock().expect("no panic").push(what);
        }
    }
    impl EventHandler for Story {
        fn connected(&self, pool: &str, e: &event::Connected) {
            self.note(format!("{pool} connected {}", e.connection));
        }
        fn checked_out(&self, _: &str, e: &event::CheckedOut<'_>) {
            let user: Option<&String> = e.extensions.get();
            self.note(format!("checked out {} by {user:?} in {}", e.connection, e.location.file()));
        }
        fn checked_in(&self, _: &str, e: &event::CheckedIn<'_>) {
            self.note(format!("checked in {}", e.connection));
        }
        fn reset(&self, _: &str, e: &event::Reset<'_>) {
            self.note(format!("reset {} {}", e.connection, e.error.is_none()));
        }
        fn retired(&self, _: &str, connection: u64, reason: CloseReason) {
            self.note(format!("retired {connection} {reason}"));
        }
        fn closed(&self, _: &str, e: &event::Closed<'_>) {
            self.note(format!("closed {} {} after {}", e.connection, e.reason, e.uses));
        }
        fn state_changed(&self, _: &str, state: event::State) {
            self.note(format!("{state:?}"));
        }
    }
    let story = Arc::new(Story::default());
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager())
        .name("p")
        .max_size(1)
        .max_uses(Some(2))
        .event_handler(Arc::clone(&story))
        .build()
        .expect("it connects");
    let mut conn = pool.get().expect("idle");
    PooledConnection::extensions_mut(&mut conn).insert("me".to_owned());
    drop(conn);
    drop(pool.get().expect("idle"));
    eventually("it is closed", || lab.dropped.load(SeqCst) == 1);
    pool.close_and_wait(LONG).expect("nothing is out");
    let story = story.0.lock().expect("no panic");
    let of_the_second = ["p connected 2", "retired 2 pool closed", "closed 2 pool closed after 0"];
    let first: Vec<_> = story.iter().filter(|line| !of_the_second.contains(&line.as_str())).collect();
    assert_eq!(
        first,
        [
            "p connected 1",
            "checked out 1 by None in tests/faults.rs",
            "checked in 1",
            "reset 1 true",
            "checked out 1 by Some(\"me\") in tests/faults.rs",
            "checked in 1",
            "reset 1 true",
            "retired 1 max uses",
            "closed 1 max uses after 2",
            "Closed",
        ]
    );
    assert_eq!(pool.stats().use_time.count(), 2);
}
