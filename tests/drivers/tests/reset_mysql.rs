//! What `millpond::reset::mysql` undoes, and what it leaves alone, against a real `mariadbd`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Once,
    thread,
};

use millpond::{Builder, CloseReason, Pool, R2d2, reset};
use millpond_drivers::{Leftover, MariaDb, PATIENCE, assert_whole};
use mysql::{Conn, Opts, OptsBuilder, prelude::Queryable};
use r2d2_mysql::MySqlConnectionManager;

/// MySQL's code for a statement that it does not know.
const UNKNOWN_STATEMENT: u16 = 1243;

type MysqlPool = Pool<R2d2<MySqlConnectionManager>>;

fn opts(server: &MariaDb) -> OptsBuilder {
    OptsBuilder::from_opts(Opts::from_url(&server.url()).expect("it is a URL"))
}

/// A pool of one connection, so that who comes next meets the session of who was there before.
fn builder(server: &MariaDb) -> Builder<R2d2<MySqlConnectionManager>> {
    Pool::builder(MySqlConnectionManager::new(opts(server))).max_size(1).connection_timeout(PATIENCE)
}

fn build(builder: Builder<R2d2<MySqlConnectionManager>>) -> MysqlPool {
    builder.build().expect("the server is up")
}

fn run(conn: &mut Conn, sql: &str) {
    conn.query_drop(sql).expect("a good statement");
}

fn says(conn: &mut Conn, sql: &str) -> bool {
    conn.query_first(sql).expect("a good query").expect("one row")
}

fn number(conn: &mut Conn) -> u64 {
    conn.connection_id().into()
}

fn answers(conn: &mut Conn) {
    assert!(says(conn, "SELECT true"));
}

/// The server of these tests, with what the leftovers need.
fn server() -> Option<&'static MariaDb> {
    static READY: Once = Once::new();
    let server = MariaDb::shared()?;
    READY.call_once(|| {
        let mut conn = Conn::new(opts(server)).expect("the server answers");
        for table in ["one", "other", "written"] {
            run(&mut conn, &format!("CREATE TABLE {table} (n INT)"));
        }
    });
    Some(server)
}

const TRANSACTIONS: [Leftover<Conn>; 2] = [
    Leftover {
        name: "open transaction",
        make: |conn| run(conn, "BEGIN"),
        there: |conn| says(conn, "SELECT @@in_transaction"),
    },
    Leftover {
        name: "leaked transaction of the driver",
        make: |conn| {
            let transaction = conn.start_transaction(mysql::TxOpts::default()).expect("none is open");
            std::mem::forget(transaction);
        },
        there: |conn| says(conn, "SELECT @@in_transaction"),
    },
];

const SESSION: [Leftover<Conn>; 6] = [
    Leftover {
        name: "user variable",
        make: |conn| run(conn, "SET @leaked = 17"),
        there: |conn| says(conn, "SELECT @leaked IS NOT NULL"),
    },
    Leftover {
        name: "SET SESSION",
        make: |conn| run(conn, "SET SESSION lock_wait_timeout = 17"),
        there: |conn| says(conn, "SELECT @@lock_wait_timeout = 17"),
    },
    Leftover {
        name: "autocommit switched off",
        make: |conn| run(conn, "SET autocommit = 0"),
        there: |conn| says(conn, "SELECT NOT @@autocommit"),
    },
    Leftover {
        name: "LOCK TABLES",
        make: |conn| run(conn, "LOCK TABLES one READ"),
        there: |conn| conn.query_drop("SELECT * FROM other").is_err(),
    },
    Leftover {
        name: "temporary table",
        make: |conn| run(conn, "CREATE TEMPORARY TABLE leaked (n INT)"),
        there: |conn| conn.query_drop("SELECT * FROM leaked").is_ok(),
    },
    Leftover {
        name: "GET_LOCK",
        make: |conn| run(conn, "SELECT GET_LOCK(concat('leaked ', connection_id()), 0)"),
        there: |conn| {
            says(conn, "SELECT coalesce(is_used_lock(concat('leaked ', connection_id())) = connection_id(), 0)")
        },
    },
];

/// What the protocol's own reset leaves.
const USE: Leftover<Conn> = Leftover {
    name: "USE",
    make: |conn| run(conn, "USE information_schema"),
    there: |conn| says(conn, "SELECT database() <> 'test'"),
};

#[test]
fn a_session_leaks_without_a_hook_and_is_clean_with_one() {
    let Some(server) = server() else { return };
    for leftover in TRANSACTIONS.iter().chain(&SESSION) {
        let bare = build(builder(server));
        assert!(leftover.leaks(&bare, number), "{}: the test does not see what it is about", leftover.name);
        drop(bare);
        let clean = build(builder(server).on_return(reset::mysql::clean));
        assert!(!leftover.leaks(&clean, number), "{} leaks", leftover.name);
        assert_whole(&clean, answers);
        assert_eq!(clean.stats().closed.total(), 0, "{}: nothing was closed for it", leftover.name);
    }
}

#[test]
fn a_change_of_database_is_undone_by_name_only() {
    let Some(server) = server() else { return };
    assert!(USE.leaks(&build(builder(server)), number));
    assert!(USE.leaks(&build(builder(server).on_return(reset::mysql::clean)), number), "as the documentation says");
    let hook = reset::mysql::clean_in("test");
    assert!(!USE.leaks(&build(builder(server).on_return(hook)), number));
    for leftover in TRANSACTIONS.iter().chain(&SESSION) {
        let pool = build(builder(server).on_return(reset::mysql::clean_in("test")));
        assert!(!leftover.leaks(&pool, number), "{} leaks", leftover.name);
    }
}

