//! The engine: the calling thread reads items, hands them to workers in chunks, and hears what has come of them.

use super::brake::Brake;
use super::chunk::{Chunk, Ended, Job};
use super::lend::Lend;
use super::report::{Counts, End, Outcome};
use crate::clock::{Clock, Moment};
use crate::error::dispose;
use crate::{Error, ErrorKind};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::Duration;

/// A function that is told how far the batch is, and how often.
pub(super) type Progress<'a> = (Duration, Box<dyn FnMut(&Counts) + 'a>);

/// How many of what.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) workers: usize,
    pub(super) chunk: usize,
    pub(super) read_ahead: usize,
}

/// Runs the batch on scoped threads, and returns when all have ended.
pub(super) fn run<L, T, V, R, E, P, W>(
    job: &Job<'_, '_, L, E, P, W>,
    sizes: Sizes,
    items: impl Iterator<Item = T>,
    progress: Option<Progress<'_>>,
    sink: impl FnMut(Outcome<T, R, E>),
) -> Counts
where
    L: Lend,
    T: Send,
    R: Send,
    E: Send,
    P: Fn(&T) -> Result<V, E> + Sync,
    W: Fn(L::Conn<'_>, &T, &V) -> Result<R, E> + Sync,
{
    thread::scope(|scope| {
        let (to_do, chunks) = unbounded();
        let (told, ended) = unbounded();
        let mut desk = Desk { brake: job.brake, ended, tally: Tally::new(progress), sink };
        let mut crew = Crew { scope, workers: sizes.workers, started: 0, in_work: 0 };
        let mut items = items;
        loop {
            while let Ok(one) = desk.ended.try_recv() {
                desk.settle(one, &mut crew);
            }
            if job.brake.is_on() {
                break;
            }
            if desk.tally.counts.in_flight() as usize + sizes.chunk > sizes.read_ahead {
                desk.wait(&mut crew);
                continue;
            }
            let chunk = desk.read(&mut items, sizes.chunk);
            let read = chunk.items.len();
            if read == 0 {
                break;
            }
            crew.in_work += 1;
            if let Err(error) = crew.start_if_wanted(|| {
                let (chunks, told) = (chunks.clone(), told.clone());
                move || work_on(job, &chunks, &told)
            }) {
                job.brake.pull(End::Pool(error));
            }
            // Who listens is there: this thread has a receiver itself.
            let _sent = to_do.send(chunk);
            if crew.started == 0 {
                // With nobody to work, what is waiting was not begun.
                for chunk in chunks.try_iter() {
                    desk.tally.counts.left += chunk.items.len() as u64;
                }
            }
            if read < sizes.chunk {
                break;
            }
        }
        drop((to_do, chunks, told));
        while desk.tally.counts.in_flight() > 0 {
            desk.wait(&mut crew);
        }
        desk.tally.tell();
        desk.tally.counts
    })
}

/// A worker: one chunk after another, for as long as there are some and somebody listens.
fn work_on<L, T, V, R, E, P, W>(
    job: &Job<'_, '_, L, E, P, W>,
    chunks: &Receiver<Chunk<T>>,
    told: &Sender<Ended<T, R, E>>,
) where
    L: Lend,
    P: Fn(&T) -> Result<V, E>,
    W: Fn(L::Conn<'_>, &T, &V) -> Result<R, E>,
{
    let mut panic = None;
    for chunk in chunks {
        let left = chunk.items.len() as u64;
        let ended = catch_unwind(AssertUnwindSafe(|| job.run(chunk))).unwrap_or_else(|payload| {
            // Closures are guarded where they are called: it was a destructor, and is the caller's to hear of. Until then
            // somebody has to take the chunks that wait.
            job.brake.pull(End::Failed);
            match panic {
                None => panic = Some(payload),
                // A second one is of no interest.
                Some(_) => dispose(payload),
            }
            Ended { outcomes: Vec::new(), left }
        });
        if told.send(ended).is_err() {
            // Nobody listens: the iterator, the sink or the progress has panicked.
            break;
        }
    }
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
}

/// The calling thread's side.
struct Desk<'b, 'a, 'p, T, R, E, S> {
    brake: &'b Brake<'a, E>,
    ended: Receiver<Ended<T, R, E>>,
    tally: Tally<'p>,
    sink: S,
}

impl<T, R, E, S: FnMut(Outcome<T, R, E>)> Desk<'_, '_, '_, T, R, E, S> {
    /// As many items as make a chunk; fewer when there are no more, or nothing more is to be begun.
    fn read(&mut self, items: &mut impl Iterator<Item = T>, chunk: usize) -> Chunk<T> {
        let first = self.tally.counts.read;
        let mut read = Vec::with_capacity(chunk.min(1024));
        while read.len() < chunk && (read.is_empty() || !self.brake.is_on()) {
            let Some(item) = items.next() else { break };
            self.tally.counts.read += 1;
            read.push(item);
        }
        self.tally.tell_if_due();
        Chunk { first, items: read }
    }

    /// Until a chunk has ended, or it is time to tell how far it is.
    fn wait(&mut self, crew: &mut Crew<'_, '_>) {
        let one = match self.tally.until_due() {
            Some(time) => self.ended.recv_timeout(time).ok(),
            None => self.ended.recv().ok(),
        };
        match one {
            Some(one) => self.settle(one, crew),
            None => self.tally.tell_if_due(),
        }
    }

    fn settle(&mut self, ended: Ended<T, R, E>, crew: &mut Crew<'_, '_>) {
        crew.in_work -= 1;
        self.tally.counts.left += ended.left;
        for outcome in ended.outcomes {
            match outcome.result {
                Ok(_) => self.tally.counts.done += 1,
                Err(_) => self.tally.counts.failed += 1,
            }
            (self.sink)(outcome);
        }
        self.tally.tell_if_due();
    }
}

