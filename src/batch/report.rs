//! What a batch tells: as it goes on, item by item, and at its end.

use super::error::BatchError;
use crate::Error;
use crate::text::short;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// How far a batch is.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Items that were taken from the iterator.
    pub read: u64,
    /// Items that are done, and committed where there are transactions.
    pub done: u64,
    /// Items with an error. Where the batch goes on after it, these are the ones that were skipped.
    pub failed: u64,
    /// Items that were read and not done because the batch ended before: not begun, or rolled back with the item whose error
    /// ended the batch.
    pub left: u64,
    /// Since the batch began.
    pub elapsed: Duration,
}

impl Counts {
    /// Items done per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.done as f64 / seconds } else { 0.0 }
    }

    /// Items that were read and of which it is not known yet what becomes of them; never more than
    /// [`read_ahead`](super::Batch::read_ahead).
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.read.saturating_sub(self.done + self.failed + self.left)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, done, failed, left, elapsed } = self;
        write!(f, "{read} read, {done} done, {failed} failed, {left} left, in {}", short(*elapsed))?;
        write!(f, " ({:.0} per second)", self.rate())
    }
}

/// What became of one item.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<T, R, E> {
    /// Its place in the iterator, counted from 0.
    pub index: u64,
    /// The item itself.
    pub item: T,
    /// What the closure returned, or why it is not done.
    pub result: Result<R, BatchError<E>>,
}

/// An item that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<T, E> {
    /// Its place in the iterator, counted from 0.
    pub index: u64,
    /// The item itself.
    pub item: T,
    /// Why.
    pub error: BatchError<E>,
}

/// The items that a transaction settles: what [`on_commit`](super::Batch::on_commit) is told before the commit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Span {
    /// By their places in the iterator. What is not in [`failed`](Self::failed) is done with this commit.
    pub items: Range<u64>,
    /// Those of them that have failed and were left out, in order.
    pub failed: Vec<u64>,
}

/// Why a batch ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum End {
    /// Everything was read, and everything has an outcome.
    Complete,
    /// The [flag](super::Batch::stop_flag) was raised first.
    Stopped,
    /// An item failed with an error after which the batch does not go on, or was one too many.
    Failed,
    /// The pool had no connection for a chunk: it is closed, or there was none in time. Also where no thread could be
    /// started, and for settings that cannot be.
    Pool(Error),
}

/// What a batch returns.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "it holds the errors, too"]
pub struct Report<T, E> {
    /// How many items were read, done, failed and left; how long it took.
    pub counts: Counts,
    /// Why it ended.
    pub end: End,
    /// The items that failed, by their places; no more than [`keep_failures`](super::Batch::keep_failures) says, the
    /// first that failed. Empty where the outcomes were told to a function.
    pub failures: Vec<Failure<T, E>>,
}

impl<T, E> Report<T, E> {
    /// Whether every item is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.end, End::Complete) && self.counts.failed == 0
    }
}

impl<T, E: fmt::Display> fmt::Display for Report<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)?;
        match &self.end {
            End::Complete => {}
            End::Stopped => f.write_str("; stopped")?,
            End::Failed => f.write_str("; ended by an error")?,
            End::Pool(error) => write!(f, "; ended: {error}")?,
        }
        self.failures.iter().try_for_each(|failure| write!(f, "\nitem {}: {}", failure.index, failure.error))
    }
}
