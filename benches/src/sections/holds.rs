//! More threads than connections: throughput, how long they wait, how evenly they are served, and what it costs.

use std::time::Duration;

use crate::chart::{Chart, Scale};
use crate::contestants::{Contestant, Hold, Kind, Served, Setting};
use crate::figures::Figure;
use crate::measure::{Rounds, crew, quantile};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, number, time};

const KINDS: [Kind; 6] = [Kind::Millpond, Kind::MillpondStrict, Kind::R2d2, Kind::Bb8, Kind::Deadpool, Kind::Plain];
const CONNECTIONS: u32 = 8;
const TIMEOUT: Duration = Duration::from_millis(50);
const MILLI: Hold = Hold::Sleep(Duration::from_millis(1));

struct Scene {
    title: &'static str,
    threads: usize,
    hold: Hold,
    timeout: Option<Duration>,
}

const SCENES: [Scene; 7] = [
    Scene { title: "64 threads, not held", threads: 64, hold: Hold::None, timeout: None },
    Scene {
        title: "64 threads, held 1 µs (spinning)",
        threads: 64,
        hold: Hold::Spin(Duration::from_micros(1)),
        timeout: None,
    },
    Scene {
        title: "64 threads, held 100 µs (sleeping)",
        threads: 64,
        hold: Hold::Sleep(Duration::from_micros(100)),
        timeout: None,
    },
    Scene { title: "64 threads, held 1 ms (sleeping)", threads: 64, hold: MILLI, timeout: None },
    Scene { title: "200 threads, held 1 ms (sleeping)", threads: 200, hold: MILLI, timeout: None },
    Scene { title: "64 threads, held 1 ms, time-out 50 ms", threads: 64, hold: MILLI, timeout: Some(TIMEOUT) },
    Scene { title: "200 threads, held 1 ms, time-out 50 ms", threads: 200, hold: MILLI, timeout: Some(TIMEOUT) },
];
/// The places of some scenes and contestants in the lists above.
const NOT_HELD: usize = 0;
const HUNDRED: usize = 2;
const SIXTY_FOUR: usize = 3;
const CROWD: usize = 4;
const SIXTY_FOUR_TIMED: usize = 5;
const OWN: usize = 0;
const R2D2: usize = 2;

impl Scene {
    /// Nanoseconds that everybody would wait in a perfect queue with holds of this length: until those before it are over.
    fn ideal(&self, hold: f64) -> f64 {
        (self.threads as f64 / f64::from(CONNECTIONS) - 1.0) * hold
    }

    /// The hold that was asked for, in nanoseconds.
    fn asked(&self) -> f64 {
        match self.hold {
            Hold::None => 0.0,
            Hold::Spin(time) | Hold::Sleep(time) => time.as_nanos() as f64,
        }
    }

    /// Two readings of the clock are dear beside a checkout with no hold: then only some waits are timed.
    fn sample(&self) -> u64 {
        if self.hold == Hold::None { 32 } else { 1 }
    }
}

#[derive(Default)]
struct Series {
    rate: Rounds,
    p50: Rounds,
    p99: Rounds,
    p999: Rounds,
    worst: Rounds,
    most_over_least: Rounds,
    held: Rounds,
    cpu: Rounds,
    asked: Rounds,
    failed: Rounds,
}

impl Series {
    fn failed_percent(&self) -> f64 {
        100.0 * self.failed.sum() / self.asked.sum()
    }
}

type Measured = Vec<[Series; KINDS.len()]>;

pub fn run(plan: Plan, report: &mut Report) {
    let rounds = plan.rounds(5);
    let progress = Progress::new("holds", rounds);
    let mut measured: Measured = SCENES.iter().map(|_| Default::default()).collect();
    for round in 0..rounds {
        for (scene, series) in SCENES.iter().zip(&mut measured) {
            for turn in 0..KINDS.len() {
                let row = (turn + round) % KINDS.len();
                progress.at(round, &format!("{}, {}", KINDS[row].name(), scene.title));
                let pool = KINDS[row].full(Setting { size: CONNECTIONS, timeout: scene.timeout });
                one(plan, scene, pool.as_ref(), &mut series[row]);
            }
        }
    }
    drop(progress);
    tell(report, &measured);
    draw(report, &measured);
    record(report, &measured);
}

