//! What a pool opens before anybody asks for it.

use crate::config::Spell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How far warming up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpProgress {
    /// Connections that are open, at most `wanted`.
    pub ready: u32,
    /// How many there are to be.
    pub wanted: u32,
    /// Attempts to connect that have failed since the pool was built.
    pub failures: u64,
}

pub(crate) type OnProgress = Arc<dyn Fn(WarmUpProgress) + Send + Sync>;

/// Connections to be opened ahead of time: how many, who waits for them, and how gently.
///
/// They are opened in batches, those of a batch side by side, with a pause between two batches, so that a hundred processes
/// that start together do not stampede a server. Failed attempts are logged and repeated.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, WarmUp};
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// use std::time::Duration;
///
/// let seen = Arc::new(AtomicU32::new(0));
/// let bar = Arc::clone(&seen);
/// let gently = WarmUp::blocking(6)
///     .batch(2)
///     .pause(Duration::from_millis(5))
///     .on_progress(move |progress| bar.store(progress.ready, Ordering::Relaxed));
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(8).warm_up(gently).build()?;
/// assert_eq!((pool.stats().idle, seen.load(Ordering::Relaxed)), (6, 6));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "it is to be given to a builder or a pool"]
pub struct WarmUp {
    pub(crate) wanted: u32,
    pub(crate) waits: bool,
    pub(crate) within: Option<Duration>,
    pub(crate) batch: Option<u32>,
    pub(crate) pause: Duration,
    pub(crate) required: bool,
    pub(crate) progress: Option<OnProgress>,
}

impl WarmUp {
    fn new(wanted: u32, waits: bool) -> Self {
        Self { wanted, waits, within: None, batch: None, pause: Duration::ZERO, required: false, progress: None }
    }

    /// Nothing: the first caller opens the first connection. As [`build_lazy`](crate::Builder::build_lazy).
    pub fn lazy() -> Self {
        Self::new(0, false)
    }

    /// So many connections, while the program goes on; [`Pool::wait_ready`](crate::Pool::wait_ready) waits for them. With
    /// [`Maintenance::Manual`](crate::Maintenance) they are opened by [`Pool::maintain`](crate::Pool::maintain).
    pub fn background(connections: u32) -> Self {
        Self::new(connections, false)
    }

    /// So many connections before the program goes on, or until the time is over; the rest is then opened while the program
    /// goes on.
    pub fn blocking(connections: u32) -> Self {
        Self::new(connections, true)
    }

    /// How long to wait for them. Default: the connection timeout. `Duration::MAX` waits until the server is there.
    pub fn within(mut self, timeout: Duration) -> Self {
        self.within = Some(timeout);
        self
    }

    /// How many are opened side by side. Default, and the most:
    /// [`max_connecting`](crate::Builder::max_connecting).
    pub fn batch(mut self, connections: u32) -> Self {
        self.batch = Some(connections);
        self
    }

    /// How long to pause between two batches. Default: not at all.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// That they are not ready in time is an error, with the server's own as `source()`. Default: it is a warning in the log,
    /// because a program that waits for its database is of more use than one that ends. Only for
    /// [`blocking`](Self::blocking).
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Called whenever another one is ready, or an attempt has failed; one call at a time, and never with fewer than before
    /// unless connections were closed meanwhile.
    pub fn on_progress(mut self, tell: impl Fn(WarmUpProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(tell));
        self
    }

    /// What a pool does to which nothing else was said.
    pub(crate) fn by_default(min_idle: u32) -> Self {
        Self::blocking(min_idle.max(1)).required()
    }

    /// What cannot be, naming field and value.
    pub(crate) fn problems(&self, max_size: u32) -> Vec<String> {
        self.problems_as(("max_size", max_size), &str::to_owned)
    }

    /// `most`: how many there may be at the start, and the setting that says so.
    pub(crate) fn problems_as(&self, most: (&str, u32), spell: Spell<'_>) -> Vec<String> {
        let (limit, most) = most;
        let mut problems = Vec::new();
        let mut check = |good: bool, field: &str, problem: String| {
            if !good {
                problems.push(format!("{} is {problem}", spell(field)));
            }
        };
        let wanted = self.wanted;
        check(wanted <= most, "warm_up.connections", format!("{wanted}, which is more than {} {most}", spell(limit)));
        check(self.batch != Some(0), "warm_up.batch", "0, so nothing could ever be opened".to_owned());
        check(
            self.within != Some(Duration::ZERO),
            "warm_up.within",
            "0 s, but it must be longer than nothing".to_owned(),
        );
        check(
            self.waits || !self.required,
            "warm_up.required",
            "true, but nobody waits for the connections: only what is blocking can be required".to_owned(),
        );
        problems
    }
}

impl fmt::Debug for WarmUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmUp")
            .field("wanted", &self.wanted)
            .field("waits", &self.waits)
            .field("within", &self.within)
            .field("batch", &self.batch)
            .field("pause", &self.pause)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}
