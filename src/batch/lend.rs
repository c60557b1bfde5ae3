//! How a batch comes by its connections, and by transactions on them.

use super::error::TransactionError;
use super::turns::Turns;
use crate::{Error, Manager, PooledConnection};
use std::error::Error as StdError;
use std::fmt;

/// A way to lend a connection for a chunk of a batch, with a transaction around it where there are any. What
/// [`Batch`](super::Batch) is made over: pools have it already ([`Lender`]), and so has a `SqlitePool`.
pub trait Lend: Sync {
    /// What the closures of a batch get: `&mut Client`, say.
    type Conn<'c>;

    /// Lends it on for a shorter time, so that one serves many items.
    fn reborrow<'s>(conn: &'s mut Self::Conn<'_>) -> Self::Conn<'s>;

    /// Whether what `work` does can be undone. If not, `work`'s word is not asked for.
    fn is_transactional(&self) -> bool;

    /// How many workers there are when nothing is said about it.
    fn workers(&self) -> usize;

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

impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Transaction(error) => error.fmt(f),
        }
    }
}

impl StdError for LendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connection(error) => error.source(),
            Self::Transaction(error) => error.source(),
        }
    }
}

type Cause = Box<dyn StdError + Send + Sync>;
type Statement<'a, C> = Box<dyn Fn(&mut C) -> Result<(), Cause> + Sync + 'a>;
type Get<'a, M> = Box<dyn Fn() -> Result<PooledConnection<M>, Error> + Sync + 'a>;

/// Lends what a pool, or a closure, gives.
pub struct Lender<'a, M: Manager> {
    get: Get<'a, M>,
    workers: usize,
    /// As many as there are connections, so that workers wait for each other here, and not in the pool, whose deadline and
    /// whose limit of waiters are for others.
    turns: Turns,
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
        (workers, connections): (usize, usize),
        label: String,
    ) -> Self {
        Self { get: Box::new(get), workers, turns: Turns::new(connections), label, transactions: None }
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

    fn workers(&self) -> usize {
        self.workers
    }

    fn lend<F: FnOnce(Self::Conn<'_>) -> bool>(&self, work: F) -> Result<(), LendError> {
        let _turn = self.turns.take();
        let mut guard = self.get()?;
        let Some(Transactions { begin, commit, roll_back }) = &self.transactions else {
            work(&mut guard);
            return Ok(());
        };
        if begin(&mut guard).is_err() {
            // It may have been dead: after a restart of the server some are, that have worked a moment before. Nothing was done
            // on it, so another one will do.
            PooledConnection::discard(guard);
            guard = self.get()?;
            begin(&mut guard).map_err(|cause| lost(&mut guard, "begin", cause))?;
        }
        if work(&mut guard) {
            return commit(&mut guard).map_err(|cause| lost(&mut guard, "commit", cause));
        }
        roll_back(&mut guard).map_err(|cause| lost(&mut guard, "rollback", cause))
    }
}

impl<M: Manager> Lender<'_, M> {
    fn get(&self) -> Result<PooledConnection<M>, LendError> {
        let mut guard = (self.get)().map_err(LendError::Connection)?;
        PooledConnection::set_label(&mut guard, &*self.label);
        Ok(guard)
    }
}

/// Nobody knows in what state the transaction is, so nobody else may have the connection.
fn lost<M: Manager>(guard: &mut PooledConnection<M>, step: &'static str, cause: Cause) -> LendError {
    PooledConnection::mark_broken(guard);
    LendError::Transaction(TransactionError::new(step, cause))
}

impl<M: Manager> fmt::Debug for Lender<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").field("label", &self.label).field("workers", &self.workers).finish_non_exhaustive()
    }
}
