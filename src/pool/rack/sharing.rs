//! The book of a pool that shares a budget with others: who stands in line there, and what is given up for them.
//!
//! The lock of the book comes before that of the budget's ledger, and no two books are locked at once: what is to be done in
//! another pool is done after the book has been left, by `leave`, which ends in [`Rack::settle_account`]. What is called from there
//! ends in `unlock`.

#![allow(
    clippy::significant_drop_tightening,
    reason = "every lock of the book ends in `leave`, which brings the alert up to date before it unlocks"
)]

use super::Rack;
use super::book::{Book, Phase};
use super::door::Unwanted;
use super::places::Permit;
use crate::clock::{Moment, ticks_between};
use crate::event::CloseReason;
use crate::pool::shelf::Mark;
use crate::sync::{Ordering, fence};
use std::sync::Arc;

impl<E: Send + 'static> Rack<E> {
    /// Reserves up to `count` places, as far as the budget has them. The pool stands in line afterwards if it did not have one
    /// for a caller that waits.
    pub(super) fn reserve_shared(self: &Arc<Self>, book: &mut Book<E>, count: u32, now: Moment) -> Vec<Permit<E>> {
        let Some(account) = &self.account else {
            return (0..count).map(|_| self.reserve(book, None)).collect();
        };
        let waiting = book.in_need(now);
        if (count == 0 || waiting == 0) && book.queue.awake() == 0 {
            // Also where nothing may be opened now, say while connecting fails: whoever waits plans again when that is over. Who
            // is awake has yet to say what it needs.
            account.leave_line();
        }
        let places = (0..count).map_while(|n| account.take(n < waiting));
        places.map(|place| self.reserve(book, Some(place))).collect()
    }

    /// Leaves the line where nobody waits who could use a place, and offers what lies idle then.
    pub(super) fn leave_line(&self, book: &Book<E>) {
        if let Some(account) = self.account.as_ref().filter(|account| account.is_contended())
            && (!book.anybody_waits() || book.phase != Phase::Open)
        {
            account.leave_line();
            if self.shelf.any_idle() {
                account.has_more();
            }
        }
    }

    /// Sees to the other pools of the budget. To be called without the lock of the book.
    pub(super) fn settle_account(&self) {
        if let Some(account) = &self.account {
            account.settle();
        }
    }

    /// Has somebody look who waits: there may be a place. Says whether anybody does.
    pub(crate) fn invite(&self) -> bool {
        let mut book = self.book.lock();
        let waits = book.phase == Phase::Open && book.anybody_waits();
        self.leave_line(&book);
        // One who is awake already will come by the book and see the place.
        let rung = if waits && book.queue.awake() == 0 { book.queue.rouse(1) } else { Vec::new() };
        self.unlock(book, rung);
        waits
    }

    /// Takes off the shelf what another pool needs more. Whoever brings a connection back from now on sees the alert.
    pub(crate) fn shed(&self, now: Moment) -> Unwanted<E> {
        let book = self.book.lock();
        self.unlock(book, Vec::new());
        // As in `close`: who published a connection before it could see the alert is seen below.
        fence(Ordering::SeqCst);
        let mut book = self.book.lock();
        let given = self.give_up_idle(&mut book, now);
        self.unlock(book, Vec::new());
        Unwanted::new(given, CloseReason::Budget)
    }

    /// What lies idle for longest goes first.
    pub(super) fn give_up_idle(&self, book: &mut Book<E>, now: Moment) -> Vec<Box<E>> {
        let mut given = Vec::new();
        let Some(account) = self.account.as_ref().filter(|account| is_free(book) && account.is_short()) else {
            return given;
        };
        let idle = self.shelf.each().filter(|(_, slot)| slot.mark().is_idle());
        let mut idle: Vec<_> =
            idle.map(|(index, slot)| (ticks_between(slot.idle_since(), now.tick()), index)).collect();
        idle.sort_unstable_by_key(|&(age, _)| std::cmp::Reverse(age));
        for (_, index) in idle {
            let Some(taken) = self.shelf.take_at(index, 0, u32::MAX) else { continue };
            if !account.gives_up(true, false) {
                // Nobody can have missed it for good meanwhile: there is no queue, and who is about to enter it looks then.
                taken.slot.publish(taken.entry, taken.mark);
                break;
            }
            taken.slot.set_mark(Mark::BUSY);
            given.push(taken.entry);
        }
        book.condemned += given.len() as u32;
        given
    }

    /// Whether a connection that comes back is to be given up.
    pub(super) fn is_needed_elsewhere(&self, book: &Book<E>, slot: u32) -> bool {
        let Some(account) = self.account.as_ref().filter(|account| account.is_contended()) else { return false };
        let used = self.shelf.slot(slot).is_some_and(|slot| slot.mark().is_lent());
        account.gives_up(is_free(book), used)
    }
}

/// Whether nobody here can use a connection that lies idle.
fn is_free<E: Send + 'static>(book: &Book<E>) -> bool {
    book.phase != Phase::Open || !book.anybody_waits()
}
