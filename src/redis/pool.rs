//! A pool with calls that borrow a connection, use it and return it.

use super::connection::RedisConnection;
use super::error::Error;
use super::manager::RedisManager;
use crate::{Bound, Builder, Pool, PooledConnection};
use ::redis::{Cmd, FromRedisValue, Pipeline, RedisResult, ScriptInvocation, ToRedisArgs};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// A pool of connections to one Redis or Valkey server and one logical database, with calls that do all in one: borrow, use,
/// return.
///
/// It is a [`Pool`] besides, and has its functions (`stats`, `resize`, `close` …). Over those it has one advantage: when a reply
/// anywhere has said that the server was demoted (`READONLY`), the first who borrows after that has all connections replaced,
/// so that nobody else meets one. A plain `Pool<RedisManager>` closes each connection of before when it comes back, or when
/// it is checked.
///
/// # Examples
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/redis_stand_in.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let url = redis_stand_in();
/// use millpond::redis::{RedisManager, RedisPool};
/// use std::time::Duration;
///
/// let pool: RedisPool = RedisPool::builder(RedisManager::new(&url)?).name("cache").max_size(4).build()?.into();
///
/// pool.set("bird", "heron")?;
/// pool.set_for("fish", "pike", Duration::from_secs(60))?; // gone after a minute
/// assert_eq!(pool.get_value::<String>("bird")?, "heron");
/// assert_eq!(pool.get_value::<Option<String>>("plant")?, None);
///
/// // Several commands in one round trip; with `atomic` as one transaction.
/// let (visits, bird): (u64, String) = pool.pipeline(redis::pipe().atomic().incr("visits", 1).get("bird"))?;
/// assert_eq!((visits, bird.as_str()), (1, "heron"));
///
/// // Any command, and several that belong together on one connection.
/// let length: u64 = pool.query(redis::cmd("STRLEN").arg("bird"))?;
/// assert_eq!(length, 5);
/// pool.run(|conn| {
///     redis::cmd("SET").arg("plant").arg("reed").exec(conn)?;
///     redis::cmd("DEL").arg("fish").exec(conn)
/// })?;
/// assert_eq!(pool.stats().opened, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisPool(Pool<RedisManager>);

impl RedisPool {
    /// A pool with the default settings for a URL: see [`RedisManager::new`].
    ///
    /// # Errors
    ///
    /// The URL cannot be used, or the first connection cannot be opened.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self(Pool::new(RedisManager::new(url)?)?))
    }

    /// Settings for a pool over this manager. What they build becomes a `RedisPool` by `into()`.
    pub fn builder(manager: RedisManager) -> Builder<RedisManager> {
        Pool::builder(manager)
    }

    /// The value of a key (`GET`). `T` is what it is to be read as; an `Option`, where the key may not be there.
    ///
    /// # Errors
    ///
    /// No connection, or the server's refusal, or a value of another type.
    #[track_caller]
    pub fn get_value<T: FromRedisValue>(&self, key: impl ToRedisArgs) -> Result<T, Error> {
        self.query(::redis::cmd("GET").arg(key))
    }

    /// Sets the value of a key (`SET`).
    ///
    /// # Errors
    ///
    /// No connection, or the server's refusal.
    #[track_caller]
    pub fn set(&self, key: impl ToRedisArgs, value: impl ToRedisArgs) -> Result<(), Error> {
        self.query(::redis::cmd("SET").arg(key).arg(value))
    }

    /// Sets the value of a key for a limited time, in whole milliseconds (`SET … PX`).
    ///
    /// # Errors
    ///
    /// No connection, or the server's refusal, as of a time below one millisecond.
    #[track_caller]
    pub fn set_for(&self, key: impl ToRedisArgs, value: impl ToRedisArgs, time: Duration) -> Result<(), Error> {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.query(::redis::cmd("SET").arg(key).arg(value).arg("PX").arg(milliseconds))
    }

    /// One command.
    ///
    /// # Errors
    ///
    /// No connection, or the server's refusal, or a reply of another type.
    #[track_caller]
    pub fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.run(|conn| command.query(conn))
    }

    /// Several commands in one round trip; with [`Pipeline::atomic`] as a transaction.
    ///
    /// # Errors
    ///
    /// No connection, or the refusal of one of the commands, or replies of other types. Without `atomic`, the other commands
    /// have been executed.
    #[track_caller]
    pub fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Error> {
        self.run(|conn| pipeline.query(conn))
    }

    /// A script, with its keys and arguments. The server is told its text when it does not have it yet.
    ///
    /// # Errors
    ///
    /// No connection, or the script's error, or a result of another type.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use millpond::redis::RedisPool;
    /// use redis::Script;
    ///
    /// let pool = RedisPool::new("redis://localhost/2")?;
    /// let add = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    /// let total: i64 = pool.script(add.key("total").arg(5))?;
    /// assert_eq!(total, 5);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        self.run(|conn| script.invoke(conn))
    }

    /// Calls `f` with a borrowed connection. [`Pool::with`], with one error instead of two.
    ///
    /// # Errors
    ///
    /// No connection, or what `f` returns.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[track_caller]
    pub fn run<T>(&self, f: impl FnOnce(&mut RedisConnection) -> RedisResult<T>) -> Result<T, Error> {
        Ok(self.with(f)??)
    }

    /// [`Pool::get`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn get(&self) -> Result<PooledConnection<RedisManager>, crate::Error> {
        self.renewed().get()
    }

    /// [`Pool::get_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<RedisManager>, crate::Error> {
        self.renewed().get_timeout(timeout)
    }

    /// [`Pool::try_get`].
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConnection<RedisManager>> {
        self.renewed().try_get()
    }

    /// [`Pool::get_many`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn get_many(&self, count: usize) -> Result<Vec<PooledConnection<RedisManager>>, crate::Error> {
        self.renewed().get_many(count)
    }

    /// [`Pool::with`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut RedisConnection) -> R) -> Result<R, crate::Error> {
        self.renewed().with(f)
    }

    /// [`Pool::bind`].
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn bind(&self) -> Result<Bound<RedisManager>, crate::Error> {
        self.renewed().bind()
    }

    /// The pool, without connections from before a demotion that somebody has met.
    #[inline]
    fn renewed(&self) -> &Pool<RedisManager> {
        if self.0.manager().take_demotion() {
            log::warn!("pool {:?}: the server was demoted (READONLY); its connections are replaced", self.0.name());
            self.0.refresh();
        }
        &self.0
    }
}

impl From<Pool<RedisManager>> for RedisPool {
    fn from(pool: Pool<RedisManager>) -> Self {
        Self(pool)
    }
}

impl From<RedisPool> for Pool<RedisManager> {
    fn from(pool: RedisPool) -> Self {
        pool.0
    }
}

impl Deref for RedisPool {
    type Target = Pool<RedisManager>;

    fn deref(&self) -> &Pool<RedisManager> {
        &self.0
    }
}

impl fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
