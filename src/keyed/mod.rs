//! Pools by key: one for each URL, shard or tenant.

mod builder;
mod control;
mod making;
mod recovery;
mod stats;
mod table;
#[cfg(feature = "url")]
mod url_key;

pub use builder::PoolsBuilder;
pub use recovery::{Recovery, RecoveryAction};
pub use stats::PoolsStats;
#[cfg(feature = "url")]
pub use url_key::UrlKey;

use crate::clock::{Clock, Moment};
use crate::error::Panicked;
use crate::{Error, ErrorKind, HealthReport, Manager, Pool, PooledConnection};
use builder::{Provider, Settings};
use making::{Makings, Obtained, named};
use stats::Tally;
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use table::{Slot, Table};

/// Pools by key: a closure says how to make the pool of a key, and it is made when it is first needed. A handle, cheap to
/// clone and to share between threads.
///
/// Each pool has the size and the time-outs that the closure gives it, normally by
/// [`build_lazy`](crate::Builder::build_lazy), so that making it takes microseconds and no connection. For URLs as keys
/// there is `UrlKey` (feature `url`).
///
/// - *Once.* However many ask for a key at the same time, the provider is called once, on the thread of one of them and outside
///   of every lock; nobody waits for the pool of another key. If it fails or panics, all who waited get its error, and the next
///   one to ask calls it again. A provider may ask for other keys; where that comes back to its own key, it gets an error of the
///   kind [`Deadlock`](ErrorKind::Deadlock).
/// - *One.* As long as somebody has a handle or a connection of a key's pool, or waits for one, it stays, and everybody who asks
///   gets this one. Exceptions are made by hand only: [`Pool::close`], after which the next one to ask gets a new pool;
///   [`remove`](Self::remove); [`recover`](Self::recover). So nobody sees a
///   [`Closed`](ErrorKind::Closed) because of an eviction. A pool that the provider keeps a handle of is never evicted.
/// - *Eviction.* Pools that nobody uses go when there are more than [`max_pools`](PoolsBuilder::max_pools), least recently used
///   first (as far as the coarse clock tells, 1 to 10 ms), or when nobody has asked for them for
///   [`idle_timeout`](PoolsBuilder::idle_timeout); a connection that comes back counts as asking. Their connections are closed on helper threads, so
///   for a moment they may be open beside the first one of a new pool of the key.
/// - *Cost.* The look-up adds about 45 ns to a checkout, and has no lock that all threads would meet at. No thread is added,
///   however many pools there are: all share one keeper and the helper threads. A pool without connections is 2.4 kB, its place
///   here 60 bytes and its key. Making one and letting one go takes 10 to 20 µs, without the connections.
///
/// A provider that captures these `Pools` keeps them, and all their pools, for ever: let it have a `Weak` of something that holds
/// them, or end with [`close_all`](Self::close_all). Where it returns one pool again and again, [`recover`](Self::recover) cannot
/// replace it.
///
/// `Hash` and `Eq` of the keys are called under locks: they must not call back. `Debug` names a key in errors and log lines,
/// with passwords masked.
///
/// # Examples
///
/// A SQLite database for each tenant:
///
/// ```
/// use millpond::{Pool, Pools};
/// use rusqlite::Connection;
///
/// let pools = Pools::builder(|tenant: &String| {
///     let file = format!("file:/{tenant}?vfs=memdb");
///     Pool::builder(move || Connection::open(&file)).name(tenant).max_size(2).build_lazy()
/// })
/// .max_pools(100)
/// .build()?;
///
/// let (acme, umbrella) = ("acme".to_owned(), "umbrella".to_owned());
/// pools.get(&acme)?.execute_batch("CREATE TABLE bird (name TEXT); INSERT INTO bird VALUES ('heron')")?;
/// let birds: i64 = pools.with(&acme, |conn| conn.query_row("SELECT count(*) FROM bird", [], |row| row.get(0)))??;
/// assert_eq!(birds, 1);
/// assert!(pools.get(&umbrella)?.prepare("SELECT * FROM bird").is_err());
/// assert_eq!((pools.len(), pools.stats().opened), (2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pools<K, M: Manager> {
    inner: Arc<Inner<K, M>>,
}

