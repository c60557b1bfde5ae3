//! Redis Cluster: one pooled connection is a set of sockets, one to each node.

mod connection;
mod map;

pub use connection::RedisClusterConnection;

use super::address;
use super::shared::SHORTEST;
use crate::{Fault, Manager};
use ::redis::cluster::{ClusterClient, ClusterConfig};
use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value};
use map::Map;
use std::fmt;
use std::time::Duration;

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

const ANY_NODE: RoutingInfo = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);

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
        Ok(RedisClusterConnection::new(inner, map, self.read_timeout))
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
        connection.is_spent()
    }

    fn reset(&self, connection: &mut RedisClusterConnection) -> RedisResult<()> {
        if !connection.is_touched() {
            if connection.read_timeout() != self.read_timeout {
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
