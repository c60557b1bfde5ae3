//! The keeper: one thread for all pools of the process, which visits each when it asked to be visited.
//!
//! It runs timers only and never blocks, so that no pool can delay another. It is started with the first pool and
//! ends with the last. It holds weak references: a pool that is gone is not kept alive by its own upkeep.

#![allow(
    clippy::significant_drop_tightening,
    reason = "the lock covers the message that is sent or looked for, on purpose"
)]

use crate::alarm::{self, Alarm, Message, Tended};
use crate::clock::{Clock, Moment};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

struct Keeper {
    line: Sender<Message>,
    thread: JoinHandle<()>,
    /// Has said, under the lock, that it will look at no more messages.
    ending: bool,
    /// A forked child has the memory of its parent's keeper, but not the thread.
    origin: forkguard::Guard,
}

impl Keeper {
    fn is_parents(&self) -> bool {
        self.origin.clone().detected_fork()
    }
}

static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

/// Puts a pool into the keeper's care.
///
/// # Errors
///
/// The keeper is not running and its thread could not be started.
pub(crate) fn join(id: u64, pool: Weak<dyn Tended>, alarm: &Alarm) -> io::Result<()> {
    let mut keeper = KEEPER.lock();
    let line = match &*keeper {
        Some(running) if !running.ending && !running.is_parents() => running.line.clone(),
        _ => {
            // Its thread does not exist in this process, so it cannot even be let go.
            std::mem::forget(keeper.take_if(|running| running.is_parents()));
            let (line, messages) = unbounded();
            let thread = Builder::new().name("millpond-keeper".to_owned()).spawn(move || keep(&messages))?;
            *keeper = Some(Keeper { line: line.clone(), thread, ending: false, origin: forkguard::new() });
            line
        }
    };
    // Sent under the lock, so that a keeper which is about to end sees it and stays.
    drop(line.send(Message::Join(id, pool)));
    alarm.connect(id, line);
    Ok(())
}

/// The pools, and when each is to be visited next: once, however often it asked. (A visit that is asked for on each visit
/// doubles their number each time.)
#[derive(Default)]
struct Rounds {
    pools: HashMap<u64, (Weak<dyn Tended>, Moment)>,
    due: BTreeSet<(Moment, u64)>,
}

impl Rounds {
    fn join(&mut self, id: u64, pool: Weak<dyn Tended>) {
        self.pools.insert(id, (pool, Moment::NEVER));
    }

    fn leave(&mut self, id: u64) {
        if let Some((_, due)) = self.pools.remove(&id) {
            self.due.remove(&(due, id));
        }
    }

    /// At this moment at the latest.
    fn schedule(&mut self, id: u64, at: Moment) {
        if let Some((_, due)) = self.pools.get_mut(&id)
            && at < *due
        {
            self.due.remove(&(*due, id));
            self.due.insert((at, id));
            *due = at;
        }
    }

    /// A pool whose visit is due, which is then not due any more.
    fn take_due(&mut self, now: Moment) -> Option<Weak<dyn Tended>> {
        let &(at, id) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, id));
        let (pool, due) = self.pools.get_mut(&id)?;
        *due = Moment::NEVER;
        Some(Weak::clone(pool))
    }

    /// Sleeps until something is due or somebody has something to say. Tells all pools if it was much too long.
    fn sleep(&self, messages: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        let Some(at) = self.next() else { return messages.recv().map_err(|_| RecvTimeoutError::Disconnected) };
        alarm::sleeps_until(at);
        let message = messages.recv_timeout(at.since(Clock::System.now()));
        let now = Clock::System.now();
        if alarm::stood_still(at, now) {
            self.pools.values().filter_map(|(pool, _)| pool.upgrade()).for_each(|pool| pool.thaw(now));
        }
        alarm::sleeps_until(Moment::NEVER);
        message
    }

    fn next(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }
}

