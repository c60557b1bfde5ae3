//! A pool of one writer and many readers over one database.

use super::builder::SqlitePoolBuilder;
use super::error::Error;
use super::held::{Held, Working};
use super::limit::{self, Limited};
use super::manager::SqliteManager;
use super::transaction::{self, Begin};
use crate::clock::Clock;
use crate::{Pool, PooledConnection, Stats};
use rusqlite::Connection;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One writer and many readers over one database: a handle, cheap to clone and to share between threads.
///
/// SQLite lets one connection write at a time. Threads that each write on a connection of their own meet in its busy
/// handler, which sleeps and looks again: who comes next is luck, and the unlucky wait for a hundred times as long as the
/// others. Here writers queue in the pool, which wakes them in turn, while readers go on beside them.
///
/// | call | connection | transaction |
/// |---|---|---|
/// | [`read`](Self::read) | a reader, which cannot write | none: each statement for itself |
/// | [`transaction`](Self::transaction) | a reader | deferred: all statements see one state |
/// | [`write`](Self::write) | the writer | none |
/// | [`write_transaction`](Self::write_transaction) | the writer | immediate: committed if the closure succeeds |
///
/// Each of them has a sister that ends in `_timeout` and interrupts the work when its time is over.
///
/// **Work within work.** What is called from a closure may use the pool without being passed anything. On the thread that
/// has the writer everything runs on the writer, and sees what was written; a transaction within one is a savepoint, so it
/// can fail alone. On a thread that reads, reading goes on with the same reader; writing takes the writer besides. Nobody
/// who holds the writer waits for another connection, so threads cannot wait for each other. (Without a write-ahead log, which
/// databases in memory do not have, writing within reading fails at once: the thread's own reading would be in the way.)
/// This goes by threads: a closure that lets its thread do a stranger's work meanwhile, as thread pools that steal work do,
/// takes that work into its transaction.
///
/// Once SQLite has rolled a transaction back by itself, which a full disk or a deadline within it makes it do, the rest of the
/// closure can change nothing: its statements fail, and the call returns an error.
///
/// # Examples
///
/// ```
/// use millpond::sqlite::{SqliteManager, SqlitePool};
/// use std::thread;
///
/// # let folder = std::env::temp_dir().join(format!("millpond-sqlite-pool-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("bank.db");
/// let manager = SqliteManager::file(&path).on_first_connect(|conn| {
///     conn.execute_batch(
///         "CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
///          INSERT OR IGNORE INTO account VALUES (1, 100), (2, 100)",
///     )
/// });
/// let pool = SqlitePool::new(manager)?;
///
/// thread::scope(|scope| {
///     for _ in 0..8 {
///         scope.spawn(|| {
///             pool.write_transaction(|conn| {
///                 let balance: i64 = conn.query_row("SELECT balance FROM account WHERE id = 1", [], |row| row.get(0))?;
///                 conn.execute("UPDATE account SET balance = ?1 WHERE id = 1", [balance - 10])?;
///                 conn.execute("UPDATE account SET balance = balance + 10 WHERE id = 2", [])?;
///                 Ok(())
///             })
///             .expect("nobody is in the way")
///         });
///     }
/// });
///
/// let balances: (i64, i64) = pool.transaction(|conn| {
///     let balance = |id| conn.query_row("SELECT balance FROM account WHERE id = ?1", [id], |row| row.get(0));
///     Ok((balance(1)?, balance(2)?))
/// })?;
/// assert_eq!(balances, (20, 180));
/// # pool.close_and_wait(std::time::Duration::from_secs(10))?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqlitePool {
    inner: Arc<Inner>,
}

struct Inner {
    number: u64,
    readers: Pool<SqliteManager>,
    writer: Pool<SqliteManager>,
}

/// The numbers of a [`SqlitePool`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteStats {
    /// Of the readers.
    pub readers: Stats,
    /// Of the writer.
    pub writer: Stats,
}

impl SqlitePool {
    /// A pool with the default settings.
    ///
    /// # Errors
    ///
    /// As [`SqlitePoolBuilder::build`].
    pub fn new(manager: SqliteManager) -> Result<Self, Error> {
        Self::builder(manager).build()
    }

