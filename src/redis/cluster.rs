//! Redis Cluster: one pooled connection is a set of sockets, one to each node.

use super::address;
use super::connection::now;
use super::session;
use crate::{Fault, Manager};
use ::redis::cluster::{ClusterClient, ClusterConfig, ClusterConnection, ClusterPipeline};
use ::redis::cluster_routing::{
    MultiSlotArgPattern, MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo, Slot,
    SlotAddr,
};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    Arg, Client, Cmd, ConnectionInfo, ConnectionLike, ErrorKind, FromRedisValue, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use std::borrow::Cow;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// Opens connections to a Redis Cluster, each of which reaches all nodes.
///
/// One node that dies must not cost the others their connections. So the check asks any node and not all of them, and a
/// connection that has met a dead node stays. When a command has failed because its node did not answer, the connection asks
/// another node who has what, once in 100 ms at most, and goes on with the nodes that it already knows when that has changed.
/// While the cluster has not yet chosen a new primary, commands over the keys of the dead one fail; all others work.
///
/// A command that is not answered in time is not sent again, and its connection is not lent again: its reply is still to come,
/// and who used that socket next would wait behind it.
///
/// What to know besides:
///
/// - Each pooled connection has a socket to each node: 10 processes with 8 connections over 6 nodes are 480 sockets, 80 at
///   each node. Since one thread at a time uses a connection, more of them than threads are of no use.
/// - There is no `atomic` pipeline, and several keys of one command or script must be in one slot (`{user:7}:name` and
///   `{user:7}:mail`). `MULTI`, `WATCH` and the like go to one node or another: a connection over which they went is closed. So it
///   is after `SELECT`, `CLIENT`, `AUTH`, `HELLO`, `SUBSCRIBE` and `SCRIPT DEBUG`.
/// - A cluster refuses everything while any slot has no primary, unless it is told otherwise (`cluster-require-full-coverage
///   no`). How long that lasts is `cluster-node-timeout`, 15 s by default, and about one second.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use millpond::{Pool, redis::RedisClusterManager};
/// use redis::Commands;
///
/// // Two or three nodes are enough: the others are learnt from them.
/// let manager = RedisClusterManager::new(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])?;
/// let pool = Pool::builder(manager).max_size(4).build()?;
/// let _: () = pool.get()?.set("bird", "heron")?;
/// # Ok(())
/// # }
/// ```
///
/// What cannot be used is an error without a connection:
///
/// ```
/// use millpond::redis::RedisClusterManager;
///
/// let error = RedisClusterManager::new(["redis://10.0.0.1:6379", "redis://10.0.0.2:99999"]).unwrap_err();
/// assert!(error.to_string().contains("the port \"99999\""));
/// let error = RedisClusterManager::new(["redis://10.0.0.1:6379/3"]).unwrap_err();
/// assert!(error.to_string().contains("only the database 0"));
/// ```
#[derive(Clone)]
pub struct RedisClusterManager {
    client: ClusterClient,
    /// The first nodes; none where the client was made by the user.
    nodes: Vec<ConnectionInfo>,
    connect_timeout: Duration,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl RedisClusterManager {
    /// For the URLs of some nodes, without opening a connection. All must name the same user and password.
    ///
    /// A command that a node cannot do yet (`TRYAGAIN`, `CLUSTERDOWN`, `LOADING`), or that belongs to another node, is tried
    /// again up to three times, after 10 to 200 ms, where redis-rs by itself would try 16 times with pauses from 1.3 s to
    /// minutes: a caller who holds a pooled connection for so long holds up others. A command whose socket was lost is sent
    /// again when its node can be reached, so one that must not be done twice should not depend on that.
    ///
    /// # Errors
    ///
    /// A URL cannot be used, or names a database; the error says which part of it, and shows no password. Or there is none.
    pub fn new<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> RedisResult<Self> {
        let nodes: Vec<_> = urls.into_iter().map(|url| address::parse(url.as_ref())).collect::<RedisResult<_>>()?;
        if nodes.iter().any(|node| node.redis_settings().db() != 0) {
            // The driver would leave it out.
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "a cluster has only the database 0")));
        }
        let client = ClusterClient::builder(nodes.clone())
            // For what is asked of the driver itself (`RedisClusterConnection::ask`): one is what it needs to follow a node that
            // says where a key is, and to connect again.
            .retries(1)
            .min_retry_wait(10)
            .max_retry_wait(200)
            .retry_wait_formula(25, 2)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .build()?;
        Ok(Self { nodes, ..Self::with_client(client) })
    }

    /// For a client of the driver's own with other settings, say one that reads from replicas. Its time-outs are replaced by
    /// those of this manager. It needs at least one of its own `retries`: without, the driver neither learns who has taken
    /// over nor replaces a lost socket.
    #[must_use]
    pub fn with_client(client: ClusterClient) -> Self {
        Self {
            client,
            nodes: Vec::new(),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Some(Duration::from_secs(2)),
            write_timeout: Some(Duration::from_secs(2)),
        }
    }

    /// How long opening a socket to one node may take. Default: 1 s; a pooled connection has one to each node, and they are
    /// opened one after the other. Zero counts as one millisecond, here and below.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.max(SHORTEST);
        self
    }

    /// How long to wait for a reply of a node. Default: 2 s. A blocking command (`BLPOP`) needs a time-out below it, or a longer
    /// one for its borrower: [`RedisClusterConnection::set_read_timeout`]. After a time-out the connection is not lent again.
    /// `None` waits for ever.
    ///
    /// It is waited for once. The exceptions are what goes to all nodes or is about a node (`FLUSHALL`, `SCRIPT`, `CONFIG`), what is
    /// sent to an address ([`route_command`](RedisClusterConnection::route_command)), and `MGET`, `SDIFF`, `SINTER` and
    /// `SUNION`: those the driver sends once again, and waits as long.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.read_timeout = timeout.map(|timeout| timeout.max(SHORTEST));
        self
    }

    /// How long sending to a node may take. Default: 2 s. `None` waits for ever.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = timeout.map(|timeout| timeout.max(SHORTEST));
        self
    }
}

