//! r2d2_sqlite, whose manager never calls a connection broken.

use r2d2_sqlite::SqliteConnectionManager;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;
use temp_dir::TempDir;

#[allow(unreachable_pub, reason = "public in the library that it is a part of")]
#[path = "../../tests/drivers/src/temp_dir.rs"]
mod temp_dir;

type Pool = r2d2::Pool<SqliteConnectionManager>;

/// A pool over a new file with an empty table.
fn pool(dir: &TempDir, size: u32) -> Pool {
    let manager = SqliteConnectionManager::file(dir.path().join("a.db"))
        .with_init(|conn| conn.busy_timeout(Duration::from_secs(30)));
    let pool = r2d2::Pool::builder().max_size(size).build(manager).expect("a file can be made");
    let table = "PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER)";
    pool.get().expect("it is idle").execute_batch(table).expect("it is a new file");
    pool
}

fn count(pool: &Pool) -> i64 {
    let conn = pool.get().expect("a place comes free");
    conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("the table is there")
}

#[test]
fn threads_share_connections_and_millpond_counts_them() {
    let dir = TempDir::new("compat-sqlite");
    let pool = pool(&dir, 4);
    let workers: Vec<_> = (0..8)
        .map(|n| {
            let pool = pool.clone();
            thread::spawn(move || {
                let conn = pool.get().expect("a place comes free");
                conn.execute("INSERT INTO t VALUES (?1)", [n]).expect("writers wait")
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.join().expect("it does not panic"), 1);
    }
    assert_eq!(count(&pool), 8);
    let held = pool.get().expect("it is idle");
    let stats = pool.stats();
    assert_eq!((stats.max_size, stats.size, stats.in_use, stats.opened), (4, 4, 1, 4));
    assert_eq!(stats.checkouts, 11);
    let holders = pool.holders();
    let place = holders.first().and_then(|holder| holder.location()).expect("somebody holds one");
    assert!(place.file().ends_with("sqlite.rs"), "the line of the checkout is this program's: {place}");
    drop(held);
}

#[test]
fn a_transaction_that_is_dropped_is_rolled_back_and_one_that_is_committed_stays() {
    let dir = TempDir::new("compat-sqlite");
    let pool = pool(&dir, 2);
    let mut conn = pool.get().expect("it is idle");
    let change = conn.transaction().expect("none is open");
    change.execute("INSERT INTO t VALUES (1)", []).expect("nobody else writes");
    change.commit().expect("nobody else writes");
    let change = conn.transaction().expect("none is open");
    change.execute("INSERT INTO t VALUES (2)", []).expect("nobody else writes");
    drop(change);
    drop(conn);
    assert_eq!(count(&pool), 1);
}

#[test]
fn a_connection_that_a_panicking_thread_drops_is_not_lent_again() {
    let dir = TempDir::new("compat-sqlite");
    let pool = pool(&dir, 1);
    let theirs = pool.clone();
    let panicked = thread::spawn(move || {
        let conn = theirs.get().expect("it is idle");
        conn.execute_batch("BEGIN; INSERT INTO t VALUES (1)").expect("nobody else writes");
        resume_unwind(Box::new("a bug in the user's code"))
    });
    panicked.join().expect_err("it panicked");
    assert_eq!(count(&pool), 0, "with r2d2 it would be the connection with the open transaction");
    assert_eq!(pool.stats().closed.total(), 1);
}
