//! Real servers, a fault proxy, and the one check that ends every fault.
//!
//! The tests beside this library run millpond against the drivers and servers
//! that people use. What they share is here: [`Redis`], [`RedisCluster`], [`Postgres`],
//! [`MariaDb`] and [`PgBouncer`] start the server as a child process on a free
//! loopback port, in a directory of its own, and end it when dropped; [`Proxy`]
//! stands between a client and a server and misbehaves on request;
//! [`while_it_hangs`] tells whether callers meet their deadlines meanwhile;
//! [`Census`] asks a server how many connections it has; [`assert_whole`] asks
//! whether a pool has survived.
//!
//! A server whose program is not installed is skipped: `start` prints
//! `skipped: no redis-server` and returns `None`. With
//! `MILLPOND_REQUIRE_SERVERS=1` in the environment it panics instead, so that a
//! continuous integration run cannot pass by testing nothing. On Debian and
//! Ubuntu the packages are `redis-server`, `postgresql`, `mariadb-server-core`,
//! `mariadb-client-core` and `pgbouncer`; none of their services need run.
//!
//! ```no_run
//! use millpond_drivers::Redis;
//!
//! let Some(redis) = Redis::start() else { return };
//! println!("{}", redis.url());
//! redis.stop();    // hangs: accepts and never answers
//! redis.cont();
//! redis.kill();    // gone, as by kill -9
//! redis.restart(); // back, on the same port
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod census;
mod hang;
mod leftover;
mod port;
mod proxy;
mod servers;
mod temp_dir;
mod whole;

pub use census::{Census, Member, agree};
pub use hang::{SHORT, while_it_hangs};
pub use leftover::Leftover;
pub use proxy::{Mode, Proxy};
pub use servers::{MariaDb, PgBouncer, Postgres, Redis, RedisCluster, Role, Server};
pub use temp_dir::TempDir;
pub use whole::{PATIENCE, assert_whole, cause_of, fill};
