//! A pool over a real Redis Cluster: a primary dies under load, its replica takes over, and the other nodes hear nothing of
//! it.

use std::{
    collections::BTreeMap,
    error::Error as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use millpond::{
    CloseReason, ErrorKind, Manager, Pool, PooledConnection, Validation,
    redis::{RedisClusterConnection, RedisClusterManager},
};
use millpond_drivers::{PATIENCE, Redis, RedisCluster, Role, SHORT, assert_whole, cause_of, fill};
use redis::{
    Client, Commands, Connection, ConnectionLike, RedisError, RedisResult,
    cluster::{ClusterClient, cluster_pipe},
    cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
    cmd,
};

/// Keys all over the slots.
const KEYS: usize = 60;
const CONNECTIONS: u32 = 8;
const THREADS: usize = 16;

/// With all the time it needs: after a reply that comes too late a connection is replaced, and that is not to happen because the
/// machine is busy.
fn patient(manager: RedisClusterManager) -> RedisClusterManager {
    manager.connect_timeout(PATIENCE).read_timeout(Some(PATIENCE)).write_timeout(Some(PATIENCE))
}

/// Writes all keys, each on the second try if need be: the first may be what finds out that its node is gone.
fn answers(connection: &mut impl ConnectionLike) {
    let asked = Instant::now();
    for key in 0..KEYS {
        while let Err(error) = connection.set::<_, _, ()>(format!("key:{key}"), key) {
            assert!(asked.elapsed() < PATIENCE, "{error}");
        }
    }
}

/// A connection to each node that is there before anything is counted, so that looking costs none.
struct Observers(BTreeMap<u16, Connection>);

impl Observers {
    fn of(cluster: &RedisCluster) -> Self {
        let connect = |port| {
            let client = Client::open(("127.0.0.1", port)).expect("it is an address");
            (port, client.get_connection().expect("the node is up"))
        };
        Self(cluster.ports().into_iter().map(connect).collect())
    }

    /// Connections that the nodes have taken, over all.
    fn received(&mut self) -> BTreeMap<u16, u64> {
        self.0
            .iter_mut()
            .map(|(port, node)| {
                let stats: String = cmd("INFO").arg("stats").query(node).expect("it answers");
                let count =
                    stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")?.parse().ok());
                (*port, count.unwrap_or(0_u64))
            })
            .collect()
    }

    /// Whether all nodes name the replicas to clients, which they do some time after the first write.
    fn replicas_are_named(&mut self) -> bool {
        self.0.values_mut().all(|node| {
            let parts: Vec<Vec<redis::Value>> = cmd("CLUSTER").arg("SLOTS").query(node).expect("it answers");
            parts.iter().all(|part| part.len() > 3)
        })
    }

    /// Whether all nodes say that the cluster works, and that nothing belongs to the node on `port`.
    fn do_without(&mut self, port: u16) -> bool {
        self.0.values_mut().all(|node| {
            let info: String = cmd("CLUSTER").arg("INFO").query(node).expect("it answers");
            let parts: Vec<Vec<redis::Value>> = cmd("CLUSTER").arg("SLOTS").query(node).expect("it answers");
            let is_there = |part: &Vec<redis::Value>| {
                // First slot, last slot, [host, port, name …], replicas.
                let Some(redis::Value::Array(primary)) = part.get(2) else { panic!("no primary in {part:?}") };
                primary.get(1) == Some(&redis::Value::Int(port.into()))
            };
            info.contains("cluster_state:ok") && !parts.iter().any(is_there)
        })
    }
}

/// What came of killing a primary under load.
#[derive(Debug)]
#[allow(dead_code, reason = "it is printed")]
struct Outcome {
    /// Connections that the nodes that were left have taken from the kill until all was well again, and a while longer.
    connections: u64,
    good: u64,
    failed: u64,
}

/// Has `write` called by many threads, kills the node on `port`, waits until its replica has taken over and every thread
/// has written all keys, and counts.
fn kill_under_load(cluster: &RedisCluster, port: u16, write: impl Fn(usize) -> bool + Sync) -> Outcome {
    let mut observers = Observers::of(cluster);
    observers.0.remove(&port);
    let before = observers.received();
    let (good, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let recovered = AtomicBool::new(false);
    let asked = Instant::now();
    let late = || asked.elapsed() > 2 * PATIENCE;
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (write, good, failed, recovered) = (&write, &good, &failed, &recovered);
            scope.spawn(move || {
                // From when the cluster works again each thread goes on until it has written every key in a row, three times.
                let (mut key, mut in_a_row) = (worker, 0);
                while in_a_row < 3 * KEYS {
                    let works = write(key % KEYS);
                    assert!(!late(), "it does not recover: {in_a_row} in a row");
                    if works { good } else { failed }.fetch_add(1, SeqCst);
                    key += 1;
                    in_a_row = if works && recovered.load(SeqCst) { in_a_row + 1 } else { 0 };
                }
            });
        }
        while good.load(SeqCst) < 2_000 {
            assert!(!late(), "nothing works");
            thread::yield_now();
        }
        cluster.node(port).kill();
        // The nodes take 1.5 s to agree that it is gone.
        while failed.load(SeqCst) == 0 || !observers.do_without(port) {
            assert!(!late(), "no replica takes over");
            thread::sleep(Duration::from_millis(20));
        }
        recovered.store(true, SeqCst);
    });
    let after = observers.received();
    let connections: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
    Outcome { connections, good: good.into_inner(), failed: failed.into_inner() }
}

