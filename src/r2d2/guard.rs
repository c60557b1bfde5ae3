//! r2d2's guard.

use super::event::{CheckinEvent, CheckoutEvent, now, tell};
use super::hooks::{Adapter, Slot};
use super::traits::ManageConnection;
use millpond::Extensions;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// A borrowed connection. Stands in for the connection itself, and goes home when it is dropped.
pub struct PooledConnection<M: ManageConnection> {
    guard: millpond::PooledConnection<Adapter<M>>,
    /// When it was borrowed; read only for an event handler.
    since: Option<Instant>,
}

impl<M: ManageConnection> PooledConnection<M> {
    pub(super) fn lent(guard: millpond::PooledConnection<Adapter<M>>, start: Option<Instant>) -> Self {
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
        millpond::PooledConnection::extensions(&this.guard)
    }

    /// What is kept beside the connection, to change.
    pub fn extensions_mut(this: &mut Self) -> &mut Extensions {
        millpond::PooledConnection::extensions_mut(&mut this.guard)
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
