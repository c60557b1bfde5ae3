//! Names, types, defaults and texts.

use std::error::Error as _;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use scheduled_thread_pool::ScheduledThreadPool;

use super::fake::{Complaint, Conn, Fake};
use super::r2d2;

type Pool = r2d2::Pool<Fake>;
type Guard = r2d2::PooledConnection<Fake>;
type Builder = r2d2::Builder<Fake>;

fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("should have panicked");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn a_pool_is_a_handle_that_threads_can_share() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Pool>();

    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let clone = pool.clone();
    let conn = pool.get().unwrap();
    assert_eq!(clone.state().idle_connections, 0, "a clone is the same pool");
    drop(conn);
    assert_eq!(clone.state().idle_connections, 1);
}

#[test]
fn a_borrowed_connection_can_be_moved_to_another_thread() {
    fn movable<T: Send + 'static>() {}
    movable::<Guard>();

    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let mut conn = pool.get().unwrap();
    conn.note.push_str("here");
    let conn = thread::spawn(move || {
        conn.note.push_str(" and there");
        conn
    })
    .join()
    .unwrap();
    assert_eq!(conn.note, "here and there");
}

#[test]
fn a_borrowed_connection_stands_in_for_a_reference_to_the_connection() {
    fn needs_shared(conn: &Conn) -> usize {
        conn.number
    }
    fn needs_exclusive(conn: &mut Conn) {
        conn.note.push('x');
    }

    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let mut conn = pool.get().unwrap();
    assert_eq!(needs_shared(&conn), 0);
    needs_exclusive(&mut conn);
    let plain: &mut Conn = &mut conn;
    plain.note.push('y');
    assert_eq!(conn.note, "xy");
}

/// Manager whose error may not leave its thread, which r2d2's trait allows.
struct Homebody;

#[derive(Debug)]
struct LocalError(#[expect(dead_code, reason = "only makes the error !Send")] Rc<str>);

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot leave this thread")
    }
}

impl std::error::Error for LocalError {}

impl r2d2::ManageConnection for Homebody {
    type Connection = u8;
    type Error = LocalError;

    fn connect(&self) -> Result<u8, LocalError> {
        Ok(7)
    }

    fn is_valid(&self, conn: &mut u8) -> Result<(), LocalError> {
        if *conn == 7 { Ok(()) } else { Err(LocalError(Rc::from("odd"))) }
    }

    fn has_broken(&self, _: &mut u8) -> bool {
        false
    }
}

#[test]
fn generic_code_needs_no_bound_but_the_managers_trait() {
    #[derive(Clone)]
    struct Service<M: r2d2::ManageConnection> {
        pool: r2d2::Pool<M>,
    }
    fn serve<M: r2d2::ManageConnection>(service: &Service<M>) -> Result<r2d2::PooledConnection<M>, r2d2::Error> {
        service.pool.get()
    }
    fn open<M>(manager: M) -> Result<r2d2::Pool<M>, r2d2::Error>
    where
        M: r2d2::ManageConnection,
    {
        r2d2::Builder::new().max_size(1).build(manager)
    }
    fn elsewhere<M: r2d2::ManageConnection>(pool: r2d2::Pool<M>) -> u32 {
        thread::spawn(move || pool.state().connections).join().unwrap()
    }

    let pool = open(Homebody).unwrap();
    assert_eq!(*serve(&Service { pool: pool.clone() }).unwrap(), 7);
    assert_eq!(elsewhere(pool), 1);
}

#[test]
fn the_pools_error_travels_as_any_error_does() {
    fn travels<T: std::error::Error + Send + Sync + 'static>() {}
    travels::<r2d2::Error>();

    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let work =
        || -> Result<usize, Box<dyn std::error::Error + Send + Sync>> { Ok(pool.get_timeout(Duration::ZERO)?.number) };
    assert_eq!(work().unwrap(), 0);
    let _out = pool.get().unwrap();
    let error = work().unwrap_err();
    assert!(error.is::<r2d2::Error>());
}

#[test]
fn a_time_out_without_a_known_cause_says_only_that() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let _out = pool.get().unwrap();
    let error = pool.get_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.to_string(), "timed out waiting for connection");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let pool = Builder::new().build_unchecked(Fake::new());
    assert_eq!(pool.max_size(), 10);
    assert_eq!(pool.min_idle(), None);
    assert_eq!(pool.connection_timeout(), Duration::from_secs(30));
    assert_eq!(pool.max_lifetime(), Some(Duration::from_secs(30 * 60)));
    assert_eq!(pool.idle_timeout(), Some(Duration::from_secs(10 * 60)));
    assert!(pool.test_on_check_out());
}

