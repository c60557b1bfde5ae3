//! Does a checkout cost more in a larger pool, and when only one connection of many is left?

use std::sync::mpsc;
use std::thread;

use crate::chart::{Chart, Scale};
use crate::contestants::{Contestant, Kind, Setting};
use crate::figures::Figure;
use crate::measure::{Rounds, thread_cpu};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, number};

const KINDS: [Kind; 8] = [
    Kind::Millpond,
    Kind::MillpondWith,
    Kind::R2d2,
    Kind::Bb8,
    Kind::Deadpool,
    Kind::Opool,
    Kind::Lockfree,
    Kind::Plain,
];
const SIZES: [u32; 5] = [1, 8, 64, 256, 1024];

/// Nanoseconds of CPU time per checkout, by size.
type Costs = Vec<[Rounds; SIZES.len()]>;

pub fn run(plan: Plan, report: &mut Report) {
    let rounds = plan.rounds(30);
    let progress = Progress::new("sizes", rounds);
    let pools = KINDS.map(|kind| SIZES.map(|size| kind.full(Setting::of_size(size))));
    let mut idle: Costs = KINDS.iter().map(|_| Default::default()).collect();
    let mut busy: Costs = KINDS.iter().map(|_| Default::default()).collect();

    for round in 0..rounds {
        for (column, size) in SIZES.into_iter().enumerate() {
            for turn in 0..KINDS.len() {
                let row = (turn + round) % KINDS.len();
                progress.at(round, &format!("{} of size {size}", KINDS[row].name()));
                let pool = pools[row][column].as_ref();
                idle[row][column].push(cost(plan, pool));
                busy[row][column].push(with_one_left(pool, size, || cost(plan, pool)));
            }
        }
    }
    drop(progress);

    report.heading("Pool size");
    report.text("CPU time of a checkout and a return on one thread, in nanoseconds (median of all rounds).");
    tell(report, "all idle", &idle);
    tell(report, "all but one borrowed", &busy);

    let mut chart = Chart::new(
        "Checkout and return, by pool size, all but one connection borrowed",
        "nanoseconds of CPU time on one thread (log)",
        Scale::Log,
        SIZES.map(|size| size.to_string()),
    );
    for (kind, costs) in KINDS.iter().zip(&busy) {
        chart.series(*kind, costs.iter().map(Rounds::median));
    }
    report.chart("sizes", &chart);

    // Both ways of checking out must be flat.
    let worst = |costs: &Costs| spread(&costs[0]).max(spread(&costs[1]));
    report.found.record(Figure::FlatIdle, worst(&idle));
    report.found.record(Figure::FlatBusy, worst(&busy));
}

fn cost(plan: Plan, pool: &dyn Contestant) -> f64 {
    let times = plan.times(20_000);
    pool.burst(times / 20);
    let begin = thread_cpu();
    pool.burst(times);
    (thread_cpu() - begin).as_nanos() as f64 / times as f64
}

/// Another thread borrows the rest: what a thread remembers of its own last checkout must not help to find the one left.
fn with_one_left<R>(pool: &dyn Contestant, size: u32, measure: impl FnOnce() -> R) -> R {
    let (lent, all_lent) = mpsc::channel();
    let (enough, until_enough) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            pool.lend(size as usize - 1, &mut || {
                lent.send(()).expect("the measuring thread waits for this");
                // Ends with an error when the other end is dropped, which is the sign.
                let _ = until_enough.recv();
            });
        });
        all_lent.recv().expect("the borrower sends before it waits");
        let measured = measure();
        drop(enough);
        measured
    })
}

/// The dearest size over the cheapest.
fn spread(costs: &[Rounds; SIZES.len()]) -> f64 {
    let most = costs.iter().map(Rounds::median).fold(f64::NAN, f64::max);
    let least = costs.iter().map(Rounds::median).fold(f64::NAN, f64::min);
    most / least
}

fn tell(report: &mut Report, state: &str, costs: &Costs) {
    let sizes = SIZES.map(|size| size.to_string());
    let mut table = Table::new([state.to_owned()].into_iter().chain(sizes).chain(["dearest/cheapest".to_owned()]));
    for (kind, costs) in KINDS.iter().zip(costs) {
        let medians = costs.iter().map(|one| number(one.median()));
        table.row([kind.name().to_owned()].into_iter().chain(medians).chain([format!("{} ×", number(spread(costs)))]));
    }
    report.table(&table);
}
