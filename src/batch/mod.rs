//! A closure over many items: some workers, each with its own connection while it works, errors for each item.
//!
//! ```
//! use millpond::Pool;
//! use millpond::batch::Batch;
//! use rusqlite::Connection;
//!
//! # let folder = std::env::temp_dir().join(format!("millpond-batch-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("visits.db");
//! let pool = Pool::builder(move || {
//!     let conn = Connection::open(&path)?;
//!     conn.busy_timeout(std::time::Duration::from_secs(30))?;
//!     Ok::<_, rusqlite::Error>(conn)
//! })
//! .max_size(4)
//! .build()?;
//! pool.get()?.execute_batch("CREATE TABLE visit (page TEXT NOT NULL CHECK (page <> ''))")?;
//!
//! let pages = ["/", "/about", "", "/contact"]; // any iterator, of any length
//! let report = Batch::new(&pool)
//!     .transactions(
//!         |conn| conn.execute_batch("BEGIN IMMEDIATE"),
//!         |conn| conn.execute_batch("COMMIT"),
//!         |conn| conn.execute_batch("ROLLBACK"),
//!     )
//!     .chunk(100) // items in a transaction
//!     .go_on() // after an error: it costs its item alone
//!     .run(pages, |conn, page| conn.execute("INSERT INTO visit VALUES (?1)", [page]));
//!
//! assert_eq!((report.counts.done, report.counts.failed), (3, 1));
//! assert_eq!(report.failures[0].index, 2);
//! assert!(report.failures[0].error.to_string().contains("CHECK constraint failed"));
//! let visits: i64 = pool.get()?.query_row("SELECT count(*) FROM visit", [], |row| row.get(0))?;
//! assert_eq!(visits, 3);
//! # pool.close_and_wait(std::time::Duration::from_secs(10))?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens
//!
//! - **Reading.** The calling thread takes items from the iterator, a chunk at a time, and never more than
//!   [`read_ahead`](Batch::read_ahead) that have not ended: it may be endless, or larger than memory, and need not be
//!   `Send`.
//! - **Working.** Scoped threads (`millpond-batch`), started as they are needed, take chunks in turn. Each borrows a
//!   connection for one chunk and gives it back behind it, so that others get theirs in between and broken ones are
//!   replaced. More workers than connections wait for their turns, for as long as it takes. Chunks are begun in order,
//!   and end as they end.
//! - **Transactions.** Where there are [some](Batch::transactions), each chunk is one: begun, its items, committed. A
//!   `SqlitePool` has them by itself.
//! - **An item that fails,** in a batch that [goes on](Batch::go_on), is left out, and it alone: its transaction is
//!   rolled back, the items before it are done again and committed, and those behind it follow in the next one. So
//!   **the closure may run twice over an item**, which it gets by reference (and once more for each item that fails
//!   only when it is done again); what it does besides the transaction (counting, sending) it does twice then. Without
//!   transactions nothing is undone, and nothing done again.
//! - **A panic** of the closure is an error of its item, and costs the connection, as ever; the thread goes on.
//! - **The end.** By default the first error ends the batch: its transaction is rolled back, what others have in work
//!   is finished and committed, and nothing more is begun. So it is when a [flag](Batch::stop_flag) is raised, but that
//!   what is in work is finished everywhere. The [report](Report) comes in any case. Of items that were read and not
//!   done it has the number, and of those that failed the reasons.
//! - **The pool's own errors.** A chunk that gets no connection within the pool's `connection_timeout`, because others
//!   have them or the server is away, or because the pool is closed, paused or turns callers away, ends the batch,
//!   whatever else is said, because no item is to blame and each would fail alike; where a batch is to outlive an
//!   outage, set that time accordingly. When a transaction cannot be begun or committed, all its items have that error;
//!   beginning is tried once more, on another connection. One that was lost on the way to the server may have been
//!   committed all the same: the batch says that it failed.
//!
//! The words are Spring Batch's (chunk, skip), and reading ahead is bounded as in Python's `Executor.map` with a
//! `buffersize`. Spring does each item of a failed chunk again in a transaction of its own; here a chunk with one bad
//! item is two transactions.

mod brake;
mod chunk;
mod crew;
mod error;
mod lend;
mod report;
#[cfg(feature = "sqlite")]
mod sqlite;
mod turns;

pub use error::{BatchError, TransactionError};
pub use lend::{Lend, LendError, Lender};
pub use report::{Counts, End, Failure, Outcome, Report, Span};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLender;

