//! GETs from a real redis-server on the loopback interface, started for this and ended afterwards.

use std::env;
use std::hint::black_box;
use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Commands, Connection};

use crate::contestants::Kind;
use crate::end_to_end::{CONNECTIONS, Kept, Way, compare};
use crate::figures::Figure;
use crate::plan::Plan;
use crate::report::Report;
use crate::sibling::is_installed;

const KEYS: u64 = 1_000;

struct Server {
    child: Child,
    client: Client,
}

impl Server {
    fn start() -> io::Result<Self> {
        // The port is free again once the listener is dropped, and the system does not soon give it to another.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(env::temp_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let client = Client::open(format!("redis://127.0.0.1:{port}/")).map_err(io::Error::other)?;
        let server = Self { child, client };
        let begin = Instant::now();
        let mut conn = loop {
            match server.client.get_connection() {
                Ok(conn) => break conn,
                Err(error) if begin.elapsed() > Duration::from_secs(10) => {
                    return Err(io::Error::other(error));
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut filling = redis::pipe();
        for key in 0..KEYS {
            filling.set(format!("item:{key}"), key).ignore();
        }
        filling.query::<()>(&mut conn).map_err(io::Error::other)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(conn: &mut Connection, keys: &[String], choice: u64) {
    let value: u64 = conn.get(&keys[(choice % KEYS) as usize]).expect("the server runs until the section ends");
    black_box(value);
}

fn r2d2_pool(client: &Client, checked: bool) -> r2d2::Pool<Client> {
    r2d2::Pool::builder()
        .max_size(CONNECTIONS)
        .test_on_check_out(checked)
        .build(client.clone())
        .expect("the server answered a moment ago")
}

pub fn run(plan: Plan, report: &mut Report) {
    report.heading("Redis GETs");
    if !is_installed("redis-server") {
        report.text("skipped: no redis-server");
        return;
    }
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => {
            report.text(&format!("skipped: redis-server did not start: {error}"));
            return;
        }
    };
    let client = &server.client;
    let keys: &[String] = &(0..KEYS).map(|key| format!("item:{key}")).collect::<Vec<_>>();
    let raw = Kept::new();
    let own = millpond::Pool::builder(client.clone())
        .max_size(CONNECTIONS)
        .build()
        .expect("the server answered a moment ago");
    let (checked, unchecked) = (r2d2_pool(client, true), r2d2_pool(client, false));

    let through_r2d2 = |kind, pool: r2d2::Pool<Client>| {
        Way::through(kind, move || {
            let pool = pool.clone();
            Box::new(move |choice| get(&mut pool.get().expect("there is a connection for each thread"), keys, choice))
        })
    };
    let ways = [
        Way::raw(|| {
            let mut own = raw.take(|| client.get_connection().expect("the server runs until the section ends"));
            Box::new(move |choice| get(own.conn.as_mut().expect("only drop takes it"), keys, choice))
        }),
        Way::through(Kind::Millpond, || {
            let pool = &own;
            Box::new(move |choice| get(&mut pool.get().expect("there is a connection for each thread"), keys, choice))
        }),
        through_r2d2(Kind::R2d2, checked),
        through_r2d2(Kind::R2d2Unchecked, unchecked),
    ];
    report.text(
        "A GET of one of 1 000 keys over loopback. Every GET checks a connection out and returns it. r2d2's default check \
         is a PING each time.",
    );
    let [one, eight] = compare(plan, report, "redis", "Redis GETs", 100, &ways);
    report.found.record(Figure::RedisOne, one);
    report.found.record(Figure::RedisEight, eight);
}
