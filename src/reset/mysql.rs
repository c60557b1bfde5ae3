//! For `mysql::Conn` (MySQL and MariaDB), with or without r2d2_mysql.
//!
//! ```
//! use millpond::{Pool, reset};
//! use mysql::Conn;
//!
//! let pool = Pool::builder(|| Conn::new("mysql://app@localhost/app"))
//!     .on_return(reset::mysql::clean)
//!     .build_lazy()?;
//! assert_eq!(pool.stats().size, 0); // the first caller connects
//! # Ok::<(), millpond::Error>(())
//! ```

use mysql::prelude::Queryable;
use mysql::{Conn, Error};

/// Rolls back and drops user variables, settings, temporary tables, table locks, named locks and prepared statements. One
/// round trip (`COM_RESET_CONNECTION`; with servers before MySQL 5.7.3 and MariaDB 10.2.7 a new log-in).
///
/// The driver then runs the statements of `OptsBuilder::init` again, each a further round trip: that is the place for
/// settings that every session is to have, and not [`on_open`](crate::Builder::on_open), whose `SET` would be undone.
///
/// What stays: a change of database by `USE`; where programs do that, take [`clean_in`]. Statements that somebody
/// prepared and holds are gone (error 1243); the driver's own cache of statements begins anew, so `exec` works and prepares
/// again. Where that costs more than cleaning is worth, take [`rollback`].
///
/// # Errors
///
/// The connection is lost, or the server refuses. The pool then closes the connection.
///
/// # Examples
///
/// ```
/// use millpond::{CloseReason, Pool, reset};
/// use mysql::Conn;
///
/// let pool = Pool::builder(|| Conn::new("mysql://app@localhost/app")).on_return(reset::mysql::clean).build_lazy()?;
/// assert_eq!(pool.stats().closed.by(CloseReason::ResetFailed), 0);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn clean(conn: &mut Conn) -> Result<(), Error> {
    conn.reset()
}

/// [`clean`], and goes back to `database`: a second round trip, because the protocol knows no other way.
///
/// # Errors
///
/// As [`clean`]; or there is no such database any more.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, reset};
/// use mysql::Conn;
///
/// let pool = Pool::builder(|| Conn::new("mysql://app@localhost/orders"))
///     .on_return(reset::mysql::clean_in("orders"))
///     .build_lazy()?;
/// assert_eq!(pool.stats().size, 0);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn clean_in(database: impl Into<String>) -> impl Fn(&mut Conn) -> Result<(), Error> + Send + Sync + 'static {
    let database = database.into();
    move |conn| {
        conn.reset()?;
        conn.select_db(&database)
    }
}

/// Rolls back a transaction that was left open; nothing else. One round trip.
///
/// It keeps prepared statements, and so the driver's cache of them. Variables, settings, temporary tables and locks stay,
/// those of `LOCK TABLES` included. A `Transaction` of the driver is rolled back when it is dropped; this is for `BEGIN`
/// as text, and for `SET autocommit = 0`, whose setting stays.
///
/// # Errors
///
/// The connection is lost. The pool then closes it.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, reset};
/// use mysql::Conn;
///
/// let pool = Pool::builder(|| Conn::new("mysql://app@localhost/app")).on_return(reset::mysql::rollback).build_lazy()?;
/// assert_eq!(pool.stats().size, 0);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn rollback(conn: &mut Conn) -> Result<(), Error> {
    conn.query_drop("ROLLBACK")
}
