//! The same load three times: over one connection, over r2d2, and over millpond.

use super::Failure;
use super::flags::Flags;
use super::folder::TempFolder;
use super::load::{sample, table};
use super::source::{Line, Source};
use super::target::{Target, quoted};
use super::values::{Column, columns_of, row};
use indicatif::HumanCount;
use millpond::batch::Batch;
use millpond::sqlite::{SqliteManager, SqlitePool};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// As `SqliteManager` sets it by itself.
const SETTINGS: &str = "PRAGMA busy_timeout = 120000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
                        PRAGMA foreign_keys = ON;";

struct Contest {
    flags: Flags,
    file: PathBuf,
    table: String,
    columns: Vec<Column>,
}

type Entrant = fn(&Contest, &Path) -> Result<(), Failure>;

/// Runs the rounds, prints the table, and fails where two databases are not the same.
pub(crate) fn compare(flags: &Flags, file: &Path) -> Result<(), Failure> {
    let mut source = Source::open(file, flags)?;
    let sample = sample(&mut source)?;
    let columns = columns_of(source.header.as_deref(), &sample);
    let contest = Contest { flags: flags.clone(), file: file.to_owned(), table: table(flags, file)?, columns };
    let entrants: [(&str, Entrant); 3] =
        [("one connection", Contest::alone), ("r2d2", Contest::over_r2d2), ("millpond", Contest::over_millpond)];
    let folder = TempFolder::create("batch-compare")?;
    let mut times = [const { Vec::new() }; 3];
    let mut found = None;
    for round in 0..flags.rounds as usize {
        // Each entrant is first, second and third in turn, so that what the machine does meanwhile falls on all.
        for turn in 0..entrants.len() {
            let which = (round + turn) % entrants.len();
            let Some(((name, load), times)) = entrants.get(which).zip(times.get_mut(which)) else { continue };
            let into = folder.file(&format!("{round}-{which}.db"));
            contest.make_table(&into)?;
            let began = Instant::now();
            load(&contest, &into).map_err(|error| format!("{name}: {error}"))?;
            times.push(began.elapsed());
            let sums = checksum(&into, &contest.table)?;
            if *found.get_or_insert(sums) != sums {
                return Err(format!("{name} has loaded {sums:?}, and another one {found:?} (rows, checksum)").into());
            }
            std::fs::remove_file(&into)?;
        }
    }
    let rows = found.map_or(0, |(rows, _)| rows);
    report(flags, rows, &entrants.map(|(name, _)| name), &mut times);
    Ok(())
}

impl Contest {
    fn make_table(&self, into: &Path) -> Result<(), Failure> {
        let conn = Connection::open(into)?;
        conn.execute_batch(SETTINGS)?;
        Target::prepare(&conn, &self.table, self.columns.clone()).map(drop)
    }

    fn target(&self, conn: &Connection) -> Result<Target, Failure> {
        Target::prepare(conn, &self.table, self.columns.clone())
    }

    fn lines(&self) -> Result<impl Iterator<Item = Result<Line, Failure>>, Failure> {
        let mut source = Source::open(&self.file, &self.flags)?;
        Ok(std::iter::from_fn(move || source.next().transpose()))
    }