#[test]
fn a_pool_repeats_the_settings_that_it_was_built_with() {
    let pool = Pool::builder()
        .max_size(4)
        .min_idle(Some(2))
        .connection_timeout(Duration::from_secs(3))
        .max_lifetime(Some(Duration::from_secs(50)))
        .idle_timeout(None)
        .test_on_check_out(false)
        .build(Fake::new())
        .unwrap();
    assert_eq!(pool.max_size(), 4);
    assert_eq!(pool.min_idle(), Some(2));
    assert_eq!(pool.connection_timeout(), Duration::from_secs(3));
    assert_eq!(pool.max_lifetime(), Some(Duration::from_secs(50)));
    assert_eq!(pool.idle_timeout(), None);
    assert!(!pool.test_on_check_out());
}

#[test]
fn every_way_to_a_builder_starts_from_the_same_settings() {
    let text = format!("{:?}", Builder::new());
    assert_eq!(format!("{:?}", Builder::default()), text);
    assert_eq!(format!("{:?}", Pool::builder()), text);
    assert_eq!(Pool::new(Fake::new()).unwrap().max_size(), Builder::new().build_unchecked(Fake::new()).max_size());
}

#[test]
fn a_setter_refuses_zero_at_once() {
    for (setting, set) in [
        ("max_size", (|| drop(Builder::new().max_size(0))) as fn()),
        ("max_lifetime", || drop(Builder::new().max_lifetime(Some(Duration::ZERO)))),
        ("idle_timeout", || drop(Builder::new().idle_timeout(Some(Duration::ZERO)))),
        ("connection_timeout", || drop(Builder::new().connection_timeout(Duration::ZERO))),
    ] {
        let text = panic_text(set);
        assert!(text.contains(&format!("{setting} must be positive")), "{text}");
    }
}

#[test]
fn both_ways_to_build_refuse_a_minimum_above_the_maximum() {
    let builder = || Builder::new().max_size(2).min_idle(Some(3));
    let texts = [
        panic_text(|| drop(builder().build(Fake::new()))),
        panic_text(|| drop(builder().build_unchecked(Fake::new()))),
    ];
    for text in texts {
        assert_eq!(text, "min_idle must be no larger than max_size");
    }
}

#[test]
fn the_minimum_may_be_set_before_the_maximum_that_allows_it() {
    let pool = Pool::builder().min_idle(Some(11)).max_size(12).build_unchecked(Fake::new());
    assert_eq!((pool.min_idle(), pool.max_size()), (Some(11), 12));
}

#[test]
fn debug_output_shows_settings_and_state() {
    let settings = [
        "max_size: 1",
        "min_idle: None",
        "test_on_check_out: true",
        "max_lifetime: Some(1800s)",
        "idle_timeout: Some(600s)",
        "connection_timeout: 30s",
        "error_handler: LoggingErrorHandler",
        "event_handler: NopEventHandler",
        "connection_customizer: NopConnectionCustomizer",
    ];
    let builder = format!("{:?}", Builder::new().max_size(1));
    assert!(builder.starts_with("Builder {"), "{builder}");

    let pool = r2d2::Pool::builder().max_size(1).build(Named).unwrap();
    let text = format!("{pool:?}");
    assert!(
        text.starts_with("Pool { state: State { connections: 1, idle_connections: 1 }, config: Config {"),
        "{text}"
    );
    assert!(text.contains("manager: "), "{text}");
    for setting in settings {
        assert!(builder.contains(setting), "{setting} in {builder}");
        assert!(text.contains(setting), "{setting} in {text}");
    }
}

/// A manager with `Debug`, which r2d2 asks for before it prints a pool.
#[derive(Debug)]
struct Named;

impl r2d2::ManageConnection for Named {
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

#[test]
fn a_borrowed_connection_prints_as_the_connection() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    assert_eq!(format!("{:?}", pool.get().unwrap()), "Conn#0");
}

