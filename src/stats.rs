//! The pool's numbers: counters that are written without a lock, and the snapshot that users read.

use crate::event::CloseReason;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The pool's numbers at one moment. `opened - closed = size` always. Taken without holding up borrowers: what they do, and the
/// other counters, are read one after another, so while the pool is busy they may differ by what happened in between.
///
/// # Examples
///
/// ```
/// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(2).build()?;
/// let conn = pool.get()?;
/// let stats = pool.stats();
/// assert_eq!((stats.max_size, stats.size, stats.in_use, stats.idle), (2, 1, 1, 0));
/// assert_eq!(stats.opened - stats.closed, 1);
/// # drop(conn);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// The most connections there may be.
    pub max_size: u32,
    /// How many are kept idle.
    pub min_idle: u32,
    /// Connections that are open: idle, in use, being checked, and being closed.
    pub size: u32,
    /// Connections that wait to be borrowed.
    pub idle: u32,
    /// Connections that are borrowed.
    pub in_use: u32,
    /// Connections that are being opened.
    pub connecting: u32,
    /// Connections whose check is under way.
    pub checking: u32,
    /// Callers that wait for a connection.
    pub waiting: u32,
    /// For how long the first of them has waited; zero where nobody waits.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::encode::seconds"))]
    pub oldest_wait: Duration,
    /// For how long the server has left the oldest attempt to connect, or check, that is under way without an answer; zero where
    /// none is. One that hangs while others succeed counts from the last one that did.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::encode::seconds"))]
    pub unanswered: Duration,
    /// The limit of the [`Budget`](crate::Budget) that the pool shares, where callers wait and all of it is used.
    pub budget_used_up: Option<u32>,
    /// Whether connecting works, as far as is known.
    pub breaker: Breaker,
    /// Whether the pool is [paused](crate::Pool::pause), and lends nothing.
    pub paused: bool,
    /// Whether the pool is [closed](crate::Pool::close) for good.
    pub closed_for_good: bool,
    /// Connections opened since the pool was built.
    pub opened: u64,
    /// Connections closed since the pool was built, in total and by reason.
    pub closed: Closed,
    /// Attempts to open a connection that failed.
    pub connect_failures: u64,
    /// Checks that were made, whether they passed or failed.
    pub checks: u64,
    /// Checks that failed.
    pub check_failures: u64,
    /// Connections lent.
    pub checkouts: u64,
    /// Checkouts and failures that had to wait: the others found an idle connection at once.
    pub waits: u64,
    /// Callers whose deadline passed.
    pub timeouts: u64,
    /// Callers that waited for longer than [`Adaptive::target_wait`](crate::adaptive::Adaptive::target_wait) because the pool was
    /// full; counted only where the size is adaptive.
    pub late: u64,
    /// Callers turned away because too many waited already.
    pub overloads: u64,
    /// Callers that failed before their deadlines because connecting fails: with [`WhenDown::FailFast`](crate::WhenDown), because
    /// trying again would not help, or because a [`Balanced`](crate::Balanced) sends them to another pool.
    pub fast_failures: u64,
    /// How often the maximum was made larger, by hand or by the [rule](crate::adaptive).
    pub grown: u64,
    /// How often it was made smaller.
    pub shrunk: u64,
    /// Panics in callbacks.
    pub panics: u64,
    /// How long those waited who had to, whether they got a connection or not.
    pub wait_time: Distribution,
    /// How long connections were borrowed; counted only with [`Builder::use_times`](crate::Builder::use_times) or
    /// an event handler, because it costs two readings of the exact clock (about 70 ns) per checkout.
    pub use_time: Distribution,
    /// How long opening a connection took, where it succeeded.
    pub connect_time: Distribution,
}

/// A server that leaves an attempt to connect without an answer for so long is taken for away: it is after 1 s that TCP sends the
/// first packet again, so whatever takes longer has lost one, or meets nobody.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

/// What is known of the server, in the words of circuit breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Breaker {
    /// The last attempt to connect was a success, or there was none.
    #[default]
    Closed,
    /// Connecting fails; no attempt is made before the next one is due.
    Open,
    /// Connecting has failed, and one attempt is under way.
    HalfOpen,
}

/// Since when connecting has failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Outage {
    /// For how long, since the first attempt that failed.
    #[cfg_attr(feature = "serde", serde(rename = "seconds", serialize_with = "crate::encode::seconds"))]
    pub lasting: Duration,
    /// How many attempts have failed; those that were made together count once.
    pub attempts: u32,
    /// What the last one failed with: the text of the manager's error, without passwords.
    pub error: String,
}

