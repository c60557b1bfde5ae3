//! A soak with random faults: `soak [--seconds N] [--seed S]`. Ends with status 1 if anything that must hold did not.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};
use millpond_benches::drill::span;
use millpond_benches::soak::finish::{self, Before};
use millpond_benches::soak::tally::Late;
use millpond_benches::soak::watch::Watch;
use millpond_benches::soak::{Ground, MOST, USERS, faults, users};
use millpond_benches::table::Table;

const USAGE: &str = "\
usage: cargo run --release -p millpond-benches --bin soak -- [--seconds N] [--seed S]

  --seconds N  how long; 300 without it
  --seed S     the faults and the users' doings of an earlier run, once more";

struct Options {
    span: Duration,
    seed: u64,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { span: Duration::from_secs(300), seed: fastrand::u64(..) };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let word = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            word.parse::<u64>().map_err(|error| format!("{argument} {word}: {error}"))
        };
        match argument.as_str() {
            "--seconds" => options.span = Duration::from_secs(value()?.max(5)),
            "--seed" => options.seed = value()?,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let Options { span, seed } = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let before = Before::now();
    let Some(ground) = Ground::prepare() else { return ExitCode::SUCCESS };
    println!("seed {seed}, {} s: {USERS} users, at most {MOST} connections", span.as_secs());
    let back = Late::default();
    let mut watch = Watch::new(&ground);
    soak(&ground, &mut watch, &back, span, seed);
    let flat = watch.flat();
    finish::whole(&ground);
    finish::close(&ground);
    println!("\n{}\n{flat}\n{}\n{}", watch.table(), counts(&ground), summary(&ground, &watch, &back));
    println!("closed: {:?}\n", ground.pool.stats().closed);
    drop(watch);
    let broken = finish::nothing_left(ground, before);
    if broken.is_empty() {
        println!("Everything held.");
        return ExitCode::SUCCESS;
    }
    for what in &broken {
        println!("BROKEN: {what}");
    }
    println!("again with --seconds {} --seed {seed}", span.as_secs());
    ExitCode::FAILURE
}

/// Users, faults and knobs, until the time is over and all of them have ended.
fn soak(ground: &Ground, watch: &mut Watch<'_>, back: &Late, span: Duration, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    thread::scope(|scope| {
        let (bad, knobs) = (rng.fork(), rng.fork());
        scope.spawn(move || faults::run(ground, bad, back));
        scope.spawn(move || faults::turn_knobs(ground, knobs));
        let beside = rng.fork();
        scope.spawn(move || users::wait_beside(ground, beside));
        for _ in 0..USERS {
            let own = rng.fork();
            scope.spawn(move || users::run(ground, own));
        }
        progress(ground, watch, span);
        ground.stop();
    });
}

fn progress(ground: &Ground, watch: &mut Watch<'_>, span: Duration) {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}").expect("a good template");
    let bar = ProgressBar::new(span.as_millis() as u64).with_style(style);
    // indicatif draws only on a terminal; a log has a line now and then.
    let (logged, mut next) = (!io::stderr().is_terminal(), Duration::ZERO);
    watch.run(span, |at| {
        let tally = &ground.tally;
        if at >= next || !logged {
            let (good, failed) = (tally.good.load(Ordering::Relaxed), tally.failed.load(Ordering::Relaxed));
            let line = format!("{good} good round trips, {failed} failed checkouts, {:?}", ground.pool);
            if logged {
                eprintln!("{:.0} s: {line}", at.as_secs_f64());
                next += Duration::from_secs(15);
            } else {
                bar.set_position(at.as_millis() as u64);
                bar.set_message(line);
            }
        }
    });
    bar.finish_and_clear();
}

/// How often everything was done.
fn counts(ground: &Ground) -> Table {
    let mut table = Table::new(["what happened", "times"]);
    for (what, times) in ground.tally.counts() {
        table.row([what.to_owned(), times.to_string()]);
    }
    table
}

fn summary(ground: &Ground, watch: &Watch<'_>, back: &Late) -> Table {
    let (tally, stats) = (&ground.tally, ground.pool.stats());
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let three =
        |late: &Late| format!("{}, {}, {}", span(late.quantile(0.5)), span(late.quantile(0.99)), span(late.worst()));
    let mut table = Table::new(["in all", ""]);
    let mut row = |what: &str, value: String| table.row([what.to_owned(), value]);
    row("checkouts", stats.checkouts.to_string());
    row("good round trips", count(&tally.good));
    row("round trips that broke off", count(&tally.cut));
    row("failed checkouts", count(&tally.failed));
    row("time-outs late by: p50, p99, worst", three(&tally.late));
    row("the same, of several at once", three(&tally.late_several));
    row("a plain wait beside them, late by", three(&tally.machine));
    row("back after a fault: p50, p99, worst", three(back));
    row("connections opened", stats.opened.to_string());
    row("panics of callbacks: thrown, counted", format!("{}, {}", count(&tally.panics), stats.panics));
    row("most connections, by their own count", format!("{} of {MOST}", watch.most_owned));
    row("most connections, by the server's", format!("{} of {MOST}, asked {} times", watch.most_listed, watch.asked));
    row("one too many for less than a second", count(&tally.brief));
    table
}