struct Inner<K, M: Manager> {
    provider: Provider<K, M>,
    settings: Settings,
    table: Table<K, M>,
    makings: Makings<K, M>,
    tally: Tally,
    /// When somebody is to look for pools that can go.
    next_look: AtomicU64,
}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static, M: Manager> Pools<K, M> {
    /// Pools with the default settings: no limit on their number, and those go that nobody has used for 10 min.
    pub fn new(provider: impl Fn(&K) -> Result<Pool<M>, Error> + Send + Sync + 'static) -> Self {
        Self::from_builder(PoolsBuilder::new(provider))
    }

    /// Settings for pools that this provider makes.
    pub fn builder(provider: impl Fn(&K) -> Result<Pool<M>, Error> + Send + Sync + 'static) -> PoolsBuilder<K, M> {
        PoolsBuilder::new(provider)
    }

    fn from_builder(PoolsBuilder { provider, settings }: PoolsBuilder<K, M>) -> Self {
        let first_look = settings.idle_timeout.map_or(Moment::NEVER, |_| Moment::ZERO);
        let inner = Inner {
            provider,
            table: Table::new(settings.clock.clone()),
            settings,
            makings: Makings::new(),
            tally: Tally::default(),
            next_look: AtomicU64::new(first_look.to_bits()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The pool of a key; made now, if there is none. It is not evicted as long as this handle of it lives.
    ///
    /// # Errors
    ///
    /// The provider's; [`ErrorKind::Connect`] where it panicked, or where another thread is still making the pool after
    /// [`creation_timeout`](PoolsBuilder::creation_timeout); [`ErrorKind::Deadlock`] where the provider asks for what it is
    /// making; [`ErrorKind::Closed`] after [`close_all`](Self::close_all).
    pub fn pool(&self, key: &K) -> Result<Pool<M>, Error> {
        Ok(self.slot(key)?.pool.clone())
    }

    /// Borrows a connection of a key's pool, as [`Pool::get`].
    ///
    /// # Errors
    ///
    /// As [`pool`](Self::pool) and [`Pool::get`].
    #[inline]
    #[track_caller]
    pub fn get(&self, key: &K) -> Result<PooledConnection<M>, Error> {
        let slot = self.slot(key)?;
        let began = Clock::System.coarse();
        match slot.pool.get() {
            Err(error) if was_closed(&error) => {
                let deadline = began.after(slot.pool.patience());
                self.go_on(key, slot, error, deadline, |pool, left| pool.get_timeout(left))
            }
            result => result,
        }
    }

    /// The same within `timeout`, the waiting for a pool that another thread is making included.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_timeout(&self, key: &K, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        let began = Clock::System.coarse();
        let deadline = began.after(timeout);
        let ready = self.inner.ready(key);
        let (slot, left) = match ready {
            Some(slot) => (slot, timeout),
            None => {
                // The coarse clock may be late, and who waits for one step of it only is not to lose that.
                let deadline = Clock::System.now().after(timeout);
                (self.inner.obtain(key, None, timeout)?, left(deadline))
            }
        };
        match slot.pool.get_timeout(left) {
            Err(error) if was_closed(&error) => {
                self.go_on(key, slot, error, deadline, |pool, left| pool.get_timeout(left))
            }
            result => result,
        }
    }

    /// Calls `f` with a connection of a key's pool, as [`Pool::with`].
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); what `f` returns is passed through.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, key: &K, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        let mut f = Some(f);
        let mut call = |connection: &mut M::Connection| f.take().expect("called once")(connection);
        let slot = self.slot(key)?;
        let began = Clock::System.coarse();
        match slot.pool.with(&mut call) {
            Err(error) if was_closed(&error) => {
                let deadline = began.after(slot.pool.patience());
                self.go_on(key, slot, error, deadline, |pool, left| {
                    pool.get_timeout(left).map(|mut conn| call(&mut conn))
                })
            }
            result => result,
        }
    }

    /// For somebody who waited in a pool that was closed or replaced: in those that come after it, until `deadline`.
    #[cold]
    #[track_caller]
    fn go_on<T>(
        &self,
        key: &K,
        mut slot: Arc<Slot<M>>,
        mut closed: Error,
        deadline: Moment,
        mut attempt: impl FnMut(&Pool<M>, Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let next = self.inner.obtain(key, None, left(deadline))?;
            if next.pool.is_same(&slot.pool) {
                // The provider has no other one.
                return Err(closed);
            }
            slot = next;
            match attempt(&slot.pool, left(deadline)) {
                Err(error) if was_closed(&error) => closed = error,
                result => return result,
            }
        }
    }

    #[inline]
    fn slot(&self, key: &K) -> Result<Arc<Slot<M>>, Error> {
        match self.inner.ready(key) {
            Some(slot) => Ok(slot),
            None => self.inner.obtain(key, None, self.inner.settings.creation_timeout),
        }
    }

    /// The numbers of all pools together.
    #[must_use]
    pub fn stats(&self) -> PoolsStats {
        let mut stats = self.inner.table.stats();
        self.inner.tally.tell(&mut stats);
        (stats.making, stats.awaiting) = self.inner.makings.numbers();
        stats
    }

    /// How the pools that there are now do, the worst first. One that the provider returns for several keys is in it once.
    /// Makes none, waits for nobody, and does not count as a use; pools that were evicted are not in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, Pools, health::HealthLevel};
    ///
    /// let pools = Pools::new(|tenant: &String| {
    ///     Pool::builder(|| Ok::<_, std::io::Error>(())).name(tenant).max_size(1).build_lazy()
    /// });
    /// assert_eq!(pools.health().level(), HealthLevel::Ok, "there are none");
    ///
    /// pools.with(&"acme".to_owned(), |_| ())?;
    /// let conn = pools.get(&"umbrella".to_owned())?;
    /// let report = pools.health();
    /// assert_eq!(report.level(), HealthLevel::Warning);
    /// assert_eq!(report.pools()[0].pool, "umbrella");
    /// println!("{report}");
    /// // warning  umbrella  1/1 in use  0 idle  0 waiting  the only connection is in use; nobody waits
    /// // ok       acme      0/1 in use  1 idle  0 waiting
    /// # drop(conn);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> HealthReport {
        let all = self.inner.table.all();
        HealthReport::of(all.iter().map(|(_, slot)| &slot.pool))
    }

    /// All pools that there are now, in no order. None of them is evicted while you have its handle.
    #[must_use]
    pub fn each(&self) -> Vec<(K, Pool<M>)> {
        self.inner.table.all().into_iter().map(|(key, slot)| (key, slot.pool.clone())).collect()
    }

    /// The keys whose pools there are now, in no order.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.inner.table.keys()
    }

    /// How many pools there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a pool of this key. Makes none, and does not count as a use.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.inner.table.find(key).is_some()
    }
}

