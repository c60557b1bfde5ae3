//! A program written for the crate r2d2, with one line changed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use millpond::r2d2;
use millpond_drivers::{SHORT, TempDir};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;

type Pool = r2d2::Pool<SqliteConnectionManager>;
type Guard = r2d2::PooledConnection<SqliteConnectionManager>;

/// The customizer that most users of r2d2 and SQLite write.
#[derive(Debug)]
struct Options {
    foreign_keys: bool,
    busy_timeout: Duration,
    acquired: Arc<AtomicU32>,
}

impl r2d2::CustomizeConnection<Connection, rusqlite::Error> for Options {
    fn on_acquire(&self, connection: &mut Connection) -> Result<(), rusqlite::Error> {
        connection.busy_timeout(self.busy_timeout)?;
        if self.foreign_keys {
            connection.execute_batch("PRAGMA foreign_keys = ON")?;
        }
        self.acquired.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Errors(Arc<AtomicU32>);

impl<E: fmt::Debug> r2d2::HandleError<E> for Errors {
    fn handle_error(&self, _: E) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn insert(pool: &Pool, n: u32) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    let connection: Guard = pool.get()?;
    Ok(connection.execute("INSERT INTO t VALUES (?1)", [n])?)
}

#[test]
fn a_program_with_a_builder_and_a_customizer_runs() {
    let dir = TempDir::new("r2d2");
    let acquired = Arc::new(AtomicU32::new(0));
    let options =
        Options { foreign_keys: true, busy_timeout: Duration::from_secs(30), acquired: Arc::clone(&acquired) };
    let manager = SqliteConnectionManager::file(dir.path().join("a.db"));
    let pool: Pool = r2d2::Pool::builder()
        .max_size(4)
        .min_idle(Some(1))
        .test_on_check_out(true)
        .max_lifetime(Some(Duration::from_secs(600)))
        .idle_timeout(Some(Duration::from_secs(60)))
        .connection_timeout(Duration::from_secs(30))
        .connection_customizer(Box::new(options))
        .error_handler(Box::new(Errors::default()))
        .build(manager)
        .expect("a file can be made");
    assert_eq!(pool.max_size(), 4);
    assert_eq!(pool.min_idle(), Some(1));
    pool.get().expect("it is idle").execute_batch("CREATE TABLE t (n INTEGER)").expect("it is a new file");
    let workers: Vec<_> = (0..8)
        .map(|n| {
            let pool = pool.clone();
            thread::spawn(move || insert(&pool, n).map_err(|error| error.to_string()))
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.join().expect("it does not panic"), Ok(1));
    }
    let held: Vec<Guard> = (0..4).map(|_| pool.get().expect("four are allowed")).collect();
    assert!(pool.try_get().is_none());
    assert!(pool.get_timeout(Duration::from_millis(10)).is_err());
    assert_eq!((pool.state().connections, pool.state().idle_connections), (4, 0));
    let count: u32 = held
        .first()
        .expect("there are four")
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .expect("the table is there");
    assert_eq!(count, 8);
    drop(held);
    assert_eq!(pool.state().idle_connections, 4);
    assert_eq!(acquired.load(Ordering::SeqCst), 4, "one call for each connection");
}

#[test]
fn a_pool_of_one_line_runs_and_is_moved_between_threads() {
    let dir = TempDir::new("r2d2");
    let pool = r2d2::Pool::new(SqliteConnectionManager::file(dir.path().join("a.db"))).expect("a file can be made");
    let guard = pool.get().expect("it is idle");
    let one = thread::spawn(move || guard.query_row("SELECT 1", [], |row| row.get(0)));
    assert_eq!(one.join().expect("it does not panic"), Ok(1));
}

#[test]
fn the_error_of_a_database_that_cannot_be_opened_is_in_the_text() {
    let dir = TempDir::new("r2d2");
    let errors = Arc::new(AtomicU32::new(0));
    let error = r2d2::Pool::builder()
        .connection_timeout(SHORT)
        .error_handler(Box::new(Errors(Arc::clone(&errors))))
        .build(SqliteConnectionManager::file(dir.path().join("missing").join("a.db")))
        .map(drop)
        .expect_err("there is no directory");
    // r2d2 appends the last error of the manager to its own text.
    assert!(error.to_string().contains("unable to open database file"), "{error}");
    assert!(errors.load(Ordering::SeqCst) >= 1, "the handler was told");
}
