//! What those ask of a pool who have several: a look at it that costs little, a checkout that moves on, and whether a
//! server that was away is back.

use super::Pool;
use super::guard::PooledConnection;
use crate::clock::Moment;
use crate::error::Error;
use crate::manager::Manager;
use crate::stats::{Outage, Stats};
use std::panic::Location;
use std::time::Duration;

impl<M: Manager> Pool<M> {
    /// One that no other pool of the process has; clones have the same.
    pub(crate) fn number(&self) -> u64 {
        self.core.rack.id
    }

    /// The numbers without the distributions, and what is known of an outage.
    pub(crate) fn glance(&self) -> (Stats, Option<Outage>) {
        self.core.glance()
    }

    /// The same with the distributions.
    pub(crate) fn full_glance(&self) -> (Stats, Option<Outage>) {
        self.core.full_glance()
    }

    /// How many callers have or want a connection, and how many the pool may have.
    pub(crate) fn load(&self) -> (u32, u32) {
        self.core.load()
    }

    /// Whether a connection is idle, or there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.core.has_room()
    }

    /// An idle connection that needs no check, except where a checkout has more to look at than the shelf.
    #[inline]
    #[track_caller]
    pub(crate) fn take_idle(&self) -> Option<PooledConnection<M>> {
        if self.core.careful {
            return None;
        }
        self.core.checkout_idle(Location::caller()).map(PooledConnection::new)
    }

    /// [`get_timeout`](Self::get_timeout) for somebody who has another pool to go to, and so does not wait here for the end of
    /// an outage.
    #[track_caller]
    pub(crate) fn get_or_leave(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        self.core.checkout_or_leave(timeout, Location::caller()).map(PooledConnection::new)
    }

    /// The pool's time, which may stand a few milliseconds behind.
    pub(crate) fn moment(&self) -> Moment {
        self.core.clock.coarse()
    }

    /// How long [`get`](Self::get) waits.
    pub(crate) fn connection_timeout(&self) -> Duration {
        *self.core.connection_timeout.read()
    }

    /// Whether all connections that there may be are borrowed.
    pub(crate) fn is_all_lent(&self) -> bool {
        self.core.is_all_lent()
    }

    /// Whether its server has left an attempt to connect, or a check, without an answer for so long that it is taken for away.
    pub(crate) fn is_silent(&self) -> bool {
        self.core.is_silent()
    }

    /// Sends those who wait here and have another pool to go to away with this error.
    pub(crate) fn send_on(&self, error: &Error) {
        self.core.rack.fail_waiters(error, false);
    }

    /// Neither paused nor closed.
    pub(crate) fn is_lending(&self) -> bool {
        self.core.is_lending()
    }

    /// Whether a connection lies there that has worked since `moment`: it was opened or checked, or came back from somebody.
    pub(crate) fn has_worked_since(&self, moment: Moment) -> bool {
        self.core.has_worked_since(moment)
    }

    /// Has the pool find out whether its server is back, though nobody waits; nothing is known to have worked since `moment`.
    pub(crate) fn keep_trying(&self, moment: Moment) {
        self.core.keep_trying(moment);
    }
}
