//! The contest: the same work for every entrant, in turns.

use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rusqlite::Connection;

use super::Failure;
use super::airports::{Atlas, Dice};
use super::work::Operation;

pub(crate) const THREADS: u64 = 8;
pub(crate) const ROUNDS: u64 = 12;
/// For each thread, in each round.
pub(crate) const OPERATIONS: u64 = 2_500;
/// How often a thread moves the progress bar, in operations.
const STEP: u64 = 250;

/// Something to be done with a connection, and a way to have it done.
pub(crate) type Job<'a> = &'a mut dyn FnMut(&mut Connection) -> Result<(), Failure>;
pub(crate) type Lend<'a> = &'a (dyn Fn(Job<'_>) -> Result<(), Failure> + Sync);

pub(crate) struct Entrant<'a> {
    pub(crate) name: &'static str,
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    lend: Lend<'a>,
    /// Any connection to the entrant's database, to look at the outcome.
    keeper: &'a Connection,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) waits: Vec<Duration>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<Failure>,
    writes: u64,
}

impl<'a> Entrant<'a> {
    pub(crate) fn new(name: &'static str, lend: Lend<'a>, keeper: &'a Connection) -> Self {
        Self { name, lend, keeper, tally: Tally::default(), elapsed: Duration::ZERO }
    }

    pub(crate) fn operations(&self) -> u64 {
        self.tally.waits.len() as u64
    }

    pub(crate) fn rate(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64()
    }

    fn play(&mut self, round: u64, atlas: &Atlas, bar: &ProgressBar) -> Result<(), Failure> {
        let lend = self.lend;
        let start = Instant::now();
        let tallies: Vec<_> = thread::scope(|scope| {
            let start_one = |worker| scope.spawn(move || Tally::of(lend, round * THREADS + worker, atlas, bar));
            let workers: Vec<_> = (0..THREADS).map(start_one).collect();
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        self.elapsed += start.elapsed();
        for tally in tallies {
            self.tally.add(tally.map_err(|_| format!("{}: a worker panicked", self.name))?);
        }
        Ok(())
    }

    /// Whether the database holds what was written: no more, no less.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let rows: i64 = self.keeper.query_row("SELECT count(*) FROM flight", [], |row| row.get(0))?;
        let departures: i64 = self.keeper.query_row("SELECT sum(departures) FROM airport", [], |row| row.get(0))?;
        let (name, asked) = (self.name, self.tally.writes as i64);
        if let Some(error) = &self.tally.first_error {
            return Err(format!("{name}: {} errors, the first: {error}", self.tally.errors).into());
        }
        if (rows, departures) != (asked, asked) {
            return Err(format!("{name}: {asked} flights asked, {rows} written, {departures} counted").into());
        }
        Ok(())
    }
}

impl Tally {
    /// One worker's share of one round. Worker and round decide what is drawn, so no entrant is dealt an easier hand.
    fn of(lend: Lend<'_>, seed: u64, atlas: &Atlas, bar: &ProgressBar) -> Self {
        let (mut tally, mut dice) = (Self::default(), Dice(seed));
        tally.waits.reserve(OPERATIONS as usize);
        for done in 1..=OPERATIONS {
            let operation = Operation::draw(atlas, &mut dice);
            tally.writes += u64::from(operation.writes());
            let asked = Instant::now();
            let mut waited = None;
            let outcome = lend(&mut |conn| {
                waited = Some(asked.elapsed());
                operation.run(conn)
            });
            tally.waits.push(waited.unwrap_or_else(|| asked.elapsed()));
            if let Err(error) = outcome {
                tally.errors += 1;
                tally.first_error.get_or_insert(error);
            }
            // In steps, because the bar's counter is shared by all threads and would slow the fastest most.
            if done % STEP == 0 {
                bar.inc(STEP);
            }
        }
        tally
    }

    fn add(&mut self, other: Self) {
        self.waits.extend(other.waits);
        self.errors += other.errors;
        self.writes += other.writes;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Lets the entrants play in turns, so that a busy spell of the machine hits all alike, and each goes first as often.
pub(crate) fn run(entrants: &mut [Entrant<'_>], atlas: &Atlas) -> Result<(), Failure> {
    // indicatif draws on standard error, and only when that is a terminal.
    let bar = ProgressBar::new(entrants.len() as u64 * ROUNDS * THREADS * OPERATIONS);
    bar.set_style(ProgressStyle::with_template("{msg:>8} {wide_bar} {percent:>3} %, {eta} left")?);
    for round in 0..ROUNDS {
        for entrant in &mut *entrants {
            bar.set_message(entrant.name);
            entrant.play(round, atlas, &bar)?;
        }
        entrants.rotate_left(1);
    }
    bar.finish_and_clear();
    // Report in the order given, whatever the number of rounds.
    entrants.rotate_right(ROUNDS as usize % entrants.len());
    Ok(())
}
