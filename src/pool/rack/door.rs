//! The door, the one way in which a connection becomes available, and the queue before it.

#![allow(
    clippy::significant_drop_tightening,
    reason = "every lock of the book ends in `leave`, which brings the alert up to date before it unlocks"
)]

use super::Rack;
use super::book::{Book, Numbers, Phase, Refusal};
use crate::clock::Moment;
use crate::event::CloseReason;
use crate::pool::shelf::{Mark, Put, Taken};
use crate::pool::waiters::{Ticket, Waiter, Word};
use crate::sync::{Ordering, fence};
use std::sync::Arc;

/// Connections that are to be closed.
#[derive(Debug)]
#[must_use = "they are out of the books, and hold their places until they are closed"]
pub(crate) struct Unwanted<E> {
    pub(crate) entries: Vec<Box<E>>,
    pub(crate) reason: CloseReason,
}

impl<E> Unwanted<E> {
    pub(super) const fn new(entries: Vec<Box<E>>, reason: CloseReason) -> Self {
        Self { entries, reason }
    }

    const fn none() -> Self {
        Self::new(Vec::new(), CloseReason::Resize)
    }
}

impl<E: Send + 'static> Rack<E> {
    /// Deals with what [`Shelf::put`] could not.
    #[cold]
    pub(crate) fn settle(&self, put: Put<E>, slot: u32, mark: Mark, now: Moment) -> Unwanted<E> {
        match put {
            Put::Done => Unwanted::none(),
            Put::Refused(entry) => self.offer(slot, entry, mark, now),
            Put::Look => self.look(now),
        }
    }

    fn offer(&self, slot: u32, entry: Box<E>, mark: Mark, now: Moment) -> Unwanted<E> {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return Unwanted::new(vec![entry], CloseReason::PoolClosed);
        }
        let too_many = book.surplus() > 0;
        if too_many || self.is_needed_elsewhere(&book, slot) {
            book.condemned += 1;
            self.leave(book, Vec::new());
            let reason = if too_many { CloseReason::Resize } else { CloseReason::Budget };
            return Unwanted::new(vec![entry], reason);
        }
        let rung = match self.shelf.slot(slot) {
            Some(slot) => self.assign(&mut book, Taken { slot, entry, mark }, now),
            None => Vec::new(),
        };
        self.leave(book, rung);
        Unwanted::none()
    }

    /// Gives the connection to the oldest waiter if that one has waited long enough; else puts it on the shelf and
    /// wakes somebody to come and get it.
    fn assign(&self, book: &mut Book<E>, taken: Taken<'_, E>, now: Moment) -> Vec<Arc<Waiter<E>>> {
        let Taken { slot, mut entry, mark } = taken;
        book.deadlock = false;
        let due = book
            .queue
            .oldest()
            .is_some_and(|since| book.limits.patience.is_none_or(|patience| now.since(since) >= patience));
        if due && book.phase == Phase::Open {
            // The previous borrower's record ends here; the new one writes its own when it runs.
            slot.set_mark(Mark::BUSY);
            match book.queue.give(entry) {
                Ok((waiter, asleep)) => {
                    // It may have been about to look for something else, and will not do that now.
                    let mut rung = if asleep { Vec::new() } else { self.pass_on(book) };
                    rung.push(waiter);
                    return rung;
                }
                Err(back) => entry = back,
            }
        }
        slot.publish(entry, mark);
        // Never more awake than there are connections: the others would only find an empty shelf.
        if book.phase == Phase::Open && book.queue.awake() < book.taken { book.queue.rouse(1) } else { Vec::new() }
    }

    /// Looks at the shelf for those who wait.
    pub(crate) fn look(&self, now: Moment) -> Unwanted<E> {
        let mut book = self.book.lock();
        match book.phase {
            Phase::Closed => {
                drop(book);
                return Unwanted::new(self.drain(u32::MAX), CloseReason::PoolClosed);
            }
            Phase::Paused | Phase::Rejecting => {
                let given = self.give_up_idle(&mut book, now);
                self.leave(book, Vec::new());
                return Unwanted::new(given, CloseReason::Budget);
            }
            Phase::Open => {}
        }
        let surplus = self.condemn(&mut book);
        if !surplus.is_empty() {
            self.leave(book, Vec::new());
            return Unwanted::new(surplus, CloseReason::Resize);
        }
        let given = self.give_up_idle(&mut book, now);
        if !given.is_empty() {
            self.leave(book, Vec::new());
            return Unwanted::new(given, CloseReason::Budget);
        }
        if book.queue.sleepers() > 0
            && let Some((_, taken)) = self.shelf.take_first(0, u32::MAX)
        {
            let rung = self.assign(&mut book, taken, now);
            self.leave(book, rung);
        }
        Unwanted::none()
    }

    /// Takes idle connections off the shelf that there is no room for any more. They are to be closed.
    pub(super) fn condemn(&self, book: &mut Book<E>) -> Vec<Box<E>> {
        let surplus = self.drain(book.surplus());
        book.condemned += surplus.len() as u32;
        surplus
    }

    /// Takes up to `count` idle connections off the shelf, highest places first.
    pub(crate) fn drain(&self, count: u32) -> Vec<Box<E>> {
        let indices: Vec<_> = self.shelf.each().map(|(index, _)| index).collect();
        indices
            .into_iter()
            .rev()
            .filter_map(|index| {
                let taken = self.shelf.take_at(index, 0, u32::MAX)?;
                taken.slot.set_mark(Mark::BUSY);
                Some(taken.entry)
            })
            .take(count as usize)
            .collect()
    }

    /// Enters the queue. Whoever has entered looks at the shelf once more before it sleeps.
    pub(crate) fn enter(&self, waiter: &Arc<Waiter<E>>, now: Moment) -> Result<Ticket, Refusal> {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return Err(Refusal::Closed);
        }
        if book.phase == Phase::Rejecting {
            return Err(Refusal::Paused);
        }
        if book.limits.max_waiting.is_some_and(|max| book.queue.len() >= max) {
            return Err(Refusal::Overloaded);
        }
        let ticket = book.queue.enter(Arc::clone(waiter), now);
        self.unlock(book, Vec::new());
        announce();
        Ok(ticket)
    }

    /// Comes back to the old place in the queue, after a connection that was given turned out not to be good.
    pub(crate) fn enter_again(&self, waiter: &Arc<Waiter<E>>, ticket: Ticket) -> Result<(), Refusal> {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return Err(Refusal::Closed);
        }
        if book.phase == Phase::Rejecting {
            return Err(Refusal::Paused);
        }
        book.queue.enter_again(Arc::clone(waiter), ticket);
        self.unlock(book, Vec::new());
        announce();
        Ok(())
    }

    /// Says that the waiter goes back to sleep; it looks at the shelf once more before it does.
    pub(crate) fn rest(&self, ticket: Ticket) {
        let mut book = self.book.lock();
        book.queue.rest(ticket);
        self.unlock(book, Vec::new());
        announce();
    }

    /// Writes down whether all connections are held by threads that wait for one. Asked when a thread that holds one
    /// begins to wait: only such a one can be the last of them. One thread alone, which waits for itself, is not meant:
    /// its error says that it holds them.
    pub(crate) fn note_deadlock(&self) {
        let mut book = self.book.lock();
        let waiting = book.queue.threads();
        let held = self.shelf.each().map(|(_, slot)| slot.mark()).filter(|mark| mark.is_lent());
        let held_by: Vec<u32> = held.map(Mark::thread).collect();
        book.deadlock = held_by.len() as u32 == book.limits.max_size
            && held_by.iter().all(|thread| waiting.contains(thread))
            && held_by.iter().any(|thread| Some(thread) != held_by.first());
    }

    /// Leaves the queue. What was put into the waiter's cell in the last moment is returned.
    pub(crate) fn withdraw(&self, ticket: Ticket, waiter: &Waiter<E>) -> Word<E> {
        self.give_up(ticket, waiter).0
    }

    /// The same, with the numbers of that moment, so that a crowd that gives up takes the lock once each.
    pub(crate) fn give_up(&self, ticket: Ticket, waiter: &Waiter<E>) -> (Word<E>, Numbers) {
        let mut book = self.book.lock();
        let (word, asleep) = book.queue.leave(ticket, waiter);
        let numbers = book.numbers();
        let rung = if asleep { Vec::new() } else { self.pass_on(&mut book) };
        self.leave(book, rung);
        (word, numbers)
    }

    /// Wakes another waiter if something is free that the one before might have taken.
    pub(super) fn pass_on(&self, book: &mut Book<E>) -> Vec<Arc<Waiter<E>>> {
        let free = book.phase == Phase::Open
            && book.queue.awake() == 0
            && book.queue.sleepers() > 0
            && (book.room() > 0 || self.shelf.any_idle());
        if free { book.queue.rouse(1) } else { Vec::new() }
    }
}

/// The waiter's half of the announcement: the raised alert is published before the shelf is looked at. Its other half
/// is in [`Shelf::put`].
fn announce() {
    fence(Ordering::SeqCst);
}
