//! The guard: a borrowed connection that goes home when it is dropped.

use crate::event::CloseReason;
use crate::extensions::Extensions;
use crate::manager::Manager;
use crate::pool::shared::{Core, Item, checkin, retire};
use crate::redact::redact;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// A borrowed connection. It owns its way home: it is `'static` and `Send`, may be moved to another thread or stored,
/// and goes back to its pool when it is dropped, wherever that is.
///
/// The functions besides `Deref` and `DerefMut` are associated functions, so that they never hide a method of the
/// connection.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, PooledConnection};
///
/// let pool = Pool::new(|| rusqlite::Connection::open_in_memory())?;
/// let conn = pool.get()?;
/// let answer: i64 = conn.query_row("SELECT 6 * 7", [], |row| row.get(0))?;
/// assert_eq!((answer, PooledConnection::uses(&conn)), (42, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PooledConnection<M: Manager> {
    /// Absent only while it is being dropped or consumed.
    item: Option<Box<Item<M>>>,
}

impl<M: Manager> PooledConnection<M> {
    #[inline]
    pub(crate) fn new(item: Box<Item<M>>) -> Self {
        Self { item: Some(item) }
    }

    #[inline]
    fn item(&self) -> &Item<M> {
        self.item.as_ref().expect("present until the guard is dropped or consumed")
    }

    #[inline]
    fn item_mut(&mut self) -> &mut Item<M> {
        self.item.as_mut().expect("present until the guard is dropped or consumed")
    }

    /// Has the connection closed, on a helper thread, instead of putting it back: for one that you know to be in a bad
    /// state.
    pub fn discard(mut this: Self) {
        if let Some(item) = this.item.take() {
            item.home.note_return(&item);
            retire(item, CloseReason::Discarded);
        }
    }

    /// Takes the connection out of the pool for good. Its place is free at once.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "it cannot: the guard is taken by value")]
    pub fn into_inner(mut this: Self) -> M::Connection {
        let item = this.item.take().expect("present until the guard is dropped or consumed");
        Core::detach(item)
    }

    /// Has the connection closed when it is returned, whatever [`Manager::has_broken`] says.
    pub fn mark_broken(this: &mut Self) {
        this.item_mut().broken = true;
    }

    /// What the user keeps beside this connection.
    #[must_use]
    pub fn extensions(this: &Self) -> &Extensions {
        this.item().extensions()
    }

    /// What the user keeps beside this connection, to change.
    pub fn extensions_mut(this: &mut Self) -> &mut Extensions {
        this.item_mut().extensions_mut()
    }

    /// The connection's number, counted up from 1 in each pool in the order of opening.
    #[must_use]
    pub fn id(this: &Self) -> u64 {
        this.item().id
    }

    /// How long ago the connection was opened.
    #[must_use]
    pub fn age(this: &Self) -> Duration {
        let item = this.item();
        item.home.clock.now().since(item.born)
    }

    /// How often the connection was lent, this time included.
    #[must_use]
    pub fn uses(this: &Self) -> u64 {
        this.item().uses
    }

    /// Writes on the lease what the connection is used for: [`Pool::holders`](crate::Pool::holders) and the error of
    /// an exhausted pool show it until the connection is returned.
    pub fn set_label(this: &mut Self, label: impl Into<String>) {
        let label: Arc<str> = redact(&label.into()).into();
        let item = this.item_mut();
        item.labelled = true;
        item.home.labels.write().insert(item.id, label);
    }
}

impl<M: Manager> Deref for PooledConnection<M> {
    type Target = M::Connection;

    #[inline]
    fn deref(&self) -> &M::Connection {
        &self.item().connection
    }
}

impl<M: Manager> DerefMut for PooledConnection<M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.item_mut().connection
    }
}

impl<M: Manager> Drop for PooledConnection<M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            checkin(item);
        }
    }
}

/// Not the connection itself, which need not be printable, and may hold a password.
impl<M: Manager> fmt::Debug for PooledConnection<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let item = self.item();
        f.debug_struct("PooledConnection").field("pool", &item.home.name).field("id", &item.id).finish_non_exhaustive()
    }
}
