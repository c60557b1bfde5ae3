//! Checking connections, on helper threads, and what follows from a check that fails.

use super::{Core, Item, retire};
use crate::clock::Moment;
use crate::config::Validation;
use crate::error::{Cause, text_of};
use crate::event::{self, CloseReason};
use crate::incident::IncidentKind;
use crate::manager::{Fault, Manager};
use crate::pool::rack::{Pending, SLOW_CHECK};
use crate::pool::shelf::Mark;
use crate::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// As many threads check at once when all that is idle is suspect: one that hangs holds up itself alone, as long as
/// others go on.
const CHECKERS: usize = 4;

impl<M: Manager> Core<M> {
    /// Checks a connection on a helper thread. Whoever waits gets it afterwards through the one door.
    pub(crate) fn send_to_check(self: &Arc<Self>, item: Box<Item<M>>) {
        if let Some(slot) = self.rack.shelf.slot(item.permit.slot()) {
            slot.set_mark(Mark::BUSY);
        }
        let pending = self.expect_result();
        let core = Arc::clone(self);
        let job = Box::new(move || {
            core.check_and_admit(item, pending);
            core.open_wanted();
        });
        if let Err((_, job)) = self.dispatch(job) {
            // No thread to be had: a check that may outlast the deadline is better than none.
            job();
        }
    }

    /// From now on waiters count on a check, but not for long.
    fn expect_result(self: &Arc<Self>) -> Pending<Item<M>> {
        let now = self.clock.now();
        self.alarm.at(now.after(SLOW_CHECK));
        self.rack.check_begins(now)
    }

    fn check_and_admit(self: &Arc<Self>, item: Box<Item<M>>, mut pending: Pending<Item<M>>) {
        if let Some(item) = self.check(item) {
            pending.passed(item.checked);
            self.admit(item);
        }
        drop(pending);
    }

    /// Checks a connection here and now. One that fails is closed, and others become suspect.
    pub(crate) fn check(self: &Arc<Self>, mut item: Box<Item<M>>) -> Option<Box<Item<M>>> {
        let begun = self.clock.now();
        let (error, fault): (Cause, Fault) =
            match self.guarded("is_valid", || self.manager.is_valid(&mut item.connection)) {
                Ok(Ok(())) => {
                    item.checked = self.clock.now();
                    item.vouched = true;
                    self.counters.checks_passed.add();
                    let event = event::Valid { connection: item.id, took: item.checked.since(begun) };
                    self.emit(|handler, pool| handler.valid(pool, &event));
                    return Some(item);
                }
                Ok(Err(error)) => self.classed(error),
                Err(panicked) => (Arc::new(panicked), Fault::Transient),
            };
        self.counters.check_failures.add();
        let text = format!("connection {} failed its check: {}", item.id, text_of(&*error));
        log::debug!("pool {:?}: {text}", self.name);
        self.note(IncidentKind::Retired(CloseReason::Invalid), text);
        let took = self.clock.now().since(begun);
        self.emit(|handler, pool| {
            handler.invalid(pool, &event::Invalid { connection: item.id, error: &*error, took });
        });
        *self.last_check_failure.write() = Some((self.clock.now(), error));
        retire(item, CloseReason::Invalid);
        if fault == Fault::DiscardAll {
            self.refresh(Duration::ZERO);
        } else {
            self.suspect_idle(begun);
        }
        None
    }

    /// Something that was begun at `since` has failed, so the server may have been away: what lies idle and has not worked
    /// after that is checked before anybody gets it, or the next callers would find the dead ones one by one.
    pub(crate) fn suspect_idle(self: &Arc<Self>, since: Moment) {
        if self.by_callers() {
            self.suspect_before(since);
            return;
        }
        if self.rules().validation == Validation::Never || self.suspecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (suspects, sound): (Vec<_>, Vec<_>) =
            self.rack.drain(u32::MAX).into_iter().partition(|item| item.proven() <= since);
        sound.into_iter().for_each(|item| self.admit(item));
        let queue = Arc::new(Mutex::new(suspects));
        let threads = CHECKERS.min(queue.lock().len());
        let mut begun = 0;
        for _ in 0..threads {
            let (core, queue) = (Arc::clone(self), Arc::clone(&queue));
            begun += usize::from(self.dispatch(Box::new(move || core.check_suspects(&queue))).is_ok());
        }
        if begun == 0 {
            // No thread to be had, or nothing to be checked: each is checked when its turn comes.
            self.suspect_before(since);
            let suspects = std::mem::take(&mut *queue.lock());
            suspects.into_iter().for_each(|item| self.admit(item));
            self.suspecting.store(false, Ordering::Release);
        }
    }

    fn check_suspects(self: &Arc<Self>, queue: &Mutex<Vec<Box<Item<M>>>>) {
        let suspecting = Suspecting(&self.suspecting);
        loop {
            let suspect = queue.lock().pop();
            let Some(suspect) = suspect else { break };
            self.check_and_admit(suspect, self.expect_result());
        }
        drop(suspecting);
        self.open_wanted();
    }
}

/// What was idle is being checked. However that ends: what fails afterwards was proven after the first failure, or is being
/// checked by another of these threads.
struct Suspecting<'a>(&'a AtomicBool);

impl Drop for Suspecting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