fn primary(cluster: &RedisCluster) -> u16 {
    let any = *cluster.ports().first().expect("some run");
    let roles = cluster.roles(any);
    // One that has a replica, or nobody could take over.
    let replicated = |port: &u16| roles.values().any(|role| *role == Role::ReplicaOf(*port));
    *roles.iter().find(|(port, role)| **role == Role::Primary && replicated(port)).expect("there are three").0
}

fn is_complete(roles: &BTreeMap<u16, Role>) -> bool {
    let primaries = roles.values().filter(|role| **role == Role::Primary).count();
    primaries == 3 && roles.len() == 6 && !roles.values().any(|role| *role == Role::Failed)
}

#[test]
fn a_primary_that_dies_costs_its_replica_a_moment_and_the_other_nodes_no_connections() {
    let Some(cluster) = RedisCluster::start() else { return };
    let manager = patient(RedisClusterManager::new(cluster.urls()).expect("they are URLs"));
    let mut observers = Observers::of(&cluster);
    answers(&mut manager.connect().expect("the cluster is up"));
    let asked = Instant::now();
    while !observers.replicas_are_named() {
        assert!(asked.elapsed() < PATIENCE, "they are not");
        thread::sleep(Duration::from_millis(20));
    }
    // The check at every checkout, as r2d2 has it, is the harder case.
    let pool = Pool::builder(manager).max_size(CONNECTIONS).validation(Validation::Always).connection_timeout(PATIENCE);
    let pool = pool.build().expect("the cluster is up");
    fill(&pool);
    let outcome = kill_under_load(&cluster, primary(&cluster), |key| {
        let written: RedisResult<()> =
            pool.with(|connection| connection.set(format!("key:{key}"), key)).expect("in time");
        written.is_ok()
    });
    println!("millpond: {outcome:?}, {} pooled connections opened", pool.stats().opened);
    // Each has a socket to each node already, the replicas included.
    assert_eq!(outcome.connections, 0, "{outcome:?}");
    assert_eq!(pool.stats().opened, u64::from(CONNECTIONS), "none was replaced");
    assert_whole(&pool, answers);
    drop(pool);

    let dead = cluster.urls().into_iter().filter_map(|url| url.rsplit(':').next()?.parse().ok());
    for port in dead.filter(|port| !cluster.ports().contains(port)).collect::<Vec<u16>>() {
        cluster.node(port).restart();
    }
    cluster.wait("all six are there again", is_complete);
    let client = ClusterClient::builder(cluster.urls()).retries(3).min_retry_wait(10).max_retry_wait(200);
    let client = client.connection_timeout(Duration::from_secs(1)).response_timeout(Duration::from_secs(2));
    let client = client.build().expect("they are URLs");
    let r2d2 = r2d2::Pool::builder().max_size(CONNECTIONS).connection_timeout(Duration::from_millis(500)).build(client);
    let r2d2 = r2d2.expect("the cluster is up");
    let its = kill_under_load(&cluster, primary(&cluster), |key| {
        let Ok(mut connection) = r2d2.get() else { return false };
        let written: RedisResult<()> = connection.set(format!("key:{key}"), key);
        written.is_ok()
    });
    println!("r2d2: {its:?}");
    assert!(its.connections > outcome.connections, "millpond {outcome:?}, r2d2 {its:?}");
}

