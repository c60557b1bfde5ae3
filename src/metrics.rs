//! A pool's numbers under OpenTelemetry's names, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`Metrics`] is an [event handler](crate::EventHandler) that costs a checkout nothing: the pool counts anyway, and what it has
//! counted is published every few seconds, on one of its helper threads. The price is that gauges are as old as that, and that histograms are told to about 12 %: each duration as the middle
//! of the bucket in which the pool counted it.
//!
//! Recorders are looked up each time that something is published, so one that is installed after the pool was built gets
//! everything: counters with their totals since then, histograms from its first sample on. A pool that is built again under the
//! same name, as pools by key are, goes on with the counters of the one before. Recorders of the usual kind keep a number for
//! each use time until they are asked, so a pool that is used a million times a second fills 40 MB in 5 s: such a pool does without
//! [`Builder::use_times`](crate::Builder::use_times).
//!
//! # Examples
//!
//! ```
//! use millpond::{Pool, metrics::Metrics};
//!
//! let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").event_handler(Metrics::new()).build()?;
//! // In `main`, before or after that, any recorder: say, metrics_exporter_prometheus::PrometheusBuilder::new().install()?
//! # drop(pool);
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # Names
//!
//! From OpenTelemetry's semantic conventions for database clients (status: development), with the attribute
//! `db.client.connection.pool.name`, which should be unique within the program:
//!
//! | name | kind | |
//! |---|---|---|
//! | `db.client.connection.count` | gauge | with `db.client.connection.state`: `idle` or `used` |
//! | `db.client.connection.idle.max`, `.idle.min`, `.max` | gauge | the maximum, and the minimum of idle ones |
//! | `db.client.connection.pending_requests` | gauge | callers that wait |
//! | `db.client.connection.timeouts` | counter | callers whose deadline passed |
//! | `db.client.connection.create_time` | histogram, s | how long opening a connection took |
//! | `db.client.connection.wait_time` | histogram, s | how long those waited who had to |
//! | `db.client.connection.use_time` | histogram, s | how long connections were borrowed, where the pool measures that: [`Builder::use_times`](crate::Builder::use_times), about 70 ns a checkout |
//!
//! and what has no name there, with the same attribute:
//!
//! | name | kind | |
//! |---|---|---|
//! | `millpond.checkouts`, `millpond.opened` | counter | connections lent, and opened |
//! | `millpond.closed` | counter | with `reason`: [`CloseReason::as_str`](crate::CloseReason::as_str) |
//! | `millpond.checks` | counter | with `result`: `passed` or `failed` |
//! | `millpond.connect_failures` | counter | attempts to connect that failed |
//! | `millpond.turned_away` | counter | callers that were, because too many waited or the server was away |
//! | `millpond.panics` | counter | of callbacks |

use crate::{Distribution, EventHandler, Stats};
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const POOL: &str = "db.client.connection.pool.name";
const STATE: &str = "db.client.connection.state";
const COUNT: &str = "db.client.connection.count";
const IDLE_MAX: &str = "db.client.connection.idle.max";
const IDLE_MIN: &str = "db.client.connection.idle.min";
const MAX: &str = "db.client.connection.max";
const PENDING: &str = "db.client.connection.pending_requests";
const TIMEOUTS: &str = "db.client.connection.timeouts";
const CREATE_TIME: &str = "db.client.connection.create_time";
const WAIT_TIME: &str = "db.client.connection.wait_time";
const USE_TIME: &str = "db.client.connection.use_time";
const CHECKOUTS: &str = "millpond.checkouts";
const OPENED: &str = "millpond.opened";
const CLOSED: &str = "millpond.closed";
const CHECKS: &str = "millpond.checks";
const CONNECT_FAILURES: &str = "millpond.connect_failures";
const TURNED_AWAY: &str = "millpond.turned_away";
const PANICS: &str = "millpond.panics";

/// Publishes the numbers of the pools that it is given to as an [event handler](crate::Builder::event_handler): see the
/// [module](self). One may serve several pools (in an `Arc`), as long as no two with the same name are open at once.
#[derive(Debug)]
pub struct Metrics {
    every: Duration,
    described: AtomicBool,
    /// What has been told of each pool, by its name.
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// The histograms of the pool that is open now: creating, waiting, using.
    times: [Distribution; 3],
    /// The totals of those that were open before it.
    before: Vec<u64>,
}

impl Metrics {
    /// Publishes every 5 s: three times between two scrapes of Prometheus as they are by default.
    #[must_use]
    pub fn new() -> Self {
        Self { every: Duration::from_secs(5), described: AtomicBool::new(false), told: Mutex::default() }
    }

    /// Publishes every `interval` instead, 20 ms or more. Publishing takes some microseconds, and some nanoseconds for each time
    /// that goes into a histogram.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// What is to be told besides the numbers themselves: the totals of earlier pools, and the histograms as they were told last.
    /// From now on these numbers have been told, whatever the recorder does with them.
    fn note(&self, pool: &str, stats: &Stats, totals: &[Total]) -> Told {
        let times = [&stats.connect_time, &stats.wait_time, &stats.use_time].map(Distribution::clone);
        let mut all = self.told.lock();
        let told = all.entry(pool.to_owned()).or_default();
        let last = Told { times: std::mem::replace(&mut told.times, times), before: told.before.clone() };
        // Nothing more will be told of a closed pool that has no connection left.
        if stats.closed_for_good && stats.size == 0 && stats.connecting == 0 {
            told.times = Default::default();
            told.before = totals.iter().enumerate().map(|(index, total)| total.value + last.earlier(index)).collect();
        }
        drop(all);
        last
    }
}

