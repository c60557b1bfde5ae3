//! The terminal view: one line for each pool, and below it what is worth a line.

use super::{PoolStatus, Status};
use crate::stats::Distribution;
use crate::text::{columns, on_one_line, short};
use std::fmt;
use std::time::SystemTime;

/// So many of the holders and of the incidents have lines.
const LINES: usize = 3;

const HEAD: [&str; 11] = [
    "pool",
    "level",
    "in use",
    "idle",
    "opening",
    "waiting",
    "oldest",
    "wait p50/p99/max",
    "use p50/p99/max",
    "connect p50",
    "time-outs",
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cells = vec![HEAD.map(str::to_owned)];
        cells.extend(self.pools.iter().map(cells_of));
        let lines = columns(&cells, 2);
        let mut lines = lines.iter();
        if let Some(head) = lines.next() {
            writeln!(f, "{head}")?;
        }
        for (status, line) in self.pools.iter().zip(lines) {
            writeln!(f, "{line}")?;
            for detail in details(status, self.at) {
                writeln!(f, "  {}", on_one_line(&detail))?;
            }
        }
        Ok(())
    }
}

fn cells_of(status: &PoolStatus) -> [String; 11] {
    let stats = &status.stats;
    let three = |times: &Distribution| match times.count() {
        0 => "-".to_owned(),
        _ => format!("{} / {} / {}", short(times.quantile(0.5)), short(times.quantile(0.99)), short(times.max())),
    };
    [
        status.health.pool.clone(),
        status.health.level.to_string(),
        format!("{}/{}", stats.in_use, stats.max_size),
        stats.idle.to_string(),
        stats.connecting.to_string(),
        stats.waiting.to_string(),
        if stats.waiting == 0 { "-".to_owned() } else { short(stats.oldest_wait) },
        three(&stats.wait_time),
        three(&stats.use_time),
        if stats.connect_time.count() == 0 { "-".to_owned() } else { short(stats.connect_time.quantile(0.5)) },
        stats.timeouts.to_string(),
    ]
}

fn details(status: &PoolStatus, at: SystemTime) -> Vec<String> {
    let PoolStatus { health, stats, holders, .. } = status;
    let mut lines: Vec<String> = health.warnings.iter().map(|warning| format!("! {warning}")).collect();
    let reasons: Vec<_> = stats.closed.each().filter(|(_, n)| *n > 0).map(|(why, n)| format!("{n} {why}")).collect();
    lines.push(format!(
        "{} checkouts, {} waited; {} opened, {} attempts failed; {} checks, {} failed; {} closed{}{}",
        stats.checkouts,
        stats.waits,
        stats.opened,
        stats.connect_failures,
        stats.checks,
        stats.check_failures,
        stats.closed,
        if reasons.is_empty() { "" } else { ": " },
        reasons.join(", "),
    ));
    lines.extend(holders.iter().take(LINES).map(|lease| format!("held: {lease}")));
    lines.extend(status.incidents().iter().rev().take(LINES).map(|incident| {
        let ago = short(at.duration_since(incident.last).unwrap_or_default());
        format!("{ago} ago: {incident}")
    }));
    lines
}
