//! A soak: users who misbehave, a server and a line that fail at random, and checks all the while.
//!
//! What is drawn comes from one seed: the users' doings, each user from a stream of its own, and the faults with their
//! lengths and pauses. The same seed gives the same faults in the same order; how threads meet is up to the machine.

pub mod faults;
pub mod finish;
pub mod session;
pub mod tally;
pub mod users;
pub mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millpond::Pool;
use millpond::redis::RedisManager;
use millpond_drivers::{Proxy, Redis};
use redis::{Client, Connection, RedisResult};

use session::{Loud, Sessions};
use tally::Tally;

/// The most connections at any time. Resizing goes down from here and back.
pub const MOST: u32 = 12;
pub const USERS: usize = 24;
/// Guards that are leaked for good in one run.
pub const FORGOTTEN: u32 = 3;
/// The driver's time-outs: what a black hole costs who is in it.
pub const IO: Duration = Duration::from_millis(500);
/// How observers call themselves at the server.
const OBSERVER: &str = "observer";

/// Everything that the threads of a soak share.
#[derive(Debug)]
pub struct Ground {
    pub pool: Pool<Sessions>,
    pub redis: Redis,
    pub proxy: Proxy,
    pub tally: Arc<Tally>,
    stop: AtomicBool,
    /// Since when neither the server nor the line has had a fault.
    calm: Mutex<Option<Instant>>,
    /// Since when the pool is paused.
    paused: Mutex<Option<Instant>>,
    broken: Mutex<Vec<String>>,
}

impl Ground {
    /// A server, a proxy before it and a pool that goes through the proxy; `None` without a server.
    pub fn prepare() -> Option<Self> {
        let redis = Redis::start()?;
        let proxy = Proxy::to(redis.addr());
        let tally = Arc::new(Tally::default());
        let manager = RedisManager::new(Redis::url_at(proxy.port())).expect("it is a URL");
        let pool = Pool::builder(Sessions::new(manager, Arc::clone(&tally)))
            .name("soak")
            .max_size(MOST)
            .min_idle(2)
            .connection_timeout(IO)
            // Short, so that everything happens many times in a minute.
            .max_lifetime(Some(Duration::from_secs(20)))
            .idle_timeout(Some(Duration::from_secs(5)))
            .keepalive(Some(Duration::from_secs(2)))
            .max_uses(Some(20_000))
            .leak_threshold(Some(Duration::from_secs(1)))
            .event_handler(Loud::new(Arc::clone(&tally)))
            .build()
            .expect("the server is up");
        let (stop, calm) = (AtomicBool::new(false), Mutex::new(Some(Instant::now())));
        Some(Self { pool, redis, proxy, tally, stop, calm, paused: Mutex::default(), broken: Mutex::default() })
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// An invariant does not hold.
    pub fn broken(&self, what: impl Into<String>) {
        let (mut broken, what) = (lock(&self.broken), what.into());
        // What is broken once is often broken at every look.
        if broken.len() < 20 {
            eprintln!("BROKEN: {what}");
            broken.push(what);
        }
    }

    pub fn all_broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }

    /// Whether the server can be asked and its list be trusted: what was cut has had the time to go.
    fn is_calm(&self) -> bool {
        lock(&self.calm).is_some_and(|since| since.elapsed() > Duration::from_millis(500))
    }

    /// A connection past the proxy, which is not counted.
    fn observer(&self) -> RedisResult<Connection> {
        let client = Client::open(self.redis.url()).expect("it is a URL");
        let mut connection = client.get_connection_with_timeout(IO)?;
        connection.set_read_timeout(Some(IO))?;
        redis::cmd("CLIENT").arg("SETNAME").arg(OBSERVER).exec(&mut connection)?;
        Ok(connection)
    }
}

/// The server's own count of connections, without observers.
fn listed(observer: &mut Connection) -> RedisResult<usize> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(observer)?;
    let name = format!("name={OBSERVER}");
    Ok(list.lines().filter(|line| !line.contains(&name)).count())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under this lock")
}
