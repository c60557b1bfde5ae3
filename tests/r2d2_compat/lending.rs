//! Opening, lending, taking back and closing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use super::fake::{Complaint, Door, Fake, PATIENCE, eventually};
use super::r2d2::{Pool, PooledConnection};

/// For time-outs that must pass.
const SOON: Duration = Duration::from_millis(50);
/// For time-outs that must pass, but not before a connect or a check on another thread has failed.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

#[test]
fn build_returns_when_all_wanted_connections_are_open() {
    let manager = Fake::new();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let state = pool.state();
    assert_eq!((state.connections, state.idle_connections), (3, 3));
    assert_eq!(seen.attempts(), 3);
}

#[test]
fn who_does_not_wait_has_a_connection_opened_for_the_next() {
    let door = Door::default();
    let manager = Fake::new().connecting_behind(&door);
    let pool = Pool::builder().max_size(2).min_idle(Some(0)).build(manager).unwrap();
    assert!(pool.get_timeout(Duration::ZERO).is_err());
    door.open();
    eventually("a connection that nobody waits for", || pool.state().idle_connections == 1);
    assert!(pool.get_timeout(Duration::ZERO).is_ok());
}

#[test]
fn build_opens_no_more_than_the_idle_minimum() {
    let manager = Fake::new();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(5).min_idle(Some(2)).build(manager).unwrap();
    assert_eq!(pool.state().connections, 2);
    assert_eq!(seen.attempts(), 2);
}

#[test]
fn build_with_an_idle_minimum_of_none_at_all_does_not_need_the_server() {
    let manager = Fake::new().connecting(|_| Err(Complaint("closed on Sundays")));
    let seen = manager.seen.clone();
    let pool = Pool::builder().min_idle(Some(0)).build(manager).unwrap();
    assert_eq!(pool.state().connections, 0);
    assert_eq!(seen.attempts(), 0);
}

#[test]
fn build_gives_up_after_the_connection_time_out_and_says_why() {
    let manager = Fake::new().connecting(|_| Err(Complaint("closed on Sundays")));
    let error = Pool::builder().max_size(2).connection_timeout(LONG_ENOUGH).build(manager).err().unwrap();
    assert_eq!(error.to_string(), "timed out waiting for connection: closed on Sundays");
}

#[test]
fn build_tries_again_when_the_server_refuses_at_first() {
    let manager = Fake::new().connecting(|nth| if nth < 2 { Err(Complaint("not yet")) } else { Ok(()) });
    let pool = Pool::builder().max_size(2).connection_timeout(PATIENCE).build(manager).unwrap();
    assert_eq!(pool.state().connections, 2);
}

#[test]
fn build_unchecked_returns_before_the_server_answers_and_fills_up_by_itself() {
    let door = Door::default();
    let manager = Fake::new().connecting_behind(&door);
    let pool = Pool::builder().max_size(3).min_idle(Some(2)).build_unchecked(manager);
    assert_eq!(pool.state().connections, 0, "nothing is open yet");
    assert!(pool.try_get().is_none());
    door.open();
    eventually("two idle connections", || pool.state().idle_connections == 2);
}

#[test]
fn the_first_checkout_after_build_unchecked_reports_the_refusal() {
    let manager = Fake::new().connecting(|_| Err(Complaint("closed on Sundays")));
    let pool = Pool::builder().connection_timeout(LONG_ENOUGH).build_unchecked(manager);
    let error = pool.get().unwrap_err();
    assert_eq!(error.to_string(), "timed out waiting for connection: closed on Sundays");
}

#[test]
fn connections_are_opened_on_demand_below_the_maximum() {
    let manager = Fake::new();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(3).min_idle(Some(0)).build(manager).unwrap();
    let first = pool.get().unwrap();
    assert_eq!(pool.state().connections, 1);
    let second = pool.get().unwrap();
    assert_ne!(first.number, second.number);
    assert_eq!(seen.attempts(), 2);
}

#[test]
fn one_user_after_the_other_gets_the_same_connection() {
    let pool = Pool::builder().max_size(4).build(Fake::new()).unwrap();
    let first = pool.get().unwrap().number;
    for _ in 0..20 {
        assert_eq!(pool.get().unwrap().number, first);
    }
}

#[test]
fn the_connection_that_came_back_last_goes_out_first() {
    let pool = Pool::builder().max_size(4).build(Fake::new()).unwrap();
    let early = pool.get().unwrap();
    let late = pool.get().unwrap();
    let number = late.number;
    drop(early);
    drop(late);
    assert_eq!(pool.get().unwrap().number, number);
}