#[test]
fn a_rollback_ends_transactions_and_touches_nothing_else() {
    let Some(server) = server() else { return };
    for (leftovers, stays) in [(&TRANSACTIONS[..], false), (&SESSION[..], true)] {
        for leftover in leftovers {
            let pool = build(builder(server).on_return(reset::mysql::rollback));
            assert_eq!(leftover.leaks(&pool, number), stays, "{}", leftover.name);
        }
    }
}

#[test]
fn prepared_statements_of_the_driver_work_on_and_held_ones_only_after_a_rollback() {
    let Some(server) = server() else { return };
    let sum = |conn: &mut Conn| conn.exec_first("SELECT ? + 1", (1,)).expect("it is prepared again where need be");
    let clean = build(builder(server).on_return(reset::mysql::clean));
    let mut conn = clean.get().expect("idle");
    assert_eq!(sum(&mut conn), Some(2));
    let (first, held) = (number(&mut conn), conn.prep("SELECT ? + 2").expect("a good query"));
    drop(conn);
    let mut conn = clean.get().expect("idle");
    assert_eq!((sum(&mut conn), number(&mut conn)), (Some(2), first));
    let gone = conn.exec_first::<i32, _, _>(&held, (1,)).expect_err("the server has dropped it");
    assert!(matches!(&gone, mysql::Error::MySqlError(error) if error.code == UNKNOWN_STATEMENT), "{gone}");
    drop(conn);

    let light = build(builder(server).on_return(reset::mysql::rollback));
    let held = light.with(|conn| conn.prep("SELECT ? + 2")).expect("idle").expect("a good query");
    let three = light.with(|conn| conn.exec_first(&held, (1,))).expect("idle").expect("it is kept");
    assert_eq!(three, Some(3));
}

#[test]
fn what_every_session_begins_with_is_there_again_after_cleaning() {
    let Some(server) = server() else { return };
    let init = opts(server).init(vec!["SET SESSION lock_wait_timeout = 7"]);
    let manager = MySqlConnectionManager::new(init);
    let pool = Pool::builder(manager)
        .max_size(1)
        .on_open(|conn| conn.query_drop("SET SESSION max_statement_time = 60"))
        .on_return(reset::mysql::clean)
        .build()
        .expect("the server is up");
    pool.with(|conn| run(conn, "SET SESSION lock_wait_timeout = 17")).expect("idle");
    let mut conn = pool.get().expect("idle");
    assert!(says(&mut conn, "SELECT @@lock_wait_timeout = 7"), "the driver says it again");
    assert!(says(&mut conn, "SELECT @@max_statement_time = 0"), "nobody says this again");
}

#[test]
fn a_transaction_over_which_its_user_panicked_reaches_nobody() {
    let Some(server) = server() else { return };
    let pool = build(builder(server).on_return(reset::mysql::clean));
    let count = |conn: &mut Conn| -> Option<i64> { conn.query_first("SELECT count(*) FROM written").expect("a table") };
    let write = |conn: &mut Conn| {
        run(conn, "BEGIN");
        run(conn, "INSERT INTO written VALUES (1)");
    };

    // The panic is caught while the guard is held, as by a server around a request: it comes back like any other.
    let mut conn = pool.get().expect("idle");
    let first = number(&mut conn);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        write(&mut conn);
        resume_unwind(Box::new("a bug in the user's code"));
    }));
    panic.expect_err("it panicked");
    drop(conn);
    let mut conn = pool.get().expect("idle");
    assert_eq!((count(&mut conn), number(&mut conn)), (Some(0), first), "rolled back, on the same connection");

    // The guard goes down with its thread: the connection is closed, and not cleaned.
    let writer = thread::spawn(move || {
        write(&mut conn);
        resume_unwind(Box::new("a bug in the user's code"));
    });
    writer.join().expect_err("it panicked");
    let mut conn = pool.get().expect("the place came back");
    assert_ne!(number(&mut conn), first);
    assert_eq!(count(&mut conn), Some(0), "rolled back by the server");
    drop(conn);
    pool.close_and_wait(PATIENCE).expect("nobody holds one");
    assert_eq!(pool.stats().closed.by(CloseReason::Panicked), 1);
}

#[test]
fn a_connection_that_cannot_be_cleaned_is_closed_and_replaced() {
    let Some(server) = server() else { return };
    // Its database goes away under it.
    let mut admin = Conn::new(opts(server)).expect("the server answers");
    run(&mut admin, "CREATE DATABASE fleeting");
    let pool = build(builder(server).on_return(reset::mysql::clean_in("fleeting")));
    let first = pool.with(number).expect("idle");
    assert_eq!(pool.with(number).expect("idle"), first);
    run(&mut admin, "DROP DATABASE fleeting");
    assert_eq!(pool.with(number).expect("it was clean before"), first);
    assert_ne!(pool.with(number).expect("the place came back"), first);
    pool.close_and_wait(PATIENCE).expect("nobody holds one");
    assert_eq!(pool.stats().closed.by(CloseReason::ResetFailed), 2);
}
