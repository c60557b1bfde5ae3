//! The crate r2d2 0.8 over millpond's pool: `use millpond::r2d2;` is the whole migration.
//!
//! Names, signatures, defaults, panics and texts are r2d2's. [`ManageConnection`], [`CustomizeConnection`] and
//! [`HandleError`] *are* r2d2's, so every existing manager, customizer and error handler works unchanged. What r2d2 does
//! wrong is not kept: the guide `docs/from-r2d2.md` lists each difference with its reason, and shows the way on to the
//! native API, [`millpond::Pool`](crate::Pool).
//!
//! # Examples
//!
//! ```
//! # #[derive(Debug)] struct Memory;
//! # impl r2d2::ManageConnection for Memory {
//! #     type Connection = Vec<u8>;
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
//! #     fn is_valid(&self, _: &mut Vec<u8>) -> std::io::Result<()> { Ok(()) }
//! #     fn has_broken(&self, _: &mut Vec<u8>) -> bool { false }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use millpond::r2d2;
//! use std::thread;
//!
//! let pool = r2d2::Pool::builder().max_size(3).build(Memory)?;
//! let workers: Vec<_> = (0..8)
//!     .map(|n| {
//!         let pool = pool.clone();
//!         thread::spawn(move || pool.get().map(|mut conn| conn.push(n)))
//!     })
//!     .collect();
//! for worker in workers {
//!     worker.join().expect("no panic")?;
//! }
//! assert_eq!(pool.state().idle_connections, 3);
//! # Ok(())
//! # }
//! ```

mod builder;
pub mod event;
mod hooks;

pub use self::builder::Builder;
pub use self::event::{HandleEvent, NopEventHandler};
pub use self::hooks::{
    CustomizeConnection, HandleError, LoggingErrorHandler, ManageConnection, NopConnectionCustomizer, NopErrorHandler,
};
pub use crate::Extensions;

use self::event::{CheckinEvent, CheckoutEvent, TimeoutEvent, now, tell};
use self::hooks::{Adapter, Slot};
use crate::redact::redact;
use crate::{ErrorKind, Lease, Observe, PoolStatus, Stats};
use std::any::type_name;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// A pool with r2d2's interface. Cloning makes another handle to the same pool.
pub struct Pool<M: ManageConnection>(crate::Pool<Adapter<M>>);

impl<M: ManageConnection> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: ManageConnection> Pool<M> {
    /// Opens a pool with r2d2's defaults, and returns when its ten connections are open.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new(manager: M) -> Result<Self, Error> {
        Self::builder().build(manager)
    }

    /// Starts to configure a pool.
    #[must_use]
    pub fn builder() -> Builder<M> {
        Builder::new()
    }

    /// Borrows a connection; waits for it at most the configured `connection_timeout`.
    ///
    /// # Errors
    ///
    /// When the time is up. The text is r2d2's; [`source`](std::error::Error::source) is millpond's error, with the pool's
    /// numbers and the holders of its connections.
    #[track_caller]
    pub fn get(&self) -> Result<PooledConnection<M>, Error> {
        self.get_timeout(self.connection_timeout())
    }

    /// Borrows a connection; waits for it at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        let start = self.listened().then(now);
        // Who does not wait still gets what is idle, however long its test takes, as in r2d2.
        let idle = if timeout.is_zero() { self.0.try_get_checked() } else { None };
        // Not a closure: the caller's source line would be lost.
        let lent = match idle {
            Some(guard) => Ok(guard),
            None => self.0.get_timeout(timeout),
        };
        match lent {
            Ok(guard) => Ok(PooledConnection::lent(guard, start)),
            Err(error) => {
                if let Some(handler) = &self.0.manager().config.event_handler {
                    tell(&**handler, |handler| handler.handle_timeout(TimeoutEvent { timeout }));
                }
                Err(Error(error))
            }
        }
    }

    /// Borrows an idle connection, if there is one. Waits for nobody and opens none.
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConnection<M>> {
        let start = self.listened().then(now);
        self.0.try_get_checked().map(|guard| PooledConnection::lent(guard, start))
    }

    /// How many connections are open, and how many of them are idle. Holds nobody up.
    #[must_use]
    pub fn state(&self) -> State {
        let Stats { size, idle, in_use, .. } = self.0.stats();
        // The numbers are read one after another; a connection that was lent meanwhile is an open one.
        State { connections: size.max(idle + in_use), idle_connections: idle }
    }

    /// The configured largest number of connections.
    #[must_use]
    pub fn max_size(&self) -> u32 {
        self.0.manager().config.max_size
    }

    /// The configured number of idle connections to keep ready; `None` stands for `max_size`.
    #[must_use]
    pub fn min_idle(&self) -> Option<u32> {
        self.0.manager().config.min_idle
    }

    /// Whether connections are tested at every checkout.
    #[must_use]
    pub fn test_on_check_out(&self) -> bool {
        self.0.manager().config.test_on_check_out
    }

    /// The configured largest age of a connection.
    #[must_use]
    pub fn max_lifetime(&self) -> Option<Duration> {
        self.0.manager().config.max_lifetime
    }

    /// The configured largest idle time of a connection.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.0.manager().config.idle_timeout
    }

    /// The configured time that [`get`](Self::get) waits.
    #[must_use]
    pub fn connection_timeout(&self) -> Duration {
        self.0.manager().config.connection_timeout
    }

    fn listened(&self) -> bool {
        self.0.manager().config.event_handler.is_some()
    }
}

