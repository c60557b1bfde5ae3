//! The error of calls that both borrow a connection and use it.

use crate::redact::redact;
use ::redis::RedisError;
use std::error::Error as StdError;
use std::fmt;

/// Why a call of [`RedisPool`](super::RedisPool) failed: no connection could be had, or the command failed on one.
///
/// The text is that of the error inside, without passwords; `source()` is that one's own.
///
/// # Examples
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/redis_stand_in.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let url = redis_stand_in();
/// use millpond::redis::{Error, RedisPool};
///
/// let pool = RedisPool::new(&url)?;
/// pool.set("name", "heron")?;
/// match pool.query::<u64>(redis::cmd("INCR").arg("name")) {
///     Err(Error::Redis(refusal)) => assert!(refusal.to_string().contains("not an integer")),
///     other => panic!("{other:?}"),
/// }
/// pool.close();
/// match pool.get_value::<Option<String>>("name") {
///     Err(Error::Pool(error)) => assert_eq!(error.kind(), millpond::ErrorKind::Closed),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be had.
    Pool(crate::Error),
    /// The command failed: the server refused it, or did not answer, or its answer is of another type.
    Redis(RedisError),
}

impl Error {
    /// Whether time ran out: the pool's for a connection, or the connection's for a reply.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Pool(error) => error.is_timeout(),
            Self::Redis(error) => error.is_timeout(),
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::Pool(error)
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(f),
            Self::Redis(error) => f.write_str(&redact(&error.to_string())),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => f.debug_tuple("Pool").field(error).finish(),
            Self::Redis(error) => f.debug_tuple("Redis").field(&redact(&error.to_string())).finish(),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Pool(error) => error.source(),
            Self::Redis(error) => error.source(),
        }
    }
}