/// The numbers, and whom they are told to.
struct Tally<'p> {
    counts: Counts,
    began: Moment,
    progress: Option<Progress<'p>>,
    due: Moment,
}

impl<'p> Tally<'p> {
    fn new(progress: Option<Progress<'p>>) -> Self {
        let began = Clock::System.now();
        // Not without any pause, in which the thread would do nothing else.
        let progress = progress.map(|(every, tell)| (every.max(Duration::from_millis(1)), tell));
        let due = progress.as_ref().map_or(Moment::NEVER, |(every, _)| began.after(*every));
        Self { counts: Counts::default(), began, progress, due }
    }

    fn until_due(&self) -> Option<Duration> {
        (self.due != Moment::NEVER).then(|| self.due.since(Clock::System.now()))
    }

    fn tell_if_due(&mut self) {
        if self.due != Moment::NEVER && self.due <= Clock::System.now() {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let now = Clock::System.now();
        self.counts.elapsed = now.since(self.began);
        if let Some((every, progress)) = &mut self.progress {
            progress(&self.counts);
            self.due = now.after(*every);
        }
    }
}

/// The threads.
struct Crew<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// The most.
    workers: usize,
    started: usize,
    /// Chunks that have not ended.
    in_work: usize,
}

impl<'scope> Crew<'scope, '_> {
    /// Starts a thread while there is more in work than there are threads. The batch goes on with fewer than wanted, but not
    /// with none.
    fn start_if_wanted<F: FnOnce() + Send + 'scope>(&mut self, work: impl FnOnce() -> F) -> Result<(), Error> {
        if self.started == self.workers || self.started >= self.in_work {
            return Ok(());
        }
        let thread = thread::Builder::new().name("millpond-batch".to_owned());
        match thread.spawn_scoped(self.scope, work()) {
            Ok(_) => self.started += 1,
            Err(error) if self.started == 0 => {
                let text = "no thread can be started for the batch".to_owned();
                return Err(Error::with_cause(ErrorKind::Connect, text, Some(Arc::new(error))));
            }
            Err(error) => log::debug!("a batch goes on with the {} threads that were started: {error}", self.started),
        }
        Ok(())
    }
}
