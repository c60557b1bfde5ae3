//! The book of places: who may connect, who waits, and what state the pool is in.
//!
//! [`Rack`] joins the shelf, which is used without a lock, with the book, which has one. The book decides; it calls
//! no user code, reads no clock and opens nothing. What its functions return is to be done by the caller, after
//! the lock has been left.
//!
//! **Capacity.** A [`Permit`] is the right to one connection, from the moment its opening is planned until it has been
//! closed. There are never more than `limit`, so there are never more connections. Dropping one gives the place
//! back and wakes a waiter, on every path, panics included.
//!
//! **A budget** over several pools is asked for a place before one is given, and what it gave goes back with the permit. So
//! what holds for the maximum holds for the budget (`sharing.rs`).
//!
//! **No forgotten waiter.** Whenever something is free (a connection on the shelf, or a place for a new one) and
//! somebody waits, then at least one waiter has not gone to sleep yet. Such a waiter looks at the shelf and then,
//! under the lock, at the places before it sleeps; when it leaves instead, because it found or was given a connection
//! or because its time is over, it passes the word on if anything is still free ([`Rack::pass_on`]).

#![allow(
    clippy::significant_drop_tightening,
    reason = "every lock of the book ends in `leave`, which brings the alert up to date before it unlocks"
)]

mod book;
mod door;
mod places;
mod sharing;

pub(crate) use book::{Limits, Numbers, Outage, Phase, Refusal, SLOW_CHECK};
#[cfg(all(test, loom))]
pub(crate) use door::Unwanted;
pub(crate) use places::{Pending, Permit};

use crate::budget::Account;
use crate::clock::Moment;
use crate::error::Error;
use crate::pool::shelf::{CLOSED, PAUSED, SURPLUS, Shelf};
use crate::pool::waiters::Waiter;
use crate::sync::{Condvar, Mutex, MutexGuard, Ordering, fence};
use book::Book;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The shelf and the book.
#[derive(Debug)]
pub(crate) struct Rack<E: Send + 'static> {
    pub(crate) id: u64,
    pub(crate) shelf: Shelf<E>,
    /// With a budget that the pool shares with others.
    pub(crate) account: Option<Account>,
    /// The maximum, for those who compare pools and take no lock for it.
    pub(crate) limit: AtomicU32,
    book: Mutex<Book<E>>,
    changed: Condvar,
}

