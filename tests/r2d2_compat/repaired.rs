//! Where r2d2 0.8.10 has a defect and millpond is meant to differ, as `docs/from-r2d2.md` tells its users. Run against
//! the real r2d2, every one of these tests that compiles there fails.

use std::error::Error as _;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::fake::{Complaint, Conn, Door, Fake, PATIENCE, Reporter, Told, eventually};
use super::r2d2::event::{CheckinEvent, TimeoutEvent};
use super::r2d2::{CustomizeConnection, HandleEvent, ManageConnection, Pool};

const SOON: Duration = Duration::from_millis(50);

fn until_somebody_waits<M: ManageConnection>(pool: &Pool<M>) {
    eventually("a waiter", || pool.stats().waiting > 0);
}

/// Lets that much time pass; a late wake-up makes it more, which no test here minds.
fn let_pass(time: Duration) {
    thread::sleep(time);
}

/// All of the pool's connections can be had at once, so no slot was lost.
#[track_caller]
fn lends_its_maximum(pool: &Pool<Fake>) {
    let held: Vec<_> = (0..pool.max_size()).map(|_| pool.get_timeout(PATIENCE).expect("a slot was lost")).collect();
    drop(held);
}

/// r2d2 frees the place of a broken connection without telling those who wait for one.
#[test]
fn a_waiter_is_served_when_a_broken_connection_comes_back() {
    let manager = Fake::new().breaking(|conn| conn.number == 0);
    let pool = Pool::builder().max_size(1).min_idle(Some(0)).build(manager).unwrap();
    let held = pool.get().unwrap();
    let waiter = thread::spawn({
        let pool = pool.clone();
        move || pool.get_timeout(PATIENCE).map(|conn| conn.number)
    });
    until_somebody_waits(&pool);
    drop(held);
    assert_eq!(waiter.join().unwrap().unwrap(), 1);
}

/// r2d2 runs the test on the caller, however long it takes. millpond does so only with a connection that worked within
/// the last half second, because then nothing has had the time to cut it off.
#[test]
fn a_time_out_holds_even_if_the_test_of_a_connection_hangs() {
    let door = Door::default();
    let manager = Fake::new().checking({
        let door = door.clone();
        move |_| {
            door.pass();
            Ok(())
        }
    });
    let pool = Pool::builder().max_size(1).build(manager).unwrap();
    let_pass(Duration::from_millis(600));
    // Returns although the door is still shut. The door itself gives up only after `PATIENCE`.
    let error = pool.get_timeout(SOON).unwrap_err();
    assert!(error.to_string().starts_with("timed out"), "{error}");
    door.open();
    assert_eq!(pool.get().unwrap().number, 0, "the test was passed after all");
}

/// r2d2 documents this and never does it: a busy connection lives for ever.
#[test]
fn a_connection_past_its_lifetime_is_closed_when_it_comes_back() {
    const LIFETIME: Duration = Duration::from_millis(60);
    let (manager, gone) = Fake::watched();
    let pool = Pool::builder().max_size(1).min_idle(Some(0)).max_lifetime(Some(LIFETIME)).build(manager).unwrap();
    let conn = pool.get().unwrap();
    let_pass(LIFETIME);
    assert!(gone.try_recv().is_err(), "not while it is in use");
    drop(conn);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(0));
}

/// r2d2 looks every 30 seconds.
#[test]
fn an_idle_time_out_below_thirty_seconds_is_kept() {
    let (manager, gone) = Fake::watched();
    let manager = manager.connecting(|nth| if nth < 3 { Ok(()) } else { Err(Complaint("only three")) });
    let pool = Pool::builder().max_size(3).idle_timeout(Some(SOON * 4)).build(manager).unwrap();
    let held = pool.get().unwrap();
    let mut closed: Vec<_> = (0..2).map(|_| gone.recv_timeout(PATIENCE).unwrap()).collect();
    closed.sort_unstable();
    closed.dedup();
    assert_eq!(closed.len(), 2);
    assert!(!closed.contains(&held.number), "it is not idle");
}

