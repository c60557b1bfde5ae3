//! The engine: threads that take one row after another, and somebody who collects what they say until the deadline.

use super::rows::{FanOut, FanOutError, FanOutRow};
use crate::clock::{Clock, Moment};
use crate::error::Panicked;
use crate::{Error, ErrorKind};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A row that is to be done now.
pub(crate) struct Run<'a, K, T> {
    pub(crate) key: &'a K,
    pub(crate) target: &'a T,
    left: Duration,
}

impl<K, T> Run<'_, K, T> {
    /// How long to wait for a connection: not quite to the deadline, so that the reason for having none is known by then.
    pub(crate) fn patience(&self) -> Duration {
        if self.left == Duration::MAX { self.left } else { self.left - (self.left / 20).min(Duration::from_millis(10)) }
    }
}

/// What a thread says when a row has ended.
struct Ended<R, E> {
    index: usize,
    result: Result<R, FanOutError<E>>,
    took: Duration,
}

/// Rows that are to be done by a deadline.
struct Round<K, T> {
    targets: Vec<(K, T)>,
    /// When each row began; zero where it has not.
    began: Vec<AtomicU64>,
    next: AtomicUsize,
    deadline: Moment,
}

impl<K, T> Round<K, T> {
    fn new(targets: Vec<(K, T)>, deadline: Duration) -> Self {
        let began = targets.iter().map(|_| AtomicU64::new(0)).collect();
        Self { targets, began, next: AtomicUsize::new(0), deadline: Clock::System.now().after(deadline) }
    }

