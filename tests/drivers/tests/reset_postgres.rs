//! What `millpond::reset::postgres` undoes, and what it leaves alone, against a real `postgres`.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, Once},
    thread,
};

use millpond::{Builder, CloseReason, EventHandler, Pool, PooledConnection, R2d2, event, reset};
use millpond_drivers::{Leftover, PATIENCE, Postgres, assert_whole};
use postgres::{
    Client, NoTls,
    types::{FromSql, Kind, Type},
};
use r2d2_postgres::PostgresConnectionManager;

type PostgresManager = PostgresConnectionManager<NoTls>;

/// A pool of one connection, so that who comes next meets the session of who was there before.
fn builder(server: &Postgres) -> Builder<R2d2<PostgresManager>> {
    let config = server.url().parse().expect("it is a URL");
    Pool::builder(PostgresConnectionManager::new(config, NoTls)).max_size(1).connection_timeout(PATIENCE)
}

fn build(builder: Builder<R2d2<PostgresManager>>) -> Pool<R2d2<PostgresManager>> {
    builder.build().expect("the server is up")
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).expect("a good statement");
}

fn says(client: &mut Client, sql: &str) -> bool {
    client.query_one(sql, &[]).expect("a good query").get(0)
}

fn backend(client: &mut Client) -> u64 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).expect("it answers");
    row.get::<_, i32>(0).unsigned_abs().into()
}

fn answers(client: &mut Client) {
    assert!(says(client, "SELECT true"));
}

fn in_transaction(client: &mut Client) -> bool {
    says(client, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
}

fn fails(client: &mut Client) -> bool {
    client.batch_execute("SELECT 1").is_err()
}

/// What ends with a transaction.
const OF_A_TRANSACTION: [Leftover<Client>; 4] = [
    Leftover {
        name: "open transaction",
        make: |client| run(client, "BEGIN; SELECT pg_current_xact_id()"),
        there: in_transaction,
    },
    Leftover {
        name: "leaked transaction of the driver",
        make: |client| {
            let mut transaction = client.transaction().expect("none is open");
            transaction.batch_execute("SELECT pg_current_xact_id()").expect("a good query");
            std::mem::forget(transaction);
        },
        there: in_transaction,
    },
    Leftover {
        name: "failed transaction",
        make: |client| {
            run(client, "BEGIN");
            client.batch_execute("SELECT 1 / 0").expect_err("nobody may do that");
        },
        there: fails,
    },
    Leftover {
        name: "lock of a table",
        make: |client| run(client, "BEGIN; LOCK TABLE locked IN SHARE MODE"),
        there: |client| {
            let mine = "relation = 'locked'::regclass AND pid = pg_backend_pid()";
            says(client, &format!("SELECT count(*) > 0 FROM pg_locks WHERE {mine}"))
        },
    },
];

/// What stays until it is undone.
const OF_A_SESSION: [Leftover<Client>; 10] = [
    Leftover {
        name: "SET",
        make: |client| run(client, "SET statement_timeout = '17s'"),
        there: |client| says(client, "SELECT current_setting('statement_timeout') = '17s'"),
    },
    Leftover {
        name: "a setting of the user's own",
        make: |client| run(client, "SELECT set_config('app.tenant', 'leaked', false)"),
        there: |client| says(client, "SELECT coalesce(current_setting('app.tenant', true), '') = 'leaked'"),
    },
    Leftover {
        name: "SET ROLE",
        make: |client| run(client, "SET ROLE app"),
        there: |client| says(client, "SELECT current_user = 'app'"),
    },
    Leftover {
        name: "SET SESSION AUTHORIZATION",
        make: |client| run(client, "SET SESSION AUTHORIZATION app"),
        there: |client| says(client, "SELECT session_user = 'app'"),
    },
    Leftover {
        name: "temporary table",
        make: |client| run(client, "CREATE TEMP TABLE leaked (n INT)"),
        there: |client| says(client, "SELECT to_regclass('pg_temp.leaked') IS NOT NULL"),
    },
    Leftover {
        name: "LISTEN",
        make: |client| run(client, "LISTEN leaked"),
        there: |client| says(client, "SELECT count(*) > 0 FROM pg_listening_channels()"),
    },
    Leftover {
        name: "notification that nobody read",
        make: |client| run(client, "LISTEN leaked; NOTIFY leaked, 'to the one before'"),
        there: |client| !client.notifications().is_empty(),
    },
    Leftover {
        name: "advisory lock",
        make: |client| run(client, "SELECT pg_advisory_lock(17)"),
        there: |client| {
            let mine = "locktype = 'advisory' AND pid = pg_backend_pid()";
            says(client, &format!("SELECT count(*) > 0 FROM pg_locks WHERE {mine}"))
        },
    },
    Leftover {
        name: "cursor",
        make: |client| run(client, "DECLARE leaked CURSOR WITH HOLD FOR SELECT 1"),
        there: |client| says(client, "SELECT count(*) > 0 FROM pg_cursors WHERE name = 'leaked'"),
    },
    Leftover {
        name: "value of a sequence",
        make: |client| run(client, "SELECT nextval('numbers')"),
        there: |client| client.batch_execute("SELECT lastval()").is_ok(),
    },
];

/// The server of these tests, with what the leftovers need.
fn server() -> Option<&'static Postgres> {
    static READY: Once = Once::new();
    let server = Postgres::shared()?;
    READY.call_once(|| {
        let mut client = Client::connect(&server.url(), NoTls).expect("the server answers");
        run(&mut client, "CREATE SEQUENCE numbers; CREATE TABLE locked (n INT); CREATE TABLE written (n INT)");
    });
    Some(server)
}

