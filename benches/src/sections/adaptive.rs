//! A size that follows the load, beside the best fixed size and a simpler rule. Simulated: the same numbers on every machine.

use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::simulation::load::{self, Load};
use crate::simulation::{CEILING, FLOOR, Outcome, Sizer, TARGET, WARM_UP, best_fixed, run as simulate};
use crate::steps::{Line, Steps};
use crate::table::{Table, number, time};

pub const HEADING: &str = "A size that follows the load";

/// The loads that are drawn, from and to which second, and over how many seconds the callers are counted.
const DRAWN: [(&str, &str, u64, u64, u64); 3] = [
    ("step", "adaptive-step", 360, 1080, 5),
    ("bursts", "adaptive-bursts", 0, 600, 1),
    ("outage", "adaptive-outage", 380, 740, 5),
];

pub fn run(plan: Plan, report: &mut Report) {
    // What is cheap to look at is enough to see that it runs.
    let loads = if plan.quick { vec![load::step()] } else { load::all() };
    let progress = Progress::new("adaptive", 1);
    report.heading(HEADING);
    report.text(&format!(
        "Simulated, with the rule of `millpond::adaptive` itself and seeded callers, so these numbers are the same on every machine. \
         Between {FLOOR} and {CEILING} connections, to wait no longer than {} ms; opening one takes 20 ms. *Best fixed* is the \
         smallest fixed size whose p99 wait is no longer than that of the adaptive pool, *over fixed* the mean maximum \
         over the smallest fixed size with the same p99 as that row. *By fifths* grows by a fifth when waits exceed 100 ms, and shrinks by a fifth when more than 80 % are \
         idle. Connections are held for 40 ms on average, one in a hundred for 240 ms (lognormal); *recorded* is a program over \
         SQLite, two minutes of it ten times over. The first {} s are not counted. *Turns* are changes from growing to shrinking \
         or back. What the simple rule saves, its callers wait for: it notices waits of 100 ms and no shorter ones, and it \
         shrinks in the middle of a lull.",
        TARGET.as_millis(),
        WARM_UP / load::SECOND,
    ));
    let mut table = Table::new(["load", "connections", "over fixed", "open", "p99 wait", "worst", "changes", "turns"]);
    let mut drawings = Vec::new();
    for load in &loads {
        progress.at(0, load.name);
        let own = simulate(load, Sizer::rule());
        let (size, fixed) = best_fixed(load, own.p99);
        let simple = simulate(load, Sizer::Fifth);
        let (patient, _) = best_fixed(load, simple.p99);
        table.row(row(&format!("{}: adaptive", load.name), &own, size));
        table.row(row("best fixed", &fixed, size));
        table.row(row("by fifths", &simple, patient));
        if let Some(drawn) = DRAWN.iter().find(|drawn| drawn.0 == load.name) {
            drawings.push((drawn, draw(load, drawn, [&own, &fixed, &simple])));
        }
    }
    drop(progress);
    report.table(&table);
    let about: Vec<_> = loads.iter().map(|load| format!("- *{}*: {}", load.name, load.about)).collect();
    report.text(&about.join("\n"));
    for ((_, file, ..), steps) in drawings {
        report.drawing(file, &steps.title, steps.to_svg());
    }
}

fn row(name: &str, outcome: &Outcome, fixed: u32) -> [String; 8] {
    [
        name.to_owned(),
        number(outcome.size),
        number(outcome.size / f64::from(fixed)),
        number(outcome.open),
        time(outcome.p99 * 1e9),
        time(outcome.worst * 1e9),
        outcome.decisions.to_string(),
        outcome.turns.to_string(),
    ]
}

fn draw(load: &Load, &(_, _, from, to, stretch): &(&str, &str, u64, u64, u64), outcomes: [&Outcome; 3]) -> Steps {
    let names = ["adaptive", "best fixed", "by fifths"];
    let lines = names.into_iter().zip(outcomes).map(|(name, outcome)| Line {
        name,
        steps: outcome.sizes.iter().map(|(at, size)| (*at, f64::from(*size))).collect(),
    });
    let rates = load.rates(stretch).into_iter().enumerate();
    Steps {
        title: format!("Connections allowed over time: {}", load.name),
        about: load.about.to_owned(),
        from: from as f64,
        to: to as f64,
        shaded: load.outage.map(|(from, to)| [from, to].map(|at| (at / load::SECOND) as f64)),
        callers: rates.map(|(number, rate)| ((number as u64 * stretch) as f64, rate)).collect(),
        lines: lines.collect(),
    }
}
