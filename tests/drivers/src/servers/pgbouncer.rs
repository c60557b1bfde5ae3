//! `pgbouncer` in transaction mode, before a PostgreSQL server.

use std::{ops::Deref, path::Path, process::Command};

use super::{Postgres, Recipe, Server, directory, find, postgres, write};

/// A PgBouncer in transaction mode with ten server connections per database.
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
}

impl PgBouncer {
    /// Starts one before `postgres`, or prints `skipped: no pgbouncer`.
    ///
    /// # Panics
    ///
    /// If it is there and does not start, or is not there and
    /// `MILLPOND_REQUIRE_SERVERS` is `1`.
    pub fn start(postgres: &Postgres) -> Option<Self> {
        Self::start_with(postgres, "")
    }

    /// The same, with lines for its configuration file, such as `default_pool_size = 2`; the last line for a setting
    /// is the one that counts.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), or if it does not take the settings.
    pub fn start_with(postgres: &Postgres, settings: &str) -> Option<Self> {
        let program = find("pgbouncer", &[])?;
        let dir = directory("pgbouncer");
        write(&dir, "users.txt", "\"postgres\" \"\"\n");
        write(&dir, "settings.ini", &format!("{settings}\n"));
        write(&dir, "databases.ini", &databases(postgres.port()));
        let recipe = Recipe { program, args, probe: postgres::probe };
        let server = Server::start(recipe, dir);
        Some(Self { server })
    }

    /// Major and minor version of the program, or zeros if it does not say.
    pub fn version() -> (u32, u32) {
        let Some(program) = find("pgbouncer", &[]) else { return (0, 0) };
        let output = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&output);
        let mut numbers = text.lines().next().unwrap_or_default().trim_start_matches("PgBouncer ").split('.');
        let mut next = || numbers.next().and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        (next(), next())
    }

    /// A URL for the superuser of the server behind it.
    pub fn url(&self) -> String {
        Postgres::url_at(self.port())
    }
}

impl Deref for PgBouncer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn databases(port: u16) -> String {
    format!("[databases]\n* = host=127.0.0.1 port={port}\n")
}

/// PgBouncer takes its port from its file only, so the file is written here,
/// where the port is known.
fn args(dir: &Path, port: u16) -> Vec<String> {
    let settings = format!(
        "%include databases.ini\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = trust\n\
         auth_file = users.txt\n\
         pool_mode = transaction\n\
         default_pool_size = 10\n\
         max_client_conn = 200\n\
         ignore_startup_parameters = extra_float_digits\n\
         %include settings.ini\n"
    );
    let file = dir.join("pgbouncer.ini");
    std::fs::write(&file, settings).expect("the directory is ours");
    vec!["pgbouncer.ini".to_owned()]
}
