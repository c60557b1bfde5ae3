//! The connections of a soak: they count themselves, and their callbacks panic now and then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millpond::event::{self, CloseReason, State};
use millpond::redis::{RedisConnection, RedisManager};
use millpond::{Error, EventHandler, Lease, Manager};
use redis::{ErrorKind, RedisError, RedisResult};

use super::IO;
use super::tally::Tally;

/// One in so many calls of a callback panics.
const CALLBACK: u64 = 4_001;
const HANDLER: u64 = 997;

pub struct Sessions {
    redis: RedisManager,
    tally: Arc<Tally>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// A connection that counts itself.
pub struct Session {
    pub connection: RedisConnection,
    place: Place,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Counts as the pool's from the attempt to connect to the end, or until it is taken out.
struct Place {
    tally: Arc<Tally>,
    detached: bool,
}

impl Place {
    fn take(tally: &Arc<Tally>) -> Self {
        tally.owned.fetch_add(1, Ordering::SeqCst);
        Self { tally: Arc::clone(tally), detached: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gauge = if self.detached { &self.tally.detached } else { &self.tally.owned };
        gauge.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Sessions {
    pub fn new(redis: RedisManager, tally: Arc<Tally>) -> Self {
        let redis = redis.connect_timeout(Some(IO)).read_timeout(Some(IO)).write_timeout(Some(IO)).reset_timeout(IO);
        Self { redis, tally }
    }
}

impl Session {
    /// One round trip with a word that only this one can answer.
    ///
    /// # Errors
    ///
    /// The connection is broken or too slow. The inner error is the answer to somebody else's question.
    pub fn echo(&mut self, word: u64) -> RedisResult<Result<(), String>> {
        let word = word.to_string();
        let reply: String = redis::cmd("ECHO").arg(&word).query(&mut self.connection)?;
        Ok(if reply == word { Ok(()) } else { Err(reply) })
    }

    /// The pool's no longer.
    pub fn detach(&mut self) {
        if !self.place.detached {
            self.place.detached = true;
            self.place.tally.detached.fetch_add(1, Ordering::SeqCst);
            self.place.tally.owned.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Manager for Sessions {
    type Connection = Session;
    type Error = RedisError;

    fn connect(&self) -> RedisResult<Session> {
        let place = Place::take(&self.tally);
        self.tally.trip(CALLBACK);
        Ok(Session { connection: self.redis.connect()?, place })
    }

    fn is_valid(&self, session: &mut Session) -> RedisResult<()> {
        self.tally.trip(CALLBACK);
        match session.echo(1)? {
            Ok(()) => Ok(()),
            Err(_) => Err(RedisError::from((ErrorKind::UnexpectedReturnType, "an answer to another question"))),
        }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        self.tally.trip(CALLBACK);
        self.redis.has_broken(&mut session.connection)
    }

    fn reset(&self, session: &mut Session) -> RedisResult<()> {
        self.tally.trip(CALLBACK);
        self.redis.reset(&mut session.connection)
    }

    fn close(&self, session: Session) {
        self.tally.trip(CALLBACK);
        drop(session);
    }
}

/// Hears everything, and panics over some of it.
#[derive(Debug)]
pub struct Loud {
    tally: Arc<Tally>,
    heard: AtomicU64,
}

impl Loud {
    pub fn new(tally: Arc<Tally>) -> Self {
        Self { tally, heard: AtomicU64::new(0) }
    }

    fn hear(&self) {
        // Over all kinds of events in turn, the frequent and the rare ones.
        if self.heard.fetch_add(1, Ordering::Relaxed).is_multiple_of(HANDLER) {
            self.tally.trip(1);
        }
    }

    fn hear_rare(&self, what: &'static str) {
        self.tally.count(what);
        if self.heard.fetch_add(1, Ordering::Relaxed).is_multiple_of(11) {
            self.tally.trip(1);
        }
    }
}

impl EventHandler for Loud {
    fn connected(&self, _: &str, _: &event::Connected) {
        self.hear_rare("event: connected");
    }
    fn connect_failed(&self, _: &str, _: &event::ConnectFailed<'_>) {
        self.hear_rare("event: connect failed");
    }
    fn checked_out(&self, _: &str, _: &event::CheckedOut<'_>) {
        self.hear();
    }
    fn checked_in(&self, _: &str, _: &event::CheckedIn<'_>) {
        self.hear();
    }
    fn reset(&self, _: &str, _: &event::Reset<'_>) {
        self.hear();
    }
    fn invalid(&self, _: &str, _: &event::Invalid<'_>) {
        self.hear_rare("event: check failed");
    }
    fn retired(&self, _: &str, _: u64, _: CloseReason) {
        self.hear();
    }
    fn closed(&self, _: &str, _: &event::Closed<'_>) {
        self.hear();
    }
    fn timed_out(&self, _: &str, _: &Error) {
        self.hear();
    }
    fn overdue(&self, _: &str, _: &Lease) {
        self.hear_rare("event: overdue");
    }
    fn overdue_ended(&self, _: &str, _: &Lease) {
        self.hear_rare("event: overdue ended");
    }
    fn state_changed(&self, _: &str, _: State) {
        self.hear_rare("event: state changed");
    }
    // Not `panicked`: a handler that panics over the news of its own panic would be told of that.
}
