//! diesel's own connection manager, which drops connections that leave a
//! transaction open or whose thread panics.

use std::{error::Error as _, thread};

use diesel::{
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    prelude::*,
    r2d2::ConnectionManager,
};
use millpond::{ErrorKind, Pool, PooledConnection, R2d2};
use millpond_drivers::{PATIENCE, SHORT, TempDir, assert_whole};
use schema::items;

mod schema {
    #![allow(missing_docs, clippy::exhaustive_structs, reason = "written by diesel's macro")]

    diesel::table! {
        items (id) {
            id -> Integer,
            name -> Text,
        }
    }
}

type Manager = R2d2<ConnectionManager<SqliteConnection>>;

/// A pool over a new file with an empty table.
fn pool(dir: &TempDir, size: u32) -> Pool<Manager> {
    let file = dir.path().join("a.db");
    let url = file.to_str().expect("its path is plain text");
    let pool = Pool::builder(ConnectionManager::<SqliteConnection>::new(url))
        .max_size(size)
        .build()
        .expect("a file can be made");
    let table = "PRAGMA journal_mode = WAL;
        CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)";
    pool.get().expect("it is idle").batch_execute(table).expect("it is a new file");
    pool
}

fn insert(connection: &mut SqliteConnection, name: &str) -> QueryResult<usize> {
    connection.batch_execute("PRAGMA busy_timeout = 30000")?;
    diesel::insert_into(items::table).values(items::name.eq(name)).execute(connection)
}

fn names(connection: &mut SqliteConnection) -> Vec<String> {
    let names = items::table.order(items::id).select(items::name).load(connection);
    names.expect("the table is there")
}

fn answers(connection: &mut SqliteConnection) {
    names(connection);
}

#[test]
fn queries_run_on_the_borrowed_connection() {
    let dir = TempDir::new("diesel");
    let pool = pool(&dir, 4);
    thread::scope(|scope| {
        for worker in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                let mut connection = pool.get_timeout(PATIENCE).expect("a place comes free");
                // The two ways to pass a guard where diesel wants its own type.
                insert(&mut connection, &format!("item {worker}")).expect("writers wait");
                let count: i64 = items::table.count().get_result(&mut *connection).expect("it is there");
                assert!(count >= 1);
            });
        }
    });
    assert_eq!(pool.with(names).expect("it is idle").len(), 8);
    assert_whole(&pool, answers);
}

#[test]
fn transactions_commit_and_roll_back() {
    let dir = TempDir::new("diesel");
    let pool = pool(&dir, 2);
    let mut connection = pool.get().expect("it is idle");
    connection.transaction(|connection| insert(connection, "kept")).expect("nobody else writes");
    let rolled_back = connection.transaction(|connection| {
        insert(connection, "dropped")?;
        Err::<(), _>(diesel::result::Error::RollbackTransaction)
    });
    assert_eq!(rolled_back, Err(diesel::result::Error::RollbackTransaction));
    assert_eq!(names(&mut connection), ["kept"]);
    let id = PooledConnection::id(&connection);
    drop(connection);
    let again = pool.get().expect("it came back");
    assert_eq!(PooledConnection::id(&again), id, "a transaction that ended costs no connection");
    drop(again);
    assert_whole(&pool, answers);
}

#[test]
fn a_connection_with_an_open_transaction_is_not_lent_again() {
    let dir = TempDir::new("diesel");
    let pool = pool(&dir, 1);
    let closed = pool.stats().closed.total();
    let mut connection = pool.get().expect("it is idle");
    let id = PooledConnection::id(&connection);
    AnsiTransactionManager::begin_transaction(&mut *connection).expect("none is open");
    insert(&mut connection, "never committed").expect("nobody else writes");
    drop(connection);
    let mut next = pool.get_timeout(PATIENCE).expect("the place came back");
    assert_ne!(PooledConnection::id(&next), id, "diesel calls it broken");
    assert_eq!(pool.stats().closed.total(), closed + 1);
    assert!(names(&mut next).is_empty(), "closing rolled it back");
    insert(&mut next, "written").expect("no lock is left behind");
    drop(next);
    assert_whole(&pool, answers);
}

#[test]
fn a_panic_inside_a_transaction_reaches_nobody() {
    let dir = TempDir::new("diesel");
    let pool = pool(&dir, 1);
    thread::scope(|scope| {
        let panicked = scope.spawn(|| {
            let mut connection = pool.get_timeout(PATIENCE).expect("nobody else is here");
            connection.transaction(|connection| -> QueryResult<()> {
                insert(connection, "never committed")?;
                std::panic::resume_unwind(Box::new("a bug in the user's code"))
            })
        });
        panicked.join().expect_err("it panicked");
    });
    let mut next = pool.get_timeout(PATIENCE).expect("the place came back");
    assert!(names(&mut next).is_empty());
    insert(&mut next, "written").expect("no lock is left behind");
    next.transaction(|connection| insert(connection, "too")).expect("no transaction is open");
    drop(next);
    assert_whole(&pool, answers);
}

#[test]
fn a_file_that_cannot_be_opened_gives_the_error_of_diesel() {
    let dir = TempDir::new("diesel");
    let file = dir.path().join("missing").join("a.db");
    let manager = ConnectionManager::<SqliteConnection>::new(file.to_str().expect("plain text"));
    let error = Pool::builder(manager).connection_timeout(SHORT).build().map(drop).expect_err("there is no directory");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<diesel::r2d2::Error>());
    assert!(matches!(cause, Some(diesel::r2d2::Error::ConnectionError(_))), "{error:?}");
}
