//! The pool as users hold it.

mod bound;
mod control;
pub(crate) mod entry;
mod guard;
pub(crate) mod lifespan;
mod member;
pub(crate) mod rack;
pub(crate) mod seat;
pub(crate) mod shared;
pub(crate) mod shelf;
pub(crate) mod waiters;
pub(crate) mod warming;

#[cfg(all(test, loom))]
mod model;

pub use bound::Bound;
pub use guard::PooledConnection;

use crate::builder::Builder;
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::incident::{Incident, Noted};
use crate::lease::Lease;
use crate::manager::{IntoManager, Manager};
use crate::stats::Stats;
use shared::{Core, Item, checkin_to};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A pool of connections: a handle, cheap to clone and to share between threads.
///
/// When the last handle is dropped the pool closes: idle connections at once, borrowed ones when they come back.
///
/// # Examples
///
/// ```
/// use millpond::Pool;
/// use std::thread;
///
/// let pool = Pool::builder(|| rusqlite::Connection::open("file:/shared?vfs=memdb")).max_size(4).build()?;
/// pool.get()?.execute_batch("CREATE TABLE hits (n INTEGER)")?;
/// thread::scope(|scope| {
///     for n in 0..8 {
///         let pool = &pool;
///         scope.spawn(move || pool.get().expect("within 5 s").execute("INSERT INTO hits VALUES (?1)", [n]));
///     }
/// });
/// let hits: i64 = pool.get()?.query_row("SELECT count(*) FROM hits", [], |row| row.get(0))?;
/// assert_eq!(hits, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool<M: Manager> {
    core: Arc<Core<M>>,
}

impl<M: Manager> Pool<M> {
    /// A pool with the default settings: `Pool::builder(manager).build()`.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new<K>(manager: impl IntoManager<K, Manager = M>) -> Result<Self, Error> {
        Self::builder(manager).build()
    }

    /// Settings for a pool over this manager.
    pub fn builder<K>(manager: impl IntoManager<K, Manager = M>) -> Builder<M> {
        Builder::new(manager.into_manager())
    }

    /// For fronts that keep connections of their own at hand.
    #[cfg(feature = "sqlite")]
    pub(crate) fn refuse_forked(&self) -> Result<(), Error> {
        self.core.refuse_forked()
    }

    /// For fronts that part with pools of which nobody may know: whether this is the only handle, and nobody has a connection.
    /// Nobody can begin to use it while whoever asks keeps its handle to itself.
    pub(crate) fn is_unused(&self) -> bool {
        // Acquire, so that what was borrowed through handles that are gone is seen below.
        self.core.handles.load(Ordering::Acquire) == 1
            && self.core.rack.shelf.each().all(|(_, slot)| !slot.mark().is_lent())
    }

    /// For fronts that go on in another pool: how long callers wait who do not say.
    pub(crate) fn patience(&self) -> Duration {
        *self.core.connection_timeout.read()
    }

    /// For fronts that part with pools: when a connection that lies idle came back last, to a tick; where the time is comparable
    /// to that of `clock`.
    pub(crate) fn last_return(&self, clock: &Clock) -> Option<Moment> {
        if self.core.clock.is_by_hand() != clock.is_by_hand() {
            return None;
        }
        let now = clock.coarse();
        let idle = self.core.rack.shelf.each().filter(|(_, slot)| slot.mark().is_idle() && slot.checkouts() > 0);
        // Ticks wrap around; and a return may be read to be ahead of the coarse clock.
        let ahead = idle.map(|(_, slot)| slot.idle_since().wrapping_sub(now.tick()).cast_signed()).max()?;
        Some(now.ticks_on(ahead))
    }

    /// For fronts that replace pools: whether both are handles of one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// For fronts that replace pools which were closed: one load.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.core.rack.shelf.alert() & shelf::CLOSED != 0
    }

    pub(crate) fn from_core(core: Arc<Core<M>>) -> Self {
        Self { core }
    }

    /// Borrows a connection. Waits for one no longer than
    /// [`connection_timeout`](Builder::connection_timeout), which covers queueing, connecting and checking.
    ///
    /// # Errors
    ///
    /// Exhausted, cannot connect, invalid, overloaded, paused or closed: see [`ErrorKind`](crate::ErrorKind).
    #[inline]
    #[track_caller]
    pub fn get(&self) -> Result<PooledConnection<M>, Error> {
        self.core.checkout(None, Location::caller()).map(PooledConnection::new)
    }

    /// Borrows a connection, waiting for one no longer than `timeout`. `Duration::MAX` waits for ever; zero takes
    /// what is idle and needs no check.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[inline]
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        self.core.checkout(Some(timeout), Location::caller()).map(PooledConnection::new)
    }

    /// Borrows an idle connection if there is one that needs no check and nobody is to be considered first; never
    /// blocks and never opens one.
    ///
    /// Where all that is idle must be checked first ([`Builder::validation`](crate::Builder::validation); by default after 500 ms),
    /// there is `None`, and one is sent to be checked on a helper thread: who asks again a moment later gets it, within
    /// 100 ms where each checkout is to be preceded by a check. A pool without threads has nobody to do that;
    /// there, [`get_timeout`](Self::get_timeout) checks.
    #[inline]
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConnection<M>> {
        self.core.checkout_or_prove(Location::caller()).map(PooledConnection::new)
    }

    /// For `drop_in`: like [`try_get`](Self::try_get), but a connection that needs a check is checked, here.
    #[track_caller]
    pub(crate) fn try_get_checked(&self) -> Option<PooledConnection<M>> {
        self.core.checkout_here(true, Location::caller()).map(PooledConnection::new)
    }

    /// For `drop_in`: a connection for those who do not wait for it.
    pub(crate) fn open_ahead(&self) {
        self.core.open_ahead();
    }

    /// Borrows `count` connections, all or none, within the connection timeout. Callers that want several never
    /// deadlock each other: only one of them gathers at a time.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`ErrorKind::Config`](crate::ErrorKind::Config) if `count` is more than the pool's maximum.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(3).build_lazy()?;
    /// let both = pool.get_many(2)?;
    /// assert_eq!(both.len(), 2);
    /// assert!(pool.get_many(4).is_err());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[track_caller]
    pub fn get_many(&self, count: usize) -> Result<Vec<PooledConnection<M>>, Error> {
        let timeout = *self.core.connection_timeout.read();
        let mut connections = Vec::new();
        self.core.checkout_many(count, timeout, Location::caller(), |item| {
            connections.push(PooledConnection::new(item));
        })?;
        Ok(connections)
    }

    /// Calls `f` with a borrowed connection, or with the one that is [bound](Self::bind) to this thread. The fastest way,
    /// and a plain `&mut` for any driver.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); what `f` returns is passed through. With a bound connection only
    /// [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock), when a closure further up has it.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        // Relaxed: what this thread has bound, it has counted itself.
        if self.core.bound.load(Ordering::Relaxed) > 0 {
            return self.with_bound(f, Location::caller());
        }
        self.with_borrowed(f, Location::caller())
    }

    #[inline]
    fn with_borrowed<R>(
        &self,
        f: impl FnOnce(&mut M::Connection) -> R,
        at: &'static Location<'static>,
    ) -> Result<R, Error> {
        let item = self.core.checkout(None, at)?;
        let mut lent = Lent { core: &self.core, item: Some(item) };
        let item = lent.item.as_mut().expect("put there on the line before");
        Ok(f(&mut item.connection))
    }

    /// The pool's numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Who holds connections now: thread, source line, for how long, label; longest first.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, PooledConnection};
    ///
    /// let pool = Pool::new(|| Ok::<_, std::io::Error>(()))?;
    /// let mut conn = pool.get()?;
    /// PooledConnection::set_label(&mut conn, "nightly report");
    /// let holders = pool.holders();
    /// assert_eq!(holders[0].label(), Some("nightly report"));
    /// assert!(holders[0].location().is_some_and(|place| place.file().ends_with(".rs")));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn holders(&self) -> Vec<Lease> {
        self.core.holders(usize::MAX)
    }

    pub(crate) fn longest_holders(&self, most: usize) -> Vec<Lease> {
        self.core.holders(most)
    }

    /// What went wrong lately, oldest first: callers that were not served, the server's comings and goings, connections closed
    /// because of an error, panics, overdue leases, and changes made by hand. Kept without any event handler, the last
    /// [`Builder::incidents`](crate::Builder::incidents) of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{IncidentKind, Pool, PooledConnection};
    /// use std::time::Duration;
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(1).build()?;
    /// let mut held = pool.get()?;
    /// PooledConnection::set_label(&mut held, "nightly report");
    /// for _ in 0..3 {
    ///     pool.get_timeout(Duration::from_millis(1)).unwrap_err();
    /// }
    /// // At some other time: what happened?
    /// let incidents = pool.incidents();
    /// assert_eq!((incidents[0].kind, incidents[0].count), (IncidentKind::TimedOut, 3));
    /// assert_eq!(incidents[0].holders[0].label(), Some("nightly report"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.noted().into_iter().map(Noted::read).collect()
    }

    pub(crate) fn noted(&self) -> Vec<Noted> {
        self.core.noted()
    }

    /// The pool's name, as messages and metrics carry it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// What opens the connections.
    #[must_use]
    pub fn manager(&self) -> &M {
        &self.core.manager
    }
}

