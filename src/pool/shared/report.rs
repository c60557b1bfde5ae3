//! What a pool tells: numbers, holders, events, and panics of callbacks.

use super::{Core, Item};
use crate::ErrorKind;
use crate::budget::Account;
use crate::clock::{Moment, tick_span, ticks_between};
use crate::error::{Cause, Error, Panicked, Wait, text_of};
use crate::event::{self, EventHandler, State};
use crate::incident::IncidentKind;
use crate::lease::{Lease, thread_name, thread_number};
use crate::manager::Manager;
use crate::pool::rack::{Numbers, Phase};
use crate::pool::shelf::{CLOSED, PAUSED, Slot};
use crate::stats::{Breaker, Outage, SILENCE, Stats};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl<M: Manager> Core<M> {
    /// Calls a user's function; a panic in it becomes an error, is counted, logged and told.
    #[inline]
    pub(crate) fn guarded<R>(&self, callback: &'static str, call: impl FnOnce() -> R) -> Result<R, Panicked> {
        catch_unwind(AssertUnwindSafe(call)).map_err(|payload| self.report_panic(callback, payload))
    }

    #[cold]
    fn report_panic(&self, callback: &'static str, payload: Box<dyn Any + Send>) -> Panicked {
        let panicked = Panicked::caught(callback, payload);
        self.counters.panics.add();
        log::error!("pool {:?}: {panicked}", self.name);
        self.note(IncidentKind::Panicked, panicked.to_string());
        if callback != HANDLER {
            let event = event::Panicked { callback, message: &panicked.message };
            self.emit(|handler, pool| handler.panicked(pool, &event));
        }
        panicked
    }

    /// Tells all event handlers.
    #[inline]
    pub(crate) fn emit(&self, tell: impl Fn(&dyn EventHandler, &str)) {
        for handler in &self.handlers {
            self.tell(&**handler, &tell);
        }
    }

    /// Tells one of them.
    pub(crate) fn tell(&self, handler: &dyn EventHandler, tell: impl FnOnce(&dyn EventHandler, &str)) {
        drop(self.guarded(HANDLER, || tell(handler, &self.name)));
    }

    pub(crate) fn emit_state(&self, state: State) {
        self.emit(|handler, pool| handler.state_changed(pool, state));
    }

    /// The numbers, without the distributions, which are 4 KB.
    pub(crate) fn brief(&self, numbers: &Numbers) -> Stats {
        let mut stats = Stats::default();
        self.counters.fill(&mut stats);
        stats.max_size = numbers.max_size;
        stats.min_idle = numbers.min_idle;
        stats.size = (numbers.taken + numbers.overdue).saturating_sub(numbers.opening);
        stats.opened = numbers.opened;
        stats.closed = numbers.closed;
        stats.connecting = numbers.opening;
        stats.checking = numbers.checking;
        stats.waiting = numbers.waiting;
        stats.breaker = match &numbers.outage {
            None => Breaker::Closed,
            Some(_) if numbers.opening > 0 => Breaker::HalfOpen,
            Some(_) => Breaker::Open,
        };
        let lasting = |since: Moment| self.clock.now().since(since);
        stats.unanswered = numbers.unanswered_since.map_or(Duration::ZERO, lasting);
        stats.oldest_wait = numbers.waiting_since.map_or(Duration::ZERO, lasting);
        // Of a budget that others have used up it is those who wait that are to know.
        let account = self.rack.account.as_ref().filter(|_| numbers.waiting > 0);
        stats.budget_used_up = account.and_then(Account::used_up);
        stats.paused = matches!(numbers.phase, Phase::Paused | Phase::Rejecting);
        stats.closed_for_good = numbers.phase == Phase::Closed;
        for (_, slot) in self.rack.shelf.each() {
            let mark = slot.mark();
            stats.idle += u32::from(mark.is_idle());
            stats.in_use += u32::from(mark.is_lent());
            stats.checkouts += slot.checkouts();
        }
        if numbers.waiting > 0 {
            // Those that were handed over to callers who have not woken yet are theirs; under a crowd that may be most.
            stats.in_use =
                stats.in_use.max(numbers.ready.saturating_sub(stats.idle + numbers.checking).min(stats.size));
        }
        stats
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.brief(&self.rack.numbers());
        self.counters.fill_times(&mut stats);
        stats
    }

    /// The same, and what is known of an outage.
    pub(crate) fn full_glance(&self) -> (Stats, Option<Outage>) {
        let (mut stats, outage) = self.glance();
        self.counters.fill_times(&mut stats);
        (stats, outage)
    }

    /// The numbers without the distributions, and what is known of an outage.
    pub(crate) fn glance(&self) -> (Stats, Option<Outage>) {
        let numbers = self.rack.numbers();
        let outage = numbers.outage.as_ref().map(|outage| Outage {
            lasting: self.clock.now().since(outage.since),
            attempts: outage.failures,
            error: text_of(&*outage.cause),
        });
        (self.brief(&numbers), outage)
    }

    /// How many callers have or want a connection, and how many the pool may have. Takes no lock, so it may be some behind.
    pub(crate) fn load(&self) -> (u32, u32) {
        let lent = self.rack.shelf.each().filter(|(_, slot)| slot.mark().is_lent()).count() as u32;
        (lent + self.rack.shelf.sleepers(), self.rack.limit.load(Ordering::Relaxed))
    }

    /// Whether a connection is idle, or there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        let numbers = self.rack.numbers();
        numbers.taken < numbers.max_size || self.rack.shelf.any_idle()
    }

    /// Whether all connections that there may be are borrowed. Takes no lock, so it may be some behind.
    pub(crate) fn is_all_lent(&self) -> bool {
        let lent = self.rack.shelf.each().filter(|(_, slot)| slot.mark().is_lent()).count() as u32;
        lent >= self.rack.limit.load(Ordering::Relaxed)
    }

    /// Whether the server has left an attempt to connect, or a check, without an answer for so long that it is taken for away.
    pub(crate) fn is_silent(&self) -> bool {
        let since = self.rack.numbers().unanswered_since;
        since.is_some_and(|since| self.clock.now().since(since) >= SILENCE)
    }

    /// Neither paused nor closed.
    pub(crate) fn is_lending(&self) -> bool {
        self.rack.shelf.alert() & (CLOSED | PAUSED) == 0
    }

    /// Whether a connection lies there that has worked since `moment`, and connecting does not fail.
    pub(crate) fn has_worked_since(&self, moment: Moment) -> bool {
        // Where callers do the checks, or nothing is checked, it is one of them who will find out.
        let any = self.by_callers() || self.fresh.load(Ordering::Relaxed) == u32::MAX;
        let worked = |(_, slot): (u32, &Slot<Item<M>>)| {
            // Ticks wrap around, so what is less than half of them behind is later.
            let passed = slot.mark().since().wrapping_sub(moment.tick());
            slot.mark().is_idle() && (any || passed <= u32::MAX / 2)
        };
        self.rack.shelf.each().any(worked) && self.rack.numbers().outage.is_none()
    }

    /// Who holds connections, longest first, at most so many.
    pub(crate) fn holders(&self, most: usize) -> Vec<Lease> {
        let now = self.clock.coarse().tick();
        let lent = self.rack.shelf.each().filter(|(_, slot)| slot.mark().is_lent());
        // Room for most pools at once: the allocator is what a crowd that gives up meets at.
        let mut held = Vec::with_capacity(lent.size_hint().1.unwrap_or(0).min(64));
        held.extend(lent.map(|(_, slot)| (ticks_between(slot.mark().since(), now), slot)));
        held.sort_by_key(|&(since, _)| std::cmp::Reverse(since));
        held.into_iter().filter_map(|(_, slot)| self.lease_of(slot)).take(most).collect()
    }

    /// Who has this place's connection, if it is borrowed.
    pub(crate) fn lease_of(&self, slot: &Slot<Item<M>>) -> Option<Lease> {
        let (mark, location) = slot.lease()?;
        let connection = slot.connection.load(Ordering::Relaxed);
        Some(Lease {
            connection,
            thread: thread_name(mark.thread()),
            location,
            held: tick_span(ticks_between(mark.since(), self.clock.coarse().tick())),
            label: self.labels.read().get(&connection).cloned(),
        })
    }

    /// The error of somebody who waited for so many connections from `began` on.
    pub(crate) fn not_ready(&self, began: Moment, wanted: u32) -> Error {
        let waited = self.clock.now().since(began);
        let numbers = self.rack.numbers();
        let cause = numbers.outage.as_ref().map(|outage| Arc::clone(&outage.cause));
        Error::not_ready(&self.name, waited, (numbers.ready, wanted), self.brief(&numbers), cause)
    }

    /// The error of somebody who waited for borrowed connections from `began` on.
    pub(crate) fn still_held(&self, began: Moment) -> Error {
        let waited = self.clock.now().since(began);
        let numbers = self.rack.numbers();
        let closed = numbers.phase == Phase::Closed;
        Error::still_held(&self.name, (waited, closed), self.brief(&numbers), self.holders(usize::MAX))
    }

    /// The error of a caller who began to wait at `began` and whose deadline has passed.
    pub(crate) fn timeout_error(&self, began: Moment, numbers: &Numbers) -> Error {
        let waited = self.clock.now().since(began);
        let mut stats = self.brief(numbers);
        // The caller has left the queue, but it is one of those who waited.
        stats.waiting += 1;
        let holders = self.holders(HOLDERS_IN_ERROR);
        let check_failure: Option<Cause> = match &*self.last_check_failure.read() {
            Some((at, cause)) if *at >= began => Some(Arc::clone(cause)),
            _ => None,
        };
        let (kind, cause) = if matches!(numbers.phase, Phase::Paused | Phase::Rejecting) {
            (ErrorKind::Paused, None)
        } else if numbers.deadlock {
            (ErrorKind::Deadlock, None)
        } else if stats.in_use >= stats.max_size {
            (ErrorKind::Exhausted, None)
        } else if let Some(outage) = &numbers.outage {
            (ErrorKind::Connect, Some(Arc::clone(&outage.cause)))
        } else if check_failure.is_some() || numbers.checking > 0 {
            (ErrorKind::Validate, check_failure)
        } else if numbers.opening > 0 {
            (ErrorKind::Connect, None)
        } else {
            (ErrorKind::Exhausted, None)
        };
        self.counters.timeouts.add();
        let own = self.lent_count(thread_number());
        let budget = self.rack.account.as_ref().filter(|_| stats.in_use < stats.max_size);
        let budget = budget.and_then(|account| account.used_up()).filter(|_| kind == ErrorKind::Exhausted);
        let error = Error::timeout(kind, &self.name, Wait { waited, own, budget }, stats, holders, cause);
        log::debug!("{error}");
        self.note(IncidentKind::TimedOut, &error);
        self.emit(|handler, pool| handler.timed_out(pool, &error));
        error
    }
}

/// Its panics are not told to itself.
const HANDLER: &str = "event_handler";

/// A time-out carries the longest holders; with a thousand waiters on a thousand connections, all of them would be
/// a million.
const HOLDERS_IN_ERROR: usize = 16;
