//! Checkout: from the shelf if something good lies there, else by waiting.

use super::open::Purpose;
use super::{Core, Item, retire, retire_all};
use crate::ErrorKind;
use crate::alarm::Tended;
use crate::clock::{Moment, ticks};
use crate::config::Nested;
use crate::error::Error;
use crate::event;
use crate::incident::IncidentKind;
use crate::lease::thread_number;
use crate::manager::Manager;
use crate::pool::entry::{Occasion, Verdict};
use crate::pool::rack::{Outage, Permit, Rack, Refusal};
use crate::pool::seat;
use crate::pool::shelf::{CLOSED, Mark, PAUSED, Slot, Taken};
use crate::pool::waiters::{Ticket, Waiter, Woken, Word};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

type Place = &'static Location<'static>;

impl<M: Manager> Core<M> {
    /// A connection, waiting for it no longer than `timeout`, or the pool's own.
    #[inline]
    pub(crate) fn checkout(self: &Arc<Self>, timeout: Option<Duration>, place: Place) -> Result<Box<Item<M>>, Error> {
        if self.careful {
            return self.checkout_carefully(timeout, place);
        }
        match self.checkout_idle(place) {
            Some(item) => Ok(item),
            None => self.checkout_slowly(timeout, place, self.settings.nested, false),
        }
    }

    #[cold]
    fn checkout_carefully(self: &Arc<Self>, timeout: Option<Duration>, place: Place) -> Result<Box<Item<M>>, Error> {
        self.refuse_nested()?;
        let idle =
            if self.settings.check_on_caller { self.checkout_here(false, place) } else { self.checkout_idle(place) };
        match idle {
            Some(item) => Ok(item),
            None => self.checkout_slowly(timeout, place, self.settings.nested, false),
        }
    }

    /// A connection for somebody who has another pool to go to: while connecting fails, it does not wait here for the end of
    /// that, whatever the settings say.
    pub(crate) fn checkout_or_leave(self: &Arc<Self>, timeout: Duration, place: Place) -> Result<Box<Item<M>>, Error> {
        self.refuse_nested()?;
        match self.checkout_idle(place) {
            Some(item) => Ok(item),
            None => self.checkout_slowly(Some(timeout), place, self.settings.nested, true),
        }
    }

    /// The fast path of the r2d2 module, which checks on the caller's thread as r2d2 does. With `any_age` that is also
    /// done to a connection that has been idle for so long that the server may be gone and the check may hang.
    pub(crate) fn checkout_here(self: &Arc<Self>, any_age: bool, place: Place) -> Option<Box<Item<M>>> {
        let rack = &*self.rack;
        let fresh = if any_age { u32::MAX } else { self.fresh.load(Ordering::Relaxed).max(ticks(CHECKED_HERE)) };
        loop {
            if rack.shelf.alert() & self.barrier != 0 || self.forked() {
                return None;
            }
            let now = self.clock.coarse();
            let item = self.take(now, fresh)?.entry;
            if let Some(mut item) = self.judge(item, now, Occasion::Checkout, any_age) {
                self.lend(&mut item, self.clock.coarse(), Duration::ZERO, place);
                return Some(item);
            }
            if !any_age {
                // The deadline is the slow path's business.
                return None;
            }
        }
    }

    /// The fast path: an idle connection that needs no check, with nobody to be considered. No lock, no exact clock,
    /// no allocation, no shared cache line that anybody writes.
    #[inline]
    pub(crate) fn checkout_idle(self: &Arc<Self>, place: Place) -> Option<Box<Item<M>>> {
        let rack = &*self.rack;
        if rack.shelf.alert() & self.barrier != 0 || self.forked() {
            return None;
        }
        let now = self.clock.coarse();
        let Taken { slot, entry: mut item, .. } = self.take(now, self.fresh.load(Ordering::Relaxed))?;
        let edition = self.edition.load(Ordering::Relaxed);
        if !item.in_its_prime(now, edition, self.max_uses) {
            item = self.judge(item, now, Occasion::Checkout, false)?;
        }
        self.lend_from(slot, &mut item, now, Duration::ZERO, place);
        Some(item)
    }

