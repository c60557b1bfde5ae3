//! PostgreSQL behind PgBouncer in transaction mode: consecutive transactions of
//! one client connection run on different server connections.

use std::thread;

use millpond::{Pool, R2d2, Validation};
use millpond_drivers::{PATIENCE, PgBouncer, Postgres, assert_whole};
use postgres::{Client, NoTls, types::Type};
use r2d2_postgres::PostgresConnectionManager;

fn pool(bouncer: &PgBouncer, size: u32) -> Pool<R2d2<PostgresConnectionManager<NoTls>>> {
    let config = bouncer.url().parse().expect("it is a URL");
    Pool::builder(PostgresConnectionManager::new(config, NoTls))
        .max_size(size)
        .validation(Validation::Always)
        .connection_timeout(PATIENCE)
        .build()
        .expect("the server is up")
}

/// With `query_typed` the statement has no name, so it need not be prepared on the
/// server connection that happens to run it.
fn plus_one(client: &mut Client, n: i32) -> i32 {
    let rows = client.query_typed("SELECT $1 + 1", &[(&n, Type::INT4)]);
    let rows = rows.expect("unnamed statements work in transaction mode");
    rows.first().expect("it is one row").get(0)
}

#[test]
fn more_clients_than_server_connections_share_them() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(bouncer) = PgBouncer::start(&postgres) else { return };
    let pool = pool(&bouncer, 20);
    thread::scope(|scope| {
        for worker in 0..20 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..20 {
                    let mut client = pool.get().expect("there is one for each");
                    assert_eq!(plus_one(&mut client, worker * 100 + n), worker * 100 + n + 1);
                }
            });
        }
    });
    assert_whole(&pool, |client| assert_eq!(plus_one(client, 1), 2));
    let mut direct = Client::connect(&postgres.url(), NoTls).expect("the server answers");
    let query = "SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let row = direct.query_one(query, &[]).expect("it answers");
    assert!(row.get::<_, i64>(0) <= 10, "PgBouncer holds ten for our twenty");
}

#[test]
fn a_bouncer_that_is_killed_and_comes_back_leaves_a_whole_pool() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(bouncer) = PgBouncer::start(&postgres) else { return };
    let pool = pool(&bouncer, 4);
    assert_whole(&pool, |client| assert_eq!(plus_one(client, 1), 2));
    bouncer.restart();
    assert_whole(&pool, |client| assert_eq!(plus_one(client, 1), 2));
}
