//! The engine: threads that take one row after another, and somebody who starts them and listens until the deadline.

use super::rows::{FanOut, FanOutError, FanOutRow};
use super::turns::Turns;
use crate::clock::{Clock, Moment};
use crate::error::Panicked;
use crate::{Error, ErrorKind};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
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

/// What has come of a row, and how long it took.
type Outcome<R, E> = (Result<R, FanOutError<E>>, Duration);

/// Rows that are to be done by a deadline.
struct Round<K, T> {
    targets: Vec<(K, T)>,
    turns: Turns,
    deadline: Moment,
}

impl<K, T> Round<K, T> {
    fn new(targets: Vec<(K, T)>, limit: usize, deadline: Duration) -> Self {
        let deadline = Clock::System.now().after(deadline);
        Self { turns: Turns::new(targets.len(), limit, deadline), targets, deadline }
    }

    /// Does one row after another until this thread is of no more use. Tells of all but the last one, which it returns.
    fn work<R, E>(
        &self,
        run: impl Fn(Run<'_, K, T>) -> Result<R, FanOutError<E>>,
        told: &Sender<Ended<R, E>>,
    ) -> Option<Ended<R, E>> {
        let mut turn = self.turns.next(None, Clock::System.now())?;
        loop {
            let (key, target) = self.targets.get(turn.row)?;
            let left = if self.deadline == Moment::NEVER { Duration::MAX } else { self.deadline.since(turn.began) };
            let row = Run { key, target, left };
            // Closures of users are guarded where they are called; this is for whatever else is theirs, such as a key's `Hash`.
            let result = catch_unwind(AssertUnwindSafe(|| run(row)))
                .unwrap_or_else(|payload| Err(FanOutError::Panicked(Panicked::caught("the row", payload).message)));
            let now = Clock::System.now();
            let ended = Ended { index: turn.row, result, took: now.since(turn.began) };
            match self.turns.next(Some(turn), now) {
                None => return Some(ended),
                // Where nobody listens any more, the deadline has passed.
                Some(next) => told.send(ended).ok().map(|()| turn = next)?,
            }
        }
    }

    /// Starts threads as they are wanted, and listens to them until the last one has ended or the deadline has passed.
    fn conduct<R, E>(
        &self,
        told: Sender<Ended<R, E>>,
        ended: &Receiver<Ended<R, E>>,
        mut start: impl FnMut(Sender<Ended<R, E>>) -> io::Result<()>,
    ) -> Result<Vec<Ended<R, E>>, Error> {
        let (mut all, mut threads, mut told) = (Vec::new(), 0_usize, Some(told));
        loop {
            while let Some(told) = told.as_ref().filter(|_| self.turns.wants_thread(Clock::System.now())) {
                match start(told.clone()) {
                    Ok(()) => threads += 1,
                    Err(error) => {
                        self.turns.not_started();
                        if threads == 0 {
                            let text = "no thread can be started for the fan-out".to_owned();
                            return Err(Error::with_cause(ErrorKind::Connect, text, Some(Arc::new(error))));
                        }
                        log::debug!("a fan-out goes on with the {threads} threads that were started: {error}");
                        break;
                    }
                }
            }
            let until = self.turns.next_wanted(Clock::System.now());
            if until.is_none() {
                // From now on only threads have one, and when the last of them ends, so does the waiting.
                told = None;
            }
            match receive(ended, until.unwrap_or(Moment::NEVER).min(self.deadline)) {
                Ok(one) => all.push(one),
                Err(RecvTimeoutError::Timeout) if Clock::System.now() < self.deadline => {}
                Err(_) => return Ok(all),
            }
        }
    }

    /// What has come of each row, in order.
    fn outcomes<R, E>(&self, ended: impl Iterator<Item = Ended<R, E>>) -> Vec<Outcome<R, E>> {
        let mut results: Vec<_> = self.targets.iter().map(|_| None).collect();
        for Ended { index, result, took } in ended {
            if let Some(place) = results.get_mut(index) {
                *place = Some((result, took));
            }
        }
        let (now, began) = (Clock::System.now(), self.turns.began());
        let unfinished = |began: Option<&Moment>| {
            let took = began.map_or(Duration::ZERO, |began| now.since(*began));
            (Err(FanOutError::Deadline { began: began.is_some() }), took)
        };
        let all = results.into_iter().enumerate();
        all.map(|(index, result)| result.unwrap_or_else(|| unfinished(began.get(index)))).collect()
    }
}

fn receive<T>(from: &Receiver<T>, until: Moment) -> Result<T, RecvTimeoutError> {
    if until == Moment::NEVER {
        return from.recv().map_err(|_| RecvTimeoutError::Disconnected);
    }
    from.recv_timeout(until.since(Clock::System.now()))
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
    let job = Arc::new((Round::new(targets, limit, deadline), run));
    let round = &job.0;
    let keys = || round.targets.iter().map(|(key, _)| key.clone());
    if let Err(error) = refuse(limit) {
        return nothing(keys(), &error);
    }
    let (told, ended) = unbounded();
    let conducted = round.conduct(told, &ended, |told| {
        let job = Arc::clone(&job);
        let work = move || {
            let last = job.0.work(&job.1, &told);
            // First, so that what the closure has captured is only the caller's when all rows have ended.
            drop(job);
            let _unheard = last.map(|last| told.send(last));
        };
        thread().spawn(work).map(drop)
    });
    match conducted {
        Ok(all) => rows(keys(), round.outcomes(all.into_iter().chain(ended.try_iter()))),
        Err(error) => nothing(keys(), &error),
    }
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
    let round = Round::new(targets, limit, deadline);
    let (told, ended) = unbounded();
    let conducted = refuse(limit).and_then(|()| {
        thread::scope(|scope| {
            let (round, run) = (&round, &run);
            round.conduct(told, &ended, |told| {
                let work = move || {
                    let last = round.work(run, &told);
                    let _heard = last.map(|last| told.send(last));
                };
                thread().spawn_scoped(scope, work).map(drop)
            })
        })
    });
    match conducted {
        Ok(all) => {
            let outcomes = round.outcomes(all.into_iter().chain(ended.try_iter()));
            rows(round.targets.into_iter().map(|(key, _)| key), outcomes)
        }
        Err(error) => nothing(round.targets.into_iter().map(|(key, _)| key), &error),
    }
}

fn thread() -> thread::Builder {
    thread::Builder::new().name("millpond-fan-out".to_owned())
}

fn refuse(limit: usize) -> Result<(), Error> {
    if limit == 0 {
        return Err(Error::config(&["limit is 0, so no row can begin".to_owned()]));
    }
    Ok(())
}

fn rows<K, R, E>(keys: impl IntoIterator<Item = K>, outcomes: Vec<Outcome<R, E>>) -> FanOut<K, R, E> {
    let rows = keys.into_iter().zip(outcomes);
    FanOut::new(rows.map(|(key, (result, took))| FanOutRow { key, result, took }).collect())
}

/// No row could begin.
fn nothing<K, R, E>(keys: impl IntoIterator<Item = K>, error: &Error) -> FanOut<K, R, E> {
    let row = |key| FanOutRow { key, result: Err(FanOutError::Connection(error.clone())), took: Duration::ZERO };
    FanOut::new(keys.into_iter().map(row).collect())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn no_thread_is_started_after_the_deadline() {
        let round = Round::new(vec![((), ()); 1000], 1000, Duration::from_millis(1));
        let (told, ended) = unbounded::<Ended<(), ()>>();
        let mut started = 0;
        let all = round.conduct(told, &ended, |_| {
            started += 1;
            thread::sleep(Duration::from_millis(2));
            Ok(())
        });
        assert!(started <= 1 && all.is_ok_and(|all| all.is_empty()), "{started}");
    }
}
