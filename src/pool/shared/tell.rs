//! What a pool tells without being asked at that moment: incidents that are kept, and samples of its numbers.

use super::Core;
use crate::clock::Moment;
use crate::event::EventHandler;
use crate::incident::{Incident, IncidentKind, Said};
use crate::manager::Manager;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// However often a handler wants samples, it gets them no more often.
const MOST_OFTEN: Duration = Duration::from_millis(20);

/// What a handler says of itself when the pool is built; one that panics says the usual.
fn asked<R: Default>(ask: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_default()
}

/// Those that hear events, and those that want samples.
pub(crate) fn by_interest(handlers: Vec<Box<dyn EventHandler>>, now: Moment) -> (Handlers, Samplers) {
    let (mut events, mut samples) = (Vec::new(), Vec::new());
    for handler in handlers {
        let handler: Arc<dyn EventHandler> = Arc::from(handler);
        if let Some(every) = asked(|| handler.sample_every()) {
            samples.push(Sampler { handler: Arc::clone(&handler), every: every.max(MOST_OFTEN), due: now });
        }
        if !asked(|| handler.samples_only()) {
            events.push(handler);
        }
    }
    (events.into(), Samplers { all: Mutex::new(samples), busy: AtomicBool::new(false) })
}

/// Who hears events.
pub(crate) type Handlers = Box<[Arc<dyn EventHandler>]>;

/// The handlers that want samples.
pub(crate) struct Samplers {
    all: Mutex<Vec<Sampler>>,
    /// Somebody is calling them.
    busy: AtomicBool,
}

struct Sampler {
    handler: Arc<dyn EventHandler>,
    every: Duration,
    due: Moment,
}

impl Samplers {
    /// Those whose time has come, or all of them, and when the next one's does.
    fn take_due(&self, now: Option<Moment>) -> (Vec<Arc<dyn EventHandler>>, Option<Moment>) {
        let (mut due, mut next) = (Vec::new(), None);
        for sampler in &mut *self.all.lock() {
            if now.is_none_or(|now| sampler.due <= now) {
                due.push(Arc::clone(&sampler.handler));
                sampler.due = now.map_or(Moment::NEVER, |now| now.after(sampler.every));
            }
            next = Some(next.map_or(sampler.due, |next: Moment| next.min(sampler.due)));
        }
        (due, next)
    }
}

impl<M: Manager> Core<M> {
    /// Keeps an incident. What it replaces is dropped here, without a lock.
    pub(crate) fn note(&self, kind: IncidentKind, said: impl Into<Said>) {
        let (now, said) = (self.clock.wall(), said.into());
        let replaced = self.journal.lock().note(kind, now, said);
        drop(replaced);
    }

    pub(crate) fn incidents(&self) -> Vec<Incident> {
        let noted = self.journal.lock().noted();
        // A driver's error is the user's code, and may panic when it is asked for its text.
        noted.into_iter().filter_map(|noted| self.guarded("the error's text", || noted.read()).ok()).collect()
    }

    /// Asks for the first visit.
    pub(crate) fn sample_from_now(&self) {
        if !self.samplers.all.lock().is_empty() {
            self.alarm.at(self.clock.now());
        }
    }

    /// Has those handlers called whose time has come; asks to be called again in time.
    pub(crate) fn sample_due(self: &Arc<Self>, now: Moment) {
        let (due, next) = self.samplers.take_due(Some(now));
        if let Some(next) = next {
            self.alarm.at(next);
        }
        // Relaxed: it keeps calls apart and publishes nothing.
        if due.is_empty() || self.samplers.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let core = Arc::clone(self);
        let job = Box::new(move || {
            core.sample(&due);
            if core.rack.is_closed() {
                // What was told here may be older than what was told at the close meanwhile.
                core.sample_last();
            }
            core.samplers.busy.store(false, Ordering::Relaxed);
        });
        if self.dispatch(job).is_err() {
            self.samplers.busy.store(false, Ordering::Relaxed);
        }
    }

    /// Tells all of them the numbers of a closed pool. Several may do so at once, and whoever is last tells of the end.
    pub(crate) fn sample_last(&self) {
        let (all, _) = self.samplers.take_due(None);
        while !all.is_empty() {
            let over = self.rack.is_over();
            self.sample(&all);
            if self.rack.is_over() == over {
                break;
            }
        }
    }

    fn sample(&self, which: &[Arc<dyn EventHandler>]) {
        let stats = self.stats();
        for handler in which {
            self.tell(&**handler, |handler, pool| handler.sampled(pool, &stats));
        }
    }
}
