//! A password that a driver, a panic or a name brings along reaches nothing that the pool prints or logs. One test, because
//! it hears all log lines of its process.

use log::{LevelFilter, Log, Metadata, Record};
use millpond::event::{EventHandler, Panicked};
use millpond::{Error, Fault, Manager, Pool, PooledConnection, R2d2, WarmUp, kind};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

const SENTINEL: &str = "s3nt1nel";

/// With a password, with a token for a user, and with a key for a parameter.
fn url() -> String {
    format!(
        "redis://app:{SENTINEL}@db.example:6379/0 https://{SENTINEL}@api.example/v1 https://api.example/v1?a=b&key={SENTINEL}"
    )
}

struct Lines;

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn hear(text: String) {
    HEARD.lock().expect("no panic").push(text);
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        hear(record.args().to_string());
    }
    fn flush(&self) {}
}

struct Events;

impl EventHandler for Events {
    fn timed_out(&self, pool: &str, error: &Error) {
        hear(format!("{pool}: {error} {error:?}"));
    }
    fn panicked(&self, pool: &str, event: &Panicked<'_>) {
        hear(format!("{pool}: {event:?}"));
    }
}

/// A driver's error that shows what it was given, as many do.
#[derive(Debug)]
struct Chatty;

impl fmt::Display for Chatty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot reach {} (password={SENTINEL})", url())
    }
}

impl std::error::Error for Chatty {}

/// What fails, in turn.
#[derive(Debug)]
struct Client {
    #[allow(dead_code, reason = "it is what a derived `Debug` would print")]
    url: String,
    ill: &'static str,
    opened: AtomicU32,
}

impl Manager for Client {
    type Connection = u32;
    type Error = Chatty;

    fn connect(&self) -> Result<u32, Chatty> {
        let number = self.opened.fetch_add(1, SeqCst);
        match self.ill {
            "connect" => Err(Chatty),
            "panic" if number > 0 => panic!("no such thing as {}", url()),
            _ => Ok(number),
        }
    }
    fn is_valid(&self, _: &mut u32) -> Result<(), Chatty> {
        if self.ill == "is_valid" { Err(Chatty) } else { Ok(()) }
    }
    fn reset(&self, _: &mut u32) -> Result<(), Chatty> {
        if self.ill == "reset" { Err(Chatty) } else { Ok(()) }
    }
    fn classify(&self, _: &Chatty) -> Fault {
        Fault::Transient
    }
}

/// Prints what it was given, and panics with it.
impl millpond::r2d2::HandleEvent for Client {
    fn handle_timeout(&self, _: millpond::r2d2::event::TimeoutEvent) {
        panic!("cannot tell {}", url());
    }
}

impl r2d2::ManageConnection for Client {
    type Connection = u32;
    type Error = Chatty;

    fn connect(&self) -> Result<u32, Chatty> {
        Err(Chatty)
    }
    fn is_valid(&self, _: &mut u32) -> Result<(), Chatty> {
        Err(Chatty)
    }
    fn has_broken(&self, _: &mut u32) -> bool {
        false
    }
}

fn client(ill: &'static str) -> Client {
    Client { url: url(), ill, opened: AtomicU32::new(0) }
}

