//! The sandbox of a pool for SQLite.

use crate::sqlite::{Error, ErrorKind, SqlitePool, abort};
use std::convert::Infallible;
use std::fmt;

/// Runs a test over a [`SqlitePool`], and undoes what it has written. Returns what the test returns.
///
/// On this thread, all work with this pool happens in one transaction of its writer, reading too; transactions within are
/// savepoints, and what they commit is seen by what comes after them. At the end everything is rolled back, also after a
/// panic. Other threads do not see it, and wait with writing until it is over: what is tested must work on the thread that
/// calls this, and tests over one file go one after the other.
///
/// # Errors
///
/// When there is no writer within the pool's time-out, or when the transaction is gone at the end: the test has committed or
/// rolled it back with statements of its own.
///
/// # Examples
///
/// ```
/// use millpond::sqlite::{Error, SqliteManager, SqlitePool};
/// use millpond::testing::rolled_back;
///
/// // What is tested.
/// fn sell(shop: &SqlitePool, name: &str) -> Result<usize, Error> {
///     shop.write_transaction(|conn| conn.execute("UPDATE item SET stock = stock - 1 WHERE name = ?1 AND stock > 0", [name]))
/// }
/// fn stock(shop: &SqlitePool) -> Result<i64, Error> {
///     shop.read(|conn| conn.query_row("SELECT sum(stock) FROM item", [], |row| row.get(0)))
/// }
///
/// let shop = SqlitePool::new(SqliteManager::memory().on_first_connect(|conn| {
///     conn.execute_batch("CREATE TABLE item (name TEXT, stock INTEGER); INSERT INTO item VALUES ('lamp', 1)")
/// }))?;
/// rolled_back(&shop, || {
///     assert_eq!(sell(&shop, "lamp")?, 1);
///     assert_eq!((stock(&shop)?, sell(&shop, "lamp")?), (0, 0));
///     Ok::<(), Error>(())
/// })??;
/// assert_eq!(stock(&shop)?, 1);
/// # Ok::<(), Error>(())
/// ```
#[track_caller]
pub fn rolled_back<T>(pool: &SqlitePool, test: impl FnOnce() -> T) -> Result<T, Error> {
    let mut returned = None;
    let ended = pool.write_transaction(|conn| -> rusqlite::Result<Infallible> {
        conn.execute_batch("SAVEPOINT millpond_test")?;
        returned = Some(test());
        // If the test has committed, there is no such savepoint any more.
        conn.execute_batch("ROLLBACK TO millpond_test")?;
        Err(abort(Over))
    });
    let Err(error) = ended;
    match returned {
        Some(returned) if error.kind() == ErrorKind::Aborted => Ok(returned),
        _ => Err(error),
    }
}

/// Why the transaction is not committed.
#[derive(Debug)]
struct Over;

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the test is over")
    }
}

impl std::error::Error for Over {}
