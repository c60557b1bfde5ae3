//! What a pool tells without being asked at that moment: incidents that are kept, and samples of its numbers.

use super::Core;
use crate::clock::Moment;
use crate::error::{dispose, quietly};
use crate::event::EventHandler;
use crate::helpers;
use crate::incident::{IncidentKind, Noted, Said};
use crate::manager::Manager;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// However often a handler wants samples, it gets them no more often.
const MOST_OFTEN: Duration = Duration::from_millis(20);

/// What a handler says of itself when the pool is built; one that panics says the usual.
fn asked<R: Default>(ask: impl FnOnce() -> R) -> R {
    quietly(ask).unwrap_or_default()
}

/// Those that hear events, and those that want samples.
pub(crate) fn by_interest(handlers: Vec<Box<dyn EventHandler>>, now: Moment) -> (Handlers, Samplers) {
    let (mut events, mut samples) = (Vec::new(), Vec::new());
    for handler in handlers {
        let handler: Arc<dyn EventHandler> = Arc::from(handler);
        if let Some(every) = asked(|| handler.sample_every()) {
            samples.push(Sampler {
                handler: Arc::clone(&handler),
                every: every.max(MOST_OFTEN),
                due: now,
                busy: false,
                again: false,
                ended: false,
            });
        }
        if !asked(|| handler.samples_only()) {
            events.push(handler);
        }
    }
    (events.into(), Samplers(Mutex::new(samples)))
}

/// Who hears events.
pub(crate) type Handlers = Box<[Arc<dyn EventHandler>]>;

/// The handlers that want samples. Each is called by one thread at a time, and with numbers that are read at the call, so what
/// it hears later is newer.
pub(crate) struct Samplers(Mutex<Vec<Sampler>>);

struct Sampler {
    handler: Arc<dyn EventHandler>,
    every: Duration,
    due: Moment,
    /// Somebody is calling it.
    busy: bool,
    /// It is to be called once more afterwards.
    again: bool,
    /// It has been told of the end.
    ended: bool,
}

impl Samplers {
    fn any(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// Those whose time has come, who are busy from now on, and when the next one's does. Without a time, all: those that are
    /// busy are called once more.
    fn take_due(&self, now: Option<Moment>) -> (Vec<usize>, Option<Moment>) {
        let (mut due, mut next) = (Vec::new(), None);
        for (index, sampler) in self.0.lock().iter_mut().enumerate().filter(|(_, sampler)| !sampler.ended) {
            if now.is_none_or(|now| sampler.due <= now) {
                sampler.due = now.map_or(Moment::NEVER, |now| now.after(sampler.every));
                sampler.again |= sampler.busy && now.is_none();
                if !std::mem::replace(&mut sampler.busy, true) {
                    due.push(index);
                }
            }
            next = Some(next.map_or(sampler.due, |next: Moment| next.min(sampler.due)));
        }
        (due, next)
    }

    fn handler(&self, index: usize) -> Option<Arc<dyn EventHandler>> {
        self.0.lock().get(index).map(|sampler| Arc::clone(&sampler.handler))
    }

    /// A call has ended, after which the handler knows of the end or not; says whether it is to be called once more.
    fn called(&self, index: usize, ended: bool) -> bool {
        self.0.lock().get_mut(index).is_some_and(|sampler| {
            sampler.ended |= ended;
            sampler.busy = std::mem::take(&mut sampler.again) && !sampler.ended;
            sampler.busy
        })
    }
}

/// A handler that is to be called is free again, however the job ends.
struct Busy<'a>(&'a Samplers, usize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.called(self.1, false);
    }
}

impl<M: Manager> Core<M> {
    /// Keeps an incident. What it replaces is dropped here, without a lock; it may be the last of a driver's error, which is the
    /// user's code.
    pub(crate) fn note(&self, kind: IncidentKind, said: impl Into<Said>) {
        let (now, wall, said) = (self.clock.now(), self.clock.wall(), said.into());
        let replaced = self.journal.lock().note(kind, (now, wall), said);
        dispose(replaced);
    }

    /// The incidents, before errors are made text of.
    pub(crate) fn noted(&self) -> Vec<Noted> {
        self.journal.lock().noted()
    }

    /// Asks for the first visit.
    pub(crate) fn sample_from_now(&self) {
        if self.samplers.any() {
            self.alarm.at(self.clock.now());
        }
    }

    /// Has those handlers called whose time has come; asks to be called again in time.
    pub(crate) fn sample_due(self: &Arc<Self>, now: Moment) {
        let (due, next) = self.samplers.take_due(Some(now));
        if let Some(next) = next {
            self.alarm.at(next);
        }
        for index in due {
            if self.dispatch(self.sampling(index)).is_err() {
                // Next time, perhaps: the keeper calls nobody itself.
                self.samplers.called(index, false);
            }
        }
    }

    /// Has all of them called: the pool was closed.
    pub(crate) fn sample_closed(self: &Arc<Self>) {
        let (all, _) = self.samplers.take_due(None);
        for index in all {
            if let Err((_, job)) = self.dispatch(self.sampling(index)) {
                job();
            }
        }
    }

    /// The same where a place has come free that may have been the last one of a closed pool.
    pub(crate) fn sample_end(self: &Arc<Self>) {
        if self.samplers.any() && self.rack.is_over() {
            self.sample_closed();
        }
    }

    /// Calls one of them, until it need not be called again.
    fn sampling(self: &Arc<Self>, index: usize) -> helpers::Job {
        let core = Arc::clone(self);
        Box::new(move || {
            let Some(handler) = core.samplers.handler(index) else { return };
            loop {
                let busy = Busy(&core.samplers, index);
                // First, so that numbers which are called the last ones are.
                let over = core.rack.is_over();
                let stats = core.stats();
                core.tell(&*handler, |handler, pool| handler.sampled(pool, &stats));
                std::mem::forget(busy);
                if !core.samplers.called(index, over) {
                    break;
                }
            }
        })
    }
}
