//! r2d2's pool.

use super::builder::Builder;
use super::error::Error;
use super::event::{TimeoutEvent, now, tell};
use super::guard::PooledConnection;
use super::hooks::Adapter;
use super::traits::ManageConnection;
use millpond::{Lease, Observe, PoolStatus, Stats, drop_in};
use std::any::type_name;
use std::fmt;
use std::time::Duration;

/// A pool with r2d2's interface. Cloning makes another handle to the same pool.
pub struct Pool<M: ManageConnection>(pub(super) millpond::Pool<Adapter<M>>);

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
    /// numbers and the holders of its connections. At once, and in millpond's words, where the pool is closed, or was made
    /// by the process that this one was forked off.
    #[track_caller]
    pub fn get(&self) -> Result<PooledConnection<M>, Error> {
        self.get_timeout(self.connection_timeout())
    }

    /// Borrows a connection; waits for it at most `timeout`. Where that is zero and no connection is idle, one is opened for
    /// the next who asks.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), at once too.
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        let start = self.listened().then(now);
        let lent = if timeout.is_zero() { self.get_at_once() } else { self.0.get_timeout(timeout) };
        match lent {
            Ok(guard) => Ok(PooledConnection::lent(guard, start)),
            Err(error) => {
                // A pool that is closed fails at once, and nobody's time is up.
                if let Some(handler) = self.0.manager().config.event_handler.as_ref().filter(|_| error.is_timeout()) {
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
        drop_in::try_get_checked(&self.0).map(|guard| PooledConnection::lent(guard, start))
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

    /// What is idle, however long its test takes, as in r2d2. Where nothing is, one is opened for the next who asks.
    #[track_caller]
    fn get_at_once(&self) -> Result<millpond::PooledConnection<Adapter<M>>, millpond::Error> {
        if let Some(idle) = drop_in::try_get_checked(&self.0) {
            return Ok(idle);
        }
        drop_in::open_ahead(&self.0);
        self.0.get_timeout(Duration::ZERO)
    }

    fn listened(&self) -> bool {
        self.0.manager().config.event_handler.is_some()
    }
}

/// What r2d2 does not have, for those who are on their way.
impl<M: ManageConnection> Pool<M> {
    /// The pool's numbers, as [`millpond::Pool::stats`] gives them.
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
