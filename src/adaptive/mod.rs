//! A size that follows the load, between a floor and a ceiling.
//!
//! ```
//! use millpond::{Pool, adaptive::Adaptive, testing::HandClock};
//! use std::time::Duration;
//!
//! let clock = HandClock::new();
//! let pool = Pool::builder(|| Ok::<_, std::io::Error>(()))
//!     .max_size(20) // where it starts
//!     .adaptive(Adaptive::between(2, 40).target_wait(Duration::from_millis(10)))
//!     .clock(clock.clone()) // for this example; else time passes by itself, and the keeper calls `maintain`
//!     .build()?;
//!
//! for _ in 0..150 {
//!     drop(pool.get()?); // one connection would do
//!     clock.advance(Duration::from_secs(1));
//!     pool.maintain();
//! }
//! assert!(pool.stats().max_size < 10);
//! assert_eq!(pool.stats().shrunk, 1);
//! println!("{}", pool.adaptive_state().expect("it adapts").grounds);
//! // 1.0 checkouts per second keep 0.0 connections in use at a time, 2 are needed; 0 were late, 0 wait
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # When to use it
//!
//! Where the load changes by more than a factor of two, and connections that nobody needs cost something: a process of the
//! server each, or a share of its limit that other processes would use. A fixed size is simpler, and no worse where the load
//! is steady. The ceiling protects the server and must be one that it bears; a server that is slow because it is overloaded
//! looks like more load, and no rule that sees the pool alone can tell the two apart.
//!
//! # The rule
//!
//! It decides once in an [interval](Adaptive::every) (1 s). Fast up, slow down:
//!
//! - **Demand** is what would be in use if nobody had to wait: by [Little's law](https://doi.org/10.1287/opre.9.3.383), the
//!   callers that come per second times the mean use time. Those who come are counted. The use time is not measured, which
//!   would cost each checkout 70 ns; by the same law it is the mean number of connections in use, of which each interval
//!   takes a sample, over the rate at which they come back.
//! - **Needed** is the least size with which, for that demand, no more than one caller in a hundred waits for longer than
//!   the [target](Adaptive::target_wait), by Erlang's formula for callers that wait. (For a target of no wait and large loads
//!   it comes to the demand and 2.4 times its square root.) The formula knows nothing of bursts and of work that now and then
//!   takes much longer, so what it puts on top of the demand is multiplied by a margin, at first 1.
//! - **It grows** when callers are late: when, beyond two in a hundred, five (where many come, a tenth of those that
//!   come in a second) have waited for longer than the target because the pool was full. Waiting for a connection to be opened or checked does not count, since a larger maximum
//!   would not help. It grows to what is needed, at once, and to up to half as much again where a queue is to be worked
//!   off; where as much as is needed is there already, by a tenth, and remembers that as a larger margin.
//! - **It shrinks** to the most that was needed within the [patience](Adaptive::patience) (2 min), if that is clearly less, and
//!   nothing was changed for as long. (Taking the most of a stretch of time against flapping is what Kubernetes'
//!   horizontal autoscaler does.) Never below what is in use, never while anybody waits. Surplus idle connections are closed;
//!   nothing is taken from anybody. The margin is given up by a tenth at a time, each after 1,000 checkouts and five times
//!   the patience without anybody late.
//! - **It holds** while connecting fails, while the pool is paused, and while the server hangs: when callers wait and much less
//!   comes back than usual. Waits then say nothing about the size. Nor do those of the queue that is left afterwards. Such
//!   time is no patience either, nor is that of an interval which is more than four times as long as the one before and as
//!   [`every`](Adaptive::every): the process stood still, and the rule begins anew after it.
//!
//! Between the two conditions, and between a margin that is learnt at two in a hundred and one that is given up at none, there
//! is enough room that a steady load is left alone. `docs/benchmarks.md` shows the rule beside the best fixed size and beside
//! a simpler one.
//!
//! # What it costs
//!
//! A checkout that finds an idle connection: nothing. One that waits: a look at whether the pool is full. The keeper: a visit
//! in each interval, at which it looks over the places of the pool.
//!
//! # By hand
//!
//! [`Pool::resize`](crate::Pool::resize) moves the size within the range, and the rule goes on from there: it grows it when
//! callers wait, and shrinks it when the patience is over. [`Pool::set_adaptive`](crate::Pool::set_adaptive) changes the range, or
//! ends it. The rule is there without a pool, too, to be tried on a load: [`Rule`].

