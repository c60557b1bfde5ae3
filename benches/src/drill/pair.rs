//! The same manager in millpond and in r2d2, each with its default settings.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use r2d2::ManageConnection;

/// Long enough for whatever is not measured.
const PATIENCE: Duration = Duration::from_secs(30);

/// What both pools can take: r2d2's managers, whose errors millpond keeps and passes between threads.
pub(crate) trait Driver: ManageConnection<Error: Send + Sync> {}

impl<M: ManageConnection<Error: Send + Sync>> Driver for M {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Millpond,
    R2d2,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Millpond, Kind::R2d2];

impl Kind {
    /// As a child process is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Millpond => "millpond",
            Self::R2d2 => "r2d2",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name() == name)
    }

    /// A pool that opens nothing before it is asked, or does so without being waited for, as r2d2 does.
    pub(crate) fn pool<M: Driver>(self, manager: M, size: u32) -> Pool<M> {
        match self {
            Self::Millpond => {
                let pool = millpond::Pool::builder(manager).max_size(size).build_lazy();
                Pool::Millpond(pool.expect("the settings are in range"))
            }
            Self::R2d2 => Pool::R2d2(r2d2::Pool::builder().max_size(size).build_unchecked(manager)),
        }
    }

    /// A pool whose connections are all open and idle.
    pub(crate) fn full_pool<M: Driver>(self, manager: M, size: u32) -> Pool<M> {
        let pool = self.pool(manager, size);
        drop(pool.all(size));
        pool
    }
}

pub(crate) enum Pool<M: Driver> {
    Millpond(millpond::Pool<millpond::R2d2<M>>),
    R2d2(r2d2::Pool<M>),
}

/// A guard of either pool.
pub(crate) enum Lent<M: Driver> {
    Millpond(millpond::PooledConnection<millpond::R2d2<M>>),
    R2d2(r2d2::PooledConnection<M>),
}

impl<M: Driver> Pool<M> {
    pub(crate) fn get(&self, timeout: Duration) -> Option<Lent<M>> {
        match self {
            Self::Millpond(pool) => Some(Lent::Millpond(pool.get_timeout(timeout).ok()?)),
            Self::R2d2(pool) => Some(Lent::R2d2(pool.get_timeout(timeout).ok()?)),
        }
    }

    /// So many connections at the same time, from a server that answers.
    pub(crate) fn all(&self, size: u32) -> Vec<Lent<M>> {
        (0..size).map(|_| self.get(PATIENCE).expect("the server answers")).collect()
    }

    /// How many checkouts had to wait, where the pool tells.
    pub(crate) fn waits(&self) -> Option<u64> {
        match self {
            Self::Millpond(pool) => Some(pool.stats().waits),
            Self::R2d2(_) => None,
        }
    }
}

impl<M: Driver> Deref for Lent<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        match self {
            Self::Millpond(conn) => conn,
            Self::R2d2(conn) => conn,
        }
    }
}

impl<M: Driver> DerefMut for Lent<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        match self {
            Self::Millpond(conn) => conn,
            Self::R2d2(conn) => conn,
        }
    }
}

/// A manager that counts what a pool asks of it.
#[derive(Debug)]
pub(crate) struct Counted<M> {
    manager: M,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    attempts: AtomicU64,
    under_way: AtomicU64,
    most_at_once: AtomicU64,
    failed_checks: AtomicU64,
}

impl<M> Counted<M> {
    pub(crate) fn new(manager: M) -> (Self, Arc<Tally>) {
        let tally = Arc::<Tally>::default();
        (Self { manager, tally: Arc::clone(&tally) }, tally)
    }
}

impl Tally {
    /// Attempts to connect.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// The most attempts that were under way at the same time since this was last asked.
    pub(crate) fn take_most_at_once(&self) -> u64 {
        self.most_at_once.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn failed_checks(&self) -> u64 {
        self.failed_checks.load(Ordering::Relaxed)
    }
}

impl<M: ManageConnection> ManageConnection for Counted<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    fn connect(&self) -> Result<M::Connection, M::Error> {
        self.tally.attempts.fetch_add(1, Ordering::Relaxed);
        let under_way = self.tally.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.tally.most_at_once.fetch_max(under_way, Ordering::Relaxed);
        let result = self.manager.connect();
        self.tally.under_way.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn is_valid(&self, conn: &mut M::Connection) -> Result<(), M::Error> {
        let result = self.manager.is_valid(conn);
        self.tally.failed_checks.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        result
    }

    fn has_broken(&self, conn: &mut M::Connection) -> bool {
        self.manager.has_broken(conn)
    }
}