/// As in r2d2 an idle connection that is too old goes even below the minimum, and another one is opened.
#[test]
fn expired_idle_connections_are_replaced() {
    let (manager, gone) = Fake::watched();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(2).idle_timeout(Some(SOON * 4)).build(manager).unwrap();
    for _ in 0..2 {
        gone.recv_timeout(PATIENCE).unwrap();
    }
    eventually("replacements", || seen.attempts() >= 4);
    assert!(seen.most() <= 2);
    lends_its_maximum(&pool);
}

/// r2d2 never uses that place again, and with all places lost never calls `connect` again.
#[test]
fn a_panic_in_connect_costs_no_slot() {
    let manager = Fake::new().connecting(|nth| {
        assert!(nth >= 4, "wanted: connect fails badly");
        Ok(())
    });
    let pool = Pool::builder().max_size(2).build_unchecked(manager);
    lends_its_maximum(&pool);
}

#[test]
fn a_panic_in_a_test_costs_no_slot() {
    let panics = AtomicUsize::new(3);
    let manager = Fake::new().checking(move |_| {
        let left = panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        assert!(left.is_err(), "wanted: is_valid fails badly");
        Ok(())
    });
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    for _ in 0..4 {
        let _either = catch_unwind(AssertUnwindSafe(|| drop(pool.get_timeout(PATIENCE))));
    }
    lends_its_maximum(&pool);
}

#[test]
fn a_panic_when_asked_about_breakage_costs_no_slot() {
    let calm = Arc::new(AtomicBool::new(false));
    let manager = Fake::new().breaking({
        let calm = Arc::clone(&calm);
        move |_| {
            assert!(calm.load(Ordering::SeqCst), "wanted: has_broken fails badly");
            false
        }
    });
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    for _ in 0..4 {
        let conn = pool.get_timeout(PATIENCE).unwrap();
        let _either = catch_unwind(AssertUnwindSafe(|| drop(conn)));
    }
    calm.store(true, Ordering::SeqCst);
    lends_its_maximum(&pool);
}

#[derive(Debug)]
struct PanicsAtCheckin(AtomicUsize);

impl HandleEvent for PanicsAtCheckin {
    fn handle_checkin(&self, _: CheckinEvent) {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        assert!(left.is_err(), "wanted: handle_checkin fails badly");
    }
}

#[test]
fn a_panic_in_an_event_handler_costs_no_slot() {
    let handler = PanicsAtCheckin(AtomicUsize::new(3));
    let pool = Pool::builder().max_size(2).event_handler(Box::new(handler)).build(Fake::new()).unwrap();
    for _ in 0..4 {
        let conn = pool.get_timeout(PATIENCE).unwrap();
        let _either = catch_unwind(AssertUnwindSafe(|| drop(conn)));
    }
    lends_its_maximum(&pool);
}

#[derive(Debug)]
struct PanicsAtRelease;

impl CustomizeConnection<Conn, Complaint> for PanicsAtRelease {
    fn on_release(&self, _: Conn) {
        panic!("wanted: on_release fails badly");
    }
}

/// In r2d2 it ends the task that looks for old connections, for good.
#[test]
fn a_panic_in_on_release_does_not_end_the_closing_of_idle_connections() {
    let (manager, gone) = Fake::watched();
    let pool = Pool::builder()
        .max_size(1)
        .idle_timeout(Some(SOON))
        .connection_customizer(Box::new(PanicsAtRelease))
        .build(manager)
        .unwrap();
    for nth in 0..3 {
        assert_eq!(gone.recv_timeout(PATIENCE), Ok(nth));
    }
    drop(pool);
}

/// In r2d2 the first one to time out takes the cause with it.
#[test]
fn everybody_who_waited_in_vain_learns_why() {
    let manager = Fake::new().connecting(|_| Err(Complaint("closed on Sundays")));
    let pool = Pool::builder().max_size(1).connection_timeout(SOON * 10).build_unchecked(manager);
    let texts: Vec<_> = thread::scope(|scope| {
        let waiters: Vec<_> = (0..6).map(|_| scope.spawn(|| pool.get().unwrap_err().to_string())).collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
    });
    for text in texts {
        assert_eq!(text, "timed out waiting for connection: closed on Sundays");
    }
}