impl Stats {
    /// `max 10: 10 in use, 0 idle, 0 opening; 7 waiting`.
    pub(crate) fn summary(&self) -> String {
        let mut text =
            format!("max {}: {} in use, {} idle, {} opening", self.max_size, self.in_use, self.idle, self.connecting);
        if self.checking > 0 {
            text.push_str(&format!(", {} being checked", self.checking));
        }
        text.push_str(&format!("; {} waiting", self.waiting));
        text
    }
}

/// How many connections were closed, in total and by reason. Calculates like the total: `stats.opened - stats.closed`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Closed([u64; CloseReason::COUNT]);

impl Closed {
    pub(crate) fn count(&mut self, reason: CloseReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many were closed for each reason, those for which none were included.
    pub fn each(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.into_iter().map(|reason| (reason, self.by(reason)))
    }

    /// Those closed for this reason.
    #[must_use]
    pub fn by(&self, reason: CloseReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        map.entry(&"total", &self.total());
        for reason in CloseReason::ALL {
            if self.by(reason) > 0 {
                map.entry(&reason.as_str(), &self.by(reason));
            }
        }
        map.finish()
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.total().fmt(f)
    }
}

impl From<Closed> for u64 {
    fn from(closed: Closed) -> Self {
        closed.total()
    }
}

impl PartialEq<u64> for Closed {
    fn eq(&self, other: &u64) -> bool {
        self.total() == *other
    }
}

impl PartialOrd<u64> for Closed {
    fn partial_cmp(&self, other: &u64) -> Option<std::cmp::Ordering> {
        self.total().partial_cmp(other)
    }
}

impl std::ops::Sub<Closed> for u64 {
    type Output = Self;
    fn sub(self, closed: Closed) -> Self {
        self - closed.total()
    }
}

/// The total and each reason by its name, those without any included, so that a reader finds the same fields each time.
#[cfg(feature = "serde")]
impl serde::Serialize for Closed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1 + CloseReason::COUNT))?;
        map.serialize_entry("total", &self.total())?;
        for reason in CloseReason::ALL {
            map.serialize_entry(reason.as_str(), &self.by(reason))?;
        }
        map.end()
    }
}

/// How durations were distributed, in buckets a quarter of an octave wide: a quantile is right to about 12 %.
#[derive(Clone, Default)]
pub struct Distribution {
    buckets: Vec<u64>,
    sum: Duration,
    max: Duration,
}

impl Distribution {
    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Their mean; zero where there were none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let count = self.count();
        if count == 0 { Duration::ZERO } else { self.sum.div_f64(count as f64) }
    }

    /// The duration that a share `q` of all (0.5 the median, 0.99 all but one in a hundred) did not exceed: the
    /// upper end of its bucket, and never more than the longest. Zero where there were none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        self.cumulative().find(|&(_, below)| below >= rank).map_or(Duration::ZERO, |(upper, _)| upper.min(self.max))
    }

    /// The upper end of each bucket up to the last one in use, with the number of durations that were not longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let used = self.buckets.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1);
        self.buckets.iter().take(used).enumerate().scan(0, |below, (index, n)| {
            *below += n;
            Some((upper_end(index), *below))
        })
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// `count`, and `sum`, `mean`, `p50`, `p95`, `p99` and `max` in seconds, as OpenTelemetry counts time; and `buckets`, pairs of a
/// bucket's upper end and how many are in it, empty ones left out.
#[cfg(feature = "serde")]
impl serde::Serialize for Distribution {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Distribution", 8)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("sum", &self.sum.as_secs_f64())?;
        fields.serialize_field("mean", &self.mean().as_secs_f64())?;
        fields.serialize_field("p50", &self.quantile(0.5).as_secs_f64())?;
        fields.serialize_field("p95", &self.quantile(0.95).as_secs_f64())?;
        fields.serialize_field("p99", &self.quantile(0.99).as_secs_f64())?;
        fields.serialize_field("max", &self.max.as_secs_f64())?;
        let used = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        let buckets: Vec<_> = used.map(|(index, n)| (upper_end(index).as_secs_f64(), *n)).collect();
        fields.serialize_field("buckets", &buckets)?;
        fields.end()
    }
}

