//! rust-postgres through r2d2_postgres, against a real `postgres`.
//!
//! One server serves the tests that do it no harm; each of them uses a database
//! user or a database of its own where it counts connections.

use std::{
    collections::HashSet,
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use millpond::{Builder, ErrorKind, Fault, FnManager, Pool, PooledConnection, R2d2, Validation};
use millpond_drivers::{
    Census, Mode, PATIENCE, Postgres, Proxy, SHORT, agree, assert_whole, cause_of, fill, while_it_hangs,
};
use postgres::{Client, NoTls, error::SqlState};
use r2d2_postgres::PostgresConnectionManager;

type PostgresManager = PostgresConnectionManager<NoTls>;

fn manager(url: &str, application: &str) -> PostgresManager {
    let mut config: postgres::Config = url.parse().expect("it is a URL");
    config.application_name(application);
    PostgresConnectionManager::new(config, NoTls)
}

fn builder(url: &str, application: &str) -> Builder<R2d2<PostgresManager>> {
    Pool::builder(manager(url, application)).connection_timeout(PATIENCE)
}

fn answers(client: &mut Client) {
    let row = client.query_one("SELECT 1", &[]).expect("it answers");
    assert_eq!(row.get::<_, i32>(0), 1);
}

fn observer(server: &Postgres) -> Client {
    Client::connect(&server.url(), NoTls).expect("the server answers")
}

/// The process ids of the backends that serve `application`.
fn backends(observer: &mut Client, application: &str) -> HashSet<u64> {
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
    let rows = observer.query(query, &[&application]).expect("it answers");
    rows.iter().map(|row| row.get::<_, i32>(0).unsigned_abs().into()).collect()
}

fn backend(client: &mut Client) -> u64 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).expect("it answers");
    row.get::<_, i32>(0).unsigned_abs().into()
}

#[test]
fn queries_and_transactions_run_on_the_guard() {
    let Some(server) = Postgres::shared() else { return };
    let pool = builder(&server.url(), "queries").max_size(4).build().expect("the server is up");
    pool.with(|client| client.batch_execute("CREATE TABLE queries (n INT)"))
        .expect("it is idle")
        .expect("it is a new table");
    thread::scope(|scope| {
        for worker in 0..8_i32 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..10_i32 {
                    let mut client = pool.get().expect("a place comes free");
                    let mut transaction = client.transaction().expect("none is open");
                    let insert = "INSERT INTO queries VALUES ($1)";
                    transaction.execute(insert, &[&(worker * 10 + n)]).expect("it is written");
                    if n % 2 == 0 {
                        transaction.commit().expect("it is written");
                    }
                }
            });
        }
    });
    let mut client = pool.get().expect("it is idle");
    let row = client.query_one("SELECT count(*) FROM queries", &[]).expect("it is there");
    assert_eq!(row.get::<_, i64>(0), 40, "half of them were rolled back");
    drop(client);
    assert_whole(&pool, answers);
}

#[test]
fn the_server_lists_as_many_backends_as_the_pool() {
    let Some(server) = Postgres::shared() else { return };
    let mut observer = observer(server);
    let pool = builder(&server.url(), "listed").max_size(5).build().expect("the server is up");
    fill(&pool);
    agree(&pool, 5, || backends(&mut observer, "listed"));
    PooledConnection::discard(pool.get().expect("it is idle"));
    agree(&pool, 4, || backends(&mut observer, "listed"));
    let taken = PooledConnection::into_inner(pool.get().expect("it is idle"));
    assert_eq!(pool.stats().size, 3, "what was taken out is not the pool's");
    assert_eq!(backends(&mut observer, "listed").len(), 4, "and is open");
    assert_whole(&pool, answers);
    taken.close().expect("it is ours now");
    agree(&pool, 5, || backends(&mut observer, "listed"));
}

#[test]
fn the_server_never_lists_more_than_the_maximum_under_churn() {
    let Some(server) = Postgres::shared() else { return };
    let census = Census::of(R2d2(manager(&server.url(), "churn")), backend);
    let pool = Pool::builder(census).max_size(8).connection_timeout(PATIENCE).build().expect("the server is up");
    let mut observer = observer(server);
    let largest = Census::churn(&pool, || backends(&mut observer, "churn"), answers);
    assert!(largest >= 2, "the load was no load: {largest}");
    assert_whole(&pool, |member| answers(member));
}

#[test]
fn a_bad_password_gives_the_error_of_the_driver() {
    let Some(server) = Postgres::shared() else { return };
    let right = builder(&server.url_with_password("app-password"), "password");
    assert_whole(&right.max_size(2).build().expect("the password is right"), answers);
    let error = cause_of(|deadline| {
        let pool = builder(&server.url_with_password("sesame"), "password").connection_timeout(deadline).build();
        pool.map(drop).expect_err("the password is wrong")
    });
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<postgres::Error>());
    let state = cause.and_then(postgres::Error::code);
    assert_eq!(state, Some(&SqlState::INVALID_PASSWORD), "{error:?}");
    assert!(!error.to_string().contains("sesame") && !format!("{error:?}").contains("sesame"));
}

