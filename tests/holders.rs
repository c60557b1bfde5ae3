//! Who holds what for too long, and who waits for himself.

mod support;

use log::{LevelFilter, Log, Metadata, Record};
use millpond::event::EventHandler;
use millpond::testing::HandClock;
use millpond::{ErrorKind, Lease, Nested, Pool, PooledConnection};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, assert_healthy, eventually};

/// What this process has logged.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        if record.level() <= log::Level::Warn {
            self.0.lock().expect("no panic").push(record.args().to_string());
        }
    }
    fn flush(&self) {}
}

/// The lines about a pool of this name.
fn logged(pool: &str) -> Vec<String> {
    let lines = LINES.0.lock().expect("no panic");
    lines.iter().filter(|line| line.starts_with(&format!("pool {pool:?}: "))).cloned().collect()
}

fn begin_logging() {
    // Another test of this process may have been first.
    drop(log::set_logger(&LINES));
    log::set_max_level(LevelFilter::Warn);
}

#[test]
fn threads_that_wait_for_each_other_are_told_so_at_the_deadline() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager())
        .max_size(2)
        .nested(Nested::Allow)
        .connection_timeout(Duration::from_millis(200))
        .build()
        .expect("it connects");
    let both_hold = Barrier::new(2);
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            scope.spawn(|| {
                let held = pool.get_timeout(LONG).expect("one each");
                both_hold.wait();
                let error = pool.get().expect_err("the other thread waits too");
                // Or the other one might be served in the last moment.
                both_hold.wait();
                drop(held);
                error
            })
        });
        let bystander = {
            eventually("both wait", || pool.stats().waiting == 2);
            scope.spawn(|| pool.get())
        };
        for thread in threads {
            let error = thread.join().expect("no panic");
            assert_eq!(error.kind(), ErrorKind::Deadlock, "{error}");
            let text = error.to_string();
            assert!(
                text.contains("held by a thread that itself waits") && text.contains("tests/holders.rs:"),
                "{text}"
            );
            assert_eq!(error.holders().len(), 2);
        }
        drop(bystander.join().expect("no panic"));
    });
    assert_healthy(&pool);
}

#[test]
fn a_holder_that_does_not_wait_is_no_deadlock() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager())
        .max_size(2)
        .nested(Nested::Allow)
        .connection_timeout(Duration::from_millis(20))
        .build()
        .expect("it connects");
    let held = pool.get_timeout(LONG).expect("idle");
    thread::scope(|scope| {
        let other = scope.spawn(|| pool.get_timeout(LONG).expect("the second")).join().expect("no panic");
        let error = pool.get().expect_err("both are out");
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        drop(other);
    });
    drop(held);
    assert_healthy(&pool);
}

#[test]
fn a_nested_checkout_is_refused_where_that_is_wanted_and_names_the_holder() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(3).nested(Nested::Deny).build().expect("it connects");
    let held = pool.get().expect("idle");
    let error = pool.get().expect_err("nested");
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    assert!(error.to_string().contains("tests/holders.rs:"), "{error}");
    assert_eq!(pool.with(|_| ()).expect_err("nested").kind(), ErrorKind::Deadlock);
    assert_eq!(pool.get_many(2).expect_err("nested").kind(), ErrorKind::Deadlock);
    thread::scope(|scope| {
        let free = scope.spawn(|| pool.get_timeout(LONG).map(drop)).join().expect("no panic");
        free.expect("another thread holds nothing");
    });
    drop(held);
    drop(pool.get_many(3).expect("several at once are not nested"));
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn a_nested_checkout_that_has_to_wait_is_warned_of_once_for_each_line() {
    begin_logging();
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).name("nesting").max_size(1).build().expect("it connects");
    let held = pool.get().expect("idle");
    for _ in 0..3 {
        drop(pool.get_timeout(Duration::from_millis(1)).expect_err("it is held by this very thread"));
    }
    let error = pool.get_timeout(Duration::from_millis(1)).expect_err("the same");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("; the thread that waited holds 1 itself; held longest by"), "{error}");
    let lines = logged("nesting");
    assert_eq!(lines.len(), 2, "one for each source line: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("tests/holders.rs:")), "{lines:?}");
    drop(held);
    assert_healthy(&pool);
}

#[derive(Default)]
struct Told(Mutex<Vec<(&'static str, Lease)>>);

impl EventHandler for Told {
    fn overdue(&self, _: &str, lease: &Lease) {
        self.0.lock().expect("no panic").push(("overdue", lease.clone()));
    }
    fn overdue_ended(&self, _: &str, lease: &Lease) {
        self.0.lock().expect("no panic").push(("back", lease.clone()));
    }
}

#[test]
fn a_lease_that_is_overdue_is_told_of_once_and_again_when_it_ends() {
    begin_logging();
    let (lab, clock, told) = (Lab::new(), HandClock::new(), Arc::new(Told::default()));
    let pool = Pool::builder(lab.manager())
        .name("leaks")
        .max_size(2)
        .nested(Nested::Allow)
        .leak_threshold(Some(Duration::from_secs(60)))
        .event_handler(Arc::clone(&told))
        .clock(clock.clone())
        .build()
        .expect("it connects");
    let mut long = pool.get_timeout(LONG).expect("idle");
    PooledConnection::set_label(&mut long, "nightly report");
    let short = pool.get_timeout(LONG).expect("opened");
    clock.advance(Duration::from_secs(59));
    pool.maintain();
    assert!(logged("leaks").is_empty());
    drop(short);
    clock.advance(Duration::from_secs(2));
    for _ in 0..3 {
        pool.maintain();
    }
    let lines = logged("leaks");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["is overdue", "tests/holders.rs:", "for 61.0", "(nightly report)"] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    clock.advance(Duration::from_secs(9));
    drop(long);
    clock.advance(Duration::from_secs(9));
    for _ in 0..3 {
        pool.maintain();
    }
    let lines = logged("leaks");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("has come back") && lines[1].contains("for 70."), "{lines:?}");
    let told = told.0.lock().expect("no panic");
    assert_eq!(told.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["overdue", "back"]);
    assert!(told.iter().all(|(_, lease)| lease.label() == Some("nightly report")));
    drop(told);
    assert_healthy(&pool);
}