/// r2d2 keeps a failure until somebody times out, for whatever reason.
#[test]
fn a_failure_that_was_overcome_is_not_blamed_later() {
    let door = Door::default();
    let fail_once = Arc::new(AtomicBool::new(false));
    let manager = Fake::new()
        .checking({
            let fail_once = Arc::clone(&fail_once);
            move |_| if fail_once.swap(false, Ordering::SeqCst) { Err(Complaint("cut off")) } else { Ok(()) }
        })
        .connecting({
            let door = door.clone();
            move |nth| {
                if nth >= 2 {
                    door.pass();
                }
                Ok(())
            }
        });
    let pool = Pool::builder().max_size(2).min_idle(Some(0)).build(manager).unwrap();
    drop((pool.get().unwrap(), pool.get().unwrap()));
    fail_once.store(true, Ordering::SeqCst);
    let _held = pool.get().expect("the other connection is sound");
    let error = pool.get_timeout(SOON).unwrap_err();
    assert_eq!(error.to_string(), "timed out waiting for connection", "the server is only slow now");
    door.open();
}

/// The text is r2d2's; the numbers and the cause behind it are millpond's.
#[test]
fn behind_the_text_is_an_error_with_numbers_and_the_cause() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let _held = pool.get().unwrap();
    let error = pool.get_timeout(SOON).unwrap_err();
    let native = error.source().unwrap().downcast_ref::<millpond::Error>().unwrap();
    assert!(native.is_timeout());
    assert_eq!(native.stats().unwrap().in_use, 1);
    assert_eq!(native.holders().len(), 1);

    let manager = Fake::new().connecting(|_| Err(Complaint("closed on Sundays")));
    let error = Pool::builder().max_size(1).connection_timeout(SOON * 10).build(manager).err().unwrap();
    let native = error.source().unwrap();
    assert_eq!(native.source().unwrap().to_string(), "closed on Sundays");
}

#[test]
fn the_holders_named_are_the_users_own_lines() {
    let pool = Pool::builder().max_size(2).build(Fake::new()).unwrap();
    let _get = pool.get().unwrap();
    let _try_get = pool.try_get().unwrap();
    for holder in pool.holders() {
        let location = holder.location().expect("written down at every checkout");
        assert!(location.file().ends_with("repaired.rs"), "{location}");
    }
}

/// r2d2 counts only idle connections, not those about to be: one busy thread drives it to its maximum.
#[test]
fn one_busy_thread_does_not_drive_the_pool_to_its_maximum() {
    let manager = Fake::new();
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(10).min_idle(Some(1)).build(manager).unwrap();
    for _ in 0..5_000 {
        drop(pool.get().unwrap());
    }
    assert!(seen.attempts() <= 2, "{} connections opened", seen.attempts());
}

/// In r2d2 a borrowed connection keeps the whole pool open.
#[test]
fn idle_connections_close_with_the_last_handle_although_one_is_borrowed() {
    let (manager, gone) = Fake::watched();
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let held = pool.get().unwrap();
    drop(pool);
    for _ in 0..2 {
        assert_ne!(gone.recv_timeout(PATIENCE), Ok(held.number));
    }
    let number = held.number;
    drop(held);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(number));
}

/// r2d2 adds it to an `Instant`, which overflows.
#[test]
fn the_longest_time_out_is_not_too_long() {
    let pool = Pool::builder().max_size(1).connection_timeout(Duration::MAX).build(Fake::new()).unwrap();
    drop(pool.get_timeout(Duration::MAX).unwrap());
    drop(pool.get().unwrap());
}

/// r2d2 may open the replacement while the old connection is still being closed.
#[test]
fn a_replacement_is_not_opened_before_the_old_connection_is_closed() {
    let (reporter, told) = Reporter::new();
    let manager = Fake::new().breaking(|_| true);
    let seen = manager.seen.clone();
    let pool = Pool::builder().max_size(1).event_handler(reporter).build(manager).unwrap();
    for _ in 0..50 {
        drop(pool.get().unwrap());
    }
    assert_eq!(seen.most(), 1);
    let mut open = false;
    for event in told.try_iter() {
        match event {
            Told::Acquire(_) => assert!(!std::mem::replace(&mut open, true), "two at once"),
            Told::Release(_) => open = false,
            _ => {}
        }
    }
}

