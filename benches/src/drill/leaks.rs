//! What one borrower's session leaves to the next: a pool of one connection, a state, a return, and a look.

use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use millpond::redis::{OnReturn, RedisManager};
use millpond::{PooledConnection, R2d2, reset};
use millpond_drivers::{MariaDb, Postgres, Redis, TempDir};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use postgres::{Client, NoTls};
use r2d2::ManageConnection;
use r2d2_mysql::MySqlConnectionManager;
use r2d2_postgres::PostgresConnectionManager;
use r2d2_sqlite::SqliteConnectionManager;
use redis::{Connection, RedisResult};
use scheduled_thread_pool::ScheduledThreadPool;

use super::{Row, recipes};
use crate::measure::quantile;
use crate::table::time;

/// Something that a session may be left with.
struct State<C> {
    name: &'static str,
    make: fn(&mut C),
    there: fn(&mut C) -> bool,
}

type Clean<M> =
    Arc<dyn Fn(&mut <M as ManageConnection>::Connection) -> Result<(), <M as ManageConnection>::Error> + Send + Sync>;

struct Subject<M: ManageConnection> {
    server: &'static str,
    manager: Box<dyn Fn() -> M>,
    /// Tells one connection from another.
    identity: fn(&mut M::Connection) -> u64,
    states: Vec<State<M::Connection>>,
    /// What the matrix is cleaned with.
    clean: Clean<M>,
    /// A pool over the crate's own manager, which cleans by itself; then `clean` has nothing to do.
    own: Option<Box<dyn Own<M::Connection>>>,
    /// Further ways whose cost is of interest.
    others: Vec<(&'static str, Clean<M>)>,
    /// Over how many returns the cost is taken.
    returns: u32,
}

/// A pool of one connection over a manager of the crate's own.
trait Own<C> {
    /// As [`Subject::look`].
    fn look(&self, state: &State<C>) -> Found;
    /// Names and costs: of a return, and of a checkout and a return.
    fn costs(&self, returns: u32) -> Vec<(&'static str, [f64; 2])>;
}

/// What the next borrower found.
#[derive(Clone, Copy)]
enum Found {
    Leaks,
    Cleaned,
    Replaced,
}

impl Found {
    fn text(self) -> &'static str {
        match self {
            Self::Leaks => "leaks",
            Self::Cleaned => "clean",
            Self::Replaced => "clean, replaced",
        }
    }
}

/// The whole matrix. A server that is not installed has no rows.
pub(super) fn rows() -> Vec<Row> {
    let postgres = Postgres::start().map(|server| on_postgres(&server).rows());
    let redis = Redis::start().map(|server| on_redis(&server).rows());
    let mariadb = MariaDb::start().map(|server| on_mariadb(&server).rows());
    let dir = TempDir::new("leaks");
    let sqlite = Some(on_sqlite(&dir).rows());
    [postgres, redis, mariadb, sqlite].into_iter().flatten().flatten().collect()
}

impl<M: ManageConnection> Subject<M>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        // Each of r2d2's pools would keep three threads for half a minute.
        let threads = Arc::new(ScheduledThreadPool::new(1));
        let mut fault = format!("session left dirty: {}", self.server);
        for state in &self.states {
            let [cleaned, bare] = [true, false].map(|clean| match &self.own {
                Some(own) if clean => own.look(state),
                _ => {
                    let pool = self.millpond(clean.then_some(&self.clean));
                    self.look(state, || pool.get().expect("the server is up"))
                }
            });
            let pool = self.r2d2(&threads);
            let its = self.look(state, || pool.get().expect("the server is up"));
            let own = format!("{} (bare: {})", cleaned.text(), bare.text());
            rows.push(Row::new(&fault, state.name, "clean", [own, its.text().to_owned()]));
            fault = String::new();
        }
        let pool = self.r2d2(&threads);
        let its = cost(self.returns, || pool.get().expect("the server is up"));
        let pool = self.millpond(None);
        let bare = cost(self.returns, || pool.get().expect("the server is up"));
        let all = [("", &self.clean)].into_iter().chain(self.others.iter().map(|(name, clean)| (*name, clean)));
        let costs = all.map(|(name, clean)| {
            let pool = self.millpond(Some(clean));
            (name, cost(self.returns, || pool.get().expect("the server is up")))
        });
        let costs = self.own.as_ref().map_or_else(|| costs.collect::<Vec<_>>(), |own| own.costs(self.returns));
        for (name, own) in costs {
            let figure = |what: &str| if name.is_empty() { what.to_owned() } else { format!("{what}, {name}") };
            for (what, nth) in [("a return", 0), ("checkout and return", 1)] {
                let own = format!("{} (bare: {})", time(own[nth]), time(bare[nth]));
                rows.push(Row::new("", &figure(what), "", [own, time(its[nth])]));
            }
        }
        rows
    }

    fn millpond(&self, clean: Option<&Clean<M>>) -> millpond::Pool<R2d2<M>> {
        let mut builder = millpond::Pool::builder(R2d2((self.manager)())).max_size(1);
        if let Some(clean) = clean {
            let clean = Arc::clone(clean);
            builder = builder.on_return(move |connection| clean(connection));
        }
        builder.build().expect("the server is up")
    }

    fn r2d2(&self, threads: &Arc<ScheduledThreadPool>) -> r2d2::Pool<M> {
        let builder = r2d2::Pool::builder().max_size(1).thread_pool(Arc::clone(threads));
        builder.build((self.manager)()).expect("the server is up")
    }

    fn look<G: DerefMut<Target = M::Connection>>(&self, state: &State<M::Connection>, get: impl Fn() -> G) -> Found {
        let mut connection = get();
        let first = (self.identity)(&mut connection);
        (state.make)(&mut connection);
        drop(connection);
        let mut connection = get();
        if (state.there)(&mut connection) {
            Found::Leaks
        } else if (self.identity)(&mut connection) == first {
            Found::Cleaned
        } else {
            Found::Replaced
        }
    }
}