    /// One thread that reads, parses and inserts.
    fn alone(&self, into: &Path) -> Result<(), Failure> {
        let conn = Connection::open(into)?;
        conn.execute_batch(SETTINGS)?;
        let target = self.target(&conn)?;
        let mut lines = self.lines()?.peekable();
        while lines.peek().is_some() {
            conn.execute_batch("BEGIN IMMEDIATE")?;
            for line in lines.by_ref().take(self.flags.per_transaction as usize) {
                let values = row(&line?, &target.columns).map_err(|error| error.to_string())?;
                target.insert(&conn, &values).map_err(|error| error.to_string())?;
            }
            conn.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    /// What one writes by hand where a pool is all there is.
    fn over_r2d2(&self, into: &Path) -> Result<(), Failure> {
        let workers = self.flags.workers();
        let manager = SqliteConnectionManager::file(into).with_init(|conn| conn.execute_batch(SETTINGS));
        let pool = r2d2::Pool::builder().max_size(workers as u32).build(manager)?;
        let target = self.target(&*pool.get()?)?;
        let (to_do, chunks) = crossbeam_channel::bounded::<Vec<Line>>(workers);
        let failed = Mutex::new(None);
        let work = |lines: Vec<Line>| -> Result<(), Failure> {
            let rows: Result<Vec<_>, _> = lines.iter().map(|line| row(line, &target.columns)).collect();
            let rows = rows.map_err(|error| error.to_string())?;
            let conn = pool.get()?;
            conn.execute_batch("BEGIN IMMEDIATE")?;
            rows.iter().try_for_each(|row| target.insert(&conn, row)).map_err(|error| error.to_string())?;
            Ok(conn.execute_batch("COMMIT")?)
        };
        thread::scope(|scope| -> Result<(), Failure> {
            for _ in 0..workers {
                scope.spawn(|| {
                    for lines in chunks.iter() {
                        if let Err(error) = work(lines) {
                            *failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                        }
                    }
                });
            }
            let mut lines = self.lines()?.peekable();
            while lines.peek().is_some() {
                let chunk: Result<Vec<_>, _> = lines.by_ref().take(self.flags.per_transaction as usize).collect();
                to_do.send(chunk?)?;
            }
            drop(to_do);
            Ok(())
        })?;
        failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
    }

    fn over_millpond(&self, into: &Path) -> Result<(), Failure> {
        let pool =
            SqlitePool::builder(SqliteManager::file(into)).readers(1).connection_timeout(Duration::from_secs(120));
        let pool = pool.build()?;
        let target = pool.write(|conn| self.target(conn).map_err(millpond::sqlite::abort))?;
        let mut unread = None;
        let lines = self.lines()?.map_while(|line| line.map_err(|error| unread = Some(error)).ok());
        let mut fault = None;
        let report =
            Batch::sqlite(&pool).workers(self.flags.workers()).chunk(self.flags.per_transaction as usize).run_prepared(
                lines,
                |line| row(line, &target.columns),
                |conn, _, row| target.insert(conn, row),
                |outcome| fault = fault.take().or(outcome.result.err().map(|error| error.to_string())),
            );
        pool.close_and_wait(Duration::from_secs(60))?;
        match (unread, fault) {
            (Some(error), _) => Err(error),
            (None, Some(fault)) => Err(fault.into()),
            (None, None) if report.is_complete() => Ok(()),
            (None, None) => Err(report.counts.to_string().into()),
        }
    }
}

/// How many rows there are, and a sum that does not depend on their order.
fn checksum(database: &Path, table: &str) -> Result<(u64, u64), Failure> {
    let conn = Connection::open(database)?;
    let mut all = conn.prepare(&format!("SELECT * FROM {}", quoted(table)?))?;
    let columns = all.column_count();
    let mut rows = all.query([])?;
    let (mut count, mut sum) = (0, 0_u64);
    while let Some(row) = rows.next()? {
        let mut hash = DefaultHasher::new();
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => 0_u8.hash(&mut hash),
                ValueRef::Integer(number) => (1_u8, number).hash(&mut hash),
                ValueRef::Real(number) => (2_u8, number.to_bits()).hash(&mut hash),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => (3_u8, bytes).hash(&mut hash),
            }
        }
        (count, sum) = (count + 1, sum.wrapping_add(hash.finish()));
    }
    Ok((count, sum))
}

fn report(flags: &Flags, rows: u64, names: &[&str; 3], times: &mut [Vec<Duration>; 3]) {
    let (workers, each) = (flags.workers(), flags.per_transaction);
    println!(
        "{} rows, {each} in a transaction, {workers} workers; medians of {} rounds:\n",
        HumanCount(rows),
        flags.rounds
    );
    let medians = times.each_mut().map(|times| {
        times.sort_unstable();
        times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
    });
    let [alone, ..] = medians;
    println!("  {:<16}{:>10}{:>18}{:>24}", "", "time", "rows per second", "against one connection");
    for (name, median) in names.iter().zip(medians) {
        let rate = HumanCount((rows as f64 / median) as u64).to_string();
        println!("  {name:<16}{:>10}{rate:>18}{:>24}", format!("{median:.2} s"), format!("{:.2} x", alone / median));
    }
    println!(
        "\nEvery database has the same rows. SQLite has one writer at a time, so workers can only parse side by side: where"
    );
    println!(
        "parsing is cheap, handing records to other threads costs more than it saves; where it is not, they help."
    );
}
