//! A connection to a Redis Cluster: what is sent, how often, and what is missing afterwards.

use super::map::Map;
use crate::redis::connection::now;
use crate::redis::session;
use ::redis::cluster::{ClusterConnection, ClusterPipeline};
use ::redis::cluster_routing::{
    MultiSlotArgPattern, MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
};
use ::redis::{Arg, Cmd, ConnectionLike, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};
use std::borrow::Cow;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// A connection to a Redis Cluster: sockets to its nodes, and a map that says who has what.
///
/// It is a [`ConnectionLike`], so commands and the functions of `redis::Commands` run on it, and on the guard that lends it;
/// pipelines by [`pipeline`](Self::pipeline).
pub struct RedisClusterConnection {
    inner: ClusterConnection,
    /// Who had what when it was last asked.
    map: Map,
    /// Whether the driver goes by that map.
    settled: bool,
    looked: Option<Instant>,
    /// Whether a command may have left something behind on a node.
    touched: bool,
    /// Whether a reply may be missing on one of the sockets.
    spent: bool,
    read_timeout: Option<Duration>,
    /// Which slot's node is next for a command without a key.
    turn: u16,
}

/// A connection asks for the map no more often than this: while a node is away and the cluster has not decided, each failed
/// command would ask.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How often a command is tried, and the first pause between two tries. It doubles.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

impl RedisClusterConnection {
    pub(super) fn new(mut inner: ClusterConnection, map: Map, read_timeout: Option<Duration>) -> Self {
        let settled = map.is_known_to(&mut inner);
        Self { inner, map, settled, looked: None, touched: false, spent: false, read_timeout, turn: 0 }
    }

    /// Whether a command may have left something behind on a node.
    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whether a reply may be missing.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    /// How long it waits for a reply now.
    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    /// The driver's connection, for what this type does not offer. What is done with it is not seen, so it is closed on its
    /// return.
    pub fn raw(&mut self) -> &mut ClusterConnection {
        self.touched = true;
        &mut self.inner
    }

