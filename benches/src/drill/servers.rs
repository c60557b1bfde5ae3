//! The servers of the drill, with the driver and the r2d2 manager that people use with each.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use millpond_drivers::Server;
use mysql::prelude::Queryable;
use postgres::NoTls;
use r2d2::ManageConnection;
use r2d2_mysql::MySqlConnectionManager;
use r2d2_postgres::PostgresConnectionManager;

pub(super) use millpond_drivers::{MariaDb, Postgres, Redis};

use super::pair::Driver;

type Conn<D> = <<D as Database>::Manager as ManageConnection>::Connection;

pub(super) trait Database: Sized + Sync {
    type Manager: Driver;
    const NAME: &str;
    const PROGRAM: &str;

    /// `None`, and a line that says so, when the program is not installed.
    fn start() -> Option<Self>;

    fn server(&self) -> &Server;

    /// For the server itself or for a proxy before it.
    fn manager(port: u16) -> Self::Manager;

    /// One round trip; whether it was good.
    fn ping(conn: &mut Conn<Self>) -> bool;

    /// Whether the server takes connections: a restarted database listens before it does.
    fn answers(&self) -> bool {
        Self::manager(self.server().port()).connect().is_ok()
    }

    /// Tells the server to close all connections but the one that tells it.
    fn close_all(&self);
}

const UP: &str = "the server is up";

impl Database for Redis {
    type Manager = redis::Client;
    const NAME: &str = "redis";
    const PROGRAM: &str = "redis-server";

    fn start() -> Option<Self> {
        Self::start()
    }

    fn server(&self) -> &Server {
        self
    }

    fn manager(port: u16) -> redis::Client {
        redis::Client::open(Self::url_at(port)).expect("it is a URL")
    }

    fn ping(conn: &mut redis::Connection) -> bool {
        redis::cmd("PING").query::<String>(conn).is_ok()
    }

    fn answers(&self) -> bool {
        TcpStream::connect(self.addr()).is_ok()
    }

    fn close_all(&self) {
        let mut admin = <Self as Database>::manager(self.port()).get_connection().expect(UP);
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        redis::cmd("CLIENT").arg(&kill).exec(&mut admin).expect("it obeys");
    }
}

impl Database for Postgres {
    type Manager = PostgresConnectionManager<NoTls>;
    const NAME: &str = "postgres";
    const PROGRAM: &str = "postgres";

    fn start() -> Option<Self> {
        Self::start()
    }

    fn server(&self) -> &Server {
        self
    }

    fn manager(port: u16) -> Self::Manager {
        PostgresConnectionManager::new(Self::url_at(port).parse().expect("it is a URL"), NoTls)
    }

    fn ping(conn: &mut postgres::Client) -> bool {
        conn.simple_query("SELECT 1").is_ok()
    }

    fn close_all(&self) {
        let mut admin = <Self as Database>::manager(self.port()).connect().expect(UP);
        let others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        admin.simple_query(&format!("SELECT pg_terminate_backend(pid) {others}")).expect("a superuser may");
        // It only sends signals. To be told of each end takes a tenth of a second per connection.
        let left = format!("SELECT count(*) {others}");
        while admin.query_one(&left, &[]).expect("it answers").get::<_, i64>(0) > 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Database for MariaDb {
    type Manager = MySqlConnectionManager;
    const NAME: &str = "mariadb";
    const PROGRAM: &str = "mariadbd";

    fn start() -> Option<Self> {
        Self::start()
    }

    fn server(&self) -> &Server {
        self
    }

    fn manager(port: u16) -> MySqlConnectionManager {
        let opts = mysql::Opts::from_url(&Self::url_at(port)).expect("it is a URL");
        MySqlConnectionManager::new(mysql::OptsBuilder::from_opts(opts))
    }

    fn ping(conn: &mut mysql::Conn) -> bool {
        conn.query_drop("SELECT 1").is_ok()
    }

    fn close_all(&self) {
        let mut admin = <Self as Database>::manager(self.port()).connect().expect(UP);
        let others = "SELECT id FROM information_schema.processlist WHERE db = 'test' AND id <> connection_id()";
        for id in admin.query::<u64, _>(others).expect("it answers") {
            admin.query_drop(format!("KILL {id}")).expect("root may");
        }
    }
}
