//! What came of the requests of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::table::{Table, number, time};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Page,
    Api,
    Write,
    /// Whatever was turned away.
    Refused,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Page, Self::Api, Self::Write, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Api => "JSON",
            Self::Write => "entry written",
            Self::Refused => "turned away (503)",
        }
    }
}

/// Of one client, or of all of a run.
#[derive(Clone, Default)]
pub struct Outcome {
    times: BTreeMap<Kind, Option<Histogram<u64>>>,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
    pub seconds: f64,
}

impl Outcome {
    pub fn answered(&mut self, kind: Kind, status: u16, took: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        let kind = if status == 503 { Kind::Refused } else { kind };
        // Up to a minute, to two digits, in microseconds.
        let fresh = || Histogram::new_with_bounds(1, 60_000_000, 2).expect("two digits between these are possible");
        let times = self.times.entry(kind).or_default().get_or_insert_with(fresh);
        times.saturating_record(took.as_micros().try_into().unwrap_or(u64::MAX));
    }

    pub fn failed(&mut self, error: String) {
        *self.errors.entry(error).or_default() += 1;
    }

    pub fn add(&mut self, other: Self) {
        for (kind, times) in other.times {
            let all = self.times.entry(kind).or_default();
            match (all.as_mut(), times) {
                (Some(all), Some(times)) => all.add(times).expect("both have the same bounds"),
                (None, times) => *all = times,
                (Some(_), None) => {}
            }
        }
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn of(&self, kind: Kind) -> Option<&Histogram<u64>> {
        self.times.get(&kind).and_then(Option::as_ref)
    }

    /// Requests of a kind a second, and the milliseconds that these shares of them did not exceed.
    fn row(&self, kind: Kind) -> [f64; 5] {
        let Some(times) = self.of(kind) else { return [0.0, f64::NAN, f64::NAN, f64::NAN, f64::NAN] };
        let [p50, p90, p99, worst] = [0.5, 0.9, 0.99, 1.0].map(|share| times.value_at_quantile(share) as f64 * 1e3);
        [times.len() as f64 / self.seconds, p50, p90, p99, worst]
    }
}

/// Medians over the runs of a scene.
pub fn table(runs: &[Outcome]) -> Table {
    let mut table = Table::new(["request", "per second", "p50", "p90", "p99", "worst"]);
    let all: Vec<f64> = runs.iter().map(|run| run.count() as f64 / run.seconds).collect();
    for kind in Kind::ALL.into_iter().filter(|kind| runs.iter().any(|run| run.of(*kind).is_some())) {
        let rows: Vec<[f64; 5]> = runs.iter().map(|run| run.row(kind)).collect();
        let column = |nth: usize| median(rows.iter().filter_map(|row| row.get(nth)).copied().collect());
        let times = (1..5).map(|nth| time(column(nth)));
        table.row([kind.name().to_owned(), number(column(0))].into_iter().chain(times));
    }
    table.row(["all".to_owned(), number(median(all))]);
    table
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