mod rule;
mod staffing;

pub use rule::{Observation, Rule};

use crate::config::{LARGEST, Spell};
use std::fmt;
use std::time::Duration;

/// More often the keeper would do little else.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// Between which sizes a pool adapts, and how: for [`Builder::adaptive`](crate::Builder::adaptive).
///
/// # Examples
///
/// ```
/// use millpond::{Pool, adaptive::Adaptive};
/// use std::time::Duration;
///
/// let open = || Ok::<_, std::io::Error>(());
/// let batch = Adaptive::between(2, 30).target_wait(Duration::from_millis(250)).patience(Duration::from_secs(600));
/// let pool = Pool::builder(open).adaptive(batch).build()?;
/// assert_eq!(pool.stats().max_size, 10, "the default is within the range");
///
/// let error = Pool::builder(open).min_idle(5).adaptive(Adaptive::between(4, 3)).build().unwrap_err().to_string();
/// assert!(error.contains("adaptive.floor is 4, which is more than adaptive.ceiling 3"), "{error}");
/// assert!(error.contains("min_idle is 5, which is more than adaptive.floor 4"), "{error}");
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is to be given to a builder or a pool"]
pub struct Adaptive {
    /// Both ends are there in what runs; settings from several places may still lack one of them.
    pub(crate) floor: Option<u32>,
    pub(crate) ceiling: Option<u32>,
    pub(crate) target_wait: Duration,
    pub(crate) every: Duration,
    pub(crate) patience: Duration,
}

impl Adaptive {
    /// Never fewer than `floor` and never more than `ceiling` connections; 1 to 1,048,576.
    pub fn between(floor: u32, ceiling: u32) -> Self {
        Self { floor: Some(floor), ceiling: Some(ceiling), ..Self::without_range() }
    }

    /// The defaults, while neither end is known.
    pub(crate) fn without_range() -> Self {
        Self {
            floor: None,
            ceiling: None,
            target_wait: Duration::from_millis(10),
            every: Duration::from_secs(1),
            patience: Duration::from_secs(120),
        }
    }

    /// How long all but one in a hundred callers may wait because the pool is full. Default 10 ms: a person does not notice
    /// ten of them in a row. Where much more is borne, it saves connections, most of all with use times below it.
    pub fn target_wait(mut self, wait: Duration) -> Self {
        self.target_wait = wait;
        self
    }

    /// How often it decides. Default 1 s: a tenth of it is a queue that nobody has seen yet, a tenfold of it is a time-out.
    /// Each decision takes one sample of what is in use, so a program whose own rhythm is this interval should set another.
    /// At least 10 ms: each decision looks over the whole pool, and what is so short is over before a connection is open.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// For how long a smaller size must have been enough before the pool shrinks. Default 2 min: what comes every minute finds
    /// its connections open.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Without a floor, as low as any pool may go.
    pub(crate) fn floor(&self) -> u32 {
        self.floor.unwrap_or(1)
    }

    /// Without a ceiling, as high as any pool may go.
    pub(crate) fn ceiling(&self) -> u32 {
        self.ceiling.unwrap_or(LARGEST)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.every
    }

    /// What a caller that waits for longer is late by.
    pub(crate) fn target(&self) -> Duration {
        self.target_wait
    }

    /// The size within the range that is nearest.
    pub(crate) fn nearest(&self, size: u32) -> u32 {
        size.max(self.floor()).min(self.ceiling())
    }

