//! How exactly deadlines are kept: a connect and a check that hang, crowds that give up together, a crowd that is
//! served.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::drill::pair::{KINDS, Kind};
use crate::figures::Figure;
use crate::measure::{Rounds, crowd, quantile, timed};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, time};

/// What a server that hangs costs its callers at most, so that the slowest contestant ends within seconds.
const HANG: Duration = Duration::from_secs(1);
pub(crate) const SHORT: Duration = Duration::from_millis(100);
pub(crate) const CALLERS: usize = 64;
pub(crate) const SIZE: u32 = 8;

#[derive(Debug, Default)]
struct Server {
    connect_hangs: AtomicBool,
    check_hangs: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Client(Arc<Server>);

fn hang_if(hangs: &AtomicBool) {
    if hangs.load(Ordering::SeqCst) {
        thread::sleep(HANG);
    }
}

impl r2d2::ManageConnection for Client {
    type Connection = ();
    type Error = Infallible;

    fn connect(&self) -> Result<(), Infallible> {
        hang_if(&self.0.connect_hangs);
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), Infallible> {
        hang_if(&self.0.check_hangs);
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

/// Nanoseconds in one scene, one value per round.
#[derive(Default)]
struct Series {
    p50: Rounds,
    p99: Rounds,
    worst: Rounds,
}

impl Series {
    fn push(&mut self, mut nanos: Vec<u64>) {
        self.p50.push(quantile(&mut nanos, 0.5) as f64);
        self.p99.push(quantile(&mut nanos, 0.99) as f64);
        self.worst.push(quantile(&mut nanos, 1.0) as f64);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    HangingConnect,
    Neighbour,
    HangingCheck,
    Thousand,
    TenThousand,
    HandOver,
    Refusal,
}

const SCENES: [(Scene, &str); 7] = [
    (Scene::HangingConnect, "a connect that hangs, 64 callers with 100 ms"),
    (Scene::Neighbour, "a checkout of another pool meanwhile"),
    (Scene::HangingCheck, "a check that hangs, 64 callers with 100 ms"),
    (Scene::Thousand, "1 000 give up after 2 s: late by"),
    (Scene::TenThousand, "10 000 give up after 2 s: late by"),
    (Scene::HandOver, "1 000 wait for 8: served within"),
    (Scene::Refusal, "one too many is refused within"),
];

type Measured = [[Series; SCENES.len()]; KINDS.len()];

pub fn run(plan: Plan, report: &mut Report) {
    let rounds = plan.rounds(3);
    let progress = Progress::new("deadlines", rounds);
    let mut measured: Measured = Default::default();
    for round in 0..rounds {
        for turn in 0..KINDS.len() {
            let row = (turn + round) % KINDS.len();
            for (column, (scene, title)) in SCENES.iter().enumerate() {
                progress.at(round, &format!("{}, {title}", KINDS[row].name()));
                measured[row][column].push(one(plan, KINDS[row], *scene));
            }
        }
    }
    drop(progress);
    tell(report, &measured);
}

fn one(plan: Plan, kind: Kind, scene: Scene) -> Vec<u64> {
    let client = Client::default();
    let server = Arc::clone(&client.0);
    match scene {
        Scene::HangingConnect => {
            server.connect_hangs.store(true, Ordering::SeqCst);
            let pool = kind.pool(client, SIZE);
            crowd(CALLERS, || {}, || timed(|| drop(pool.get(SHORT))))
        }
        Scene::Neighbour => {
            server.connect_hangs.store(true, Ordering::SeqCst);
            let (pool, other) = (kind.pool(client, SIZE), kind.pool(Client::default(), SIZE));
            thread::scope(|scope| {
                scope.spawn(|| crowd(CALLERS, || {}, || timed(|| drop(pool.get(SHORT)))));
                thread::sleep(SHORT / 4);
                (0..20).map(|_| timed(|| drop(other.get(SHORT).expect("its server answers")))).collect()
            })
        }
        Scene::HangingCheck => {
            let pool = kind.pool(client, SIZE);
            drop(pool.all(SIZE));
            // Idle for long enough to be checked.
            thread::sleep(plan.span(Duration::from_millis(600)));
            server.check_hangs.store(true, Ordering::SeqCst);
            crowd(CALLERS, || {}, || timed(|| drop(pool.get(SHORT))))
        }
        Scene::Thousand => give_up(plan, kind, 1_000),
        Scene::TenThousand => give_up(plan, kind, 10_000),
        Scene::HandOver => hand_over(plan, kind),
        Scene::Refusal => refuse(kind),
    }
}

fn give_up(plan: Plan, kind: Kind, threads: usize) -> Vec<u64> {
    let pool = kind.pool(Client::default(), SIZE);
    let held = pool.all(SIZE);
    let timeout = plan.span(Duration::from_secs(2));
    let threads = plan.times(threads as u64) as usize / if plan.quick { 10 } else { 1 };
    let took = crowd(threads, || {}, || timed(|| assert!(pool.get(timeout).is_none(), "everything is borrowed")));
    drop(held);
    took.into_iter().map(|nanos| nanos.saturating_sub(timeout.as_nanos() as u64)).collect()
}

/// From the release of all connections until each of the crowd had its own.
fn hand_over(plan: Plan, kind: Kind) -> Vec<u64> {
    let pool = kind.pool(Client::default(), SIZE);
    let held = pool.all(SIZE);
    let mut released = None;
    let release = || {
        // Until all of them sleep, which r2d2 does not tell.
        thread::sleep(Duration::from_millis(500));
        released = Some(Instant::now());
        drop(held);
    };
    let served = crowd(plan.times(1_000) as usize, release, || {
        let conn = pool.get(Duration::from_secs(30)).expect("everybody is served");
        let served = Instant::now();
        drop(conn);
        served
    });
    let released = released.expect("it has run");
    served.into_iter().map(|at| at.duration_since(released).as_nanos() as u64).collect()
}

/// Only millpond refuses.
fn refuse(kind: Kind) -> Vec<u64> {
    if kind == Kind::R2d2 {
        return Vec::new();
    }
    let builder = millpond::Pool::builder(Client::default()).max_size(1).max_waiting(Some(0));
    let pool = builder.build().expect("the server answers");
    let held = pool.get().expect("it is idle");
    let refused = (0..100).map(|_| timed(|| drop(pool.get()))).collect();
    drop(held);
    refused
}

fn tell(report: &mut Report, measured: &Measured) {
    report.heading("Deadlines");
    report.text(
        "8 connections. *Hangs* is a call that takes 1 s. Medians of the rounds, and the worst of all rounds. *Late* is the \
         time after the deadline; crowds come as fast as threads can be started, so their deadlines are as dense.",
    );
    for (column, (scene, title)) in SCENES.iter().enumerate() {
        let mut table = Table::new([*title, "p50", "p99", "worst"]);
        for (kind, series) in KINDS.iter().zip(measured) {
            if *scene == Scene::Refusal && *kind == Kind::R2d2 {
                continue;
            }
            let own = &series[column];
            table.row([kind.name().to_owned(), time(own.p50.median()), time(own.p99.median()), time(own.worst.most())]);
        }
        report.table(&table);
    }
    let own = |scene: Scene| {
        let column = SCENES.iter().position(|(other, _)| *other == scene).expect("all scenes are listed");
        &measured[0][column]
    };
    let millis = |nanos: f64| nanos / 1e6;
    let found = &mut report.found;
    found.record(Figure::HangingConnect, millis(own(Scene::HangingConnect).p50.median()));
    found.record(Figure::HangingConnectWorst, millis(own(Scene::HangingConnect).worst.median()));
    found.record(Figure::HangingCheck, millis(own(Scene::HangingCheck).p50.median()));
    found.record(Figure::HangingCheckWorst, millis(own(Scene::HangingCheck).worst.median()));
    found.record(Figure::ThousandLate, millis(own(Scene::Thousand).p99.median()));
    found.record(Figure::TenThousandLate, millis(own(Scene::TenThousand).p99.median()));
    found.record(Figure::HandOver, millis(own(Scene::HandOver).worst.median()));
}
