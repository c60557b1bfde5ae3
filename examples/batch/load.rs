//! The load: what is read goes through the batch helper into the table.

use super::Failure;
use super::flags::{BadLines, Flags};
use super::gate::Gate;
use super::ledger::{self, Job};
use super::rejects::Rejects;
use super::source::{self, Line, Source};
use super::target::Target;
use super::values::{Refused, columns_of, row};
use indicatif::{ProgressBar, ProgressStyle};
use millpond::batch::{Batch, BatchError, End, Report};
use millpond::sqlite::{SqliteManager, SqlitePool, abort};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// From so many records the columns of a new table are made.
const SAMPLE: usize = 1000;
/// Long enough for the largest transactions of all workers before.
const PATIENCE: Duration = Duration::from_secs(120);

/// What has come of a load.
pub(crate) struct Loaded {
    pub(crate) table: String,
    pub(crate) ending: Ending,
    pub(crate) report: Option<Report<Line, Refused>>,
    pub(crate) transactions: u64,
    /// Records that were settled by earlier runs, and those of them that were rejected.
    pub(crate) before: (u64, u64),
    pub(crate) can_be_resumed: bool,
    /// The pool in its own words.
    pub(crate) pool: String,
}

pub(crate) enum Ending {
    Complete,
    /// It was complete before this run.
    NothingToDo,
    Interrupted,
    Failed(String),
}

/// Loads the file into the database.
pub(crate) fn load(flags: &Flags, file: &Path, into: &PathBuf, stop: &AtomicBool) -> Result<Loaded, Failure> {
    let gate = Gate::from_env()?;
    let identity = source::identify(file)?;
    if identity.is_none() && flags.resume {
        return Err(format!("cannot resume: {} can be read only once", file.display()).into());
    }
    let mut source = Source::open(file, flags)?;
    let sample = sample(&mut source)?;
    let table = table(flags, file)?;
    let manager = SqliteManager::file(into);
    let pool = SqlitePool::builder(manager).name("batch").readers(1).connection_timeout(PATIENCE).build()?;
    if source.header.is_none() && sample.is_empty() {
        // Not even the columns are known.
        return Ok(Loaded::nothing(table, Ending::Complete, (0, 0)));
    }
    // The table and the ledger come together, or not at all.
    let (target, job) = pool.write_transaction(|conn| {
        let job = identity.as_ref().map(|identity| Job::begin(conn, flags, &table, identity));
        let job = job.transpose().map_err(abort)?;
        let columns = columns_of(source.header.as_deref(), &sample);
        Ok((Target::prepare(conn, &table, columns).map_err(abort)?, job))
    })?;
    let before = job.as_ref().map_or((0, 0), |job| (job.settled(), job.rejected));
    if job.as_ref().is_some_and(|job| job.finished) {
        return Ok(Loaded::nothing(table, Ending::NothingToDo, before));
    }

    let bar = progress_bar(source.size)?;
    let meter = source.meter.clone();
    let mut rejects = Rejects::open(flags.rejects.as_deref(), before.0 > 0, bar.clone())?;
    let mut fault = None;
    let (mut unread, mut cut_short) = (None, false);
    let transactions = AtomicU64::new(0);
    let records = Reading {
        source,
        sample: sample.into_iter(),
        number: 0,
        job: job.as_ref(),
        gate: &gate,
        stop,
        unread: &mut unread,
        cut_short: &mut cut_short,
    };
    let report = Batch::sqlite(&pool)
        .workers(flags.workers())
        .chunk(flags.per_transaction as usize)
        .stop_flag(stop)
        .go_on_if(|error| flags.bad_lines == BadLines::Skip && matches!(error, BatchError::Failed(Refused::Line(_))))
        .on_commit(|conn, span| {
            if let Some(job) = &job {
                job.note(conn, span.items.clone(), &span.failed)?;
            }
            transactions.fetch_add(1, Relaxed);
            gate.before_commit(stop);
            Ok::<_, rusqlite::Error>(())
        })
        .progress(Duration::from_millis(100), |counts| {
            bar.set_position(meter.bytes.get());
            bar.set_message(format!("{} lines, {:.0} lines/s, {} bad", counts.done, counts.rate(), counts.failed));
        })
        .run_prepared(
            records,
            |line| row(line, &target.columns),
            |conn, _, row| target.insert(conn, row),
            |outcome| match outcome.result {
                Ok(()) => {}
                Err(BatchError::Failed(Refused::Line(reason))) if flags.bad_lines == BadLines::Skip => {
                    rejects.add(&outcome.item, &reason);
                }
                // One that ends the load is not settled, so it is no reject: a load that goes on meets it again.
                // Where there is no connection, or no transaction, all lines of it say the same.
                Err(error) => drop(fault.get_or_insert_with(|| format!("line {}: {error}", outcome.item.number))),
            },
        );
    bar.finish_and_clear();
    rejects.finish()?;
    let ending = match (&report.end, unread) {
        (_, Some(error)) => Ending::Failed(error.to_string()),
        (End::Stopped, None) => Ending::Interrupted,
        (End::Complete, None) if cut_short => Ending::Interrupted,
        (End::Complete, None) => {
            pool.write(|conn| job.as_ref().map_or(Ok(()), |job| job.finish(conn)))?;
            Ending::Complete
        }
        (End::Pool(error), None) => Ending::Failed(fault.unwrap_or_else(|| error.to_string())),
        (_, None) => Ending::Failed(fault.unwrap_or_else(|| "a line failed".to_owned())),
    };
    let of_pool = pool.writers().table();
    pool.close_and_wait(PATIENCE)?;
    Ok(Loaded {
        table,
        ending,
        report: Some(report),
        transactions: transactions.into_inner(),
        before,
        can_be_resumed: job.is_some(),
        pool: of_pool,
    })
}

