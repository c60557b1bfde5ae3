//! How a batch comes by its connections, and by transactions on them.

use super::error::TransactionError;
use crate::{Error, Manager, PooledConnection};
use std::error::Error as StdError;
use std::fmt;

/// A way to lend a connection for a chunk of a batch, with a transaction around it where there are any. What
/// [`Batch`](super::Batch) is made over: pools ([`Lender`]) and a `SqlitePool` have it already.
pub trait Lend: Sync {
    /// What the closures of a batch get: `&mut Client`, say.
    type Conn<'c>;

    /// Lends it on for a shorter time, so that one serves many items.
    fn reborrow<'s>(conn: &'s mut Self::Conn<'_>) -> Self::Conn<'s>;

    /// Whether what `work` does can be undone. If not, `work`'s word is not asked for.
    fn is_transactional(&self) -> bool;

    /// How many connections there can be: so many workers are of use.
    fn max_size(&self) -> usize;

    /// Borrows a connection, begins a transaction, calls `work` once, and commits if it returns true; else, and when it
    /// panics, everything is undone.
    ///
    /// # Errors
    ///
    /// There is no connection, and `work` was not called; or beginning or committing failed.
    fn lend<F: FnOnce(Self::Conn<'_>) -> bool>(&self, work: F) -> Result<(), LendError>;
}

/// Why nothing of a chunk was done that is not the fault of an item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LendError {
    /// No connection could be had.
    Connection(Error),
    /// The transaction could not be begun or committed.
    Transaction(TransactionError),
}

type Cause = Box<dyn StdError + Send + Sync>;
type Statement<'a, C> = Box<dyn Fn(&mut C) -> Result<(), Cause> + Sync + 'a>;
type Get<'a, M> = Box<dyn Fn() -> Result<PooledConnection<M>, Error> + Sync + 'a>;

/// Lends what a pool, or a closure, gives.
pub struct Lender<'a, M: Manager> {
    get: Get<'a, M>,
    max_size: usize,
    /// What `holders` tells of a chunk.
    label: String,
    transactions: Option<Transactions<'a, M::Connection>>,
}

struct Transactions<'a, C> {
    begin: Statement<'a, C>,
    commit: Statement<'a, C>,
    roll_back: Statement<'a, C>,
}

impl<'a, M: Manager> Lender<'a, M> {
    pub(super) fn new(
        get: impl Fn() -> Result<PooledConnection<M>, Error> + Sync + 'a,
        max_size: usize,
        label: String,
    ) -> Self {
        Self { get: Box::new(get), max_size, label, transactions: None }
    }

    pub(super) fn transactions<X: Into<Cause>>(
        &mut self,
        begin: impl Fn(&mut M::Connection) -> Result<(), X> + Sync + 'a,
        commit: impl Fn(&mut M::Connection) -> Result<(), X> + Sync + 'a,
        roll_back: impl Fn(&mut M::Connection) -> Result<(), X> + Sync + 'a,
    ) {
        self.transactions = Some(Transactions {
            begin: Box::new(move |conn| begin(conn).map_err(Into::into)),
            commit: Box::new(move |conn| commit(conn).map_err(Into::into)),
            roll_back: Box::new(move |conn| roll_back(conn).map_err(Into::into)),
        });
    }
}

impl<M: Manager> Lend for Lender<'_, M> {
    type Conn<'c> = &'c mut M::Connection;

    fn reborrow<'s>(conn: &'s mut Self::Conn<'_>) -> Self::Conn<'s> {
        conn
    }

    fn is_transactional(&self) -> bool {
        self.transactions.is_some()
    }

    fn max_size(&self) -> usize {
        self.max_size
    }

    fn lend<F: FnOnce(Self::Conn<'_>) -> bool>(&self, work: F) -> Result<(), LendError> {
        let mut guard = (self.get)().map_err(LendError::Connection)?;
        PooledConnection::set_label(&mut guard, &*self.label);
        let Some(Transactions { begin, commit, roll_back }) = &self.transactions else {
            work(&mut guard);
            return Ok(());
        };
        let done = begin(&mut guard).map_err(|cause| TransactionError::new("begin", cause)).and_then(|()| {
            if work(&mut guard) {
                return commit(&mut guard).map_err(|cause| TransactionError::new("commit", cause));
            }
            roll_back(&mut guard).map_err(|cause| TransactionError::new("rollback", cause))
        });
        // Nobody knows in what state the transaction is, so nobody else may have the connection.
        done.inspect_err(|_| PooledConnection::mark_broken(&mut guard)).map_err(LendError::Transaction)
    }
}

impl<M: Manager> fmt::Debug for Lender<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").field("label", &self.label).field("max_size", &self.max_size).finish_non_exhaustive()
    }
}

#[cfg(feature = "sqlite")]
impl Lend for &crate::sqlite::SqlitePool {
    type Conn<'c> = &'c rusqlite::Connection;

    fn reborrow<'s>(conn: &'s mut Self::Conn<'_>) -> Self::Conn<'s> {
        conn
    }

    fn is_transactional(&self) -> bool {
        true
    }

    /// As many as there are cores, because one writes while others prepare.
    fn max_size(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn lend<F: FnOnce(Self::Conn<'_>) -> bool>(&self, work: F) -> Result<(), LendError> {
        let done =
            self.write_transaction(|conn| if work(conn) { Ok(()) } else { Err(crate::sqlite::abort(RolledBack)) });
        match done {
            Err(error) if error.downcast_ref::<RolledBack>().is_none() => Err(match error.pool_error() {
                Some(none) => LendError::Connection(none.clone()),
                None => LendError::Transaction(TransactionError::new("transaction", error.into())),
            }),
            _ => Ok(()),
        }
    }
}

/// A transaction of which nothing is to be left.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
struct RolledBack;

#[cfg(feature = "sqlite")]
impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rolled back")
    }
}

#[cfg(feature = "sqlite")]
impl StdError for RolledBack {}
