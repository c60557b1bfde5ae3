//! What is done to all pools, or to one of them by its key.

use super::making::named;
use super::{Pools, Slot};
use crate::clock::Clock;
use crate::fan_out::{self, Run};
use crate::{Error, ErrorKind, FanOut, FanOutError, Manager, Pool, WarmUp};
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// How many pools are warmed up at the same time: enough that a few which hang do not hold up the rest for long, and as many
/// threads as nobody minds.
const WARMED_AT_ONCE: usize = 8;

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static, M: Manager> Pools<K, M> {
    /// [`fan_out`](crate::fan_out) over the pools of these keys, which are made where there are none, each by the thread of its
    /// row.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, Pools};
    /// use std::time::Duration;
    ///
    /// let shards = Pools::new(|shard: &u32| {
    ///     let file = format!("file:/birds-{shard}?vfs=memdb");
    ///     Pool::builder(move || rusqlite::Connection::open(&file)).max_size(2).build_lazy()
    /// });
    /// let rows = shards.fan_out(0..3, 2, Duration::from_secs(5), |shard, conn| match shard {
    ///     1 => conn.query_row("SELECT count(*) FROM bird", [], |row| row.get(0)),
    ///     _ => Ok(0_i64),
    /// });
    /// assert_eq!(rows.ok().map(|(shard, _)| *shard).collect::<Vec<_>>(), [0, 2]);
    /// println!("{rows}");
    /// // key  outcome                             took
    /// // 0    ok                                0.5 ms
    /// // 1    no such table: bird in SELECT …   0.6 ms
    /// // 2    ok                                0.1 ms
    /// # assert!(rows.to_string().contains("no such table: bird"));
    /// ```
    #[track_caller]
    pub fn fan_out<R, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        limit: usize,
        deadline: Duration,
        f: impl Fn(&K, &mut M::Connection) -> Result<R, E> + Send + Sync + 'static,
    ) -> FanOut<K, R, E>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        let label = fan_out::label(Location::caller());
        let pools = self.clone();
        fan_out::detached(
            keys.into_iter().map(|key| (key, ())).collect(),
            limit,
            deadline,
            move |run: Run<'_, K, ()>| {
                fan_out::with_connection(run.key, &label, pools.get_timeout(run.key, run.patience()), &f)
            },
        )
    }

    /// [`fan_out_scoped`](crate::fan_out_scoped) over the pools of these keys: for closures that borrow.
    #[track_caller]
    pub fn fan_out_scoped<R, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        limit: usize,
        deadline: Duration,
        f: impl Fn(&K, &mut M::Connection) -> Result<R, E> + Sync,
    ) -> FanOut<K, R, E>
    where
        R: Send,
        E: Send,
    {
        let label = fan_out::label(Location::caller());
        fan_out::scoped(keys.into_iter().map(|key| (key, ())).collect(), limit, deadline, |run: Run<'_, K, ()>| {
            fan_out::with_connection(run.key, &label, self.get_timeout(run.key, run.patience()), &f)
        })
    }

    /// Opens connections ahead of time in the pools of these keys, which are made where there are none; eight pools at once.
    /// Each one that is not ready in time is a warning in the log, with the server's error, and a row with an error in the
    /// report; it goes on by itself, as [`WarmUp`] says. None keeps the others from being warmed up.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, Pools, WarmUp};
    /// use std::io;
    /// use std::time::Duration;
    ///
    /// let pools = Pools::new(|shard: &&str| {
    ///     let dead = *shard == "dead";
    ///     Pool::builder(move || if dead { Err(io::Error::other("no route")) } else { Ok(()) }).build_lazy()
    /// });
    /// let report = pools.warm_all(["one", "dead", "two"], WarmUp::blocking(2).within(Duration::from_millis(200)));
    /// assert_eq!(report.ok().map(|(shard, _)| *shard).collect::<Vec<_>>(), ["one", "two"]);
    /// assert!(report.table(|_| "warm".to_owned()).contains("no route"));
    /// assert_eq!(pools.stats().idle, 4);
    /// ```
    pub fn warm_all(&self, keys: impl IntoIterator<Item = K>, plan: WarmUp) -> FanOut<K, (), Infallible> {
        // One that need not be ready would be a warning of its pool's, and a success here.
        let plan = if plan.waits { plan.required() } else { plan };
        let warm = |run: Run<'_, K, ()>| {
            let warmed = self.pool(run.key).and_then(|pool| pool.warm_up(plan.clone()));
            warmed.map_err(|error| {
                log::warn!("the pool of {} is not warmed up: {}", named(run.key), error.in_full());
                FanOutError::Connection(error)
            })
        };
        fan_out::scoped(keys.into_iter().map(|key| (key, ())).collect(), WARMED_AT_ONCE, Duration::MAX, warm)
    }

    /// Parts with every connection of every pool that is open now, as [`Pool::refresh`].
    pub fn refresh_all(&self) {
        self.inner.table.all().iter().for_each(|(_, slot)| slot.pool.refresh());
    }

    /// Parts with all pools that nobody uses and that are too many or have been idle for too long, and says how many went. The
    /// same happens bit by bit whenever some pool is asked for; this is for programs that may be quiet for long, to be called
    /// now and then.
    pub fn evict_idle(&self) -> usize {
        let inner = &self.inner;
        inner.table.look_again();
        let evicted = inner.table.evict(inner.settings.max_pools, inner.too_old(inner.now()), usize::MAX);
        let count = evicted.len();
        inner.part_with(evicted);
        count
    }

    /// Takes a pool out, and leaves it as it is: whoever has a handle may go on, and it closes with the last one. The next one
    /// to ask for the key gets a new pool. A call of the provider that is under way for the key, and may hang, is let go of, too:
    /// what it returns is for its caller only, and who waits for it calls the provider anew.
    pub fn remove(&self, key: &K) -> Option<Pool<M>> {
        self.inner.makings.let_go(key);
        let slot = self.inner.table.remove(key)?;
        Some(slot.pool.clone())
    }

    /// Closes all pools for good: whoever waits fails now, idle connections are closed now, borrowed ones when they come back.
    /// Who asks for a pool from now on gets [`ErrorKind::Closed`]. Does not wait.
    pub fn close_all(&self) {
        self.close();
    }

    /// The same, and waits until every connection is closed and, if these were the last pools of the process and there is time,
    /// every thread of the crate has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] after `timeout`, with the pools of which not everything has ended, by key, and with those who
    /// still hold connections.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, Pools};
    /// use std::time::Duration;
    ///
    /// let pools = Pools::new(|_: &&str| Pool::builder(|| Ok::<_, std::io::Error>(())).build_lazy());
    /// pools.with(&"acme", |_| ())?;
    /// let conn = pools.get(&"umbrella")?;
    /// let error = pools.close_all_and_wait(Duration::from_millis(50)).unwrap_err();
    /// assert_eq!(error.holders().len(), 1);
    /// assert!(error.to_string().contains("umbrella") && !error.to_string().contains("acme"));
    /// drop(conn);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn close_all_and_wait(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Clock::System.now().after(timeout);
        let (mut told, mut holders) = (Vec::new(), Vec::new());
        for (key, slot) in self.close() {
            let left = if timeout == Duration::MAX { timeout } else { deadline.since(Clock::System.now()) };
            if let Err(error) = slot.pool.close_and_wait(left)
                // Where all connections are closed, it is the threads of the crate that have not quite ended.
                && error.stats().is_none_or(|stats| stats.size + stats.connecting > 0)
            {
                told.push(format!("{}: {error}", named(&key)));
                holders.extend_from_slice(error.holders());
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        let text =
            format!("not everything has ended in {} of the pools that were closed: {}", told.len(), told.join("; "));
        Err(Error::late(ErrorKind::Closed, text, holders))
    }

    /// All of them at once, so that none waits for another.
    fn close(&self) -> Vec<(K, Arc<Slot<M>>)> {
        self.inner.makings.close();
        let all = self.inner.table.remove_all();
        for (_, slot) in &all {
            slot.pool.close();
        }
        all
    }
}
