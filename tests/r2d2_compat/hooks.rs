//! Customizers, error handlers and event handlers.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::fake::{Complaint, Conn, Errors, Fake, PATIENCE, Reporter, Told};
use super::r2d2::event::{AcquireEvent, CheckinEvent, CheckoutEvent, ReleaseEvent, TimeoutEvent};
use super::r2d2::{CustomizeConnection, HandleEvent, Pool};

/// Signs every connection, and sends those that leave to the test.
#[derive(Debug)]
struct Clerk(Sender<usize>);

impl CustomizeConnection<Conn, Complaint> for Clerk {
    fn on_acquire(&self, conn: &mut Conn) -> Result<(), Complaint> {
        conn.note.push_str("signed");
        Ok(())
    }

    fn on_release(&self, conn: Conn) {
        let _over = self.0.send(conn.number);
    }
}

#[test]
fn a_customizer_sees_each_connection_once_before_anybody_borrows_it() {
    let (sent, _released) = mpsc::channel();
    let pool = Pool::builder().max_size(2).connection_customizer(Box::new(Clerk(sent))).build(Fake::new()).unwrap();
    for _ in 0..2 {
        let one = pool.get().unwrap();
        let two = pool.get().unwrap();
        assert_eq!((one.note.as_str(), two.note.as_str()), ("signed", "signed"));
    }
}

#[test]
fn a_customizer_receives_the_connection_that_came_back_broken() {
    let (sent, released) = mpsc::channel();
    let manager = Fake::new().breaking(|conn| conn.note.ends_with("torn"));
    let pool = Pool::builder().max_size(1).connection_customizer(Box::new(Clerk(sent))).build(manager).unwrap();
    drop(pool.get().unwrap());
    assert!(released.try_recv().is_err(), "coming back is not leaving");
    let mut conn = pool.get().unwrap();
    conn.note.push_str("torn");
    drop(conn);
    assert_eq!(released.try_recv(), Ok(0), "it has left before the borrower goes on");
}

#[test]
fn a_customizer_receives_the_connection_that_failed_its_test() {
    let (sent, released) = mpsc::channel();
    let manager = Fake::new().checking(|conn| if conn.number == 0 { Err(Complaint("cut off")) } else { Ok(()) });
    let pool = Pool::builder().max_size(1).connection_customizer(Box::new(Clerk(sent))).build(manager).unwrap();
    assert_eq!(pool.get().unwrap().number, 1);
    assert_eq!(released.recv_timeout(PATIENCE), Ok(0));
}

/// Refuses the first connection that it sees.
#[derive(Debug)]
struct Choosy {
    first: AtomicBool,
    released: Sender<usize>,
}

impl CustomizeConnection<Conn, Complaint> for Choosy {
    fn on_acquire(&self, _: &mut Conn) -> Result<(), Complaint> {
        if self.first.swap(false, Ordering::SeqCst) { Err(Complaint("not good enough")) } else { Ok(()) }
    }

    fn on_release(&self, conn: Conn) {
        let _over = self.released.send(conn.number);
    }
}

#[test]
fn a_connection_that_its_customizer_refuses_is_dropped_and_another_is_opened() {
    let (released, released_ones) = mpsc::channel();
    let (manager, gone) = Fake::watched();
    let (errors, reported) = Errors::new();
    let pool = Pool::builder()
        .max_size(1)
        .connection_customizer(Box::new(Choosy { first: AtomicBool::new(true), released }))
        .error_handler(errors)
        .build(manager)
        .unwrap();
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(0));
    assert_eq!(reported.recv_timeout(PATIENCE), Ok(Complaint("not good enough")));
    assert_eq!(pool.get().unwrap().number, 1);
    assert!(released_ones.try_recv().is_err(), "it never was in the pool");
}

#[test]
fn the_error_handler_is_given_the_managers_own_errors() {
    let manager = Fake::new()
        .connecting(|nth| if nth == 0 { Err(Complaint("not yet")) } else { Ok(()) })
        .checking(|conn| if conn.number == 1 { Err(Complaint("cut off")) } else { Ok(()) });
    let (errors, reported) = Errors::new();
    let pool = Pool::builder().max_size(1).error_handler(errors).build(manager).unwrap();
    assert_eq!(reported.recv_timeout(PATIENCE), Ok(Complaint("not yet")));
    drop(pool.get().unwrap());
    assert_eq!(reported.recv_timeout(PATIENCE), Ok(Complaint("cut off")));
}

/// Keeps what was logged at the error level by this process.
struct Journal(Mutex<Vec<String>>);

