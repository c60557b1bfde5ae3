//! Everything that a pool tells of itself, in one look: for a terminal, for JSON, and for the status page.
//!
//! [`Pool::status`] has its health, its numbers, who holds connections for longest, and its last incidents.
//! [`Status`] has that of many pools, of whatever kinds: it takes all that is [`Observe`].
//!
//! # Examples
//!
//! ```
//! use millpond::{Pool, status::{Observe, Status}};
//!
//! let orders = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(4).build()?;
//! let cache = Pool::builder(|| Ok::<_, std::io::Error>(0_u8)).name("cache").build()?;
//! let held = orders.get()?;
//!
//! let pools: [&dyn Observe; 2] = [&orders, &cache]; // connections of different types
//! let status = Status::of(pools);
//! assert_eq!(status.pools().len(), 2);
//! println!("{status}");
//!
//! assert!(orders.table().contains("orders  ok        1/4"), "{}", orders.table());
//! # drop(held);
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # As JSON
//!
//! With the feature `json` there is [`Status::to_json`]; with `serde`, all of it can be serialized to whatever else. It is
//! `{"level": …, "at": …, "pools": […]}`, and each pool has
//!
//! | field | |
//! |---|---|
//! | `health` | as in the module [`health`](crate::health) |
//! | `stats` | the fields of [`Stats`]; each distribution with `count`, `sum`, `mean`, `p50`, `p95`, `p99`, `max`, and `buckets`: pairs of a bucket's upper end and how many are in it, empty ones left out |
//! | `holders` | at most 16, longest first: `connection`, `thread`, `location` (`file:line`), `held`, `label` |
//! | `incidents` | oldest first: `kind` ([`IncidentKind::as_str`](crate::IncidentKind::as_str)), `first`, `last`, `count`, `text`, `holders`, and the `reason` of what is `retired` |
//!
//! Times are in seconds, points in time (`at`, `first`, `last`) in seconds since 1970. Counters never fall as long as the pool
//! lives, so two answers tell what happened between them.

mod observe;
#[cfg(feature = "json")]
mod page;
mod table;

pub use observe::Observe;
#[cfg(feature = "json")]
pub use page::{CONTENT_SECURITY_POLICY, page};

use crate::health::{HealthLevel, judge};
use crate::incident::Noted;
use crate::{Health, Incident, Lease, Manager, Pool, Stats};
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

/// So many holders are listed: enough to find a leak, also with thousands of connections.
const HOLDERS: usize = 16;

/// What one pool tells of itself: see the [module](self). Made by [`Pool::status`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolStatus {
    /// Among the pools of the process.
    #[cfg_attr(feature = "serde", serde(skip))]
    number: u64,
    /// A level, and warnings with their reasons.
    pub health: Health,
    /// All numbers.
    pub stats: Stats,
    /// Who holds connections, longest first, at most 16.
    pub holders: Vec<Lease>,
    /// What went wrong lately, of which nobody may want to read.
    #[cfg_attr(feature = "serde", serde(rename = "incidents", serialize_with = "read"))]
    noted: Vec<Noted>,
}

impl PoolStatus {
    /// What went wrong lately, oldest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.noted.iter().cloned().map(Noted::read).collect()
    }
}

#[cfg(feature = "serde")]
fn read<S: serde::Serializer>(noted: &[Noted], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(noted.iter().cloned().map(Noted::read))
}

impl<M: Manager> Pool<M> {
    /// Everything that the pool tells of itself. Borrows nothing, asks no server and waits for no caller.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build()?;
    /// let held = pool.get()?;
    /// let status = pool.status();
    /// assert_eq!((status.stats.in_use, status.holders.len()), (1, 1));
    /// assert!(status.incidents().is_empty());
    /// # drop(held);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        // One look for both, so that they agree.
        let (stats, outage) = self.full_glance();
        PoolStatus {
            number: self.number(),
            health: judge(self.name(), &stats, outage),
            stats,
            holders: self.longest_holders(HOLDERS),
            noted: self.noted(),
        }
    }

    /// The status as a compact table, for a terminal.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(4).build()?;
    /// assert!(pool.table().starts_with("pool    level  in use"), "{}", pool.table());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn table(&self) -> String {
        Status::of([self]).to_string()
    }
}

/// What many pools tell of themselves, in the order in which they were given. Prints as a table.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Status {
    level: HealthLevel,
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::encode::in_epoch_seconds"))]
    at: SystemTime,
    pools: Vec<PoolStatus>,
}

impl Status {
    /// Looks at all pools. One that is there several times, or a clone of one, is in it once. Where several have the same name,
    /// those that were built later are called `name (2)` and so on, in numbers that no other of the pools has for its name:
    /// whatever reads this takes a name for a pool.
    #[must_use]
    pub fn of<'a, P: Observe + ?Sized + 'a>(pools: impl IntoIterator<Item = &'a P>) -> Self {
        let mut seen = HashSet::new();
        let all = pools.into_iter().flat_map(Observe::observe);
        let mut pools: Vec<PoolStatus> = all.filter(|status| seen.insert(status.number)).collect();
        tell_apart(&mut pools);
        let level = pools.iter().map(|status| status.health.level).max().unwrap_or_default();
        Self { level, at: crate::clock::Clock::System.wall(), pools }
    }

    /// The worst level of all pools; `Ok` where there are none.
    #[must_use]
    pub fn level(&self) -> HealthLevel {
        self.level
    }

    /// When they were looked at.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &[PoolStatus] {
        &self.pools
    }

    /// Itself as JSON: see the [module](self).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, status::Status};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(4).build()?;
    /// let json: serde_json::Value = serde_json::from_str(&Status::of([&pool]).to_json())?;
    /// assert_eq!((&json["level"], &json["pools"][0]["stats"]["max_size"]), (&"ok".into(), &4.into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    pub fn to_json(&self) -> String {
        crate::encode::json(self)
    }
}

fn tell_apart(pools: &mut [PoolStatus]) {
    let given: HashSet<String> = pools.iter().map(|status| status.health.pool.clone()).collect();
    let mut oldest_first: Vec<_> = pools.iter_mut().collect();
    oldest_first.sort_by_key(|status| status.number);
    let mut namesakes = HashMap::new();
    for status in oldest_first {
        let nth: &mut u32 = namesakes.entry(status.health.pool.clone()).or_default();
        *nth += 1;
        if *nth > 1 {
            // Somebody may have called a pool just that.
            while given.contains(&format!("{} ({nth})", status.health.pool)) {
                *nth += 1;
            }
            status.health.pool.push_str(&format!(" ({nth})"));
        }
    }
}
