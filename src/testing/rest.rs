//! Time that passes, and what must hold when nothing is under way.

use super::{HandClock, PATIENCE, polled};
use crate::redact::redact;
use crate::{Error, Manager, Pool, PooledConnection, Stats};
use crossbeam_channel::bounded;
use std::error::Error as _;
use std::thread::Builder;
use std::time::Duration;

/// Does the upkeep that is due, and waits until nothing is being opened, checked or closed.
///
/// A pool with [`Maintenance::Manual`](crate::Maintenance) is at rest after one call of [`Pool::maintain`], in which
/// everything happens on the calling thread; with helper threads this waits for them.
///
/// # Panics
///
/// With the pool's numbers, when there is no end of it within a minute: when a call hangs at a gate, say. (In a pool without
/// threads the call hangs in here.)
#[track_caller]
pub fn settle<M: Manager>(pool: &Pool<M>) {
    let at_rest = polled(|| {
        let before = pool.stats();
        pool.maintain();
        let stats = pool.stats();
        // What was begun may have ended already, and something else may be due then.
        let same = (before.opened, before.closed, before.idle) == (stats.opened, stats.closed, stats.idle);
        same && stats.connecting == 0 && stats.checking == 0 && stats.size == stats.idle + stats.in_use
    });
    assert!(at_rest, "pool {:?} does not come to rest: {:?}", pool.name(), pool.stats());
}

/// Moves the clock and lets the pool do what has come due: one step of time. For a pool with this
/// [`clock`](crate::Builder::clock).
///
/// What comes due at several moments within `by` comes due at once, as it does in a process that was stopped for so long; take
/// smaller steps where the order matters.
///
/// # Panics
///
/// As [`settle`].
///
/// # Examples
///
/// ```
/// use millpond::testing::{HandClock, Script, tick};
/// use millpond::{CloseReason, Maintenance, Pool};
/// use std::time::Duration;
///
/// let clock = HandClock::new();
/// let pool = Pool::builder(Script::new().manager())
///     .idle_timeout(Some(Duration::from_secs(60)))
///     .maintenance(Maintenance::Manual)
///     .clock(clock.clone())
///     .build()?;
/// tick(&clock, &pool, Duration::from_secs(59));
/// assert_eq!(pool.stats().idle, 1);
/// tick(&clock, &pool, Duration::from_secs(1));
/// assert_eq!(pool.stats().closed.by(CloseReason::IdleTimeout), 1);
/// # Ok::<(), millpond::Error>(())
/// ```
#[track_caller]
pub fn tick<M: Manager>(clock: &HandClock, pool: &Pool<M>, by: Duration) {
    clock.advance(by);
    settle(pool);
}

/// Borrows on a thread that is left behind if it waits for ever: on a clock that is moved by hand it would.
fn lent_to_another_thread<M: Manager>(pool: &Pool<M>) -> Result<PooledConnection<M>, Option<Error>> {
    let (tell, told) = bounded(1);
    let pool = pool.clone();
    // Who listens may have gone by then, and the connection goes home.
    let borrow = move || drop(tell.send(pool.get_timeout(PATIENCE)));
    let thread = Builder::new().name("millpond-testing".to_owned()).spawn(borrow).expect("a thread can be started");
    let lent = told.recv_timeout(PATIENCE + PATIENCE / 10).map_err(|_| None)?;
    // It has a handle of the pool, which is not to outlive the check.
    thread.join().expect("it has done its work");
    lent.map_err(Some)
}

/// What does not add up in these numbers of a pool at rest; nothing if all is well.
///
/// # Examples
///
/// ```
/// use millpond::testing::{Script, violations};
///
/// let pool = millpond::Pool::new(Script::new().manager())?;
/// assert!(violations(&pool.stats()).is_empty());
/// # Ok::<(), millpond::Error>(())
/// ```
#[must_use]
pub fn violations(stats: &Stats) -> Vec<String> {
    let Stats { max_size, size, idle, in_use, opened, checkouts, waits, .. } = *stats;
    let closed = stats.closed.total();
    let rules = [
        (
            opened.checked_sub(closed) == Some(size.into()),
            format!("{opened} opened - {closed} closed is not {size} open"),
        ),
        (idle + in_use == size, format!("{idle} idle + {in_use} in use is not {size} open")),
        // After a `resize` to less, those that are borrowed stay.
        (size <= max_size.max(in_use), format!("{size} open where {max_size} are allowed and {in_use} in use")),
        (u64::from(in_use) <= checkouts, format!("{in_use} in use of {checkouts} ever borrowed")),
        (stats.wait_time.count() <= checkouts + waits, format!("{} waits", stats.wait_time.count())),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text).collect()
}

/// Asserts that nobody holds a connection.
///
/// # Panics
///
/// With the thread, the source line and the time of each that is held.
///
/// # Examples
///
/// ```should_panic
/// use millpond::testing::{Script, assert_returned};
///
/// let pool = millpond::Pool::new(Script::new().manager())?;
/// std::mem::forget(pool.get()?); // a leak
/// assert_returned(&pool);
/// # Ok::<(), millpond::Error>(())
/// ```
#[track_caller]
pub fn assert_returned<M: Manager>(pool: &Pool<M>) {
    let holders = pool.holders();
    let list: Vec<_> = holders.iter().map(|lease| format!("\n  {lease}")).collect();
    assert!(holders.is_empty(), "{} connections of {:?} are held:{}", holders.len(), pool.name(), list.concat());
}

/// Asserts that the pool lends its maximum, and no more, to one borrower each, and that its books balance afterwards: that no
/// fault has cost it a place. The strongest thing to ask at the end of a test.
///
/// Nobody else may use the pool meanwhile. Each connection is borrowed on a thread of its own, so that
/// [`Nested::Deny`](crate::Nested) is no hindrance, and a clock that stands still ends no wait but this one.
///
/// # Panics
///
/// When it is not so within a minute, with what is missing.
#[track_caller]
pub fn assert_lends_all<M: Manager>(pool: &Pool<M>) {
    let max = pool.stats().max_size;
    let all: Vec<_> = (1..=max)
        .map(|n| match lent_to_another_thread(pool) {
            Ok(conn) => conn,
            Err(None) => panic!("the {n}. of {max} connections is not lent: {:?}", pool.stats()),
            Err(Some(error)) => {
                let cause = error.source().map(|cause| format!(": {}", redact(&cause.to_string())));
                panic!("the {n}. of {max} connections is not lent: {error}{}", cause.unwrap_or_default())
            }
        })
        .collect();
    assert!(pool.try_get().is_none(), "more than {max} lent by {:?}", pool.name());
    assert_eq!(pool.stats().in_use, max, "in use of {:?}", pool.name());
    drop(all);
    let mut wrong = Vec::new();
    let balanced = polled(|| {
        let stats = pool.stats();
        wrong = violations(&stats);
        wrong.is_empty() && stats.connecting == 0
    });
    assert!(balanced, "the books of {:?}: {}", pool.name(), wrong.join("; "));
}
