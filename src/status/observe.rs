//! What can be looked at: pools, and fronts over several.

use super::PoolStatus;
use crate::{Balanced, Manager, Pool, Pools, ReadWrite, Roles};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// One pool or several that tell of themselves, whatever their connections are: [`Pool`], and what is made of several, such as
/// [`Pools`] and [`ReadWrite`]. Lists of them are, too.
pub trait Observe {
    /// What each of the pools tells.
    fn observe(&self) -> Vec<PoolStatus>;
}

impl<M: Manager> Observe for Pool<M> {
    fn observe(&self) -> Vec<PoolStatus> {
        vec![self.status()]
    }
}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static, M: Manager> Observe for Pools<K, M> {
    fn observe(&self) -> Vec<PoolStatus> {
        self.each().iter().map(|(_, pool)| pool.status()).collect()
    }
}

impl<M: Manager> Observe for Balanced<M> {
    fn observe(&self) -> Vec<PoolStatus> {
        self.pools().map(Pool::status).collect()
    }
}

impl<M: Manager> Observe for ReadWrite<M> {
    fn observe(&self) -> Vec<PoolStatus> {
        self.pools().map(Pool::status).collect()
    }
}

impl<M: Manager> Observe for Roles<M> {
    fn observe(&self) -> Vec<PoolStatus> {
        self.pools().map(Pool::status).collect()
    }
}

#[cfg(feature = "sqlite")]
impl Observe for crate::sqlite::SqlitePool {
    fn observe(&self) -> Vec<PoolStatus> {
        vec![self.writers().status(), self.readers().status()]
    }
}

#[cfg(feature = "redis")]
impl Observe for crate::redis::RedisPool {
    fn observe(&self) -> Vec<PoolStatus> {
        vec![(**self).status()]
    }
}

impl<T: Observe + ?Sized> Observe for &T {
    fn observe(&self) -> Vec<PoolStatus> {
        (**self).observe()
    }
}

impl<T: Observe + ?Sized> Observe for Arc<T> {
    fn observe(&self) -> Vec<PoolStatus> {
        (**self).observe()
    }
}

impl<T: Observe + ?Sized> Observe for Box<T> {
    fn observe(&self) -> Vec<PoolStatus> {
        (**self).observe()
    }
}

impl<T: Observe> Observe for [T] {
    fn observe(&self) -> Vec<PoolStatus> {
        self.iter().flat_map(Observe::observe).collect()
    }
}

impl<T: Observe> Observe for Vec<T> {
    fn observe(&self) -> Vec<PoolStatus> {
        self.as_slice().observe()
    }
}
