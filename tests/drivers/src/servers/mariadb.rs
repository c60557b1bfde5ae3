//! `mariadbd`, on a fresh data directory.

use std::{ops::Deref, path::Path, sync::OnceLock};

use super::{Recipe, Server, directory, exchange, find, run};

/// By default the crate mysql connects by TCP, asks for the Unix socket, and
/// connects again by that: past a proxy, and two connections where we count one.
const TCP_ONLY: &str = "?prefer_socket=false";

/// A MariaDB server with the user `root` (no password), database `test`.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
}

impl MariaDb {
    /// Starts a server, or prints `skipped: no mariadbd`.
    ///
    /// # Panics
    ///
    /// If the server is there and does not start, or is not there and
    /// `MILLPOND_REQUIRE_SERVERS` is `1`.
    pub fn start() -> Option<Self> {
        let program = find("mariadbd", &[])?;
        let install = find("mariadb-install-db", &[])?;
        let dir = directory("mariadb");
        let data = format!("--datadir={}", dir.path().join("data").display());
        let quiet = "--auth-root-authentication-method=normal";
        run(&dir, &install, &["--no-defaults", &data, quiet, "--skip-name-resolve"]);
        let recipe = Recipe { program, args, probe };
        let server = Server::start(recipe, dir);
        Some(Self { server })
    }

    /// One server for all tests of a binary that do not kill or stop it.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<MariaDb>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// A URL for `root` in the database `test`.
    pub fn url(&self) -> String {
        Self::url_at(self.port())
    }

    /// The same through another port, that of a [`Proxy`](crate::Proxy).
    pub fn url_at(port: u16) -> String {
        format!("mysql://root@127.0.0.1:{port}/test{TCP_ONLY}")
    }

    /// A URL for `root` in another database.
    pub fn url_of(&self, database: &str) -> String {
        let port = self.port();
        format!("mysql://root@127.0.0.1:{port}/{database}{TCP_ONLY}")
    }

    /// A URL for `root` with a password, which is wrong: `root` has none.
    pub fn url_with_password(&self, password: &str) -> String {
        let port = self.port();
        format!("mysql://root:{password}@127.0.0.1:{port}/test{TCP_ONLY}")
    }
}

impl Deref for MariaDb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn args(dir: &Path, port: u16) -> Vec<String> {
    let dir = dir.display();
    vec![
        // First, or it is ignored and /etc is read.
        "--no-defaults".to_owned(),
        format!("--datadir={dir}/data"),
        format!("--socket={dir}/socket"),
        format!("--pid-file={dir}/pid"),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--skip-name-resolve".to_owned(),
        // The data live as long as one test.
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
        "--innodb-fast-shutdown=2".to_owned(),
        "--innodb-buffer-pool-size=16M".to_owned(),
        "--innodb-use-native-aio=0".to_owned(),
        "--max-connections=100".to_owned(),
    ]
}

/// The server speaks first: a packet whose fifth byte is protocol version 10.
fn probe(port: u16) -> bool {
    exchange(port, b"", 5).is_some_and(|greeting| greeting.last() == Some(&10))
}
