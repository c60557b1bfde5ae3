//! What stands between an r2d2 manager with its hooks and the pool.

use super::builder::Config;
use super::event::{AcquireEvent, HandleEvent, ReleaseEvent, now, tell};
use super::traits::{HandleError, ManageConnection};
use millpond::{Manager, drop_in};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Numbers as r2d2 gives them: unique over all pools, and growing.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The pool's manager: an r2d2 manager, its hooks, and the settings that the pool repeats when asked.
pub(super) struct Adapter<M: ManageConnection> {
    pub(super) manager: M,
    pub(super) config: Config<M::Connection, M::Error>,
}

/// A connection with what r2d2's events tell about it.
pub(super) struct Slot<C> {
    /// Gone only between `has_broken` and `close`.
    conn: Option<C>,
    pub(super) id: u64,
    birth: Instant,
    pub(super) events: Option<Arc<dyn HandleEvent>>,
}

const PRESENT: &str = "a connection is taken out only when it is broken, and a broken one is not lent";

impl<C> Slot<C> {
    pub(super) fn conn(&self) -> &C {
        self.conn.as_ref().expect(PRESENT)
    }

    pub(super) fn conn_mut(&mut self) -> &mut C {
        self.conn.as_mut().expect(PRESENT)
    }
}

/// What an r2d2 manager failed with. Only its text: r2d2 does not demand an error that may change threads. Without passwords,
/// because nobody can match on its type, only print it.
#[derive(Debug)]
pub(super) struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// Logs errors as r2d2's own handler does, at the same level and for the same target, but without passwords.
#[derive(Clone, Copy)]
pub(super) struct DiscreetErrorHandler;

/// It stands for r2d2's, and a builder prints as r2d2's does.
impl fmt::Debug for DiscreetErrorHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoggingErrorHandler")
    }
}

impl<E: std::error::Error> HandleError<E> for DiscreetErrorHandler {
    fn handle_error(&self, error: E) {
        log::error!(target: "r2d2", "{}", drop_in::redact(&error.to_string()));
    }
}

impl<M: ManageConnection> Adapter<M> {
    fn report(&self, error: M::Error) -> Cause {
        let cause = Cause(drop_in::redact(&error.to_string()).into_owned());
        self.config.error_handler.handle_error(error);
        cause
    }

    fn release(&self, slot: &mut Slot<M::Connection>) {
        let Some(conn) = slot.conn.take() else { return };
        if let Some(handler) = &slot.events {
            let event = ReleaseEvent { id: slot.id, age: slot.birth.elapsed() };
            tell(&**handler, |handler| handler.handle_release(event));
        }
        self.config.connection_customizer.on_release(conn);
    }
}

impl<M: ManageConnection> Manager for Adapter<M> {
    type Connection = Slot<M::Connection>;
    type Error = Cause;

    fn connect(&self) -> Result<Slot<M::Connection>, Cause> {
        let mut conn = self.manager.connect().map_err(|error| self.report(error))?;
        self.config.connection_customizer.on_acquire(&mut conn).map_err(|error| self.report(error))?;
        // Relaxed: only uniqueness matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let events = self.config.event_handler.clone();
        if let Some(handler) = &events {
            tell(&**handler, |handler| handler.handle_acquire(AcquireEvent { id }));
        }
        Ok(Slot { conn: Some(conn), id, birth: now(), events })
    }

    fn is_valid(&self, slot: &mut Slot<M::Connection>) -> Result<(), Cause> {
        self.manager.is_valid(slot.conn_mut()).map_err(|error| self.report(error))
    }

    /// A broken connection is closed here, so that it is gone when the borrower's `drop` returns, as in r2d2. Every
    /// other one is closed by a helper thread.
    fn has_broken(&self, slot: &mut Slot<M::Connection>) -> bool {
        let broken = self.manager.has_broken(slot.conn_mut());
        if broken {
            self.release(slot);
        }
        broken
    }

    fn close(&self, mut slot: Slot<M::Connection>) {
        self.release(&mut slot);
    }
}