#[test]
fn a_cluster_is_used_like_one_server_and_keeps_no_session() {
    let Some(cluster) = RedisCluster::start() else { return };
    let manager = patient(RedisClusterManager::new(cluster.urls().into_iter().take(2)).expect("they are URLs"));
    let pool = Pool::builder(manager).max_size(2).connection_timeout(PATIENCE).build().expect("the cluster is up");
    thread::scope(|scope| {
        for worker in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..50 {
                    let mut connection = pool.get().expect("a place comes free");
                    let (one, other) = (format!("one:{worker}:{n}"), format!("other:{worker}:{n}"));
                    // To two nodes, as a rule.
                    let mut pipe = cluster_pipe();
                    pipe.set(&one, n).ignore().set(&other, n).ignore().get(&one).get(&other);
                    assert_eq!(connection.pipeline(&pipe), Ok((n, n)));
                    let script = redis::Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
                    assert_eq!(script.key(&one).arg(2).invoke(&mut *connection), Ok(n + 2));
                }
            });
        }
    });
    // What the driver does not take in a pipeline, what goes to several nodes, and what is sent where one likes.
    let mut guard = pool.get().expect("it is idle");
    let connection: &mut RedisClusterConnection = &mut guard;
    let _: () = connection.mset(&[("{a}:1", "one"), ("b", "two"), ("c", "")]).expect("it is written");
    let _: () = connection.mset(&[("{a}:4", "four"), ("{a}:5", "five")]).expect("they are in one slot");
    let _: () = connection.rename("{a}:1", "{a}:2").expect("it is there");
    let _: () = connection.copy("{a}:2", "{a}:3", redis::CopyOptions::default()).expect("it is there");
    let values: Vec<Option<String>> = connection.mget(&["{a}:1", "{a}:3", "b", "c", "{a}:5"]).expect("they are there");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(values, [None, text("one"), text("two"), text(""), text("five")]);
    assert_eq!(connection.publish("nobody", "hears"), Ok(0));
    let route = Route::with_key("{a}:2", SlotAddr::Master);
    let route = || RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
    let written = connection.route_command(cmd("SET").arg("{a}:2").arg("").arg("EX").arg(100), route());
    assert_eq!(written, Ok(redis::Value::Okay));
    let refused = connection.route_command(cmd("INCR").arg("{a}:3"), route()).expect_err("it is no number");
    assert!(refused.to_string().contains("not an integer"), "{refused}");
    let refused: RedisResult<i64> = connection.incr("{a}:3", 1);
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("not an integer")), "{refused:?}");
    drop(guard);
    assert_eq!(pool.stats().closed.total(), 0);
    // A session on one node among many: the connection is closed.
    for words in [["WATCH", "key"], ["MULTI", ""], ["CLIENT", "ID"]] {
        let mut connection = pool.get().expect("it is idle");
        let id = PooledConnection::id(&connection);
        // Whether the driver finds a node for it or not.
        drop(cmd(words[0]).arg(&words[1..]).exec(&mut connection));
        drop(connection);
        let held: Vec<_> = (0..2).map(|_| pool.get().expect("another is opened")).collect();
        assert!(held.iter().all(|other| PooledConnection::id(other) != id), "{words:?} was left behind");
    }
    // Of others nothing is known, modules' commands among them, and to open sockets to all nodes for each would cost too much.
    let opened = pool.stats().opened;
    for words in ["COMMAND COUNT", "CONFIG GET maxmemory", "SCRIPT EXISTS aa", "JSON.GET key", "SUBSTR key 0 1"] {
        let mut connection = pool.get().expect("it is idle");
        let words: Vec<_> = words.split(' ').collect();
        drop(cmd(words[0]).arg(&words[1..]).exec(&mut connection));
    }
    assert_eq!(pool.stats().opened, opened);
    let mut connection = pool.get().expect("it is idle");
    let _ = connection.raw();
    drop(connection);
    assert_whole(&pool, answers);
    assert_eq!(pool.stats().closed.by(CloseReason::ResetFailed), 4);
}

