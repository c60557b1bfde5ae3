//! A password stays out of the log, also where a program names the handler itself. One test, because it hears all log lines of
//! its process.

use log::{LevelFilter, Log, Metadata, Record};
use r2d2::{HandleError, LoggingErrorHandler};
use std::io;
use std::sync::Mutex;

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        HEARD.lock().expect("no panic").push(line);
    }

    fn flush(&self) {}
}

#[test]
fn the_logging_handler_masks_passwords() {
    log::set_logger(&Lines).expect("there is no other");
    log::set_max_level(LevelFilter::Trace);
    LoggingErrorHandler.handle_error(io::Error::other("no route to postgres://app:s3nt1nel@db.example/orders"));
    let heard = HEARD.lock().expect("no panic");
    assert_eq!(*heard, ["ERROR r2d2: no route to postgres://app:***@db.example/orders"]);
}
