//! How many requests were answered, with what, and how fast.

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// Requests that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pages,
    Api,
    Writes,
    Operations,
    /// What belongs nowhere.
    Other,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Api => "JSON",
            Self::Writes => "entries written",
            Self::Operations => "for operators",
            Self::Other => "others",
        }
    }
}

#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) served: BTreeMap<Kind, Times>,
    /// All that were turned away with a 503, whatever they wanted: they are quick, and would make the others look so.
    pub(crate) turned_away: Times,
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// From the request that was read to the answer that was sent, in microseconds: to two digits, so a few kilobytes.
#[derive(Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Tally {
    pub(crate) fn record(&self, kind: Kind, status: u16, took: Duration) {
        let mut counts = self.0.lock();
        *counts.statuses.entry(status).or_default() += 1;
        let away = status == 503 && kind != Kind::Operations;
        let times = if away { &mut counts.turned_away } else { counts.served.entry(kind).or_default() };
        times.0.saturating_record(took.as_micros().try_into().unwrap_or(u64::MAX));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

impl Times {
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that a share of them did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }
}

impl Default for Times {
    fn default() -> Self {
        // Up to ten minutes, to which longer ones are cut.
        Self(Histogram::new_with_bounds(1, 600_000_000, 2).expect("two digits between these bounds are possible"))
    }
}
