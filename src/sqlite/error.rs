//! What can go wrong with a database: in the pool, while opening, in a statement, at a deadline.

use crate::redact::redact;
use rusqlite::ErrorCode;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be had: [`Error::pool_error`] says why.
    Pool,
    /// The database could not be opened or set up. The text names it and says why.
    Open,
    /// SQLite refused a statement: [`Error::sqlite_error`] is its error.
    Statement,
    /// The time that was given for the work was over, and the statement was interrupted.
    Deadline,
    /// The closure gave up, with an error of its own ([`abort`]).
    Aborted,
    /// SQLite has rolled the transaction back by itself, or the closure has ended it; nothing is left to commit.
    RolledBack,
}

/// The error of a [`SqlitePool`](super::SqlitePool)'s work.
///
/// The text says what was attempted, and SQLite's own words; a driver's error is also the `source()`, as it is.
///
/// # Examples
///
/// ```
/// use millpond::sqlite::{ErrorKind, SqliteManager, SqlitePool};
///
/// let pool = SqlitePool::new(SqliteManager::memory())?;
/// let error = pool.read(|conn| conn.query_row("SELECT * FROM missing", [], |_| Ok(()))).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Statement);
/// assert!(error.to_string().contains("no such table: missing"));
/// assert!(error.sqlite_error().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Error(Box<Fault>);

#[derive(Debug)]
enum Fault {
    Pool(crate::Error),
    Statement(rusqlite::Error),
    Deadline { limit: Duration, source: Option<rusqlite::Error> },
    Aborted(Box<dyn StdError + Send + Sync>),
    RolledBack,
}

/// Makes an error of one's own into one that a closure over a connection can return: the transaction is rolled back, and
/// the error comes out as [`ErrorKind::Aborted`].
///
/// # Examples
///
/// ```
/// use millpond::sqlite::{ErrorKind, SqliteManager, SqlitePool, abort};
///
/// #[derive(Debug, PartialEq)]
/// struct Overdrawn(i64);
/// # impl std::fmt::Display for Overdrawn {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "overdrawn by {}", self.0) }
/// # }
/// # impl std::error::Error for Overdrawn {}
///
/// let pool = SqlitePool::new(SqliteManager::memory())?;
/// pool.write(|conn| conn.execute_batch("CREATE TABLE account (balance INTEGER); INSERT INTO account VALUES (10)"))?;
/// let error = pool
///     .write_transaction(|conn| {
///         conn.execute("UPDATE account SET balance = balance - 17", [])?;
///         let balance: i64 = conn.query_row("SELECT balance FROM account", [], |row| row.get(0))?;
///         if balance < 0 { Err(abort(Overdrawn(-balance))) } else { Ok(()) }
///     })
///     .unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Aborted);
/// assert_eq!(error.downcast_ref::<Overdrawn>(), Some(&Overdrawn(7)));
/// let balance: i64 = pool.read(|conn| conn.query_row("SELECT balance FROM account", [], |row| row.get(0)))?;
/// assert_eq!(balance, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn abort(error: impl Into<Box<dyn StdError + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(Abort(error.into())))
}

/// The mark by which an aborted closure is told from a statement that failed.
#[derive(Debug)]
struct Abort(Box<dyn StdError + Send + Sync>);

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Abort {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl Error {
    /// What went wrong, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Fault::Pool(error) if refused(error).is_some() => ErrorKind::Open,
            Fault::Pool(_) => ErrorKind::Pool,
            Fault::Statement(_) => ErrorKind::Statement,
            Fault::Deadline { .. } => ErrorKind::Deadline,
            Fault::Aborted(_) => ErrorKind::Aborted,
            Fault::RolledBack => ErrorKind::RolledBack,
        }
    }

    /// The pool's error, where no connection could be had.
    #[must_use]
    pub fn pool_error(&self) -> Option<&crate::Error> {
        if let Fault::Pool(error) = &*self.0 { Some(error) } else { None }
    }

    /// SQLite's error, as rusqlite tells it.
    #[must_use]
    pub fn sqlite_error(&self) -> Option<&rusqlite::Error> {
        match &*self.0 {
            Fault::Statement(error) => Some(error),
            Fault::Deadline { source, .. } => source.as_ref(),
            Fault::Pool(error) => refused(error),
            Fault::Aborted(_) | Fault::RolledBack => None,
        }
    }

    /// The error that the closure [gave up](abort) with.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        if let Fault::Aborted(error) = &*self.0 { error.downcast_ref() } else { None }
    }

    /// Whether another connection, of this process or of another one, held the database for longer than the busy time-out.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.sqlite_error().is_some_and(is_busy)
    }

    /// Whether time ran out: for a connection, or for the work.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match &*self.0 {
            Fault::Pool(error) => error.is_timeout(),
            Fault::Deadline { .. } => true,
            _ => false,
        }
    }

    /// What a closure failed with that was too late.
    pub(super) fn at_deadline(self, limit: Duration) -> Self {
        match *self.0 {
            Fault::Statement(source) => Self(Box::new(Fault::Deadline { limit, source: Some(source) })),
            Fault::RolledBack => Self(Box::new(Fault::Deadline { limit, source: None })),
            fault => Self(Box::new(fault)),
        }
    }

    pub(super) fn rolled_back() -> Self {
        Self(Box::new(Fault::RolledBack))
    }
}

/// What opening failed with.
fn refused(error: &crate::Error) -> Option<&rusqlite::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// Whether somebody else holds a lock that is in the way.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self(Box::new(Fault::Pool(error)))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let fault = match error {
            rusqlite::Error::ToSqlConversionFailure(inner) => match inner.downcast::<Abort>() {
                Ok(abort) => Fault::Aborted(abort.0),
                Err(inner) => Fault::Statement(rusqlite::Error::ToSqlConversionFailure(inner)),
            },
            error => Fault::Statement(error),
        };
        Self(Box::new(fault))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Fault::Pool(error) => {
                error.fmt(f)?;
                refused(error).map_or(Ok(()), |cause| write!(f, ": {}", redact(&cause.to_string())))
            }
            Fault::Statement(error) => error.fmt(f),
            Fault::Deadline { limit, .. } => write!(f, "interrupted after {limit:.2?}, the time that it was given"),
            Fault::Aborted(error) => error.fmt(f),
            Fault::RolledBack => f.write_str(
                "the transaction was ended before it could be committed: by SQLite, or by the closure itself",
            ),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            // The text is all of it, so the chain goes on behind it.
            Fault::Pool(error) => error.source(),
            Fault::Aborted(error) => error.source(),
            Fault::Statement(error) => Some(error),
            Fault::Deadline { source, .. } => source.as_ref().map(|source| source as _),
            Fault::RolledBack => None,
        }
    }
}