    /// For those who do not wait: what must be checked first is sent to be checked, one connection at a time, for whoever asks
    /// next.
    #[inline]
    pub(crate) fn checkout_or_prove(self: &Arc<Self>, place: Place) -> Option<Box<Item<M>>> {
        self.checkout_idle(place).or_else(|| self.prove_idle(place))
    }

    #[cold]
    fn prove_idle(self: &Arc<Self>, place: Place) -> Option<Box<Item<M>>> {
        let shelf = &self.rack.shelf;
        let barred = shelf.alert() & self.barrier != 0 || self.by_callers() || self.forked();
        if barred || !shelf.any_idle() || !self.rack.may_check(self.clock.now()) {
            return None;
        }
        let now = self.clock.coarse();
        let mut item = self.judge(self.take(now, u32::MAX)?.entry, now, Occasion::Checkout, false)?;
        self.lend(&mut item, now, Duration::ZERO, place);
        Some(item)
    }

    /// Takes an idle connection, first of all the one that this thread had before.
    #[inline]
    fn take(&self, now: Moment, fresh: u32) -> Option<Taken<'_, Item<M>>> {
        match self.rack.shelf.take_at(seat::hint(self.rack.id), now.tick(), fresh) {
            Some(taken) => Some(taken),
            None => self.take_other(now, fresh),
        }
    }

    /// Takes another one, and remembers it.
    #[cold]
    fn take_other(&self, now: Moment, fresh: u32) -> Option<Taken<'_, Item<M>>> {
        let (index, taken) = self.rack.shelf.take_first(now.tick(), fresh)?;
        seat::remember(self.rack.id, index);
        Some(taken)
    }

    /// Writes down who has it.
    pub(super) fn lend(&self, item: &mut Item<M>, now: Moment, waited: Duration, place: Place) {
        if let Some(slot) = self.rack.shelf.slot(item.permit.slot()) {
            self.lend_from(slot, item, now, waited, place);
        }
    }

    #[inline]
    fn lend_from(&self, slot: &Slot<Item<M>>, item: &mut Item<M>, now: Moment, waited: Duration, place: Place) {
        item.uses += 1;
        item.vouched = false;
        item.used = now;
        slot.lend(Mark::lent(thread_number(), now.tick()), place);
        if self.timed {
            self.lend_timed(item, waited, place);
        }
    }

    #[cold]
    fn lend_timed(&self, item: &mut Item<M>, waited: Duration, place: Place) {
        item.used = self.clock.now();
        self.emit(|handler, pool| {
            let event =
                event::CheckedOut { connection: item.id, waited, location: place, extensions: item.extensions() };
            handler.checked_out(pool, &event);
        });
    }

    #[cold]
    fn checkout_slowly(
        self: &Arc<Self>,
        timeout: Option<Duration>,
        place: Place,
        nested: Nested,
        elsewhere: bool,
    ) -> Result<Box<Item<M>>, Error> {
        self.refuse_forked()?;
        let began = self.clock.now();
        let timeout = timeout.unwrap_or_else(|| *self.connection_timeout.read());
        let mut item = self.obtain((began, began.after(timeout)), place, nested, elsewhere)?;
        let now = self.clock.now();
        self.lend(&mut item, now, now.since(began), place);
        Ok(item)
    }

    /// A connection for somebody who has been waiting since `began`, from the shelf or through the queue.
    pub(super) fn obtain(
        self: &Arc<Self>,
        (began, deadline): (Moment, Moment),
        place: Place,
        nested: Nested,
        elsewhere: bool,
    ) -> Result<Box<Item<M>>, Error> {
        if let Some(item) = self.look(false, deadline) {
            return Ok(item);
        }
        let held = self.lent_to(thread_number());
        if nested == Nested::Warn
            && let Some(held) = &held
        {
            self.warn_of_nested(held, place);
        }
        self.wait((began, deadline), held.is_some(), elsewhere)
    }

    /// Takes from the shelf what may be lent. What must be checked first is sent to be checked, at most one
    /// connection a waiter; its result comes through the queue.
    fn look(self: &Arc<Self>, in_queue: bool, deadline: Moment) -> Option<Box<Item<M>>> {
        let alert = self.rack.shelf.alert();
        if alert & (CLOSED | PAUSED) != 0 {
            return None;
        }
        if self.rules_strict() && (in_queue || alert != 0) {
            // In a strict queue nobody takes for itself: what is found belongs to the oldest.
            let unwanted = self.rack.look(self.clock.now());
            retire_all(unwanted.entries, unwanted.reason);
            return None;
        }
        loop {
            let now = self.clock.coarse();
            let taken = match self.take(now, self.fresh.load(Ordering::Relaxed)) {
                Some(taken) => taken,
                None if self.rack.shelf.any_idle() && self.may_check(deadline) => self.take(now, u32::MAX)?,
                None => return None,
            };
            if let Some(item) = self.judge(taken.entry, now, Occasion::Checkout, false) {
                return Some(item);
            }
            if !self.may_check(deadline) {
                // It was sent to be checked, and that is enough for one caller.
                return None;
            }
        }
    }

    /// Whether one more connection may be checked for those who wait. By the exact clock: it is the keeper who wakes them
    /// when a check has taken too long, and the coarse clock may still say that it has not.
    fn may_check(&self, deadline: Moment) -> bool {
        let now = self.clock.now();
        // Callers that check by themselves have a deadline to look at.
        self.rack.may_check(now) && !(self.by_callers() && now >= deadline)
    }

    /// Whether a connection may be lent. If not, it is dealt with. With `here` the caller would rather wait for the check
    /// than go without.
    #[cold]
    fn judge(self: &Arc<Self>, mut item: Box<Item<M>>, now: Moment, on: Occasion, here: bool) -> Option<Box<Item<M>>> {
        let idle = now.tick().wrapping_sub(item.proven().tick());
        if item.in_its_prime(now, self.edition.load(Ordering::Relaxed), self.max_uses)
            && idle < self.fresh.load(Ordering::Relaxed)
        {
            // The usual case of a hand-over, without the lock of the rules.
            return Some(item);
        }
        let mut rules = self.rules_for(&mut item);
        if now >= item.expires(&rules) {
            // Its time may have passed while the process stood still.
            self.notice_standstill(now);
            rules = self.rules_for(&mut item);
        }
        let verdict = item.verdict(now, &rules, on);
        match verdict {
            Verdict::Keep => Some(item),
            Verdict::Validate if here || self.checks_here(&item, now) => self.check(item),
            verdict => {
                self.unfit(item, verdict);
                None
            }
        }
    }

    #[cold]
    fn unfit(self: &Arc<Self>, item: Box<Item<M>>, verdict: Verdict) {
        match verdict {
            Verdict::Keep => self.admit(item),
            Verdict::Validate => self.send_to_check(item),
            Verdict::Retire(reason) => retire(item, reason),
        }
    }

    /// The r2d2 module checks on the caller's thread as r2d2 does, unless the connection has been idle for so long
    /// that the server may be gone and the check may hang.
    fn checks_here(&self, item: &Item<M>, now: Moment) -> bool {
        self.settings.check_on_caller && now.since(item.used.max(item.checked)) < CHECKED_HERE
    }

    fn wait(
        self: &Arc<Self>,
        (began, deadline): (Moment, Moment),
        nested: bool,
        elsewhere: bool,
    ) -> Result<Box<Item<M>>, Error> {
        let waiter = Waiter::new(thread_number(), elsewhere);
        let ticket = match self.rack.enter(&waiter, began) {
            Ok(ticket) => ticket,
            Err(refusal) => return Err(self.refused(refusal)),
        };
        let mut turn = Turn { rack: &self.rack, waiter: &waiter, ticket, queued: true, met_full: false };
        self.counters.waits.add();
        if nested {
            self.rack.note_deadlock();
        }
        let result = self.wait_in_queue(&mut turn, began, deadline);
        if let Word::Given(item) = turn.leave() {
            // It was handed over at the very moment in which this caller helped itself.
            self.admit(item);
        }
        let waited = self.clock.now().since(began);
        self.counters.wait_time.record(waited);
        if turn.met_full {
            self.note_late(waited, result.is_err());
        }
        result
    }

    fn wait_in_queue(
        self: &Arc<Self>,
        turn: &mut Turn<'_, Item<M>>,
        began: Moment,
        deadline: Moment,
    ) -> Result<Box<Item<M>>, Error> {
        loop {
            // Each time round the caller has just announced itself, so this look cannot miss what came before. And
            // only then it plans: a connection that was seen on the shelf while planning may be gone at the look.
            if let Some(item) = self.look(true, deadline) {
                return Ok(item);
            }
            // With a budget: who does not wait takes nothing from others.
            if (self.by_callers() || self.rack.account.is_some()) && self.clock.now() >= deadline {
                return self.run_out(turn, began);
            }
            match self.rack.plan_for((turn.ticket, turn.waiter), self.clock.now(), self.by_callers()) {
                Ok(permits) if self.by_callers() && !permits.is_empty() => {
                    if let Some(result) = self.open_by_caller(turn, permits) {
                        return result;
                    }
                    continue;
                }
                Ok(permits) => self.open_all(permits),
                Err(outage) => {
                    // Unless a connection has come in the last moment.
                    return self.last_chance(turn.leave()).unwrap_or_else(|| Err(self.turned_away(self.away(&outage))));
                }
            }
            turn.met_full = turn.met_full || self.notes_late() && self.rack.is_full();
            match turn.waiter.sleep(&self.clock, self.wake_by(deadline)) {
                Woken::TimedOut if self.clock.now() < deadline => {
                    self.do_what_is_due();
                    self.rack.rest(turn.ticket);
                }
                Woken::Look => {
                    if !self.rules_strict()
                        && let Some(item) = self.look(true, deadline)
                    {
                        return Ok(item);
                    }
                    self.rack.rest(turn.ticket);
                }
                Woken::Given(item) => {
                    turn.queued = false;
                    let now = self.clock.now();
                    if let Some(item) = self.judge(item, now, Occasion::HandOver, false) {
                        return Ok(item);
                    }
                    match self.rack.enter_again(turn.waiter, turn.ticket) {
                        Ok(()) => turn.queued = true,
                        Err(refusal) => return Err(self.refused(refusal)),
                    }
                }
                Woken::Failed(error) => {
                    turn.queued = false;
                    return Err(self.turned_away(error));
                }
                Woken::TimedOut => return self.run_out(turn, began),
            }
        }
    }

    /// The deadline has passed.
    fn run_out(self: &Arc<Self>, turn: &mut Turn<'_, Item<M>>, began: Moment) -> Result<Box<Item<M>>, Error> {
        turn.queued = false;
        let (word, numbers) = self.rack.give_up(turn.ticket, turn.waiter);
        self.last_chance(word).unwrap_or_else(|| Err(self.timeout_error(began, &numbers)))
    }

    /// Opens connections on the caller's own thread. It leaves the queue for that: what comes back meanwhile is for those
    /// who can use it at once.
    fn open_by_caller(
        self: &Arc<Self>,
        turn: &mut Turn<'_, Item<M>>,
        permits: Vec<Permit<Item<M>>>,
    ) -> Option<Result<Box<Item<M>>, Error>> {
        if let Some(result) = self.last_chance(turn.leave()) {
            return Some(result);
        }
        // Or what is opened would be given up to another pool of the budget before this caller has come back for it.
        let _asking = self.rack.ask_for();
        permits.into_iter().for_each(|permit| self.begin_open(permit, Purpose::Caller));
        match self.rack.enter_again(turn.waiter, turn.ticket) {
            Ok(()) => {
                turn.queued = true;
                None
            }
            Err(refusal) => Some(Err(self.refused(refusal))),
        }
    }

    /// Until when a waiter sleeps. In a pool without threads those who wait do what is due.
    fn wake_by(&self, deadline: Moment) -> Moment {
        if self.by_callers() { deadline.min(self.clock.now().after(LOOK_ROUND)) } else { deadline }
    }

    pub(crate) fn do_what_is_due(self: &Arc<Self>) {
        let now = self.clock.now();
        if self.alarm.due() <= now {
            Arc::clone(self).tend(now);
        }
    }

    /// What a caller makes of the word that it finds in its cell when it leaves.
    fn last_chance(self: &Arc<Self>, word: Word<Item<M>>) -> Option<Result<Box<Item<M>>, Error>> {
        match word {
            Word::Given(item) => self.judge(item, self.clock.now(), Occasion::HandOver, false).map(Ok),
            Word::Failed(error) => Some(Err(self.turned_away(error))),
            Word::Wait | Word::Look => None,
        }
    }

    /// The error of somebody who does not wait for the end of an outage.
    pub(crate) fn away(&self, outage: &Outage) -> Error {
        let cause = Arc::clone(&outage.cause);
        if outage.permanent {
            return Error::permanent(&self.name, cause);
        }
        let now = self.clock.now();
        let (away, next) = (now.since(outage.since).as_secs_f64(), outage.retry_at.since(now).as_secs_f64());
        let (name, failures) = (&self.name, outage.failures);
        let text = format!(
            "no connection from {name:?}: connecting has failed for {away:.2} s ({failures} attempts), the next attempt is \
             in {next:.2} s"
        );
        Error::said(Some(name), ErrorKind::Connect, text, Some(cause))
    }

    /// Counts and tells of a caller that is sent away before its deadline, with this error, unless that is because the pool is
    /// closed.
    fn turned_away(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Connect {
            self.counters.fast_failures.add();
        }
        if error.kind() != ErrorKind::Closed {
            self.note(IncidentKind::TurnedAway, &error);
            self.emit(|handler, pool| handler.timed_out(pool, &error));
        }
        error
    }

    /// The error of somebody who comes to a pool that is paused and takes nobody.
    pub(crate) fn paused(&self) -> Error {
        Error::of(&self.name, ErrorKind::Paused, format!("the pool {:?} is paused", self.name))
    }

    fn refused(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Closed => Error::closed(&self.name),
            Refusal::Paused => self.turned_away(self.paused()),
            Refusal::Overloaded => {
                self.counters.overloads.add();
                let waiting = self.rack.numbers().waiting;
                let text = format!("too many callers wait for a connection from {:?} already ({waiting})", self.name);
                self.turned_away(Error::of(&self.name, ErrorKind::Overloaded, text))
            }
        }
    }

    fn rules_strict(&self) -> bool {
        self.barrier == u32::MAX
    }
}

/// How fresh a connection must be for the r2d2 module to check it on the caller's thread.
const CHECKED_HERE: Duration = Duration::from_millis(500);

/// How soon a waiter of a pool without threads looks whether anything is due: a fraction of what a person notices.
const LOOK_ROUND: Duration = Duration::from_millis(20);

/// A waiter's stay in the queue; it leaves on every path.
struct Turn<'a, E: Send + 'static> {
    rack: &'a Rack<E>,
    waiter: &'a Arc<Waiter<E>>,
    ticket: Ticket,
    queued: bool,
    /// It has slept because there were as many connections as there may be, all in use.
    met_full: bool,
}

impl<E: Send + 'static> Turn<'_, E> {
    fn leave(&mut self) -> Word<E> {
        if std::mem::take(&mut self.queued) { self.rack.withdraw(self.ticket, self.waiter) } else { Word::Wait }
    }
}

impl<E: Send + 'static> Drop for Turn<'_, E> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
