//! What it costs to be watched: a checkout under each kind of observer, and each way of looking at a pool.

use metrics::{gauge, histogram};
use metrics_util::debugging::DebuggingRecorder;
use millpond::event::{CheckedIn, CheckedOut};
use millpond::metrics::Metrics;
use millpond::{EventHandler, Pool, Status};

use crate::measure::{Rounds, thread_cpu};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, number};

type Open = fn() -> Result<u64, std::io::Error>;
type Opens = millpond::FnManager<Open, u64, std::io::Error>;
type Plain = Pool<Opens>;

/// A handler that listens to everything and does nothing.
struct Listens;
impl EventHandler for Listens {}

/// A handler that records each checkout when it happens, as is usual elsewhere.
struct EachEvent;

impl EventHandler for EachEvent {
    fn checked_out(&self, pool: &str, event: &CheckedOut<'_>) {
        gauge!("each.used", "pool" => pool.to_owned()).increment(1);
        histogram!("each.wait_time", "pool" => pool.to_owned()).record(event.waited.as_secs_f64());
    }
    fn checked_in(&self, pool: &str, event: &CheckedIn<'_>) {
        gauge!("each.used", "pool" => pool.to_owned()).decrement(1);
        histogram!("each.use_time", "pool" => pool.to_owned()).record(event.held.as_secs_f64());
    }
}

fn pools() -> [(&'static str, Plain); 5] {
    let builder = || Pool::builder((|| Ok(7)) as Open).max_size(8);
    let built = |builder: millpond::Builder<Opens>| {
        let pool = builder.build().expect("nothing can fail");
        drop(pool.get_many(8).expect("there is room"));
        pool
    };
    [
        ("nobody", built(builder())),
        ("use times", built(builder().use_times(true))),
        ("an event handler that does nothing", built(builder().event_handler(Listens))),
        ("`metrics::Metrics`, a recorder installed", built(builder().event_handler(Metrics::new()))),
        ("a handler that records each event", built(builder().event_handler(EachEvent))),
    ]
}

pub fn run(plan: Plan, report: &mut Report) {
    // Fails where another section has installed one, which then serves as well.
    drop(DebuggingRecorder::new().install());
    let rounds = plan.rounds(30);
    let progress = Progress::new("watching", rounds);
    let pools = pools();
    let mut costs = pools.each_ref().map(|_| Rounds::default());
    let times = plan.times(20_000);
    for round in 0..rounds {
        for turn in 0..pools.len() {
            let row = (turn + round) % pools.len();
            let (name, pool) = &pools[row];
            progress.at(round, name);
            // What is recorded one by one is kept by this recorder: few times, so that it does not become a test of memory.
            let times = if row == 4 { times.min(2_000) } else { times };
            costs[row].push(nanos(times, || drop(pool.get().expect("it is idle"))));
        }
    }

    report.heading("Being watched");
    report.text(
        "CPU time of a checkout and a return on one thread, by who watches. `Metrics` publishes what the pool has counted every \
         5 s, so a checkout pays nothing for it; the last row is a handler that records each event through \
         the same facade when it happens.",
    );
    let mut table = Table::new(["watched by", "ns", "over nobody"]);
    for ((name, _), cost) in pools.iter().zip(&costs) {
        table.row([(*name).to_owned(), number(cost.median()), number(cost.over(&costs[0]).median())]);
    }
    report.table(&table);
    looks(plan, report, &progress);
}

type Look = Box<dyn Fn(&Plain)>;

/// Each way of looking at a pool, in microseconds.
fn looks(plan: Plan, report: &mut Report, progress: &Progress) {
    let of_size = |size: u32| {
        let pool = Pool::builder((|| Ok(7)) as Open).max_size(size).event_handler(Listens).build().expect("it opens");
        let held = pool.get_many(size as usize / 2).expect("there is room");
        for _ in 0..1000 {
            drop(pool.get().expect("there is room"));
        }
        (pool, held)
    };
    let sizes = [8, 1024];
    let pools = sizes.map(of_size);
    let published = Metrics::new();
    let ways: [(&str, Look); 6] = [
        ("`health()`", Box::new(|pool| drop(pool.health()))),
        ("`stats()`", Box::new(|pool| drop(pool.stats()))),
        ("`status()`: with holders and incidents", Box::new(|pool| drop(pool.status()))),
        ("`Status::to_json()`", Box::new(|pool| drop(Status::of([pool]).to_json()))),
        ("`table()`", Box::new(|pool| drop(pool.table()))),
        ("a sample published by `Metrics`", Box::new(move |pool| published.sampled(pool.name(), &pool.stats()))),
    ];
    let mut table = Table::new(["a look", "µs, 8 connections", "µs, 1024 connections"]);
    for (name, look) in &ways {
        progress.at(0, name);
        let micros = pools.each_ref().map(|(pool, _)| {
            let mut rounds = Rounds::default();
            for _ in 0..plan.rounds(15) {
                rounds.push(nanos(plan.times(500), || look(pool)) / 1e3);
            }
            number(rounds.median())
        });
        let [small, large] = micros;
        table.row([(*name).to_owned(), small, large]);
    }
    report.text("CPU time of one look at a pool of which half is borrowed. None of them takes a lock for longer than it takes to copy some numbers, and none waits.");
    report.table(&table);
}

fn nanos(times: u64, job: impl Fn()) -> f64 {
    (0..times / 20).for_each(|_| job());
    let begin = thread_cpu();
    (0..times).for_each(|_| job());
    (thread_cpu() - begin).as_nanos() as f64 / times as f64
}