/// r2d2 reports the checkin of such a connection but not its checkout.
#[test]
fn a_checkout_by_try_get_is_reported() {
    let (reporter, told) = Reporter::new();
    let pool = Pool::builder().max_size(1).event_handler(reporter).build(Fake::new()).unwrap();
    drop(pool.try_get().unwrap());
    let Told::Acquire(id) = told.recv_timeout(PATIENCE).unwrap() else { panic!("opened first") };
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Checkout(id)));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Checkin(id)));
}

/// r2d2's pools cannot be closed. What fails at once is nobody's time-out.
#[test]
fn a_closed_pool_reports_no_time_out() {
    let (reporter, told) = Reporter::new();
    let pool = Pool::builder().max_size(1).event_handler(reporter).build(Fake::new()).unwrap();
    assert!(pool.get_timeout(Duration::ZERO).is_ok_and(|held| pool.get_timeout(SOON).is_err() && held.number == 0));
    pool.close();
    let error = pool.get_timeout(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("is closed"), "{error}");
    assert!(pool.get_timeout(Duration::ZERO).is_err());
    let timeouts: Vec<_> = told.try_iter().filter(|event| matches!(event, Told::Timeout(_))).collect();
    assert_eq!(timeouts, [Told::Timeout(SOON)], "the one before it was closed");
}

#[derive(Debug)]
struct Releases(Sender<usize>);

impl CustomizeConnection<Conn, Complaint> for Releases {
    fn on_release(&self, conn: Conn) {
        let _over = self.0.send(conn.number);
    }
}

/// r2d2 drops them without a word.
#[test]
fn connections_that_go_with_their_pool_are_released_like_any_other() {
    let (send, released) = mpsc::channel();
    let (reporter, told) = Reporter::new();
    let pool = Pool::builder()
        .max_size(2)
        .connection_customizer(Box::new(Releases(send)))
        .event_handler(reporter)
        .build(Fake::new())
        .unwrap();
    drop(pool);
    for _ in 0..2 {
        released.recv_timeout(PATIENCE).unwrap();
    }
    let releases = AtomicUsize::new(0);
    eventually("two releases told", || {
        let more = told.try_iter().filter(|event| matches!(event, Told::Release(_))).count();
        releases.fetch_add(more, Ordering::SeqCst) + more == 2
    });
}

/// Uses the pool from within the time-out event, which r2d2 sends with its lock held.
#[derive(Default)]
struct Meddler(Arc<OnceLock<Pool<Fake>>>);

impl fmt::Debug for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddler")
    }
}

impl HandleEvent for Meddler {
    fn handle_timeout(&self, _: TimeoutEvent) {
        if let Some(pool) = self.0.get() {
            assert_eq!(pool.state().idle_connections, 0);
        }
    }
}

#[test]
fn the_time_out_event_may_use_the_pool() {
    let meddler = Meddler::default();
    let own = Arc::clone(&meddler.0);
    let pool = Pool::builder().max_size(1).event_handler(Box::new(meddler)).build(Fake::new()).unwrap();
    assert!(own.set(pool.clone()).is_ok());
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let _held = pool.get().unwrap();
        done.send(pool.get_timeout(SOON).is_err()).unwrap();
    });
    assert_eq!(finished.recv_timeout(PATIENCE), Ok(true));
}

/// A manager that would give its password away.
#[derive(Debug)]
struct Talkative {
    #[expect(dead_code, reason = "only printed")]
    url: &'static str,
}

impl ManageConnection for Talkative {
    type Connection = ();
    type Error = fmt::Error;

    fn connect(&self) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

/// r2d2 prints the manager, and with diesel's the URL with its password.
#[test]
fn a_printed_pool_names_the_managers_type_and_nothing_from_within() {
    let manager = Talkative { url: "postgres://ada:s3cret@localhost/db" };
    let text = format!("{:?}", Pool::builder().max_size(1).build(manager).unwrap());
    assert!(text.contains("Talkative"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn three_hundred_pools_do_not_bring_nine_hundred_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").map(Iterator::count).ok();
    let Some(before) = threads() else { return };
    let pools: Vec<_> = (0..300).map(|_| Pool::builder().max_size(1).build(Fake::new()).unwrap()).collect();
    // Helpers leave after some idle seconds. Other tests of this process run meanwhile.
    eventually("few threads", || threads().is_some_and(|now| now < before + 40));
    drop(pools);
}
