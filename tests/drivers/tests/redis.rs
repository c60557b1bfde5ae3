//! redis-rs through its own r2d2 manager, against a real `redis-server`.

use std::{
    collections::HashSet,
    error::Error as _,
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use millpond::{Builder, CloseReason, ErrorKind, FnManager, Pool, PooledConnection, R2d2, Validation};
use millpond_drivers::{Census, Mode, PATIENCE, Proxy, Redis, SHORT, agree, assert_whole, fill, while_it_hangs};
use redis::{Client, Commands, Connection, ConnectionLike, RedisError, RedisResult};

fn builder(url: &str) -> Builder<R2d2<Client>> {
    let client = Client::open(url).expect("it is a URL");
    Pool::builder(client).connection_timeout(PATIENCE)
}

fn answers(connection: &mut Connection) {
    let pong: RedisResult<String> = redis::cmd("PING").query(connection);
    assert_eq!(pong, Ok("PONG".to_owned()));
}

/// The server's numbers for its clients, without the one that asks.
fn clients(observer: &mut Connection) -> HashSet<u64> {
    let mine = number(observer);
    let list: String = redis::cmd("CLIENT").arg("LIST").query(observer).expect("it answers");
    list.lines()
        .filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok())
        .filter(|&number| number != mine)
        .collect()
}

fn number(connection: &mut Connection) -> u64 {
    redis::cmd("CLIENT").arg("ID").query(connection).expect("it answers")
}

fn observer(redis: &Redis) -> Connection {
    let client = Client::open(redis.url()).expect("it is a URL");
    client.get_connection().expect("the server answers")
}

#[test]
fn commands_and_pipelines_run_on_the_guard() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(4).build().expect("the server is up");
    thread::scope(|scope| {
        for worker in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..50 {
                    let mut connection = pool.get().expect("a place comes free");
                    let key = format!("{worker}:{n}");
                    // The guard itself is a connection to redis-rs.
                    let _: () = connection.set(&key, n).expect("it is written");
                    assert_eq!(connection.get(&key), Ok(n));
                    let mut pipeline = redis::pipe();
                    pipeline.atomic().incr("all", 1).ignore().get(&key);
                    assert_eq!(pipeline.query(&mut *connection), Ok((n,)));
                }
            });
        }
    });
    let all: RedisResult<i32> = pool.get().expect("it is idle").get("all");
    assert_eq!(all, Ok(400));
    assert_whole(&pool, answers);
}

#[test]
fn closures_pool_connections_without_the_manager_of_the_driver() {
    let Some(redis) = Redis::start() else { return };
    let client = Client::open(redis.url()).expect("it is a URL");
    // With time-outs, which the driver's own manager does not set.
    let connect = move || {
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, RedisError>(connection)
    };
    let manager = FnManager::new(connect)
        .check(|connection: &mut Connection| redis::cmd("PING").query(connection))
        .reset(|connection| redis::cmd("DISCARD").query(connection).or_else(no_multi));
    let pool = Pool::builder(manager).max_size(1).build().expect("the server is up");
    let mut connection = pool.get().expect("it is idle");
    let id = PooledConnection::id(&connection);
    let _: () = redis::cmd("MULTI").query(&mut *connection).expect("it answers");
    drop(connection);
    let mut connection = pool.get().expect("it came back");
    assert_eq!(PooledConnection::id(&connection), id, "cleaned, not replaced");
    answers(&mut connection);
    drop(connection);
    assert_whole(&pool, answers);
}

/// `DISCARD` outside of `MULTI` is an error that says that all is well.
fn no_multi(error: RedisError) -> RedisResult<()> {
    if error.to_string().contains("DISCARD without MULTI") { Ok(()) } else { Err(error) }
}

