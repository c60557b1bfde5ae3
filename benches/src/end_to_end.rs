//! Real requests through a pool against the same requests on one raw connection per thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::chart::{Chart, Scale};
use crate::contestants::Kind;
use crate::measure::{Rounds, crew, undisturbed};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, number};

/// Makes one request; it is given a number to choose what to ask for.
type Request<'a> = Box<dyn FnMut(u64) + 'a>;

/// A way of making requests: called on each thread, it returns what makes them there.
pub struct Way<'a> {
    /// None is the raw connection.
    kind: Option<Kind>,
    on_thread: Box<dyn Fn() -> Request<'a> + Sync + 'a>,
}

impl<'a> Way<'a> {
    pub fn raw(on_thread: impl Fn() -> Request<'a> + Sync + 'a) -> Self {
        Self {
            kind: None,
            on_thread: Box::new(on_thread),
        }
    }

    pub fn through(kind: Kind, on_thread: impl Fn() -> Request<'a> + Sync + 'a) -> Self {
        Self {
            kind: Some(kind),
            on_thread: Box::new(on_thread),
        }
    }

    fn name(&self) -> &'static str {
        self.kind.map_or("raw connection", Kind::name)
    }
}

/// Raw connections, kept between rounds so that they are as warm as those of the pools.
#[derive(Debug, Default)]
pub struct Kept<C>(Arc<Mutex<Vec<C>>>);

/// One of them, for as long as a thread works.
#[derive(Debug)]
pub struct Own<C> {
    pub conn: Option<C>,
    home: Arc<Mutex<Vec<C>>>,
}

impl<C> Kept<C> {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    pub fn take(&self, connect: impl FnOnce() -> C) -> Own<C> {
        let kept = self.0.lock().expect("nothing panics under this lock").pop();
        Own {
            conn: Some(kept.unwrap_or_else(connect)),
            home: Arc::clone(&self.0),
        }
    }
}

impl<C> Drop for Own<C> {
    fn drop(&mut self) {
        self.home
            .lock()
            .expect("nothing panics under this lock")
            .extend(self.conn.take());
    }
}

pub const THREADS: [usize; 2] = [1, 8];
pub const CONNECTIONS: u32 = 8;

/// What one way did on one number of threads.
#[derive(Default)]
struct Series {
    rate: Rounds,
    cpu: Rounds,
}

/// Throughput of millpond over raw, for each of `THREADS`. The first way is the raw one, the second is millpond.
pub fn compare(
    plan: Plan,
    report: &mut Report,
    section: &'static str,
    what: &str,
    rounds: usize,
    ways: &[Way<'_>],
) -> [f64; THREADS.len()] {
    let rounds = plan.rounds(rounds);
    let progress = Progress::new(section, rounds);
    let mut measured: Vec<[Series; THREADS.len()]> =
        ways.iter().map(|_| Default::default()).collect();
    for round in 0..rounds {
        for (column, threads) in THREADS.into_iter().enumerate() {
            for turn in 0..ways.len() {
                let row = (turn + round) % ways.len();
                progress.at(round, &format!("{} on {threads} threads", ways[row].name()));
                one(plan, &ways[row], threads, &mut measured[row][column]);
            }
        }
    }
    drop(progress);

    let mut chart = Chart::new(
        &format!(
            "{what} through a pool of {CONNECTIONS}, as a part of one raw connection per thread"
        ),
        "throughput over raw",
        Scale::Linear,
        THREADS.map(|threads| format!("{threads} thread{}", if threads == 1 { "" } else { "s" })),
    )
    .mark(1.0, "raw connection");
    let mut table = Table::new([
        what, "threads", "per s", "over raw", "least", "most", "CPU ns", "over raw",
    ]);
    let over =
        |row: usize, column: usize| measured[row][column].rate.over(&measured[0][column].rate);
    for (row, way) in ways.iter().enumerate() {
        for (column, threads) in THREADS.into_iter().enumerate() {
            let Series { rate, cpu } = &measured[row][column];
            let ratio = over(row, column);
            table.row([
                way.name().to_owned(),
                threads.to_string(),
                number(rate.median()),
                format!("{:.3}", ratio.median()),
                format!("{:.3}", ratio.least()),
                format!("{:.3}", ratio.most()),
                number(cpu.median()),
                format!("{:.3}", cpu.over(&measured[0][column].cpu).median()),
            ]);
        }
        if let Some(kind) = way.kind {
            chart.series(
                kind,
                (0..THREADS.len()).map(|column| over(row, column).median()),
            );
        }
    }
    report.table(&table);
    report.chart(section, &chart);
    [over(1, 0).median(), over(1, 1).median()]
}

fn one(plan: Plan, way: &Way<'_>, threads: usize, series: &mut Series) {
    let prepare = |number: usize| {
        let mut request = (way.on_thread)();
        let mut choice = number as u64 * 7_919 + 1;
        for _ in 0..20 {
            request(next(&mut choice));
        }
        (request, choice)
    };
    let work = |(request, choice): &mut (Request<'_>, u64), stop: &AtomicBool| {
        let mut made = 0u64;
        loop {
            request(next(choice));
            if stop.load(Ordering::Relaxed) {
                return made;
            }
            made += 1;
        }
    };
    let span = plan.span(Duration::from_millis(25));
    let ran = undisturbed(|| crew(threads, span, prepare, work));
    let made = ran.results.iter().sum::<u64>().max(1) as f64;
    series.rate.push(made / ran.elapsed.as_secs_f64());
    series.cpu.push(ran.crew_cpu.as_nanos() as f64 / made);
}

/// A step of xorshift: cheap beside any request, the same for every way.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