#[test]
fn no_more_than_the_maximum_is_lent() {
    let pool = Pool::builder().max_size(2).build(Fake::new()).unwrap();
    let first = pool.get().unwrap();
    let second = pool.get().unwrap();
    assert_ne!(first.number, second.number);
    assert!(pool.try_get().is_none());
    assert!(pool.get_timeout(SOON).is_err());
    drop(first);
    assert!(pool.try_get().is_some());
    assert!(pool.get_timeout(SOON).is_ok());
}

#[test]
fn many_threads_never_see_more_than_the_maximum_open() {
    const THREADS: usize = 8;
    let manager = Fake::new();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(3).min_idle(Some(0)).build(manager).unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..200 {
                    let conn = pool.get().unwrap();
                    thread::yield_now();
                    drop(conn);
                }
            });
        }
    });
    assert!(seen.most() <= 3);
    assert_eq!(pool.state().idle_connections, pool.state().connections);
}

#[test]
fn a_waiter_receives_the_connection_that_another_thread_returns() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let held = pool.get().unwrap();
    let (ready, coming) = mpsc::channel();
    let waiter = thread::spawn(move || {
        ready.send(()).unwrap();
        pool.get().unwrap().number
    });
    coming.recv().unwrap();
    let number = held.number;
    drop(held);
    assert_eq!(waiter.join().unwrap(), number);
}

#[test]
fn try_get_takes_an_idle_connection_and_opens_none() {
    let manager = Fake::new();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(2).min_idle(Some(0)).build(manager).unwrap();
    assert!(pool.try_get().is_none());
    assert_eq!(seen.attempts(), 0);
    drop(pool.get().unwrap());
    assert!(pool.try_get().is_some());
    assert_eq!(seen.attempts(), 1);
}

#[test]
fn a_time_out_of_zero_takes_what_is_there_and_does_not_wait() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let held = pool.get_timeout(Duration::ZERO).unwrap();
    assert!(pool.get_timeout(Duration::ZERO).is_err());
    drop(held);
    assert!(pool.get_timeout(Duration::ZERO).is_ok());
}

#[test]
fn who_does_not_wait_gets_what_has_been_idle_for_a_while_too() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    // Longer than millpond trusts a connection without asking.
    thread::sleep(Duration::from_millis(600));
    assert!(pool.get_timeout(Duration::ZERO).is_ok());
    thread::sleep(Duration::from_millis(600));
    assert!(pool.try_get().is_some());
}

#[test]
fn get_waits_as_long_as_the_connection_time_out_says() {
    let pool = Pool::builder().max_size(1).connection_timeout(SOON).build(Fake::new()).unwrap();
    let held = pool.get().unwrap();
    let asked = std::time::Instant::now();
    assert!(pool.get().is_err());
    assert!(asked.elapsed() >= SOON, "gave up too early");
    drop(held);
    assert!(pool.get().is_ok());
}

#[test]
fn a_connect_that_comes_too_late_for_its_caller_serves_the_next_one() {
    let door = Door::default();
    let manager = Fake::new().connecting_behind(&door);
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(1).min_idle(Some(0)).build(manager).unwrap();
    assert!(pool.get_timeout(SOON).is_err());
    door.open();
    assert_eq!(pool.get().unwrap().number, 0);
    assert_eq!(seen.attempts(), 1);
}

#[test]
fn the_idle_minimum_is_filled_up_behind_the_borrowers() {
    let pool = Pool::builder().max_size(5).min_idle(Some(2)).build(Fake::new()).unwrap();
    let held: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    eventually("two idle beside three in use", || {
        let state = pool.state();
        (state.connections, state.idle_connections) == (5, 2)
    });
    drop(held);
    let state = pool.state();
    assert_eq!((state.connections, state.idle_connections), (5, 5), "what came back is kept");
}

#[test]
fn a_broken_connection_is_closed_by_the_time_it_is_returned() {
    let (manager, gone) = Fake::watched();
    let manager = manager.breaking(|conn| conn.note == "torn");
    let pool = Pool::builder().max_size(1).build(manager).unwrap();

    drop(pool.get().unwrap());
    assert!(gone.try_recv().is_err(), "a sound one is kept");

    let mut conn = pool.get().unwrap();
    conn.note.push_str("torn");
    drop(conn);
    assert_eq!(gone.try_recv(), Ok(0));
    assert_eq!(pool.get().unwrap().number, 1, "another takes its place");
}