fn keep(messages: &Receiver<Message>) {
    let mut rounds = Rounds::default();
    loop {
        // All that is asked for is heard before anybody is visited, so that no visit is made for what has changed.
        let message = match messages.try_recv() {
            Ok(message) => Ok(message),
            Err(_) => match rounds.take_due(Clock::System.now()) {
                Some(pool) => {
                    visit(&pool);
                    continue;
                }
                None => rounds.sleep(messages),
            },
        };
        match message {
            Ok(Message::Join(id, pool)) => rounds.join(id, pool),
            Ok(Message::At(id, at)) => rounds.schedule(id, at),
            Ok(Message::Leave(id)) => {
                rounds.leave(id);
                if rounds.pools.is_empty() && may_end(messages) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn visit(pool: &Weak<dyn Tended>) {
    if let Some(pool) = pool.upgrade() {
        // Callbacks are guarded where they are called; this is for a defect of the pool's own, which must not end
        // the upkeep of all others.
        if catch_unwind(AssertUnwindSafe(|| pool.tend(Clock::System.now()))).is_err() {
            log::error!("millpond: the upkeep of a pool panicked; this is a defect of the pool");
        }
    }
}

fn may_end(messages: &Receiver<Message>) -> bool {
    let mut keeper = KEEPER.lock();
    if !messages.is_empty() {
        return false;
    }
    if let Some(keeper) = &mut *keeper {
        keeper.ending = true;
    }
    true
}

/// Waits until the keeper's thread is gone, if it is going, for as long as `more_time` says.
pub(crate) fn join_thread(mut more_time: impl FnMut() -> bool) -> bool {
    loop {
        let mut keeper = KEEPER.lock();
        match &*keeper {
            None => return true,
            Some(running) if running.is_parents() => return true,
            Some(running) if !running.ending && running.line.is_empty() => return true,
            Some(running) if running.thread.is_finished() => {
                if let Some(ended) = keeper.take() {
                    drop(keeper);
                    // Its panic, if any, has been reported where it happened.
                    drop(ended.thread.join());
                }
                return true;
            }
            Some(_) => {}
        }
        drop(keeper);
        if !more_time() {
            return false;
        }
        // A thread's end gives no signal that could be waited for with a deadline.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// Counts how often it was told of a standstill.
    #[derive(Debug, Default)]
    struct Idle(AtomicU32);

    impl Tended for Idle {
        fn tend(self: Arc<Self>, _: Moment) {}
        fn thaw(&self, _: Moment) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn however_often_a_pool_asks_it_is_visited_once_and_at_the_earliest_moment() {
        let pool: Arc<dyn Tended> = Arc::new(Idle::default());
        let mut rounds = Rounds::default();
        (1..=2).for_each(|id| rounds.join(id, Arc::downgrade(&pool)));
        for second in [30, 20, 25, 10, 40] {
            rounds.schedule(1, at(second));
        }
        rounds.schedule(2, at(15));
        rounds.schedule(3, at(1)); // it has left
        assert_eq!((rounds.due.len(), rounds.next()), (2, Some(at(10))));
        assert!(rounds.take_due(at(9)).is_none());
        assert!(rounds.take_due(at(12)).is_some());
        assert!(rounds.take_due(at(12)).is_none(), "once");
        rounds.schedule(1, at(50));
        assert_eq!(rounds.next(), Some(at(15)));
        rounds.leave(2);
        assert_eq!((rounds.due.len(), rounds.next()), (1, Some(at(50))));
    }

    #[test]
    fn a_standstill_is_told_to_all_pools() {
        let pools = [(); 2].map(|()| Arc::new(Idle::default()));
        let mut rounds = Rounds::default();
        for (id, pool) in (1..).zip(&pools) {
            let pool: Arc<dyn Tended> = Arc::clone(pool) as _;
            rounds.join(id, Arc::downgrade(&pool));
        }
        let (_line, messages) = unbounded();
        rounds.schedule(1, Clock::System.now().before(Duration::from_secs(60)));
        assert!(rounds.sleep(&messages).is_err());
        assert!(pools.iter().all(|pool| pool.0.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn visits_do_not_multiply() {
        let pool: Arc<dyn Tended> = Arc::new(Idle::default());
        let mut rounds = Rounds::default();
        rounds.join(1, Arc::downgrade(&pool));
        rounds.schedule(1, at(1));
        let mut visits = 0;
        for second in 1..=1_000 {
            while rounds.take_due(at(second)).is_some() {
                visits += 1;
                // As a visit asks: for the latest first, and then for what is due before.
                for later in [600, 30, 2, 1] {
                    rounds.schedule(1, at(second + later));
                }
            }
        }
        assert_eq!((visits, rounds.due.len()), (1_000, 1));
    }
}
