//! Heap and threads of one pool: `memory POOL`.
//!
//! Prints, separated by blanks: bytes of a pool of maximum 8 without connections, the same for the first pool of a process,
//! bytes with its 8 connections open and idle, bytes per connection, allocations per 1 000 checkouts, threads.

#![forbid(unsafe_code)]

use std::alloc::System;
use std::env;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use millpond_benches::contestants::{Contestant, Kind, Setting};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHECKOUTS: u64 = 1_000;

fn live() -> i64 {
    // Threads that a pool has just started or told to go must have done so before anything is counted.
    thread::sleep(Duration::from_millis(60));
    let now = GLOBAL.stats();
    now.bytes_allocated as i64 - now.bytes_deallocated as i64
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn allocations(pool: &dyn Contestant) -> u64 {
    let before = GLOBAL.stats();
    pool.burst(CHECKOUTS);
    let after = GLOBAL.stats();
    (after.allocations - before.allocations + after.reallocations - before.reallocations) as u64
}

fn main() -> ExitCode {
    let Some(kind) = env::args().nth(1).and_then(|name| Kind::named(&name)) else {
        eprintln!("usage: memory POOL");
        return ExitCode::FAILURE;
    };
    let threads_before = threads();
    let bare = live();
    let first = kind.lazy(Setting::of_size(8));
    let first_pool = live() - bare;
    // Kept: what a process has once is not counted again for the next pool.
    first.open(8);
    let threads = threads() - threads_before;
    first.burst(CHECKOUTS);

    let before = live();
    let small = kind.lazy(Setting::of_size(8));
    let empty = live() - before;
    small.open(8);
    let full = live() - before;

    let before = live();
    let large = kind.full(Setting::of_size(1_024));
    let per_connection = (live() - before - full) as f64 / (1_024.0 - 8.0);

    first.burst(CHECKOUTS);
    let allocations = (0..5).map(|_| allocations(first.as_ref())).min().unwrap_or(0);
    println!("{empty} {first_pool} {full} {per_connection} {allocations} {threads}");
    drop((first, small, large));
    ExitCode::SUCCESS
}