#[test]
fn the_server_lists_as_many_clients_as_the_pool() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool = builder(&redis.url()).max_size(6).build_lazy().expect("nothing is opened");
    assert!(clients(&mut observer).is_empty(), "a lazy pool opens nothing");
    let mut lent: Vec<_> = (0..6).map(|_| pool.get().expect("the server is up")).collect();
    agree(&pool, 6, || clients(&mut observer));
    for connection in lent.drain(..2) {
        PooledConnection::discard(connection);
    }
    agree(&pool, 4, || clients(&mut observer));
    drop(lent);
    pool.resize(1).expect("the pool is open");
    agree(&pool, 1, || clients(&mut observer));
    pool.resize(6).expect("the pool is open");
    assert_whole(&pool, answers);
    agree(&pool, 6, || clients(&mut observer));
    drop(pool);
    let asked = Instant::now();
    while !clients(&mut observer).is_empty() {
        assert!(asked.elapsed() < PATIENCE, "a dropped pool leaves a connection");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_server_never_lists_more_than_the_maximum_under_churn() {
    let Some(redis) = Redis::start() else { return };
    let client = Client::open(redis.url()).expect("it is a URL");
    let pool = Pool::builder(Census::of(R2d2(client), number))
        .max_size(8)
        .connection_timeout(PATIENCE)
        .build()
        .expect("the server is up");
    let mut observer = observer(&redis);
    let largest = Census::churn(&pool, || clients(&mut observer), answers);
    assert!(largest >= 2, "the load was no load: {largest}");
    assert_whole(&pool, |member| answers(member));
}

#[test]
fn connections_that_the_server_killed_are_found_by_the_check() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(4).validation(Validation::Always).build().expect("the server is up");
    fill(&pool);
    let closed = pool.stats().closed.total();
    let mut observer = observer(&redis);
    let killed: RedisResult<u32> =
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut observer);
    assert_eq!(killed, Ok(4));
    assert_whole(&pool, answers);
    assert_eq!(pool.stats().closed.total(), closed + 4);
}

#[test]
fn of_fifty_connections_that_were_cut_a_caller_meets_one() {
    let Some(redis) = Redis::start() else { return };
    let idle_for = Duration::from_millis(20);
    let pool = builder(&redis.url())
        .max_size(50)
        .validation(Validation::IfIdleFor(idle_for))
        .build()
        .expect("the server is up");
    fill(&pool);
    let mut observer = observer(&redis);
    let killed: RedisResult<u32> =
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut observer);
    assert_eq!(killed, Ok(50));
    // Longer than connections may be idle without a check.
    thread::sleep(2 * idle_for);
    pool.with(answers).expect("the first caller gets a new one");
    let asked = Instant::now();
    while pool.stats().check_failures < 50 {
        assert!(asked.elapsed() < PATIENCE, "the others are not suspected: {:?}", pool.stats());
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..100 {
        pool.with(answers).expect("the others get new ones");
    }
    // They are closed by other threads, in their own time.
    while pool.stats().closed.by(CloseReason::Invalid) < 50 {
        assert!(asked.elapsed() < PATIENCE, "not all are closed: {:?}", pool.stats());
        thread::sleep(Duration::from_millis(1));
    }
    let stats = pool.stats();
    assert_eq!((stats.check_failures, stats.timeouts, stats.closed.by(CloseReason::Invalid)), (50, 0, 50));
    assert_whole(&pool, answers);
}

#[test]
fn connections_that_are_reset_on_their_way_are_found_by_the_check() {
    let Some(redis) = Redis::start() else { return };
    let proxy = Proxy::to(redis.addr());
    let pool = builder(&Redis::url_at(proxy.port()))
        .max_size(8)
        .validation(Validation::Always)
        .build()
        .expect("the server is up");
    fill(&pool);
    assert_eq!(proxy.open(), 8);
    proxy.reset_all();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| pool.with(answers).expect("nobody hears of it"));
        }
    });
    assert_whole(&pool, answers);
}

#[test]
fn a_connection_that_broke_in_use_is_not_lent_again() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(1).validation(Validation::Never).build().expect("the server is up");
    let mut connection = pool.get().expect("it is idle");
    let mut observer = observer(&redis);
    let _: u32 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query(&mut observer)
        .expect("it is listed");
    redis::cmd("PING").query::<String>(&mut *connection).expect_err("it was killed");
    assert!(!connection.is_open(), "the driver knows");
    drop(connection);
    assert_whole(&pool, answers);
}

#[test]
fn all_eight_waiters_get_the_error_of_the_driver() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(8).build_lazy().expect("nothing is opened");
    redis.kill();
    let start = Barrier::new(8);
    let errors: Vec<_> = thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    pool.get_timeout(SHORT * 5).map(drop).expect_err("it refuses")
                })
            })
            .collect();
        waiters.into_iter().map(|waiter| waiter.join().expect("no panic")).collect()
    });
    let refused = errors.iter().filter(|error| {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<RedisError>());
        error.kind() == ErrorKind::Connect && cause.is_some_and(RedisError::is_connection_refusal)
    });
    assert_eq!(refused.count(), 8, "{errors:#?}");
    redis.restart();
    assert_whole(&pool, answers);
}

