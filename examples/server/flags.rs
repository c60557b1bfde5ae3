//! What can be set when the server is started.

use clap::Parser;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A guest book on the web, over a pool of connections to a SQLite file.
#[derive(Debug, Parser)]
#[command(name = "server")]
pub(crate) struct Flags {
    /// Where to listen. Whatever is beyond the loopback belongs behind a proxy with TLS
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,

    /// On which port; 0 takes a free one, and says which
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// The file of the database, made if it is not there [default: a file in the folder for temporary files]
    #[arg(long, default_value_os_t = std::env::temp_dir().join("millpond-guest-book.db"), hide_default_value = true)]
    pub(crate) database: PathBuf,

    /// The most connections that read; beside them is one that writes [default: one for each core, at least 4]
    // What is read is in memory, so more than there are cores only share them; some may wait for the disk all the same.
    #[arg(long, default_value_t = default_readers(), hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) readers: u32,

    /// How many requests may wait for a connection to read, and how many to write; one more gets a 503 at once
    // At 10,000 requests a second the last of 256 has waited for some 25 ms: far from the deadline, and nobody's fault.
    #[arg(long, default_value_t = 256)]
    pub(crate) waiting: u32,

    /// How long the work of a request may take, waiting for a connection included
    // Beyond that most people have gone, or press the button again.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) deadline: Duration,

    /// How many clients may be connected, each of which has a thread
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,

    /// How long what is under way may take to finish after Ctrl-C
    // Shorter than the 30 s after which orchestrators kill.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) grace: Duration,
}

impl Flags {
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

fn default_readers() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    cores.clamp(4, 1000)
}

/// `500ms`, `2s`, `1m 30s`: clap adds the flag and the value to the error.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    // A day is more than anybody means, and less than what clocks can add.
    if duration.is_zero() || duration > Duration::from_hours(24) {
        return Err("it must be more than nothing, and no more than a day".to_owned());
    }
    Ok(duration)
}
