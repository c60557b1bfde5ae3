//! The crate mysql through r2d2_mysql, against a real `mariadbd`.
//!
//! One server serves the tests that do it no harm; each of them counts the
//! connections to a database of its own.

use std::{collections::HashSet, error::Error as _, sync::mpsc, thread};

use millpond::{Builder, ErrorKind, Pool, PooledConnection, R2d2, Validation};
use millpond_drivers::{
    Census, MariaDb, Mode, PATIENCE, Proxy, SHORT, agree, assert_whole, cause_of, fill, while_it_hangs,
};
use mysql::{Conn, OptsBuilder, TxOpts, prelude::Queryable};
use r2d2_mysql::MySqlConnectionManager;

/// MariaDB's code for a wrong user or password.
const ACCESS_DENIED: u16 = 1045;

fn manager(url: &str) -> MySqlConnectionManager {
    let opts = mysql::Opts::from_url(url).expect("it is a URL");
    MySqlConnectionManager::new(OptsBuilder::from_opts(opts))
}

fn builder(url: &str) -> Builder<R2d2<MySqlConnectionManager>> {
    Pool::builder(manager(url)).connection_timeout(PATIENCE)
}

fn answers(conn: &mut Conn) {
    assert_eq!(conn.query_first("SELECT 1").expect("it answers"), Some(1));
}

/// Makes a database and returns a connection that watches and a URL for the rest.
fn database(server: &MariaDb, name: &str) -> (Conn, String) {
    let mut observer = Conn::new(server.url().as_str()).expect("the server answers");
    observer.query_drop(format!("CREATE DATABASE {name}")).expect("it is a new name");
    (observer, server.url_of(name))
}

/// The server's numbers for the connections to a database.
fn listed(observer: &mut Conn, database: &str) -> HashSet<u64> {
    let query = "SELECT id FROM information_schema.processlist WHERE db = ?";
    let numbers: Vec<u64> = observer.exec(query, (database,)).expect("it answers");
    numbers.into_iter().collect()
}

fn number(conn: &mut Conn) -> u64 {
    conn.connection_id().into()
}

#[test]
fn queries_and_transactions_run_on_the_guard() {
    let Some(server) = MariaDb::shared() else { return };
    let (_, url) = database(server, "queries");
    let pool = builder(&url).max_size(4).build().expect("the server is up");
    pool.with(|conn| conn.query_drop("CREATE TABLE t (n INT)")).expect("it is idle").expect("it is a new table");
    thread::scope(|scope| {
        for worker in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..10 {
                    let mut conn = pool.get().expect("a place comes free");
                    let mut transaction = conn.start_transaction(TxOpts::default()).expect("none is open");
                    transaction.exec_drop("INSERT INTO t VALUES (?)", (worker * 10 + n,)).expect("it is written");
                    if n % 2 == 0 {
                        transaction.commit().expect("it is written");
                    }
                }
            });
        }
    });
    let count = pool.with(|conn| conn.query_first("SELECT count(*) FROM t"));
    assert_eq!(count.expect("it is idle").expect("it answers"), Some(40), "half were rolled back");
    assert_whole(&pool, answers);
}

#[test]
fn the_server_lists_as_many_connections_as_the_pool() {
    let Some(server) = MariaDb::shared() else { return };
    let (mut observer, url) = database(server, "listed");
    let pool = builder(&url).max_size(5).build().expect("the server is up");
    fill(&pool);
    agree(&pool, 5, || listed(&mut observer, "listed"));
    PooledConnection::discard(pool.get().expect("it is idle"));
    agree(&pool, 4, || listed(&mut observer, "listed"));
    assert_whole(&pool, answers);
    agree(&pool, 5, || listed(&mut observer, "listed"));
}

#[test]
fn the_server_never_lists_more_than_the_maximum_under_churn() {
    let Some(server) = MariaDb::shared() else { return };
    let (mut observer, url) = database(server, "churn");
    let pool = Pool::builder(Census::of(R2d2(manager(&url)), number))
        .max_size(8)
        .connection_timeout(PATIENCE)
        .build()
        .expect("the server is up");
    let largest = Census::churn(&pool, || listed(&mut observer, "churn"), answers);
    assert!(largest >= 2, "the load was no load: {largest}");
    assert_whole(&pool, |member| answers(member));
}

