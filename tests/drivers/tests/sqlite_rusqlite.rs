//! SQLite files through rusqlite: the manager of r2d2_sqlite as it is, and plain
//! closures, which need no adapter crate.

use std::{error::Error as _, io, sync::Barrier, thread};

use millpond::{ErrorKind, FnManager, Manager, Pool, PooledConnection};
use millpond_drivers::{PATIENCE, SHORT, TempDir, assert_whole};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;

fn answers(connection: &mut Connection) {
    let one = connection.query_row("SELECT 1", [], |row| row.get(0));
    assert_eq!(one, Ok(1));
}

fn rows(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("the table is there")
}

/// Writers wait for each other: a busy machine must not turn that into an error.
fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch("PRAGMA synchronous = OFF; CREATE TABLE IF NOT EXISTS t (n INTEGER)")
}

fn open(file: &std::path::Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(file)?;
    set_up(&mut connection)?;
    Ok(connection)
}

/// Eight threads write fifty rows each; all of them must be there in the end.
fn eight_writers<M>(pool: &Pool<M>)
where
    M: Manager<Connection = Connection>,
{
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for worker in 0..8 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for n in 0..50 {
                    let connection = pool.get_timeout(PATIENCE).expect("there are four");
                    connection.execute("INSERT INTO t VALUES (?1)", [worker * 50 + n]).expect("writers wait");
                }
            });
        }
    });
    assert_eq!(pool.with(|connection| rows(connection)).expect("it is idle"), 400);
    let stats = pool.stats();
    assert!(stats.opened - stats.closed.total() <= 4, "{stats:?}");
    assert_whole(pool, answers);
}

#[test]
fn the_manager_of_r2d2_sqlite_is_taken_as_it_is() {
    let dir = TempDir::new("sqlite");
    let manager = SqliteConnectionManager::file(dir.path().join("a.db")).with_init(set_up);
    let pool = Pool::builder(manager).max_size(4).build().expect("a file can be made");
    eight_writers(&pool);
}

#[test]
fn the_shortest_program_works() {
    let dir = TempDir::new("sqlite");
    let pool = Pool::new(SqliteConnectionManager::file(dir.path().join("a.db"))).expect("a file can be made");
    pool.get().expect("it is idle").execute_batch("CREATE TABLE t (n INTEGER)").expect("it is a new file");
    assert_eq!(pool.get().map(|connection| rows(&connection)).expect("it is idle"), 0);
    assert_whole(&pool, answers);
}

#[test]
fn a_closure_that_opens_a_file_is_a_manager() {
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("a.db");
    let pool = Pool::builder(move || open(&file)).max_size(4).build().expect("a file can be made");
    eight_writers(&pool);
}

#[test]
fn a_directory_that_is_not_there_gives_the_error_of_sqlite() {
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("missing").join("a.db");
    let pool = Pool::builder(SqliteConnectionManager::file(&file))
        .connection_timeout(SHORT)
        .max_size(2)
        .build_lazy()
        .expect("nothing is opened");
    let error = pool.get().expect_err("there is no directory");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<rusqlite::Error>());
    let code = cause.and_then(rusqlite::Error::sqlite_error_code);
    assert_eq!(code, Some(rusqlite::ErrorCode::CannotOpen), "{error:?}");
    std::fs::create_dir(dir.path().join("missing")).expect("it is ours");
    assert_whole(&pool, answers);
}

/// Panics on another thread while it holds the only connection inside a
/// transaction, and looks at what the next user gets.
fn panic_in_a_transaction<M>(pool: &Pool<M>)
where
    M: Manager<Connection = Connection>,
{
    thread::scope(|scope| {
        let panicked = scope.spawn(|| {
            let connection = pool.get_timeout(PATIENCE).expect("nobody else is here");
            connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").expect("nobody else writes");
            // As a panic, without its message in the output.
            std::panic::resume_unwind(Box::new("a bug in the user's code"));
        });
        panicked.join().expect_err("it panicked");
    });
    let connection = pool.get_timeout(PATIENCE).expect("the place came back");
    assert!(connection.is_autocommit(), "the transaction reached the next user");
    assert_eq!(rows(&connection), 0, "it was rolled back");
    connection.execute("INSERT INTO t VALUES (2)", []).expect("no lock is left behind");
    drop(connection);
    assert_whole(pool, answers);
}

#[test]
fn a_panic_inside_a_transaction_reaches_nobody_through_the_r2d2_manager() {
    let dir = TempDir::new("sqlite");
    let manager = SqliteConnectionManager::file(dir.path().join("a.db")).with_init(set_up);
    panic_in_a_transaction(&Pool::builder(manager).max_size(1).build().expect("a file can be made"));
}

#[test]
fn a_panic_inside_a_transaction_reaches_nobody_through_a_closure() {
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("a.db");
    panic_in_a_transaction(&Pool::builder(move || open(&file)).max_size(1).build().expect("a file can be made"));
}

#[test]
fn a_hundred_panics_cost_no_place() {
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("a.db");
    let pool = Pool::builder(move || open(&file)).max_size(3).build().expect("a file can be made");
    thread::scope(|scope| {
        for _ in 0..100 {
            let panicked = scope.spawn(|| {
                let _connection = pool.get_timeout(PATIENCE).expect("a place comes free");
                std::panic::resume_unwind(Box::new("a bug in the user's code"));
            });
            drop(panicked.join());
        }
    });
    assert_whole(&pool, answers);
}

#[test]
fn a_reset_closure_rolls_back_what_was_left_open() {
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("a.db");
    let manager = FnManager::new(move || open(&file)).reset(|connection: &mut Connection| {
        if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
    });
    let pool = Pool::builder(manager).max_size(1).build().expect("a file can be made");
    let connection = pool.get().expect("it is idle");
    let first = PooledConnection::id(&connection);
    connection.execute_batch("BEGIN; INSERT INTO t VALUES (1)").expect("nobody else writes");
    drop(connection);
    let connection = pool.get().expect("it came back");
    assert_eq!(PooledConnection::id(&connection), first, "cleaned, not replaced");
    assert!(connection.is_autocommit());
    assert_eq!(rows(&connection), 0);
    drop(connection);
    assert_whole(&pool, answers);
}

#[test]
fn a_guard_may_be_taken_on_one_thread_and_dropped_on_another() {
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("a.db");
    let pool = Pool::builder(move || open(&file)).max_size(1).build().expect("a file can be made");
    let connection = pool.get().expect("it is idle");
    let other = pool.clone();
    let moved = thread::spawn(move || {
        assert_eq!(rows(&connection), 0);
        drop(connection);
        other.get_timeout(PATIENCE).map(|connection| rows(&connection))
    });
    assert_eq!(moved.join().expect("it does not panic").expect("it came back"), 0);
    assert_whole(&pool, answers);
}

#[test]
fn errors_of_the_pool_fit_a_boxed_error() {
    fn work(
        pool: &Pool<impl Manager<Connection = Connection>>,
    ) -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
        let connection = pool.get()?;
        Ok(connection.query_row("SELECT 41 + 1", [], |row| row.get(0))?)
    }
    let dir = TempDir::new("sqlite");
    let file = dir.path().join("a.db");
    let pool = Pool::new(move || open(&file)).expect("a file can be made");
    assert_eq!(work(&pool).map_err(io::Error::other).expect("it is idle"), 42);
}
