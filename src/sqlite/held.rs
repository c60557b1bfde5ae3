//! Which connections of which databases this thread works with, so that nested work uses the same ones.

use super::limit;
use super::manager::SqliteManager;
use crate::PooledConnection;
use rusqlite::Connection;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// A connection that this thread works with, from the moment it is borrowed. Whoever works with it holds it too; it goes
/// home when the last one is done.
#[derive(Clone)]
pub(super) struct Held(Rc<Inner>);

struct Inner {
    pool: u64,
    /// The number of the database.
    database: u64,
    writes: bool,
    /// Locks are waited for as the thread's deadline allows.
    hurried: bool,
    /// The pool has begun a transaction on it, and has neither committed nor undone it.
    in_transaction: Cell<bool>,
    conn: PooledConnection<SqliteManager>,
}

thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// Ends with the work that borrowed the connection.
pub(super) struct Working(Held);

impl Held {
    /// What this thread works with of a pool: the writer, if it does, because that sees what it has written; else a reader,
    /// unless there is something to write.
    pub(super) fn by_this_thread(pool: u64, to_write: bool) -> Option<Self> {
        let mine = |held: &&Self| held.0.pool == pool;
        let writer = |held: &&Self| mine(held) && held.0.writes;
        let found = look(|held| held.iter().rfind(writer).or_else(|| held.iter().rfind(mine)).cloned());
        found.flatten().filter(|held| held.0.writes || !to_write)
    }

    /// Whether this thread reads from a pool at this moment: a transaction is open, or a statement has not come to its end.
    pub(super) fn reads(pool: u64) -> bool {
        Self::by_this_thread(pool, false).is_some_and(|held| {
            let conn = held.conn();
            !held.0.writes && (!conn.is_autocommit() || conn.is_busy())
        })
    }

    /// Whether a commit to a database on this thread is not for others to make: the pool has begun the transaction, and ends
    /// it. What else would be committed then is what comes after SQLite has rolled back by itself, or a `COMMIT` in the
    /// middle.
    pub(super) fn forbids_commit(database: u64) -> bool {
        let begun = |held: &Self| held.0.database == database && held.0.writes && held.0.in_transaction.get();
        look(|held| held.iter().any(begun)).unwrap_or(false)
    }

    pub(super) fn conn(&self) -> &Connection {
        &self.0.conn
    }

    pub(super) fn is_writer(&self) -> bool {
        self.0.writes
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.0.hurried
    }

    pub(super) fn in_transaction(&self) -> &Cell<bool> {
        &self.0.in_transaction
    }

    /// Sets for how long statements wait for locks.
    pub(super) fn be_patient(&self, timeout: Duration) -> rusqlite::Result<()> {
        self.conn().busy_timeout(timeout)
    }
}

/// None where the thread ends and its list is gone: then nothing is nested any more.
fn look<R>(f: impl FnOnce(&[Held]) -> R) -> Option<R> {
    HELD.try_with(|held| f(&held.borrow())).ok()
}

impl Working {
    #[allow(unused_mut, reason = "rusqlite needs it from 0.41 on")]
    pub(super) fn begin(
        (pool, database): (u64, u64),
        writes: bool,
        mut conn: PooledConnection<SqliteManager>,
    ) -> rusqlite::Result<Self> {
        let hurried = limit::left().is_some();
        if hurried {
            // Its return puts the usual time-out back.
            conn.busy_handler(Some(limit::wait_for_lock as fn(i32) -> bool))?;
        }
        let held = Held(Rc::new(Inner { pool, database, writes, hurried, in_transaction: Cell::new(false), conn }));
        // Where the thread ends, nothing is nested any more.
        let _listed = HELD.try_with(|all| all.borrow_mut().push(held.clone()));
        Ok(Self(held))
    }

    pub(super) fn held(&self) -> &Held {
        &self.0
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // What is nested ends before what it is nested in, so this is the last one. It is dropped outside of the list.
        let ended = HELD.try_with(|held| held.borrow_mut().pop());
        drop(ended);
    }
}