use crate::{Error, Manager, Pool, PooledConnection};
use brake::{Brake, Judge};
use chunk::{Job, OnCommit};
use crew::{Progress, Sizes};
use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Settings of a batch: see the [module](self). `E` is what its closures fail with.
#[must_use = "nothing is done before `run`"]
pub struct Batch<'a, L: Lend, E> {
    lender: L,
    workers: Option<usize>,
    chunk: usize,
    read_ahead: Option<usize>,
    keep_failures: usize,
    go_on: Option<Judge<'a, E>>,
    stop_after: u64,
    stop_flag: Option<&'a AtomicBool>,
    on_commit: Option<OnCommit<'a, L>>,
    progress: Option<Progress<'a>>,
}

impl<'a, M: Manager, E> Batch<'a, Lender<'a, M>, E> {
    /// A batch over a pool.
    #[track_caller]
    pub fn new(pool: &'a Pool<M>) -> Self {
        let max_size = pool.stats().max_size as usize;
        Self::over(Lender::new(|| pool.get(), (max_size, max_size), label(Location::caller())))
    }

    /// A batch over whatever lends connections of this kind: a pool of a tenant, balanced servers. By default it has as
    /// many workers as there are cores. How many connections there are it does not know, so more workers than that wait
    /// for each other within the time that the pools give.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, Pools, batch::Batch};
    ///
    /// let tenants = Pools::new(|tenant: &u32| {
    ///     let tenant = *tenant;
    ///     Pool::builder(move || Ok::<_, std::io::Error>(tenant)).max_size(2).build()
    /// });
    /// let report = Batch::lending(|| tenants.get(&7)).run(0..10, |tenant, _| match *tenant {
    ///     7 => Ok(()),
    ///     _ => Err("another tenant's"),
    /// });
    /// assert!(report.is_complete(), "{report}");
    /// ```
    #[track_caller]
    pub fn lending(get: impl Fn() -> Result<PooledConnection<M>, Error> + Sync + 'a) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::over(Lender::new(get, (cores, usize::MAX), label(Location::caller())))
    }

    /// Makes each chunk a transaction. Default: none. On a connection where one of these fails or panics nobody knows
    /// what is open, and it is closed.
    ///
    /// They run for each chunk, beside the items' own time: for SQLite, begin with `BEGIN IMMEDIATE`, or transactions
    /// fail that read first.
    pub fn transactions<X: Into<Box<dyn StdError + Send + Sync>>>(
        mut self,
        begin: impl Fn(&mut M::Connection) -> Result<(), X> + Sync + 'a,
        commit: impl Fn(&mut M::Connection) -> Result<(), X> + Sync + 'a,
        roll_back: impl Fn(&mut M::Connection) -> Result<(), X> + Sync + 'a,
    ) -> Self {
        self.lender.transactions(begin, commit, roll_back);
        self
    }
}

#[cfg(feature = "sqlite")]
impl<'a, E> Batch<'a, SqliteLender<'a>, E> {
    /// A batch over the one writer of a SQLite database, each chunk a
    /// [`write_transaction`](crate::sqlite::SqlitePool::write_transaction). Workers take turns with the writer, so more
    /// than one are of use where they [prepare](Self::run_prepared) what is to be written. Default: as many as there
    /// are cores.
    pub fn sqlite(pool: &'a crate::sqlite::SqlitePool) -> Self {
        Self::over(SqliteLender::new(pool))
    }
}

impl<'a, L: Lend, E> Batch<'a, L, E> {
    /// A batch over anything that can [lend](Lend).
    pub fn over(lender: L) -> Self {
        Self {
            lender,
            workers: None,
            chunk: 1,
            read_ahead: None,
            keep_failures: 100,
            go_on: None,
            stop_after: u64::MAX,
            stop_flag: None,
            on_commit: None,
            progress: None,
        }
    }

    /// The most threads that work. Default: the pool's `max_size` at the time when the batch is made by
    /// [`new`](Batch::new), as many as there are cores for [`lending`](Batch::lending) and `sqlite`, and what
    /// [`Lend::workers`] says for [`over`](Self::over).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many items share a checkout, and a transaction where there are any. Default: 1. A chunk waits until it is
    /// full, or the iterator ends.
    pub fn chunk(mut self, items: usize) -> Self {
        self.chunk = items;
        self
    }

    /// The most items that are read and have not ended, at least a chunk; those in work are among them. It bounds the
    /// memory of the batch. Default: two chunks for each worker, one in work and one that is ready when it ends.
    pub fn read_ahead(mut self, items: usize) -> Self {
        self.read_ahead = Some(items);
        self
    }

    /// Goes on after an error of an item or a transaction. Default: the first one ends the batch.
    pub fn go_on(self) -> Self {
        self.go_on_if(|_| true)
    }

