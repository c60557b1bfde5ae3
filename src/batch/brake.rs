//! Whether a batch goes on: one answer for the thread that reads and for those that work.

use super::error::BatchError;
use super::report::End;
use crate::error::quietly;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A function that says after which errors a batch goes on.
pub(super) type Judge<'a, E> = Box<dyn Fn(&BatchError<E>) -> bool + Sync + 'a>;

pub(super) struct Brake<'a, E> {
    flag: Option<&'a AtomicBool>,
    go_on: Option<Judge<'a, E>>,
    /// So many errors end the batch.
    limit: u64,
    errors: AtomicU64,
    on: AtomicBool,
    end: Mutex<Option<End>>,
}

impl<'a, E> Brake<'a, E> {
    pub(super) fn new(flag: Option<&'a AtomicBool>, go_on: Option<Judge<'a, E>>, limit: u64) -> Self {
        let (errors, on) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { flag, go_on, limit, errors, on, end: Mutex::new(None) }
    }

    /// Whether nothing more may be begun.
    pub(super) fn is_on(&self) -> bool {
        // Relaxed: nothing else is published by either, and a worker that sees it late begins one chunk more.
        if self.flag.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            self.pull(End::Stopped);
        }
        self.on.load(Ordering::Relaxed)
    }

    /// Ends the batch. The first reason counts.
    pub(super) fn pull(&self, end: End) {
        self.on.store(true, Ordering::Relaxed);
        self.end.lock().get_or_insert(end);
    }

    /// Counts an error that `items` have, and says whether the batch goes on after it.
    pub(super) fn goes_on_after(&self, error: &BatchError<E>, items: u64) -> bool {
        if let BatchError::Connection(error) = error {
            self.pull(End::Pool(error.clone()));
            return false;
        }
        // Relaxed: a number, and nothing besides.
        let errors = self.errors.fetch_add(items, Ordering::Relaxed).saturating_add(items);
        // A judge that panics has not said that it may go on.
        let allowed = self.go_on.as_ref().is_some_and(|judge| quietly(|| judge(error)).unwrap_or(false));
        let goes_on = allowed && errors < self.limit;
        if !goes_on {
            self.pull(End::Failed);
        }
        goes_on
    }

    pub(super) fn into_end(self) -> End {
        self.end.into_inner().unwrap_or(End::Complete)
    }
}
