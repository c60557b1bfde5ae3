//! Ten thousand tenants, a hundred active at a time: no more threads than for one pool, and the memory of a hundred. In a
//! program of its own, because it counts the threads of the process.
#![cfg(target_os = "linux")]

mod support;

use millpond::{Error, Pool, Pools};
use rusqlite::Connection;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::eventually;

const TENANTS: usize = 10_000;
const ACTIVE: usize = 100;
const WORKERS: usize = 4;

/// The crate's own threads that there are now.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("this is Linux");
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("millpond-")).count()
}

/// Runs workers that each do `work` for their share of the tenants, and says how many threads of the crate there were at
/// the most.
fn busiest(work: impl Fn(usize) + Sync) -> usize {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(tenant) = Some(next.fetch_add(1, SeqCst)).filter(|&tenant| tenant < TENANTS) {
                        work(tenant);
                    }
                })
            })
            .collect();
        let mut most = 0;
        while !workers.iter().all(|worker| worker.is_finished()) {
            most = most.max(threads());
            thread::yield_now();
        }
        most
    })
}

/// A closure that closes each connection after one use, so that the one pool opens and closes as many as all the others.
fn one_pool() -> usize {
    let pool = Pool::builder(Connection::open_in_memory)
        .max_size(ACTIVE as u32)
        .max_uses(Some(1))
        .build_lazy()
        .expect("good settings");
    let most = busiest(|_| pool.with(|conn| assert!(conn.is_autocommit())).expect("a connection"));
    pool.close_and_wait(Duration::from_secs(60)).expect("all ends");
    most
}

#[test]
fn ten_thousand_tenants_cost_no_more_threads_than_one_pool_and_the_memory_of_a_hundred() -> Result<(), Error> {
    let alone = one_pool();
    let pools = Pools::builder(|tenant: &usize| {
        Pool::builder(Connection::open_in_memory).name(format!("tenant-{tenant}")).max_size(2).build_lazy()
    })
    .max_pools(ACTIVE)
    .build()?;
    let most = busiest(|tenant| {
        // The tenant and some that were here before it.
        for tenant in [tenant, tenant.saturating_sub(7), tenant.saturating_sub(50)] {
            pools.with(&tenant, |conn| assert!(conn.is_autocommit())).expect("a connection");
        }
        let len = pools.len();
        // Each worker may have just made one and may be using another, and a look at all of them is not worth a few.
        assert!(len <= ACTIVE + 2 * WORKERS + 16, "{len} pools");
    });
    println!("threads of the crate at the most: {most} for {TENANTS} tenants, {alone} for one pool");
    // Helper threads come and go with the connections that are opened and closed, so how many there are at the most is a matter
    // of when one looks. A thread for each pool would be a hundred.
    assert!(most <= alone + ACTIVE / 4, "{most} threads for {TENANTS} tenants, {alone} for one pool");

    pools.evict_idle();
    let stats = pools.stats();
    assert_eq!(stats.pools, ACTIVE);
    assert!(stats.evicted >= (TENANTS - ACTIVE) as u64 && stats.size <= 2 * ACTIVE as u64, "{stats:?}");
    assert_eq!((stats.provider_failures, stats.timeouts, stats.checkouts), (0, 0, 3 * TENANTS as u64));
    eventually("at rest there is the keeper, as for one pool", || threads() == 1);
    let stats = pools.stats();
    assert_eq!(stats.opened - stats.closed, stats.size, "{stats:?}");
    pools.close_all_and_wait(Duration::from_secs(60))?;
    assert_eq!(threads(), 0, "all have ended with the last pool");
    Ok(())
}
