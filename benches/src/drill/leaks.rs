//! What one borrower's session leaves to the next: a pool of one connection, a state, a return, and a look.

use std::sync::Arc;
use std::time::Instant;

use millpond::redis::{RedisConnection, RedisManager};
use millpond::sqlite::SqliteManager;
use millpond::{Manager, PooledConnection, R2d2, reset};
use millpond_drivers::{Leftover, MariaDb, Postgres, Redis, TempDir};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use postgres::{Client, NoTls};
use r2d2::ManageConnection;
use r2d2_mysql::MySqlConnectionManager;
use r2d2_postgres::PostgresConnectionManager;
use r2d2_sqlite::SqliteConnectionManager;
use redis::{Connection, RedisResult};
use scheduled_thread_pool::ScheduledThreadPool;

use super::Row;
use crate::measure::quantile;
use crate::table::time;

struct Subject<M: ManageConnection> {
    server: &'static str,
    /// For r2d2's pools, and for millpond's that clean nothing.
    manager: Box<dyn Fn() -> M>,
    states: Vec<Leftover<M::Connection>>,
    /// The ways whose cost is of interest. The matrix is cleaned in the first.
    ways: Vec<Named<M::Connection>>,
    /// Over how many returns the cost is taken.
    returns: u32,
}

/// A way to clean the sessions of a driver's connections, whatever manager opens them.
trait Clean<C> {
    /// Leaves a state in the connection of a new pool, and has the next borrower look.
    fn look(&self, state: &Leftover<C>) -> Found;
    /// Medians in nanoseconds: of a return, and of a checkout and a return.
    fn cost(&self, returns: u32) -> [f64; 2];
}

/// As the rows of its cost are called.
type Named<C> = (&'static str, Box<dyn Clean<C>>);

/// Pools of one connection over a manager, which may clean by itself.
struct Way<M: Manager, C> {
    manager: Arc<M>,
    /// Beside what the manager does.
    hook: Option<Hook<M>>,
    /// What is lent, or what it has within.
    driver: fn(&mut M::Connection) -> &mut C,
    /// What a borrower does whose return is measured.
    work: fn(&mut M::Connection),
}

type Hook<M> = Arc<dyn Fn(&mut <M as Manager>::Connection) -> Result<(), <M as Manager>::Error> + Send + Sync>;

/// What the next borrower found.
#[derive(Clone, Copy)]
enum Found {
    Leaks,
    Cleaned,
    Replaced,
}

impl Found {
    fn new(there: bool, same: bool) -> Self {
        match (there, same) {
            (true, _) => Self::Leaks,
            (false, true) => Self::Cleaned,
            (false, false) => Self::Replaced,
        }
    }

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
        let bare = bare((self.manager)());
        let (_, cleaning) = self.ways.first().expect("each server is cleaned in one way at least");
        let mut fault = format!("session left dirty: {}", self.server);
        for state in &self.states {
            let own = format!("{} (bare: {})", cleaning.look(state).text(), bare.look(state).text());
            let its = self.look_in_r2d2(state, &threads).text().to_owned();
            rows.push(Row::new(&fault, state.name, "clean", [own, its]));
            fault = String::new();
        }
        let pool = self.r2d2(&threads);
        let its = cost(self.returns, || pool.get().expect("the server is up"));
        let bare = bare.cost(self.returns);
        for (name, way) in &self.ways {
            let own = way.cost(self.returns);
            let figure = |what: &str| if name.is_empty() { what.to_owned() } else { format!("{what}, {name}") };
            for (what, nth) in [("a return", 0), ("checkout and return", 1)] {
                let own = format!("{} (bare: {})", time(own[nth]), time(bare[nth]));
                rows.push(Row::new("", &figure(what), "", [own, time(its[nth])]));
            }
        }
        rows
    }

    fn r2d2(&self, threads: &Arc<ScheduledThreadPool>) -> r2d2::Pool<M> {
        let builder = r2d2::Pool::builder().max_size(1).thread_pool(Arc::clone(threads));
        builder.build((self.manager)()).expect("the server is up")
    }

    /// As [`Clean::look`].
    fn look_in_r2d2(&self, state: &Leftover<M::Connection>, threads: &Arc<ScheduledThreadPool>) -> Found {
        // r2d2's connections have no number, but keep what they are given.
        struct Seen;
        let pool = self.r2d2(threads);
        let mut connection = pool.get().expect("the server is up");
        r2d2::PooledConnection::extensions_mut(&mut connection).insert(Seen);
        (state.make)(&mut connection);
        drop(connection);
        let mut connection = pool.get().expect("the server is up");
        let same = r2d2::PooledConnection::extensions(&connection).get::<Seen>().is_some();
        Found::new((state.there)(&mut connection), same)
    }
}