#[test]
fn no_secret_reaches_a_log_line_an_error_a_debug_output_or_an_event() {
    log::set_logger(&Lines).expect("nobody else logs here");
    log::set_max_level(LevelFilter::Trace);
    // A panic's own message on the terminal is the process's, not the pool's.
    std::panic::set_hook(Box::new(|_| {}));
    for ill in ["connect", "panic", "is_valid", "reset", "none"] {
        let builder = Pool::builder::<kind::Native>(client(ill))
            .name(url())
            .max_size(2)
            .connection_timeout(Duration::from_millis(30))
            .validation(millpond::Validation::Always)
            .warm_up(WarmUp::blocking(2).within(Duration::from_millis(30)))
            .event_handler(Events);
        hear(format!("{builder:?}"));
        let pool = builder.build().expect("a warning is enough");
        hear(format!("{pool:?} {:?} {}", pool.stats(), pool.name()));
        let mut held: Vec<_> = (0..3)
            .filter_map(|_| pool.get().inspect_err(|error| hear(format!("{error} {error:?} {error:#?}"))).ok())
            .collect();
        held.iter_mut().for_each(|conn| PooledConnection::set_label(conn, url()));
        hear(format!("{:?} {held:?}", pool.holders()));
        hear(format!("{:?} {} {}", pool.status(), pool.table(), millpond::Status::of([&pool]).to_json()));
        hear(format!("{:?} {}", pool.incidents(), millpond::render_prometheus([&pool])));
        if let Err(error) = pool.get() {
            hear(format!("{error} {error:?} {:?}", error.holders()));
        }
        drop(held);
        drop(pool.close_and_wait(Duration::from_secs(60)).inspect_err(|error| hear(format!("{error:?}"))));
    }
    hear(format!("{:?}", R2d2(client("none"))));
    let pool = millpond::r2d2::Pool::builder().connection_timeout(Duration::from_millis(30));
    let error = pool.max_size(1).build(client("connect")).expect_err("it does not connect");
    hear(format!("{error} {error:?}"));
    let mut link: Option<&dyn std::error::Error> = Some(&error);
    let mut links = 0;
    while let Some(error) = link {
        hear(format!("{error} {error:?}"));
        (link, links) = (error.source(), links + 1);
    }
    assert_eq!(links, 3, "r2d2's error, millpond's, and the manager's text");
    let pool = millpond::r2d2::Pool::builder().min_idle(Some(0)).event_handler(Box::new(client("none")));
    let pool = pool.build(client("connect")).expect("nothing is opened");
    drop(pool.get_timeout(Duration::ZERO).expect_err("it does not connect"));

    #[cfg(feature = "redis")]
    with_redis();

    // From here on a panic is the test's.
    drop(std::panic::take_hook());
    let heard = HEARD.lock().expect("no panic").clone();
    assert!(heard.len() > 40, "the test hears what it is to judge: {}", heard.len());
    for rest in ["redis://app:***@db.example", "https://***@api.example/v1", "https://api.example/v1?a=b&key=***"] {
        assert!(heard.iter().any(|line| line.contains(rest)), "and shows the rest: {rest}");
    }
    let told =
        |line: &&String| line.starts_with("the event handler Client") && line.contains("panicked: cannot tell redis:");
    assert!(heard.iter().any(|line| told(&line)), "and what a handler panicked with");
    let told: Vec<_> = heard.iter().filter(|line| line.contains(SENTINEL)).collect();
    assert!(told.is_empty(), "{told:#?}");
}

/// The crate's own manager, which is given the URL itself; nobody listens on that port.
#[cfg(feature = "redis")]
fn with_redis() {
    use millpond::redis::redis::{self, RedisError};
    use millpond::redis::{Error, RedisManager, RedisPool};

    let manager = RedisManager::new(format!("redis://app:{SENTINEL}@127.0.0.1:1/0")).expect("it is a URL");
    hear(format!("{manager:?}"));
    let builder = RedisPool::builder(manager).connection_timeout(Duration::from_millis(30));
    hear(format!("{builder:?}"));
    let pool = RedisPool::from(builder.build_lazy().expect("nothing is opened"));
    let error = pool.set("k", "v").expect_err("nobody is there");
    hear(format!("{pool:?} {error} {error:?}"));
    let error = Error::from(RedisError::from((redis::ErrorKind::Client, "says what it was given", url())));
    hear(format!("{error} {error:?}"));
    for port in ["x", "66666", "0"] {
        let error = RedisManager::new(format!("redis://:{SENTINEL}@db:{port}")).expect_err("no such port");
        hear(format!("{error} {error:?}"));
    }
}
