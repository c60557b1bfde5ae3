//! The one writer of a SQLite database, lent to workers in turn.

use super::error::TransactionError;
use super::lend::{Lend, LendError};
use super::turns::Turns;
use crate::sqlite::{SqlitePool, abort};
use rusqlite::Connection;
use std::error::Error as StdError;
use std::fmt;

/// Lends the writer of a [`SqlitePool`], each chunk a [`write_transaction`](SqlitePool::write_transaction).
#[derive(Debug)]
pub struct SqliteLender<'a> {
    pool: &'a SqlitePool,
    /// One: the others wait here, and not for the pool's deadline.
    turns: Turns,
}

impl<'a> SqliteLender<'a> {
    pub(super) fn new(pool: &'a SqlitePool) -> Self {
        Self { pool, turns: Turns::new(1) }
    }
}

impl Lend for SqliteLender<'_> {
    type Conn<'c> = &'c Connection;

    fn reborrow<'s>(conn: &'s mut Self::Conn<'_>) -> Self::Conn<'s> {
        conn
    }

    fn is_transactional(&self) -> bool {
        true
    }

    /// As many as there are cores, because one writes while others prepare.
    fn workers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn lend<F: FnOnce(Self::Conn<'_>) -> bool>(&self, work: F) -> Result<(), LendError> {
        let _turn = self.turns.take();
        let done = self.pool.write_transaction(|conn| if work(conn) { Ok(()) } else { Err(abort(RolledBack)) });
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
#[derive(Debug)]
struct RolledBack;

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rolled back")
    }
}

impl StdError for RolledBack {}
