//! How a connection is cleaned for its next user.

use super::connection::RedisConnection;
use super::handshake;
use super::session::Traces;
use super::shared::{ResetSupport, Shared};
use ::redis::{ErrorKind, Pipeline, RedisConnectionInfo, RedisError, RedisResult, ServerError, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is done with a connection that comes back, if a command has left something behind on it: an open `MULTI`, a `WATCH`,
/// another database (`SELECT`), a subscription, `CLIENT TRACKING`, `CLIENT REPLY OFF`, another user, and so on.
///
/// Where nothing was left behind, nothing is done, and a return costs no round trip. That is known from the commands that were
/// sent: those of the usual kinds leave nothing, and whatever is not known counts as having left something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnReturn {
    /// `RESET`, and in the same round trip `AUTH` or `HELLO` and `SELECT`, because it also logs out and goes back to RESP2 and
    /// database 0. What [`Builder::on_open`](crate::Builder::on_open) has set up goes with it. A connection is closed after what
    /// not even `RESET` undoes: `CLIENT NO-EVICT`, `CLIENT NO-TOUCH` and `CLIENT SETINFO`.
    ///
    /// Redis 6.2 or newer, and Valkey. A server that does not know the command is asked once; from then on it is as with
    /// [`Unwatch`](Self::Unwatch), and a warning says so.
    #[default]
    Reset,
    /// `DISCARD`, `UNWATCH` and `SELECT`, as needed; a connection that was left with anything else is closed. For servers
    /// before 6.2.
    Unwatch,
    /// The connection is closed. For proxies, of which some (twemproxy) close a connection over commands that they do not know.
    Close,
    /// Nothing: the next user finds what the last one has left.
    Nothing,
}

#[derive(Clone)]
pub(super) struct Cleaner {
    pub(super) how: OnReturn,
    pub(super) limit: Duration,
    /// `RESET` and what restores the session.
    everything: Pipeline,
    db: i64,
}

impl Cleaner {
    pub(super) fn new(settings: &RedisConnectionInfo) -> Self {
        let everything = handshake::reset(settings);
        Self { how: OnReturn::Reset, limit: Duration::from_millis(250), everything, db: settings.db() }
    }

    /// Undoes what the traces of the connection tell.
    ///
    /// # Errors
    ///
    /// The connection is to be closed.
    pub(super) fn clean(&self, connection: &mut RedisConnection, shared: &Shared) -> RedisResult<()> {
        match self.how {
            OnReturn::Nothing => return Ok(()),
            OnReturn::Close => {
                return Err(unclean("the connection was left in a state that is not undone (OnReturn::Close)"));
            }
            _ if connection.traces().has(Traces::LASTING) => {
                return Err(unclean(
                    "the connection was left in a state that not even RESET undoes (CLIENT NO-EVICT ...)",
                ));
            }
            OnReturn::Reset if shared.reset_support() != ResetSupport::Refused => {
                if !self.reset(connection, shared)? {
                    self.unwatch(connection)?;
                }
            }
            OnReturn::Reset | OnReturn::Unwatch => self.unwatch(connection)?,
        }
        connection.forget_traces();
        Ok(())
    }

    /// `false` if the server does not know `RESET`.
    fn reset(&self, connection: &mut RedisConnection, shared: &Shared) -> RedisResult<bool> {
        let replies = self.exchange(connection, &self.everything).inspect_err(|error| {
            let untried = shared.reset_support() == ResetSupport::Untried;
            if untried && error.is_connection_dropped() {
                log::debug!(
                    "the server closed the connection over RESET; if it is a proxy that does not know the command, \
                     set RedisManager::on_return(OnReturn::Close)"
                );
            }
        })?;
        let mut replies = replies.into_iter();
        match replies.next() {
            Some(Value::SimpleString(word)) if word == "RESET" => {}
            Some(Value::ServerError(refusal)) if is_unknown(&refusal) && shared.give_reset_up() => {
                log::warn!(
                    "the server refuses RESET ({refusal}): connections are cleaned as with OnReturn::Unwatch from now on, \
                     and closed where that is not enough"
                );
                return Ok(false);
            }
            Some(Value::ServerError(refusal)) => {
                return if shared.reset_support() == ResetSupport::Refused { Ok(false) } else { Err(refusal.into()) };
            }
            // A message to a subscriber that came before it, say.
            _ => return Err(unclean("the reply to RESET is another one's")),
        }
        // To AUTH, HELLO and SELECT.
        replies.try_for_each(|reply| match reply.extract_error()? {
            Value::Okay | Value::Map(_) => Ok(()),
            _ => Err(unclean("a reply to what follows RESET is another one's")),
        })?;
        shared.reset_works();
        Ok(true)
    }

    fn unwatch(&self, connection: &mut RedisConnection) -> RedisResult<()> {
        let traces = connection.traces();
        if traces.needs_all() {
            return Err(unclean("the connection was left in a state that only RESET undoes"));
        }
        let mut commands = ::redis::pipe();
        let discards = traces.has(Traces::MULTI);
        if discards {
            commands.cmd("DISCARD");
        }
        if traces.has(Traces::WATCH) {
            commands.cmd("UNWATCH");
        }
        if traces.has(Traces::SELECT) {
            commands.cmd("SELECT").arg(self.db);
        }
        let replies = self.exchange(connection, &commands)?;
        replies.into_iter().enumerate().try_for_each(|(at, reply)| match reply {
            Value::Okay => Ok(()),
            // Whether there is a transaction is not certain.
            Value::ServerError(refusal)
                if discards && at == 0 && refusal.details() == Some("DISCARD without MULTI") =>
            {
                Ok(())
            }
            Value::ServerError(refusal) => Err(refusal.into()),
            _ => Err(unclean("a reply that is not OK")),
        })
    }

    /// The replies to the commands, and no others: a reply that was still to come would be read in place of the first of
    /// them, and the last one by the next user. So what comes last must be the answer to a question that nobody else has asked.
    fn exchange(&self, connection: &mut RedisConnection, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        static QUESTIONS: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number that is not given twice.
        let question = format!("millpond:{}", QUESTIONS.fetch_add(1, Ordering::Relaxed));
        let mut packed = commands.get_packed_pipeline();
        // Not `ECHO`, which users that the server restricts may call less often than the `PING` of the checks.
        packed.extend(::redis::cmd("PING").arg(&question).get_packed_command());
        let mut replies = connection.exchange(&packed, commands.len() + 1, Some(self.limit))?;
        match replies.pop() {
            Some(Value::BulkString(answer)) if answer == question.as_bytes() => Ok(replies),
            _ => Err(unclean("there are other replies on the connection than those to the commands that clean it")),
        }
    }
}

fn is_unknown(refusal: &ServerError) -> bool {
    let said = refusal.details().unwrap_or_default();
    refusal.code() == "ERR" && said.contains("unknown command") && said.contains("RESET")
}

fn unclean(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}