impl<M: Manager, C> Way<M, C> {
    fn pool(&self) -> millpond::Pool<Arc<M>> {
        let mut builder = millpond::Pool::builder(Arc::clone(&self.manager)).max_size(1);
        if let Some(hook) = &self.hook {
            let hook = Arc::clone(hook);
            builder = builder.on_return(move |connection| hook(connection));
        }
        builder.build().expect("the server is up")
    }
}

impl<M: Manager, C> Clean<C> for Way<M, C> {
    fn look(&self, state: &Leftover<C>) -> Found {
        let pool = self.pool();
        let mut connection = pool.get().expect("the server is up");
        let first = PooledConnection::id(&connection);
        (state.make)((self.driver)(&mut connection));
        drop(connection);
        let mut connection = pool.get().expect("the server is up");
        let same = PooledConnection::id(&connection) == first;
        Found::new((state.there)((self.driver)(&mut connection)), same)
    }

    fn cost(&self, returns: u32) -> [f64; 2] {
        let pool = self.pool();
        cost(returns, || {
            let mut connection = pool.get().expect("the server is up");
            (self.work)(&mut connection);
            connection
        })
    }
}

/// Nothing is cleaned.
fn bare<M: ManageConnection>(manager: M) -> Way<R2d2<M>, M::Connection>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    Way { manager: Arc::new(R2d2(manager)), hook: None, driver: |connection| connection, work: |_| () }
}

/// By a function for `on_return`.
fn hooked<M: ManageConnection>(
    manager: M,
    hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
) -> Box<dyn Clean<M::Connection>>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    Box::new(Way { hook: Some(Arc::new(hook)), ..bare(manager) })
}