#[test]
fn a_bad_password_gives_the_error_of_the_driver() {
    let Some(server) = MariaDb::shared() else { return };
    let error = cause_of(|deadline| {
        let pool = builder(&server.url_with_password("sesame")).connection_timeout(deadline).build();
        pool.map(drop).expect_err("the password is wrong")
    });
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<mysql::Error>());
    let code = match cause {
        Some(mysql::Error::MySqlError(error)) => Some(error.code),
        _ => None,
    };
    assert_eq!(code, Some(ACCESS_DENIED), "{error:?}");
    assert!(!error.to_string().contains("sesame") && !format!("{error:?}").contains("sesame"));
}

#[test]
fn a_connection_whose_thread_panicked_in_a_transaction_is_not_lent_again() {
    let Some(server) = MariaDb::shared() else { return };
    let (_, url) = database(server, "panics");
    // A ping, the check of r2d2_mysql, passes inside a transaction.
    let pool = builder(&url).max_size(1).validation(Validation::Always).build().expect("the server is up");
    pool.with(|conn| conn.query_drop("CREATE TABLE t (n INT PRIMARY KEY)"))
        .expect("it is idle")
        .expect("it is a new table");
    let lost = thread::scope(|scope| {
        let (sender, numbers) = mpsc::channel();
        let pool = &pool;
        let panicked = scope.spawn(move || {
            let mut conn = pool.get().expect("nobody else is here");
            sender.send(number(&mut conn)).expect("the test waits");
            conn.query_drop("BEGIN").expect("it answers");
            conn.query_drop("INSERT INTO t VALUES (1)").expect("nobody else writes");
            std::panic::resume_unwind(Box::new("a bug in the user's code"));
        });
        panicked.join().expect_err("it panicked");
        numbers.recv().expect("it was sent before")
    });
    let mut next = pool.get().expect("the place came back");
    assert_ne!(number(&mut next), lost, "it is another connection");
    // Waits for the lock on the same key, which goes with the lost one.
    next.query_drop("INSERT INTO t VALUES (1)").expect("the first was rolled back");
    drop(next);
    assert_whole(&pool, answers);
}

#[test]
fn connections_that_the_server_killed_are_found_by_the_check() {
    let Some(server) = MariaDb::shared() else { return };
    let (mut observer, url) = database(server, "killed");
    let pool = builder(&url).max_size(4).validation(Validation::Always).build().expect("the server is up");
    fill(&pool);
    let numbers = listed(&mut observer, "killed");
    assert_eq!(numbers.len(), 4);
    for number in numbers {
        observer.query_drop(format!("KILL CONNECTION {number}")).expect("it is listed");
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pool.with(answers).expect("nobody hears of it"));
        }
    });
    assert_whole(&pool, answers);
    agree(&pool, 4, || listed(&mut observer, "killed"));
}

#[test]
fn a_server_that_hangs_or_is_killed_and_comes_back_leaves_a_whole_pool() {
    // One test for the three faults: it takes two seconds to make a server.
    let Some(server) = MariaDb::start() else { return };
    let proxy = Proxy::to(server.addr());
    let pool = builder(&server.url()).max_size(4).validation(Validation::Always).build().expect("the server is up");
    fill(&pool);
    server.stop();
    let kinds = while_it_hangs(&pool, || server.cont());
    assert!(kinds.contains(&ErrorKind::Validate), "{kinds:?}");
    assert_whole(&pool, answers);

    proxy.set(Mode::BlackHole);
    let hanging = builder(&MariaDb::url_at(proxy.port())).max_size(4).build_lazy().expect("nothing is opened");
    let kinds = while_it_hangs(&hanging, || {
        // The hanging ones are still at it: the other pool must not be slowed.
        assert_whole(&pool, answers);
        proxy.set(Mode::Pass);
    });
    assert!(kinds.iter().all(|&kind| kind == ErrorKind::Connect), "{kinds:?}");
    assert!(proxy.accepted() <= 4, "{} connects for 4 places", proxy.accepted());
    assert_whole(&hanging, answers);

    server.kill();
    let error = pool.get_timeout(SHORT * 5).map(drop).expect_err("there is no server");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<mysql::Error>());
    assert!(cause.is_some(), "{error:?}");
    server.restart();
    assert_whole(&pool, answers);
    assert_whole(&hanging, answers);
}
