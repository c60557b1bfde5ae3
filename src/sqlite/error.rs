//! What can go wrong with a database: in the pool, while opening, in a statement, at a deadline.

use crate::redact::redact;
use rusqlite::{ErrorCode, ffi};
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
    /// The transaction is gone, with everything in it: SQLite has rolled it back by itself, as some errors and deadlines make
    /// it do, and the closure went on. Or the closure has ended it itself, or has begun one of its own and not ended it.
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
    /// Without a limit where that is another's, in whose work this was.
    Deadline {
        limit: Option<Duration>,
        source: Option<rusqlite::Error>,
    },
    Aborted(Box<dyn StdError + Send + Sync>),
    RolledBack,
    LeftOpen,
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
            Fault::RolledBack | Fault::LeftOpen => ErrorKind::RolledBack,
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
            Fault::Aborted(_) | Fault::RolledBack | Fault::LeftOpen => None,
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

    /// What somebody failed with whose time is over: if that is why.
    pub(super) fn at_deadline(self, limit: Option<Duration>) -> Self {
        let interrupted = |error: &rusqlite::Error| {
            use ErrorCode::{AuthorizationForStatementDenied as Denied, OperationInterrupted as Interrupted};
            is_busy(error) || matches!(error.sqlite_error_code(), Some(Interrupted | Denied))
        };
        let fault = match *self.0 {
            Fault::Statement(source) if interrupted(&source) => Fault::Deadline { limit, source: Some(source) },
            Fault::RolledBack => Fault::Deadline { limit, source: None },
            Fault::Deadline { limit: None, source } => Fault::Deadline { limit, source },
            fault => fault,
        };
        Self(Box::new(fault))
    }

    /// Whether the time of something that this is part of was over.
    pub(super) fn is_late(&self) -> bool {
        matches!(*self.0, Fault::Deadline { limit: None, .. })
    }

    /// The time was over before the commit.
    pub(super) fn late() -> Self {
        Self(Box::new(Fault::Deadline { limit: None, source: None }))
    }

    pub(super) fn left_open() -> Self {
        Self(Box::new(Fault::LeftOpen))
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
                // An error of nested work is what it was.
                Ok(abort) => match abort.0.downcast::<Self>() {
                    Ok(own) => return *own,
                    Err(other) => Fault::Aborted(other),
                },
                Err(inner) => Fault::Statement(rusqlite::Error::ToSqlConversionFailure(inner)),
            },
            // A commit that is not the closure's to make: what it would have committed is rolled back.
            rusqlite::Error::SqliteFailure(code, _) if code.extended_code == ffi::SQLITE_CONSTRAINT_COMMITHOOK => {
                Fault::RolledBack
            }
            error => Fault::Statement(error),
        };
        Self(Box::new(fault))
    }
}

/// So that a closure passes on with `?` what nested work failed with. It comes out as it was.
impl From<Error> for rusqlite::Error {
    fn from(error: Error) -> Self {
        abort(error)
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
            Fault::Deadline { limit: Some(limit), .. } => {
                write!(f, "interrupted after {limit:.2?}, the time that it was given")
            }
            Fault::Deadline { limit: None, .. } => f.write_str("interrupted: the time that it was given is over"),
            Fault::Aborted(error) => error.fmt(f),
            Fault::RolledBack => f.write_str(
                "the transaction was rolled back before the pool could commit it, and nothing of it is left",
            ),
            Fault::LeftOpen => f.write_str("the closure has left a transaction open, which was rolled back"),
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
            Fault::RolledBack | Fault::LeftOpen => None,
        }
    }
}
