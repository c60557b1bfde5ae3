//! Redis Cluster: one pooled connection is a set of sockets, one to each node.

use super::address;
use super::connection::now;
use super::session::{Forecast, Traces};
use crate::{Fault, Manager};
use ::redis::cluster::{ClusterClient, ClusterConfig, ClusterConnection, ClusterPipeline};
use ::redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, Cmd, ConnectionInfo, ConnectionLike, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use std::fmt;
use std::time::{Duration, Instant};

/// Opens connections to a Redis Cluster, each of which reaches all nodes.
///
/// One node that dies must not cost the others their connections. So the check asks any node and not all of them, and a
/// connection that has met a dead node stays. When a command has failed because its node did not answer, the connection asks
/// another node who has what, once in 100 ms at most, and goes on with the nodes that it already knows when that has changed.
/// While the cluster has not yet chosen a new primary, commands over the keys of the dead one fail; all others work.
///
/// What to know besides:
///
/// - Each pooled connection has a socket to each node: 10 processes with 8 connections over 6 nodes are 480 sockets, 80 at
///   each node. Since one thread at a time uses a connection, more of them than threads are of no use.
/// - There is no `atomic` pipeline, and several keys of one command or script must be in one slot (`{user:7}:name` and
///   `{user:7}:mail`). `MULTI`, `WATCH` and the like go to one node or another: a connection over which they went is closed.
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
    /// A command is tried again up to three times, after 10 to 200 ms, where redis-rs by itself would try 16 times with pauses
    /// from 1.3 s to minutes: a caller who holds a pooled connection for so long holds up others. That goes for commands
    /// that were not answered in time, too, so one that must not be done twice should not depend on that.
    /// [`with_client`](Self::with_client) takes other choices.
    ///
    /// # Errors
    ///
    /// A URL cannot be used; the error says which part of it, and shows no password. Or there is none.
    pub fn new<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> RedisResult<Self> {
        let nodes: Vec<_> = urls.into_iter().map(|url| address::parse(url.as_ref())).collect::<RedisResult<_>>()?;
        let client = ClusterClient::builder(nodes.clone())
            .retries(3)
            .min_retry_wait(10)
            .max_retry_wait(200)
            .retry_wait_formula(25, 2)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .build()?;
        Ok(Self { nodes, ..Self::with_client(client) })
    }

    /// For a client of the driver's own with other settings, say one that reads from replicas. Its time-outs are replaced by
    /// those of this manager.
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

    /// How long to wait for a reply of a node. Default: 2 s, which with the tries of [`new`](Self::new) makes 8 s for a command to
    /// a node that hangs. `None` waits for ever.
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
        Ok(RedisClusterConnection { inner, map, settled, looked: None, touched: false })
    }

    /// Any node will do: if all had to answer, one that is down would close every connection of every process, and all of
    /// them would be opened again, to the nodes that are left.
    fn is_valid(&self, connection: &mut RedisClusterConnection) -> RedisResult<()> {
        match connection.inner.route_command(&::redis::cmd("PING"), ANY_NODE)? {
            Value::SimpleString(word) if word == "PONG" => Ok(()),
            _ => Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the answer to PING is not PONG"))),
        }
    }

    fn reset(&self, connection: &mut RedisClusterConnection) -> RedisResult<()> {
        if !connection.touched {
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
}

/// A connection asks for the map no more often than this: while a node is away and the cluster has not decided, each failed
/// command would ask.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

const ANY_NODE: RoutingInfo = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);

impl RedisClusterConnection {
    /// The driver's connection, for what this type does not offer. What is done with it is not seen, so it is closed on its
    /// return.
    pub fn raw(&mut self) -> &mut ClusterConnection {
        self.touched = true;
        &mut self.inner
    }

    /// Several commands in one round trip to each node that is concerned. Not a transaction.
    ///
    /// # Errors
    ///
    /// As `ClusterPipeline::query`.
    pub fn pipeline<T: FromRedisValue>(&mut self, pipeline: &ClusterPipeline) -> RedisResult<T> {
        pipeline.cmd_iter().for_each(|command| self.note(command));
        // Not sent again: nobody knows how much of it was done.
        let replies = pipeline.query(&mut self.inner);
        if let Err(error) = &replies {
            self.recover(error);
        }
        replies
    }

    /// One command to the node or nodes of one's choice.
    ///
    /// # Errors
    ///
    /// As `ClusterConnection::route_command`.
    pub fn route_command(&mut self, command: &Cmd, routing: RoutingInfo) -> RedisResult<Value> {
        self.note(command);
        self.inner.route_command(command, routing)
    }

    fn note(&mut self, command: &Cmd) {
        // Not what is left at best: the `EXEC` may have gone to another node than the `MULTI`.
        self.touched |= Forecast::of(Traces::default(), command).at_worst.any();
    }

    /// After a command that failed: finds out whether its node is no longer the one to ask. `true` if it is worth another try.
    fn recover(&mut self, error: &RedisError) -> bool {
        let unanswered = error.is_connection_dropped() || error.is_timeout();
        if !unanswered && error.kind() != ErrorKind::ClusterConnectionNotFound {
            return false;
        }
        if self.looked.is_some_and(|before| before.elapsed() < BETWEEN_LOOKS) {
            return false;
        }
        self.looked = Some(now());
        let Ok(map) = Map::of(&mut self.inner) else { return false };
        if map == self.map && self.settled {
            return false;
        }
        // It may have asked a node that did not know yet: then it is done again the next time.
        self.settled = map.teach(&mut self.inner) && map.is_known_to(&mut self.inner);
        self.map = map;
        // After a time-out the command may still be done.
        self.settled && !error.is_timeout()
    }
}

impl ConnectionLike for RedisClusterConnection {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.touched |= Forecast::of_packed(Traces::default(), packed).at_worst.any();
        match self.inner.req_packed_command(packed) {
            Err(error) if self.recover(&error) => self.inner.req_packed_command(packed),
            reply => reply,
        }
    }

    fn req_packed_commands(&mut self, packed: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        self.touched |= Forecast::of_packed(Traces::default(), packed).at_worst.any();
        let replies = self.inner.req_packed_commands(packed, offset, count);
        if let Err(error) = &replies {
            self.recover(error);
        }
        replies
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.note(command);
        match self.inner.req_command(command) {
            Err(error) if self.recover(&error) => self.inner.req_command(command),
            reply => reply,
        }
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
        self.0.iter().all(|part| {
            let route =
                RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(Route::new(part.first, SlotAddr::Master)));
            let name = connection.route_command(::redis::cmd("CLUSTER").arg("MYID"), route);
            name.and_then(|name| Ok(::redis::from_redis_value::<String>(name)?)).is_ok_and(|name| name == part.id)
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
