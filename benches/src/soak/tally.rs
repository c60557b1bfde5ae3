//! What happened, counted.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millpond::ErrorKind;

use super::lock;

/// Every ordering is relaxed: each counter is read by itself.
const R: Ordering = Ordering::Relaxed;

#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that are the pool's, those that are being opened included.
    pub owned: AtomicI64,
    /// Connections that were taken out and are not closed yet.
    pub detached: AtomicI64,
    /// Round trips of users.
    pub good: AtomicU64,
    /// Round trips that failed after a good checkout.
    pub cut: AtomicU64,
    /// Checkouts that failed.
    pub failed: AtomicU64,
    /// Panics of callbacks and of the event handler.
    pub panics: AtomicU64,
    /// Times at which there was one connection too many for less than a second: its close was late.
    pub brief: AtomicU64,
    pub forgotten: AtomicU64,
    /// Time-outs of those who wanted one connection.
    pub late: Late,
    /// Of those who wanted several: what they have got goes back, cleaned on their thread, before they hear of it.
    pub late_several: Late,
    /// Of a thread that waits without a pool.
    pub machine: Late,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    calls: AtomicU64,
}

impl Tally {
    /// Counts something that is rare enough for a lock.
    pub fn count(&self, what: &'static str) {
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    pub fn count_failure(&self, kind: ErrorKind) {
        self.failed.fetch_add(1, R);
        self.count(match kind {
            ErrorKind::Exhausted => "failed: exhausted",
            ErrorKind::Connect => "failed: cannot connect",
            ErrorKind::Validate => "failed: check",
            ErrorKind::Paused => "failed: paused",
            ErrorKind::Deadlock => "failed: deadlock",
            _ => "failed: other",
        });
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.counts).clone()
    }

    /// Panics at every `nth` call of all callbacks together; without the message of a real panic.
    pub fn trip(&self, nth: u64) {
        if self.calls.fetch_add(1, R) % nth == nth - 1 {
            self.panics.fetch_add(1, R);
            resume_unwind(Box::new("a bug in a callback"));
        }
    }
}

/// By how much deadlines were missed, in buckets half an octave wide: memory must stay flat.
#[derive(Debug)]
pub struct Late {
    buckets: [AtomicU64; 64],
    worst: AtomicU64,
}

impl Default for Late {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; 64], worst: AtomicU64::new(0) }
    }
}

impl Late {
    pub fn record(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX).max(1);
        let bucket = (2.0 * (micros as f64).log2()) as usize;
        if let Some(counter) = self.buckets.get(bucket) {
            counter.fetch_add(1, R);
        }
        self.worst.fetch_max(micros, R);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|counter| counter.load(R)).sum()
    }

    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(R))
    }

    /// The upper end of the bucket in which the quantile lies.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q * self.count() as f64).ceil() as u64;
        let mut below = 0;
        let bucket = self.buckets.iter().position(|counter| {
            below += counter.load(R);
            below >= rank.max(1)
        });
        let upper = bucket.map_or(0.0, |bucket| (0.5 * (bucket + 1) as f64).exp2());
        Duration::from_secs_f64(upper / 1e6).min(self.worst())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_half_an_octave() {
        let late = Late::default();
        for ms in 1..=1000 {
            late.record(Duration::from_millis(ms));
        }
        let ratio = late.quantile(0.5).as_secs_f64() / 0.5;
        assert!((1.0..1.5).contains(&ratio), "{ratio}");
        assert_eq!(late.quantile(1.0), late.worst());
        assert_eq!(Late::default().quantile(0.5), Duration::ZERO);
    }
}