    /// A pool over the database in a file, with all defaults.
    ///
    /// # Errors
    ///
    /// As [`SqlitePoolBuilder::build`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::new(SqliteManager::file(path))
    }

    pub(super) fn of(readers: Pool<SqliteManager>, writer: Pool<SqliteManager>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { inner: Arc::new(Inner { number, readers, writer }) }
    }

    /// Settings for a pool over this database.
    pub fn builder(manager: SqliteManager) -> SqlitePoolBuilder {
        SqlitePoolBuilder::new(manager)
    }

    /// Calls `f` with a reader.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Pool`](super::ErrorKind::Pool) where no connection could be had; what `f` fails with.
    #[track_caller]
    pub fn read<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.work(false, Begin::Not, None, f)
    }

    /// [`read`](Self::read), which is interrupted when `timeout` is over. It covers waiting for a connection too, and all work
    /// within. The connection stays good.
    ///
    /// SQLite looks at the clock every thousand steps of a statement, and when it waits for a lock. What it does not interrupt
    /// is the closure itself, a function of yours that a statement calls, and the disk.
    ///
    /// # Errors
    ///
    /// As `read`, and [`ErrorKind::Deadline`](super::ErrorKind::Deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::sqlite::{ErrorKind, SqliteManager, SqlitePool};
    /// use std::time::Duration;
    ///
    /// let pool = SqlitePool::new(SqliteManager::memory())?;
    /// let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    /// let error = pool
    ///     .read_timeout(Duration::from_millis(20), |conn| conn.query_row(endless, [], |row| row.get::<_, i64>(0)))
    ///     .unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Deadline);
    /// assert_eq!(pool.read(|conn| conn.query_row("SELECT 17", [], |row| row.get::<_, i64>(0)))?, 17);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn read_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.work(false, Begin::Not, Some(timeout), f)
    }

    /// Calls `f` with a reader, in a deferred transaction: all its statements see the same state of the database. On a thread
    /// that has the writer it is a transaction, or a savepoint, of that.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn transaction<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.work(false, Begin::Deferred, None, f)
    }

    /// [`transaction`](Self::transaction), which is interrupted when `timeout` is over.
    ///
    /// # Errors
    ///
    /// As [`read_timeout`](Self::read_timeout).
    #[track_caller]
    pub fn transaction_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.work(false, Begin::Deferred, Some(timeout), f)
    }

    /// Calls `f` with the writer, when it is this thread's turn. Each statement is committed for itself; a transaction that
    /// `f` begins it has to end, or it is rolled back, and that is an error.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn write<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.work(true, Begin::Not, None, f)
    }

    /// [`write`](Self::write), which is interrupted when `timeout` is over.
    ///
    /// # Errors
    ///
    /// As [`read_timeout`](Self::read_timeout).
    #[track_caller]
    pub fn write_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.work(true, Begin::Not, Some(timeout), f)
    }

    /// Calls `f` with the writer, in an immediate transaction: committed if `f` succeeds, rolled back if it fails or panics.
    /// Within another one it is a savepoint, and can fail alone.
    ///
    /// `f` is called once. What is tried again while another *process* writes is beginning, and committing, for as long as
    /// the [busy time-out](SqliteManager::busy_timeout): there SQLite says that it is safe.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`ErrorKind::Aborted`](super::ErrorKind::Aborted) with an error of `f`'s
    /// [own](super::abort); [`ErrorKind::RolledBack`](super::ErrorKind::RolledBack) where there was nothing left to commit.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::sqlite::{SqliteManager, SqlitePool, abort};
    ///
    /// let pool = SqlitePool::new(SqliteManager::memory())?;
    /// pool.write(|conn| conn.execute_batch("CREATE TABLE note (text TEXT)"))?;
    /// let note = |text: &'static str| pool.write_transaction(move |conn| conn.execute("INSERT INTO note VALUES (?1)", [text]));
    ///
    /// pool.write_transaction(|_| {
    ///     note("kept")?; // on the same connection, in a savepoint
    ///     let failed = pool.write_transaction(|_| {
    ///         note("lost")?;
    ///         Err::<(), _>(abort("no"))
    ///     });
    ///     assert!(failed.is_err());
    ///     Ok(())
    /// })?;
    /// let notes: String = pool.read(|conn| conn.query_row("SELECT group_concat(text) FROM note", [], |row| row.get(0)))?;
    /// assert_eq!(notes, "kept");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn write_transaction<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.work(true, Begin::Immediate, None, f)
    }

    /// [`write_transaction`](Self::write_transaction), which is interrupted and rolled back when `timeout` is over.
    ///
    /// # Errors
    ///
    /// As `write_transaction` and [`read_timeout`](Self::read_timeout).
    #[track_caller]
    pub fn write_transaction_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.work(true, Begin::Immediate, Some(timeout), f)
    }

    /// Everything that runs a closure comes through here.
    #[track_caller]
    fn work<T>(
        &self,
        to_write: bool,
        begin: Begin,
        timeout: Option<Duration>,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let Inner { number, readers, writer, .. } = &*self.inner;
        // What this thread holds may be the connection of the process that this one was forked off.
        writer.refuse_forked()?;
        let patience = writer.manager().patience();
        // No clock is read where there is no deadline.
        let limited = timeout.map(|timeout| Limited::begin(Clock::System.now().after(timeout), patience));
        let done = match Held::by_this_thread(*number, to_write) {
            Some(held) => run(&held, begin, patience, f),
            None => {
                if to_write && !writer.manager().readers_are_apart() && Held::reads(*number) {
                    return Err(in_its_own_way(writer.name()));
                }
                let pool = if to_write { writer } else { readers };
                let conn = match limit::left() {
                    None => pool.get()?,
                    Some(left) => pool.get_timeout(left)?,
                };
                let working = Working::begin((*number, writer.manager().database_id()), to_write, conn)?;
                run(working.held(), begin, patience, f)
            }
        };
        let late = limit::is_over();
        drop(limited);
        done.map_err(|error| if late || error.is_late() { error.at_deadline(timeout) } else { error })
    }

    /// Borrows a reader, for as long as the guard lives: for what a closure cannot do.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`].
    #[track_caller]
    pub fn reader(&self) -> Result<PooledConnection<SqliteManager>, crate::Error> {
        self.inner.readers.get()
    }

    /// Borrows the writer, for as long as the guard lives. A thread that holds it so cannot [`write`](Self::write) besides:
    /// that fails at once, as [`Deadlock`](crate::ErrorKind::Deadlock).
    ///
    /// # Errors
    ///
    /// As [`Pool::get`].
    #[track_caller]
    pub fn writer(&self) -> Result<PooledConnection<SqliteManager>, crate::Error> {
        self.inner.writer.get()
    }

    /// The pool of the readers: to resize it, to see who holds what, to watch it.
    #[must_use]
    pub fn readers(&self) -> &Pool<SqliteManager> {
        &self.inner.readers
    }

    /// The pool of the one writer, whose size is to stay one.
    #[must_use]
    pub fn writers(&self) -> &Pool<SqliteManager> {
        &self.inner.writer
    }

    /// The numbers of both pools.
    #[must_use]
    pub fn stats(&self) -> SqliteStats {
        SqliteStats { readers: self.inner.readers.stats(), writer: self.inner.writer.stats() }
    }

    /// Brings the statistics up to date by which SQLite plans its queries (`PRAGMA optimize`), on a connection of its own, for no
    /// longer than 100 ms. It is done when connections are closed; a program that runs for long calls this once a day.
    ///
    /// # Errors
    ///
    /// The database cannot be opened.
    pub fn optimize(&self) -> Result<(), Error> {
        Ok(self.inner.writer.manager().optimize_now()?)
    }

    /// Closes the pool: who waits fails now, idle connections are closed, borrowed ones when they come back.
    pub fn close(&self) {
        self.inner.readers.close();
        self.inner.writer.close();
    }

    /// Closes the pool and waits until everything is closed. The last connection to go takes the log over into the file and
    /// removes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when `timeout` was over first, with who still holds what.
    pub fn close_and_wait(&self, timeout: Duration) -> Result<(), crate::Error> {
        let until = Clock::System.now().after(timeout);
        self.close();
        let writer = self.inner.writer.close_and_wait(timeout);
        let readers = self.inner.readers.close_and_wait(until.since(Clock::System.now()));
        match (writer, readers) {
            (Err(writer), Err(readers)) => {
                let holders = [writer.holders(), readers.holders()].concat();
                Err(crate::Error::late(writer.kind(), format!("{writer}; {readers}"), holders))
            }
            (writer, readers) => writer.and(readers),
        }
    }
}

