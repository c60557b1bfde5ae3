//! Checkin: what happens when a guard is dropped.

use super::{Core, Item, retire, retire_all};
use crate::clock::Clock;
use crate::error::Cause;
use crate::event::{self, CloseReason};
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
        retire(item, reason);
        return;
    }
    let slot = item.permit.slot();
    let mark = Mark::idle(item.used.tick());
    // Taken along, because after the connection has been put home it may be anybody's, and all it owns with it.
    let clock = item.home.clock.clone();
    if let Some((put, rack)) = seat::put_home(item, mark) {
        settle(put, &rack, slot, mark, &clock);
    }
}

/// The connection met a waiter, or the end of the pool.
#[cold]
fn settle<M: Manager>(put: Put<Item<M>>, rack: &Rack<Item<M>>, slot: u32, mark: Mark, clock: &Clock) {
    let reason = rack.unwanted_because();
    retire_all(rack.settle(put, slot, mark, clock.now()), reason);
}

/// What a connection that comes back is to be closed for, if anything.
#[inline]
fn inspect<M: Manager>(item: &mut Item<M>) -> Option<CloseReason> {
    let core = &*item.home;
    let now = core.clock.coarse();
    if core.timed || item.labelled {
        core.note_return(item);
    }
    item.used = now;
    // Asked even when the answer is known, because some managers keep accounts in it, and on this thread, because
    // diesel's asks whether the thread is panicking.
    let broken = match core.guarded("has_broken", || core.manager.has_broken(&mut item.connection)) {
        Ok(broken) => broken || item.broken,
        Err(_) => return Some(CloseReason::Panicked),
    };
    if broken {
        return Some(CloseReason::Broken);
    }
    // Nobody knows how far the borrower got: an open transaction passes every check.
    if std::thread::panicking() {
        return Some(CloseReason::Panicked);
    }
    if let Some(reason) = core.clean(item.id, &mut item.connection) {
        return Some(reason);
    }
    match item.verdict(now, core.generation.load(Ordering::Relaxed), &core.rules, Occasion::Checkin) {
        Verdict::Retire(reason) => Some(reason),
        Verdict::Keep | Verdict::Validate => None,
    }
}

impl<M: Manager> Core<M> {
    #[inline]
    fn clean(&self, id: u64, connection: &mut M::Connection) -> Option<CloseReason> {
        let cleaned = self.guarded("reset", || self.manager.reset(connection));
        let mut error: Option<Cause> = match cleaned {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Arc::new(error)),
            Err(_) => return Some(CloseReason::Panicked),
        };
        if let Some(hook) = &self.hooks.on_return
            && error.is_none()
        {
            match self.guarded("on_return", || hook(connection)) {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => error = Some(refusal),
                Err(_) => return Some(CloseReason::Panicked),
            }
        }
        if self.handler.is_some() || error.is_some() {
            self.note_reset(id, error.as_ref());
        }
        error.map(|_| CloseReason::ResetFailed)
    }

    #[cold]
    fn note_reset(&self, id: u64, error: Option<&Cause>) {
        if let Some(error) = error {
            log::debug!("pool {:?}: connection {id} could not be cleaned: {error}", self.name);
        }
        self.emit(|handler, pool| {
            let error = error.map(|error| &**error as &(dyn std::error::Error + 'static));
            handler.reset(pool, &event::Reset { connection: id, error });
        });
    }

    #[cold]
    pub(crate) fn note_return(&self, item: &Item<M>) {
        if item.labelled {
            self.labels.lock().remove(&item.id);
        }
        if self.timed {
            let held = self.clock.now().since(item.used);
            self.counters.use_time.record(held);
            self.emit(|handler, pool| {
                let event = event::CheckedIn { connection: item.id, held, extensions: item.extensions() };
                handler.checked_in(pool, &event);
            });
        }
    }

    /// Makes a connection available that is not coming back from a borrower: a new one, or one that was checked.
    pub(crate) fn admit(self: &Arc<Self>, item: Box<Item<M>>) {
        let mark = Mark::idle(self.clock.now().tick());
        self.put_back(item, mark);
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
