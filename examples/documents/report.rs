//! The table.

use std::time::Duration;

use indicatif::HumanCount;

use crate::contest::{Outcome, Scale};

/// Prints the outcomes side by side; `crowded` are those at servers that admit fewer connections than there are threads.
pub(crate) fn table(title: &str, outcomes: &[Outcome], crowded: &[Outcome], scale: Scale, crowd: Scale) {
    let each = |label: &str, cell: &dyn Fn(&Outcome) -> String| row(label, outcomes.iter().map(cell));
    let (threads, delay) = (scale.threads, scale.manners.delay.as_millis());
    println!("\n{title}: {threads} threads, a server that takes {delay} ms for a request:\n");
    each("", &|outcome| outcome.name.clone());
    each("requests", &|outcome| count(outcome.tally.answers.len() as u64));
    each("requests per second", &|outcome| {
        count((outcome.tally.answers.len() as f64 / outcome.elapsed.as_secs_f64()) as u64)
    });
    each("most connections at once", &|outcome| count(outcome.census.most_open as u64));
    each("connections opened", &|outcome| count(outcome.census.accepted));
    each("wait for a client, p50", &|outcome| quantile(&outcome.tally.waits, 0.5));
    each("  p99", &|outcome| quantile(&outcome.tally.waits, 0.99));
    each("then for the answer, p50", &|outcome| quantile(&outcome.tally.answers, 0.5));
    each("  p99", &|outcome| quantile(&outcome.tally.answers, 0.99));
    each("errors", &|outcome| count(outcome.tally.errors));
    let (requests, most) = (crowd.requests_of_all(), crowd.manners.most);
    println!("  of {} requests to a server that admits {most} connections:", count(requests));
    row("errors", crowded.iter().map(|outcome| count(outcome.tally.errors)));
}

fn row(label: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>14}")).collect();
    println!("  {label:<27}{cells}");
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn quantile(times: &[Duration], share: f64) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * share).ceil() as usize;
    let time = sorted.get(at.saturating_sub(1)).copied().unwrap_or_default();
    match time.as_secs_f64() * 1e6 {
        micros @ ..1e3 => format!("{micros:.0} µs"),
        micros => format!("{:.1} ms", micros / 1e3),
    }
}
