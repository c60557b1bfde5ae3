//! The pools that there are, by key, and which of them nobody has used for longest.

use crate::{Manager, Pool};
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// A pool, and when somebody asked for it last.
///
/// Whoever uses the pool through its key holds the slot meanwhile. So under the table's lock for writing, the only `Arc` of a
/// slot and the only handle of its pool are a proof that nobody is about to use it.
pub(super) struct Slot<M: Manager> {
    pub(super) pool: Pool<M>,
    /// A reading of the coarse clock.
    used: AtomicU64,
}

impl<M: Manager> Slot<M> {
    pub(super) fn new(pool: Pool<M>, now: u64) -> Self {
        Self { pool, used: AtomicU64::new(now) }
    }

    /// Relaxed, here and where it is read: it is compared with others of its kind, and nothing else follows from it. Written
    /// once in a step of the clock, so that threads which use one pool do not fight for the line.
    #[inline]
    pub(super) fn touch(&self, now: u64) {
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }
}

type Map<K, M> = HashMap<K, Arc<Slot<M>>>;

pub(super) struct Table<K, M: Manager> {
    /// Readers on different threads do not meet, which a plain lock would make them do.
    pools: ShardedLock<Map<K, M>>,
    /// All that were there when somebody looked, with the time of their last use; the earliest last. What was used or made
    /// since is younger than everything here, so the last one whose time is still right is the one that nobody has used for
    /// longest. One that is taken off the list is evicted, is in use, or was used since the look; so a look, however many
    /// pools it goes over, costs each of these no more than its share.
    ripe: Mutex<Vec<(u64, K)>>,
}

impl<K: Clone + Eq + Hash, M: Manager> Table<K, M> {
    pub(super) fn new() -> Self {
        Self { pools: ShardedLock::new(HashMap::new()), ripe: Mutex::default() }
    }

    /// The lock is poisoned only where a `Hash` or `Eq` of the user's has panicked, and the map survives that.
    fn read(&self) -> ShardedLockReadGuard<'_, Map<K, M>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, Map<K, M>> {
        self.pools.write().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn find(&self, key: &K) -> Option<Arc<Slot<M>>> {
        self.read().get(key).map(Arc::clone)
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn keys(&self) -> Vec<K> {
        self.read().keys().cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<(K, Arc<Slot<M>>)> {
        self.read().iter().map(|(key, slot)| (key.clone(), Arc::clone(slot))).collect()
    }

    /// Returns the one that had this place.
    pub(super) fn insert(&self, key: K, slot: Arc<Slot<M>>) -> Option<Arc<Slot<M>>> {
        self.write().insert(key, slot)
    }

    pub(super) fn remove(&self, key: &K) -> Option<Arc<Slot<M>>> {
        self.write().remove(key)
    }

    pub(super) fn remove_all(&self) -> Vec<(K, Arc<Slot<M>>)> {
        let pools = std::mem::take(&mut *self.write());
        pools.into_iter().collect()
    }

    /// Takes out pools that nobody uses, those first that nobody has used for longest, until there are no more than
    /// `most` and none has been unused since before `before`; at most `count` of them.
    pub(super) fn evict(&self, most: usize, before: u64, count: usize) -> Vec<(K, Arc<Slot<M>>)> {
        let mut ripe = self.ripe.lock();
        let mut evicted = Vec::new();
        let mut looked = false;
        while evicted.len() < count {
            match ripe.last() {
                Some((used, _)) if *used >= before && self.len() <= most => break,
                Some(_) => {
                    let candidate = ripe.pop();
                    evicted.extend(candidate.and_then(|(used, key)| self.remove_unused(&key, used)));
                }
                None if looked => break,
                None => {
                    looked = true;
                    *ripe = self.by_age();
                }
            }
        }
        drop(ripe);
        evicted
    }

    /// Has the next eviction look anew: some that were in use may not be now.
    pub(super) fn look_again(&self) {
        let old = std::mem::take(&mut *self.ripe.lock());
        drop(old);
    }

    fn by_age(&self) -> Vec<(u64, K)> {
        let mut all: Vec<_> = {
            let pools = self.read();
            pools.iter().map(|(key, slot)| (slot.used.load(Ordering::Relaxed), key.clone())).collect()
        };
        all.sort_unstable_by_key(|(used, _)| std::cmp::Reverse(*used));
        all
    }

    /// Takes a pool out if nobody uses it and nobody has since `used`.
    fn remove_unused(&self, key: &K, used: u64) -> Option<(K, Arc<Slot<M>>)> {
        let mut pools = self.write();
        let slot = Arc::get_mut(pools.get_mut(key)?)?;
        if *slot.used.get_mut() != used || !slot.pool.is_unused() {
            return None;
        }
        pools.remove_entry(key)
    }
}