impl RedisClusterManager {
    /// The driver takes a refusal to tell the map for an empty map, and then finds no node. Asks one what it says.
    fn why_no_map(&self, failure: RedisError) -> RedisError {
        let ask = |node: &ConnectionInfo| -> RedisResult<()> {
            let mut connection = Client::open(node.clone())?.get_connection_with_timeout(self.connect_timeout)?;
            connection.set_read_timeout(Some(self.connect_timeout))?;
            ::redis::cmd("CLUSTER").arg("SLOTS").exec(&mut connection)
        };
        self.nodes.first().and_then(|node| ask(node).err()).unwrap_or(failure)
    }
}

/// Sockets take no time-out of zero.
const SHORTEST: Duration = Duration::from_millis(1);

impl Manager for RedisClusterManager {
    type Connection = RedisClusterConnection;
    type Error = RedisError;

    fn connect(&self) -> RedisResult<RedisClusterConnection> {
        let mut config = ClusterConfig::new().set_connection_timeout(self.connect_timeout);
        if let Some(timeout) = self.read_timeout {
            config = config.set_response_timeout(timeout);
        }
        let mut inner = self.client.get_connection_with_config(config)?;
        inner.set_read_timeout(self.read_timeout)?;
        inner.set_write_timeout(self.write_timeout)?;
        let map = Map::of(&mut inner).map_err(|error| self.why_no_map(error))?;
        let settled = map.is_known_to(&mut inner);
        Ok(RedisClusterConnection {
            inner,
            map,
            settled,
            looked: None,
            touched: false,
            spent: false,
            read_timeout: self.read_timeout,
            turn: 0,
        })
    }

    /// Any node will do: if all had to answer, one that is down would close every connection of every process, and all of
    /// them would be opened again, to the nodes that are left.
    fn is_valid(&self, connection: &mut RedisClusterConnection) -> RedisResult<()> {
        match connection.ask(|inner| inner.route_command(&::redis::cmd("PING"), ANY_NODE))? {
            Value::SimpleString(word) if word == "PONG" => Ok(()),
            _ => Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the answer to PING is not PONG"))),
        }
    }

    fn has_broken(&self, connection: &mut RedisClusterConnection) -> bool {
        connection.spent
    }

    fn reset(&self, connection: &mut RedisClusterConnection) -> RedisResult<()> {
        if !connection.touched {
            if connection.read_timeout != self.read_timeout {
                connection.set_read_timeout(self.read_timeout)?;
            }
            return Ok(());
        }
        // Somewhere on one of its sockets, and to undo it on all is no better than to open others.
        let what = "a session on a node was left with something that is not undone (WATCH, MULTI, CLIENT ...)";
        Err(RedisError::from((ErrorKind::Client, what)))
    }

