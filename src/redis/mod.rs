//! Redis and Valkey: pools over the crate [`redis`] 1.x (feature `redis`), and Redis Cluster (feature
//! `redis-cluster`).
//!
//! The driver's own r2d2 manager works in any pool of this crate, but it has no time-outs, hands on whatever a session was
//! left with, and lends a connection on which a reply is still to come. What is here:
//!
//! - [`RedisPool`]: one call for a get, a set, any command, a pipeline or a script on a pooled connection.
//! - [`RedisManager`]: opens, checks and cleans connections for a [`Pool`](crate::Pool).
//! - [`RedisConnection`]: what is lent. It is a connection to the driver's commands and watches what goes over it.
//! - `RedisClusterManager`: the same for Redis Cluster.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/redis_stand_in.rs"));
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let url = redis_stand_in();
//! use millpond::redis::RedisPool;
//! use std::thread;
//!
//! let pool = RedisPool::new(&url)?; // "redis://user:password@host:6379/2", say
//! pool.set("bird", "heron")?;
//!
//! thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| {
//!             let visits: u64 = pool.query(redis::cmd("INCR").arg("visits")).expect("one more");
//!             assert!(visits <= 8);
//!         });
//!     }
//! });
//!
//! let (bird, visits): (String, u64) = pool.pipeline(redis::pipe().get("bird").get("visits"))?;
//! assert_eq!((bird.as_str(), visits), ("heron", 8));
//! # Ok(())
//! # }
//! ```
//!
//! # What a connection is left with
//!
//! A borrower may leave an open `MULTI`, a `WATCH`, another database, a subscription, another user; the next one would find it. A
//! connection knows from the commands that were sent over it whether that can be so. As a rule it cannot, and the return costs
//! no round trip (40 ns). Otherwise `RESET` and what logs in again go out together and cost one (20 µs where a `PING` costs 16):
//! [`OnReturn`]. So:
//!
//! - A pool is for one logical database, that of its URL. For another one, make another pool.
//! - What [`Builder::on_open`](crate::Builder::on_open) sets up on a connection (a name, tracking) is seen as left behind,
//!   too, and is gone after the first return; with `CLIENT NO-EVICT`, `NO-TOUCH` or `SETINFO`, which nothing undoes, the connection
//!   is. With [`OnReturn::Nothing`] it stays.
//! - Cleaning runs on the thread that drops the guard, for 250 ms at the most
//!   ([`RedisManager::reset_timeout`]).
//!
//! # What is found out about a connection, and when
//!
//! | what happened | who notices | what follows |
//! |---|---|---|
//! | no reply in time | the command | the connection is closed on its return |
//! | the same over [`RedisConnection::raw`] | the cleaning, which waits for its own reply | the same |
//! | the connection was lost, or a reply makes no sense | the command, or the check of an idle one | the same |
//! | a reply was not read (`set_no_response`), or packed requests are not as many as their replies | the cleaning, or the count | the same |
//! | `READONLY`: the server was demoted | the command that wrote | it is closed on its return, and so is every other connection that was opened before; a [`RedisPool`] replaces those that lie idle before it lends again, a plain `Pool` when it checks them |
//! | demoted, and nobody writes | the check, if it asks for the role ([`Check::Primary`]) | all are closed, and none is opened until the address leads to a primary |
//! | a wrong password, no such database, protected mode | connecting | all who wait get the server's words at once |
//! | `LOADING`, too many clients | connecting | tried again, with the pauses of [`Builder::retry`](crate::Builder::retry) |
//!
//! What nobody notices: a demotion, where the check only pings and nobody writes; a demotion that is seen over
//! [`RedisConnection::raw`] alone; and a session that a proxy shares between its clients.
//!
//! # The driver's version and features
//!
//! The application's own `redis = "1"` is the same crate, with the features that the application asks for: this one asks for
//! `script` only (and `cluster`, with `redis-cluster`). TLS is one of those features. The crate is re-exported as
//! `millpond::redis::redis` for who has no dependency on it.

mod address;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod connection;
mod error;
mod handshake;
mod manager;
mod pool;
mod reset;
mod session;
mod shared;

#[cfg(feature = "redis-cluster")]
pub use self::cluster::{RedisClusterConnection, RedisClusterManager};
pub use self::connection::RedisConnection;
pub use self::error::Error;
pub use self::manager::{Check, RedisManager};
pub use self::pool::RedisPool;
pub use self::reset::OnReturn;
pub use ::redis;
