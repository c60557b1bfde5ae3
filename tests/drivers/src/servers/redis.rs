//! `redis-server`, with nothing on disk.

use std::{ops::Deref, path::Path, sync::OnceLock};

use super::{Recipe, Server, directory, exchange, find};

/// A `redis-server` of version 6.2 or newer, without persistence.
#[derive(Debug)]
pub struct Redis {
    server: Server,
}

impl Redis {
    /// Starts a server, or prints `skipped: no redis-server`.
    ///
    /// # Panics
    ///
    /// If the server is there and does not start, or is not there and
    /// `MILLPOND_REQUIRE_SERVERS` is `1`.
    pub fn start() -> Option<Self> {
        Self::with(args)
    }

    /// A server that does not know `RESET`, like those before 6.2.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn without_reset() -> Option<Self> {
        Self::with(|dir, port| {
            let rename = ["--rename-command", "RESET", ""].map(str::to_owned);
            args(dir, port).into_iter().chain(rename).collect()
        })
    }

    fn with(args: fn(&Path, u16) -> Vec<String>) -> Option<Self> {
        let program = find("redis-server", &[])?;
        let recipe = Recipe { program, args, probe };
        let server = Server::start(recipe, directory("redis"));
        Some(Self { server })
    }

    /// One server for all tests of a binary that do not kill, stop or flush it.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Redis>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// `redis://127.0.0.1:<port>/0`.
    pub fn url(&self) -> String {
        Self::url_at(self.port())
    }

    /// The same server through another port, that of a [`Proxy`](crate::Proxy).
    pub fn url_at(port: u16) -> String {
        format!("redis://127.0.0.1:{port}/0")
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn args(_: &Path, port: u16) -> Vec<String> {
    let port = port.to_string();
    let args = ["--bind", "127.0.0.1", "--port", &port];
    let nothing_on_disk = ["--save", "", "--appendonly", "no"];
    args.into_iter().chain(nothing_on_disk).map(str::to_owned).collect()
}

fn probe(port: u16) -> bool {
    exchange(port, b"PING\r\n", 5).is_some_and(|answer| answer == b"+PONG")
}
