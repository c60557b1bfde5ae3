//! A Redis Cluster: six `redis-server`s, of which three are replicas of the other three.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Recipe, START_LIMIT, Server, directory, exchange, find, run};
use crate::port::{free_port_of_node, loopback};

/// How long a node may be silent until the others take it for dead. Short, because tests wait for it, and long enough for a
/// busy machine on which six nodes share two cores.
const NODE_TIMEOUT: &str = "1500";

/// Three primaries and a replica for each, without persistence.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Server>,
}

impl RedisCluster {
    /// Starts the nodes and joins them, or prints `skipped: no redis-server`. `redis-cli` comes with it.
    ///
    /// # Panics
    ///
    /// If the programs are there and no cluster comes of them, or are not there and `MILLPOND_REQUIRE_SERVERS` is `1`.
    pub fn start() -> Option<Self> {
        let program = find("redis-server", &[])?;
        let client = find("redis-cli", &[])?;
        let nodes = (0..6).map(|_| {
            let recipe = Recipe { program: program.clone(), args, probe };
            Server::start_on(free_port_of_node, recipe, directory("redis-node"))
        });
        let cluster = Self { nodes: nodes.collect() };
        let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.addr().to_string()).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        run(&directory("redis-cli"), &client, &create);
        cluster.wait("every node knows every other", |roles| {
            roles.values().filter(|role| **role == Role::Primary).count() == 3
                && roles.values().filter(|role| matches!(role, Role::ReplicaOf(_))).count() == 3
        });
        Some(cluster)
    }

    /// `redis://127.0.0.1:<port>` of every node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port())).collect()
    }

    /// The node on this port.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn node(&self, port: u16) -> &Server {
        self.nodes.iter().find(|node| node.port() == port).unwrap_or_else(|| panic!("no node on port {port}"))
    }

    /// The ports of the nodes that run.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().filter(|node| node.pid().is_some()).map(Server::port).collect()
    }

    /// What the nodes are, by their ports, as the node on `port` sees it.
    pub fn roles(&self, port: u16) -> BTreeMap<u16, Role> {
        let text = ask(port, "CLUSTER NODES").unwrap_or_default();
        // <id> <host>:<port>@<bus port> <flags> <primary's id> ...
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let port_of = |line: &[&str]| -> Option<u16> {
            line.get(1)?.split('@').next()?.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
        };
        let ports: BTreeMap<&str, u16> =
            lines.iter().filter_map(|line| Some((*line.first()?, port_of(line)?))).collect();
        let roles = lines.iter().filter_map(|line| {
            let flags: Vec<_> = line.get(2)?.split(',').collect();
            let role = if flags.contains(&"fail") {
                Role::Failed
            } else if flags.contains(&"slave") {
                Role::ReplicaOf(*ports.get(line.get(3)?)?)
            } else {
                Role::Primary
            };
            Some((port_of(line)?, role))
        });
        roles.collect()
    }

    /// Waits until all nodes that run say that the cluster works, and that it looks as it should.
    ///
    /// # Panics
    ///
    /// If it does not come to that.
    pub fn wait(&self, what: &str, looks_right: impl Fn(&BTreeMap<u16, Role>) -> bool) {
        let asked = Instant::now();
        let agreed = |port: u16| {
            let fine = ask(port, "CLUSTER INFO").is_some_and(|info| info.contains("cluster_state:ok"));
            // A replica can only take over once it has the data.
            let synced = ask(port, "INFO replication").is_some_and(|info| !info.contains("master_link_status:down"));
            fine && synced && looks_right(&self.roles(port))
        };
        while !self.ports().into_iter().all(agreed) {
            assert!(asked.elapsed() < START_LIMIT, "{what}: not yet after {START_LIMIT:?}: {}", self.describe());
            // Other processes, without a channel to us: polling is all there is.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many connections a node has been asked for since it was started.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn connections_received(&self, port: u16) -> u64 {
        let stats = ask(port, "INFO stats").expect("the node answers");
        let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")?.parse().ok());
        count.expect("every server counts them")
    }

    fn describe(&self) -> String {
        let views = self.ports().into_iter().map(|port| format!("{port} sees {:?}", self.roles(port)));
        views.collect::<Vec<_>>().join("\n")
    }
}

/// What a node of a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Has slots of its own.
    Primary,
    /// Copies the node on this port.
    ReplicaOf(u16),
    /// The others have agreed that it is gone.
    Failed,
}

fn args(_: &Path, port: u16) -> Vec<String> {
    let port = port.to_string();
    let args = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"];
    let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT];
    // A replica begins to copy at once, and takes over however long ago it last heard of its primary.
    let quick = ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"];
    args.into_iter().chain(cluster).chain(quick).map(str::to_owned).collect()
}

fn probe(port: u16) -> bool {
    exchange(port, b"PING\r\n", 5).is_some_and(|answer| answer == b"+PONG")
}

/// Asks a question whose answer is a text.
fn ask(port: u16, question: &str) -> Option<String> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&loopback(port), patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(format!("{question}\r\n").as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut length = String::new();
    reader.read_line(&mut length).ok()?;
    let mut answer = vec![0; length.strip_prefix('$')?.trim_end().parse().ok()?];
    reader.read_exact(&mut answer).ok()?;
    String::from_utf8(answer).ok()
}
