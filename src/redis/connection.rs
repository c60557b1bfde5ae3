//! A Redis connection that knows what has gone over it.

use super::session::{Forecast, Traces};
use super::shared::Shared;
use ::redis::{
    Cmd, Connection, ConnectionLike, ErrorKind, PubSub, RedisError, RedisResult, ServerError, ServerErrorKind, Value,
};
use std::fmt;
use std::io;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How old a connection must be before a `READONLY` condemns it, if it was opened after a demotion had been noticed: to open
/// yet another one to a server that is a replica still helps nobody. So a program that goes on writing there opens at most
/// `max_size` connections a second.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The time. Not the pool's clock, which tests may move by hand: sockets know nothing of that one.
#[allow(clippy::disallowed_methods, reason = "the time-outs of sockets are told in real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// A connection to one Redis server, as [`RedisManager`](super::RedisManager) opens it.
///
/// It is used like a `redis::Connection`: it is a [`ConnectionLike`], so commands, pipelines, scripts, `redis::transaction`
/// and the functions of `redis::Commands` run on it, and on the guard that lends it. What it adds is that it watches:
///
/// - It knows whether a command has left something behind, and is only cleaned on its return if one has.
/// - After a time-out, a lost connection or a reply that cannot be understood it is not lent again: nobody waits behind a
///   reply that comes too late, or reads it as his own. Nor is it after packed requests of which fewer or more replies were
///   read than there are requests.
/// - After a reply `READONLY` neither it nor any other that was opened before is lent again: see
///   [`RedisManager::replica`](super::RedisManager::replica).
/// - A pipeline gives up at the first reply that does not come within the read time-out. (redis-rs goes on to wait for each
///   of the others just as long.) Such a connection is not used any more, not even by who has it: further commands fail.
///
/// # Examples
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/support/redis_stand_in.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let url = redis_stand_in();
/// use millpond::{Pool, redis::RedisManager};
/// use redis::Commands;
///
/// let pool = Pool::new(RedisManager::new(&url)?)?;
/// let mut conn = pool.get()?;
/// let _: () = conn.set("visits", 1)?; // the guard itself is a connection to redis-rs
/// let (visits,): (u32,) = redis::pipe().atomic().incr("visits", 1).query(&mut conn)?;
/// assert_eq!(visits, 2);
/// assert!(!conn.needs_reset(), "the transaction has ended, and keys are no state of a connection");
///
/// redis::cmd("WATCH").arg("visits").exec(&mut conn)?;
/// assert!(conn.needs_reset());
/// # Ok(())
/// # }
/// ```
pub struct RedisConnection {
    inner: Connection,
    db: i64,
    traces: Traces,
    state: State,
    /// Whether the time-outs may be others than the manager's.
    timeouts_changed: bool,
    shared: Arc<Shared>,
    /// How many demotions had been noticed when it was opened.
    demotions: u64,
    opened: Instant,
}

/// How far a connection can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Good,
    /// By who has it, and by nobody after that.
    Spent,
    /// Replies are missing, or there are too many, so that the next one could be anybody's.
    Dead,
}

impl RedisConnection {
    /// `demotions` is what was known before the connection was opened.
    pub(super) fn new(inner: Connection, db: i64, shared: &Arc<Shared>, demotions: u64) -> Self {
        Self {
            inner,
            db,
            traces: Traces::default(),
            state: State::Good,
            timeouts_changed: false,
            shared: Arc::clone(shared),
            demotions,
            opened: now(),
        }
    }

    /// The driver's connection, for what this type does not offer, say `MONITOR` or a push sender.
    ///
    /// What is done with it is not seen: its return costs a reset whatever it was, and after a time-out that reset is what
    /// finds out that replies are missing, for up to
    /// [`reset_timeout`](super::RedisManager::reset_timeout). `READONLY` is not noticed, and what `RESET` does not undo
    /// (`CLIENT NO-EVICT`) stays. A push sender stays with the
    /// connection: who sets one discards the connection afterwards
    /// ([`PooledConnection::discard`](crate::PooledConnection::discard)).
    pub fn raw(&mut self) -> &mut Connection {
        self.traces.add(Traces::UNSEEN);
        self.timeouts_changed = true;
        &mut self.inner
    }