impl Told {
    fn earlier(&self, index: usize) -> u64 {
        self.before.get(index).copied().unwrap_or(0)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl EventHandler for Metrics {
    fn samples_only(&self) -> bool {
        true
    }

    fn sample_every(&self) -> Option<Duration> {
        Some(self.every)
    }

    fn sampled(&self, pool: &str, stats: &Stats) {
        // Relaxed: describing twice does no harm.
        if !self.described.swap(true, Ordering::Relaxed) {
            describe();
        }
        let totals = totals(stats);
        let last = self.note(pool, stats, &totals);
        set_gauges(pool, stats);
        for (index, Total { name, label, value }) in totals.into_iter().enumerate() {
            let labels: Vec<_> = [Some((POOL, pool.to_owned())), label.map(|(key, value)| (key, value.to_owned()))]
                .into_iter()
                .flatten()
                .map(|(key, value)| Label::new(key, value))
                .collect();
            counter!(name, labels).absolute(value + last.earlier(index));
        }
        let [create, wait, used] = &last.times;
        tell(CREATE_TIME, pool, &stats.connect_time, create);
        tell(WAIT_TIME, pool, &stats.wait_time, wait);
        tell(USE_TIME, pool, &stats.use_time, used);
    }
}

/// Tells the recorder what the metrics are. The first sample does that; where the recorder is installed later, and shows
/// descriptions, call this then.
pub fn describe() {
    describe_gauge!(COUNT, Unit::Count, "Connections in this state.");
    describe_gauge!(IDLE_MAX, Unit::Count, "The most connections that may be idle.");
    describe_gauge!(IDLE_MIN, Unit::Count, "How many connections are kept idle.");
    describe_gauge!(MAX, Unit::Count, "The most connections that there may be.");
    describe_gauge!(PENDING, Unit::Count, "Callers that wait for a connection.");
    describe_counter!(TIMEOUTS, Unit::Count, "Callers whose deadline passed.");
    describe_histogram!(CREATE_TIME, Unit::Seconds, "How long opening a connection took.");
    describe_histogram!(WAIT_TIME, Unit::Seconds, "How long those waited who had to.");
    describe_histogram!(USE_TIME, Unit::Seconds, "How long connections were borrowed.");
    describe_counter!(CHECKOUTS, Unit::Count, "Connections lent.");
    describe_counter!(OPENED, Unit::Count, "Connections opened.");
    describe_counter!(CLOSED, Unit::Count, "Connections closed, by reason.");
    describe_counter!(CHECKS, Unit::Count, "Checks of connections, by result.");
    describe_counter!(CONNECT_FAILURES, Unit::Count, "Attempts to connect that failed.");
    describe_counter!(TURNED_AWAY, Unit::Count, "Callers turned away at once.");
    describe_counter!(PANICS, Unit::Count, "Panics in callbacks.");
}

fn set_gauges(pool: &str, stats: &Stats) {
    let set = |name: &'static str, value: u32| gauge!(name, POOL => pool.to_owned()).set(value);
    let state = |state: &'static str, value: u32| gauge!(COUNT, POOL => pool.to_owned(), STATE => state).set(value);
    state("idle", stats.idle);
    state("used", stats.in_use);
    set(IDLE_MAX, stats.max_size);
    set(IDLE_MIN, stats.min_idle);
    set(MAX, stats.max_size);
    set(PENDING, stats.waiting);
}

/// A counter of a pool, since it was built.
struct Total {
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
    value: u64,
}

/// Always the same ones in the same order.
fn totals(stats: &Stats) -> Vec<Total> {
    let plain = [
        (TIMEOUTS, stats.timeouts),
        (CHECKOUTS, stats.checkouts),
        (OPENED, stats.opened),
        (CONNECT_FAILURES, stats.connect_failures),
        (TURNED_AWAY, stats.overloads + stats.fast_failures),
        (PANICS, stats.panics),
    ];
    let mut totals: Vec<_> = plain.into_iter().map(|(name, value)| Total { name, label: None, value }).collect();
    let passed = stats.checks.saturating_sub(stats.check_failures);
    let checks = [("passed", passed), ("failed", stats.check_failures)];
    totals.extend(checks.map(|(result, value)| Total { name: CHECKS, label: Some(("result", result)), value }));
    let closed = stats.closed.each();
    totals.extend(closed.map(|(reason, value)| Total {
        name: CLOSED,
        label: Some(("reason", reason.as_str())),
        value,
    }));
    totals
}

/// What has been counted since the last time, each as the middle of its bucket.
fn tell(name: &'static str, pool: &str, now: &Distribution, before: &Distribution) {
    let told = histogram!(name, POOL => pool.to_owned());
    let mut before = before.cumulative().map(|(_, below)| below);
    let (mut lower, mut below, mut below_before) = (Duration::ZERO, 0, 0);
    for (upper, up_to) in now.cumulative() {
        let up_to_before = before.next().unwrap_or(below_before);
        let fresh = (up_to - below).saturating_sub(up_to_before - below_before);
        if fresh > 0 {
            let middle = ((lower + upper) / 2).min(now.max());
            told.record_many(middle.as_secs_f64(), usize::try_from(fresh).unwrap_or(usize::MAX));
        }
        (lower, below, below_before) = (upper, up_to, up_to_before);
    }
}
