//! What a fan-out returns.

use crate::Error;
use crate::redact::redact;
use crate::text::columns;
use std::error::Error as StdError;
use std::fmt;
use std::slice;
use std::time::Duration;
use std::vec;

/// The results of a [`fan_out`](crate::fan_out), a row for each pool in the order in which they were given. Prints as a table.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, fan_out};
/// use std::time::Duration;
///
/// let shard = |n: u32| Pool::builder(move || Ok::<_, std::io::Error>(n)).max_size(1).build();
/// let rows = fan_out([("one", shard(1)?), ("two", shard(2)?)], 2, Duration::from_secs(5), |_, n| match *n {
///     1 => Ok(17),
///     _ => Err("no such table"),
/// });
/// assert!(!rows.is_complete());
/// let table = rows.table(|count| format!("{count} rows"));
/// assert!(table.starts_with("key  outcome"));
/// assert!(table.contains("\none  17 rows") && table.contains("\ntwo  no such table"), "{table}");
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it holds the errors, too"]
pub struct FanOut<K, R, E> {
    rows: Vec<FanOutRow<K, R, E>>,
}

/// What became of one pool's part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FanOutRow<K, R, E> {
    /// Which pool it was.
    pub key: K,
    /// What the closure returned, or why it did not.
    pub result: Result<R, FanOutError<E>>,
    /// How long it took, with the waiting for a connection; of a row that had not ended at the deadline, how long it had taken
    /// by then; zero where it had not begun.
    pub took: Duration,
}

/// Why a row has no result.
///
/// Its text is that of the error within, with passwords masked; so is its `source()`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FanOutError<E> {
    /// There was no connection.
    Connection(Error),
    /// The closure returned an error.
    Failed(E),
    /// The closure panicked, with this message. Its connection was closed.
    Panicked(String),
    /// The deadline passed first.
    Deadline {
        /// Whether the row had begun: it then goes on, unseen, until its closure returns.
        began: bool,
    },
}

impl<K, R, E> FanOut<K, R, E> {
    pub(super) fn new(rows: Vec<FanOutRow<K, R, E>>) -> Self {
        Self { rows }
    }

    /// All rows, in order.
    #[must_use]
    pub fn rows(&self) -> &[FanOutRow<K, R, E>] {
        &self.rows
    }

    /// The results of those that have one, in order.
    pub fn ok(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter().filter_map(|row| row.result.as_ref().ok().map(|result| (&row.key, result)))
    }

    /// The errors of the others, in order.
    pub fn errors(&self) -> impl Iterator<Item = (&K, &FanOutError<E>)> {
        self.rows.iter().filter_map(|row| row.result.as_ref().err().map(|error| (&row.key, error)))
    }

    /// Whether there is no error.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.errors().next().is_none()
    }

    /// All results in order, for those who can do nothing with a part of them.
    ///
    /// # Errors
    ///
    /// The first error in order. [`errors`](Self::errors) has all of them, with their keys.
    pub fn all(self) -> Result<Vec<R>, FanOutError<E>> {
        self.rows.into_iter().map(|row| row.result).collect()
    }
}

impl<K: fmt::Display, R, E: fmt::Display> FanOut<K, R, E> {
    /// The rows as a table: key, outcome and time, with the results as `show` puts them. What is of others, keys and errors,
    /// has its passwords masked.
    #[must_use]
    pub fn table(&self, show: impl Fn(&R) -> String) -> String {
        let mut cells = vec![["key".to_owned(), "outcome".to_owned(), "took".to_owned()]];
        cells.extend(self.rows.iter().map(|row| {
            let outcome = match &row.result {
                Ok(result) => show(result),
                Err(FanOutError::Connection(error)) => error.in_full(),
                Err(error) => error.to_string(),
            };
            [redact(&row.key.to_string()).into_owned(), outcome, format!("{:.1} ms", row.took.as_secs_f64() * 1e3)]
        }));
        columns(&cells, 2).iter().map(|line| format!("{line}\n")).collect()
    }
}

impl<K: fmt::Display, R, E: fmt::Display> fmt::Display for FanOut<K, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table(|_| "ok".to_owned()))
    }
}

impl<K, R, E> IntoIterator for FanOut<K, R, E> {
    type Item = FanOutRow<K, R, E>;
    type IntoIter = vec::IntoIter<FanOutRow<K, R, E>>;
    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a, K, R, E> IntoIterator for &'a FanOut<K, R, E> {
    type Item = &'a FanOutRow<K, R, E>;
    type IntoIter = slice::Iter<'a, FanOutRow<K, R, E>>;
    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl<E: fmt::Display> fmt::Display for FanOutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Failed(error) => f.write_str(&redact(&error.to_string())),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Deadline { began: true } => f.write_str("not done at the deadline"),
            Self::Deadline { began: false } => f.write_str("not begun at the deadline"),
        }
    }
}

impl<E: StdError + 'static> StdError for FanOutError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connection(error) => error.source(),
            Self::Failed(error) => error.source(),
            Self::Panicked(_) | Self::Deadline { .. } => None,
        }
    }
}