/// Four buckets an octave from 1 µs to 2^39 µs (6 days).
const BUCKETS: usize = 38 * 4 + 4;

fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros < 4 {
        return micros as usize;
    }
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - 2)) & 3;
    (((octave as usize) - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    if bucket < 4 {
        return Duration::from_micros(bucket as u64 + 1);
    }
    let (octave, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
    Duration::from_micros((4 + quarter + 1) << (octave - 2))
}

/// A distribution as it is written: allocated with the first value, so that a pool which never waits pays nothing.
#[derive(Debug, Default)]
pub(crate) struct Histogram(OnceLock<Box<Recorded>>);

#[derive(Debug)]
struct Recorded {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

// Every ordering in this file is relaxed: each counter is read by itself, and nobody concludes from one of them
// about other memory.
const R: Ordering = Ordering::Relaxed;

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let recorded = self.0.get_or_init(|| {
            Box::new(Recorded {
                buckets: [const { AtomicU64::new(0) }; BUCKETS],
                sum: AtomicU64::new(0),
                max: AtomicU64::new(0),
            })
        });
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(counter) = recorded.buckets.get(bucket(duration)) {
            counter.fetch_add(1, R);
        }
        recorded.sum.fetch_add(nanos, R);
        // A look first: an exchange costs as much as the rest, and few values are the longest so far.
        if nanos > recorded.max.load(R) {
            recorded.max.fetch_max(nanos, R);
        }
    }

    fn snapshot(&self) -> Distribution {
        self.0.get().map_or_else(Distribution::default, |recorded| Distribution {
            buckets: recorded.buckets.iter().map(|counter| counter.load(R)).collect(),
            sum: Duration::from_nanos(recorded.sum.load(R)),
            max: Duration::from_nanos(recorded.max.load(R)),
        })
    }
}

/// A count of events.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, R);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(R)
    }
}

/// What a pool counts off its fast path; checkouts are counted in the slots, and what was opened and closed in the book.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connect_failures: Counter,
    /// Apart from those that failed, so that neither is a difference of two counters that are read one after the other: such a
    /// difference falls now and then, and whoever reads counters takes one that falls for one that began anew.
    pub(crate) checks_passed: Counter,
    pub(crate) check_failures: Counter,
    pub(crate) waits: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) overloads: Counter,
    pub(crate) fast_failures: Counter,
    pub(crate) late: Counter,
    /// Those of them that got no connection.
    pub(crate) gave_up: Counter,
    pub(crate) grown: Counter,
    pub(crate) shrunk: Counter,
    pub(crate) panics: Counter,
    pub(crate) wait_time: Histogram,
    pub(crate) use_time: Histogram,
    pub(crate) connect_time: Histogram,
}

impl Counters {
    /// Fills in what is counted here.
    pub(crate) fn fill(&self, stats: &mut Stats) {
        stats.connect_failures = self.connect_failures.get();
        stats.check_failures = self.check_failures.get();
        stats.checks = self.checks_passed.get() + stats.check_failures;
        stats.waits = self.waits.get();
        stats.timeouts = self.timeouts.get();
        stats.overloads = self.overloads.get();
        stats.fast_failures = self.fast_failures.get();
        stats.late = self.late.get();
        stats.grown = self.grown.get();
        stats.shrunk = self.shrunk.get();
        stats.panics = self.panics.get();
    }

    pub(crate) fn fill_times(&self, stats: &mut Stats) {
        stats.wait_time = self.wait_time.snapshot();
        stats.use_time = self.use_time.snapshot();
        stats.connect_time = self.connect_time.snapshot();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_ends_where_the_next_one_begins() {
        for index in 0..BUCKETS - 1 {
            let end = upper_end(index);
            assert_eq!(bucket(end), index + 1, "{end:?}");
            assert_eq!(bucket(end - Duration::from_nanos(1)), index, "{end:?}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_a_quarter_of_an_octave() {
        let histogram = Histogram::default();
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.count(), 1000);
        assert_eq!(seen.max(), Duration::from_secs(1));
        for (q, exact) in [(0.5, 0.5), (0.9, 0.9), (0.99, 0.99)] {
            let ratio = seen.quantile(q).as_secs_f64() / exact;
            assert!((1.0..1.26).contains(&ratio), "{q}: {ratio}");
        }
        assert_eq!(seen.quantile(1.0), seen.max());
        assert_eq!(Distribution::default().quantile(0.5), Duration::ZERO);
    }
}
