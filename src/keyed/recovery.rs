//! A pool that does not work is replaced by a new one.

use super::making::{Obtained, named};
use super::{Pools, Slot};
use crate::clock::Clock;
use crate::error::{Cause, Panicked};
use crate::fan_out::{self, Run};
use crate::{Error, ErrorKind, FanOutError, Manager, Pool, PooledConnection};
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What [`Pools::recover`] found and did. Prints as a sentence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovery {
    /// What was wrong with the pool; `None` where it worked, and where there was none.
    pub found: Option<Error>,
    /// What was done about it.
    pub action: RecoveryAction,
    /// What is wrong still; `None` where the pool of this key works now.
    pub remaining: Option<Error>,
    /// How long it took.
    pub took: Duration,
}

/// What [`Pools::recover`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoveryAction {
    /// Nothing: the pool works.
    Nothing,
    /// Nothing: the pool is paused or busy, no thread could be started for the test, or the test had less than 250 ms and was not
    /// done by then. That is no reason to take it from those who use it. Also where the provider returns the same pool again.
    LeftAlone,
    /// There was no pool of this key, or a closed one; one was made.
    Created,
    /// The pool was closed, and a new one is in its place.
    Replaced,
    /// A new pool was wanted, and the provider failed. The old one is still there.
    ProviderFailed,
}

impl Recovery {
    /// Whether the pool of this key works now.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.remaining.is_none()
    }
}

/// Says whether a connection works.
type Test<M> = Arc<dyn Fn(&Pool<M>, &mut <M as Manager>::Connection) -> Result<(), Cause> + Send + Sync>;

impl<K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static, M: Manager> Pools<K, M> {
    /// Tests the pool of a key by a connection and its [check](Manager::is_valid), and, where that fails, replaces the pool by
    /// a new one from the provider and tests that. For a database that was restored, a server that has moved, a breaker that is
    /// to be forgotten.
    ///
    /// The old pool is closed as soon as the new one is in its place: its connections go when they come back; who waits in it
    /// through `Pools` goes on in the new one, who waits through a handle of it gets [`Closed`](ErrorKind::Closed). The first
    /// test may take half of `timeout`, all together no longer than `timeout`, the provider's own time not counted. Of several
    /// that recover a key at the same time, one replaces the pool. Where another thread has been making the pool for all of the
    /// time, that is let go of, as by [`remove`](Self::remove), so that the next one to ask calls the provider anew.
    ///
    /// With a `timeout` below 500 ms a server that is away cannot be told from one that is slow, and a pool whose test is not done
    /// in time is left alone.
    ///
    /// A manager without a check (of files, for instance) finds only what makes connecting fail:
    /// [`recover_with`](Self::recover_with) is for those.
    pub fn recover(&self, key: &K, timeout: Duration) -> Recovery {
        self.recovered(key, timeout, Arc::new(|pool, conn| pool.manager().is_valid(conn).map_err(cause)))
    }