    /// Goes on after errors of which the function says so. It is called on the worker's thread, for each error.
    pub fn go_on_if(mut self, go_on: impl Fn(&BatchError<E>) -> bool + Sync + 'a) -> Self {
        self.go_on = Some(Box::new(go_on));
        self
    }

    /// Goes on after errors until there are so many items with one; those that are in work at that time may add some.
    /// Default: no limit, for a batch that goes on.
    pub fn stop_after(mut self, errors: u64) -> Self {
        if self.go_on.is_none() {
            self = self.go_on();
        }
        self.stop_after = errors;
        self
    }

    /// A flag that ends the batch once it is true: transactions that have begun are finished and committed, and nothing
    /// new is begun. Whoever raises it (a handler of Ctrl-C) is noticed before the next item is read; an iterator that
    /// blocks is waited for.
    pub fn stop_flag(mut self, flag: &'a AtomicBool) -> Self {
        self.stop_flag = Some(flag);
        self
    }

    /// Calls a function at the end of each transaction, before the commit, with the connection and the items that the
    /// commit settles. What it writes is committed with them: a program that is to be resumed notes its progress here.
    /// Where items fail, also those that are settled by being left out are told; transactions come in any order. Where
    /// an error ends the batch, items that had failed in the same transaction before count as [left](Counts::left),
    /// because no commit tells of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::batch::Batch;
    /// use millpond::sqlite::{SqliteManager, SqlitePool};
    ///
    /// let pool = SqlitePool::new(SqliteManager::memory())?;
    /// pool.write(|conn| conn.execute_batch("CREATE TABLE n (n); CREATE TABLE progress (first, next, failed)"))?;
    /// let report = Batch::sqlite(&pool)
    ///     .chunk(10)
    ///     .go_on()
    ///     .on_commit(|conn, span| {
    ///         let row = (span.items.start as i64, span.items.end as i64, span.failed.len() as i64);
    ///         conn.execute("INSERT INTO progress VALUES (?1, ?2, ?3)", row).map(drop)
    ///     })
    ///     .run(["1", "2", "three", "4"], |conn, text| {
    ///         let n: u32 = text.parse().map_err(millpond::sqlite::abort)?;
    ///         conn.execute("INSERT INTO n VALUES (?1)", [n])
    ///     });
    /// assert_eq!((report.counts.done, report.counts.failed), (3, 1));
    /// let all = "SELECT group_concat(first || '-' || next || ' ' || failed) FROM progress";
    /// let progress: String = pool.read(|conn| conn.query_row(all, [], |row| row.get(0)))?;
    /// assert_eq!(progress, "0-3 1,3-4 0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_commit<X: Into<Box<dyn StdError + Send + Sync>>>(
        mut self,
        f: impl Fn(L::Conn<'_>, &Span) -> Result<(), X> + Sync + 'a,
    ) -> Self {
        self.on_commit = Some(Box::new(move |conn, span| f(conn, span).map_err(Into::into)));
        self
    }

    /// Tells a function how far the batch is, on the calling thread: at most every `every`, and once at the end.
    /// Between, it waits for no item, but the iterator may keep the thread for longer.
    pub fn progress(mut self, every: Duration, f: impl FnMut(&Counts) + 'a) -> Self {
        self.progress = Some((every, Box::new(f)));
        self
    }

    /// How many failures the report of [`run`](Self::run) keeps, with their items; the others are counted. Default:
    /// 100, because a million bad lines are not to fill the memory.
    pub fn keep_failures(mut self, most: usize) -> Self {
        self.keep_failures = most;
        self
    }

