//! The places: who may open a connection, what comes of it, and when a place is free again.
//!
//! A [`Permit`] is the right to one connection, from the moment its opening is planned until it has been closed. There are
//! never more than the maximum, so there are never more connections.

#![allow(
    clippy::significant_drop_tightening,
    reason = "every lock of the book ends in `leave`, which brings the alert up to date before it unlocks"
)]

use super::Rack;
use super::book::{Book, Outage, Phase, SLOW_CHECK};
use crate::budget::Place;
use crate::clock::Moment;
use crate::error::{Cause, Error};
use crate::event::CloseReason;
use crate::pool::shelf::Mark;
use crate::pool::waiters::{Ticket, Waiter};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// So many connections at the least may take long to close, each on a thread of its own, and have their places given away; where
/// `max_size` is larger, that many. More of them keep their places: a server that swallows goodbyes must not cost threads
/// without end.
const OVERDUE: u32 = 16;

/// What the book makes of a failed attempt to connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) failures: u32,
    pub(crate) retry_at: Moment,
    /// It is the first one since the last success.
    pub(crate) news: bool,
}

impl<E: Send + 'static> Rack<E> {
    /// The last step of a waiter before it sleeps, after it has looked at the shelf: plans for it and for everybody. Says
    /// why if it should not wait.
    ///
    /// With `alone` it plans for itself alone, because it will do the opening itself.
    pub(crate) fn plan_for(
        self: &Arc<Self>,
        (ticket, waiter): (Ticket, &Waiter<E>),
        now: Moment,
        alone: bool,
    ) -> Result<Vec<Permit<E>>, Outage> {
        let mut book = self.book.lock();
        if let Some(outage) = book.hopeless(now, waiter.elsewhere) {
            return Err(outage.clone());
        }
        book.queue.sleep(ticket);
        let permits = self.plan_in(&mut book, now, if alone { 1 } else { u32::MAX });
        // Connecting has failed, the next attempt is due, and the budget has no place for it.
        let refused = self.account.is_some() && permits.is_empty() && book.opening == 0;
        let hopeless = book.outage.as_ref().filter(|_| refused && book.limits.fail_fast).cloned();
        self.leave(book, Vec::new());
        hopeless.map_or(Ok(permits), Err)
    }

    /// Plans as many connections as are wanted and allowed, less what is being opened or checked already.
    pub(crate) fn plan(self: &Arc<Self>, now: Moment) -> Vec<Permit<E>> {
        let mut book = self.book.lock();
        let permits = self.plan_in(&mut book, now, u32::MAX);
        self.leave(book, Vec::new());
        permits
    }

    fn plan_in(self: &Arc<Self>, book: &mut Book<E>, now: Moment, most: u32) -> Vec<Permit<E>> {
        let count = if book.phase != Phase::Open || book.room() == 0 {
            0
        } else {
            let wanted = book.demand(self.shelf.idle()).saturating_sub(book.opening + book.promising(now));
            book.allowed(wanted.max(book.warm.saturating_sub(book.staying())), now).min(most)
        };
        self.reserve_shared(book, count, now)
    }

    /// One place, if there is one, whoever may want it.
    pub(crate) fn try_reserve(self: &Arc<Self>) -> Option<Permit<E>> {
        let mut book = self.book.lock();
        if book.phase != Phase::Open || book.limits.max_size <= book.taken {
            return None;
        }
        let place = match &self.account {
            Some(account) => Some(account.take(false)?),
            None => None,
        };
        Some(self.reserve(&mut book, place))
    }

    pub(super) fn reserve(self: &Arc<Self>, book: &mut Book<E>, place: Option<Place>) -> Permit<E> {
        let slot = book.free.pop().map_or_else(
            || {
                book.fresh += 1;
                book.fresh - 1
            },
            |Reverse(slot)| slot,
        );
        self.shelf.prepare(slot);
        if let Some(slot) = self.shelf.slot(slot) {
            slot.set_mark(Mark::BUSY);
        }
        book.taken += 1;
        book.opening += 1;
        Permit { rack: Arc::clone(self), slot, opening: true, void: false, place }
    }

    /// Whether anybody still wants a connection that is about to be opened: a returned one may have served.
    pub(crate) fn still_wanted(&self, now: Moment) -> bool {
        let book = self.book.lock();
        book.phase != Phase::Closed
            && (book.outage.is_some()
                || book.staying() <= book.warm
                || book.demand(self.shelf.idle()) >= book.opening + book.promising(now))
    }

    /// An attempt to open `permit`'s connection begins. It ends when the connection is open, or the permit gone.
    pub(crate) fn connect_begins(&self, permit: &Permit<E>, now: Moment) {
        self.book.lock().attempts.insert(permit.slot, now);
    }

    /// Says that `permit`'s connection is open. The server is there, so an outage is over; returns it. The connection
    /// counts as one that is about to come free until [`Pending`] is dropped, which is to be when it lies on the
    /// shelf: who looks in between must not open another one.
    pub(crate) fn opened(
        self: &Arc<Self>,
        permit: &mut Permit<E>,
        successor: bool,
        now: Moment,
    ) -> (Option<Outage>, Pending<E>) {
        let mut book = self.book.lock();
        debug_assert!(permit.opening, "opened twice");
        permit.opening = false;
        book.opened += 1;
        book.attempts.remove(&permit.slot);
        book.answered = book.answered.max(now);
        book.arriving += 1;
        if successor {
            book.successors += 1;
        } else {
            book.owed = book.owed.saturating_sub(1);
        }
        let outage = book.outage.take();
        book.gate = book.gate.saturating_mul(2);
        self.leave(book, Vec::new());
        (outage, Pending { rack: Arc::clone(self), what: What::Opening, answered: None })
    }

    /// Says that connecting has failed.
    pub(crate) fn connect_failed(
        &self,
        cause: &Cause,
        permanent: bool,
        now: Moment,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Failed {
        let mut book = self.book.lock();
        let before = book.outage.take();
        let failures = match &before {
            // Attempts that were begun together count once.
            Some(outage) if now < outage.retry_at => outage.failures,
            Some(outage) => outage.failures.saturating_add(1),
            None => 1,
        };
        let retry_at = match &before {
            Some(outage) if now < outage.retry_at => outage.retry_at,
            _ => now.after(delay(failures)),
        };
        let (since, asked) = before.as_ref().map_or((now, now), |outage| (outage.since, outage.asked));
        book.outage = Some(Outage { cause: Arc::clone(cause), since, asked, failures, retry_at, permanent });
        book.gate = 1;
        self.leave(book, Vec::new());
        Failed { failures, retry_at, news: before.is_none() }
    }

    /// The outage, if those who wait should not go on, and whether that is all of them: else only those who have another
    /// pool to go to.
    pub(crate) fn hopeless(&self, now: Moment) -> Option<(Outage, bool)> {
        let book = self.book.lock();
        if let Some(outage) = book.hopeless(now, false) {
            return Some((outage.clone(), true));
        }
        let outage = book.hopeless(now, true).filter(|_| book.queue.any_elsewhere())?;
        Some((outage.clone(), false))
    }

    /// Sends away all who wait, or only those who have another pool to go to.
    pub(crate) fn fail_waiters(&self, error: &Error, all: bool) {
        let mut book = self.book.lock();
        let mut rung = if all { book.queue.fail(error) } else { book.queue.fail_elsewhere(error) };
        // One of those who left may have been told to look, and will not.
        rung.extend(self.pass_on(&mut book));
        self.leave(book, rung);
    }

    /// Takes the permit's place back.
    fn vacate(&self, book: &mut Book<E>, permit: &mut Permit<E>) -> Vec<Arc<Waiter<E>>> {
        if std::mem::replace(&mut permit.void, true) {
            return Vec::new();
        }
        book.deadlock = false;
        book.taken -= 1;
        book.opening -= u32::from(permit.opening);
        book.attempts.remove(&permit.slot);
        book.free.push(Reverse(permit.slot));
        if let Some(slot) = self.shelf.slot(permit.slot) {
            slot.set_mark(Mark::VACANT);
        }
        // One who is awake already will come by the book and see the place.
        if book.queue.awake() == 0 { book.queue.rouse(1) } else { Vec::new() }
    }

    /// A check begins: its connection counts as one that is about to come free.
    pub(crate) fn check_begins(self: &Arc<Self>, now: Moment) -> Pending<E> {
        let mut book = self.book.lock();
        book.next_check += 1;
        let number = book.next_check;
        book.checks.insert(number, now);
        Pending { rack: Arc::clone(self), what: What::Checking(number), answered: None }
    }

    /// Fewer checks are under way than callers wait: one more idle connection may be checked for them.
    pub(crate) fn may_check(&self, now: Moment) -> bool {
        let book = self.book.lock();
        book.promising(now) < book.queue.len().max(1)
    }

    /// Has somebody look for another connection if those wait who counted on a check that may hang. Returns when the next check
    /// will have taken that long.
    pub(crate) fn hedge(&self, now: Moment) -> Option<Moment> {
        let mut book = self.book.lock();
        if book.promising(now) < book.checks.len() as u32 && book.queue.awake() == 0 && book.phase == Phase::Open {
            let rung = book.queue.rouse(1);
            self.leave(book, rung);
            book = self.book.lock();
        }
        book.checks.values().map(|begun| begun.after(SLOW_CHECK)).filter(|end| *end > now).min()
    }

    /// A connection was retired that is to be replaced, unless its successor is open already.
    pub(crate) fn owe(&self) {
        let mut book = self.book.lock();
        if book.successors > 0 {
            book.successors -= 1;
        } else {
            book.owed += 1;
        }
    }

    /// Whether a connection may be retired without one being missed.
    pub(crate) fn has_successor(&self) -> bool {
        self.book.lock().successors > 0
    }

    /// Takes over the permit of a connection that is about to be closed.
    pub(crate) fn close_begins(&self, connection: u64, mut permit: Permit<E>, now: Moment, reason: CloseReason) {
        let condemned = matches!(reason, CloseReason::Resize | CloseReason::Budget);
        if let Some(place) = permit.place.as_mut().filter(|_| reason == CloseReason::Budget) {
            place.give_up();
        }
        if let Some(slot) = self.shelf.slot(permit.slot) {
            slot.set_mark(Mark::BUSY);
        }
        let mut book = self.book.lock();
        book.condemned = book.condemned.saturating_sub(u32::from(condemned));
        book.closing.insert(connection, (permit, now));
        self.leave(book, Vec::new());
    }

    /// The connection is closed: its place is free, if it was not given away meanwhile. Says whether another one may be given
    /// away now that could not before.
    pub(crate) fn close_ends(&self, connection: u64, reason: CloseReason) -> bool {
        let mut book = self.book.lock();
        book.closed.count(reason);
        let mut closed = book.closing.remove(&connection);
        // In one step with the removal: in between, the connection would count as one too many.
        let rung = match &mut closed {
            Some((permit, _)) => self.vacate(&mut book, permit),
            None => {
                book.overdue -= 1;
                Vec::new()
            }
        };
        let others = closed.is_none() && !book.closing.is_empty();
        self.leave(book, rung);
        others
    }

    /// The connection is somebody's own now.
    pub(crate) fn detach(&self, mut permit: Permit<E>) {
        let mut book = self.book.lock();
        book.closed.count(CloseReason::Detached);
        let rung = self.vacate(&mut book, &mut permit);
        self.leave(book, rung);
    }

    /// Gives away the places of connections that have been closing since before `limit`, as long as not too many hang. Returns
    /// the oldest of the others that may be given away when its time comes.
    pub(crate) fn give_up_slow_closes(&self, limit: Moment) -> Option<Moment> {
        let mut book = self.book.lock();
        let mut closing: Vec<_> = book.closing.iter().map(|(id, (_, since))| (*since, *id)).collect();
        closing.sort_unstable();
        closing.truncate(book.limits.max_size.max(OVERDUE).saturating_sub(book.overdue) as usize);
        let slow = closing.partition_point(|(since, _)| *since <= limit);
        let next = closing.get(slow).map(|(since, _)| *since);
        let mut permits: Vec<_> = closing.iter().take(slow).filter_map(|(_, id)| book.closing.remove(id)).collect();
        book.overdue += permits.len() as u32;
        let rung = permits.iter_mut().flat_map(|(permit, _)| self.vacate(&mut book, permit)).collect();
        self.leave(book, rung);
        next
    }
}

