//! What breaks behind a PgBouncer that pools by transaction, and the settings and habits that keep it from breaking: the
//! recipe of `docs/scaling.md`, sentence by sentence.
//!
//! Which server connection a client gets is arranged, not left to chance: PgBouncer has two of them here, or one, and
//! lends the one that was used last.

use std::time::Duration;

use millpond::{Builder, Pool, PooledConnection, R2d2, Validation, reset};
use millpond_drivers::{PATIENCE, PgBouncer, Postgres};
use postgres::{Client, NoTls, types::Type};
use r2d2_postgres::PostgresConnectionManager;

type BouncedPool = Pool<R2d2<PostgresConnectionManager<NoTls>>>;

/// A PgBouncer with so many server connections, which are its own, before the server of all tests.
fn start(server_connections: u32) -> Option<PgBouncer> {
    PgBouncer::start_with(Postgres::shared()?, &format!("default_pool_size = {server_connections}"))
}

/// The pool of the recipe, but for the hook.
fn builder(bouncer: &PgBouncer) -> Builder<R2d2<PostgresConnectionManager<NoTls>>> {
    let config = bouncer.url().parse().expect("it is a URL");
    Pool::builder(PostgresConnectionManager::new(config, NoTls))
        .max_size(4)
        .connection_timeout(PATIENCE)
        .validation(Validation::IfIdleFor(Duration::from_secs(60)))
}

fn recipe(bouncer: &PgBouncer) -> BouncedPool {
    builder(bouncer).on_return(reset::postgres::rollback).build().expect("it is up")
}

/// Two connections of the pool: two clients of PgBouncer.
fn two(pool: &BouncedPool) -> [PooledConnection<R2d2<PostgresConnectionManager<NoTls>>>; 2] {
    let mut clients = pool.get_many(2).expect("there is room").into_iter();
    [(); 2].map(|()| clients.next().expect("as many as were asked for"))
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).expect("a good statement");
}

/// Without a prepared statement.
fn says(client: &mut Client, sql: &str) -> bool {
    client.query_typed_one(sql, &[]).expect("a good query").get(0)
}

/// The server connection that serves the client at this moment.
fn backend(client: &mut Client) -> i32 {
    client.query_typed_one("SELECT pg_backend_pid()", &[]).expect("it answers").get(0)
}

const TIMEOUT_IS_SET: &str = "SELECT current_setting('statement_timeout') = '17s'";

#[test]
fn a_setting_is_seen_by_others_unless_it_is_local_to_a_transaction() {
    let Some(bouncer) = start(1) else { return };
    let pool = recipe(&bouncer);
    let [mut one, mut other] = two(&pool);
    run(&mut one, "SET statement_timeout = '17s'");
    assert!(says(&mut other, TIMEOUT_IS_SET), "it belongs to the server connection, not to who set it");
    run(&mut one, "RESET statement_timeout");

    let mut transaction = one.transaction().expect("none is open");
    transaction.batch_execute("SET LOCAL statement_timeout = '17s'").expect("a good statement");
    let set: bool = transaction.query_typed_one(TIMEOUT_IS_SET, &[]).expect("a good query").get(0);
    assert!(set, "for the transaction");
    transaction.commit().expect("it is committed");
    assert!(!says(&mut other, TIMEOUT_IS_SET));
}

#[test]
fn cleaning_a_session_cleans_that_of_somebody_else() {
    let Some(bouncer) = start(2) else { return };
    let pool = builder(&bouncer).on_return(reset::postgres::clean).build().expect("it is up");
    let [mut one, mut other] = two(&pool);
    run(&mut one, "SET statement_timeout = '17s'");
    let dirty = backend(&mut one);
    // Somebody is on the server connection that it was set on when the first comes back.
    run(&mut other, "BEGIN");
    assert_eq!(backend(&mut other), dirty, "the one that was used last");
    drop(one);
    assert!(says(&mut other, TIMEOUT_IS_SET), "the hook ran where there was nothing to clean");
}

#[test]
fn an_advisory_lock_of_a_session_keeps_nobody_out_and_one_of_a_transaction_does() {
    let Some(bouncer) = start(2) else { return };
    let pool = recipe(&bouncer);
    let [mut one, mut other] = two(&pool);
    const OF_THE_SESSION: &str = "SELECT pg_try_advisory_lock(17)";
    assert!(says(&mut one, OF_THE_SESSION));
    assert!(says(&mut other, OF_THE_SESSION), "two have the lock: they share the session that it belongs to");
    run(&mut one, "SELECT pg_advisory_unlock_all()");

    const OF_THE_TRANSACTION: &str = "SELECT pg_try_advisory_xact_lock(18)";
    run(&mut one, "BEGIN");
    assert!(says(&mut one, OF_THE_TRANSACTION));
    assert!(!says(&mut other, OF_THE_TRANSACTION));
    run(&mut one, "COMMIT");
    assert!(says(&mut other, OF_THE_TRANSACTION));
}

#[test]
fn a_prepared_statement_is_missed_on_another_server_connection_and_query_typed_needs_none() {
    let Some(bouncer) = start(2) else { return };
    let pool = recipe(&bouncer);
    let [mut one, mut other] = two(&pool);
    let prepared = one.prepare("SELECT $1::INT4 + 1").expect("a good query");
    assert_eq!(one.query_one(&prepared, &[&1_i32]).expect("nobody else is here").get::<_, i32>(0), 2);
    let its = backend(&mut one);
    // What goes well alone goes wrong as soon as another client is served by that connection.
    run(&mut other, "BEGIN");
    assert_eq!(backend(&mut other), its, "the one that was used last");
    if PgBouncer::version() < (1, 21) {
        let error = one.query_one(&prepared, &[&1_i32]).expect_err("it was prepared elsewhere");
        assert_eq!(error.code(), Some(&postgres::error::SqlState::INVALID_SQL_STATEMENT_NAME), "{error:?}");
    }
    let sum = one.query_typed_one("SELECT $1 + 1", &[(&1_i32, Type::INT4)]).expect("its statement has no name");
    assert_eq!(sum.get::<_, i32>(0), 2);
    assert_ne!(backend(&mut one), its, "and it was served by the other one");
}

#[test]
fn a_transaction_that_was_left_open_keeps_a_server_connection_unless_the_hook_ends_it() {
    let (Some(bouncer), Some(postgres)) = (start(2), Postgres::shared()) else { return };
    let mut direct = Client::connect(&postgres.url(), NoTls).expect("the server answers");
    let mut kept = || -> i64 {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query = $1";
        direct.query_one(query, &[&LEFT_OPEN]).expect("it answers").get(0)
    };
    const LEFT_OPEN: &str = "BEGIN; SELECT 'left open'";
    let leave_one_open = |client: &mut Client| run(client, LEFT_OPEN);
    recipe(&bouncer).with(leave_one_open).expect("idle");
    assert_eq!(kept(), 0);
    let bare = builder(&bouncer).build().expect("it is up");
    bare.with(leave_one_open).expect("idle");
    assert_eq!(kept(), 1, "of two, for as long as nobody takes that connection out of the pool again");
}