    /// Calls `work` with a connection and each item.
    ///
    /// # Panics
    ///
    /// When the iterator, the function that is told of progress, or a destructor of an item or a result does; what is
    /// in work is finished before.
    pub fn run<T: Send, R: Send>(
        self,
        items: impl IntoIterator<Item = T>,
        work: impl Fn(L::Conn<'_>, &T) -> Result<R, E> + Sync,
    ) -> Report<T, E>
    where
        E: Send,
    {
        let most = self.keep_failures;
        let mut failures = Vec::new();
        let mut report = self.for_each(items, work, |outcome| {
            if let (Err(error), true) = (outcome.result, failures.len() < most) {
                failures.push(Failure { index: outcome.index, item: outcome.item, error });
            }
        });
        failures.sort_by_key(|failure| failure.index);
        report.failures = failures;
        report
    }

    /// The same, and gives `sink` what has come of each item that is done or has failed: on the calling thread, in the
    /// order in which chunks end. What it keeps is up to it; while it takes its time no more is read.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), and when `sink` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, batch::Batch};
    ///
    /// let pool = Pool::new(|| Ok::<_, std::io::Error>(10))?;
    /// let mut results = Vec::new();
    /// let report = Batch::new(&pool).go_on().for_each(
    ///     0..5,
    ///     |factor, n| if *n == 3 { Err("not three") } else { Ok(n * *factor) },
    ///     |outcome| results.push((outcome.index, outcome.result.ok())),
    /// );
    /// results.sort();
    /// assert_eq!(results, [(0, Some(0)), (1, Some(10)), (2, Some(20)), (3, None), (4, Some(40))]);
    /// assert_eq!(report.counts.failed, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn for_each<T: Send, R: Send>(
        self,
        items: impl IntoIterator<Item = T>,
        work: impl Fn(L::Conn<'_>, &T) -> Result<R, E> + Sync,
        sink: impl FnMut(Outcome<T, R, E>),
    ) -> Report<T, E>
    where
        E: Send,
    {
        self.run_prepared(items, |_| Ok(()), |conn, item, ()| work(conn, item), sink)
    }

    /// The same, and what needs no connection is done before there is one: `prepare` runs over all items of a chunk
    /// first, and once. It parses, fetches or packs while other workers have the connections. Its errors and panics
    /// cost their items alone, and no transaction.
    ///
    /// # Panics
    ///
    /// As [`for_each`](Self::for_each).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::batch::Batch;
    /// use millpond::sqlite::{SqliteManager, SqlitePool, abort};
    ///
    /// let pool = SqlitePool::new(SqliteManager::memory())?;
    /// pool.write(|conn| conn.execute_batch("CREATE TABLE n (n INTEGER)"))?;
    /// let mut bad = Vec::new();
    /// let report = Batch::sqlite(&pool).chunk(100).go_on().run_prepared(
    ///     ["1", "2", "three"],
    ///     |text| text.parse::<i64>().map_err(abort),
    ///     |conn, _, n| conn.execute("INSERT INTO n VALUES (?1)", [n]),
    ///     |outcome| bad.extend(outcome.result.err().map(|_| outcome.item)),
    /// );
    /// assert_eq!((report.counts.done, bad), (2, vec!["three"]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_prepared<T: Send, V, R: Send>(
        self,
        items: impl IntoIterator<Item = T>,
        prepare: impl Fn(&T) -> Result<V, E> + Sync,
        work: impl Fn(L::Conn<'_>, &T, &V) -> Result<R, E> + Sync,
        sink: impl FnMut(Outcome<T, R, E>),
    ) -> Report<T, E>
    where
        E: Send,
    {
        let sizes = match self.sizes() {
            Ok(sizes) => sizes,
            Err(error) => {
                return Report { counts: Counts::default(), end: End::Pool(error), failures: Vec::new() };
            }
        };
        let brake = Brake::new(self.stop_flag, self.go_on, self.stop_after);
        let on_commit = self.on_commit.as_ref();
        let job = Job { lender: &self.lender, brake: &brake, on_commit, prepare: &prepare, work: &work };
        let counts = crew::run(&job, sizes, items.into_iter(), self.progress, sink);
        Report { counts, end: brake.into_end(), failures: Vec::new() }
    }

    fn sizes(&self) -> Result<Sizes, Error> {
        let workers = self.workers.unwrap_or_else(|| self.lender.workers().max(1));
        let read_ahead = self.read_ahead.unwrap_or_else(|| self.chunk.saturating_mul(workers).saturating_mul(2));
        let mut problems = Vec::new();
        if workers == 0 {
            problems.push("workers is 0, so no item can be done".to_owned());
        }
        if self.chunk == 0 {
            problems.push("chunk is 0, so no item can be done".to_owned());
        }
        if read_ahead < self.chunk {
            problems.push(format!("read_ahead is {read_ahead}, less than a chunk of {}", self.chunk));
        }
        if self.stop_after == 0 {
            problems.push("stop_after is 0: the first error is number 1".to_owned());
        }
        if self.on_commit.is_some() && !self.lender.is_transactional() {
            problems.push("on_commit is set, and there are no transactions".to_owned());
        }
        if problems.is_empty() {
            return Ok(Sizes { workers, chunk: self.chunk, read_ahead });
        }
        Err(Error::config(&problems))
    }
}

/// What `holders` tells of a chunk: it is borrowed on a thread of ours, from a line of ours.
fn label(at: &Location<'_>) -> String {
    format!("batch at {}:{}", at.file(), at.line())
}

impl<L: Lend, E> fmt::Debug for Batch<'_, L, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("workers", &self.workers)
            .field("chunk", &self.chunk)
            .field("read_ahead", &self.read_ahead)
            .field("stop_after", &self.stop_after)
            .finish_non_exhaustive()
    }
}
