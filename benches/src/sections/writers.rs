//! Threads that write and read one SQLite file: how much gets done, and how long a writer waits.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::Fairness;
use millpond::sqlite::{SqliteManager, SqlitePool};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, TransactionBehavior};

use crate::chart::{Chart, Scale};
use crate::contestants::Kind;
use crate::figures::Figure;
use crate::measure::{Rounds, crew, quantile};
use crate::plan::Plan;
use crate::report::{Progress, Report};
use crate::table::{Table, number, time};

const ROWS: u64 = 1_000;
/// How many rows a write changes.
const CHANGES: usize = 20;

/// How many threads, and what each does between two things. A thread of a server talks to its client meanwhile.
const SCENES: [(usize, Option<Duration>); 4] =
    [(8, Some(Duration::from_millis(1))), (32, Some(Duration::from_millis(1))), (8, None), (32, None)];
const SPAN: Duration = Duration::from_secs(2);

/// A way of doing it. Each of them has a file of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Millpond,
    Strict,
    R2d2,
    Raw,
    /// As most programs are written at first: the transaction begins by reading.
    Deferred,
}

const WAYS: [Way; 5] = [Way::Millpond, Way::Strict, Way::R2d2, Way::Raw, Way::Deferred];
const OWN: usize = 0;
const R2D2: usize = 2;

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Millpond => "SqlitePool",
            Self::Strict => "SqlitePool strict",
            Self::R2d2 => "r2d2_sqlite",
            Self::Raw => "connection per thread",
            Self::Deferred => "r2d2_sqlite deferred",
        }
    }

    fn colour(self) -> usize {
        let kind = match self {
            Self::Millpond => Kind::Millpond,
            Self::Strict => Kind::MillpondStrict,
            Self::R2d2 => Kind::R2d2,
            Self::Raw => Kind::Plain,
            Self::Deferred => Kind::R2d2Unchecked,
        };
        kind as usize
    }
}

/// What a thread works on.
enum Place<'a> {
    Millpond(&'a SqlitePool),
    R2d2(&'a r2d2::Pool<SqliteConnectionManager>, TransactionBehavior),
    Raw(Box<Connection>),
}

fn change(conn: &Connection, id: i64) -> rusqlite::Result<()> {
    let price: i64 = price(conn, id)?;
    let mut update = conn.prepare_cached("UPDATE item SET price = ?2 WHERE id = ?1")?;
    for id in (id..).step_by(31).take(CHANGES) {
        update.execute([id % ROWS as i64, price + 1])?;
    }
    Ok(())
}

fn price(conn: &Connection, id: i64) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT price FROM item WHERE id = ?1")?.query_row([id], |row| row.get(0))
}

fn change_in(conn: &mut Connection, behaviour: TransactionBehavior, id: i64) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(behaviour)?;
    change(&transaction, id)?;
    transaction.commit()
}

impl Place<'_> {
    /// False where SQLite said that somebody else was in the way.
    fn write(&mut self, id: i64) -> bool {
        match self {
            Self::Millpond(pool) => pool.write_transaction(|conn| change(conn, id)).is_ok(),
            Self::R2d2(pool, behaviour) => {
                let mut conn = pool.get().expect("half a minute is enough");
                change_in(&mut conn, *behaviour, id).is_ok()
            }
            Self::Raw(conn) => change_in(conn, TransactionBehavior::Immediate, id).is_ok(),
        }
    }

    fn read(&mut self, id: i64) -> bool {
        match self {
            Self::Millpond(pool) => pool.read(|conn| price(conn, id)).is_ok(),
            Self::R2d2(pool, _) => price(&pool.get().expect("half a minute is enough"), id).is_ok(),
            Self::Raw(conn) => price(conn, id).is_ok(),
        }
    }
}

/// What one thread did.
#[derive(Default)]
struct Done {
    writes: Vec<u64>,
    reads: Vec<u64>,
    busy: u64,
}

