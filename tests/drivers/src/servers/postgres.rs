//! `postgres`, on a fresh cluster.

use std::{fs, ops::Deref, path::Path, path::PathBuf, sync::OnceLock};

use super::{Recipe, Server, directory, exchange, find, run, write};

/// Who needs a password: `postgres` does not, everybody else does, so that a
/// test can try a wrong one.
const HBA: &str = "\
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
";

/// A PostgreSQL server with the superuser `postgres` (no password needed) and
/// the user `app` (password `app-password`), database `postgres`.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
}

impl Postgres {
    /// Starts a server, or prints `skipped: no postgres`.
    ///
    /// # Panics
    ///
    /// If the server is there and does not start, or is not there and
    /// `MILLPOND_REQUIRE_SERVERS` is `1`.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same, with lines for its configuration file, such as `max_connections = 8`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), or if the server does not take the settings.
    pub fn start_with(settings: &str) -> Option<Self> {
        let program = find("postgres", &debian_dirs())?;
        // The link that PATH may name is of no use to initdb, which looks for its
        // own share directory beside itself.
        let program = fs::canonicalize(&program).unwrap_or(program);
        let initdb = program.with_file_name("initdb");
        let dir = directory("postgres");
        let common = ["--no-sync", "--auth=trust", "--username=postgres"];
        let locale = ["--locale=C", "--encoding=UTF8", "--pgdata=data"];
        run(&dir, &initdb, &[common, locale].concat());
        write(&dir, "data/pg_hba.conf", HBA);
        write(&dir, "data/postgresql.auto.conf", &format!("max_connections = 100\n{settings}\n"));
        write(&dir, "app.sql", "CREATE ROLE app LOGIN PASSWORD 'app-password' IN ROLE pg_read_all_stats\n");
        // Single-user mode needs no port and no start-up; it reads from its input.
        let single = "\"$0\" --single -D data postgres <app.sql";
        let shell = Path::new("/bin/sh");
        let program_name = program.to_str().expect("its path is plain text");
        run(&dir, shell, &["-c", single, program_name]);
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
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// A URL for the superuser.
    pub fn url(&self) -> String {
        Self::url_at(self.port())
    }

    /// The same through another port, that of a [`Proxy`](crate::Proxy) or of a
    /// [`PgBouncer`](crate::PgBouncer).
    pub fn url_at(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    /// A URL for the user `app` with the given password; the right one is
    /// `app-password`.
    pub fn url_with_password(&self, password: &str) -> String {
        let port = self.port();
        format!("postgres://app:{password}@127.0.0.1:{port}/postgres")
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Debian keeps each version in a directory that is not in `PATH`; newest first.
fn debian_dirs() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut versions: Vec<u32> =
        versions.filter_map(|version| version.ok()?.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| format!("/usr/lib/postgresql/{version}/bin").into()).collect()
}

fn args(_: &Path, port: u16) -> Vec<String> {
    let port = format!("port={port}");
    let settings = [
        port.as_str(),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        // The data live as long as one test.
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "shared_buffers=16MB",
        "autovacuum=off",
    ];
    let settings = settings.into_iter().flat_map(|setting| ["-c", setting]);
    ["-D", "data"].into_iter().chain(settings).map(str::to_owned).collect()
}

/// Logs in as the superuser: while the server starts it answers with `E`, and
/// with `R` as soon as it takes log-ins.
pub(super) fn probe(port: u16) -> bool {
    let body = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).expect("it is 40 bytes");
    let startup = [&length.to_be_bytes()[..], body].concat();
    exchange(port, &startup, 1).is_some_and(|answer| answer == b"R")
}
