//! The connection of a request: the one place where it is borrowed.

use crate::failure::Failure;
use millpond::sqlite::{self, SqlitePool};
use std::time::Duration;

/// What a request does with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Does the work of a request with one connection, in one transaction, and within one deadline, which covers waiting for the
/// connection and for locks, all statements and the commit.
///
/// Whatever is called from `work` asks the pool as if it was alone, and is lent the same connection: the pool goes by the
/// thread. All that is read is of one state of the database; what is written is committed if the work succeeds, and rolled back if
/// it fails or panics. With a pool of other connections, [`millpond::Pool::bind`] and [`millpond::Scope`] do what this does here.
pub(crate) fn within<T>(
    pool: &SqlitePool,
    access: Access,
    deadline: Duration,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let done: Result<T, sqlite::Error> = match access {
        Access::Read => pool.transaction_timeout(deadline, |_| Ok(work()?)),
        Access::Write => pool.write_transaction_timeout(deadline, |_| Ok(work()?)),
    };
    Ok(done?)
}

/// Which of the two pools serves it.
pub(crate) fn name_of(pool: &SqlitePool, access: Access) -> &str {
    match access {
        Access::Read => pool.readers().name(),
        Access::Write => pool.writers().name(),
    }
}