#[test]
fn a_bad_password_that_is_classed_as_permanent_is_tried_once() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.url_with_password("sesame");
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let connect = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Client::connect(&url, NoTls)
    };
    let manager = FnManager::new(connect).classify(|error: &postgres::Error| match error.code() {
        Some(&SqlState::INVALID_PASSWORD) => Fault::Permanent,
        _ => Fault::Transient,
    });
    let pool = Pool::builder(manager).build_lazy().expect("nothing is opened");
    let error = pool.get_timeout(PATIENCE).map(drop).expect_err("the password is wrong");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(!error.is_timeout(), "{error}");
    assert_eq!(attempts.load(Ordering::SeqCst), 1, "it is no better the second time");
}

#[test]
fn a_connection_whose_thread_panicked_in_a_transaction_is_not_lent_again() {
    let Some(server) = Postgres::shared() else { return };
    // `simple_query("")`, the check of r2d2_postgres, passes inside a transaction.
    let pool =
        builder(&server.url(), "panic").max_size(1).validation(Validation::Always).build().expect("the server is up");
    pool.with(|client| client.batch_execute("CREATE TABLE panics (n INT)"))
        .expect("it is idle")
        .expect("it is a new table");
    let lost = thread::scope(|scope| {
        let (sender, backends) = mpsc::channel();
        let pool = &pool;
        let panicked = scope.spawn(move || {
            let mut client = pool.get().expect("nobody else is here");
            sender.send(backend(&mut client)).expect("the test waits");
            let leak = "BEGIN; INSERT INTO panics VALUES (1); LOCK TABLE panics";
            client.batch_execute(leak).expect("nobody else writes");
            std::panic::resume_unwind(Box::new("a bug in the user's code"));
        });
        panicked.join().expect_err("it panicked");
        backends.recv().expect("it was sent before")
    });
    let mut next = pool.get().expect("the place came back");
    assert_ne!(backend(&mut next), lost, "it is another connection");
    // Waits for the lock of the lost one, which the server rolls back.
    next.execute("INSERT INTO panics VALUES (2)", &[]).expect("no lock is left behind");
    let row = next.query_one("SELECT sum(n) FROM panics", &[]).expect("it is there");
    assert_eq!(row.get::<_, i64>(0), 2, "the first was rolled back");
    drop(next);
    assert_whole(&pool, answers);
    agree(&pool, 1, || backends(&mut observer(server), "panic"));
}

#[test]
fn backends_that_were_terminated_are_found_by_the_check() {
    let Some(server) = Postgres::shared() else { return };
    let pool = builder(&server.url(), "terminated")
        .max_size(4)
        .validation(Validation::Always)
        .build()
        .expect("the server is up");
    fill(&pool);
    let closed = pool.stats().closed.total();
    let terminate = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
        WHERE application_name = 'terminated'";
    let rows = observer(server).query(terminate, &[]).expect("a superuser may");
    assert_eq!(rows.len(), 4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pool.with(answers).expect("nobody hears of it"));
        }
    });
    assert_whole(&pool, answers);
    assert_eq!(pool.stats().closed.total(), closed + 4);
}

#[test]
fn a_server_that_is_killed_and_comes_back_leaves_a_whole_pool() {
    let Some(server) = Postgres::start() else { return };
    let pool =
        builder(&server.url(), "killed").max_size(4).validation(Validation::Always).build().expect("the server is up");
    fill(&pool);
    server.kill();
    let error = pool.get_timeout(SHORT * 5).map(drop).expect_err("there is no server");
    assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Validate), "{error:?}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<postgres::Error>());
    assert!(cause.is_some(), "{error:?}");
    server.restart();
    assert_whole(&pool, answers);
}

#[test]
fn deadlines_hold_while_a_suspended_server_leaves_the_check_hanging() {
    let Some(server) = Postgres::start() else { return };
    let pool = builder(&server.url(), "suspended")
        .max_size(4)
        .validation(Validation::Always)
        .build()
        .expect("the server is up");
    fill(&pool);
    server.stop();
    let kinds = while_it_hangs(&pool, || server.cont());
    assert!(kinds.contains(&ErrorKind::Validate), "{kinds:?}");
    assert_whole(&pool, answers);
}

#[test]
fn deadlines_hold_while_connecting_hangs_and_another_pool_does_not_notice() {
    let Some(server) = Postgres::shared() else { return };
    let proxy = Proxy::to(server.addr());
    proxy.set(Mode::BlackHole);
    let pool = builder(&Postgres::url_at(proxy.port()), "hanging").max_size(4).build_lazy().expect("nothing is opened");
    let other = builder(&server.url(), "other").max_size(2).build_lazy().expect("nothing is opened");
    let kinds = while_it_hangs(&pool, || {
        // The hanging ones are still at it: this pool must open connections now.
        assert_whole(&other, answers);
        proxy.set(Mode::Pass);
    });
    assert!(kinds.iter().all(|&kind| kind == ErrorKind::Connect), "{kinds:?}");
    assert!(proxy.accepted() <= 4, "{} connects for 4 places", proxy.accepted());
    assert_whole(&pool, answers);
}