/// Where there is no write-ahead log, the writer waits for readers to end, and this thread is one.
fn in_its_own_way(writer: &str) -> Error {
    let text = format!(
        "this thread reads from the database of {writer:?} at this moment, and without a write-ahead log its own reading \
         would be in its way: read to the end first, or begin with the writing"
    );
    crate::Error::plain(crate::ErrorKind::Deadlock, text).into()
}

/// Runs the closure on a connection that this thread works with.
fn run<T>(
    held: &Held,
    begin: Begin,
    patience: Duration,
    f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    // One that was borrowed before there was a deadline waits for locks as ever.
    let hasty = match limit::left() {
        Some(left) if !held.is_hurried() => Some(Hasty::begin(held, left.min(patience), patience)?),
        _ => None,
    };
    let done = transaction::run(held, begin, patience, f);
    // SQLite gives a lock up when the next pause would be too long, which is a little early.
    let hurried = hasty.as_ref().is_some_and(|hasty| hasty.left < patience);
    drop(hasty);
    done.map_err(|error| if hurried && error.is_busy() { error.at_deadline(None) } else { error })
}

/// A connection that waits less than usual for locks, until this is dropped.
struct Hasty<'a> {
    held: &'a Held,
    left: Duration,
    patience: Duration,
}

impl<'a> Hasty<'a> {
    fn begin(held: &'a Held, left: Duration, patience: Duration) -> rusqlite::Result<Self> {
        held.be_patient(left)?;
        Ok(Self { held, left, patience })
    }
}

impl Drop for Hasty<'_> {
    fn drop(&mut self) {
        // It only writes down a number.
        if let Err(error) = self.held.be_patient(self.patience) {
            log::debug!("the busy time-out cannot be put back: {error}");
        }
    }
}

impl fmt::Debug for SqlitePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlitePool")
            .field("readers", &self.inner.readers)
            .field("writer", &self.inner.writer)
            .finish_non_exhaustive()
    }
}
