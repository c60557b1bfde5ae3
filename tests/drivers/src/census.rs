//! Counting connections where they cannot be hidden: at the server.

use std::{
    collections::HashSet,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use millpond::{Fault, Manager, Pool, PooledConnection};

use crate::{PATIENCE, fill};

/// A manager around another one that knows each connection by the number that
/// the server gave it, so that the server's list can be compared with the pool.
///
/// A pool closes a connection by handing it to the driver; the server drops it
/// from its list a moment later. The numbers of connections that are on their way
/// out are therefore written down and not counted.
#[derive(Debug)]
pub struct Census<M: Manager> {
    inner: M,
    number: fn(&mut M::Connection) -> u64,
    leaving: Arc<Leaving>,
}

type Leaving = Mutex<HashSet<u64>>;

/// A connection with the server's number for it.
#[derive(Debug)]
pub struct Member<C> {
    connection: C,
    number: u64,
}

impl<M: Manager> Census<M> {
    /// Counts the connections of `inner`; `number` asks a new one for its number.
    pub fn of(inner: M, number: fn(&mut M::Connection) -> u64) -> Self {
        Self { inner, number, leaving: Arc::default() }
    }

    /// Uses `pool` from 32 threads, which discard and break connections, give up,
    /// refresh it and resize it between 2 and 8, while `list` asks the server for its connections over and over:
    /// they must never be more than 8. When all is quiet and the pool is full, the list
    /// must agree with it. Returns the largest number seen.
    ///
    /// `list` is called on one thread and must not list its own connection;
    /// `probe` is one round trip.
    ///
    /// # Panics
    ///
    /// If the server lists more than 8 connections that are not on their way out,
    /// or never agrees with the pool.
    pub fn churn(
        pool: &Pool<Self>,
        mut list: impl FnMut() -> HashSet<u64> + Send,
        probe: impl Fn(&mut M::Connection) + Sync,
    ) -> usize {
        const MOST: usize = 8;
        const WORKERS: u32 = 32;
        let leaving = &pool.manager().leaving;
        let done = AtomicBool::new(false);
        let largest = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let probe = &probe;
                    scope.spawn(move || (0..40).for_each(|step| turn(pool, worker * 7 + step, probe)))
                })
                .collect();
            let watch = scope.spawn(|| {
                let mut largest = 0;
                // Relaxed: nothing is read that the flag would publish.
                while !done.load(Ordering::Relaxed) {
                    let mut seen = staying(&mut list, leaving);
                    if seen.len() > MOST {
                        // A pool may tell the driver to close a little after it
                        // has given up the place; what is over must go at once.
                        let again = staying(&mut list, leaving);
                        seen.retain(|number| again.contains(number));
                    }
                    largest = largest.max(seen.len());
                    assert!(seen.len() <= MOST, "{} connections at the server", seen.len());
                }
                largest
            });
            let ended = workers.into_iter().map(|worker| worker.join()).filter(Result::is_ok).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(ended, WORKERS as usize, "every worker has come through");
            watch.join().expect("never more than the maximum")
        });
        pool.resize(8).expect("the pool is open");
        fill(pool);
        agree(pool, 8, list);
        largest
    }
}

/// Waits until the pool and the server both count `n` connections.
///
/// It may take a moment: the pool closes on other threads, and the server takes
/// note in its own time.
///
/// # Panics
///
/// If they never agree.
pub fn agree<M: Manager>(pool: &Pool<M>, n: u32, mut list: impl FnMut() -> HashSet<u64>) {
    let asked = Instant::now();
    loop {
        let listed = list().len();
        let stats = pool.stats();
        if stats.size == n && u32::try_from(listed) == Ok(n) {
            return;
        }
        assert!(asked.elapsed() < PATIENCE, "{n} expected, the server has {listed}, the pool {stats:?}");
        // Another process, without a channel to us: polling is all there is.
        thread::sleep(Duration::from_millis(5));
    }
}

/// One thing that a thread does to the pool; `step` says which.
fn turn<M: Manager>(pool: &Pool<Census<M>>, step: u32, probe: impl Fn(&mut M::Connection)) {
    if step % 11 == 3 {
        pool.resize(2 + step % 7).expect("the pool is open");
    }
    if step % 17 == 9 {
        pool.refresh();
    }
    if step % 13 == 5 {
        // Gives up at once when nothing is free; both are fine.
        drop(pool.get_timeout(Duration::from_micros(200)));
        return;
    }
    let mut member = pool.get_timeout(PATIENCE).unwrap_or_else(|error| panic!("step {step}: {error:?}"));
    probe(&mut member.connection);
    if step.is_multiple_of(3) {
        pool.manager().leave(member.number);
        PooledConnection::discard(member);
    } else if step % 5 == 1 {
        pool.manager().leave(member.number);
        PooledConnection::mark_broken(&mut member);
    }
}

fn staying(list: &mut impl FnMut() -> HashSet<u64>, leaving: &Leaving) -> HashSet<u64> {
    let mut listed = list();
    // Read after the list: whoever began to leave before it is in here.
    let leaving = leaving.lock().unwrap_or_else(PoisonError::into_inner);
    listed.retain(|number| !leaving.contains(number));
    drop(leaving);
    listed
}

impl<M: Manager> Census<M> {
    fn leave(&self, number: u64) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
    }
}

impl<M: Manager> Manager for Census<M> {
    type Connection = Member<M::Connection>;
    type Error = M::Error;

    fn connect(&self) -> Result<Self::Connection, M::Error> {
        let mut connection = self.inner.connect()?;
        let number = (self.number)(&mut connection);
        Ok(Member { connection, number })
    }

    fn is_valid(&self, member: &mut Self::Connection) -> Result<(), M::Error> {
        self.inner.is_valid(&mut member.connection)
    }

    fn has_broken(&self, member: &mut Self::Connection) -> bool {
        self.inner.has_broken(&mut member.connection)
    }

    fn reset(&self, member: &mut Self::Connection) -> Result<(), M::Error> {
        self.inner.reset(&mut member.connection)
    }

    fn close(&self, member: Self::Connection) {
        self.leave(member.number);
        self.inner.close(member.connection);
    }

    fn classify(&self, error: &M::Error) -> Fault {
        self.inner.classify(error)
    }
}

impl<C> Deref for Member<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.connection
    }
}

impl<C> DerefMut for Member<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.connection
    }
}
