//! Cleaning a session for its next user: functions for [`Builder::on_return`](crate::Builder::on_return).
//!
//! A connection is more than a socket. The server keeps a session for it, with an open transaction, settings, locks and
//! temporary tables, and the next borrower inherits what the last one left. The pool does not know what a transaction is,
//! so it cleans nothing by itself; these functions do, for pools of any manager that lends the driver's own connection,
//! [`postgres::Client`](::postgres::Client) or [`mysql::Conn`](::mysql::Conn): r2d2_postgres and r2d2_mysql, a closure, or
//! a [`Manager`](crate::Manager) of your own.
//!
//! | function | leaves nothing of | round trips |
//! |---|---|---|
//! | [`postgres::clean`] | transaction, settings, role, temporary tables, listeners, advisory locks, cursors | 1 |
//! | [`postgres::clean_and`] | the same, and then runs SQL of yours | 1 |
//! | [`postgres::rollback`] | transaction; behind PgBouncer take this one | 1 |
//! | [`mysql::clean`] | transaction, variables, settings, temporary tables, table locks, named locks | 1 |
//! | [`mysql::clean_in`] | the same, and a change of database | 2 |
//! | [`mysql::rollback`] | transaction | 1 |
//!
//! A function costs a round trip at each return, what an empty query costs: 15 to 60 µs over the loopback of the machine
//! measured, and 10 µs more where a session of PostgreSQL is cleaned (`docs/reliability.md`). The thread that drops the
//! guard pays it. A server that has gone silent keeps that thread for as long as the driver waits, which by default has no
//! end: set the time-outs of the driver (`tcp_user_timeout` of postgres, `read_timeout` and `write_timeout` of mysql).
//!
//! # When cleaning fails
//!
//! Each function fails where it cannot clean, and the pool closes a connection whose hook fails: nobody is lent it, and its
//! place is free for a new one. The thread that dropped the guard hears nothing of it. The statistics count such
//! connections ([`Closed::by`] with [`CloseReason::ResetFailed`]), and [`EventHandler::reset`] and a log line at the level
//! `debug` have the error.
//!
//! Three cases need no hook: a connection that a panicking thread drops is closed uncleaned; so is one that the driver
//! knows to be broken ([`Manager::has_broken`]), or that was
//! [discarded](crate::PooledConnection::discard), which is the way to get rid of whatever a function here does not undo.
//!
//! # Other versions of the drivers
//!
//! The feature `postgres` takes postgres 0.19, the feature `mysql` takes mysql 25 to 28. Cargo chooses the newest of those
//! even if your program uses an older one, and there is an error about two types of the same name; then
//! `cargo update -p mysql@28.0.4 --precise 26.0.1`, with the two versions of your `Cargo.lock`, makes it one. Without the
//! features, the same is a line of your own:
//! `ROLLBACK` and the text of [`postgres::CLEAN`] for PostgreSQL, `on_return(|conn| conn.reset())` for MySQL.
//!
//! [`Closed::by`]: crate::Closed::by
//! [`CloseReason::ResetFailed`]: crate::CloseReason::ResetFailed
//! [`EventHandler::reset`]: crate::EventHandler::reset
//! [`Manager::has_broken`]: crate::Manager::has_broken

#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