#[test]
fn a_session_leaks_without_a_hook_and_is_clean_with_one() {
    let Some(server) = server() else { return };
    for leftover in OF_A_TRANSACTION.iter().chain(&OF_A_SESSION) {
        let bare = build(builder(server));
        assert!(leftover.leaks(&bare, backend), "{}: the test does not see what it is about", leftover.name);
        drop(bare);
        let clean = build(builder(server).on_return(reset::postgres::clean));
        assert!(!leftover.leaks(&clean, backend), "{} leaks", leftover.name);
        assert_whole(&clean, answers);
        assert_eq!(clean.stats().closed.total(), 0, "{}: nothing was closed for it", leftover.name);
    }
}

#[test]
fn a_rollback_ends_transactions_and_touches_nothing_else() {
    let Some(server) = server() else { return };
    for (leftovers, stays) in [(&OF_A_TRANSACTION[..], false), (&OF_A_SESSION[..], true)] {
        for leftover in leftovers {
            let pool = build(builder(server).on_return(reset::postgres::rollback));
            assert_eq!(leftover.leaks(&pool, backend), stays, "{}", leftover.name);
        }
    }
}

#[test]
fn what_every_session_begins_with_is_there_again_after_cleaning() {
    let Some(server) = server() else { return };
    const BEGIN_WITH: &str = "SET statement_timeout = '7s'";
    let opened = || builder(server).on_open(|client| client.batch_execute(BEGIN_WITH));
    let pool = build(opened().on_return(reset::postgres::clean_and(BEGIN_WITH)));
    pool.with(|client| run(client, "SET statement_timeout = '17s'; SET lock_timeout = '3s'; BEGIN")).expect("idle");
    let mut client = pool.get().expect("idle");
    assert!(says(&mut client, "SELECT current_setting('statement_timeout') = '7s'"));
    assert!(says(&mut client, "SELECT current_setting('lock_timeout') = '0'"));
    drop(client);
    // Without, they go, as the documentation says.
    let pool = build(opened().on_return(reset::postgres::clean));
    drop(pool.get().expect("idle"));
    let gone = pool.with(|client| says(client, "SELECT current_setting('statement_timeout') = '0'"));
    assert!(gone.expect("idle"));
}

#[test]
fn what_the_url_sets_stays() {
    let Some(server) = server() else { return };
    let mut config: postgres::Config = server.url().parse().expect("it is a URL");
    config.options("-c statement_timeout=9s").application_name("of the URL");
    let manager = PostgresConnectionManager::new(config, NoTls);
    let pool = Pool::builder(manager).max_size(1).on_return(reset::postgres::clean).build().expect("it is up");
    pool.with(|client| run(client, "SET statement_timeout = '17s'; SET application_name = 'mine'")).expect("idle");
    let stays =
        "SELECT current_setting('statement_timeout') = '9s' AND current_setting('application_name') = 'of the URL'";
    assert!(pool.with(|client| says(client, stays)).expect("idle"));
}

/// A value of an enum that the database has and the driver does not know: to read it, the driver asks the server about
/// its type, by statements that it prepares once.
struct Label(String);

impl<'a> FromSql<'a> for Label {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Enum(_))
    }
}

fn label(client: &mut Client, sql: &str) -> Result<String, postgres::Error> {
    Ok(client.query_one(sql, &[])?.get::<_, Label>(0).0)
}

#[test]
fn prepared_statements_and_custom_types_work_on_after_cleaning() {
    let Some(server) = server() else { return };
    let pool = build(builder(server).on_return(reset::postgres::clean));
    let mut client = pool.get().expect("idle");
    run(&mut client, "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE size AS ENUM ('small', 'large')");
    let first = backend(&mut client);
    let held = client.prepare("SELECT $1::INT4 + 1").expect("a good query");
    assert_eq!(label(&mut client, "SELECT 'glad'::mood").expect("its type can be looked up"), "glad");
    drop(client);

    let mut client = pool.get().expect("idle");
    assert_eq!(backend(&mut client), first, "it is the same connection");
    assert_eq!(client.query_one(&held, &[&1_i32]).expect("it is still prepared").get::<_, i32>(0), 2);
    assert_eq!(label(&mut client, "SELECT 'sad'::mood").expect("a known type"), "sad");
    // One that it has not met: it is looked up by the statements that the driver prepared before.
    assert_eq!(label(&mut client, "SELECT 'large'::size").expect("another type"), "large");

    // The reason for all this.
    run(&mut client, "CREATE TYPE shape AS ENUM ('round')");
    run(&mut client, "DISCARD ALL");
    label(&mut client, "SELECT 'round'::shape").expect_err("the statements that look up types are gone");
}