    fn classify(&self, error: &RedisError) -> Fault {
        // The driver puts what each node said into one text, under a kind that says nothing.
        let said = error.to_string();
        let refusals = ["AuthenticationFailed", "WRONGPASS", "NOAUTH", "NoPerm"];
        let refused: usize = refusals.iter().map(|word| said.matches(word).count()).sum();
        let by_all = refused > 0 && refused >= self.nodes.len().max(said.matches("; ").count() + 1);
        let no_cluster = said.contains("cluster support disabled");
        match error.kind() {
            ErrorKind::InvalidClientConfig | ErrorKind::AuthenticationFailed => Fault::Permanent,
            _ if by_all || no_cluster => Fault::Permanent,
            _ => Fault::Transient,
        }
    }
}

/// Without the password.
impl fmt::Debug for RedisClusterManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClusterManager")
            .field("nodes", &self.nodes.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>())
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .finish_non_exhaustive()
    }
}

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

const ANY_NODE: RoutingInfo = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);

impl RedisClusterConnection {
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
    fn ask<T>(&mut self, ask: impl FnOnce(&mut ClusterConnection) -> RedisResult<T>) -> RedisResult<T> {
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

/// Who has what: ranges of slots, in order, each with its primary.
#[derive(Debug, PartialEq, Eq)]
struct Map(Vec<Part>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    first: u16,
    last: u16,
    host: String,
    port: u16,
    /// The node's own name.
    id: String,
}

impl Map {
    /// As any node that answers tells it.
    fn of(connection: &mut ClusterConnection) -> RedisResult<Self> {
        let reply = connection.route_command(::redis::cmd("CLUSTER").arg("SLOTS"), ANY_NODE)?;
        let Value::Array(items) = reply else {
            return Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the answer to CLUSTER SLOTS is no list")));
        };
        let mut parts: Vec<_> = items.iter().filter_map(Part::of).collect();
        parts.sort_unstable();
        Ok(Self(parts))
    }

    /// Whether the driver goes by this map: whether it sends what belongs to each part to the right node.
    fn is_known_to(&self, connection: &mut ClusterConnection) -> bool {
        // All of them, however the first one answers.
        self.0.iter().fold(true, |known, part| {
            let route =
                RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(Route::new(part.first, SlotAddr::Master)));
            let name = connection.route_command(::redis::cmd("CLUSTER").arg("MYID"), route);
            name.and_then(|name| Ok(::redis::from_redis_value::<String>(name)?)).is_ok_and(|name| name == part.id)
                && known
        })
    }

    /// Makes the driver read the map, which it only does when a node says that a key is elsewhere. So a primary is asked for a
    /// key that another one has. The sockets that the driver has are used further.
    fn teach(&self, connection: &mut ClusterConnection) -> bool {
        // Any two: by this map both are alive.
        let asked = self.0.first();
        let owner =
            asked.and_then(|asked| self.0.iter().find(|part| (&part.host, part.port) != (&asked.host, asked.port)));
        let (Some(asked), Some(owner)) = (asked, owner) else { return false };
        let Some(key) = owner.some_key() else { return false };
        let there = SingleNodeRoutingInfo::ByAddress { host: asked.host.clone(), port: asked.port };
        connection.route_command(::redis::cmd("EXISTS").arg(key), RoutingInfo::SingleNode(there)).is_ok()
    }
}

impl Part {
    /// From `[first, last, [host, port, ...], ...]`.
    fn of(item: &Value) -> Option<Self> {
        let Value::Array(fields) = item else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &**fields else { return None };
        let [host, Value::Int(port), id, ..] = &**primary else { return None };
        let [host, id] = [host, id].map(|text| ::redis::from_redis_value_ref(text).unwrap_or_default());
        let [first, last, port] = [first, last, port].map(|&number| u16::try_from(number).ok());
        Some(Self { first: first?, last: last?, host, port: port?, id })
    }

    /// A key that belongs here.
    fn some_key(&self) -> Option<String> {
        let slots: Vec<_> = (self.first..=self.last).filter_map(Slot::new).collect();
        // A part of one slot is hit once in 16384 times; a part of an ordinary size at once.
        (0..1_000).map(|n| format!("millpond:{n}")).find(|key| slots.contains(&Slot::for_key(key)))
    }
}
