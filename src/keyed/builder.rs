//! The settings of many pools together. Those of each pool are the provider's to say.

use super::Pools;
use crate::clock::Clock;
use crate::{Error, Manager, Pool};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

pub(super) type Provider<K, M> = Box<dyn Fn(&K) -> Result<Pool<M>, Error> + Send + Sync>;

/// Settings for [`Pools`], made by [`Pools::builder`]. Nothing is checked before [`build`](Self::build), which then reports
/// every problem at once.
///
/// # Examples
///
/// ```
/// use millpond::{ErrorKind, Pool, Pools};
/// use std::time::Duration;
///
/// let provider = |_: &u32| Pool::builder(|| Ok::<_, std::io::Error>(())).build_lazy();
/// let pools = Pools::builder(provider).max_pools(100).idle_timeout(Some(Duration::from_secs(60))).build()?;
/// assert!(pools.is_empty());
///
/// let error = Pools::builder(provider).max_pools(0).idle_timeout(Some(Duration::ZERO)).build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(error.to_string().contains("max_pools is 0"));
/// assert!(error.to_string().contains("idle_timeout is 0 s"));
/// # Ok::<(), millpond::Error>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct PoolsBuilder<K, M: Manager> {
    pub(super) provider: Provider<K, M>,
    pub(super) settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_pools: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) creation_timeout: Duration,
    pub(super) clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_pools: usize::MAX,
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            creation_timeout: Duration::from_secs(5),
            clock: Clock::System,
        }
    }
}

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static, M: Manager> PoolsBuilder<K, M> {
    pub(super) fn new(provider: impl Fn(&K) -> Result<Pool<M>, Error> + Send + Sync + 'static) -> Self {
        Self { provider: Box::new(provider), settings: Settings::default() }
    }

    /// How many pools are kept. When another one is made, those go that nobody uses, least recently used first; more stay only
    /// while more are in use. Default: no limit, because what a pool keeps is its connections, and those go after their own
    /// idle time-out; a program with many thousands of keys should set one.
    pub fn max_pools(mut self, pools: usize) -> Self {
        self.settings.max_pools = pools;
        self
    }

    /// How long a pool is kept that nobody asks for and nobody uses. Default 10 min, the idle time-out of connections: by then
    /// a pool with the default settings has none left. `None` keeps them.
    ///
    /// There is no thread for this. It is looked after when some pool is asked for, every eighth of this time and at least once
    /// a minute, and in [`Pools::evict_idle`].
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// How long somebody waits for a pool that another thread is making. Default 5 s, as for a connection; a provider that
    /// builds lazily takes microseconds. Whoever calls the provider cannot be kept from waiting for it: time-outs within it
    /// are its own.
    pub fn creation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.creation_timeout = timeout;
        self
    }

    /// Takes the time from a clock that is moved by hand, for tests: what was used last, and when pools have been idle for
    /// long. Waiting is in real time.
    #[cfg(any(test, loom, shuttle, feature = "testing"))]
    pub fn clock(mut self, clock: crate::clock::HandClock) -> Self {
        self.settings.clock = Clock::Hand(clock);
        self
    }

    /// Makes the set, in which there is no pool yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong with the settings.
    pub fn build(self) -> Result<Pools<K, M>, Error> {
        let Settings { max_pools, idle_timeout, creation_timeout, .. } = self.settings;
        let mut problems = Vec::new();
        if max_pools == 0 {
            problems.push("max_pools is 0, but there must be room for one".to_owned());
        }
        for (name, time) in [("idle_timeout", idle_timeout), ("creation_timeout", Some(creation_timeout))] {
            if time == Some(Duration::ZERO) {
                problems.push(format!("{name} is 0 s, but it must be longer than nothing"));
            }
        }
        if problems.is_empty() { Ok(Pools::from_builder(self)) } else { Err(Error::config(&problems)) }
    }
}

impl<K, M: Manager> fmt::Debug for PoolsBuilder<K, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolsBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
