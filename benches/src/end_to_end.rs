//! Real requests through a pool against the same requests on one raw connection per thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::chart::{Chart, Scale};
use crate::contestants::Kind;
use crate::measure::{Rounds, crew, thread_cpu};
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
        Self { kind: None, on_thread: Box::new(on_thread) }
    }

    pub fn through(kind: Kind, on_thread: impl Fn() -> Request<'a> + Sync + 'a) -> Self {
        Self { kind: Some(kind), on_thread: Box::new(on_thread) }
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
        Own { conn: Some(kept.unwrap_or_else(connect)), home: Arc::clone(&self.0) }
    }
}

impl<C> Drop for Own<C> {
    fn drop(&mut self) {
        self.home.lock().expect("nothing panics under this lock").extend(self.conn.take());
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
    let mut measured: Vec<[Series; THREADS.len()]> = ways.iter().map(|_| Default::default()).collect();
    let mut alone: Vec<_> = ways.iter().map(|way| Requests::begin(way, 0)).collect();
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let row = (turn + round) % ways.len();
            progress.at(round, ways[row].name());
            let [on_one, on_eight] = &mut measured[row];
            by_one(plan, &mut alone[row], on_one);
            by_crew(plan, &ways[row], THREADS[1], on_eight);
        }
    }
    drop(alone);
    drop(progress);

    let mut chart = Chart::new(
        &format!("{what} through a pool of {CONNECTIONS}, as a part of one raw connection per thread"),
        "throughput over raw",
        Scale::Linear,
        THREADS.map(|threads| format!("{threads} thread{}", if threads == 1 { "" } else { "s" })),
    )
    .mark(1.0, "raw connection");
    let mut table = Table::new([what, "threads", "per s", "over raw", "least", "most", "CPU ns", "over raw"]);
    let over = |row: usize, column: usize| measured[row][column].rate.over(&measured[0][column].rate);
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
            chart.series(kind, (0..THREADS.len()).map(|column| over(row, column).median()));
        }
    }
    report.table(&table);
    report.chart(section, &chart);
    [over(1, 0).median(), over(1, 1).median()]
}

const SPAN: Duration = Duration::from_millis(20);

/// One thread's requests, one after another.
struct Requests<'a> {
    request: Request<'a>,
    choice: u64,
}

impl<'a> Requests<'a> {
    fn begin(way: &Way<'a>, number: usize) -> Self {
        let mut requests = Self { request: (way.on_thread)(), choice: number as u64 * 7_919 + 1 };
        requests.warm_up();
        requests
    }

    fn warm_up(&mut self) {
        (0..20).for_each(|_| self.make());
    }

    fn make(&mut self) {
        (self.request)(next(&mut self.choice));
    }
}

/// All ways in turn on the same thread: which core it has, and whether the server is on the same one, changes a round trip
/// several times over, and a new thread for each way would have it anew.
fn by_one(plan: Plan, requests: &mut Requests<'_>, series: &mut Series) {
    requests.warm_up();
    let span = plan.span(SPAN);
    let (begin, cpu) = (Instant::now(), thread_cpu());
    let mut made = 0u32;
    while begin.elapsed() < span {
        // Few enough to end in time with the slowest requests, so many that the clock does not count with the fastest.
        (0..16).for_each(|_| requests.make());
        made += 16;
    }
    series.rate.push(f64::from(made) / begin.elapsed().as_secs_f64());
    series.cpu.push((thread_cpu() - cpu).as_nanos() as f64 / f64::from(made));
}

fn by_crew(plan: Plan, way: &Way<'_>, threads: usize, series: &mut Series) {
    let work = |requests: &mut Requests<'_>, stop: &AtomicBool| {
        let mut made = 0u64;
        loop {
            requests.make();
            if stop.load(Ordering::Relaxed) {
                return made;
            }
            made += 1;
        }
    };
    let ran = crew(threads, plan.span(SPAN), |number| Requests::begin(way, number), work);
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