/// A connection that is lent to a closure; returned on every path.
struct Lent<'a, M: Manager> {
    core: &'a Core<M>,
    item: Option<Box<Item<M>>>,
}

impl<M: Manager> Drop for Lent<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            checkin_to(self.core, item);
        }
    }
}

impl<C, E, F> Pool<crate::FnManager<F, C, E>>
where
    F: Fn() -> Result<C, E> + Send + Sync + 'static,
    C: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    /// A pool over a closure that opens a connection, with all defaults. [`Pool::new`](Self::new) takes the same closure, and
    /// everything else that opens connections. [`FnManager`](crate::FnManager) is the form with options: closures that check,
    /// clean and class errors.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::Pool;
    ///
    /// let pool = Pool::from_fn(|| rusqlite::Connection::open_in_memory())?;
    /// let answer: u32 = pool.get()?.query_row("SELECT 42", [], |row| row.get(0))?;
    /// assert_eq!(answer, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_fn(connect: F) -> Result<Self, Error> {
        Builder::new(crate::FnManager::new(connect)).build()
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        // Relaxed: a new handle can only be made from one that exists, so the count cannot reach zero meanwhile.
        self.core.handles.fetch_add(1, Ordering::Relaxed);
        Self { core: Arc::clone(&self.core) }
    }
}

impl<M: Manager> Drop for Pool<M> {
    fn drop(&mut self) {
        // Acquire and release, so that the closer sees what all other handles did.
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.close();
        }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the manager: it may hold a password.
        let stats = self.core.brief(&self.core.rack.numbers());
        f.debug_struct("Pool")
            .field("name", &self.core.name)
            .field("max_size", &stats.max_size)
            .field("size", &stats.size)
            .field("idle", &stats.idle)
            .field("in_use", &stats.in_use)
            .field("waiting", &stats.waiting)
            .finish_non_exhaustive()
    }
}

/// Names the pool's number among the pools of the process.
pub(crate) fn next_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