fn work(place: &mut Place<'_>, choice: &mut u64, pause: Option<Duration>, stop: &AtomicBool) -> Done {
    let mut done = Done::default();
    while !stop.load(Ordering::Relaxed) {
        *choice ^= *choice << 13;
        *choice ^= *choice >> 7;
        *choice ^= *choice << 17;
        let (id, writes) = ((*choice >> 8) % ROWS, choice.is_multiple_of(2));
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
        let begun = Instant::now();
        let good = if writes { place.write(id as i64) } else { place.read(id as i64) };
        let took = begun.elapsed().as_nanos() as u64;
        done.busy += u64::from(!good);
        // What failed has waited too.
        if writes { &mut done.writes } else { &mut done.reads }.push(took);
    }
    done
}

#[derive(Default)]
struct Series {
    rate: Rounds,
    writes: Rounds,
    p50: Rounds,
    p99: Rounds,
    worst: Rounds,
    read_p99: Rounds,
    busy: Rounds,
}

/// A disk that stalls holds up everybody alike, for longer than most waits; so memory, where it can be had.
fn home() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { env::temp_dir() }
}

/// A folder with a new database, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Self {
        let folder = Self(home().join(format!("millpond-writers-{}", process::id())));
        fs::create_dir_all(&folder.0).expect("the folder for temporary files can be written to");
        fill(&folder.file());
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.join("items.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's cleaning of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The settings of `SqliteManager`, for those that go without.
fn set_up(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON")
}

fn open(file: &Path) -> Connection {
    let mut conn = Connection::open(file).expect("the folder was made by this run");
    set_up(&mut conn).expect("a new database takes these settings");
    conn
}

fn fill(file: &Path) {
    let sql = format!(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, price INTEGER NOT NULL);
         WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n + 1 < {ROWS})
         INSERT INTO item SELECT n, 0 FROM i"
    );
    open(file).execute_batch(&sql).expect("the database is new");
}

fn one(plan: Plan, way: Way, (threads, pause): (usize, Option<Duration>), series: &mut Series) {
    let folder = Folder::create();
    let file = folder.file();
    let manager = || SqliteManager::file(&file);
    let own = match way {
        Way::Millpond => Some(SqlitePool::new(manager())),
        Way::Strict => {
            let builder = SqlitePool::builder(manager());
            Some(builder.configure_writer(|writer| writer.fairness(Fairness::Strict)).build())
        }
        Way::R2d2 | Way::Raw | Way::Deferred => None,
    };
    let own = own.transpose().expect("the file was made by this run");
    let r2d2 = matches!(way, Way::R2d2 | Way::Deferred).then(|| {
        let manager = SqliteConnectionManager::file(&file).with_init(set_up);
        r2d2::Pool::builder().build(manager).expect("the file was made by this run")
    });
    let place = |_: usize| match (&own, &r2d2) {
        (Some(pool), _) => Place::Millpond(pool),
        (None, Some(pool)) if way == Way::Deferred => Place::R2d2(pool, TransactionBehavior::Deferred),
        (None, Some(pool)) => Place::R2d2(pool, TransactionBehavior::Immediate),
        (None, None) => Place::Raw(Box::new(open(&file))),
    };
    let prepare = |number: usize| {
        let mut place = place(number);
        place.read(0);
        (place, number as u64 * 7_919 + 1)
    };
    let ran = crew(threads, plan.span(SPAN), prepare, |(place, choice), stop| work(place, choice, pause, stop));
    let (mut writes, mut reads, mut busy) = (Vec::new(), Vec::new(), 0);
    for done in ran.results {
        writes.extend(done.writes);
        reads.extend(done.reads);
        busy += done.busy;
    }
    let seconds = ran.elapsed.as_secs_f64();
    series.rate.push((writes.len() + reads.len()) as f64 / seconds);
    series.writes.push(writes.len() as f64 / seconds);
    series.p50.push(quantile(&mut writes, 0.5) as f64);
    series.p99.push(quantile(&mut writes, 0.99) as f64);
    series.worst.push(quantile(&mut writes, 1.0) as f64);
    series.read_p99.push(quantile(&mut reads, 0.99) as f64);
    series.busy.push(busy as f64);
}

type Measured = [[Series; WAYS.len()]; SCENES.len()];

