//! A checkout and a return with nothing between, on 1 to 64 threads, and a connection for everybody.

use std::time::Duration;

use crate::chart::{Chart, Scale};
use crate::contestants::{Contestant, Kind, Setting};
use crate::figures::Figure;
use crate::measure::{Rounds, crew, undisturbed};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, number};

const KINDS: [Kind; 9] = [
    Kind::Millpond,
    Kind::MillpondWith,
    Kind::R2d2,
    Kind::R2d2Unchecked,
    Kind::Bb8,
    Kind::Deadpool,
    Kind::Opool,
    Kind::Lockfree,
    Kind::Plain,
];
const THREADS: [usize; 5] = [1, 2, 4, 16, 64];

/// One contestant on one number of threads.
#[derive(Default)]
struct Series {
    /// Checkouts per second, all threads together.
    rate: Rounds,
    /// Nanoseconds of CPU time per checkout.
    cost: Rounds,
    /// Rounds in which other processes had a core that these threads needed, however often they were tried.
    disturbed: usize,
}

type Measured = Vec<[Series; THREADS.len()]>;

pub fn run(plan: Plan, report: &mut Report) {
    let rounds = plan.rounds(30);
    let progress = Progress::new("checkout", rounds);
    let pools = KINDS.map(|kind| THREADS.map(|threads| kind.full(Setting::of_size(threads.max(8) as u32))));
    let mut measured: Measured = KINDS.iter().map(|_| Default::default()).collect();

    for round in 0..rounds {
        for (column, threads) in THREADS.into_iter().enumerate() {
            // Ratios of crowds are steady, and crowds take long: a third of the rounds is enough for them.
            if threads > 2 && round % 3 != 0 {
                continue;
            }
            // Every round begins with another contestant, so that nobody always runs after the same neighbour.
            for turn in 0..KINDS.len() {
                let row = (turn + round) % KINDS.len();
                progress.at(round, &format!("{} on {threads} threads", KINDS[row].name()));
                one(plan, pools[row][column].as_ref(), threads, &mut measured[row][column]);
            }
        }
    }
    drop(progress);
    tell(report, &measured);
    record(report, &measured);
}

fn one(plan: Plan, pool: &dyn Contestant, threads: usize, series: &mut Series) {
    // More threads than cores need some turns of the scheduler to be compared at all.
    let span = Duration::from_millis(if threads > 2 { 30 } else { 12 });
    let ran = undisturbed(|| crew(threads, plan.span(span), |_| pool.burst(200), |(), stop| pool.until(stop)));
    series.disturbed += usize::from(ran.is_disturbed());
    let checkouts = ran.results.iter().sum::<u64>().max(1) as f64;
    series.rate.push(checkouts / ran.elapsed.as_secs_f64());
    series.cost.push(ran.crew_cpu.as_nanos() as f64 / checkouts);
}

fn row_of(kind: Kind) -> usize {
    KINDS.iter().position(|other| *other == kind).expect("asked only for contestants of this section")
}

fn tell(report: &mut Report, measured: &Measured) {
    let reference = &measured[row_of(Kind::R2d2)];
    report.heading("Checkout");
    report.text(
        "A checkout and a return, nothing between. As many connections as threads, at least 8. \
         CPU time per checkout on one thread (least, median and most of all rounds), and throughput against r2d2, \
         round by round.",
    );
    let mut table = Table::new(["one thread", "least ns", "median ns", "most ns", "r2d2 over it"]);
    for (kind, series) in KINDS.iter().zip(measured) {
        let cost = &series[0].cost;
        let ratio = reference[0].cost.over(cost).median();
        table.row([
            kind.name().to_owned(),
            number(cost.least()),
            number(cost.median()),
            number(cost.most()),
            format!("{} ×", number(ratio)),
        ]);
    }
    report.table(&table);

    let columns = THREADS.map(|threads| format!("{threads} thr"));
    let mut rates = Table::new(["million/s".to_owned()].into_iter().chain(columns.clone()));
    let mut ratios = Table::new(["over r2d2".to_owned()].into_iter().chain(columns));
    let mut chart = Chart::new(
        "Checkout and return, by threads",
        "millions per second, all threads together (log)",
        Scale::Log,
        THREADS.map(|threads| if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }),
    );
    for (kind, series) in KINDS.iter().zip(measured) {
        let millions = || series.iter().map(|one| one.rate.median() / 1e6);
        let over = series.iter().zip(reference).map(|(own, its)| own.rate.over(&its.rate).median());
        rates.row([kind.name().to_owned()].into_iter().chain(millions().map(number)));
        ratios.row([kind.name().to_owned()].into_iter().chain(over.map(|ratio| format!("{} ×", number(ratio)))));
        chart.series(*kind, millions());
    }
    report.table(&rates);
    report.table(&ratios);
    report.chart("checkout", &chart);

    report.text(
        "Two threads against one of the same pool: 2.0 when they do not disturb each other. By the wall clock, and by CPU \
         time. A round in which another process had one of the cores is run again, up to three times; *disturbed* are \
         those in which it had one each time.",
    );
    let mut scaling = Table::new(["two over one", "least", "median", "most", "by CPU time", "disturbed"]);
    for (kind, [one, two, ..]) in KINDS.iter().zip(measured) {
        let by_clock = two.rate.over(&one.rate);
        let by_cpu = one.cost.over(&two.cost).median() * 2.0;
        let cells = [by_clock.least(), by_clock.median(), by_clock.most(), by_cpu].map(number);
        let disturbed = (one.disturbed + two.disturbed).to_string();
        scaling.row([kind.name().to_owned()].into_iter().chain(cells).chain([disturbed]));
    }
    report.table(&scaling);
}

fn record(report: &mut Report, measured: &Measured) {
    let reference = &measured[row_of(Kind::R2d2)];
    let found = &mut report.found;
    for (kind, on_one, on_two, own) in [
        (Kind::Millpond, Figure::GetOneThread, Figure::GetTwoThreads, Figure::GetScaling),
        (Kind::MillpondWith, Figure::WithOneThread, Figure::WithTwoThreads, Figure::WithScaling),
    ] {
        let [one, two, ..] = &measured[row_of(kind)];
        found.record(on_one, reference[0].cost.over(&one.cost).median());
        found.record(on_two, two.rate.over(&reference[1].rate).median());
        found.record(own, two.rate.over(&one.rate).median());
    }
}
