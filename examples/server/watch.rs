//! A line in the log when a pool had to turn requests away, and not one for each of them.

use millpond::{EventHandler, Stats};
use parking_lot::Mutex;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(10);

/// Compares a pool's numbers with those of ten seconds before.
#[derive(Default)]
pub(crate) struct Watch {
    /// Callers who waited in vain, and who were turned away at once.
    before: Mutex<(u64, u64)>,
}

impl EventHandler for Watch {
    /// What costs nothing where connections are borrowed.
    fn samples_only(&self) -> bool {
        true
    }

    fn sample_every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn sampled(&self, pool: &str, stats: &Stats) {
        let now = (stats.timeouts, stats.overloads);
        let before = std::mem::replace(&mut *self.before.lock(), now);
        if now != before {
            log::warn!(
                "{pool}: in the last {EVERY:.0?}, {} requests waited in vain and {} were turned away; longest wait ever {:.2?}",
                now.0 - before.0,
                now.1 - before.1,
                stats.wait_time.max(),
            );
        }
    }
}
