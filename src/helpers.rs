//! Threads for blocking work, shared by all pools of the process.
//!
//! They are started when a job finds no idle one, wait some seconds for another job, and leave at once when the
//! last pool has been closed. A job is never queued behind another: one that hangs holds up nobody. How many
//! run at once is bounded by the pools, each for itself: `max_connecting`, one check or close for each connection, and as many
//! closes as may take so long that their places are given away.

#![cfg_attr(shuttle, allow(dead_code, unused_imports, reason = "in a model jobs are run otherwise"))]
#![allow(clippy::significant_drop_tightening, reason = "the locks cover two lines each")]

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Work that may block for long.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How long an idle thread waits for another job: longer than the pause between two checks of a pool that is in
/// use now and then, shorter than anybody would call a leak.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Crew {
    pools: usize,
    /// Where idle threads listen. Without capacity: a job is taken only by a thread that is idle this moment.
    /// Gone when no pool is left, which sends the idle ones home.
    channel: Option<(Sender<Job>, Receiver<Job>)>,
    threads: Vec<JoinHandle<()>>,
    /// A forked child has the memory of its parent's crew, but not the threads.
    origin: Option<forkguard::Guard>,
}

impl Crew {
    /// In a forked child it begins anew: a job that is handed to one of the parent's threads would never be done, and
    /// they cannot even be let go.
    fn forget_parents(&mut self) {
        if self.origin.get_or_insert_with(forkguard::new).detected_fork() {
            std::mem::forget(std::mem::take(&mut self.threads));
            std::mem::forget(self.channel.take());
            self.pools = 0;
        }
    }
}

static CREW: Mutex<Crew> = Mutex::new(Crew { pools: 0, channel: None, threads: Vec::new(), origin: None });

/// A pool's word that it may send jobs. While one is held, idle threads wait for work.
#[derive(Debug)]
pub(crate) struct Enrolment(forkguard::Guard);

pub(crate) fn enrol() -> Enrolment {
    let mut crew = CREW.lock();
    crew.forget_parents();
    crew.pools += 1;
    crew.channel.get_or_insert_with(|| bounded(0));
    Enrolment(forkguard::new())
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        if self.0.detected_fork() {
            // It was the parent's crew.
            return;
        }
        let mut crew = CREW.lock();
        crew.pools -= 1;
        if crew.pools == 0 {
            crew.channel = None;
        }
    }
}

/// In a model every job has a thread of its own, which the scheduler knows.
#[cfg(shuttle)]
pub(crate) fn run(job: Job) -> Result<(), (io::Error, Job)> {
    drop(shuttle::thread::spawn(job));
    Ok(())
}

/// Runs a job on another thread.
///
/// # Errors
///
/// Gives the job back when no thread can be had.
#[cfg(not(shuttle))]
pub(crate) fn run(job: Job) -> Result<(), (io::Error, Job)> {
    let channel = {
        let mut crew = CREW.lock();
        crew.forget_parents();
        crew.channel.clone()
    };
    let (job, idle) = match channel {
        None => (job, None),
        Some((sender, idle)) => match sender.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => (job, Some(idle)),
        },
    };
    // The first job travels by a channel of its own, from which it can be taken back if no thread comes.
    let (sender, first) = bounded(1);
    if sender.send(job).is_err() {
        return Ok(()); // Cannot be: `first` is alive on this line.
    }
    let taken = first.clone();
    let started = Builder::new().name("millpond-helper".to_owned()).spawn(move || work(&taken, idle));
    match started {
        Ok(thread) => {
            let mut crew = CREW.lock();
            crew.threads.retain(|thread| !thread.is_finished());
            crew.threads.push(thread);
            Ok(())
        }
        Err(error) => first.try_recv().map_or(Ok(()), |job| Err((error, job))),
    }
}

fn work(first: &Receiver<Job>, idle: Option<Receiver<Job>>) {
    let mut next = first.try_recv().ok();
    while let Some(job) = next {
        // Jobs catch the panics of callbacks themselves; this is for a defect of the pool's own.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            log::error!("millpond: a helper job panicked; this is a defect of the pool");
        }
        next = idle.as_ref().and_then(|jobs| jobs.recv_timeout(LINGER).ok());
    }
}

/// Waits until no thread is left, if no pool is, for as long as `more_time` says.
pub(crate) fn join(mut more_time: impl FnMut() -> bool) -> bool {
    loop {
        let (done, all_done) = {
            let mut crew = CREW.lock();
            crew.forget_parents();
            if crew.pools > 0 {
                return true;
            }
            let (done, busy): (Vec<_>, Vec<_>) = crew.threads.drain(..).partition(JoinHandle::is_finished);
            crew.threads = busy;
            // A callback that runs on one of these threads may close the pool; it cannot wait for itself.
            let own = std::thread::current().id();
            (done, crew.threads.iter().all(|thread| thread.thread().id() == own))
        };
        for thread in done {
            // A thread's panic has been reported where it happened.
            drop(thread.join());
        }
        if all_done {
            return true;
        }
        if !more_time() {
            return false;
        }
        // Threads end without a signal that could be waited for with a deadline; a thousandth of a second is short
        // against what close waits for.
        std::thread::sleep(Duration::from_millis(1));
    }
}
