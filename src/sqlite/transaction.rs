//! Transactions: begun, committed, rolled back, and one within another.

use super::error::{Error, is_busy};
use super::manager::again_while_busy;
use crate::clock::{Clock, Moment};
use rusqlite::Connection;
use std::time::Duration;

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// None: each statement is one.
    Not,
    /// Locks nothing before the first statement. For readers: all statements see the same state.
    Deferred,
    /// Takes the write lock at once. One that begins by reading cannot get it later, once another one has written: SQLite
    /// fails it, and waiting would not help.
    Immediate,
}

/// Runs `f` in a transaction that is committed if it succeeds, and rolled back if it fails or panics. Within another one
/// it is a savepoint of that.
///
/// What is tried again while other connections are in the way is the beginning, before which nothing has happened, and the
/// commit, of which SQLite says so; each no longer than `patience`. The closure never runs twice.
pub(super) fn run<T>(
    conn: &Connection,
    begin: Begin,
    patience: Duration,
    f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    let nested = !conn.is_autocommit();
    let (begin, commit, undo) = match begin {
        Begin::Not => return Ok(f(conn)?),
        _ if nested => ("SAVEPOINT millpond", "RELEASE millpond", "ROLLBACK TO millpond; RELEASE millpond"),
        Begin::Deferred => ("BEGIN DEFERRED", "COMMIT", "ROLLBACK"),
        Begin::Immediate => ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"),
    };
    insist(conn, begin, patience)?;
    let mut open = Open { conn, undo: Some(undo) };
    let done = f(conn)?;
    if conn.is_autocommit() {
        return Err(Error::rolled_back());
    }
    insist(conn, commit, patience)?;
    open.undo = None;
    Ok(done)
}

fn insist(conn: &Connection, sql: &str, patience: Duration) -> Result<(), Error> {
    let until: Moment = Clock::System.now().after(patience);
    Ok(again_while_busy(until, || conn.execute_batch(sql), is_busy)?)
}

/// A transaction that is undone unless it is committed.
struct Open<'a> {
    conn: &'a Connection,
    undo: Option<&'static str>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Some failures make SQLite roll everything back by itself.
        if let Some(undo) = self.undo.filter(|_| !self.conn.is_autocommit())
            && let Err(error) = self.conn.execute_batch(undo)
        {
            // The connection is rolled back again when it is returned, and closed if that fails.
            log::debug!("{undo} failed: {error}");
        }
    }
}
