//! What the server prints: where it is, and at the end what it has done.

use crate::flags::Flags;
use crate::tally::{Tally, Times};
use indicatif::HumanCount;
use millpond::Status;
use std::net::SocketAddr;
use std::time::Duration;

const PATHS: [(&str, &str); 6] = [
    ("/", "the guest book: read and write"),
    ("/api/entries", "its entries as JSON (?before=17&limit=5)"),
    ("/status", "the pools, live"),
    ("/pools.json", "the same as JSON"),
    ("/health", "for a load balancer: 200, or 503"),
    ("/metrics", "for Prometheus"),
];

pub(crate) fn welcome(address: SocketAddr, flags: &Flags) {
    println!("The guest book is open, at http://{address}/\n");
    for (path, what) in PATHS {
        println!("  {:<45} {what}", format!("http://{address}{path}"));
    }
    let (readers, deadline) = (flags.readers, flags.deadline);
    println!(
        "\nUp to {readers} connections read and one writes; {} may wait for each, up to {deadline:.2?}. The database is {}.\n\
         Ctrl-C ends the server in good order, a second one at once.",
        flags.waiting,
        flags.database.display(),
    );
}

pub(crate) fn farewell(tally: &Tally, open: Duration, pools: &Status) {
    let counts = tally.counts();
    let all: u64 = counts.statuses.values().sum();
    let rate = all as f64 / open.as_secs_f64();
    println!("\nThe server is closed. {} requests in {open:.1?}, {rate:.0} a second.\n", HumanCount(all));
    println!("{:<18}{:>10}{:>12}{:>12}{:>12}", "requests", "answered", "p50", "p99", "worst");
    for (kind, times) in &counts.served {
        row(kind.as_str(), times);
    }
    if counts.turned_away.count() > 0 {
        row("turned away (503)", &counts.turned_away);
    }
    let statuses: Vec<_> =
        counts.statuses.iter().map(|(status, count)| format!("{status}: {}", HumanCount(*count))).collect();
    println!("\nstatuses  {}\n\n{pools}", statuses.join(", "));
}

fn row(name: &str, times: &Times) {
    let time = |share| format!("{:.2} ms", times.quantile(share).as_secs_f64() * 1e3);
    let count = HumanCount(times.count()).to_string();
    println!("{name:<18}{count:>10}{:>12}{:>12}{:>12}", time(0.5), time(0.99), time(1.0));
}