#[test]
fn a_transaction_over_which_its_user_panicked_reaches_nobody() {
    let Some(server) = server() else { return };
    let pool = build(builder(server).on_return(reset::postgres::clean));
    let count = |client: &mut Client| -> i64 {
        client.query_one("SELECT count(*) FROM written", &[]).expect("it is there").get(0)
    };
    let write = |client: &mut Client| run(client, "BEGIN; INSERT INTO written VALUES (1)");

    // The panic is caught while the guard is held, as by a server around a request: it comes back like any other.
    let mut client = pool.get().expect("idle");
    let first = backend(&mut client);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        write(&mut client);
        resume_unwind(Box::new("a bug in the user's code"));
    }));
    panic.expect_err("it panicked");
    drop(client);
    let mut client = pool.get().expect("idle");
    assert_eq!((count(&mut client), backend(&mut client)), (0, first), "rolled back, on the same connection");

    // The guard goes down with its thread: the connection is closed, and not cleaned.
    let writer = thread::spawn(move || {
        write(&mut client);
        resume_unwind(Box::new("a bug in the user's code"));
    });
    writer.join().expect_err("it panicked");
    let mut client = pool.get().expect("the place came back");
    assert_ne!(backend(&mut client), first);
    assert_eq!(count(&mut client), 0, "rolled back by the server");
    drop(client);
    pool.close_and_wait(PATIENCE).expect("nobody holds one");
    assert_eq!(pool.stats().closed.by(CloseReason::Panicked), 1);
}

/// The errors of resets that failed.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Vec<String>>>);

impl Refusals {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl EventHandler for Refusals {
    fn reset(&self, _: &str, event: &event::Reset<'_>) {
        self.0.lock().expect("no panic").extend(event.error.map(ToString::to_string));
    }
}

#[test]
fn a_connection_that_cannot_be_cleaned_is_closed_and_replaced() {
    let Some(server) = server() else { return };
    let refusals = Refusals::default();
    let pool = build(builder(server).on_return(reset::postgres::clean).event_handler(refusals.clone()));
    let mut client = pool.get().expect("idle");
    let first = backend(&mut client);
    let mut other = Client::connect(&server.url(), NoTls).expect("the server answers");
    let terminate = format!("SELECT pg_terminate_backend({first}, 30000)");
    assert!(says(&mut other, &terminate), "a superuser may");
    drop(client);
    assert_ne!(pool.with(backend).expect("the place came back"), first);
    assert_whole(&pool, answers);
    // The driver knew that it was closed, or heard of it from the hook; both close it.
    assert_eq!((pool.stats().closed.total(), pool.stats().panics), (1, 0));

    // A session that refuses to be cleaned.
    drop(refusals.taken());
    let hook = reset::postgres::clean_and("SELECT 1 / 0");
    let picky = build(builder(server).on_return(hook).event_handler(refusals.clone()));
    let first = picky.with(backend).expect("idle");
    assert_ne!(picky.with(backend).expect("the place came back"), first);
    picky.close_and_wait(PATIENCE).expect("nobody holds one");
    assert_eq!(picky.stats().closed.by(CloseReason::ResetFailed), 2);
    assert_eq!(refusals.taken().len(), 2, "the handler hears of each");
}

#[test]
fn the_servers_log_hears_of_a_transaction_that_was_left_open_and_of_nothing_else() {
    let Some(server) = Postgres::start() else { return };
    let lines = |what: &str| server.log().lines().filter(|line| line.contains(what)).count();
    for hook in [reset::postgres::clean, reset::postgres::rollback] {
        let pool = build(builder(&server).on_return(hook));
        (0..5).for_each(|_| pool.with(answers).expect("idle"));
        assert_eq!(lines("WARNING"), 0, "{}", server.log());
    }
    let pool = build(builder(&server).on_return(reset::postgres::clean));
    pool.with(|client| run(client, "BEGIN")).expect("idle");
    assert_eq!(lines("already a transaction in progress"), 1);
}

#[test]
fn a_guard_that_is_discarded_is_not_cleaned() {
    let Some(server) = server() else { return };
    let refusals = Refusals::default();
    let hook = reset::postgres::clean_and("SELECT 1 / 0");
    let pool = build(builder(server).on_return(hook).event_handler(refusals.clone()));
    PooledConnection::discard(pool.get().expect("idle"));
    pool.close_and_wait(PATIENCE).expect("nobody holds one");
    assert_eq!(pool.stats().closed.by(CloseReason::Discarded), 1);
    assert_eq!(refusals.taken(), [""; 0]);
}
