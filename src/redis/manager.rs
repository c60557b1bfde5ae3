//! Opens, checks and cleans connections to one Redis server.

use super::address;
use super::connection::{RedisConnection, now};
use super::handshake;
use super::reset::{Cleaner, OnReturn};
use super::shared::{SHORTEST, Shared};
use crate::redact::redact;
use crate::{Fault, Manager};
use ::redis::{
    Client, Cmd, Connection, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind,
    Value,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a check asks an idle connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// `PING`, which must be answered by `PONG`. A primary that was demoted passes.
    #[default]
    Ping,
    /// `ROLE`, which must be answered by `master`; also when a connection is opened. As quick as `PING`, but users that the
    /// server restricts (ACL) often may not call it. While the address leads to a replica, the pool has no connections, not
    /// even to read from.
    Primary,
}

/// Opens, checks and cleans connections to one Redis or Valkey server.
///
/// # Examples
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/redis_stand_in.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let url = redis_stand_in();
/// use millpond::{Pool, redis::RedisManager};
/// use std::time::Duration;
///
/// let manager = RedisManager::new(&url)?.read_timeout(Some(Duration::from_millis(500)));
/// let pool = Pool::builder(manager).name("cache").max_size(4).build()?;
/// let pong: String = pool.with(|conn| redis::cmd("PING").query(conn))??;
/// assert_eq!(pong, "PONG");
///
/// let error = RedisManager::new("redis://:secret@localhost:66666").unwrap_err();
/// assert!(error.to_string().ends_with(r#"the port "66666" is not a number from 1 to 65535"#));
/// # Ok(())
/// # }
/// ```
pub struct RedisManager {
    /// Without what the handshake of this module does.
    client: Client,
    settings: RedisConnectionInfo,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    check: Check,
    cleaner: Cleaner,
    shared: Arc<Shared>,
}

impl RedisManager {
    /// For a URL as redis-rs reads it, without opening a connection:
    /// `redis://user:password@host:6379/2?protocol=resp3`, or `valkey://…`, `rediss://…` (with a TLS feature of the crate
    /// redis), `unix:///path?db=2&user=…&pass=…`.
    ///
    /// The path is the logical database, 0 by default. It is fixed: each database has a pool of its own, and a `SELECT` that
    /// somebody sends is undone when the connection comes back.
    ///
    /// # Errors
    ///
    /// The URL cannot be used; the error says which part of it, and shows no password. What the server refuses, such as a wrong
    /// password or a database that it does not have, is found when the first connection is opened.
    pub fn new(url: impl AsRef<str>) -> RedisResult<Self> {
        Self::with_info(address::parse(url.as_ref())?)
    }

    /// For settings of the driver's own, which a URL cannot express. TCP_NODELAY is switched on.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// For twemproxy, which closes a connection over any command that it does not know:
    ///
    /// ```
    /// use millpond::redis::{OnReturn, RedisManager};
    /// use redis::IntoConnectionInfo;
    ///
    /// let info = "redis://proxy:22121".into_connection_info()?;
    /// let settings = info.redis_settings().clone().set_skip_set_lib_name();
    /// let manager = RedisManager::with_info(info.set_redis_settings(settings))?.on_return(OnReturn::Close);
    /// assert!(format!("{manager:?}").contains("proxy:22121"));
    /// # Ok::<(), redis::RedisError>(())
    /// ```
    pub fn with_info(info: ConnectionInfo) -> RedisResult<Self> {
        address::examine(&info)?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let settings = info.redis_settings().clone();
        let info = info.set_tcp_settings(tcp).set_redis_settings(handshake::of_driver(&settings));
        Ok(Self {
            cleaner: Cleaner::new(&settings),
            client: Client::open(info)?,
            settings,
            connect_timeout: Some(Duration::from_secs(2)),
            read_timeout: Some(Duration::from_secs(5)),
            write_timeout: Some(Duration::from_secs(5)),
            check: Check::Ping,
            shared: Arc::new(Shared::new(false)),
        })
    }

