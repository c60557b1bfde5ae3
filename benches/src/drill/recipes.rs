//! How a session is cleaned for its next user: functions for [`Builder::on_return`](millpond::Builder::on_return), one
//! for each server that the crate neither has a manager nor a hook for ([`millpond::reset`]).
//!
//! A connection is more than a socket: the server keeps transactions, variables, locks and temporary tables for it, and
//! the next borrower inherits them. Each function here leaves nothing of that, in one round trip where the protocol
//! allows it, and fails where it cannot clean, so that the pool closes the connection and opens another one.

use rusqlite::ffi;

/// Rolls back a transaction; nothing else is looked at. A few nanoseconds where there is none.
///
/// # Errors
///
/// SQLite cannot roll back.
pub(crate) fn sqlite_rollback(connection: &mut rusqlite::Connection) -> rusqlite::Result<()> {
    // `ROLLBACK` without a transaction is an error.
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

/// Rolls back a transaction, ends the read-only mode, and refuses a connection with attached databases or temporary
/// tables: opening another one (30 to 50 µs) is the surest way to undo them. Functions, hooks and other pragmas are not
/// seen; who changes those discards the connection.
///
/// # Errors
///
/// The connection is to be closed.
pub(crate) fn sqlite(connection: &mut rusqlite::Connection) -> rusqlite::Result<()> {
    sqlite_rollback(connection)?;
    // Prepared anew each time: a pragma's value is read while it is compiled.
    let query_only: bool = connection.pragma_query_value(None, "query_only", |row| row.get(0))?;
    if query_only {
        // Not without need: to set a flag makes every cached statement compile again.
        connection.pragma_update(None, "query_only", false)?;
    }
    // `main` alone, as long as there was no `ATTACH` and nothing temporary.
    let mut databases = connection.prepare("PRAGMA database_list")?;
    let mut rows = databases.query([])?;
    let mut count = 0;
    while rows.next()?.is_some() {
        count += 1;
    }
    if count > 1 {
        let why = "the session was left with attached databases or temporary tables".to_owned();
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_MISUSE), Some(why)));
    }
    Ok(())
}