fn one(plan: Plan, scene: &Scene, pool: &dyn Contestant, series: &mut Series) {
    // Long enough for a starved thread to show, and for fifty turns of everybody with 1 ms held.
    let span = match scene.hold {
        Hold::None | Hold::Spin(_) => Duration::from_millis(400),
        Hold::Sleep(_) => Duration::from_millis(1_000),
    };
    let work = |(): &mut (), stop: &_| pool.serve(scene.hold, scene.sample(), stop);
    let mut ran = crew(scene.threads, plan.span(span), |_| (), work);

    let served: u64 = ran.results.iter().map(|one| one.checkouts).sum();
    let failed: u64 = ran.results.iter().map(|one| one.timeouts).sum();
    let most = ran.results.iter().map(|one| one.checkouts).max().unwrap_or(0);
    let least = ran.results.iter().map(|one| one.checkouts).min().unwrap_or(0);
    let mut waits: Vec<u64> = ran.results.iter_mut().flat_map(|one: &mut Served| one.waits.drain(..)).collect();

    series.rate.push(served as f64 / ran.elapsed.as_secs_f64());
    let held: u64 = ran.results.iter().map(|one| one.held).sum();
    series.held.push(held as f64 / waits.len() as f64);
    series.cpu.push(ran.cpu.as_nanos() as f64 / served.max(1) as f64);
    series.most_over_least.push(most as f64 / least as f64);
    series.p50.push(quantile(&mut waits, 0.5) as f64);
    series.p99.push(quantile(&mut waits, 0.99) as f64);
    series.p999.push(quantile(&mut waits, 0.999) as f64);
    series.worst.push(quantile(&mut waits, 1.0) as f64);
    series.asked.push((served + failed) as f64);
    series.failed.push(failed as f64);
}

fn tell(report: &mut Report, measured: &Measured) {
    report.heading("Waiting");
    report.text(
        "8 connections. Each thread checks out, holds, returns, and comes again. Medians of the rounds; *worst* is the \
         worst wait of all rounds, *most/least* the checkouts of the thread served most over those of the one served \
         least, *CPU* the process's CPU time per checkout. *Ideal* is a perfect queue: threads / connections - 1 holds, as long as they were in this run (a sleep of 1 ms takes a \
         little longer). \
         Of checkouts that are not held every 32nd wait is timed, of all others every one.",
    );
    for (scene, series) in SCENES.iter().zip(measured) {
        let timed = scene.timeout.is_some();
        let last = if timed { "failed" } else { "worst" };
        let mut table =
            Table::new([scene.title, "per s", "over r2d2", "p50", "p99", "p99.9", last, "most/least", "CPU"]);
        let reference = &series[R2D2];
        for (kind, own) in KINDS.iter().zip(series) {
            let over = own.rate.over(&reference.rate).median();
            table.row([
                kind.name().to_owned(),
                number(own.rate.median()),
                format!("{} ×", number(over)),
                time(own.p50.median()),
                time(own.p99.median()),
                time(own.p999.median()),
                if timed { format!("{} %", number(own.failed_percent())) } else { time(own.worst.most()) },
                number(own.most_over_least.median()),
                time(own.cpu.median()),
            ]);
        }
        if scene.hold != Hold::None {
            let ideal = time(scene.ideal(series[OWN].held.median()));
            let last = if timed { "0 %" } else { &ideal };
            table.row(["ideal", "", "", &ideal, &ideal, &ideal, last, "1.00", ""]);
        }
        report.table(&table);
    }
}

fn draw(report: &mut Report, measured: &Measured) {
    for (file, scene) in [("waits", SIXTY_FOUR), ("crowd", CROWD)] {
        let Scene { threads, .. } = SCENES[scene];
        let mut chart = Chart::new(
            &format!("Waiting for a connection: {threads} threads on {CONNECTIONS} connections, each held 1 ms"),
            "milliseconds (log)",
            Scale::Log,
            ["p99", "p99.9", "worst"],
        )
        .mark(SCENES[scene].ideal(measured[scene][OWN].held.median()) / 1e6, "ideal");
        for (kind, own) in KINDS.iter().zip(&measured[scene]) {
            let waits = [own.p99.median(), own.p999.median(), own.worst.most()];
            chart.series(*kind, waits.map(|nanos| nanos / 1e6));
        }
        report.chart(file, &chart);
    }
}

fn record(report: &mut Report, measured: &Measured) {
    let own = |scene: usize| &measured[scene][OWN];
    let r2d2 = |scene: usize| &measured[scene][R2D2];
    let over = |scene: usize| own(scene).rate.over(&r2d2(scene).rate).median();
    let ideal = |scene: usize| SCENES[scene].ideal(own(scene).held.median());
    let asked = |scene: usize| SCENES[scene].ideal(SCENES[scene].asked());
    let found = &mut report.found;
    found.record(Figure::MilliTail, own(SIXTY_FOUR).p99.median() / ideal(SIXTY_FOUR));
    found.record(Figure::MilliTailAsked, own(SIXTY_FOUR).p99.median() / asked(SIXTY_FOUR));
    found.record(Figure::MilliWorst, own(SIXTY_FOUR).worst.most() / asked(SIXTY_FOUR));
    found.record(Figure::MilliServed, own(SIXTY_FOUR).most_over_least.median());
    found.record(Figure::MilliTimeouts, own(SIXTY_FOUR_TIMED).failed_percent());
    found.record(Figure::MilliThroughput, over(SIXTY_FOUR));
    found.record(Figure::HundredThroughput, over(HUNDRED));
    found.record(Figure::HundredTail, own(HUNDRED).p99.over(&r2d2(HUNDRED).p99).median());
    found.record(Figure::NoHoldThroughput, over(NOT_HELD));
    found.record(Figure::CrowdWorst, own(CROWD).worst.most() / asked(CROWD));
}