/// Its client, which is an r2d2 manager as it comes, in place of the crate's own.
#[test]
fn the_drivers_own_cluster_client_is_lent_by_both_interfaces() {
    let Some(cluster) = RedisCluster::start() else { return };
    let client = || {
        let builder = ClusterClient::builder(cluster.urls()).connection_timeout(PATIENCE).response_timeout(PATIENCE);
        builder.build().expect("they are URLs")
    };
    let builder = Pool::builder(client()).max_size(3).validation(Validation::Always).connection_timeout(PATIENCE);
    let pool = builder.build().expect("the cluster is up");
    let r2d2 = millpond::r2d2::Pool::builder().max_size(2).connection_timeout(PATIENCE).build(client());
    let r2d2 = r2d2.expect("the cluster is up");
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let counted: RedisResult<u64> =
                        pool.with(|connection| connection.incr("native", 1)).expect("in time");
                    counted.expect("it is a number");
                    let _: u64 = r2d2.get().expect("in time").incr("r2d2", 1).expect("it is a number");
                }
            });
        }
    });
    let counts = ["native", "r2d2"].map(|key| pool.with(|connection| connection.get(key)).expect("it is idle"));
    assert_eq!(counts, [Ok(120), Ok(120)]);
    assert_eq!((r2d2.state().connections, r2d2.stats().closed.total()), (2, 0));
    assert_eq!(pool.stats().closed.total(), 0, "each check was passed");
    assert_whole(&pool, answers);
    drop(cluster);
    // Or what it answers with would be the failed check of an idle one.
    pool.refresh();
    let error = cause_of(|deadline| pool.get_timeout(deadline).map(drop).expect_err("nobody is there"));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.source().is_some_and(|cause| cause.is::<RedisError>()), "the driver's own: {error:?}");
}

/// Each node that has a part of the slots, by a connection of its own, and a key of that part.
fn owners(cluster: &RedisCluster) -> Vec<(u16, Connection, String)> {
    let roles = cluster.roles(*cluster.ports().first().expect("some run"));
    let primaries = roles.into_iter().filter(|(_, role)| *role == Role::Primary);
    let owner = |port| {
        let client = Client::open(("127.0.0.1", port)).expect("it is an address");
        let mut node = client.get_connection().expect("the node is up");
        let key = (0..1_000).map(|n| format!("own:{n}")).find(|key| node.exists::<_, bool>(key).is_ok());
        (port, node, key.expect("one of so many is there"))
    };
    primaries.map(|(port, _)| owner(port)).collect()
}

/// How many clients wait for an element at a node.
fn blocked(node: &mut Connection) -> u64 {
    let text: String = cmd("INFO").arg("clients").query(node).expect("it answers");
    let count = text.lines().find_map(|line| line.strip_prefix("blocked_clients:")?.parse().ok());
    count.expect("every server counts them")
}

#[test]
fn nobody_waits_behind_a_reply_of_a_node_that_did_not_come_in_time() {
    let Some(cluster) = RedisCluster::start() else { return };
    let manager = patient(RedisClusterManager::new(cluster.urls()).expect("they are URLs"));
    let pool = Pool::builder(manager).max_size(1).connection_timeout(PATIENCE).build().expect("the cluster is up");
    let (_, mut node, key) = owners(&cluster).pop().expect("there are three");

    // Sent again each time it is not answered, it would take as many elements, and the replies would be nobody's.
    for (n, blocking) in
        [cmd("BLPOP").arg(&key).arg(0), cmd("BRPOPLPUSH").arg(&key).arg(&key).arg(0)].iter().enumerate()
    {
        let mut connection = pool.get().expect("it is idle");
        connection.set_read_timeout(Some(SHORT)).expect("it is a time");
        let error = blocking.exec(&mut connection).expect_err("nothing comes");
        assert!(error.is_timeout(), "{error}");
        drop(connection);
        // By another thread.
        let asked = Instant::now();
        while pool.stats().closed.by(CloseReason::Broken) <= n as u64 {
            assert!(asked.elapsed() < PATIENCE, "it is not closed");
            thread::yield_now();
        }
        let behind_nothing = pool.with(|connection| connection.exists::<_, bool>(&key)).expect("another is opened");
        assert_eq!(behind_nothing, Ok(false));
    }
    let asked = Instant::now();
    while blocked(&mut node) > 0 {
        assert!(asked.elapsed() < PATIENCE, "somebody still waits");
        thread::yield_now();
    }
    let _: () = node.rpush(&key, &["one", "two", "three"]).expect("it answers");
    assert_eq!(node.llen(&key), Ok(3), "nobody has taken one");
    assert_whole(&pool, answers);
}

