//! Ten thousand tenants, each with a SQLite file of its own, about a hundred of them active at a time.
//!
//! ```text
//! cargo run --release --example tenants
//! ```
//!
//! Worker threads serve requests of tenants that come, stay for a while and go. There is a pool for each tenant, made when it
//! comes; of those that nobody uses, the least recently used go when there are more than a hundred. The table at the end sets
//! what that costs beside one pool.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it times itself; only the library has a clock of its own")]

#[path = "support/folder.rs"]
mod folder;

use folder::TempFolder;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use millpond::{Manager, Pool, Pools};
use rusqlite::Connection;
use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TENANTS: usize = 10_000;
const ACTIVE: usize = 100;
const WORKERS: usize = 8;
/// Of each tenant, on average.
const REQUESTS: usize = 10;

fn main() -> Result<(), Failure> {
    let folder = TempFolder::create("tenants")?;
    let path = folder.file("");
    let pools = Pools::builder(move |tenant: &usize| {
        let file = path.join(format!("tenant-{tenant}.db"));
        // One connection is enough for a tenant, and those of its requests that come together take turns.
        Pool::builder(move || open(&file)).name(format!("tenant-{tenant}")).max_size(1).build_lazy()
    })
    .max_pools(ACTIVE)
    .build()?;

    let before = status("VmRSS");
    let began = Instant::now();
    let busiest = serve(&pools)?;
    let took = began.elapsed();
    let after = status("VmRSS");
    let stats = pools.stats();

    let row = |what: &str, value: String| println!("{what:<44} {value:>12}");
    println!();
    row("tenants served", HumanCount(TENANTS as u64).to_string());
    row("requests", HumanCount(stats.checkouts).to_string());
    row("requests per second", HumanCount((stats.checkouts as f64 / took.as_secs_f64()) as u64).to_string());
    row("pools made", HumanCount(stats.created).to_string());
    row("pools evicted", HumanCount(stats.evicted).to_string());
    row("pools alive", HumanCount(stats.pools as u64).to_string());
    row("connections open", HumanCount(stats.size).to_string());
    row("resident memory before", HumanBytes(before * 1024).to_string());
    row("resident memory after", HumanBytes(after * 1024).to_string());
    pools.close_all_and_wait(Duration::from_secs(60))?;
    row("threads of the process, at the most", busiest.to_string());
    let uses = stats.checkouts / stats.opened.max(1);
    row("the same with one pool of 100 connections", one_pool(uses)?.to_string());
    row("a pool without connections, in 10,000", HumanBytes(idle_pool()? as u64).to_string());
    println!("\nEvery tenant saw its own rows, all of them, and nobody else's.");
    Ok(())
}

/// Serves all requests; says how many threads the process had at the most.
fn serve(pools: &Pools<usize, impl Manager<Connection = Connection>>) -> Result<u64, Failure> {
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} requests, {per_sec}, {msg}")?;
    let bar = ProgressBar::new((TENANTS * REQUESTS) as u64).with_style(style);
    // What each tenant must find in its database.
    let visits: Vec<AtomicU32> = (0..TENANTS).map(|_| AtomicU32::new(0)).collect();
    let next = AtomicUsize::new(0);
    let busiest = thread::scope(|scope| -> Result<u64, Failure> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    while let Some(request) = claim(&next) {
                        let tenant = tenant(request);
                        let visits = visits.get(tenant).ok_or("there is no such tenant")?;
                        pools.with(&tenant, |conn| visit(conn, visits))??;
                        bar.inc(1);
                    }
                    Ok(())
                })
            })
            .collect();
        watch(workers, |busiest| bar.set_message(format!("{} pools, {busiest} threads at the most", pools.len())))
    })?;
    bar.finish();
    Ok(busiest)
}

/// Waits for the workers; says how many threads the process had at the most.
fn watch(workers: Vec<ScopedJoinHandle<'_, Result<(), Failure>>>, mut tell: impl FnMut(u64)) -> Result<u64, Failure> {
    let mut busiest = 0;
    while !workers.iter().all(ScopedJoinHandle::is_finished) {
        busiest = busiest.max(status("Threads"));
        tell(busiest);
        thread::sleep(Duration::from_millis(10));
    }
    workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)?;
    Ok(busiest)
}

fn claim(next: &AtomicUsize) -> Option<usize> {
    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&request| request < TENANTS * REQUESTS)
}

/// A window of active tenants moves over all of them, and each request is of one within it; the first one of each step is of
/// the tenant that comes in, so that none is left out.
fn tenant(request: usize) -> usize {
    let newest = request / REQUESTS;
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(request);
    let back = if request.is_multiple_of(REQUESTS) { 0 } else { hash as usize % (ACTIVE - WORKERS) };
    newest.saturating_sub(back)
}

/// Writes a row and counts all. The connection is the tenant's only one, so nobody writes in between.
fn visit(conn: &Connection, visits: &AtomicU32) -> Result<(), Failure> {
    conn.prepare_cached("INSERT INTO visit DEFAULT VALUES")?.execute([])?;
    let found: u32 = conn.prepare_cached("SELECT count(*) FROM visit")?.query_row([], |row| row.get(0))?;
    let expected = visits.fetch_add(1, Ordering::Relaxed) + 1;
    if found == expected { Ok(()) } else { Err(format!("{found} rows where {expected} were written").into()) }
}

/// Without waiting for the disk: what is shown here is pools, and the files go at the end.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(file)?;
    conn.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; CREATE TABLE IF NOT EXISTS visit (n INTEGER PRIMARY KEY)",
    )?;
    Ok(conn)
}

/// As many workers and connections on one pool, whose connections last for as many requests as those of the tenants did; says
/// how many threads the process had at the most.
fn one_pool(uses: u64) -> Result<u64, Failure> {
    let pool = Pool::builder(Connection::open_in_memory).max_size(ACTIVE as u32).max_uses(Some(uses)).build_lazy()?;
    let next = AtomicUsize::new(0);
    let busiest = thread::scope(|scope| -> Result<u64, Failure> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    while claim(&next).is_some() {
                        pool.with(|conn| conn.query_row("SELECT 1", [], |_| Ok(())))??;
                    }
                    Ok(())
                })
            })
            .collect();
        watch(workers, |_| {})
    })?;
    pool.close_and_wait(Duration::from_secs(60))?;
    Ok(busiest)
}

/// What a pool costs that has no connection: bytes of resident memory.
fn idle_pool() -> Result<f64, Failure> {
    let pools = Pools::new(|_: &usize| Pool::builder(Connection::open_in_memory).max_size(1).build_lazy());
    let before = status("VmRSS");
    for tenant in 0..10_000 {
        drop(pools.pool(&tenant)?);
    }
    Ok(status("VmRSS").saturating_sub(before) as f64 * 1024.0 / 10_000.0)
}

/// A number of `/proc/self/status`; zero where there is none.
fn status(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
