//! Why an item was not done.

use super::lend::LendError;
use crate::Error;
use crate::error::text_of;
use crate::redact::redact;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Why an item was not done.
///
/// Its text is that of the error within, with passwords masked; its `source()` is that of the error within.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BatchError<E> {
    /// The closure, or the one that prepares, returned an error.
    Failed(E),
    /// A closure panicked over it, with this message. If it had a connection, that was closed.
    Panicked(String),
    /// There was no connection for the chunk that the item was in. The batch ends with that.
    Connection(Error),
    /// The transaction that the item was in could not be begun, committed, or noted: an error of all its items.
    Transaction(TransactionError),
}

/// A transaction that could not be begun or committed. One for all its items, and cheap to clone.
#[derive(Clone)]
pub struct TransactionError {
    step: &'static str,
    cause: Arc<dyn StdError + Send + Sync>,
}

impl TransactionError {
    /// An error in this step of a transaction.
    pub fn new(step: &'static str, cause: Box<dyn StdError + Send + Sync>) -> Self {
        Self { step, cause: cause.into() }
    }

    /// What failed: `begin` or `commit`; `on_commit` for the [function of that name](super::Batch::on_commit); `panic` where one
    /// of these panicked; `transaction` where a pool does all of it by itself.
    #[must_use]
    pub fn step(&self) -> &'static str {
        self.step
    }
}

/// As it prints: the error of a driver may have a password in its own `Debug`.
impl fmt::Debug for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionError").field("step", &self.step).field("cause", &text_of(&*self.cause)).finish()
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, text_of(&*self.cause))
    }
}

impl StdError for TransactionError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

impl<E> From<LendError> for BatchError<E> {
    fn from(error: LendError) -> Self {
        match error {
            LendError::Connection(error) => Self::Connection(error),
            LendError::Transaction(error) => Self::Transaction(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for BatchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&redact(&error.to_string())),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Connection(error) => error.fmt(f),
            Self::Transaction(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for BatchError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::Panicked(_) => None,
            Self::Connection(error) => error.source(),
            Self::Transaction(error) => error.source(),
        }
    }
}
