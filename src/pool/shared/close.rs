//! Closing connections, on helper threads, and closing the pool.

use super::{CLOSE_GRACE, Core, Item};
use crate::clock::Moment;
use crate::error::Error;
use crate::event::{self, CloseReason, State};
use crate::helpers;
use crate::incident::IncidentKind;
use crate::manager::Manager;
use crate::pool::entry::Entry;
use crate::pool::shelf::Mark;
use std::sync::Arc;
use std::time::Duration;

/// Parts with a connection: it is closed on a helper thread, and its place is free again afterwards.
#[cold]
pub(crate) fn retire<M: Manager>(item: Box<Item<M>>, reason: CloseReason) {
    retire_all(vec![item], reason);
}

/// As many threads close at once when many connections go together: one that hangs holds up a quarter of the rest.
const CLOSERS: usize = 4;

/// Parts with several connections.
pub(crate) fn retire_all<M: Manager>(mut items: Vec<Box<Item<M>>>, reason: CloseReason) {
    let Some(core) = items.first().map(|item| Arc::clone(&item.home)) else { return };
    if core.forked() {
        // The sockets are the parent's: closing one would say goodbye in its name.
        std::mem::forget(items);
        return;
    }
    let share = items.len().div_ceil(CLOSERS);
    while !items.is_empty() {
        let rest = items.split_off(share.min(items.len()));
        let farewells: Vec<_> = items.into_iter().map(|item| begin(item, reason)).collect();
        items = rest;
        let job: helpers::Job = Box::new(move || farewells.into_iter().for_each(|farewell| farewell()));
        if let Err((_, job)) = core.dispatch(job) {
            // No thread to be had: closing late would be worse than closing here.
            job();
        }
    }
}

/// Takes a connection out of the pool's books. What it returns closes it.
#[allow(clippy::boxed_local, reason = "a connection may be large; it is moved once, when it is closed")]
fn begin<M: Manager>(item: Box<Item<M>>, reason: CloseReason) -> impl FnOnce() + Send {
    let core = Arc::clone(&item.home);
    let now = core.clock.now();
    core.emit(|handler, pool| handler.retired(pool, item.id, reason));
    if matches!(reason, CloseReason::Broken | CloseReason::Panicked) {
        core.note(IncidentKind::Retired(reason), format!("connection {} is closed: {reason}", item.id));
    }
    let renewed = || reason == CloseReason::Refresh && core.rules().renewal_of(item.generation).is_some();
    let owes = matches!(reason, CloseReason::Lifetime | CloseReason::MaxUses) || renewed();
    if owes {
        core.rack.owe();
    }
    core.deaths.lock().forget(item.dies);
    let Entry { mut connection, home, permit, id, born, uses, extensions, .. } = *item;
    drop(home);
    core.rack.close_begins(id, permit, now, reason);
    core.alarm.at(now.after(CLOSE_GRACE));
    if owes {
        // Before the old one is closed, where there is room for both.
        core.open_wanted();
    }
    move || {
        let begun = core.clock.now();
        if let Some(hook) = &core.hooks.on_close {
            drop(core.guarded("on_close", || hook(&mut connection)));
        }
        drop(core.guarded("close", || core.manager.close(connection)));
        let now = core.clock.now();
        let (age, took) = (now.since(born), now.since(begun));
        log::debug!("pool {:?}: closed connection {id}: {reason}, {age:?} old, lent {uses} times", core.name);
        core.emit(|handler, pool| {
            handler
                .closed(pool, &event::Closed { connection: id, reason, age, uses, took, extensions: extensions.get() });
        });
        // User data may panic when it goes, too.
        drop(core.guarded("drop of extensions", || drop(extensions)));
        if core.rack.close_ends(id, reason) {
            core.alarm.at(core.clock.now());
        }
        core.sample_end();
        core.open_wanted();
    }
}

/// How often somebody looks who waits for borrowed connections of a pool that is not paused.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

impl<M: Manager> Core<M> {
    /// Takes a connection out of the pool without closing it.
    pub(crate) fn detach(item: Box<Item<M>>) -> M::Connection {
        let core = Arc::clone(&item.home);
        core.note_return(&item);
        core.emit(|handler, pool| handler.retired(pool, item.id, CloseReason::Detached));
        core.deaths.lock().forget(item.dies);
        let Entry { connection, permit, .. } = *item;
        if core.forked() {
            // The books are the parent's, and so may be who holds their locks.
            std::mem::forget(permit);
            return connection;
        }
        core.rack.detach(permit);
        core.sample_end();
        core.open_wanted();
        connection
    }

    /// Closes the pool: who waits fails now, what is idle is closed now, what is borrowed when it comes back.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.forked() {
            return;
        }
        let (was_open, idle) = self.rack.close(&Error::closed(&self.name));
        if !was_open {
            return;
        }
        self.end_warming();
        log::debug!("pool {:?}: closed", self.name);
        self.note(IncidentKind::Closed, "the pool is closed".to_owned());
        self.emit_state(State::Closed);
        retire_all(idle, CloseReason::PoolClosed);
        self.sample_closed();
        self.alarm.disconnect();
        let enrolment = self.enrolment.lock().take();
        drop(enrolment);
    }

    /// Judges what is idle by the rules of the day: after they have changed.
    pub(crate) fn judge_idle(self: &Arc<Self>) {
        let now = self.clock.now();
        let slots: Vec<u32> = self.rack.shelf.each().map(|(index, _)| index).collect();
        let mut old = Vec::new();
        for index in slots.into_iter().rev() {
            let Some(mut taken) = self.rack.shelf.take_at(index, now.tick(), u32::MAX) else { continue };
            let rules = self.rules_for(&mut taken.entry);
            if taken.entry.generation < rules.oldest {
                taken.slot.set_mark(Mark::BUSY);
                old.push(taken.entry);
            } else {
                self.put_back(taken.entry, taken.mark);
            }
        }
        retire_all(old, CloseReason::Refresh);
        self.sweep_all(now);
        self.open_wanted();
    }

    /// Has all that is idle looked at. One that is on its way to the shelf may be missed at first; it is never lent, but it
    /// should not lie there.
    pub(crate) fn sweep_all(&self, now: Moment) {
        let until = now.after(CLOSE_GRACE);
        *self.sweep_until.lock() = until;
        self.alarm.at(until);
    }

    pub(crate) fn pause(&self, reject: bool) {
        let error = reject.then(|| self.paused());
        if self.rack.pause(error.as_ref()) {
            self.note(IncidentKind::Paused, "the pool is paused".to_owned());
            self.emit_state(State::Paused);
        }
    }

    /// Waits until nobody holds a connection.
    pub(crate) fn wait_idle(&self, timeout: Duration) -> Result<(), Error> {
        let began = self.clock.now();
        let deadline = began.after(timeout);
        // While the pool is paused, whoever returns a connection comes by the book, and rings; else nobody does.
        let left = || self.slice_until(deadline).map(|left| left.min(BETWEEN_LOOKS));
        if self.rack.watch_quiet(left) { Ok(()) } else { Err(self.still_held(began)) }
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        if self.rack.resume() {
            let away = self.rack.numbers().outage.is_some();
            self.note(IncidentKind::Resumed, "the pool lends again".to_owned());
            self.emit_state(if away { State::Down } else { State::Up });
            self.open_wanted();
            // What was to be tried again in the meantime.
            self.alarm.at(self.clock.now());
        }
    }
}
