//! The traits that others implement for r2d2, and the implementations that do the least.

use super::hooks::DiscreetErrorHandler;
use std::error::Error;
use std::fmt;

/// What a pool must know about a kind of connection. Adapter crates, such as r2d2_sqlite and r2d2_postgres, implement it.
pub trait ManageConnection: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;

    /// What opening and checking can fail with. It need not be `Send`.
    type Error: Error + 'static;

    /// Opens a connection. Runs on a helper thread of the pool.
    ///
    /// # Errors
    ///
    /// Whatever the driver reports. The pool tries again, with pauses, as long as connections are wanted.
    fn connect(&self) -> Result<Self::Connection, Self::Error>;

    /// Asks the server whether the connection still works, with a cheap question such as `SELECT 1`. Runs before each
    /// checkout, unless [`test_on_check_out`](crate::Builder::test_on_check_out) is off.
    ///
    /// # Errors
    ///
    /// Any error closes the connection, and another one is lent.
    fn is_valid(&self, conn: &mut Self::Connection) -> Result<(), Self::Error>;

    /// Says from local knowledge alone whether the connection is beyond use; then it is closed. Runs at each return, on
    /// the thread that drops the guard, and so must not block. `false` where there is nothing to know.
    fn has_broken(&self, conn: &mut Self::Connection) -> bool;
}

/// Is given the errors of the manager and the customizer, whoever else learns of them.
pub trait HandleError<E>: fmt::Debug + Send + Sync + 'static {
    /// Takes an error.
    fn handle_error(&self, error: E);
}

/// Drops errors.
#[derive(Copy, Clone, Debug)]
pub struct NopErrorHandler;

impl<E> HandleError<E> for NopErrorHandler {
    fn handle_error(&self, _: E) {}
}

/// Logs errors, at the level `error`, for the target `r2d2`, and with passwords masked: the default.
#[derive(Copy, Clone, Debug)]
pub struct LoggingErrorHandler;

impl<E: Error> HandleError<E> for LoggingErrorHandler {
    fn handle_error(&self, error: E) {
        DiscreetErrorHandler.handle_error(error);
    }
}

/// Prepares connections, and parts with them. Both functions have defaults that do nothing.
pub trait CustomizeConnection<C, E>: fmt::Debug + Send + Sync + 'static {
    /// Prepares a connection that was just opened, before anybody can borrow it.
    ///
    /// # Errors
    ///
    /// Any error drops the connection, and counts as a failed attempt to open one.
    #[expect(unused_variables, reason = "the name is documentation")]
    fn on_acquire(&self, conn: &mut C) -> Result<(), E> {
        Ok(())
    }

    /// Is given each connection that leaves the pool: too old, broken, not valid, or closed with its pool.
    #[expect(unused_variables, reason = "the name is documentation")]
    fn on_release(&self, conn: C) {}
}

/// Leaves connections as they are: the default.
#[derive(Copy, Clone, Debug)]
pub struct NopConnectionCustomizer;

impl<C, E> CustomizeConnection<C, E> for NopConnectionCustomizer {}
