//! The quiet end: the pool lends its maximum, the books balance, and nothing is left.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use millpond_drivers::PATIENCE;

use super::{Ground, MOST, listed};
use crate::drill::process::{descriptors, threads, wait_until};

/// What was there before the soak.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    pub descriptors: usize,
}

impl Before {
    pub fn now() -> Self {
        Self { descriptors: descriptors() }
    }
}

/// With all users gone and all faults over: the pool must be whole.
pub fn whole(ground: &Ground) {
    let pool = &ground.pool;
    let forgotten = u32::try_from(ground.tally.forgotten.load(Ordering::SeqCst)).expect("a handful");
    pool.resume();
    pool.resize(MOST + forgotten).expect("a good size");
    // Whatever was cut a moment ago has been idle for long enough to be checked.
    thread::sleep(Duration::from_millis(700));
    let mut lent = Vec::new();
    for nth in 0..MOST {
        match pool.get_timeout(PATIENCE) {
            Ok(mut guard) => {
                if !matches!(guard.echo(u64::from(nth)), Ok(Ok(()))) {
                    ground.broken(format!("in the end connection {nth} does not answer"));
                }
                lent.push(guard);
            }
            Err(error) => ground.broken(format!("in the end it lends {nth} of {MOST}: {error}")),
        }
    }
    let balanced = || {
        let stats = pool.stats();
        let quiet = stats.connecting == 0 && stats.checking == 0;
        quiet && stats.size == MOST + forgotten && stats.opened - stats.closed == u64::from(stats.size)
    };
    if wait_until(PATIENCE, balanced).is_none() {
        ground.broken(format!("opened - closed = size does not hold at the quiet end: {:?}", pool.stats()));
    }
    drop(lent);
}

/// Closes the pool; afterwards there may be what was leaked, and no more.
pub fn close(ground: &Ground) {
    let forgotten = ground.tally.forgotten.load(Ordering::SeqCst) as usize;
    ground.pool.close();
    match ground.observer() {
        Ok(mut observer) => {
            let gone = wait_until(PATIENCE, || listed(&mut observer).is_ok_and(|seen| seen <= forgotten));
            if gone.is_none() {
                ground.broken(format!("a closed pool leaves {:?} connections", listed(&mut observer)));
            }
        }
        Err(error) => ground.broken(format!("the server does not answer in the end: {error}")),
    }
    if ground.pool.holders().len() != forgotten {
        ground.broken(format!("{forgotten} guards were leaked, the pool knows of {:?}", ground.pool.holders()));
    }
}

/// Drops everything and looks at the process. What is still broken is returned.
pub fn nothing_left(ground: Ground, before: Before) -> Vec<String> {
    let forgotten = ground.tally.forgotten.load(Ordering::SeqCst) as usize;
    let mut broken = ground.all_broken();
    drop(ground);
    if wait_until(PATIENCE, || threads("millpond-") == 0).is_none() {
        broken.push(format!("{} threads of the pool are left", threads("millpond-")));
    }
    let allowed = before.descriptors + forgotten;
    if wait_until(PATIENCE, || descriptors() <= allowed).is_none() {
        broken.push(format!("{} descriptors are left where {allowed} are allowed", descriptors()));
    }
    broken
}
