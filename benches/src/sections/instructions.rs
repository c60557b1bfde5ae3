//! Instructions per checkout: the one figure that no busy neighbour changes.

use std::path::Path;
use std::process::Command;

use crate::contestants::Kind;
use crate::figures::Figure;
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::sibling::{is_installed, program};
use crate::table::{Table, number};

const KINDS: [Kind; 9] = [
    Kind::R2d2,
    Kind::Millpond,
    Kind::MillpondWith,
    Kind::R2d2Unchecked,
    Kind::Bb8,
    Kind::Deadpool,
    Kind::Opool,
    Kind::Lockfree,
    Kind::Plain,
];

pub fn run(plan: Plan, report: &mut Report) {
    report.heading("Instructions");
    if !is_installed("valgrind") {
        report.text("skipped: no valgrind");
        return;
    }
    // Starting under valgrind takes a second each time: a quick run is content with the two that the figures need.
    let kinds = if plan.quick { &KINDS[..2] } else { &KINDS[..] };
    let progress = Progress::new("instructions", kinds.len());
    let Some(program) = program("instructions") else {
        report.text("skipped: the program `instructions` of this package could not be built");
        return;
    };
    let counted: Vec<f64> = kinds
        .iter()
        .enumerate()
        .map(|(row, kind)| {
            progress.at(row, kind.name());
            per_checkout(&program, *kind).unwrap_or(f64::NAN)
        })
        .collect();
    drop(progress);

    report.text(
        "User-space instructions of a checkout and a return, one thread, 8 connections, counted by callgrind: the difference \
         of two runs of different length. Reading a clock is a system call there and not code of the vDSO as usual, so its \
         instructions are not in it: r2d2 reads a precise clock five times.",
    );
    let mut table = Table::new(["one thread", "instructions", "over r2d2"]);
    for (kind, count) in kinds.iter().zip(&counted) {
        table.row([kind.name().to_owned(), number(*count), number(count / counted[0])]);
        match kind {
            Kind::Millpond => report.found.record(Figure::InstructionsGet, count / counted[0]),
            Kind::MillpondWith => report.found.record(Figure::InstructionsWith, count / counted[0]),
            _ => {}
        }
    }
    report.table(&table);
}

fn per_checkout(program: &Path, kind: Kind) -> Option<f64> {
    const FEW: u64 = 2_000;
    const MANY: u64 = 12_000;
    let (few, many) = (counted(program, kind, FEW)?, counted(program, kind, MANY)?);
    Some((many - few) / (MANY - FEW) as f64)
}

fn counted(program: &Path, kind: Kind, times: u64) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([kind.name(), &times.to_string()])
        .output()
        .ok()?;
    let log = String::from_utf8_lossy(&output.stderr);
    // Callgrind ends with a line like `==123== Collected : 4567`.
    let total = log.lines().rev().find_map(|line| line.split_once("Collected :"))?.1;
    total.split_whitespace().next()?.parse().ok()
}