/// The right to one connection. Dropping it gives the place back and wakes somebody.
#[derive(Debug)]
pub(crate) struct Permit<E: Send + 'static> {
    rack: Arc<Rack<E>>,
    slot: u32,
    opening: bool,
    /// Its place has been given back already.
    void: bool,
    /// What the budget gave for it. It goes back when the permit is gone, and so after the book has been left.
    place: Option<Place>,
}

impl<E: Send + 'static> Permit<E> {
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    #[inline]
    pub(crate) fn rack(&self) -> &Arc<Rack<E>> {
        &self.rack
    }
}

impl<E: Send + 'static> Drop for Permit<E> {
    fn drop(&mut self) {
        if !self.void {
            let rack = Arc::clone(&self.rack);
            let mut book = rack.book.lock();
            let rung = rack.vacate(&mut book, self);
            rack.leave(book, rung);
        }
    }
}

/// A connection that is about to come free: just opened, or being checked.
#[derive(Debug)]
pub(crate) struct Pending<E: Send + 'static> {
    rack: Arc<Rack<E>>,
    what: What,
    answered: Option<Moment>,
}

impl<E: Send + 'static> Pending<E> {
    /// The check has passed: the server was there at that time.
    pub(crate) fn passed(&mut self, at: Moment) {
        self.answered = Some(at);
    }
}

#[derive(Debug)]
enum What {
    Opening,
    Checking(u64),
}

impl<E: Send + 'static> Drop for Pending<E> {
    fn drop(&mut self) {
        let mut book = self.rack.book.lock();
        book.answered = self.answered.map_or(book.answered, |at| at.max(book.answered));
        match self.what {
            What::Opening => {
                book.opening -= 1;
                book.arriving -= 1;
            }
            What::Checking(number) => drop(book.checks.remove(&number)),
        }
        // Those who counted on it, and did not get it, may have to open one after all.
        let rung = self.rack.pass_on(&mut book);
        self.rack.leave(book, rung);
    }
}
