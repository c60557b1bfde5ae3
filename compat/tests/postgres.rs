//! r2d2_postgres against a real `postgres`, or `skipped: no postgres`.

use millpond::ErrorKind;
use r2d2_postgres::PostgresConnectionManager;
use r2d2_postgres::postgres::NoTls;
use servers::Postgres;
use std::error::Error as _;
use std::thread;
use std::time::Duration;
use temp_dir::TempDir;

// The guard of millpond's own tests with drivers. Their package cannot be used here: it takes millpond with its feature
// `r2d2`.
#[allow(dead_code, reason = "only one of its functions is needed here")]
#[path = "../../tests/drivers/src/port.rs"]
mod port;
#[allow(clippy::disallowed_methods, reason = "tests may read the clock")]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "only one of its servers is needed here")]
#[path = "../../tests/drivers/src/servers/mod.rs"]
mod servers;
#[allow(unreachable_pub, reason = "public in the library that it is a part of")]
#[path = "../../tests/drivers/src/temp_dir.rs"]
mod temp_dir;

type Manager = PostgresConnectionManager<NoTls>;

fn manager(server: &Postgres) -> Manager {
    PostgresConnectionManager::new(server.url().parse().expect("it is a URL"), NoTls)
}

#[test]
fn threads_share_connections_and_their_transactions_are_their_own() {
    let Some(server) = Postgres::shared() else { return };
    let pool = r2d2::Pool::builder().max_size(3).build(manager(server)).expect("the server is up");
    pool.get().expect("it is idle").batch_execute("CREATE TABLE t (n INT)").expect("it is a new table");
    thread::scope(|scope| {
        for n in 0..8_i32 {
            let pool = &pool;
            scope.spawn(move || {
                let mut client = pool.get().expect("a place comes free");
                let mut change = client.transaction().expect("none is open");
                change.execute("INSERT INTO t VALUES ($1)", &[&n]).expect("it is written");
                if n % 2 == 0 {
                    change.commit().expect("it is written");
                }
            });
        }
    });
    let row = pool.get().expect("it is idle").query_one("SELECT count(*) FROM t", &[]).expect("the table is there");
    assert_eq!(row.get::<_, i64>(0), 4);
    let stats = pool.stats();
    assert_eq!((stats.size, stats.opened, stats.closed.total()), (3, 3, 0));
}

#[test]
fn a_session_that_the_server_ended_is_replaced() {
    let Some(server) = Postgres::shared() else { return };
    let pool = r2d2::Pool::builder().max_size(2).build(manager(server)).expect("the server is up");
    let mut one = pool.get().expect("it is idle");
    let mut other = pool.get().expect("it is idle");
    let number: i32 = one.query_one("SELECT pg_backend_pid()", &[]).expect("it answers").get(0);
    let ended = other.query_one("SELECT pg_terminate_backend($1, 10000)", &[&number]).expect("a superuser may");
    assert!(ended.get::<_, bool>(0));
    one.simple_query("SELECT 1").expect_err("its session is gone");
    drop((one, other));
    let mut both = [pool.get().expect("one is replaced"), pool.get().expect("one is sound")];
    for client in &mut both {
        client.simple_query("SELECT 1").expect("it answers");
    }
    assert_eq!(pool.stats().closed.total(), 1);
}

#[test]
fn a_server_that_is_gone_is_the_cause_in_the_text_and_in_the_source() {
    let Some(server) = Postgres::start() else { return };
    let pool = r2d2::Pool::builder()
        .max_size(1)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build(manager(&server))
        .expect("the server is up");
    server.kill();
    let error = pool.get_timeout(Duration::from_millis(500)).map(drop).expect_err("nobody listens");
    assert!(error.to_string().starts_with("timed out waiting for connection: "), "{error}");
    let native = error.source().and_then(|source| source.downcast_ref::<millpond::Error>()).expect("it is millpond's");
    assert!(matches!(native.kind(), ErrorKind::Connect | ErrorKind::Validate), "{native}");
    server.restart();
    pool.get().expect("it is back within the 30 s of the default").simple_query("SELECT 1").expect("it answers");
}