impl log::Log for Journal {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static JOURNAL: Journal = Journal(Mutex::new(Vec::new()));

#[test]
fn errors_are_logged_if_nobody_handles_them() {
    log::set_logger(&JOURNAL).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let manager = Fake::new().connecting(|nth| if nth == 0 { Err(Complaint("a line in the journal")) } else { Ok(()) });
    let _pool = Pool::builder().max_size(1).build(manager).unwrap();
    assert!(JOURNAL.0.lock().unwrap().iter().any(|line| line.contains("a line in the journal")));
}

#[test]
fn the_life_of_a_connection_is_told_in_order() {
    let (reporter, told) = Reporter::new();
    let next = || told.recv_timeout(PATIENCE).unwrap();
    let manager = Fake::new().breaking(|conn| conn.note == "torn");
    // With an idle minimum r2d2 may open the replacement before it has closed the broken one.
    let pool = Pool::builder().max_size(1).min_idle(Some(0)).event_handler(reporter).build(manager).unwrap();

    drop(pool.get().unwrap());
    let mut conn = pool.get().unwrap();
    assert!(pool.get_timeout(Duration::from_millis(23)).is_err());
    conn.note.push_str("torn");
    drop(conn);
    drop(pool.get().unwrap());

    let Told::Acquire(first) = next() else { panic!("first of all, a connection is opened") };
    assert_eq!(next(), Told::Checkout(first));
    assert_eq!(next(), Told::Checkin(first));
    assert_eq!(next(), Told::Checkout(first));
    assert_eq!(next(), Told::Timeout(Duration::from_millis(23)));
    assert_eq!(next(), Told::Checkin(first), "a broken one is checked in too");
    assert_eq!(next(), Told::Release(first));
    let Told::Acquire(second) = next() else { panic!("a replacement is opened") };
    assert!(second > first, "numbers grow");
    assert_eq!(next(), Told::Checkout(second));
    assert_eq!(next(), Told::Checkin(second));
}

#[test]
fn a_checkout_by_get_reports_the_configured_time_out() {
    let (reporter, told) = Reporter::new();
    let pool = Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(37))
        .event_handler(reporter)
        .build_unchecked(Fake::new().connecting(|_| Err(Complaint("closed on Sundays"))));
    assert!(pool.get().is_err());
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Timeout(Duration::from_millis(37))));
}

#[test]
fn connection_numbers_are_unique_over_all_pools() {
    let acquired = || {
        let (reporter, told) = Reporter::new();
        let _pool = Pool::builder().max_size(1).event_handler(reporter).build(Fake::new()).unwrap();
        told.recv_timeout(PATIENCE).unwrap()
    };
    assert_ne!(acquired(), acquired());
}

/// Hands the durations of events, and how they print, to the test.
#[derive(Debug)]
struct Stopwatch(Sender<(&'static str, Duration, String)>);

impl HandleEvent for Stopwatch {
    fn handle_release(&self, event: ReleaseEvent) {
        let _over = self.0.send(("age", event.age(), format!("{event:?}")));
    }

    fn handle_checkout(&self, event: CheckoutEvent) {
        let _over = self.0.send(("wait", event.duration(), format!("{event:?}")));
    }

    fn handle_checkin(&self, event: CheckinEvent) {
        let _over = self.0.send(("use", event.duration(), format!("{event:?}")));
    }
}

#[test]
fn events_tell_how_long_things_took() {
    const HELD: Duration = Duration::from_millis(30);
    let (send, measured) = mpsc::channel();
    let manager = Fake::new().breaking(|_| true);
    let start = std::time::Instant::now();
    let pool = Pool::builder().max_size(1).event_handler(Box::new(Stopwatch(send))).build(manager).unwrap();
    let conn = pool.get().unwrap();
    // Only lets time pass; a late wake-up makes it more.
    std::thread::sleep(HELD);
    drop(conn);
    let all = start.elapsed();

    for (expected, at_least, event) in
        [("wait", Duration::ZERO, "CheckoutEvent"), ("use", HELD, "CheckinEvent"), ("age", HELD, "ReleaseEvent")]
    {
        let (what, duration, text) = measured.recv_timeout(PATIENCE).unwrap();
        assert_eq!(what, expected);
        assert!(duration >= at_least && duration <= all, "{what}: {duration:?} of {all:?}");
        assert!(text.starts_with(event), "{text}");
    }
}

/// Asks the pool for its state from within every event but the time-out.
#[derive(Clone, Default)]
struct Nosy {
    pool: Arc<OnceLock<Pool<Fake>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl fmt::Debug for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nosy")
    }
}

impl Nosy {
    fn ask(&self, event: &'static str) {
        if let Some(pool) = self.pool.get() {
            assert!(pool.state().connections <= pool.max_size());
            self.asked.lock().unwrap().push(event);
        }
    }
}

impl HandleEvent for Nosy {
    fn handle_acquire(&self, _: AcquireEvent) {
        self.ask("acquire");
    }

    fn handle_release(&self, _: ReleaseEvent) {
        self.ask("release");
    }

    fn handle_checkout(&self, _: CheckoutEvent) {
        self.ask("checkout");
    }

    fn handle_checkin(&self, _: CheckinEvent) {
        self.ask("checkin");
    }
}

#[test]
fn an_event_handler_may_use_the_pool() {
    let nosy = Nosy::default();
    let manager = Fake::new().breaking(|_| true);
    let pool =
        Pool::builder().max_size(1).min_idle(Some(0)).event_handler(Box::new(nosy.clone())).build(manager).unwrap();
    assert!(nosy.pool.set(pool.clone()).is_ok());
    drop(pool.get().unwrap());
    drop(pool.get().unwrap());
    let asked = nosy.asked.lock().unwrap().clone();
    let once = ["acquire", "checkout", "checkin", "release"];
    assert_eq!(asked, [once, once].concat());
}

#[test]
fn an_event_handler_implements_only_what_it_wants_to_know() {
    #[derive(Debug)]
    struct OnlyTimeouts(Sender<Duration>);
    impl HandleEvent for OnlyTimeouts {
        fn handle_timeout(&self, event: TimeoutEvent) {
            assert!(format!("{event:?}").starts_with("TimeoutEvent"));
            self.0.send(event.timeout()).unwrap();
        }
    }

    let (send, timeouts) = mpsc::channel();
    let pool = Pool::builder().max_size(1).event_handler(Box::new(OnlyTimeouts(send))).build(Fake::new()).unwrap();
    let _held = pool.get().unwrap();
    assert!(pool.get_timeout(Duration::from_millis(11)).is_err());
    assert_eq!(timeouts.recv_timeout(PATIENCE), Ok(Duration::from_millis(11)));
}
