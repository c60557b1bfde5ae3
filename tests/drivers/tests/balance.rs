//! Several real servers as one: a member is killed and comes back while others use both.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use millpond::{Balanced, Pool, ReadWrite, balance::Balance, redis::RedisManager};
use millpond_drivers::{PATIENCE, Redis, assert_whole};

const SIZE: u32 = 4;

fn member(redis: &Redis, name: &str) -> Pool<RedisManager> {
    let manager = RedisManager::new(redis.url()).expect("it is a URL");
    Pool::builder(manager).name(name).max_size(SIZE).build().expect("the server is up")
}

/// Waits until that has happened, which callers on other threads bring about.
fn until(what: &str, so: impl Fn() -> bool) {
    let mut tries = 0;
    while !so() {
        tries += 1;
        assert!(tries < 60_000, "never so: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_redis_that_is_killed_under_load_costs_no_checkout_and_serves_again_when_it_is_back() {
    let (Some(first), Some(second)) = (Redis::start(), Redis::start()) else { return };
    let (a, b) = (member(&first, "a"), member(&second, "b"));
    let both = Balanced::builder().policy(Balance::RoundRobin).member("a", a.clone()).member("b", b.clone());
    let both = both.connection_timeout(PATIENCE).build().expect("good settings");
    let (done, cut, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let mut conn = both.get().expect("one server is always up");
                    let counter = match redis::cmd("INCR").arg("n").exec(&mut *conn) {
                        Ok(()) => &done,
                        // The server went while this connection was out, or just before.
                        Err(_) => &cut,
                    };
                    counter.fetch_add(1, SeqCst);
                }
            });
        }
        let served = |pool: &Pool<RedisManager>| {
            let enough = pool.stats().checkouts + 500;
            until("it serves", || pool.stats().checkouts > enough);
        };
        for _ in 0..3 {
            served(&a);
            first.kill();
            until("it is left out", || both.members()[0].away);
            served(&b);
            first.restart();
            until("it is back", || !both.members()[0].away);
        }
        served(&a);
        stop.store(true, SeqCst);
    });
    let (done, cut) = (done.into_inner(), cut.into_inner());
    println!("{done} commands, {cut} of them cut off by three kills");
    assert!(cut <= 3 * u64::from(SIZE), "each connection is met by one caller after its server is gone: {cut}");
    assert_eq!((a.stats().timeouts, b.stats().timeouts), (0, 0));
    for pool in [a, b] {
        assert_whole(&pool, |conn| redis::cmd("PING").exec(conn).expect("it answers"));
    }
}

#[test]
fn beside_a_replica_a_thread_reads_what_it_has_written_and_a_replica_that_is_gone_is_replaced_by_the_primary() {
    let (Some(first), Some(second)) = (Redis::start(), Redis::start()) else { return };
    let (primary, replica) = (member(&first, "primary"), member(&second, "replica"));
    replica
        .with(|conn| redis::cmd("REPLICAOF").arg("127.0.0.1").arg(first.port()).exec(conn))
        .expect("one is idle")
        .expect("it obeys");
    let db = ReadWrite::new(primary.clone(), replica.clone()).sticky_reads(PATIENCE);
    thread::scope(|scope| {
        for thread in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..200 {
                    let set = db.with_write(|conn| redis::cmd("SET").arg(thread).arg(n).exec(conn));
                    set.expect("one comes free").expect("the primary takes it");
                    let read = db.with_read(|conn| redis::cmd("GET").arg(thread).query::<u32>(conn));
                    assert_eq!(
                        read.expect("one comes free").expect("it is there"),
                        n,
                        "however far behind the replica is"
                    );
                }
            });
        }
    });
    assert_eq!(replica.stats().checkouts, 1, "nobody who had written asked the replica");
    // This thread has written nothing.
    let read = || db.with_read(|conn| redis::cmd("PING").exec(conn)).expect("somebody is always there");
    read().expect("the replica answers");
    let written = primary.stats().checkouts;
    assert_eq!((replica.stats().checkouts, written), (2, 800 + 800));
    second.kill();
    let cut = (0..20).filter(|_| read().is_err()).count();
    assert!(cut <= SIZE as usize, "each connection is met once after its server is gone: {cut}");
    assert!(primary.stats().checkouts > written);
    second.restart();
    until("the replica is read from again", || {
        let before = replica.stats().checkouts;
        read().expect("both are up, and no connection is left of before");
        replica.stats().checkouts > before
    });
}
