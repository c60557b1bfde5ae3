//! How a connection is cleaned for its next user.

use super::connection::RedisConnection;
use super::handshake;
use super::session::Traces;
use super::shared::{ResetSupport, Shared};
use ::redis::{ErrorKind, RedisConnectionInfo, RedisError, RedisResult, Value};
use std::time::Duration;

/// What is done with a connection that comes back, if a command has left something behind on it: an open `MULTI`, a `WATCH`,
/// another database (`SELECT`), a subscription, `CLIENT TRACKING`, `CLIENT REPLY OFF`, another user, and so on.
///
/// Where nothing was left behind, nothing is done, and a return costs no round trip. That is known from the commands that were
/// sent: those of the usual kinds leave nothing, and whatever is not known counts as having left something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnReturn {
    /// `RESET`, which undoes everything, and in the same round trip `AUTH` or `HELLO` and `SELECT`, because it also logs out
    /// and goes back to RESP2 and database 0. What [`Builder::on_open`](crate::Builder::on_open) has set up goes with it.
    ///
    /// Redis 6.2 or newer, and Valkey. A server that refuses the command is asked once; from then on it is as with
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
    /// `RESET` and what restores the session, and how many replies there will be.
    everything: (Vec<u8>, usize),
    db: i64,
}

impl Cleaner {
    pub(super) fn new(settings: &RedisConnectionInfo) -> Self {
        let commands = handshake::reset(settings);
        let everything = (commands.get_packed_pipeline(), commands.len());
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
        let (packed, count) = &self.everything;
        let replies = connection.exchange(packed, *count, Some(self.limit)).inspect_err(|error| {
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
            Some(Value::ServerError(refusal)) => {
                if shared.set_reset_support(ResetSupport::Refused) != ResetSupport::Refused {
                    log::warn!(
                        "the server refuses RESET ({refusal}): connections are cleaned as with OnReturn::Unwatch from now on, \
                         and closed where that is not enough"
                    );
                }
                return Ok(false);
            }
            // A message to a subscriber that came before it, say. Then the true replies are still to come, and would be read by
            // the next user, each for another command.
            _ => return Err(unclean("the reply to RESET is another one's")),
        }
        // The rest are AUTH or HELLO, and SELECT.
        replies.try_for_each(|reply| reply.extract_error().map(drop))?;
        if shared.reset_support() == ResetSupport::Untried {
            shared.set_reset_support(ResetSupport::Works);
        }
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
        let replies = connection.exchange(&commands.get_packed_pipeline(), commands.len(), Some(self.limit))?;
        // Whether there is a transaction is not certain, and where there is none `DISCARD` is refused.
        let certain = replies.into_iter().skip(usize::from(discards));
        certain.map(Value::extract_error).try_for_each(|reply| match reply? {
            Value::Okay => Ok(()),
            _ => Err(unclean("a reply that is not OK")),
        })
    }
}

fn unclean(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}
