//! The keeper: one thread for all pools of the process, which visits each when it asked to be visited.
//!
//! It runs timers only and never blocks, so that no pool can delay another. It is started with the first pool and
//! ends with the last. It holds weak references: a pool that is gone is not kept alive by its own upkeep.

#![allow(
    clippy::significant_drop_tightening,
    reason = "the lock covers the message that is sent or looked for, on purpose"
)]

use crate::alarm::{Alarm, Message, Tended};
use crate::clock::{Clock, Moment};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
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

#[derive(Default)]
struct Rounds {
    pools: HashMap<u64, Weak<dyn Tended>>,
    due: BinaryHeap<Reverse<(Moment, u64)>>,
}

fn keep(messages: &Receiver<Message>) {
    let mut rounds = Rounds::default();
    loop {
        let now = Clock::System.now();
        while let Some(&Reverse((at, id))) = rounds.due.peek()
            && at <= now
        {
            rounds.due.pop();
            visit(rounds.pools.get(&id), now);
        }
        let message = match rounds.due.peek() {
            Some(Reverse((at, _))) => messages.recv_timeout(at.since(Clock::System.now())),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(Message::Join(id, pool)) => drop(rounds.pools.insert(id, pool)),
            Ok(Message::At(id, at)) => rounds.due.push(Reverse((at, id))),
            Ok(Message::Leave(id)) => {
                rounds.pools.remove(&id);
                rounds.due.retain(|Reverse((_, other))| *other != id);
                if rounds.pools.is_empty() && may_end(messages) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn visit(pool: Option<&Weak<dyn Tended>>, now: Moment) {
    if let Some(pool) = pool.and_then(Weak::upgrade) {
        // Callbacks are guarded where they are called; this is for a defect of the pool's own, which must not end
        // the upkeep of all others.
        if catch_unwind(AssertUnwindSafe(|| pool.tend(now))).is_err() {
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