    /// How long opening a connection may take, logging in and the first check included, and how long a later check may. Default:
    /// 2 s, which survives one lost packet (sent again after 1 s), and fits twice into the 5 s that a checkout may take, so that
    /// a caller hears from the driver what is wrong. `None` waits as long as the system does (minutes), and for checks as long as
    /// [`read_timeout`](Self::read_timeout) says.
    ///
    /// Looking a name up is not covered; each of several addresses of a name has the time for itself, and so has each piece of a
    /// reply that comes in pieces. Zero counts as one millisecond, here and below.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connect_timeout = usable(timeout);
        self
    }

    /// How long to wait for a reply. Default: 5 s, longer than a command that does not block should ever take. A blocking
    /// command (`BLPOP`) needs a time-out below it, or a longer one for its borrower:
    /// [`RedisConnection::set_read_timeout`]. After a time-out the connection is not lent again. `None` waits for ever.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.read_timeout = usable(timeout);
        self
    }

    /// How long sending may take. Default: 5 s. `None` waits for ever.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = usable(timeout);
        self
    }

    /// What a check asks. Default: [`Check::Ping`].
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// Whether the server is meant to be a replica. Default: no.
    ///
    /// A reply `READONLY` says that a write met a replica. If the server is meant to be a primary, it was demoted, and no
    /// connection that was opened before is lent again, so that the next ones are opened to wherever the address leads by
    /// then. If it is meant to be a replica, the reply concerns only who sent the write.
    #[must_use]
    pub fn replica(mut self, replica: bool) -> Self {
        self.shared = Arc::new(Shared::new(replica));
        self
    }

    /// How a connection is cleaned when it comes back. Default: [`OnReturn::Reset`].
    #[must_use]
    pub fn on_return(mut self, on_return: OnReturn) -> Self {
        self.cleaner.how = on_return;
        self
    }

    /// How long cleaning may take. Default: 250 ms, for a round trip that takes 10 µs in the same machine, and 1 ms in the same
    /// building. Cleaning runs on the thread that drops the guard, which is held up no longer than this; a connection that was
    /// not cleaned by then is closed. (The time is looked at between replies. A server that sends a single reply in pieces may
    /// take this long for each of them.)
    #[must_use]
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.cleaner.limit = timeout.max(SHORTEST);
        self
    }

    /// The logical database of the connections.
    #[must_use]
    pub fn database(&self) -> i64 {
        self.settings.db()
    }

    /// Whether the caller is the one to refresh the pool, because the server was found to have been demoted.
    #[inline]
    pub(super) fn take_demotion(&self) -> bool {
        self.shared.take_demotion()
    }

    fn open(&self) -> RedisResult<Connection> {
        match self.connect_timeout {
            Some(timeout) => self.client.get_connection_with_timeout(timeout),
            None => self.client.get_connection(),
        }
    }

    fn question(&self) -> Cmd {
        ::redis::cmd(match self.check {
            Check::Ping => "PING",
            Check::Primary => "ROLE",
        })
    }

    /// Whether the connection works, and is to the right server, by the answer to the question.
    fn judge(&self, answer: Value) -> RedisResult<()> {
        let answer = answer.extract_error()?;
        match (self.check, &answer) {
            (Check::Ping, Value::SimpleString(word)) if word == "PONG" => Ok(()),
            (Check::Primary, Value::Array(items)) => match items.first() {
                Some(Value::BulkString(role)) if role == b"master" => Ok(()),
                _ => Err(demoted("the server is a replica, and a primary is wanted")),
            },
            // In a `MULTI` that somebody left open, for one, it is QUEUED.
            _ => {
                let text = format!("the answer is {}", brief(&answer));
                Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the check failed", text)))
            }
        }
    }
}

