//! The numbers of many pools together.

use crate::{Manager, Pool};
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of all pools together, by [`Pools::stats`](crate::Pools::stats). Counts of what has happened never go down: what
/// a pool has counted stays in them when it is evicted, removed or replaced.
///
/// Taken without holding up anybody, one pool after another. A pool that the provider returns for several keys counts once for
/// each.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, Pools};
///
/// let pools = Pools::new(|_: &u32| Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(4).build_lazy());
/// let conn = pools.get(&1)?;
/// pools.with(&2, |_| ())?;
/// let stats = pools.stats();
/// assert_eq!((stats.pools, stats.created, stats.max_size, stats.size, stats.in_use), (2, 2, 8, 2, 1));
/// # drop(conn);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolsStats {
    /// Pools that there are.
    pub pools: usize,
    /// Calls of the provider that are under way.
    pub making: usize,
    /// Callers that wait for a pool which another thread is making.
    pub awaiting: usize,
    /// Pools that the provider has made.
    pub created: u64,
    /// Pools that nobody used, and that were parted with.
    pub evicted: u64,
    /// Calls of the provider that failed or panicked.
    pub provider_failures: u64,
    /// The most connections that the pools may have, all together.
    pub max_size: u64,
    /// Connections that are open.
    pub size: u64,
    /// Connections that wait to be borrowed.
    pub idle: u64,
    /// Connections that are borrowed.
    pub in_use: u64,
    /// Connections that are being opened.
    pub connecting: u64,
    /// Connections whose check is under way.
    pub checking: u64,
    /// Callers that wait for a connection.
    pub waiting: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections closed. Those of a pool that is not among the pools any more count as closed, although the last may take a
    /// moment; so `opened - closed = size` holds at every quiet moment.
    pub closed: u64,
    /// Attempts to open a connection that failed.
    pub connect_failures: u64,
    /// Checks that failed.
    pub check_failures: u64,
    /// Connections lent.
    pub checkouts: u64,
    /// Checkouts and failures that had to wait.
    pub waits: u64,
    /// Callers whose deadline passed.
    pub timeouts: u64,
    /// Callers turned away because too many waited already.
    pub overloads: u64,
    /// Callers that failed at once because the server was away.
    pub fast_failures: u64,
    /// Panics in callbacks of the pools.
    pub panics: u64,
}

impl PoolsStats {
    pub(super) fn add<M: Manager>(&mut self, pool: &Pool<M>) {
        let stats = pool.stats();
        self.max_size += u64::from(stats.max_size);
        self.size += u64::from(stats.size);
        self.idle += u64::from(stats.idle);
        self.in_use += u64::from(stats.in_use);
        self.connecting += u64::from(stats.connecting);
        self.checking += u64::from(stats.checking);
        self.waiting += u64::from(stats.waiting);
        self.opened += stats.opened;
        self.closed += stats.closed.total();
        self.connect_failures += stats.connect_failures;
        self.check_failures += stats.check_failures;
        self.checkouts += stats.checkouts;
        self.waits += stats.waits;
        self.timeouts += stats.timeouts;
        self.overloads += stats.overloads;
        self.fast_failures += stats.fast_failures;
        self.panics += stats.panics;
    }

    /// Adds what pools have counted that are gone.
    pub(super) fn include(&mut self, gone: &Self) {
        self.opened += gone.opened;
        self.closed += gone.closed;
        self.connect_failures += gone.connect_failures;
        self.check_failures += gone.check_failures;
        self.checkouts += gone.checkouts;
        self.waits += gone.waits;
        self.timeouts += gone.timeouts;
        self.overloads += gone.overloads;
        self.fast_failures += gone.fast_failures;
        self.panics += gone.panics;
    }

    /// Adds a pool that is gone: what it has counted, and nothing that is open.
    pub(super) fn bury<M: Manager>(&mut self, pool: &Pool<M>) {
        self.add(pool);
        let closed = self.opened;
        let past = std::mem::take(self);
        *self =
            Self { max_size: 0, size: 0, idle: 0, in_use: 0, connecting: 0, checking: 0, waiting: 0, closed, ..past };
    }
}

/// What is counted beside the pools.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) created: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) provider_failures: AtomicU64,
}

impl Tally {
    /// Relaxed, as for all counts: each is read by itself.
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn tell(&self, stats: &mut PoolsStats) {
        stats.created = self.created.load(Ordering::Relaxed);
        stats.evicted = self.evicted.load(Ordering::Relaxed);
        stats.provider_failures = self.provider_failures.load(Ordering::Relaxed);
    }
}
