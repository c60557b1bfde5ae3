//! diesel, whose traits are implemented for `r2d2::PooledConnection` and for nobody else's.

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection, TestCustomizer};
use schema::items;
use std::error::Error as _;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;
use temp_dir::TempDir;

#[allow(unreachable_pub, reason = "public in the library that it is a part of")]
#[path = "../../tests/drivers/src/temp_dir.rs"]
mod temp_dir;

mod schema {
    diesel::table! {
        items (id) {
            id -> Integer,
            name -> Text,
        }
    }
}

type Manager = ConnectionManager<SqliteConnection>;
type Guard = PooledConnection<Manager>;

fn manager(dir: &TempDir) -> Manager {
    let file = dir.path().join("a.db");
    Manager::new(file.to_str().expect("its path is plain text"))
}

/// A pool over a new file with an empty table.
fn pool(dir: &TempDir, size: u32) -> Pool<Manager> {
    let pool = Pool::builder().max_size(size).build(manager(dir)).expect("a file can be made");
    let table = "PRAGMA journal_mode = WAL;
        CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)";
    pool.get().expect("it is idle").batch_execute(table).expect("it is a new file");
    pool
}

fn insert(conn: &mut Guard, name: &str) -> QueryResult<usize> {
    conn.batch_execute("PRAGMA busy_timeout = 30000")?;
    diesel::insert_into(items::table).values(items::name.eq(name)).execute(conn)
}

/// As applications write it, with the plain type of the connection.
fn names(conn: &mut SqliteConnection) -> Vec<String> {
    items::table.order(items::id).select(items::name).load(conn).expect("the table is there")
}

#[test]
fn a_query_runs_on_the_guard_itself() -> Result<(), Box<dyn std::error::Error>> {
    let dir = TempDir::new("compat-diesel");
    let pool = pool(&dir, 4);
    thread::scope(|scope| {
        for worker in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                let mut conn = pool.get().expect("a place comes free");
                insert(&mut conn, &format!("item {worker}")).expect("writers wait");
            });
        }
    });
    let all: Vec<(i32, String)> = items::table.load(&mut pool.get()?)?;
    assert_eq!(all.len(), 8);
    let mut conn = pool.get()?;
    assert_eq!(names(&mut conn).len(), 8, "functions that take the connection itself get it");
    assert_eq!(pool.stats().checkouts, 11);
    Ok(())
}

#[test]
fn a_transaction_of_the_guard_commits_and_rolls_back() {
    let dir = TempDir::new("compat-diesel");
    let pool = pool(&dir, 1);
    let mut conn = pool.get().expect("it is idle");
    conn.transaction(|conn| insert(conn, "kept")).expect("nobody else writes");
    let rolled_back = conn.transaction(|conn| {
        insert(conn, "dropped")?;
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    });
    assert_eq!(rolled_back, Err(diesel::result::Error::RollbackTransaction));
    assert_eq!(names(&mut conn), ["kept"]);
    drop(conn);
    assert_eq!(pool.stats().closed.total(), 0, "a transaction that ended costs no connection");
}

#[test]
fn the_test_customizer_keeps_what_a_test_writes_from_everybody_else() {
    let dir = TempDir::new("compat-diesel");
    let outside = pool(&dir, 1);
    let pool = Pool::builder().max_size(1).connection_customizer(Box::new(TestCustomizer)).build(manager(&dir));
    let pool = pool.expect("the file is there");
    insert(&mut pool.get().expect("it is idle"), "of the test").expect("nobody else writes");
    assert_eq!(names(&mut pool.get().expect("it came back")), ["of the test"], "one connection, one transaction");
    assert!(names(&mut outside.get().expect("it is idle")).is_empty());
}

#[test]
fn a_connection_with_an_open_transaction_is_not_lent_again() {
    let dir = TempDir::new("compat-diesel");
    let pool = pool(&dir, 1);
    let mut conn = pool.get().expect("it is idle");
    AnsiTransactionManager::begin_transaction(&mut *conn).expect("none is open");
    insert(&mut conn, "never committed").expect("nobody else writes");
    drop(conn);
    let mut next = pool.get().expect("the place came back");
    assert!(names(&mut next).is_empty(), "closing rolled it back");
    assert_eq!(pool.stats().closed.total(), 1);
}

#[test]
fn a_panic_in_a_transaction_reaches_nobody_else() {
    let dir = TempDir::new("compat-diesel");
    let pool = pool(&dir, 1);
    thread::scope(|scope| {
        let panicked = scope.spawn(|| {
            pool.get().expect("it is idle").transaction(|conn| -> QueryResult<()> {
                insert(conn, "never committed")?;
                resume_unwind(Box::new("a bug in the user's code"))
            })
        });
        panicked.join().expect_err("it panicked");
    });
    let mut next = pool.get().expect("the place came back");
    assert!(names(&mut next).is_empty());
    insert(&mut next, "written").expect("no lock is left behind");
    assert_eq!(pool.stats().closed.total(), 1);
}

#[test]
fn a_pool_that_cannot_open_its_file_tells_diesels_error_and_millponds() {
    let dir = TempDir::new("compat-diesel");
    let missing = dir.path().join("missing").join("a.db");
    let error: diesel::r2d2::PoolError = Pool::builder()
        .connection_timeout(Duration::from_millis(300))
        .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
        .build(Manager::new(missing.to_str().expect("plain text")))
        .map(drop)
        .expect_err("there is no directory");
    assert!(error.to_string().starts_with("timed out waiting for connection: "), "{error}");
    assert!(error.to_string().contains("nable to open"), "{error}");
    assert!(error.source().is_some_and(|source| source.is::<millpond::Error>()), "{error:?}");
}