#[test]
fn a_command_that_a_node_is_slow_to_answer_is_done_once_at_the_most() {
    let Some(cluster) = RedisCluster::start() else { return };
    let manager = patient(RedisClusterManager::new(cluster.urls()).expect("they are URLs"));
    let pool = Pool::builder(manager).max_size(1).connection_timeout(PATIENCE).build().expect("the cluster is up");
    let (port, mut node, key) = owners(&cluster).pop().expect("there are three");
    let mut connection = pool.get().expect("it is idle");
    // What has been sent is done when it goes on, also for who has hung up by then.
    cluster.node(port).stop();
    connection.set_read_timeout(Some(SHORT)).expect("it is a time");
    let counted: RedisResult<i64> = connection.incr(&key, 1);
    cluster.node(port).cont();
    assert!(counted.expect_err("it hangs").is_timeout());
    drop(connection);
    let asked = Instant::now();
    let count: Option<i64> = loop {
        // Its connection is served in the same round, or before.
        match node.get(&key) {
            Ok(count) => break count,
            Err(error) => assert!(asked.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert!(count.unwrap_or(0) <= 1, "{count:?}");
    assert_whole(&pool, answers);
}

#[test]
fn a_lost_socket_to_one_node_is_replaced_by_itself_and_time_outs_end_with_the_lease() {
    let Some(cluster) = RedisCluster::start() else { return };
    let manager = patient(RedisClusterManager::new(cluster.urls()).expect("they are URLs"));
    let pool = Pool::builder(manager).max_size(1).connection_timeout(PATIENCE).build().expect("the cluster is up");
    for (_, mut node, key) in owners(&cluster) {
        cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut node).expect("it answers");
        let asked = Instant::now();
        // At the first try, unless the last loss was less than a moment ago.
        while let Err(error) = pool.with(|connection| connection.set::<_, _, ()>(&key, 1)).expect("it is idle") {
            assert!(asked.elapsed() < PATIENCE, "{error}");
        }
    }
    let mut connection = pool.get().expect("it is idle");
    connection.set_read_timeout(Some(Duration::from_millis(1))).expect("it is a time");
    drop(connection);
    let (_, _, key) = owners(&cluster).pop().expect("there are three");
    // Longer than the last one's time, and shorter than the manager's.
    let nothing = pool.with(|connection| cmd("BLPOP").arg(format!("{{{key}}}:list")).arg(0.1).query(connection));
    assert_eq!(nothing.expect("it is idle"), Ok(None::<(String, String)>));
    assert_eq!(pool.stats().opened, 1, "the other sockets stay, and so does the connection");
    assert_whole(&pool, answers);
}

#[test]
fn what_is_no_cluster_is_refused_at_once() {
    let Some(redis) = Redis::start() else { return };
    let refusal = |urls: &[String]| {
        let manager = RedisClusterManager::new(urls).expect("they are URLs");
        let mut shown = format!("{manager:?}");
        let pool = Pool::builder(manager).connection_timeout(PATIENCE).build_lazy().expect("nothing is opened");
        let begun = Instant::now();
        let error = pool.get().map(drop).expect_err("it is none");
        assert!(begun.elapsed() < PATIENCE / 2, "it was tried until the end: {:?}", error.source());
        assert_eq!(error.kind(), ErrorKind::Connect);
        let cause = error.source().and_then(|cause| cause.downcast_ref::<RedisError>()).expect("the driver's error");
        shown += &format!("{error} {error:?} {cause}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
        cause.to_string()
    };
    assert!(refusal(&[redis.url()]).contains("cluster support disabled"));
    cmd("CONFIG")
        .arg(&["SET", "requirepass", "right"])
        .exec(&mut Client::open(redis.url()).expect("it is a URL"))
        .expect("it answers");
    let wrong = format!("redis://:s3cr3t@127.0.0.1:{}", redis.port());
    let said = refusal(&[wrong.clone(), wrong]);
    assert!(said.contains("authentication failed"), "{said}");
}
