//! The check that ends every fault.

use std::{
    error::Error as _,
    thread,
    time::{Duration, Instant},
};

use millpond::{Error, Manager, Pool, Stats};

/// How long a test waits for what must happen but need not be quick. Only a
/// failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Checks that a pool has survived: it lends `max_size` connections at a time,
/// each of them answers `probe`, and its books balance.
///
/// Nobody else may be using the pool.
///
/// # Panics
///
/// If the pool is not whole.
pub fn assert_whole<M: Manager>(pool: &Pool<M>, probe: impl Fn(&mut M::Connection)) {
    let max = pool.stats().max_size;
    let mut lent: Vec<_> = (0..max)
        .map(|nth| pool.get_timeout(PATIENCE).unwrap_or_else(|error| panic!("lends {nth} of {max}: {error:?}")))
        .collect();
    for connection in &mut lent {
        probe(connection);
    }
    let stats = quiet(pool);
    assert_eq!(stats.in_use, max, "all are lent: {stats:?}");
    assert_eq!(stats.size, max, "and there are no others: {stats:?}");
    let live = stats.opened - stats.closed.total();
    assert_eq!(live, u64::from(stats.size), "opened - closed = live: {stats:?}");
}

/// Fills the pool with idle connections, as many as it may have.
///
/// # Panics
///
/// If the pool cannot open them.
pub fn fill<M: Manager>(pool: &Pool<M>) {
    let max = pool.stats().max_size;
    let lent: Result<Vec<_>, _> = (0..max).map(|_| pool.get_timeout(PATIENCE)).collect();
    lent.expect("the server is up");
}

/// The pool's numbers once its other threads have finished what they were at: only
/// at a quiet moment need they fit together.
fn quiet<M: Manager>(pool: &Pool<M>) -> Stats {
    let asked = Instant::now();
    loop {
        let stats = pool.stats();
        if stats.connecting == 0 && stats.checking == 0 {
            return stats;
        }
        assert!(asked.elapsed() < PATIENCE, "there is nothing left to open or to check: {stats:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The driver's error for a failure that takes a moment, such as a wrong password:
/// `fail` is called with ever longer deadlines until one attempt fits into them.
///
/// # Panics
///
/// If no deadline is long enough.
pub fn cause_of(fail: impl Fn(Duration) -> Error) -> Error {
    (0..5)
        .map(|n| fail(Duration::from_secs(1) * 3_u32.pow(n)))
        .find(|error| error.source().is_some())
        .expect("a wrong password is refused within 81 s")
}
