//! Heap bytes of a pool and of each connection in it, allocations per checkout, threads.

use std::process::Command;

use crate::contestants::{Conn, Kind};
use crate::figures::Figure;
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::sibling::program;
use crate::table::{Table, number};

const KINDS: [Kind; 5] = [Kind::Millpond, Kind::R2d2, Kind::Bb8, Kind::Deadpool, Kind::Plain];

/// The numbers of the program `memory`, in its order.
struct Counted {
    empty: f64,
    first: f64,
    full: f64,
    per_connection: f64,
    allocations: f64,
    threads: f64,
}

pub fn run(_: Plan, report: &mut Report) {
    report.heading("Memory");
    let progress = Progress::new("memory", 1);
    progress.at(0, "building");
    let counted: Option<Vec<Counted>> = program("memory").and_then(|program| {
        KINDS
            .into_iter()
            .map(|kind| {
                progress.at(0, kind.name());
                let output = Command::new(&program).arg(kind.name()).output().ok()?;
                parse(&String::from_utf8(output.stdout).ok()?)
            })
            .collect()
    });
    drop(progress);
    let Some(counted) = counted else {
        report.text("skipped: the program `memory` of this package could not be built or run");
        return;
    };

    report.text(&format!(
        "Heap bytes as a counting allocator sees them (stacks of threads are not in it), with connections of {} bytes. \
         *Empty* has a maximum of 8 and no connection yet; *first* is the same for the first pool of a process; *full* \
         has its 8 connections open and idle; *per connection* is the difference to a pool of 1 024, the connection \
         itself included. The thread of bb8 and deadpool is that of the timer which they are given.",
        size_of::<Conn>()
    ));
    let mut table =
        Table::new(["bytes", "empty", "first", "full", "per connection", "allocations per checkout", "threads"]);
    for (kind, counted) in KINDS.iter().zip(&counted) {
        let Counted { empty, first, full, per_connection, allocations, threads } = counted;
        let cells = [*empty, *first, *full, *per_connection, *allocations, *threads].map(number);
        table.row([kind.name().to_owned()].into_iter().chain(cells));
    }
    report.table(&table);
    if let Some(own) = counted.first() {
        report.found.record(Figure::FixedMemory, own.empty);
        report.found.record(Figure::ConnectionMemory, own.per_connection);
        report.found.record(Figure::Allocations, own.allocations);
    }
}

fn parse(line: &str) -> Option<Counted> {
    let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [empty, first, full, per_connection, allocations, threads] = numbers[..] else {
        return None;
    };
    Some(Counted { empty, first, full, per_connection, allocations: allocations / 1_000.0, threads })
}
