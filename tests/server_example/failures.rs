//! What a client is told of each error that the pool can have.

use crate::failure::{Failure, Problem, Refused};
use crate::support::{Folder, eventually};
use millpond::sqlite::{self, SqliteManager, SqlitePool, abort};
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(20);

fn told(error: sqlite::Error) -> Problem {
    Problem::of(Failure::from(error), "guest-book-readers")
}

fn assert_unavailable(error: sqlite::Error, why: &str) {
    let text = error.to_string();
    let problem = told(error);
    assert_eq!((problem.status, problem.pool.as_deref()), (503, Some("guest-book-readers")), "{text}");
    assert!(problem.detail.contains(r#"the pool "guest-book-readers" cannot serve this now: "#), "{}", problem.detail);
    assert!(problem.detail.contains(why), "{why} in {} for {text}", problem.detail);
    assert!(problem.retry_after.is_some_and(|seconds| (1..=10).contains(&seconds)));
    let json = problem.to_json().to_string();
    for internal in [".rs:", ".db", "thread", "failures"] {
        assert!(!json.contains(internal), "{json}");
    }
}

fn one(pool: &SqlitePool) -> Result<i64, sqlite::Error> {
    pool.read_timeout(SHORT, |conn| conn.query_row("SELECT 1", [], |row| row.get(0)))
}

#[test]
fn each_way_in_which_a_pool_cannot_serve_is_told_with_its_reason() {
    let folder = Folder::new();
    let pool = SqlitePool::builder(SqliteManager::file(folder.file("book.db")))
        .readers(1)
        .configure_readers(|readers| readers.max_waiting(Some(1)))
        .build()
        .expect("a new file");
    let held = pool.reader().expect("one is free");
    assert_unavailable(one(&pool).expect_err("it is held"), "all connections were in use until the deadline");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.read(|_| Ok(())));
        eventually("somebody waits", || pool.stats().readers.waiting == 1);
        assert_unavailable(one(&pool).expect_err("one waits already"), "too many requests wait");
        drop(held);
        waiter.join().expect("no panic").expect("it is free now");
    });
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let late = pool.read_timeout(SHORT, |conn| conn.query_row(endless, [], |row| row.get::<_, i64>(0)));
    assert_unavailable(late.expect_err("it never ends"), "took longer than the deadline");
    pool.readers().pause_and_reject();
    assert_unavailable(one(&pool).expect_err("it is paused"), "it is paused");
    pool.readers().resume();
    pool.close();
    assert_unavailable(one(&pool).expect_err("it is closed"), "it is closed");

    let nowhere = SqliteManager::file(folder.file("no/such/folder/book.db"));
    assert_unavailable(SqlitePool::new(nowhere).expect_err("no folder"), "the database cannot be opened");
}

#[test]
fn all_else_is_the_server_s_fault_and_its_own_business() {
    let pool = SqlitePool::new(SqliteManager::memory()).expect("there is memory");
    let error = pool.read(|conn| conn.query_row("SELECT * FROM secret_table", [], |_| Ok(()))).expect_err("no table");
    let problem = told(error);
    assert_eq!((problem.status, problem.retry_after), (500, None));
    assert!(!problem.to_json().to_string().contains("secret_table"));
}

#[test]
fn a_refusal_comes_out_of_a_transaction_as_it_went_in() {
    let pool = SqlitePool::new(SqliteManager::memory()).expect("there is memory");
    let error = pool
        .write_transaction(|_| {
            pool.write(|_| Err::<(), _>(abort(Refused::NotFound("no such entry".to_owned()))))?;
            Ok(())
        })
        .expect_err("it is refused");
    let problem = told(error);
    assert_eq!((problem.status, problem.detail.as_str()), (404, "no such entry"));
}
