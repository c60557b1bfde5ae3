//! Which connections of which databases this thread holds, so that nested work uses the same one.

use super::manager::SqliteManager;
use crate::PooledConnection;
use rusqlite::Connection;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A connection that this thread works with, from the moment it is borrowed. Whoever works with it holds it too; it goes
/// home when the last one is done.
#[derive(Clone)]
pub(super) struct Held(Rc<Inner>);

struct Inner {
    pool: u64,
    writes: bool,
    conn: PooledConnection<SqliteManager>,
}

thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// Ends with the work that borrowed the connection.
pub(super) struct Working(Held);

impl Held {
    /// What this thread holds of a pool: the writer, if it does, because that sees what it has written; else a reader,
    /// unless there is something to write.
    pub(super) fn by_this_thread(pool: u64, to_write: bool) -> Option<Self> {
        let found = HELD.try_with(|held| {
            let held = held.borrow();
            let mine = |held: &&Self| held.0.pool == pool && (held.0.writes || !to_write);
            held.iter().rfind(|held| mine(held) && held.0.writes).or_else(|| held.iter().rfind(mine)).cloned()
        });
        found.ok().flatten()
    }

    pub(super) fn conn(&self) -> &Connection {
        &self.0.conn
    }

    /// Sets for how long statements wait for locks.
    pub(super) fn be_patient(&self, timeout: Duration) -> rusqlite::Result<()> {
        self.conn().busy_timeout(timeout)
    }
}

impl Working {
    pub(super) fn begin(pool: u64, writes: bool, conn: PooledConnection<SqliteManager>) -> Self {
        let held = Held(Rc::new(Inner { pool, writes, conn }));
        HELD.with_borrow_mut(|all| all.push(held.clone()));
        Self(held)
    }

    pub(super) fn held(&self) -> &Held {
        &self.0
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // What is nested ends before what it is nested in, so this is the last one.
        let ended = HELD.with_borrow_mut(Vec::pop);
        debug_assert!(ended.is_some_and(|ended| Rc::ptr_eq(&ended.0, &self.0.0)), "work ends in the order of nesting");
    }
}