fn usable(timeout: Option<Duration>) -> Option<Duration> {
    timeout.map(|timeout| timeout.max(SHORTEST))
}

fn demoted(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), what))
}

/// A reply that was not expected, short enough for a log line.
fn brief(reply: &Value) -> String {
    let text = format!("{reply:?}");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

impl Manager for RedisManager {
    type Connection = RedisConnection;
    type Error = RedisError;

    fn connect(&self) -> RedisResult<RedisConnection> {
        let begun = now();
        let demotions = self.shared.demotions();
        let mut connection = RedisConnection::new(self.open()?, self.database(), &self.shared, demotions);
        // A server that wants a password lets in who has none, and refuses the first command: hence the question.
        let (mut commands, steps) = handshake::commands(&self.settings);
        commands.add_command(self.question());
        let left = self.connect_timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()).max(SHORTEST));
        let mut replies = connection.exchange(&commands.get_packed_pipeline(), commands.len(), left)?;
        let answer = replies.pop().unwrap_or_default();
        steps.iter().zip(replies).try_for_each(|(step, reply)| step.judge(reply))?;
        self.judge(answer)?;
        connection.restore_timeouts(self.read_timeout, self.write_timeout)?;
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut RedisConnection) -> RedisResult<()> {
        if connection.is_outlived() {
            return Err(demoted("opened before the server was demoted"));
        }
        let replies = connection.exchange(&self.question().get_packed_command(), 1, self.connect_timeout)?;
        self.judge(replies.into_iter().next().unwrap_or_default())?;
        connection.restore_timeouts(self.read_timeout, self.write_timeout)
    }

    fn has_broken(&self, connection: &mut RedisConnection) -> bool {
        connection.is_spent()
    }

    fn reset(&self, connection: &mut RedisConnection) -> RedisResult<()> {
        if connection.needs_reset() {
            self.cleaner.clean(connection, &self.shared)?;
        }
        if connection.has_other_timeouts() {
            connection.restore_timeouts(self.read_timeout, self.write_timeout)?;
        }
        Ok(())
    }

    /// `READONLY` says that all connections lead to a server that was demoted. A refused login, a database that the server does
    /// not have, and a command that the user may not call stay as they are however often one tries; all else may pass:
    /// `LOADING`, `MASTERDOWN`, `BUSY`, too many clients, and whatever happens to a socket.
    fn classify(&self, error: &RedisError) -> Fault {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Fault::DiscardAll,
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported
            | ErrorKind::Server(ServerErrorKind::NoPerm) => Fault::Permanent,
            _ if matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPROTO" | "DENIED")) => Fault::Permanent,
            _ => Fault::Transient,
        }
    }
}

/// With the same settings, and without what its connections have noticed.
impl Clone for RedisManager {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            settings: self.settings.clone(),
            cleaner: self.cleaner.clone(),
            shared: Arc::new(Shared::new(self.shared.is_replica())),
            ..*self
        }
    }
}

impl TryFrom<&str> for RedisManager {
    type Error = RedisError;

    fn try_from(url: &str) -> RedisResult<Self> {
        Self::new(url)
    }
}

impl TryFrom<ConnectionInfo> for RedisManager {
    type Error = RedisError;

    fn try_from(info: ConnectionInfo) -> RedisResult<Self> {
        Self::with_info(info)
    }
}

/// Without the password.
impl fmt::Debug for RedisManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.client.get_connection_info();
        let settings = &self.settings;
        f.debug_struct("RedisManager")
            .field("address", &redact(&info.addr().to_string()))
            .field("database", &settings.db())
            .field("user", &settings.username())
            .field("password", &settings.password().map(|_| "***"))
            .field("protocol", &settings.protocol())
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("check", &self.check)
            .field("replica", &self.shared.is_replica())
            .field("on_return", &self.cleaner.how)
            .field("reset_timeout", &self.cleaner.limit)
            .finish_non_exhaustive()
    }
}
