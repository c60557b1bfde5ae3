//! Redis and Valkey.
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