pub fn run(plan: Plan, report: &mut Report) {
    let rounds = plan.rounds(5);
    let progress = Progress::new("writers", rounds);
    let mut measured = Measured::default();
    for round in 0..rounds {
        for (scene, series) in SCENES.into_iter().zip(&mut measured) {
            for turn in 0..WAYS.len() {
                let row = (turn + round) % WAYS.len();
                progress.at(round, &format!("{}, {}", title(scene), WAYS[row].name()));
                one(plan, WAYS[row], scene, &mut series[row]);
            }
        }
    }
    drop(progress);
    tell(report, &measured);
    draw(report, &measured);
    record(report, &measured);
}

fn title((threads, pause): (usize, Option<Duration>)) -> String {
    let pace = if pause.is_some() { "1 ms between" } else { "no pause" };
    format!("{threads} threads, {pace}")
}

fn tell(report: &mut Report, measured: &Measured) {
    report.heading("SQLite, writing and reading");
    report.text(
        "One file with a write-ahead log, in memory (`/dev/shm`), because a disk that stalls holds up all alike. Each thread does one thing after another: half are point reads, half are \
         immediate transactions that read a row and change twenty. *SqlitePool* has one writer and ten readers; \
         *r2d2_sqlite* ten connections with a busy time-out of 5 s, and so has the *connection per thread*. *Deferred* \
         begins its transactions as SQLite does by default: where others write too, most fail at once, which makes them \
         look fast. Times are of a whole write, from asking to having committed: p50 and p99 are medians of the rounds, \
         *worst* is the worst of all rounds. *Busy* are calls that came back with SQLITE_BUSY.",
    );
    report.text(
        "Without a pause the quantiles say little: a thread that has the lock takes it again and again before the others \
         wake up, so nearly all writes are its own and fast, while the others sleep in the busy handler for seconds \
         (*worst*). The more even a queue is, the higher its p99 looks beside that, and each change of the thread costs \
         throughput.",
    );
    for (scene, series) in SCENES.into_iter().zip(measured) {
        let title = title(scene);
        let mut table = Table::new([
            title.as_str(),
            "per s",
            "over r2d2",
            "writes per s",
            "write p50",
            "write p99",
            "worst",
            "read p99",
            "busy",
        ]);
        for (way, own) in WAYS.iter().zip(series) {
            table.row([
                way.name().to_owned(),
                number(own.rate.median()),
                format!("{} ×", number(own.rate.over(&series[R2D2].rate).median())),
                number(own.writes.median()),
                time(own.p50.median()),
                time(own.p99.median()),
                time(own.worst.most()),
                time(own.read_p99.median()),
                number(own.busy.sum()),
            ]);
        }
        report.table(&table);
    }
}

fn draw(report: &mut Report, measured: &Measured) {
    for ((file, (threads, _)), series) in ["writers", "writers-many"].into_iter().zip(SCENES).zip(measured) {
        let title = format!("How long a write takes: {threads} threads write and read one SQLite file, 1 ms between");
        let mut chart = Chart::new(&title, "milliseconds (log)", Scale::Log, ["p50", "p99", "worst"]);
        for (way, own) in WAYS.iter().zip(series).filter(|(way, _)| **way != Way::Deferred) {
            let waits = [own.p50.median(), own.p99.median(), own.worst.most()];
            chart.named(way.name(), way.colour(), waits.map(|nanos| nanos / 1e6));
        }
        report.chart(file, &chart);
    }
}

fn record(report: &mut Report, measured: &Measured) {
    let figures = [
        [Figure::WriterRateEight, Figure::WriterTailEight, Figure::WriterWorstEight],
        [Figure::WriterRateMany, Figure::WriterTailMany, Figure::WriterWorstMany],
    ];
    let found = &mut report.found;
    for ([rate, tail, worst], series) in figures.into_iter().zip(measured) {
        let (own, r2d2) = (&series[OWN], &series[R2D2]);
        found.record(rate, own.rate.over(&r2d2.rate).median());
        found.record(tail, own.p99.over(&r2d2.p99).median());
        found.record(worst, own.worst.most() / r2d2.worst.most());
    }
    let own = measured.iter().map(|series| series[OWN].busy.sum()).sum();
    found.record(Figure::WriterBusy, own);
}