#[test]
fn the_state_can_be_printed() {
    let pool = Pool::builder().max_size(3).min_idle(Some(1)).build(Fake::new()).unwrap();
    let r2d2::State { connections, idle_connections, .. } = pool.state();
    assert_eq!((connections, idle_connections), (1, 1));
    assert_eq!(format!("{:?}", pool.state()), "State { connections: 1, idle_connections: 1 }");
}

#[test]
fn pools_may_be_given_one_timer_pool_to_share() {
    let timers = Arc::new(ScheduledThreadPool::new(2));
    for _ in 0..2 {
        let pool = Pool::builder().max_size(1).thread_pool(Arc::clone(&timers)).build(Fake::new()).unwrap();
        assert_eq!(pool.get().unwrap().number, 0);
    }
}

#[test]
fn the_supplied_handlers_are_plain_values() {
    fn plain<T: Copy + fmt::Debug + Send + Sync + 'static>(_: T) {}
    plain(r2d2::NopErrorHandler);
    plain(r2d2::LoggingErrorHandler);
    plain(r2d2::NopConnectionCustomizer);
    plain(r2d2::NopEventHandler);
    plain(r2d2::event::NopEventHandler);

    let pool = Pool::builder()
        .max_size(1)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .event_handler(Box::new(r2d2::NopEventHandler))
        .connection_customizer(Box::new(r2d2::NopConnectionCustomizer))
        .build(Fake::new())
        .unwrap();
    assert_eq!(pool.get().unwrap().number, 0);
}

#[test]
fn extensions_hold_one_value_per_type() {
    let mut extensions = r2d2::Extensions::new();
    assert_eq!(extensions.get::<u8>(), None);
    assert_eq!(extensions.insert(1_u8), None);
    assert_eq!(extensions.insert(2_u8), Some(1));
    assert_eq!(extensions.insert("two"), None);
    *extensions.get_mut::<u8>().unwrap() += 1;
    assert_eq!(extensions.get::<u8>(), Some(&3));
    assert_eq!(extensions.remove::<u8>(), Some(3));
    assert_eq!(extensions.remove::<u8>(), None);
    assert_eq!(extensions.get::<&str>(), Some(&"two"));
    extensions.clear();
    assert_eq!(extensions.get::<&str>(), None);
    assert!(r2d2::Extensions::default().get_mut::<u8>().is_none());
}