#[test]
fn breakage_is_asked_for_on_the_returning_thread_even_while_it_panics() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let manager = Fake::new().breaking({
        let asked = Arc::clone(&asked);
        move |_| {
            asked.lock().unwrap().push((thread::current().id(), thread::panicking()));
            thread::panicking()
        }
    });
    let pool = Pool::builder().max_size(1).build(manager).unwrap();
    let culprit = thread::spawn({
        let pool = pool.clone();
        move || {
            let _conn = pool.get().unwrap();
            std::panic::resume_unwind(Box::new("the borrower fails"));
        }
    });
    let id = culprit.thread().id();
    assert!(culprit.join().is_err());
    assert_eq!(*asked.lock().unwrap(), [(id, true)]);
    assert_eq!(pool.get().unwrap().number, 1, "the failed borrower's connection is not lent again");
}

#[test]
fn every_checkout_is_tested_by_default_and_none_if_switched_off() {
    for (test, checks) in [(true, 5), (false, 0)] {
        let manager = Fake::new();
        let seen = manager.seen.clone();
        let pool = Pool::builder().max_size(1).test_on_check_out(test).build(manager).unwrap();
        for _ in 0..4 {
            drop(pool.get().unwrap());
        }
        drop(pool.try_get().unwrap());
        assert_eq!(seen.checks(), checks);
    }
}

#[test]
fn a_connection_that_fails_its_test_is_replaced_before_the_borrower_sees_it() {
    let (manager, gone) = Fake::watched();
    let manager = manager.checking(|conn| if conn.number == 0 { Err(Complaint("cut off")) } else { Ok(()) });
    let pool = Pool::builder().max_size(1).build(manager).unwrap();
    assert_eq!(pool.get().unwrap().number, 1);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(0));
    assert_eq!(pool.state().connections, 1);
}

#[test]
fn a_checkout_that_finds_only_dead_connections_reports_the_last_failure() {
    let refuse = Arc::new(AtomicBool::new(false));
    let manager = Fake::new().checking(|_| Err(Complaint("cut off"))).connecting({
        let refuse = Arc::clone(&refuse);
        move |_| if refuse.load(Ordering::SeqCst) { Err(Complaint("cut off")) } else { Ok(()) }
    });
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    refuse.store(true, Ordering::SeqCst);
    let error = pool.get_timeout(LONG_ENOUGH).unwrap_err();
    assert_eq!(error.to_string(), "timed out waiting for connection: cut off");
}

#[test]
fn a_slow_test_of_one_connection_holds_nobody_else_up() {
    let door = Door::default();
    let (entered, testing) = mpsc::channel();
    let first = AtomicBool::new(true);
    let manager = Fake::new().checking({
        let door = door.clone();
        move |_| {
            if first.swap(false, Ordering::SeqCst) {
                entered.send(()).unwrap();
                door.pass();
            }
            Ok(())
        }
    });
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    let slow = thread::spawn({
        let pool = pool.clone();
        move || pool.get().unwrap().number
    });
    testing.recv_timeout(PATIENCE).unwrap();
    let quick = pool.get().unwrap().number;
    door.open();
    assert_ne!(slow.join().unwrap(), quick);
}

#[test]
fn extensions_stay_with_their_connection_until_it_is_closed() {
    let manager = Fake::new().breaking(|conn| conn.note == "torn");
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    let mut one = pool.get().unwrap();
    let two = pool.get().unwrap();
    PooledConnection::extensions_mut(&mut one).insert("one");
    assert!(PooledConnection::extensions(&two).get::<&str>().is_none(), "they are not shared");

    drop(one);
    let mut one = pool.get().unwrap();
    assert_eq!(PooledConnection::extensions(&one).get(), Some(&"one"));

    one.note.push_str("torn");
    drop(one);
    let fresh = pool.get().unwrap();
    assert!(PooledConnection::extensions(&fresh).get::<&str>().is_none(), "a new connection starts without");
}

#[test]
fn dropping_the_last_handle_closes_the_idle_connections() {
    let (manager, gone) = Fake::watched();
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let clone = pool.clone();
    drop(pool);
    assert!(gone.try_recv().is_err(), "a clone keeps them");
    drop(clone);
    let mut numbers: Vec<_> = (0..3).map(|_| gone.recv_timeout(PATIENCE).unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn a_borrowed_connection_works_on_after_the_pool_is_gone() {
    let (manager, gone) = Fake::watched();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    let mut conn = pool.get().unwrap();
    drop(pool);
    conn.note.push_str("still here");
    assert_eq!(conn.note, "still here");
    drop(conn);
    for _ in 0..2 {
        gone.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(seen.live(), 0);
}