/// What r2d2 does not have, for those who are on their way.
impl<M: ManageConnection> Pool<M> {
    /// The pool's numbers, as [`millpond::Pool::stats`](crate::Pool::stats) gives them.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Who holds connections now: thread, source line of the checkout, for how long.
    #[must_use]
    pub fn holders(&self) -> Vec<Lease> {
        self.0.holders()
    }

    /// Closes the idle connections now and the borrowed ones when they come back, and opens fresh ones.
    pub fn refresh(&self) {
        self.0.refresh();
    }

    /// Closes the pool for all its handles: callers that wait fail now, borrowed connections are closed when they come
    /// back.
    pub fn close(&self) {
        self.0.close();
    }

    /// Closes the pool and waits until every connection has come back and is closed.
    ///
    /// # Errors
    ///
    /// When that takes longer than `timeout`; the source's text says who still holds what.
    pub fn close_and_wait(&self, timeout: Duration) -> Result<(), Error> {
        self.0.close_and_wait(timeout).map_err(Error)
    }
}

impl<M: ManageConnection> Observe for Pool<M> {
    fn observe(&self) -> Vec<PoolStatus> {
        vec![self.0.status()]
    }
}

/// Settings and state as r2d2 prints them. Of the manager only the type is named, because managers hold passwords.
impl<M: ManageConnection> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("state", &self.state())
            .field("config", &self.0.manager().config)
            .field("manager", &format_args!("{}", type_name::<M>()))
            .finish()
    }
}

/// How many connections a pool has.
#[derive(Debug)]
#[non_exhaustive]
pub struct State {
    /// Open connections, idle or in use.
    pub connections: u32,
    /// Those of them that wait to be borrowed.
    pub idle_connections: u32,
}

/// Why there is no connection. The text is r2d2's: `timed out waiting for connection`, followed by the manager's error,
/// if that is what kept it.
///
/// [`source`](std::error::Error::source) is a [`millpond::Error`](crate::Error), with a kind, the pool's numbers and the
/// holders of its connections.
#[derive(Debug)]
pub struct Error(crate::Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What r2d2 does not know has millpond's words.
        if matches!(self.0.kind(), ErrorKind::Overloaded | ErrorKind::Paused | ErrorKind::Closed | ErrorKind::Config) {
            return self.0.fmt(f);
        }
        f.write_str("timed out waiting for connection")?;
        match std::error::Error::source(&self.0) {
            Some(cause) => write!(f, ": {}", redact(&cause.to_string())),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}

/// A borrowed connection. Stands in for the connection itself, and goes home when it is dropped.
pub struct PooledConnection<M: ManageConnection> {
    guard: crate::PooledConnection<Adapter<M>>,
    /// When it was borrowed; read only for an event handler.
    since: Option<Instant>,
}

impl<M: ManageConnection> PooledConnection<M> {
    fn lent(guard: crate::PooledConnection<Adapter<M>>, start: Option<Instant>) -> Self {
        let mut lent = Self { guard, since: None };
        let slot: &Slot<_> = &lent.guard;
        if let (Some(start), Some(handler)) = (start, &slot.events) {
            let since = now();
            let event = CheckoutEvent { id: slot.id, duration: since.duration_since(start) };
            tell(&**handler, |handler| handler.handle_checkout(event));
            lent.since = Some(since);
        }
        lent
    }

    /// What is kept beside the connection for as long as it is open.
    #[must_use]
    pub fn extensions(this: &Self) -> &Extensions {
        crate::PooledConnection::extensions(&this.guard)
    }

    /// What is kept beside the connection, to change.
    pub fn extensions_mut(this: &mut Self) -> &mut Extensions {
        crate::PooledConnection::extensions_mut(&mut this.guard)
    }
}

impl<M: ManageConnection> Drop for PooledConnection<M> {
    fn drop(&mut self) {
        let slot: &Slot<_> = &self.guard;
        if let (Some(since), Some(handler)) = (self.since, &slot.events) {
            let event = CheckinEvent { id: slot.id, duration: since.elapsed() };
            tell(&**handler, |handler| handler.handle_checkin(event));
        }
    }
}

impl<M: ManageConnection> Deref for PooledConnection<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        self.guard.conn()
    }
}

impl<M: ManageConnection> DerefMut for PooledConnection<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        self.guard.conn_mut()
    }
}

impl<M: ManageConnection> fmt::Debug for PooledConnection<M>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