/// Medians in nanoseconds: of a return, and of a checkout and a return.
fn cost<G>(returns: u32, get: impl Fn() -> G) -> [f64; 2] {
    let (mut ends, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..returns {
        let begun = Instant::now();
        let connection = get();
        let got = Instant::now();
        drop(connection);
        let done = Instant::now();
        ends.push((done - got).as_nanos() as u64);
        rounds.push((done - begun).as_nanos() as u64);
    }
    [quantile(&mut ends, 0.5) as f64, quantile(&mut rounds, 0.5) as f64]
}

fn on_postgres(server: &Postgres) -> Subject<PostgresConnectionManager<NoTls>> {
    fn run(client: &mut Client, sql: &str) {
        client.batch_execute(sql).expect("a good statement");
    }
    fn says(client: &mut Client, sql: &str) -> bool {
        client.query_one(sql, &[]).expect("a good query").get(0)
    }
    let url = server.url();
    Subject {
        server: "postgres",
        manager: Box::new(move || PostgresConnectionManager::new(url.parse().expect("it is a URL"), NoTls)),
        identity: |client| {
            let row = client.query_one("SELECT pg_backend_pid()", &[]).expect("it answers");
            row.get::<_, i32>(0).unsigned_abs().into()
        },
        states: vec![
            State {
                name: "open transaction",
                make: |client| run(client, "BEGIN; SELECT pg_current_xact_id()"),
                there: |client| says(client, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"),
            },
            State {
                name: "failed transaction",
                make: |client| {
                    run(client, "BEGIN");
                    client.batch_execute("SELECT 1 / 0").expect_err("nobody may do that");
                },
                there: |client| client.batch_execute("SELECT 1").is_err(),
            },
            State {
                name: "SET",
                make: |client| run(client, "SET statement_timeout = '17s'"),
                there: |client| says(client, "SELECT current_setting('statement_timeout') = '17s'"),
            },
            State {
                name: "SET ROLE",
                make: |client| run(client, "SET ROLE app"),
                there: |client| says(client, "SELECT current_user = 'app'"),
            },
            State {
                name: "temporary table",
                make: |client| run(client, "CREATE TEMP TABLE leaked (n INT)"),
                there: |client| says(client, "SELECT to_regclass('pg_temp.leaked') IS NOT NULL"),
            },
            State {
                name: "LISTEN",
                make: |client| run(client, "LISTEN leaked"),
                there: |client| says(client, "SELECT count(*) > 0 FROM pg_listening_channels()"),
            },
            State {
                name: "advisory lock",
                make: |client| run(client, "SELECT pg_advisory_lock(17)"),
                there: |client| {
                    let mine = "locktype = 'advisory' AND pid = pg_backend_pid()";
                    says(client, &format!("SELECT count(*) > 0 FROM pg_locks WHERE {mine}"))
                },
            },
            State {
                name: "cursor",
                make: |client| run(client, "DECLARE leaked CURSOR WITH HOLD FOR SELECT 1"),
                there: |client| says(client, "SELECT count(*) > 0 FROM pg_cursors WHERE name = 'leaked'"),
            },
        ],
        clean: Arc::new(reset::postgres::clean),
        own: None,
        others: vec![("rollback alone", Arc::new(reset::postgres::rollback))],
        returns: 2_000,
    }
}

impl Own<Connection> for RedisManager {
    fn look(&self, state: &State<Connection>) -> Found {
        let pool = pool_of(self.clone());
        let mut connection = pool.get().expect("the server is up");
        let first = PooledConnection::id(&connection);
        (state.make)(connection.raw());
        drop(connection);
        let mut connection = pool.get().expect("the server is up");
        let same = PooledConnection::id(&connection) == first;
        match ((state.there)(connection.raw()), same) {
            (true, _) => Found::Leaks,
            (false, true) => Found::Cleaned,
            (false, false) => Found::Replaced,
        }
    }

    fn costs(&self, returns: u32) -> Vec<(&'static str, [f64; 2])> {
        let pool = pool_of(self.clone());
        let untouched = cost(returns, || pool.get().expect("the server is up"));
        let touched = |manager: Self| {
            let pool = pool_of(manager);
            cost(returns, || {
                let mut connection = pool.get().expect("the server is up");
                // As far as the pool knows, anything may have been done with it.
                let _ = connection.raw();
                connection
            })
        };
        let ping = cost(returns, || {
            let mut connection = pool.get().expect("the server is up");
            redis::cmd("PING").exec(&mut connection).expect("it answers");
            connection
        });
        vec![
            ("nothing to clean", untouched),
            ("RESET", touched(self.clone())),
            ("OnReturn::Nothing", touched(self.clone().on_return(OnReturn::Nothing))),
            ("with a PING", ping),
        ]
    }
}

fn pool_of(manager: RedisManager) -> millpond::Pool<RedisManager> {
    millpond::Pool::builder(manager).max_size(1).build().expect("the server is up")
}

fn on_redis(server: &Redis) -> Subject<redis::Client> {
    fn run(connection: &mut Connection, words: &[&str]) {
        let (command, arguments) = words.split_first().expect("a command");
        redis::cmd(command).arg(arguments).exec(connection).expect("it answers");
    }
    let url = server.url();
    Subject {
        server: "redis",
        manager: Box::new(move || redis::Client::open(url.as_str()).expect("it is a URL")),
        identity: |connection| redis::cmd("CLIENT").arg("ID").query(connection).expect("it answers"),
        states: vec![
            State {
                name: "MULTI",
                make: |connection| run(connection, &["MULTI"]),
                there: |connection| {
                    let reply: RedisResult<Option<String>> = redis::cmd("GET").arg("k").query(connection);
                    reply.is_ok_and(|reply| reply.as_deref() == Some("QUEUED"))
                },
            },
            State {
                name: "WATCH",
                make: |connection| run(connection, &["WATCH", "k"]),
                // A transaction is refused when a watched key has changed, whoever changed it.
                there: |connection| {
                    run(connection, &["SET", "k", "1"]);
                    run(connection, &["MULTI"]);
                    run(connection, &["PING"]);
                    let done: Option<Vec<String>> = redis::cmd("EXEC").query(connection).expect("it answers");
                    done.is_none()
                },
            },
            State {
                name: "SELECT",
                make: |connection| run(connection, &["SELECT", "5"]),
                there: |connection| {
                    let info: String = redis::cmd("CLIENT").arg("INFO").query(connection).expect("it answers");
                    info.contains(" db=5 ")
                },
            },
            State {
                name: "SUBSCRIBE",
                make: |connection| run(connection, &["SUBSCRIBE", "leaked"]),
                there: |connection| redis::cmd("GET").arg("k").exec(connection).is_err(),
            },
        ],
        clean: Arc::new(|_| Ok(())),
        own: Some(Box::new(RedisManager::new(server.url()).expect("it is a URL"))),
        others: Vec::new(),
        returns: 10_000,
    }
}

fn on_mariadb(server: &MariaDb) -> Subject<MySqlConnectionManager> {
    fn run(conn: &mut Conn, sql: &str) {
        conn.query_drop(sql).expect("a good statement");
    }
    fn says(conn: &mut Conn, sql: &str) -> bool {
        conn.query_first(sql).expect("a good query").expect("one row")
    }
    let mut admin = Conn::new(server.url().as_str()).expect("the server is up");
    run(&mut admin, "CREATE TABLE one (n INT)");
    run(&mut admin, "CREATE TABLE other (n INT)");
    let opts = Opts::from_url(&server.url()).expect("it is a URL");
    Subject {
        server: "mariadb",
        manager: Box::new(move || MySqlConnectionManager::new(OptsBuilder::from_opts(opts.clone()))),
        identity: |conn| conn.connection_id().into(),
        states: vec![
            State {
                name: "user variable",
                make: |conn| run(conn, "SET @leaked = 17"),
                there: |conn| says(conn, "SELECT @leaked IS NOT NULL"),
            },
            State {
                name: "SET SESSION",
                make: |conn| run(conn, "SET SESSION lock_wait_timeout = 17"),
                there: |conn| says(conn, "SELECT @@lock_wait_timeout = 17"),
            },
            State {
                name: "open transaction",
                make: |conn| run(conn, "BEGIN"),
                there: |conn| says(conn, "SELECT @@in_transaction"),
            },
            State {
                name: "LOCK TABLES",
                make: |conn| run(conn, "LOCK TABLES one WRITE"),
                there: |conn| conn.query_drop("SELECT * FROM other").is_err(),
            },
            State {
                name: "temporary table",
                make: |conn| run(conn, "CREATE TEMPORARY TABLE leaked (n INT)"),
                there: |conn| conn.query_drop("SELECT * FROM leaked").is_ok(),
            },
            State {
                name: "GET_LOCK",
                // Of a name of its own: the connection of the pool before may not have gone yet, and it has its lock.
                make: |conn| run(conn, "SELECT GET_LOCK(concat('leaked ', connection_id()), 0)"),
                there: |conn| {
                    says(conn, "SELECT coalesce(is_used_lock(concat('leaked ', connection_id())) = connection_id(), 0)")
                },
            },
            State {
                name: "USE",
                make: |conn| run(conn, "USE information_schema"),
                there: |conn| says(conn, "SELECT database() <> 'test'"),
            },
        ],
        clean: Arc::new(reset::mysql::clean_in("test")),
        own: None,
        others: vec![
            ("USE left out", Arc::new(reset::mysql::clean)),
            ("rollback alone", Arc::new(reset::mysql::rollback)),
        ],
        returns: 10_000,
    }
}

fn on_sqlite(dir: &TempDir) -> Subject<SqliteConnectionManager> {
    fn run(connection: &mut rusqlite::Connection, sql: &str) {
        connection.execute_batch(sql).expect("a good statement");
    }
    fn says(connection: &mut rusqlite::Connection, sql: &str) -> bool {
        connection.query_row(sql, [], |row| row.get(0)).expect("a good query")
    }
    // A pragma that belongs to the connection and that nobody else here sets.
    static NEXT: AtomicU32 = AtomicU32::new(1000);
    let path = dir.path().join("leaks.db");
    Subject {
        server: "sqlite",
        manager: Box::new(move || {
            SqliteConnectionManager::file(&path).with_init(|connection| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                connection.execute_batch(&format!("PRAGMA cache_size = {number}"))
            })
        }),
        identity: |connection| {
            let number: u32 = connection.query_row("PRAGMA cache_size", [], |row| row.get(0)).expect("it is set");
            number.into()
        },
        states: vec![
            State {
                name: "open transaction",
                make: |connection| run(connection, "BEGIN"),
                there: |connection| !connection.is_autocommit(),
            },
            State {
                name: "query_only",
                make: |connection| run(connection, "PRAGMA query_only = ON"),
                there: |connection| says(connection, "PRAGMA query_only"),
            },
            State {
                name: "ATTACH",
                make: |connection| run(connection, "ATTACH ':memory:' AS leaked"),
                there: |connection| {
                    says(connection, "SELECT count(*) > 0 FROM pragma_database_list WHERE name = 'leaked'")
                },
            },
            State {
                name: "temporary table",
                make: |connection| run(connection, "CREATE TEMP TABLE leaked (n INTEGER)"),
                there: |connection| says(connection, "SELECT count(*) > 0 FROM temp.sqlite_schema"),
            },
        ],
        clean: Arc::new(recipes::sqlite),
        own: None,
        others: vec![("rollback alone", Arc::new(recipes::sqlite_rollback))],
        returns: 50_000,
    }
}