/// The pool was closed by hand or replaced after it was found; there may be another one.
#[inline]
fn was_closed(error: &Error) -> bool {
    error.kind() == ErrorKind::Closed
}

/// What is left to the deadline.
fn left(deadline: Moment) -> Duration {
    if deadline == Moment::NEVER { Duration::MAX } else { deadline.since(Clock::System.now()) }
}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static, M: Manager> Inner<K, M> {
    /// The pool of a key if it is there, marked as used.
    #[inline]
    fn ready(&self, key: &K) -> Option<Arc<Slot<M>>> {
        let now = self.settings.clock.coarse().to_bits();
        let slot = self.table.find(key);
        // Relaxed: a hint, and whoever follows it takes locks.
        if now >= self.next_look.load(Ordering::Relaxed) {
            self.look(now);
        }
        let slot = slot.filter(|slot| !slot.pool.is_closed())?;
        slot.touch(now);
        Some(slot)
    }

    /// The pool of a key, made if need be: if there is none, if it is closed, or if it is `stale`.
    #[cold]
    fn obtain(&self, key: &K, stale: Option<&Arc<Slot<M>>>, timeout: Duration) -> Result<Arc<Slot<M>>, Error> {
        self.obtained(key, stale, timeout).map(|obtained| obtained.slot)
    }

    fn obtained(&self, key: &K, stale: Option<&Arc<Slot<M>>>, timeout: Duration) -> Result<Obtained<M>, Error> {
        let make = || self.make(key);
        let obtained = self.makings.obtain(&self.table, key, stale, timeout, make)?;
        let slot = &obtained.slot;
        // Not before its successor is in its place, so that whoever finds it closed finds the other one.
        if let Some(before) = obtained.before.as_ref().filter(|before| !before.pool.is_same(&slot.pool)) {
            before.pool.close();
        }
        slot.touch(self.now());
        if self.table.len() > self.settings.max_pools {
            self.part_with(self.table.evict(self.settings.max_pools, 0, usize::MAX));
            self.look_soon();
        }
        Ok(obtained)
    }

    fn make(&self, key: &K) -> Result<Arc<Slot<M>>, Error> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.provider)(key))).unwrap_or_else(|payload| {
            let panicked = Panicked::caught("the provider", payload);
            log::error!("the pool of {} cannot be made: {panicked}", named(key));
            let text = format!("the pool of {} cannot be made: the provider panicked", named(key));
            Err(Error::with_cause(ErrorKind::Connect, text, Some(Arc::new(panicked))))
        });
        Tally::count(if made.is_ok() { &self.tally.created } else { &self.tally.provider_failures });
        made.map(|pool| Arc::new(Slot::new(pool, self.now())))
    }

    fn now(&self) -> u64 {
        self.settings.clock.coarse().to_bits()
    }

    /// What was last used before this has been idle for too long.
    fn too_old(&self, now: u64) -> u64 {
        self.settings.idle_timeout.map_or(0, |timeout| Moment::from_bits(now).before(timeout).to_bits())
    }

    /// Parts with some pools that can go, in passing: whoever comes by pays for a few.
    #[cold]
    fn look(&self, now: u64) {
        // Whoever moves the time on does the work, and nobody else meanwhile.
        let due = self.next_look.load(Ordering::Relaxed);
        let busy = Moment::NEVER.to_bits();
        if now < due || self.next_look.compare_exchange(due, busy, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let evicted = self.table.evict(self.settings.max_pools, self.too_old(now), AT_ONCE);
        let next = if evicted.len() == AT_ONCE {
            Moment::ZERO
        } else {
            self.table.look_again();
            let idle = self.settings.idle_timeout.map(|timeout| (timeout / 8).min(LOOK_EVERY));
            let over = (self.table.len() > self.settings.max_pools).then_some(LOOK_SOON);
            let pause = over.into_iter().chain(idle).min();
            pause.map_or(Moment::NEVER, |pause| Moment::from_bits(now).after(pause))
        };
        self.next_look.store(next.to_bits(), Ordering::Relaxed);
        self.part_with(evicted);
    }

    /// Where more pools than wanted are in use, that is looked at again shortly.
    fn look_soon(&self) {
        if self.table.len() > self.settings.max_pools {
            let soon = Moment::from_bits(self.now()).after(LOOK_SOON).to_bits();
            self.next_look.fetch_min(soon, Ordering::Relaxed);
        }
    }

    /// The last step of an eviction, outside of every lock: with its last handle each pool closes.
    fn part_with(&self, evicted: Vec<(K, Arc<Slot<M>>)>) {
        for (key, slot) in evicted {
            log::debug!("the pool {:?} of {} is evicted: nobody uses it", slot.pool.name(), named(&key));
            Tally::count(&self.tally.evicted);
        }
    }
}

/// How many pools are let go in passing: each costs its closing, some microseconds.
const AT_ONCE: usize = 16;

/// How often pools are looked at that may have been idle for too long. A look goes over all of them.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The same where there are more than there should be.
const LOOK_SOON: Duration = Duration::from_millis(100);

impl<K, M: Manager> Clone for Pools<K, M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K: Clone + Eq + Hash, M: Manager> fmt::Debug for Pools<K, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools")
            .field("pools", &self.inner.table.len())
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
