//! Transactions: begun, committed, rolled back, and one within another.

use super::error::{Error, is_busy};
use super::held::Held;
use super::limit::{self, Limited};
use super::opening::again_while_busy;
use crate::clock::Clock;
use rusqlite::Connection;
use std::cell::Cell;
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

/// Runs `f`, in a transaction that is committed if it succeeds, and rolled back if it fails or panics. Within another one
/// it is a savepoint of that.
///
/// What is tried again while other connections are in the way is the beginning, before which nothing has happened, and the
/// commit, of which SQLite says so; each no longer than `patience`. The closure never runs twice.
pub(super) fn run<T>(
    held: &Held,
    begin: Begin,
    patience: Duration,
    f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    let conn = held.conn();
    let nested = !conn.is_autocommit();
    if held.in_transaction().get() && !nested {
        // SQLite has rolled it back by itself, and what follows belongs to it.
        return Err(Error::rolled_back());
    }
    let steps = match begin {
        Begin::Not => return statements(held, nested, f),
        _ if nested => Steps {
            begin: "SAVEPOINT millpond",
            commit: "RELEASE millpond",
            undo: "ROLLBACK TO millpond; RELEASE millpond",
        },
        Begin::Deferred if !held.is_writer() => Steps { begin: "BEGIN DEFERRED", commit: "COMMIT", undo: "ROLLBACK" },
        Begin::Deferred | Begin::Immediate => Steps { begin: "BEGIN IMMEDIATE", commit: "COMMIT", undo: "ROLLBACK" },
    };
    let until = || Clock::System.now().after(limit::left().unwrap_or(patience).min(patience));
    again_while_busy(until(), || conn.execute_batch(steps.begin), is_busy)?;
    let mut open = Open { conn, undo: Some(steps.undo), mark: (!nested).then(|| held.in_transaction()) };
    open.mark(true);
    let done = f(conn)?;
    if conn.is_autocommit() {
        return Err(Error::rolled_back());
    }
    if limit::is_over() {
        return Err(Error::late());
    }
    open.mark(false);
    // A statement that is still running on this connection is not in anybody's way but its own.
    again_while_busy(until(), || conn.execute_batch(steps.commit), |error| is_busy(error) && !conn.is_busy())?;
    open.undo = None;
    Ok(done)
}

struct Steps {
    begin: &'static str,
    commit: &'static str,
    undo: &'static str,
}

/// Each statement for itself. A transaction that `f` begins, it has to end.
fn statements<T>(held: &Held, nested: bool, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
    let conn = held.conn();
    let open = Open { conn, undo: (!nested).then_some("ROLLBACK"), mark: None };
    let done = f(conn)?;
    let forgotten = !nested && held.is_writer() && !conn.is_autocommit();
    drop(open);
    if forgotten { Err(Error::left_open()) } else { Ok(done) }
}

/// A transaction that is undone unless it is committed.
struct Open<'a> {
    conn: &'a Connection,
    undo: Option<&'static str>,
    /// Where it is written down that the pool has begun one.
    mark: Option<&'a Cell<bool>>,
}

impl Open<'_> {
    fn mark(&self, begun: bool) {
        if let Some(mark) = self.mark {
            mark.set(begun);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Some failures make SQLite roll everything back by itself.
        if let Some(undo) = self.undo.filter(|_| !self.conn.is_autocommit()) {
            let _whatever_the_time = Limited::suspended();
            if let Err(error) = self.conn.execute_batch(undo) {
                log::debug!("{undo} failed: {error}");
                // Rather everything than half of it: who has begun the rest is told that it is gone.
                if let Err(error) = self.conn.execute_batch("ROLLBACK") {
                    // It is tried once more when the connection is returned, and the connection closed if that fails.
                    log::debug!("ROLLBACK failed: {error}");
                }
            }
        }
        self.mark(false);
    }
}