impl<E: Send + 'static> Rack<E> {
    pub(crate) fn new(id: u64, limits: Limits, account: Option<Account>) -> Self {
        Self {
            id,
            shelf: Shelf::new(limits.max_size),
            account,
            limit: AtomicU32::new(limits.max_size),
            book: Mutex::new(Book::new(limits)),
            changed: Condvar::new(),
        }
    }

    /// Closes the pool. Returns whether it was open, and the idle connections, which are to be closed.
    pub(crate) fn close(&self, error: &Error) -> (bool, Vec<Box<E>>) {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return (false, Vec::new());
        }
        book.phase = Phase::Closed;
        let rung = book.queue.fail(error);
        self.leave(book, rung);
        if let Some(account) = &self.account {
            account.close();
            account.settle();
        }
        // The other half of the fence in `Shelf::put`: whoever published a connection before it saw the alert is
        // seen here; whoever publishes later sees the alert and comes to `look`.
        fence(Ordering::SeqCst);
        (true, self.drain(u32::MAX))
    }

    /// Stops lending. With an error, those who wait are sent away with it, and so is who comes. Says whether that is new.
    pub(crate) fn pause(&self, reject: Option<&Error>) -> bool {
        let mut book = self.book.lock();
        let phase = if reject.is_some() { Phase::Rejecting } else { Phase::Paused };
        if book.phase == Phase::Closed || book.phase == phase {
            return false;
        }
        book.phase = phase;
        let rung = reject.map_or_else(Vec::new, |error| book.queue.fail(error));
        self.leave(book, rung);
        true
    }

    pub(crate) fn resume(&self) -> bool {
        let mut book = self.book.lock();
        let was_paused = matches!(book.phase, Phase::Paused | Phase::Rejecting);
        let mut rung = Vec::new();
        if was_paused {
            book.phase = Phase::Open;
            let all = book.limits.max_size;
            rung = book.queue.rouse(all);
        }
        self.leave(book, rung);
        was_paused
    }

    /// Changes the maximum. Returns what it was, and idle connections that there is no more room for.
    pub(crate) fn resize(&self, max_size: u32) -> (u32, Vec<Box<E>>) {
        let mut book = self.book.lock();
        let before = book.limits.max_size;
        let grown = max_size.saturating_sub(before);
        book.limits.max_size = max_size;
        self.limit.store(max_size, Ordering::Relaxed);
        book.limits.min_idle = book.limits.min_idle.min(max_size);
        let rung = book.queue.rouse(grown);
        self.leave(book, rung);
        // As in `close`: who published a connection before it could see the alert is seen below.
        fence(Ordering::SeqCst);
        let mut book = self.book.lock();
        let surplus = self.condemn(&mut book);
        self.leave(book, Vec::new());
        (before, surplus)
    }

    /// Whether somebody waits for whom no connection is being opened, checked or closed, because there are as many as there may
    /// be.
    pub(crate) fn is_full(&self) -> bool {
        let book = self.book.lock();
        let coming = book.opening + book.checks.len() as u32 + book.closing.len() as u32;
        book.phase == Phase::Open && book.taken >= book.limits.max_size && book.queue.len() > coming
    }

    pub(crate) fn set_min_idle(&self, min_idle: u32) {
        let mut book = self.book.lock();
        book.limits.min_idle = min_idle.min(book.limits.max_size);
    }

    /// Somebody wants connections, so attempts go on for a while, however long connecting has failed.
    pub(crate) fn ask_again(&self, now: Moment) {
        if let Some(outage) = &mut self.book.lock().outage {
            outage.asked = now;
        }
    }

    /// Somebody waits for connections, but not in the queue: attempts go on for as long as the result is kept.
    pub(crate) fn ask_for(&self) -> Asking<'_, E> {
        self.book.lock().asking += 1;
        Asking(self)
    }

    /// When the next attempt is to be made while connecting fails, if one is.
    pub(crate) fn next_attempt(&self, now: Moment) -> Option<Moment> {
        let book = self.book.lock();
        let may = book.phase == Phase::Open && book.opening == 0 && book.room() > 0 && book.tries_on(now);
        book.outage.as_ref().filter(|_| may).map(|outage| outage.retry_at)
    }

    pub(crate) fn set_warm(&self, warm: u32) {
        self.book.lock().warm = warm;
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let book = self.book.lock();
        book.numbers()
    }

    /// Waits until `done` says so of the book's numbers; `left` tells for how long, and `None` ends it.
    pub(crate) fn watch(&self, mut done: impl FnMut(&Numbers) -> bool, left: impl FnMut() -> Option<Duration>) -> bool {
        self.watch_book(|book| done(&book.numbers()), left)
    }

    fn watch_book(&self, mut done: impl FnMut(&Book<E>) -> bool, mut left: impl FnMut() -> Option<Duration>) -> bool {
        let mut book = self.book.lock();
        book.watchers += 1;
        let result = loop {
            if done(&book) {
                break true;
            }
            let Some(left) = left() else { break false };
            self.changed.wait_for(&mut book, left);
        };
        book.watchers -= 1;
        result
    }

    /// Whether nobody has a connection, of a pool that lends none: all that there are lie on the shelf, or are being opened,
    /// checked or closed. One that was given to somebody who has not woken up yet is neither.
    fn is_quiet(&self, book: &Book<E>) -> bool {
        let mut shelved = 0;
        for (index, slot) in self.shelf.each() {
            if slot.mark().is_lent() {
                return false;
            }
            // A slot's word says "idle" until whoever took the connection has written its own name there.
            if slot.mark().is_idle() && book.phase != Phase::Open {
                let Some(taken) = self.shelf.take_at(index, 0, u32::MAX) else { return false };
                slot.publish(taken.entry, taken.mark);
                shelved += 1;
            }
        }
        let busy = book.opening + book.checks.len() as u32 + book.closing.len() as u32;
        book.phase == Phase::Open || shelved + busy == book.taken
    }

    /// Whether the pool is closed, and all that it had.
    pub(crate) fn is_over(&self) -> bool {
        let book = self.book.lock();
        book.phase == Phase::Closed && book.taken == 0 && book.overdue == 0
    }

    /// Waits until nobody has a connection.
    pub(crate) fn watch_quiet(&self, left: impl FnMut() -> Option<Duration>) -> bool {
        self.watch_book(|book| self.is_quiet(book), left)
    }

    /// Leaves the book: brings the alert up to date, unlocks, and then rings; and sees to those who share the budget.
    fn leave(&self, book: MutexGuard<'_, Book<E>>, rung: Vec<Arc<Waiter<E>>>) {
        self.leave_line(&book);
        self.unlock(book, rung);
        self.settle_account();
    }

    /// The same for who comes to look at its own shelf and places next, or was sent here by the budget.
    fn unlock(&self, mut book: MutexGuard<'_, Book<E>>, rung: Vec<Arc<Waiter<E>>>) {
        let mut alert = book.queue.sleepers();
        if book.phase == Phase::Closed {
            alert |= CLOSED;
        }
        if matches!(book.phase, Phase::Paused | Phase::Rejecting) {
            alert |= PAUSED;
        }
        if book.surplus() > 0 || self.account.as_ref().is_some_and(Account::is_contended) {
            alert |= SURPLUS;
        }
        if std::mem::replace(&mut book.alert, alert) != alert {
            self.shelf.set_alert(alert);
        }
        let watched = book.watchers > 0;
        drop(book);
        if watched {
            self.changed.notify_all();
        }
        for waiter in rung {
            waiter.ring();
        }
    }
}

/// Somebody waits for connections, but not in the queue.
#[derive(Debug)]
pub(crate) struct Asking<'a, E: Send + 'static>(&'a Rack<E>);

impl<E: Send + 'static> Drop for Asking<'_, E> {
    fn drop(&mut self) {
        let mut book = self.0.book.lock();
        book.asking -= 1;
        self.0.leave(book, Vec::new());
    }
}
