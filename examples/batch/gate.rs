//! Where tests stop the program: at a place, not at a time.

use super::Failure;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Made from the variable `MILLPOND_BATCH_GATE`: `read:N` waits before record N of the file, counted from 0 as the ledger
/// counts them, `commit:N` before the N-th commit of this run, counted from 1, until a signal comes.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    place: Option<(String, u64)>,
    commits: AtomicU64,
}

impl Gate {
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let Ok(text) = std::env::var("MILLPOND_BATCH_GATE") else { return Ok(Self::default()) };
        let (place, number) = text.split_once(':').ok_or("MILLPOND_BATCH_GATE is not place:number")?;
        Ok(Self { place: Some((place.to_owned(), number.parse()?)), commits: AtomicU64::new(0) })
    }

    pub(crate) fn before_record(&self, number: u64, stop: &AtomicBool) {
        self.wait_at("read", number, stop);
    }

    pub(crate) fn before_commit(&self, stop: &AtomicBool) {
        self.wait_at("commit", self.commits.fetch_add(1, SeqCst) + 1, stop);
    }

    fn wait_at(&self, place: &str, number: u64, stop: &AtomicBool) {
        if self.place.as_ref().is_some_and(|(its, at)| its == place && *at == number) {
            eprintln!("gate: {place} {number}");
            while !stop.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