    /// Sets how long to wait for a reply until the connection is returned, say for a blocking command; `None` waits for
    /// ever.
    ///
    /// # Errors
    ///
    /// The time is zero, or a socket refuses it.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> RedisResult<()> {
        self.inner.set_read_timeout(timeout)?;
        self.read_timeout = timeout;
        Ok(())
    }

    /// Several commands in one round trip to each node that is concerned. Not a transaction, and not sent again: nobody knows
    /// how much of it was done. After one that failed otherwise than by the refusal of a command, the connection is not lent
    /// again.
    ///
    /// # Errors
    ///
    /// As `ClusterPipeline::query`.
    pub fn pipeline<T: FromRedisValue>(&mut self, pipeline: &ClusterPipeline) -> RedisResult<T> {
        pipeline.cmd_iter().for_each(|command| self.note(command));
        let reply = self.ask(|inner| pipeline.query::<Value>(inner));
        if let Err(error) = &reply {
            match error.clone().into_server_errors() {
                Some(refusals) => {
                    // The driver does not follow here; the next one is to know better.
                    if refusals.iter().any(|(_, refusal)| refusal.kind() == Some(ServerErrorKind::Moved)) {
                        self.learn();
                    }
                }
                // Where one node cannot be reached the driver leaves the replies of the others unread.
                None => self.spent |= error.kind() != ErrorKind::Client,
            }
        }
        Ok(::redis::from_redis_value(reply?)?)
    }

    /// One command to the node or nodes of one's choice.
    ///
    /// # Errors
    ///
    /// As `ClusterConnection::route_command`.
    pub fn route_command(&mut self, command: &Cmd, routing: RoutingInfo) -> RedisResult<Value> {
        self.note(command);
        self.run(command, Some(&routing))
    }

    fn note(&mut self, command: &Cmd) {
        let mut words = command.args_iter().map(|word| match word {
            Arg::Simple(word) => Some(word),
            _ => None,
        });
        let (name, next) = (words.next().flatten(), words.next().flatten());
        self.touched |= command.is_no_response() || name.is_none_or(|name| session::stays_on_a_node(name, next));
    }

    /// Has the driver do something, and finds out whether a reply is missing afterwards. The driver does not always say so: of
    /// several nodes it may take the answer of one, and forget that another one gave none.
    pub(super) fn ask<T>(&mut self, ask: impl FnOnce(&mut ClusterConnection) -> RedisResult<T>) -> RedisResult<T> {
        let begun = now();
        let reply = ask(&mut self.inner);
        let late = self.read_timeout.is_some_and(|limit| begun.elapsed() >= limit);
        let doubtful = reply.as_ref().is_err_and(|error| match error.kind() {
            // A socket that is lost has no replies.
            ErrorKind::Io => !error.is_connection_dropped(),
            ErrorKind::Parse => true,
            // The user it was logged in as is gone.
            _ => error.code() == Some("NOAUTH"),
        });
        self.spent |= late || doubtful;
        reply
    }

    /// One command, sent once. The driver by itself sends what is not answered in time again, on the same socket, except as a
    /// part of a pipeline, and as a part of a command that it has split up among several slots.
    fn once(&mut self, command: &Cmd, routing: Option<&RoutingInfo>) -> RedisResult<Value> {
        match routing {
            Some(RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route))) => {
                return self.as_part(command, *route);
            }
            None if !command.is_no_response() => {}
            _ => return self.by_driver(command, routing),
        }
        if let Some(route) = session::not_for_pipelines(command) {
            let route = route.unwrap_or_else(|| self.any_primary());
            return self.as_part(command, route);
        }
        let mut pipeline = ClusterPipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        match self.ask(|inner| pipeline.query::<Vec<Value>>(inner)) {
            Ok(mut replies) => Ok(replies.pop().unwrap_or_default()),
            // Nothing was sent: it goes to several nodes, or the driver does not take it in a pipeline.
            Err(error) if error.kind() == ErrorKind::Client => self.by_driver(command, None),
            // A pipeline's errors are a list.
            Err(error) => match error.clone().into_server_errors() {
                Some(refusals) => Err(refusals.first().map_or(error, |(_, refusal)| refusal.clone().into())),
                None => Err(error),
            },
        }
    }

    /// The whole command declared to be the part of it that belongs to one slot, and the only one.
    fn as_part(&mut self, command: &Cmd, route: Route) -> RedisResult<Value> {
        let words = (0..command.args_iter().count().saturating_sub(1)).collect();
        let parts = (vec![(route, words)], MultiSlotArgPattern::KeysOnly);
        let routing = (MultipleNodeRoutingInfo::MultiSlot(parts), Some(ResponsePolicy::OneSucceeded));
        self.ask(|inner| inner.route_command(command, RoutingInfo::MultiNode(routing))?.extract_error())
    }

    /// By the driver, which may send it again once.
    fn by_driver(&mut self, command: &Cmd, routing: Option<&RoutingInfo>) -> RedisResult<Value> {
        self.ask(|inner| match routing {
            Some(routing) => inner.route_command(command, routing.clone()),
            None => inner.req_command(command),
        })
    }

    /// Each time another one.
    fn any_primary(&mut self) -> Route {
        self.turn = (self.turn + SLOTS / 16 + 1) % SLOTS;
        Route::new(self.turn, SlotAddr::Master)
    }

    /// One command, sent again only where it was not done, or where its socket was lost.
    fn run(&mut self, command: &Cmd, routing: Option<&RoutingInfo>) -> RedisResult<Value> {
        // A cursor is an argument that the driver fills in when it packs a command, and loses when it splits one up.
        let command = if command.args_iter().all(|word| matches!(word, Arg::Simple(_))) {
            Cow::Borrowed(command)
        } else {
            Cow::Owned(session::unpack(&command.get_packed_command()).ok_or_else(not_one)?)
        };
        let mut reply = self.once(&command, routing);
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            let Err(error) = &reply else { break };
            reply = match error.kind() {
                // It was not done. The driver is told the same, and follows.
                ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => self.by_driver(&command, routing),
                ErrorKind::Server(
                    ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading,
                ) => {
                    thread::sleep(pause);
                    pause = LONGEST_PAUSE.min(pause * 2);
                    self.once(&command, routing)
                }
                ErrorKind::Server(ServerErrorKind::ReadOnly) if self.learn() => self.once(&command, routing),
                _ if self.is_lost(error) && self.learn() => self.once(&command, routing),
                _ => break,
            };
        }
        reply
    }

    fn is_lost(&self, error: &RedisError) -> bool {
        !self.spent && (error.is_connection_dropped() || error.kind() == ErrorKind::ClusterConnectionNotFound)
    }

    /// After a command that failed: finds out whether its node is no longer the one to ask, and has the driver replace the
    /// sockets that were lost. `true` if it is worth another try.
    fn learn(&mut self) -> bool {
        if self.looked.is_some_and(|before| before.elapsed() < BETWEEN_LOOKS) {
            return false;
        }
        self.looked = Some(now());
        let Ok(map) = self.ask(Map::of) else { return false };
        if map == self.map && self.settled {
            // Asking a node replaces its socket if need be. One that is dead leaves it at that.
            return self.ask(|inner| Ok(map.is_known_to(inner))).unwrap_or(false);
        }
        // It may have asked a node that did not know yet: then it is done again the next time.
        self.settled = self.ask(|inner| Ok(map.teach(inner) && map.is_known_to(inner))).unwrap_or(false);
        self.map = map;
        self.settled
    }
}

fn not_one() -> RedisError {
    RedisError::from((ErrorKind::Client, "a cluster connection takes one command at a time, or a ClusterPipeline"))
}

impl ConnectionLike for RedisClusterConnection {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.req_command(&session::unpack(packed).ok_or_else(not_one)?)
    }

    /// As [`supports_pipelining`](Self::supports_pipelining) says: not here.
    fn req_packed_commands(&mut self, _: &[u8], _: usize, _: usize) -> RedisResult<Vec<Value>> {
        Err(not_one())
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.note(command);
        self.run(command, None)
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }

    fn supports_pipelining(&self) -> bool {
        self.inner.supports_pipelining()
    }

    fn check_connection(&mut self) -> bool {
        ConnectionLike::check_connection(&mut self.inner)
    }

    fn is_open(&self) -> bool {
        self.inner.is_open()
    }
}

impl fmt::Debug for RedisClusterConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClusterConnection").field("open", &self.is_open()).finish_non_exhaustive()
    }
}
