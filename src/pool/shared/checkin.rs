//! Checkin: what happens when a guard is dropped.

use super::{Core, Item, retire, retire_all};
use crate::clock::{Clock, Moment};
use crate::error::text_of;
use crate::event::{self, CloseReason};
use crate::incident::IncidentKind;
use crate::manager::Manager;
use crate::pool::entry::{Occasion, Verdict};
use crate::pool::rack::Rack;
use crate::pool::seat;
use crate::pool::shelf::{Mark, Put};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Takes a connection back: asks whether it is broken, cleans it, judges it, and puts it home or closes it.
#[inline]
pub(crate) fn checkin<M: Manager>(mut item: Box<Item<M>>) {
    if let Some(reason) = inspect(&mut item) {
        return retire(item, reason);
    }
    let (slot, mark) = (item.permit.slot(), Mark::idle(item.used.tick()));
    // Taken along, because after the connection has been put home it may be anybody's, and all it owns with it.
    let clock = item.home.clock.clone();
    if let Some((put, rack)) = seat::put_home(item, mark) {
        settle(put, &rack, slot, mark, &clock);
    }
}

/// The same where the borrower has the pool at hand, so that nothing must keep the rack alive.
#[inline]
pub(crate) fn checkin_to<M: Manager>(core: &Core<M>, mut item: Box<Item<M>>) {
    if let Some(reason) = inspect(&mut item) {
        return retire(item, reason);
    }
    let (slot, mark) = (item.permit.slot(), Mark::idle(item.used.tick()));
    match core.rack.shelf.put(slot, item, mark) {
        Put::Done => {}
        put => settle(put, &core.rack, slot, mark, &core.clock),
    }
}

/// The connection met a waiter, or the end of the pool.
#[cold]
fn settle<M: Manager>(put: Put<Item<M>>, rack: &Rack<Item<M>>, slot: u32, mark: Mark, clock: &Clock) {
    let unwanted = rack.settle(put, slot, mark, clock.now());
    retire_all(unwanted.entries, unwanted.reason);
}

/// What a connection that comes back is to be closed for, if anything.
#[inline]
fn inspect<M: Manager>(item: &mut Item<M>) -> Option<CloseReason> {
    let core = &*item.home;
    if core.forked() {
        // It is the parent's. Not a word to the server: `retire` forgets it.
        return Some(CloseReason::Detached);
    }
    let now = core.clock.coarse();
    if core.timed || item.labelled {
        core.note_return(item);
        item.labelled = false;
    }
    item.used = now;
    // Asked even when the answer is known, because some managers keep accounts in it, and on this thread, because
    // diesel's asks whether the thread is panicking.
    match core.guarded("has_broken", || core.manager.has_broken(&mut item.connection)) {
        Ok(broken) if broken || item.broken => return Some(CloseReason::Broken),
        Ok(_) => {}
        Err(_) => return Some(CloseReason::Panicked),
    }
    // Nobody knows how far the borrower got: an open transaction passes every check.
    if std::thread::panicking() {
        return Some(CloseReason::Panicked);
    }
    let begun = if core.handlers.is_empty() { now } else { core.clock.now() };
    match core.guarded("reset", || core.manager.reset(&mut item.connection)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Some(core.unclean(item.id, &error, begun)),
        Err(_) => return Some(CloseReason::Panicked),
    }
    if core.observed
        && let Some(reason) = core.finish_reset(item.id, &mut item.connection, begun)
    {
        return Some(reason);
    }
    if item.in_its_prime(now, core.edition.load(Ordering::Relaxed), core.max_uses) {
        return None;
    }
    sentence(item, now)
}

/// What a connection is to be closed for by the rules of the day.
#[cold]
fn sentence<M: Manager>(item: &mut Item<M>, now: Moment) -> Option<CloseReason> {
    let core = Arc::clone(&item.home);
    let rules = core.rules_for(item);
    match item.verdict(now, &rules, Occasion::Checkin) {
        Verdict::Retire(reason) => Some(reason),
        Verdict::Keep | Verdict::Validate => None,
    }
}

impl<M: Manager> Core<M> {
    /// After the manager's reset: the user's hook, and word to the event handler.
    #[cold]
    fn finish_reset(&self, id: u64, connection: &mut M::Connection, begun: Moment) -> Option<CloseReason> {
        if let Some(hook) = &self.hooks.on_return {
            match self.guarded("on_return", || hook(connection)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(self.unclean(id, &error, begun)),
                Err(_) => return Some(CloseReason::Panicked),
            }
        }
        if !self.handlers.is_empty() {
            let took = self.clock.now().since(begun);
            self.emit(|handler, pool| handler.reset(pool, &event::Reset { connection: id, error: None, took }));
        }
        None
    }

    #[cold]
    fn unclean(&self, id: u64, error: &(dyn std::error::Error + 'static), begun: Moment) -> CloseReason {
        let text = format!("connection {id} could not be cleaned: {}", text_of(error));
        log::debug!("pool {:?}: {text}", self.name);
        self.note(IncidentKind::Retired(CloseReason::ResetFailed), text);
        let took = self.clock.now().since(begun);
        self.emit(|handler, pool| {
            handler.reset(pool, &event::Reset { connection: id, error: Some(error), took });
        });
        CloseReason::ResetFailed
    }

    #[cold]
    pub(crate) fn note_return(&self, item: &Item<M>) {
        let label = if item.labelled { self.labels.write().remove(&item.id) } else { None };
        if self.timed {
            let held = self.clock.now().since(item.used);
            self.counters.use_time.record(held);
            self.emit(|handler, pool| {
                let event = event::CheckedIn {
                    connection: item.id,
                    held,
                    label: label.as_deref(),
                    extensions: item.extensions(),
                };
                handler.checked_in(pool, &event);
            });
        }
    }

    /// Makes a connection available that is not coming back from a borrower: a new one, or one that was checked.
    pub(crate) fn admit(self: &Arc<Self>, item: Box<Item<M>>) {
        // Not since now: a waiter that fails passes on what it was given, and that may have been idle for long. And
        // not later than by the coarse clock, as borrowers read it: an idle time below zero would look like a very
        // long one.
        let since = item.proven().min(self.clock.coarse());
        if let Some(slot) = self.rack.shelf.slot(item.permit.slot()) {
            slot.rest_since(item.used.tick());
        }
        self.put_back(item, Mark::idle(since.tick()));
    }

    /// Puts an idle connection back that was only looked at.
    pub(crate) fn put_back(self: &Arc<Self>, item: Box<Item<M>>, mark: Mark) {
        let slot = item.permit.slot();
        match self.rack.shelf.put(slot, item, mark) {
            Put::Done => {}
            put => settle(put, &self.rack, slot, mark, &self.clock),
        }
    }
}
