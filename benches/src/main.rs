//! millpond beside other pools, in one run: tables, charts, and the figures to reach.

#![forbid(unsafe_code)]

use std::env;
use std::io;
use std::process::ExitCode;
use std::thread;

use millpond_benches::plan::Plan;
use millpond_benches::report::{FIGURES, Report, docs_folder, warn_unless_optimised};
use millpond_benches::sections::{ALL, SIMULATED, Section};

const USAGE: &str = "\
usage: cargo run --release -p millpond-benches -- [--quick] [--only SECTION]... [--write]

  --quick         runs everything once, in a few seconds; the numbers mean nothing
  --only SECTION  runs this section only; may be given more than once
  --write         writes docs/benchmarks.md and docs/charts/ (all sections must run, or only such as are simulated)";

const PREFACE: &str = "\
# Benchmarks

Printed by `cargo run --release -p millpond-benches -- --write`. Every section runs its contestants in turn, in many
short rounds; ratios are taken within a round, because the machine changes between rounds: the clock rate, the
neighbours, and the distance between two cores, which changes whatever shares a cache line several times over. So compare
rows of one table, and trust ratios and instruction counts more than nanoseconds.

r2d2 runs with its default settings, and as *r2d2 unchecked* without its check at every checkout. bb8 and deadpool are
asynchronous: a future is polled by the calling thread, which parks while it waits; bb8 needs a tokio timer besides,
which one worker thread drives. opool and lockfree are object pools: they have no maximum and nobody waits.
*mutex+condvar* is the pool that everybody writes first. *millpond* is `get` and drop of the guard, *millpond with* is
`with`; both with default settings, that is with holder records, coarse time stamps and counters.
";

struct Options {
    plan: Plan,
    write: bool,
    sections: Vec<(&'static str, Section)>,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut quick, mut write, mut only) = (false, false, Vec::new());
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--write" => write = true,
            "--only" => only.push(arguments.next().ok_or("--only needs the name of a section")?),
            // What `cargo bench` adds.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}")),
        }
    }
    for name in &only {
        if !ALL.iter().any(|(section, _)| section == name) {
            let names = ALL.map(|(section, _)| section).join(", ");
            return Err(format!("no section {name}; there are {names}"));
        }
    }
    let simulated = |name: &String| SIMULATED.iter().any(|(section, _)| section == name);
    if write && (quick || !only.iter().all(simulated)) {
        return Err("--write needs a full run: neither --quick, nor --only except with what is simulated".to_owned());
    }
    let wanted = |section: &str| only.is_empty() || only.iter().any(|name| name == section);
    let sections = ALL.into_iter().filter(|(section, _)| wanted(section)).collect();
    Ok(Options { plan: Plan { quick }, write, sections })
}

fn main() -> ExitCode {
    let Options { plan, write, sections } = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    warn_unless_optimised();
    let mut report = Report::default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    report.text(&format!("Measured on {cores} cores ({}).", env::consts::ARCH));
    let whole = sections.len() == ALL.len();
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    for (_, section) in sections {
        section(plan, &mut report);
    }

    if write && !whole {
        let headings = SIMULATED.iter().filter(|(name, _)| names.contains(name)).map(|(_, heading)| *heading);
        return written(report.write_sections(&docs_folder(), &headings.collect::<Vec<_>>()));
    }

    report.heading(FIGURES);
    let (measured, met) = report.found.tally();
    report.text(&if plan.quick {
        "A quick run: one short round of everything, to see that it runs. The numbers mean nothing.".to_owned()
    } else {
        format!("{met} of {measured} measured figures are met.")
    });
    let figures = report.found.table(whole, !plan.quick);
    report.table(&figures);

    if write {
        return written(report.write(&docs_folder(), PREFACE));
    }
    ExitCode::SUCCESS
}

fn written(result: io::Result<()>) -> ExitCode {
    if let Err(error) = result {
        eprintln!("cannot write below {}: {error}", docs_folder().display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
