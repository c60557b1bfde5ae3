//! A pool's numbers under OpenTelemetry's names, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`Metrics`] is an [event handler](crate::EventHandler) that costs a checkout nothing: the pool counts anyway, and what it has
//! counted is published every few seconds, on one of its helper threads. The price is that gauges are as old as that, and that histograms are told to about 12 %: each duration as the middle
//! of the bucket in which the pool counted it.
//!
//! Recorders are looked up each time that something is published, so one that is installed after the pool was built gets
//! everything: counters with their totals since then, histograms from its first sample on.
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
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Once;
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
/// [module](self). One may serve several pools (in an `Arc`), as long as their names differ.
#[derive(Debug)]
pub struct Metrics {
    every: Duration,
    described: Once,
    /// What each pool's histograms have been told, by its name.
    told: Mutex<HashMap<String, Times>>,
}

#[derive(Debug, Default)]
struct Times {
    create: Distribution,
    wait: Distribution,
    used: Distribution,
}

impl Metrics {
    /// Publishes every 5 s: three times between two scrapes of Prometheus as they are by default.
    #[must_use]
    pub fn new() -> Self {
        Self { every: Duration::from_secs(5), described: Once::new(), told: Mutex::default() }
    }

    /// Publishes every `interval` instead, 20 ms or more. Publishing takes some microseconds.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
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
        self.described.call_once(describe);
        publish(pool, stats);
        let now =
            Times { create: stats.connect_time.clone(), wait: stats.wait_time.clone(), used: stats.use_time.clone() };
        let before = self.told.lock().remove(pool).unwrap_or_default();
        tell(CREATE_TIME, pool, &now.create, &before.create);
        tell(WAIT_TIME, pool, &now.wait, &before.wait);
        tell(USE_TIME, pool, &now.used, &before.used);
        // A closed pool without connections is told of for the last time.
        if !stats.closed_for_good || stats.size > 0 {
            self.told.lock().insert(pool.to_owned(), now);
        }
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

/// Gauges as they are, and counters as totals, so that a recorder which comes late misses nothing.
fn publish(pool: &str, stats: &Stats) {
    let set = |name: &'static str, value: u32| gauge!(name, POOL => pool.to_owned()).set(value);
    let state = |state: &'static str, value: u32| gauge!(COUNT, POOL => pool.to_owned(), STATE => state).set(value);
    let total = |name: &'static str, value: u64| counter!(name, POOL => pool.to_owned()).absolute(value);
    state("idle", stats.idle);
    state("used", stats.in_use);
    set(IDLE_MAX, stats.max_size);
    set(IDLE_MIN, stats.min_idle);
    set(MAX, stats.max_size);
    set(PENDING, stats.waiting);
    total(TIMEOUTS, stats.timeouts);
    total(CHECKOUTS, stats.checkouts);
    total(OPENED, stats.opened);
    total(CONNECT_FAILURES, stats.connect_failures);
    total(TURNED_AWAY, stats.overloads + stats.fast_failures);
    total(PANICS, stats.panics);
    for (reason, closed) in stats.closed.each() {
        counter!(CLOSED, POOL => pool.to_owned(), "reason" => reason.as_str()).absolute(closed);
    }
    let passed = stats.checks.saturating_sub(stats.check_failures);
    for (result, checks) in [("passed", passed), ("failed", stats.check_failures)] {
        counter!(CHECKS, POOL => pool.to_owned(), "result" => result).absolute(checks);
    }
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