    /// What cannot be, naming field and value.
    pub(crate) fn problems(&self, min_idle: u32, spell: Spell<'_>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |good: bool, field: &str, problem: String| {
            if !good {
                problems.push(format!("{} is {problem}", spell(field)));
            }
        };
        for (name, end) in [("adaptive.floor", self.floor), ("adaptive.ceiling", self.ceiling)] {
            let end = end.unwrap_or(1);
            check(end > 0, name, "0, but a pool needs room for one connection".to_owned());
            check(end <= LARGEST, name, format!("{end}, but {LARGEST} is the most"));
        }
        if let Some(floor) = self.floor {
            let ceiling = self.ceiling.unwrap_or(u32::MAX);
            let words = format!("{floor}, which is more than {} {ceiling}", spell("adaptive.ceiling"));
            check(floor <= ceiling, "adaptive.floor", words);
            let words = format!("{min_idle}, which is more than {} {floor}", spell("adaptive.floor"));
            check(min_idle <= floor, "min_idle", words);
        }
        for (name, duration) in [
            ("adaptive.target_wait", self.target_wait),
            ("adaptive.every", self.every),
            ("adaptive.patience", self.patience),
        ] {
            check(!duration.is_zero(), name, "0 s, but it must be longer than nothing".to_owned());
        }
        if !self.every.is_zero() {
            let words = format!(
                "{:?}, but {LEAST_INTERVAL:?} is the least: each decision looks over the whole pool",
                self.every
            );
            check(self.every >= LEAST_INTERVAL, "adaptive.every", words);
        }
        problems
    }

    /// What is still missing.
    pub(crate) fn gap(&self) -> Option<String> {
        match (self.floor, self.ceiling) {
            (Some(_), Some(_)) => None,
            (Some(floor), None) => {
                Some(format!("adaptive.floor is {floor}, but adaptive.ceiling is not given, which it needs"))
            }
            (None, Some(ceiling)) => {
                Some(format!("adaptive.ceiling is {ceiling}, but adaptive.floor is not given, which it needs"))
            }
            (None, None) => {
                Some("adaptive.floor and adaptive.ceiling are not given, but other parts of adaptive are".to_owned())
            }
        }
    }

    /// Why a size cannot be set by hand.
    pub(crate) fn refuses(&self, size: u32) -> Option<String> {
        let (floor, ceiling) = (self.floor(), self.ceiling());
        (self.nearest(size) != size).then(|| {
            format!("max_size is {size}, which is outside of adaptive's {floor} to {ceiling}: see Pool::set_adaptive")
        })
    }
}

/// What is to be done with the size of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Nothing.
    Hold(Reason),
    /// It is to be larger.
    Grow {
        /// The new size.
        to: u32,
        /// Why.
        reason: Reason,
    },
    /// It is to be smaller.
    Shrink {
        /// The new size.
        to: u32,
        /// Why.
        reason: Reason,
    },
}

/// Why a size is changed, or left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Callers are late, and the demand needs more connections.
    Load,
    /// Callers are late, although by the formula there are enough connections: the load comes in bursts, or work takes very
    /// different times.
    Waits,
    /// For as long as the patience, fewer were needed.
    Idle,
    /// The size is right, or not clearly wrong.
    Fits,
    /// Connecting fails, or the pool is paused.
    Outage,
    /// The server hangs: callers wait, and much less comes back than usual.
    Stalled,
    /// [`Pool::resize`](crate::Pool::resize) or [`Pool::set_adaptive`](crate::Pool::set_adaptive) was called.
    ByHand,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "callers wait, and the load needs more",
            Self::Waits => "callers wait, though the load seems to need no more",
            Self::Idle => "fewer were enough for long",
            Self::Fits => "the size fits",
            Self::Outage => "connecting fails, or the pool is paused",
            Self::Stalled => "the server hangs",
            Self::ByHand => "by hand",
        })
    }
}

/// The numbers that a decision was based on.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Grounds {
    /// Callers that come per second, on average.
    pub per_second: f64,
    /// For how long a connection is used, on average; as long as too few have come back it is not known.
    pub use_time: Option<Duration>,
    /// How many connections would be in use if nobody had to wait.
    pub demand: f64,
    /// How many are needed for that, with what is kept above it.
    pub needed: u32,
    /// Callers that were late in the last interval.
    pub late: u64,
    /// Callers that waited at its end.
    pub waiting: u32,
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, use_time, demand, needed, late, waiting } = self;
        write!(f, "{per_second:.1} checkouts per second")?;
        if let Some(use_time) = use_time {
            write!(f, " of {use_time:.1?}")?;
        }
        write!(
            f,
            " keep {demand:.1} connections in use at a time, {needed} are needed; {late} were late, {waiting} wait"
        )
    }
}

/// What the rule has decided last, for [`Pool::adaptive_state`](crate::Pool::adaptive_state).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveState {
    /// The last decision; most of them are to leave the size as it is.
    pub decision: Decision,
    /// What it was based on.
    pub grounds: Grounds,
}

impl AdaptiveState {
    pub(crate) fn new(decision: Decision, grounds: Grounds) -> Self {
        Self { decision, grounds }
    }
}