    /// Messages of channels, as `redis::Connection::as_pubsub`. Its return costs a reset.
    pub fn as_pubsub(&mut self) -> PubSub<'_> {
        self.raw().as_pubsub()
    }

    /// Sets how long to wait for a reply until the connection is returned, say for a blocking command; `None` waits for
    /// ever.
    ///
    /// # Errors
    ///
    /// The time is zero, or the socket refuses it.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        self.timeouts_changed = true;
        self.inner.set_read_timeout(timeout)
    }

    /// Sets how long sending may take until the connection is returned; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// The time is zero, or the socket refuses it.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        self.timeouts_changed = true;
        self.inner.set_write_timeout(timeout)
    }

    /// Whether something may be left behind on the connection that the next user must not find: an open `MULTI`, a `WATCH`,
    /// another database, a subscription, or whatever a command does that is not known to do nothing of the kind.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.traces.any()
    }

    /// Whether it is not to be lent again, by what is known here.
    pub(super) fn is_spent(&self) -> bool {
        self.state != State::Good || self.is_outlived() || !self.inner.is_open()
    }

    /// Whether it was opened before the server was found to have been demoted.
    pub(super) fn is_outlived(&self) -> bool {
        self.demotions < self.shared.demotions()
    }

    pub(super) fn traces(&self) -> Traces {
        self.traces
    }

    pub(super) fn has_other_timeouts(&self) -> bool {
        self.timeouts_changed
    }

    /// It is as it was when it was opened.
    pub(super) fn forget_traces(&mut self) {
        self.traces = Traces::default();
    }

    /// Sets the time-outs to the manager's.
    pub(super) fn restore_timeouts(&mut self, read: Option<Duration>, write: Option<Duration>) -> RedisResult<()> {
        self.inner.set_read_timeout(read)?;
        self.inner.set_write_timeout(write)?;
        self.timeouts_changed = false;
        Ok(())
    }

    /// Sends requests of the manager's own, and reads their replies, all before `limit` has passed. (The time for one reply
    /// runs anew with each piece of it that comes.) The time-outs are left as they come.
    ///
    /// # Errors
    ///
    /// A server that hangs up says why in place of the first reply: that is the error then.
    pub(super) fn exchange(
        &mut self,
        packed: &[u8],
        replies: usize,
        limit: Option<Duration>,
    ) -> RedisResult<Vec<Value>> {
        let until = limit.map(|limit| (now(), limit));
        if let Some(limit) = limit {
            self.timeouts_changed = true;
            self.inner.set_write_timeout(Some(limit))?;
        }
        let sent = self.send(packed);
        if sent.as_ref().is_err_and(|error| !error.is_connection_dropped()) {
            return sent.map(|()| Vec::new());
        }
        let mut values = Vec::with_capacity(replies);
        while values.len() < replies {
            match (self.receive(State::Dead, until), values.as_slice()) {
                (Ok(value), _) => values.push(value),
                (Err(error), [Value::ServerError(reason)]) if error.is_connection_dropped() => {
                    return Err(reason.clone().into());
                }
                // Where sending has failed because the server had hung up, what it said can still be read.
                (Err(error), _) => return Err(sent.err().unwrap_or(error)),
            }
        }
        sent.map(|()| values)
    }

    /// Refuses where the next reply could be anybody's; otherwise writes down what is about to be sent.
    fn begin(&mut self, forecast: Forecast) -> RedisResult<()> {
        if self.state == State::Dead {
            let text = "replies are missing on this connection, since a time-out perhaps; it is closed on its return";
            return Err(io::Error::new(io::ErrorKind::NotConnected, text).into());
        }
        self.traces = forecast.at_worst;
        Ok(())
    }

    /// Draws conclusions from the replies. Where their number is not that of the requests, the next one is another one's.
    fn end<'a>(&mut self, forecast: Forecast, values: impl IntoIterator<Item = &'a Value>) {
        let (mut refused, mut replies) = (false, 0);
        for value in values {
            replies += 1;
            match value {
                Value::ServerError(error) => {
                    refused = true;
                    self.note_refusal(error);
                }
                // What `EXEC` returns, for one.
                Value::Array(items) => items.iter().for_each(|item| {
                    if let Value::ServerError(error) = item {
                        self.note_refusal(error);
                    }
                }),
                _ => {}
            }
        }
        if !refused {
            self.traces = forecast.at_best;
        }
        if forecast.requests.is_some_and(|requests| requests != replies) {
            self.spend(State::Dead);
        }
    }

    fn note_refusal(&mut self, error: &ServerError) {
        // The server's own words: a script may use the code for errors of its own.
        let demoted = || error.details().is_some_and(|said| said.contains("You can't write against a read only"));
        if error.kind() == Some(ServerErrorKind::ReadOnly) && demoted() {
            self.note_demotion();
        } else if error.code() == "NOAUTH" {
            // The user it was logged in as is gone.
            self.spend(State::Spent);
        }
    }

    fn note_demotion(&mut self) {
        if self.shared.is_replica() {
            return;
        }
        if self.demotions == 0 || self.is_outlived() || self.opened.elapsed() >= RECONNECT_PAUSE {
            self.spend(State::Spent);
            self.shared.note_demotion(self.demotions);
        }
    }

    fn spend(&mut self, state: State) {
        self.state = self.state.max(state);
    }

    /// Draws conclusions from the lack of a reply. `missing` is what state a time-out leaves.
    fn note_error(&mut self, error: &RedisError, missing: State) {
        match error.kind() {
            ErrorKind::Io if error.is_timeout() => self.spend(missing),
            ErrorKind::Io | ErrorKind::Parse => self.spend(State::Dead),
            _ => {}
        }
    }

    fn send(&mut self, packed: &[u8]) -> RedisResult<()> {
        // After a time-out half of a request may be on its way, and the next one would be taken for the other half.
        self.inner.send_packed_command(packed).inspect_err(|error| self.note_error(error, State::Dead))
    }

    /// The next reply, before `until` if that is given. `missing` is what state it leaves if it does not come in time.
    fn receive(&mut self, missing: State, until: Option<(Instant, Duration)>) -> RedisResult<Value> {
        loop {
            if let Some((begun, limit)) = until {
                let left = limit.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    self.spend(missing);
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                self.inner.set_read_timeout(Some(left))?;
            }
            match self.inner.recv_response() {
                // Not a reply: RESP3 sends them in between.
                Ok(Value::Push { .. }) => {}
                Ok(value) => return Ok(value),
                Err(error) => {
                    self.note_error(&error, missing);
                    return Err(error);
                }
            }
        }
    }

    /// Lets the driver do it, who alone knows what has been done with its connection: it may have to leave a subscription
    /// first.
    fn by_driver<R>(
        &mut self,
        forecast: Forecast,
        missing: State,
        ask: impl FnOnce(&mut Connection) -> RedisResult<R>,
        values: impl FnOnce(&R) -> &[Value],
    ) -> RedisResult<R> {
        let reply = ask(&mut self.inner);
        match &reply {
            Ok(reply) => self.end(forecast, values(reply)),
            Err(error) => self.note_error(error, missing),
        }
        reply
    }

    fn one(&mut self, forecast: Forecast, packed: &[u8]) -> RedisResult<Value> {
        self.send(packed)?;
        // redis-rs skips the reply of a single command that comes too late, so who has the connection may go on.
        let value = self.receive(State::Spent, None)?;
        self.end(forecast, [&value]);
        Ok(value)
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        let forecast = Forecast::of_packed(self.traces, packed);
        self.begin(forecast)?;
        if self.traces.has(Traces::UNSEEN) {
            return self.by_driver(forecast, State::Spent, |inner| inner.req_packed_command(packed), slice::from_ref);
        }
        self.one(forecast, packed)
    }

    fn req_packed_commands(&mut self, packed: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let forecast = Forecast::of_packed(self.traces, packed);
        self.begin(forecast)?;
        if self.traces.has(Traces::UNSEEN) {
            let ask = |inner: &mut Connection| inner.req_packed_commands(packed, offset, count);
            let reply = self.by_driver(Forecast { requests: None, ..forecast }, State::Dead, ask, Vec::as_slice);
            // Of those before `offset` the driver keeps the replies to itself.
            if forecast.requests.is_some_and(|requests| requests != offset + count) {
                self.spend(State::Dead);
            }
            return reply;
        }
        self.send(packed)?;
        // Where one reply does not come, those behind it do not either: waiting for each would add up.
        let mut values = Vec::with_capacity(offset + count);
        while values.len() < offset + count {
            values.push(self.receive(State::Dead, None)?);
        }
        self.end(forecast, &values);
        let wanted = values.split_off(offset);
        // As redis-rs says it: which of the commands was refused, and that nothing was done. The first reply is to `MULTI`.
        let refused: Vec<_> = values
            .iter()
            .enumerate()
            .filter_map(|(at, value)| match value {
                Value::ServerError(error) => Some(format!("(Index {}, error: {error})", at.saturating_sub(1))),
                _ => None,
            })
            .collect();
        if refused.is_empty() {
            return Ok(wanted);
        }
        let kind = ErrorKind::Server(ServerErrorKind::ExecAbort);
        Err(RedisError::from((kind, "Transaction aborted", refused.join(", "))))
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let forecast = Forecast::of(self.traces, command);
        self.begin(forecast)?;
        if self.traces.has(Traces::UNSEEN) {
            return self.by_driver(forecast, State::Spent, |inner| inner.req_command(command), slice::from_ref);
        }
        let packed = command.get_packed_command();
        if command.is_no_response() {
            self.send(&packed)?;
            return Ok(Value::Nil);
        }
        self.one(forecast, &packed)
    }

    fn get_db(&self) -> i64 {
        self.db
    }

    fn check_connection(&mut self) -> bool {
        ::redis::cmd("PING").query::<String>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.state != State::Dead && self.inner.is_open()
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection")
            .field("db", &self.db)
            .field("open", &self.is_open())
            .field("needs_reset", &self.needs_reset())
            .finish_non_exhaustive()
    }
}
