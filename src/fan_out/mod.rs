//! The same closure over many pools at once: some at a time, within one deadline, with a result for each.

mod round;
mod rows;
mod turns;

pub(crate) use round::{Run, detached, scoped};
pub use rows::{FanOut, FanOutError, FanOutRow};

use crate::error::Panicked;
use crate::{Error, Manager, Pool, PooledConnection};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

/// Calls `f` with a connection of each pool, at most `limit` at once, and returns when all have ended or `deadline` has
/// passed, whichever is first. One row for each pool, in the order in which they were given.
///
/// A row waits for its connection no longer than until shortly before the deadline (a twentieth of what is left, at most 10 ms),
/// so that its error can still say why there was none. It is an error of its row alone that a pool has no connection, that
/// `f` fails, or that `f` panics.
///
/// Nothing can end a query that hangs in a driver. So the threads (`millpond-fan-out`) are not scoped: a row that has not ended
/// at the deadline says so, while its thread goes on until `f` returns, and gives the connection back then. That is why
/// everything here must be `'static`, and why drivers want time-outs of their own. When every row has ended, so have the
/// threads' parts in `f`: what it has captured is only the caller's again. For closures that borrow, see [`fan_out_scoped`].
///
/// What `limit` counts are the rows that are within their share of the time: what is left to the deadline when a row begins,
/// divided by the rounds which are needed then. A row that takes longer, because it waits for a connection of a dead server or
/// because `f` hangs, goes on, but does not count any more, and while there are rows that have not begun another thread takes
/// the next one. So however small the limit, a slow or dead pool spoils its own row only, and every row begins before the
/// deadline. At worst, where all hang, there are as many threads as there are pools. With 16 pools, a limit of 4 and a deadline
/// of 2 s, the first four rows have 500 ms each.
///
/// With a limit of 0 no row can begin, and each says so. `Duration::MAX` waits for all; there are no shares then, and the limit
/// is strict.
///
/// # Examples
///
/// ```
/// use millpond::{FanOutError, Pool, fan_out};
/// use std::thread;
/// use std::time::Duration;
///
/// // A connection is the number of its shard.
/// let shard = |n: u64| Pool::builder(move || Ok::<_, std::io::Error>(n)).max_size(1).build();
/// let pools = [("one", shard(1)?), ("two", shard(2)?), ("slow", shard(30)?)];
/// let rows = fan_out(pools, 3, Duration::from_millis(500), |_, n| match *n {
///     1 => Ok(1),
///     2 => Err("no such table"),
///     seconds => {
///         thread::sleep(Duration::from_secs(seconds));
///         Ok(0)
///     }
/// });
/// assert_eq!(rows.ok().collect::<Vec<_>>(), [(&"one", &1)]);
/// assert!(matches!(rows.errors().next(), Some((&"two", FanOutError::Failed("no such table")))));
/// assert!(matches!(rows.errors().last(), Some((&"slow", FanOutError::Deadline { began: true }))));
/// # Ok::<(), millpond::Error>(())
/// ```
#[track_caller]
pub fn fan_out<K, M, R, E>(
    pools: impl IntoIterator<Item = (K, Pool<M>)>,
    limit: usize,
    deadline: Duration,
    f: impl Fn(&K, &mut M::Connection) -> Result<R, E> + Send + Sync + 'static,
) -> FanOut<K, R, E>
where
    K: Clone + Send + Sync + 'static,
    M: Manager,
    R: Send + 'static,
    E: Send + 'static,
{
    let label = label(Location::caller());
    let pools = pools.into_iter().collect();
    detached(pools, limit, deadline, move |run: Run<'_, K, Pool<M>>| {
        with_connection(run.key, &label, run.target.get_timeout(run.patience()), &f)
    })
}

/// The same with scoped threads, for closures that borrow. In return the deadline is kept only by what waits: no row begins
/// after it, and no row waits for a connection beyond it, but a row that has begun is waited for, however long `f` takes. Until
/// the deadline, one that hangs does not keep the others from their turns here either.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, fan_out_scoped};
/// use std::time::Duration;
///
/// let shard = |n: u64| Pool::builder(move || Ok::<_, std::io::Error>(n)).max_size(1).build_lazy();
/// let pools = [("one", shard(1)?), ("two", shard(2)?)];
/// let factors = vec![10]; // borrowed by all threads
/// let rows = fan_out_scoped(pools, 2, Duration::from_secs(5), |_, n| Ok::<_, std::io::Error>(*n * factors[0]));
/// assert_eq!(rows.all()?, [10, 20]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn fan_out_scoped<K, M, R, E>(
    pools: impl IntoIterator<Item = (K, Pool<M>)>,
    limit: usize,
    deadline: Duration,
    f: impl Fn(&K, &mut M::Connection) -> Result<R, E> + Sync,
) -> FanOut<K, R, E>
where
    K: Send + Sync,
    M: Manager,
    R: Send,
    E: Send,
{
    let label = label(Location::caller());
    let pools = pools.into_iter().collect();
    scoped(pools, limit, deadline, |run: Run<'_, K, Pool<M>>| {
        with_connection(run.key, &label, run.target.get_timeout(run.patience()), &f)
    })
}

/// What `holders` tells of a row: it is borrowed on a thread of ours, from a line of ours.
pub(crate) fn label(at: &Location<'_>) -> String {
    format!("fan_out at {}:{}", at.file(), at.line())
}

pub(crate) fn with_connection<K, M: Manager, R, E>(
    key: &K,
    label: &str,
    connection: Result<PooledConnection<M>, Error>,
    f: impl Fn(&K, &mut M::Connection) -> Result<R, E>,
) -> Result<R, FanOutError<E>> {
    let mut connection = connection.map_err(FanOutError::Connection)?;
    PooledConnection::set_label(&mut connection, label);
    // The guard goes with the closure, so that a panic unwinds over it and the connection is closed; and so that it is back
    // before the row is told of.
    let called = catch_unwind(AssertUnwindSafe(move || f(key, &mut connection)));
    match called {
        Ok(result) => result.map_err(FanOutError::Failed),
        Err(payload) => Err(FanOutError::Panicked(Panicked::caught("the closure", payload).message)),
    }
}