/// As [`Clean::cost`].
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
    let manager = move || PostgresConnectionManager::new(url.parse().expect("it is a URL"), NoTls);
    Subject {
        server: "postgres",
        states: vec![
            Leftover {
                name: "open transaction",
                make: |client| run(client, "BEGIN; SELECT pg_current_xact_id()"),
                there: |client| says(client, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"),
            },
            Leftover {
                name: "failed transaction",
                make: |client| {
                    run(client, "BEGIN");
                    client.batch_execute("SELECT 1 / 0").expect_err("nobody may do that");
                },
                there: |client| client.batch_execute("SELECT 1").is_err(),
            },
            Leftover {
                name: "SET",
                make: |client| run(client, "SET statement_timeout = '17s'"),
                there: |client| says(client, "SELECT current_setting('statement_timeout') = '17s'"),
            },
            Leftover {
                name: "SET ROLE",
                make: |client| run(client, "SET ROLE app"),
                there: |client| says(client, "SELECT current_user = 'app'"),
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
        ],
        ways: vec![
            ("", hooked(manager(), reset::postgres::clean)),
            ("rollback alone", hooked(manager(), reset::postgres::rollback)),
        ],
        manager: Box::new(manager),
        returns: 2_000,
    }
}

fn on_redis(server: &Redis) -> Subject<redis::Client> {
    fn run(connection: &mut Connection, words: &[&str]) {
        let (command, arguments) = words.split_first().expect("a command");
        redis::cmd(command).arg(arguments).exec(connection).expect("it answers");
    }
    fn own(manager: &RedisManager, work: fn(&mut RedisConnection)) -> Box<dyn Clean<Connection>> {
        Box::new(Way { manager: Arc::new(manager.clone()), hook: None, driver: RedisConnection::raw, work })
    }
    // As far as the pool knows, anything may have been done with it.
    fn touch(connection: &mut RedisConnection) {
        let _ = connection.raw();
    }
    fn ping(connection: &mut RedisConnection) {
        redis::cmd("PING").exec(connection).expect("it answers");
    }
    let url = server.url();
    let manager = RedisManager::new(&url).expect("it is a URL");
    let careless = manager.clone().on_return(millpond::redis::OnReturn::Nothing);
    Subject {
        server: "redis",
        manager: Box::new(move || redis::Client::open(url.as_str()).expect("it is a URL")),
        states: vec![
            Leftover {
                name: "MULTI",
                make: |connection| run(connection, &["MULTI"]),
                there: |connection| {
                    let reply: RedisResult<Option<String>> = redis::cmd("GET").arg("k").query(connection);
                    reply.is_ok_and(|reply| reply.as_deref() == Some("QUEUED"))
                },
            },
            Leftover {
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
            Leftover {
                name: "SELECT",
                make: |connection| run(connection, &["SELECT", "5"]),
                there: |connection| {
                    let info: String = redis::cmd("CLIENT").arg("INFO").query(connection).expect("it answers");
                    info.contains(" db=5 ")
                },
            },
            Leftover {
                name: "SUBSCRIBE",
                make: |connection| run(connection, &["SUBSCRIBE", "leaked"]),
                there: |connection| redis::cmd("GET").arg("k").exec(connection).is_err(),
            },
        ],
        ways: vec![
            ("nothing to clean", own(&manager, |_| ())),
            ("RESET", own(&manager, touch)),
            ("OnReturn::Nothing", own(&careless, touch)),
            ("with a PING", own(&manager, ping)),
        ],
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
    let manager = move || MySqlConnectionManager::new(OptsBuilder::from_opts(opts.clone()));
    Subject {
        server: "mariadb",
        states: vec![
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
                name: "open transaction",
                make: |conn| run(conn, "BEGIN"),
                there: |conn| says(conn, "SELECT @@in_transaction"),
            },
            Leftover {
                name: "LOCK TABLES",
                make: |conn| run(conn, "LOCK TABLES one WRITE"),
                there: |conn| conn.query_drop("SELECT * FROM other").is_err(),
            },
            Leftover {
                name: "temporary table",
                make: |conn| run(conn, "CREATE TEMPORARY TABLE leaked (n INT)"),
                there: |conn| conn.query_drop("SELECT * FROM leaked").is_ok(),
            },
            Leftover {
                name: "GET_LOCK",
                // Of a name of its own: the connection of the pool before may not have gone yet, and it has its lock.
                make: |conn| run(conn, "SELECT GET_LOCK(concat('leaked ', connection_id()), 0)"),
                there: |conn| {
                    says(conn, "SELECT coalesce(is_used_lock(concat('leaked ', connection_id())) = connection_id(), 0)")
                },
            },
            Leftover {
                name: "USE",
                make: |conn| run(conn, "USE information_schema"),
                there: |conn| says(conn, "SELECT database() <> 'test'"),
            },
        ],
        ways: vec![
            ("", hooked(manager(), reset::mysql::clean_in("test"))),
            ("USE left out", hooked(manager(), reset::mysql::clean)),
            ("rollback alone", hooked(manager(), reset::mysql::rollback)),
        ],
        manager: Box::new(manager),
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
    fn own(manager: SqliteManager) -> Box<dyn Clean<rusqlite::Connection>> {
        Box::new(Way { manager: Arc::new(manager), hook: None, driver: |connection| connection, work: |_| () })
    }
    // Not in the others' file: its write-ahead log would be theirs too.
    let manager = || SqliteManager::file(dir.path().join("own.db"));
    let path = dir.path().join("leaks.db");
    Subject {
        server: "sqlite",
        manager: Box::new(move || SqliteConnectionManager::file(&path)),
        states: vec![
            Leftover {
                name: "open transaction",
                make: |connection| run(connection, "BEGIN"),
                there: |connection| !connection.is_autocommit(),
            },
            Leftover {
                name: "query_only",
                make: |connection| run(connection, "PRAGMA query_only = ON"),
                there: |connection| says(connection, "PRAGMA query_only"),
            },
            Leftover {
                name: "ATTACH",
                make: |connection| run(connection, "ATTACH ':memory:' AS leaked"),
                there: |connection| {
                    says(connection, "SELECT count(*) > 0 FROM pragma_database_list WHERE name = 'leaked'")
                },
            },
            Leftover {
                name: "temporary table",
                make: |connection| run(connection, "CREATE TEMP TABLE leaked (n INTEGER)"),
                there: |connection| says(connection, "SELECT count(*) > 0 FROM temp.sqlite_schema"),
            },
        ],
        ways: vec![
            ("", own(manager())),
            ("OnReturn::RollBack", own(manager().on_return(millpond::sqlite::OnReturn::RollBack))),
        ],
        returns: 50_000,
    }
}
