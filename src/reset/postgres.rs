//! For `postgres::Client` (the crate rust-postgres), with or without r2d2_postgres.
//!
//! ```
//! use millpond::{Pool, reset};
//! use postgres::{Client, NoTls};
//!
//! let pool = Pool::builder(|| Client::connect("postgres://app@localhost/app", NoTls))
//!     .on_return(reset::postgres::clean)
//!     .build_lazy()?;
//! assert_eq!(pool.stats().size, 0); // the first caller connects
//! # Ok::<(), millpond::Error>(())
//! ```

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, Error};

/// Everything that `DISCARD ALL` does, except for what the driver needs, as one simple query: what [`clean`] sends after
/// the transaction has ended. For other drivers; it fails in a transaction that has failed.
///
/// `DISCARD ALL` itself would drop prepared statements: those that the user holds, and those by which rust-postgres looks
/// up types, so that later queries fail with `prepared statement "s8" does not exist`. It is refused in a transaction
/// besides.
pub const CLEAN: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                         SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Rolls back, closes cursors, resets role and settings, and drops listeners with the notifications that have come,
/// advisory locks, temporary tables and the values of sequences. One round trip; two where a transaction has failed.
///
/// Settings go back to what they were when the connection was opened: those of the server, of the role
/// (`ALTER ROLE app SET …`) and of the URL (`?options=-c%20statement_timeout%3D5s`) stay, those that
/// [`on_open`](crate::Builder::on_open) made by `SET` do not; [`clean_and`] makes them again.
///
/// What stays: statements that somebody made by `PREPARE` (those of `Client::prepare` are the driver's, cost nobody
/// anything and go on working), and what was done to the data, which includes a `COMMIT`.
///
/// Behind a PgBouncer that pools by transaction this is too much, and harms others: take [`rollback`].
///
/// # Errors
///
/// The connection is lost, or the server refuses one of the statements: it is not PostgreSQL, or it is a proxy that does
/// not know them. The pool then closes the connection.
///
/// # Examples
///
/// ```
/// use millpond::{CloseReason, Pool, reset};
/// use postgres::{Client, NoTls};
///
/// let open = || Client::connect("postgres://app@localhost/app", NoTls);
/// let pool = Pool::builder(open).on_return(reset::postgres::clean).build_lazy()?;
/// assert_eq!(pool.stats().closed.by(CloseReason::ResetFailed), 0);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn clean(client: &mut Client) -> Result<(), Error> {
    roll_back_and(client, CLEAN)?;
    forget_notifications(client)
}

/// [`clean`], and then `sql` in the same round trip: for what every session is to begin with, such as
/// `SET statement_timeout = '5s'`.
///
/// # Errors
///
/// As [`clean`]; or `sql` fails.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, reset};
/// use postgres::{Client, NoTls};
///
/// const BEGIN_WITH: &str = "SET statement_timeout = '5s'; SET search_path = app";
///
/// let pool = Pool::builder(|| Client::connect("postgres://app@localhost/app", NoTls))
///     .on_open(|client| client.batch_execute(BEGIN_WITH))
///     .on_return(reset::postgres::clean_and(BEGIN_WITH))
///     .build_lazy()?;
/// assert_eq!(pool.stats().size, 0);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn clean_and(sql: &str) -> impl Fn(&mut Client) -> Result<(), Error> + Send + Sync + 'static {
    let sql = format!("{CLEAN}; {sql}");
    move |client| {
        roll_back_and(client, &sql)?;
        forget_notifications(client)
    }
}

/// Rolls back a transaction that was left open or has failed; nothing else. One round trip; two where it has failed.
///
/// Enough for programs that change nothing of a session but within transactions (`SET LOCAL`,
/// `pg_advisory_xact_lock`, `CREATE TEMP TABLE … ON COMMIT DROP`), and all that is of use behind a PgBouncer that pools by
/// transaction: there the session belongs to nobody, and an open transaction keeps a server connection from everybody.
/// rust-postgres rolls back by itself when a `Transaction` is dropped; this is for `BEGIN` as text, and for a `Transaction`
/// that was leaked.
///
/// # Errors
///
/// The connection is lost. The pool then closes it.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, reset};
/// use postgres::{Client, NoTls};
///
/// let through_the_bouncer = || Client::connect("postgres://app@localhost:6432/app", NoTls);
/// let pool = Pool::builder(through_the_bouncer).on_return(reset::postgres::rollback).build_lazy()?;
/// assert_eq!(pool.stats().size, 0);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn rollback(client: &mut Client) -> Result<(), Error> {
    roll_back_and(client, "")
}

/// Ends the transaction, if there is one, and runs `sql`.
///
/// `ROLLBACK` without a transaction is a warning, which by default goes to the server's log as well: a line at each return,
/// and most of its cost. So there is one: after `BEGIN`, the warning comes where somebody has left a transaction open,
/// which is worth a line. A failed one takes nothing but its end.
fn roll_back_and(client: &mut Client, sql: &str) -> Result<(), Error> {
    match client.batch_execute(&format!("BEGIN; ROLLBACK; {sql}")) {
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            client.batch_execute(&format!("ROLLBACK; {sql}"))
        }
        done => done,
    }
}

/// The driver keeps notifications that nobody has read, also when the server has been told to send no more.
fn forget_notifications(client: &mut Client) -> Result<(), Error> {
    let mut notifications = client.notifications();
    while !notifications.is_empty() {
        notifications.iter().next()?;
    }
    Ok(())
}