#[test]
fn a_server_that_is_killed_and_comes_back_leaves_a_whole_pool() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(4).validation(Validation::Always).build().expect("the server is up");
    fill(&pool);
    let (failed, failures) = mpsc::channel();
    let (stop, stopped) = (Barrier::new(9), std::sync::atomic::AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..8 {
            let failed = failed.clone();
            let (pool, stop, stopped) = (&pool, &stop, &stopped);
            scope.spawn(move || {
                while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Err(error) = pool.get_timeout(SHORT) {
                        failed.send(error.kind()).expect("the test waits");
                        continue;
                    }
                }
                stop.wait();
            });
        }
        redis.kill();
        // Every thread has met the outage before it ends, most of them twice.
        for _ in 0..16 {
            let kind = failures.recv_timeout(PATIENCE).expect("nobody can connect");
            assert!(matches!(kind, ErrorKind::Connect | ErrorKind::Validate), "{kind:?}");
        }
        redis.restart();
        pool.get_timeout(PATIENCE).map(drop).expect("it recovers under load");
        stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        stop.wait();
    });
    assert_whole(&pool, answers);
}

#[test]
fn deadlines_hold_while_a_suspended_server_leaves_the_check_hanging() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(4).validation(Validation::Always).build().expect("the server is up");
    fill(&pool);
    redis.stop();
    let kinds = while_it_hangs(&pool, || redis.cont());
    assert!(kinds.iter().all(|kind| matches!(kind, ErrorKind::Validate | ErrorKind::Exhausted)), "{kinds:?}");
    assert!(kinds.contains(&ErrorKind::Validate), "{kinds:?}");
    assert_whole(&pool, answers);
}

#[test]
fn deadlines_hold_while_a_black_hole_leaves_the_check_hanging() {
    let Some(redis) = Redis::start() else { return };
    let proxy = Proxy::to(redis.addr());
    let pool = builder(&Redis::url_at(proxy.port()))
        .max_size(4)
        .validation(Validation::Always)
        .build()
        .expect("the server is up");
    fill(&pool);
    proxy.set(Mode::BlackHole);
    let kinds = while_it_hangs(&pool, || proxy.set(Mode::Pass));
    assert!(kinds.contains(&ErrorKind::Validate), "{kinds:?}");
    assert_whole(&pool, answers);
    assert!(proxy.open() <= 4, "{} connections for 4 places", proxy.open());
}

#[test]
fn deadlines_hold_while_connecting_hangs_and_another_pool_does_not_notice() {
    let Some(redis) = Redis::start() else { return };
    let proxy = Proxy::to(redis.addr());
    proxy.set(Mode::BlackHole);
    let pool = builder(&Redis::url_at(proxy.port())).max_size(4).build_lazy().expect("nothing is opened");
    let other = builder(&redis.url()).max_size(4).build_lazy().expect("nothing is opened");
    let kinds = while_it_hangs(&pool, || {
        // The hanging ones are still at it: this pool must open connections now.
        fill(&other);
        assert_whole(&other, answers);
        proxy.set(Mode::Pass);
    });
    assert!(kinds.iter().all(|&kind| kind == ErrorKind::Connect), "{kinds:?}");
    assert!(proxy.accepted() <= 4, "{} connects for 4 places", proxy.accepted());
    assert_whole(&pool, answers);
}

#[test]
fn a_panic_inside_multi_reaches_nobody() {
    let Some(redis) = Redis::start() else { return };
    let pool = builder(&redis.url()).max_size(1).build().expect("the server is up");
    thread::scope(|scope| {
        let panicked = scope.spawn(|| {
            let mut connection = pool.get().expect("nobody else is here");
            let _: () = redis::cmd("MULTI").query(&mut *connection).expect("it answers");
            std::panic::resume_unwind(Box::new("a bug in the user's code"));
        });
        panicked.join().expect_err("it panicked");
    });
    let mut next = pool.get().expect("the place came back");
    answers(&mut next); // "QUEUED" if it were the same connection
    drop(next);
    assert_whole(&pool, answers);
}