#[test]
#[allow(clippy::type_complexity, reason = "signatures in full are what this is about")]
fn every_function_has_r2d2s_signature() {
    use r2d2::event::{AcquireEvent, CheckinEvent, CheckoutEvent, HandleEvent, ReleaseEvent, TimeoutEvent};
    use r2d2::{CustomizeConnection, Error, Extensions, HandleError, ManageConnection, NopEventHandler, State};

    let _: (fn(Fake) -> Result<Pool, Error>, fn() -> Builder) = (Pool::new, Pool::builder);
    let _: fn(&Pool) -> Result<Guard, Error> = Pool::get;
    let _: fn(&Pool, Duration) -> Result<Guard, Error> = Pool::get_timeout;
    let _: (fn(&Pool) -> Option<Guard>, fn(&Pool) -> State) = (Pool::try_get, Pool::state);
    let _: (fn(&Pool) -> u32, fn(&Pool) -> Option<u32>) = (Pool::max_size, Pool::min_idle);
    let _: (fn(&Pool) -> bool, fn(&Pool) -> Duration) = (Pool::test_on_check_out, Pool::connection_timeout);
    let _: [fn(&Pool) -> Option<Duration>; 2] = [Pool::max_lifetime, Pool::idle_timeout];
    let _: (for<'a> fn(&'a Guard) -> &'a Extensions, for<'a> fn(&'a mut Guard) -> &'a mut Extensions) =
        (Guard::extensions, Guard::extensions_mut);

    let _: (fn() -> Builder, fn(Builder, u32) -> Builder) = (Builder::new, Builder::max_size);
    let _: (fn(Builder, Option<u32>) -> Builder, fn(Builder, bool) -> Builder) =
        (Builder::min_idle, Builder::test_on_check_out);
    let _: [fn(Builder, Option<Duration>) -> Builder; 2] = [Builder::max_lifetime, Builder::idle_timeout];
    let _: fn(Builder, Duration) -> Builder = Builder::connection_timeout;
    let _: fn(Builder, Arc<ScheduledThreadPool>) -> Builder = Builder::thread_pool;
    let _: fn(Builder, Box<dyn HandleError<Complaint>>) -> Builder = Builder::error_handler;
    let _: fn(Builder, Box<dyn HandleEvent>) -> Builder = Builder::event_handler;
    let _: fn(Builder, Box<dyn CustomizeConnection<Conn, Complaint>>) -> Builder = Builder::connection_customizer;
    let _: (fn(Builder, Fake) -> Result<Pool, Error>, fn(Builder, Fake) -> Pool) =
        (Builder::build, Builder::build_unchecked);

    let _: fn(&Fake) -> Result<Conn, Complaint> = <Fake as ManageConnection>::connect;
    let _: fn(&Fake, &mut Conn) -> Result<(), Complaint> = <Fake as ManageConnection>::is_valid;
    let _: fn(&Fake, &mut Conn) -> bool = <Fake as ManageConnection>::has_broken;
    let _: fn(&r2d2::NopErrorHandler, Rc<u8>) = HandleError::<Rc<u8>>::handle_error;
    let _: fn(&r2d2::LoggingErrorHandler, LocalError) = HandleError::<LocalError>::handle_error;
    let _: fn(&r2d2::NopConnectionCustomizer, &mut u8) -> Result<(), Rc<u8>> = CustomizeConnection::on_acquire;
    let _: fn(&r2d2::NopConnectionCustomizer, u8) = CustomizeConnection::<u8, Rc<u8>>::on_release;

    let _: fn(&NopEventHandler, AcquireEvent) = HandleEvent::handle_acquire;
    let _: fn(&NopEventHandler, ReleaseEvent) = HandleEvent::handle_release;
    let _: fn(&NopEventHandler, CheckoutEvent) = HandleEvent::handle_checkout;
    let _: fn(&NopEventHandler, TimeoutEvent) = HandleEvent::handle_timeout;
    let _: fn(&NopEventHandler, CheckinEvent) = HandleEvent::handle_checkin;
    let _: (fn(&AcquireEvent) -> u64, fn(&ReleaseEvent) -> u64) =
        (AcquireEvent::connection_id, ReleaseEvent::connection_id);
    let _: (fn(&CheckoutEvent) -> u64, fn(&CheckinEvent) -> u64) =
        (CheckoutEvent::connection_id, CheckinEvent::connection_id);
    let _: (fn(&ReleaseEvent) -> Duration, fn(&TimeoutEvent) -> Duration) = (ReleaseEvent::age, TimeoutEvent::timeout);
    let _: (fn(&CheckoutEvent) -> Duration, fn(&CheckinEvent) -> Duration) =
        (CheckoutEvent::duration, CheckinEvent::duration);
    let _: fn(&mut Extensions, String) -> Option<String> = Extensions::insert;
}

#[test]
fn every_type_may_do_what_r2d2_lets_it_do() {
    fn prints<T: fmt::Debug>() {}
    fn crosses<T: Send + Sync>() {}
    prints::<(r2d2::Builder<Homebody>, r2d2::PooledConnection<Homebody>, r2d2::Pool<Named>)>();
    prints::<(r2d2::State, r2d2::Error, r2d2::event::AcquireEvent, r2d2::event::ReleaseEvent)>();
    prints::<(r2d2::event::CheckoutEvent, r2d2::event::TimeoutEvent, r2d2::event::CheckinEvent)>();
    crosses::<(r2d2::Builder<Homebody>, r2d2::Pool<Homebody>, r2d2::PooledConnection<Homebody>)>();
    crosses::<(r2d2::State, r2d2::Error, r2d2::Extensions, Box<dyn r2d2::HandleEvent>)>();
    crosses::<(Box<dyn r2d2::HandleError<Rc<u8>>>, Box<dyn r2d2::CustomizeConnection<u8, Rc<u8>>>)>();
}

#[test]
#[expect(deprecated, reason = "r2d2 says it there, too")]
fn the_error_says_what_it_is_in_the_old_way_too() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let _out = pool.get().unwrap();
    assert_eq!(pool.get_timeout(Duration::ZERO).unwrap_err().description(), "timed out waiting for connection");
}

#[test]
fn an_error_can_be_asked_for_its_source() {
    let pool = Pool::builder().max_size(1).build(Fake::new()).unwrap();
    let _out = pool.get().unwrap();
    let error = pool.get_timeout(Duration::ZERO).unwrap_err();
    let _any = error.source();
    assert!(format!("{error:?}").starts_with("Error"));
}