impl Loaded {
    fn nothing(table: String, ending: Ending, before: (u64, u64)) -> Self {
        let pool = String::new();
        Self { table, ending, report: None, transactions: 0, before, can_be_resumed: false, pool }
    }

    /// Lines that were rejected, by this run and those before.
    pub(crate) fn rejected(&self) -> u64 {
        self.before.1 + self.report.as_ref().map_or(0, |report| report.counts.failed)
    }
}

/// The first records, to make columns of. They are loaded with the others.
pub(crate) fn sample(source: &mut Source) -> Result<Vec<Line>, Failure> {
    let mut sample = Vec::new();
    while sample.len() < SAMPLE {
        match source.next()? {
            Some(line) => sample.push(line),
            None => break,
        }
    }
    Ok(sample)
}

/// The table that was named, or that the file is called after.
pub(crate) fn table(flags: &Flags, file: &Path) -> Result<String, Failure> {
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let table = flags.table.clone().or_else(stem).ok_or("the table has no name: --table gives it one")?;
    if table.to_ascii_lowercase().starts_with(ledger::PREFIX) {
        return Err(format!("{table:?} is a name that the program keeps for itself").into());
    }
    Ok(table)
}

fn progress_bar(size: Option<u64>) -> Result<ProgressBar, Failure> {
    Ok(match size {
        Some(size) => {
            let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left; {msg}";
            ProgressBar::new(size).with_style(ProgressStyle::with_template(template)?)
        }
        None => ProgressBar::no_length().with_style(ProgressStyle::with_template("{spinner} {bytes}; {msg}")?),
    })
}

/// The records that are not settled yet.
struct Reading<'a> {
    source: Source,
    sample: std::vec::IntoIter<Line>,
    /// Of the next record.
    number: u64,
    job: Option<&'a Job>,
    gate: &'a Gate,
    stop: &'a AtomicBool,
    /// What reading ended with.
    unread: &'a mut Option<Failure>,
    /// There may be more, but it was not read.
    cut_short: &'a mut bool,
}

impl Iterator for Reading<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            self.gate.before_record(self.number, self.stop);
            // The batch sees the flag too, but not while what is settled is passed over.
            if self.stop.load(Relaxed) {
                *self.cut_short = true;
                return None;
            }
            let line = match self.sample.next() {
                Some(line) => line,
                None => match self.source.next() {
                    Ok(line) => line?,
                    Err(error) => {
                        *self.unread = Some(error);
                        return None;
                    }
                },
            };
            let number = self.number;
            self.number += 1;
            if !self.job.is_some_and(|job| job.is_settled(number)) {
                return Some(line);
            }
        }
    }
}