    /// The same with a test of your own.
    ///
    /// # Examples
    ///
    /// A SQLite file was damaged, and a good copy is put in its place; the pool's connections still have the old one open.
    ///
    /// ```
    /// use millpond::{Pool, Pools, RecoveryAction};
    /// use rusqlite::Connection;
    /// use std::fs;
    /// use std::time::Duration;
    ///
    /// # let folder = std::env::temp_dir().join(format!("millpond-recover-{}", std::process::id()));
    /// # fs::create_dir_all(&folder)?;
    /// let file = folder.join("shard.db");
    /// let shards = Pools::new({
    ///     let file = file.clone();
    ///     move |_: &u32| {
    ///         let file = file.clone();
    ///         Pool::builder(move || Connection::open(&file)).build_lazy()
    ///     }
    /// });
    /// let test = |conn: &mut Connection| conn.query_row("PRAGMA quick_check", [], |_| Ok(()));
    ///
    /// fs::write(&file, [7; 4096])?;
    /// assert!(shards.with(&1, test)?.is_err());
    /// fs::remove_file(&file)?;
    /// Connection::open(&file)?.execute_batch("CREATE TABLE bird (name TEXT)")?; // the copy
    /// assert!(shards.with(&1, test)?.is_err());
    ///
    /// let mended = shards.recover_with(&1, Duration::from_secs(5), test);
    /// assert_eq!((mended.action, mended.is_healthy()), (RecoveryAction::Replaced, true));
    /// assert!(shards.with(&1, test)?.is_ok());
    /// # shards.close_all_and_wait(Duration::from_secs(10))?;
    /// # fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recover_with<E: StdError + Send + Sync + 'static>(
        &self,
        key: &K,
        timeout: Duration,
        test: impl Fn(&mut M::Connection) -> Result<(), E> + Send + Sync + 'static,
    ) -> Recovery {
        self.recovered(key, timeout, Arc::new(move |_, conn| test(conn).map_err(cause)))
    }

    fn recovered(&self, key: &K, timeout: Duration, test: Test<M>) -> Recovery {
        let began = Clock::System.now();
        let deadline = began.after(timeout);
        let report = |found, action, remaining| {
            let recovery = Recovery { found, action, remaining, took: Clock::System.now().since(began) };
            log::info!("the pool of {}: {recovery}", named(key));
            recovery
        };
        let inner = &self.inner;
        let present = inner.ready(key);
        let found = match &present {
            None => None,
            Some(slot) => match try_out(slot, timeout / 2, &test) {
                Ok(()) => return report(None, RecoveryAction::Nothing, None),
                Err(error) if is_busy(&error) || error.is_timeout() && timeout / 2 < FAIR => {
                    return report(Some(error.clone()), RecoveryAction::LeftAlone, Some(error));
                }
                Err(error) => Some(error),
            },
        };
        let left = || if timeout == Duration::MAX { timeout } else { deadline.since(Clock::System.now()) };
        match inner.obtained(key, present.as_ref(), left()) {
            Ok(Obtained { slot, before, by_me }) => {
                let action = match &present {
                    None => RecoveryAction::Created,
                    Some(old) if old.pool.is_same(&slot.pool) => RecoveryAction::LeftAlone,
                    // It was removed or evicted meanwhile.
                    Some(_) if by_me && before.is_none() => RecoveryAction::Created,
                    Some(_) => RecoveryAction::Replaced,
                };
                report(found, action, try_out(&slot, left(), &test).err())
            }
            Err(error) => {
                if error.is_timeout() && error.kind() == ErrorKind::Connect && inner.makings.is_under_way(key) {
                    inner.makings.let_go(key);
                }
                report(found, RecoveryAction::ProviderFailed, Some(error))
            }
        }
    }
}

fn cause(error: impl StdError + Send + Sync + 'static) -> Cause {
    Arc::new(error)
}

/// What a test must have had before running out of time says something: a connection over TLS around the world.
const FAIR: Duration = Duration::from_millis(250);

/// That there is no connection for the test says nothing about the server.
fn is_busy(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Exhausted | ErrorKind::Overloaded | ErrorKind::Paused | ErrorKind::Deadlock)
}

/// On a thread of its own, because nobody knows how long a check of a dead server takes.
fn try_out<M: Manager>(slot: &Slot<M>, timeout: Duration, test: &Test<M>) -> Result<(), Error> {
    let (pool, test) = (slot.pool.clone(), Arc::clone(test));
    let name = pool.name().to_owned();
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let rows = fan_out::detached(vec![((), ())], 1, timeout, move |run: Run<'_, (), ()>| {
        begins.store(true, Ordering::Release);
        let mut connection = pool.get_timeout(run.patience()).map_err(FanOutError::<Infallible>::Connection)?;
        let tested = catch_unwind(AssertUnwindSafe(|| test(&pool, &mut connection)));
        let tested = tested.unwrap_or_else(|payload| Err(Arc::new(Panicked::caught("the test", payload))));
        tested.map_err(|cause| {
            PooledConnection::mark_broken(&mut connection);
            let text = format!("a connection of {:?} fails its test", pool.name());
            FanOutError::Connection(Error::with_cause(ErrorKind::Validate, text, Some(cause)))
        })
    });
    match rows.all() {
        Ok(_) => Ok(()),
        Err(other) if !begun.load(Ordering::Acquire) => {
            let text = format!("no test of a connection of {name:?}: {other} of {:.2} s", timeout.as_secs_f64());
            Err(Error::late(ErrorKind::Exhausted, text, Vec::new()))
        }
        Err(FanOutError::Connection(error)) => Err(error),
        Err(other) => {
            let text = format!("the test of a connection of {name:?}: {other} of {:.2} s", timeout.as_secs_f64());
            Err(Error::late(ErrorKind::Validate, text, Vec::new()))
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(found) = &self.found {
            write!(f, "{}; ", found.in_full())?;
        }
        let (done, works) = match self.action {
            RecoveryAction::Nothing => ("", "it works"),
            RecoveryAction::LeftAlone => ("it was left alone", ", and it works"),
            RecoveryAction::Created => ("a new one was made", " and works"),
            RecoveryAction::Replaced => ("it was replaced", ", and the new one works"),
            RecoveryAction::ProviderFailed => ("no new one could be made", ""),
        };
        f.write_str(done)?;
        match &self.remaining {
            None => f.write_str(works),
            Some(_) if self.action == RecoveryAction::LeftAlone && self.found.is_some() => Ok(()),
            Some(error) => write!(f, ", and it does not work: {}", error.in_full()),
        }
    }
}
