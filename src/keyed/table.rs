//! The pools that there are, by key, and which of them nobody has used for longest.

use super::PoolsStats;
use crate::clock::{Clock, Moment};
use crate::{Manager, Pool};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A pool, and when somebody asked for it last.
///
/// Whoever uses the pool through its key holds the slot meanwhile. So under the lock of its part of the table for writing, the only `Arc` of a
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

    /// When somebody asked for it, or a connection came back to it: whichever was later.
    fn last_used(&self, clock: &Clock) -> u64 {
        let returned = self.pool.last_return(clock).map_or(0, Moment::to_bits);
        self.used.load(Ordering::Relaxed).max(returned)
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

type Part<K, M> = RwLock<Shard<K, M>>;

struct Shard<K, M: Manager> {
    pools: HashMap<K, Arc<Slot<M>>>,
    /// What those have counted that were here. Under the same lock, so that no sum ever misses a pool or has it twice.
    gone: PoolsStats,
}

impl<K, M: Manager> Default for Shard<K, M> {
    fn default() -> Self {
        Self { pools: HashMap::new(), gone: PoolsStats::default() }
    }
}

/// Sixteen, so that threads with different keys seldom meet at a lock: even a lock for reading is a line that all its readers
/// write.
const PARTS: usize = 16;

pub(super) struct Table<K, M: Manager> {
    parts: [CachePadded<Part<K, M>>; PARTS],
    /// Says which part a key is in.
    hasher: RandomState,
    /// All that were there when somebody looked, with the time of their last use; the earliest last. What was used or made
    /// since is younger than everything here, so the last one whose time is still right is the one that nobody has used for
    /// longest. One that is taken off the list is evicted, is in use, or was used since the look; so a look, however many
    /// pools it goes over, costs each of these no more than its share.
    ripe: Mutex<Vec<(u64, K)>>,
    /// Until when no other look is of use, because the last one found too many pools in use. Only read and written with `ripe`
    /// locked.
    barren: AtomicU64,
    clock: Clock,
}

/// After a look that could not part with enough. A look that took longer is followed by eight times its own time, so that making
/// pools while too many are in use does not cost the square of their number.
const BARREN: Duration = Duration::from_millis(10);

/// So many more than wanted may be there because of those who come by at the same time.
const SLACK: usize = 16;

impl<K: Clone + Eq + Hash, M: Manager> Table<K, M> {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            parts: std::array::from_fn(|_| CachePadded::default()),
            hasher: RandomState::new(),
            ripe: Mutex::default(),
            barren: AtomicU64::new(0),
            clock,
        }
    }

    #[inline]
    fn part(&self, key: &K) -> &Part<K, M> {
        let [first, ..] = &self.parts;
        self.parts.get(self.hasher.hash_one(key) as usize % PARTS).unwrap_or(first)
    }

    #[inline]
    pub(super) fn find(&self, key: &K) -> Option<Arc<Slot<M>>> {
        self.part(key).read().pools.get(key).map(Arc::clone)
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.read().pools.len()).sum()
    }

    /// Something of all of them. Part by part, so it is no picture of one moment.
    fn gather<T>(&self, mut pick: impl FnMut(&K, &Arc<Slot<M>>) -> T) -> Vec<T> {
        let mut picked = Vec::new();
        for part in &self.parts {
            picked.extend(part.read().pools.iter().map(|(key, slot)| pick(key, slot)));
        }
        picked
    }

    pub(super) fn keys(&self) -> Vec<K> {
        self.gather(|key, _| key.clone())
    }

    pub(super) fn all(&self) -> Vec<(K, Arc<Slot<M>>)> {
        self.gather(|key, slot| (key.clone(), Arc::clone(slot)))
    }

    /// Returns the one that had this place.
    pub(super) fn insert(&self, key: K, slot: Arc<Slot<M>>) -> Option<Arc<Slot<M>>> {
        let mut part = self.part(&key).write();
        let before = part.pools.insert(key, Arc::clone(&slot));
        // One that the provider returns again goes on counting.
        if let Some(before) = before.as_ref().filter(|before| !before.pool.is_same(&slot.pool)) {
            part.gone.bury(&before.pool);
        }
        drop(part);
        before
    }

    pub(super) fn remove(&self, key: &K) -> Option<Arc<Slot<M>>> {
        let mut part = self.part(key).write();
        let slot = part.pools.remove(key)?;
        part.gone.bury(&slot.pool);
        drop(part);
        Some(slot)
    }

    pub(super) fn remove_all(&self) -> Vec<(K, Arc<Slot<M>>)> {
        let empty = |part: &CachePadded<Part<K, M>>| {
            let mut part = part.write();
            let pools = std::mem::take(&mut part.pools);
            pools.values().for_each(|slot| part.gone.bury(&slot.pool));
            drop(part);
            pools
        };
        self.parts.iter().flat_map(empty).collect()
    }

    /// The numbers of those that are here and of those that were. Holds on to none, so that none is kept by being counted.
    pub(super) fn stats(&self) -> PoolsStats {
        let mut stats = PoolsStats::default();
        for part in &self.parts {
            let part = part.read();
            stats.include(&part.gone);
            stats.pools += part.pools.len();
            part.pools.values().for_each(|slot| stats.add(&slot.pool));
        }
        stats
    }

    /// Takes out pools that nobody uses, those first that nobody has used for longest, until there are no more than
    /// `most` and none has been unused since before `before`; at most `count` of them.
    pub(super) fn evict(&self, most: usize, before: u64, count: usize) -> Vec<(K, Arc<Slot<M>>)> {
        let mut ripe = self.ripe.lock();
        let mut evicted = Vec::new();
        let now = || self.clock.coarse().to_bits();
        let mut looked = None;
        while evicted.len() < count {
            match ripe.last() {
                Some((used, _)) if *used >= before && self.len() <= most => break,
                Some(_) => {
                    let candidate = ripe.pop();
                    evicted.extend(candidate.and_then(|(used, key)| self.remove_unused(&key, used)));
                }
                None if looked.is_some() || now() < self.barren.load(Ordering::Relaxed) => break,
                None => {
                    looked = Some(now());
                    *ripe = self.by_age();
                }
            }
        }
        if let Some(began) = looked.filter(|_| ripe.is_empty() && self.len() > most.saturating_add(SLACK)) {
            let took = Moment::from_bits(now()).since(Moment::from_bits(began));
            let barren = Moment::from_bits(now()).after(BARREN.max(took * 8));
            self.barren.store(barren.to_bits(), Ordering::Relaxed);
        }
        drop(ripe);
        evicted
    }

    /// Has the next eviction look anew: some that were in use may not be now.
    pub(super) fn look_again(&self) {
        let mut ripe = self.ripe.lock();
        self.barren.store(0, Ordering::Relaxed);
        let old = std::mem::take(&mut *ripe);
        drop(ripe);
        drop(old);
    }

    fn by_age(&self) -> Vec<(u64, K)> {
        let mut all = self.gather(|key, slot| (slot.last_used(&self.clock), key.clone()));
        all.sort_unstable_by_key(|(used, _)| std::cmp::Reverse(*used));
        all
    }

    /// Takes a pool out if nobody uses it and nobody has since `used`.
    fn remove_unused(&self, key: &K, used: u64) -> Option<(K, Arc<Slot<M>>)> {
        let mut part = self.part(key).write();
        let slot = Arc::get_mut(part.pools.get_mut(key)?)?;
        if slot.last_used(&self.clock) > used || !slot.pool.is_unused() {
            return None;
        }
        let (key, slot) = part.pools.remove_entry(key)?;
        part.gone.bury(&slot.pool);
        drop(part);
        Some((key, slot))
    }
}