    /// Does one row after another until none is left or the deadline has passed.
    fn work<R, E>(&self, run: impl Fn(Run<'_, K, T>) -> Result<R, FanOutError<E>>, ended: &Sender<Ended<R, E>>) {
        loop {
            // Relaxed: all that the threads tell each other is which row is taken.
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let (Some((key, target)), Some(began)) = (self.targets.get(index), self.began.get(index)) else { return };
            let now = Clock::System.now();
            if now >= self.deadline {
                return;
            }
            // Relaxed: whoever collects reads it for a figure in the report.
            began.store(now.to_bits(), Ordering::Relaxed);
            let row = Run { key, target, left: self.left(now) };
            // Closures of users are guarded where they are called; this is for whatever else is theirs, such as a key's `Hash`.
            let result = catch_unwind(AssertUnwindSafe(|| run(row)))
                .unwrap_or_else(|payload| Err(FanOutError::Panicked(Panicked::caught("the row", payload).message)));
            let took = Clock::System.now().since(now);
            if ended.send(Ended { index, result, took }).is_err() {
                return; // Nobody listens any more: the deadline has passed.
            }
        }
    }

    fn left(&self, now: Moment) -> Duration {
        if self.deadline == Moment::NEVER { Duration::MAX } else { self.deadline.since(now) }
    }

    /// The results of all rows: of those that end before the threads do and before `patience` says that it is over.
    fn collect<R, E>(
        &self,
        ended: &Receiver<Ended<R, E>>,
        patience: impl Fn() -> Duration,
    ) -> Vec<(Result<R, FanOutError<E>>, Duration)> {
        let mut results: Vec<_> = self.targets.iter().map(|_| None).collect();
        for _ in 0..results.len() {
            let next = match patience() {
                Duration::MAX => ended.recv().ok(),
                left => ended.recv_timeout(left).ok(),
            };
            let Some(Ended { index, result, took }) = next else { break };
            if let Some(place) = results.get_mut(index) {
                *place = Some((result, took));
            }
        }
        let now = Clock::System.now();
        let all = results.into_iter().zip(&self.began);
        all.map(|(result, began)| result.unwrap_or_else(|| unfinished(began, now))).collect()
    }
}

/// Of a row that has not ended at the deadline.
fn unfinished<R, E>(began: &AtomicU64, now: Moment) -> (Result<R, FanOutError<E>>, Duration) {
    match began.load(Ordering::Relaxed) {
        0 => (Err(FanOutError::Deadline { began: false }), Duration::ZERO),
        bits => (Err(FanOutError::Deadline { began: true }), now.since(Moment::from_bits(bits))),
    }
}

/// On threads that are left to themselves at the deadline.
pub(crate) fn detached<K, T, R, E>(
    targets: Vec<(K, T)>,
    limit: usize,
    deadline: Duration,
    run: impl Fn(Run<'_, K, T>) -> Result<R, FanOutError<E>> + Send + Sync + 'static,
) -> FanOut<K, R, E>
where
    K: Clone + Send + Sync + 'static,
    T: Send + Sync + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    let job = Arc::new((Round::new(targets, deadline), run));
    let round = &job.0;
    let keys = || round.targets.iter().map(|(key, _)| key.clone());
    let (told, ended) = unbounded();
    let started = start(limit, round.targets.len(), || {
        let (job, told) = (Arc::clone(&job), told.clone());
        thread().spawn(move || job.0.work(&job.1, &told)).map(drop)
    });
    if let Err(error) = started {
        return nothing(keys(), &error);
    }
    // The threads have theirs; when the last of them ends, so does the waiting.
    drop(told);
    let results = round.collect(&ended, || round.left(Clock::System.now()));
    rows(keys(), results)
}

/// On threads that are waited for.
pub(crate) fn scoped<K, T, R, E>(
    targets: Vec<(K, T)>,
    limit: usize,
    deadline: Duration,
    run: impl Fn(Run<'_, K, T>) -> Result<R, FanOutError<E>> + Sync,
) -> FanOut<K, R, E>
where
    K: Send + Sync,
    T: Send + Sync,
    R: Send,
    E: Send,
{
    let round = Round::new(targets, deadline);
    let (told, ended) = unbounded();
    let started = thread::scope(|scope| {
        let (round, run) = (&round, &run);
        start(limit, round.targets.len(), || {
            let told = told.clone();
            thread().spawn_scoped(scope, move || round.work(run, &told)).map(drop)
        })
    });
    drop(told);
    let results = round.collect(&ended, || Duration::MAX);
    let keys = round.targets.into_iter().map(|(key, _)| key);
    match started {
        Ok(()) => rows(keys, results),
        Err(error) => nothing(keys, &error),
    }
}

fn thread() -> thread::Builder {
    thread::Builder::new().name("millpond-fan-out".to_owned())
}

/// As many threads as are of use; fewer where the system gives no more.
fn start(limit: usize, rows: usize, mut one: impl FnMut() -> io::Result<()>) -> Result<(), Error> {
    if limit == 0 {
        return Err(Error::config(&["limit is 0, so no row can begin".to_owned()]));
    }
    for number in 0..limit.min(rows) {
        match one() {
            Ok(()) => {}
            Err(error) if number == 0 => {
                let text = "no thread can be started for the fan-out".to_owned();
                return Err(Error::with_cause(ErrorKind::Connect, text, Some(Arc::new(error))));
            }
            Err(error) => {
                log::debug!("a fan-out goes on with {number} threads: {error}");
                break;
            }
        }
    }
    Ok(())
}

fn rows<K, R, E>(
    keys: impl IntoIterator<Item = K>,
    results: Vec<(Result<R, FanOutError<E>>, Duration)>,
) -> FanOut<K, R, E> {
    let rows = keys.into_iter().zip(results);
    FanOut::new(rows.map(|(key, (result, took))| FanOutRow { key, result, took }).collect())
}

/// No row could begin.
fn nothing<K, R, E>(keys: impl IntoIterator<Item = K>, error: &Error) -> FanOut<K, R, E> {
    let row = |key| FanOutRow { key, result: Err(FanOutError::Connection(error.clone())), took: Duration::ZERO };
    FanOut::new(keys.into_iter().map(row).collect())
}
