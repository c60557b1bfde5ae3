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
//! **No forgotten waiter.** Whenever something is free (a connection on the shelf, or a place for a new one) and
//! somebody waits, then at least one waiter has not gone to sleep yet. Such a waiter looks at the shelf and then,
//! under the lock, at the places before it sleeps; when it leaves instead, because it found or was given a connection
//! or because its time is over, it passes the word on if anything is still free ([`Rack::pass_on`]).

#![allow(
    clippy::significant_drop_tightening,
    reason = "every lock of the book ends in `leave`, which brings the alert up to date before it unlocks"
)]

use crate::clock::Moment;
use crate::error::{Cause, Error};
use crate::event::CloseReason;
use crate::pool::shelf::{CLOSED, Mark, PAUSED, Put, SURPLUS, Shelf, Taken};
use crate::pool::waiters::{Queue, Ticket, Waiter, Word};
use crate::sync::{Condvar, Mutex, MutexGuard, Ordering, fence};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    Paused,
    Closed,
}

/// Connecting fails at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) cause: Cause,
    pub(crate) failures: u32,
    pub(crate) retry_at: Moment,
    /// Trying again is not expected to help.
    pub(crate) permanent: bool,
}

/// What the book makes of a failed attempt to connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) failures: u32,
    pub(crate) retry_at: Moment,
    /// It is the first one since the last success.
    pub(crate) news: bool,
}

/// The numbers that the book goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_size: u32,
    pub(crate) min_idle: u32,
    pub(crate) max_connecting: u32,
    pub(crate) max_waiting: Option<u32>,
    /// How long the oldest waiter is passed over by newcomers; `None`: never.
    pub(crate) patience: Option<Duration>,
}

/// Why a newcomer may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Overloaded,
}

#[derive(Debug)]
struct Book<E: Send + 'static> {
    phase: Phase,
    queue: Queue<E>,
    limits: Limits,
    /// Permits that are out.
    taken: u32,
    /// Those of them whose connection is being opened.
    opening: u32,
    /// Those of these that are open and on their way to the shelf.
    arriving: u32,
    /// Connections whose check is under way.
    checking: u32,
    /// Places that were used before, lowest first.
    free: BinaryHeap<Reverse<u32>>,
    /// The lowest place never used.
    fresh: u32,
    /// Replacements for connections that were retired by age.
    owed: u32,
    /// Replacements that are open already.
    prepaid: u32,
    /// Until the pool has been built: how many connections it is to have.
    warm: u32,
    outage: Option<Outage>,
    /// Permits of connections that are being closed, and since when.
    closing: HashMap<u64, (Permit<E>, Moment)>,
    /// Connections that were found to be too many and are on their way to be closed.
    condemned: u32,
    /// Connections that take so long to close that their place was given away.
    overdue: u32,
    /// Somebody waits on `changed`.
    watchers: u32,
}

/// The shelf and the book.
#[derive(Debug)]
pub(crate) struct Rack<E: Send + 'static> {
    pub(crate) id: u64,
    pub(crate) shelf: Shelf<E>,
    book: Mutex<Book<E>>,
    changed: Condvar,
}

/// What the book says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) phase: Phase,
    pub(crate) max_size: u32,
    pub(crate) min_idle: u32,
    pub(crate) taken: u32,
    /// Open and, unless somebody has them, on the shelf.
    pub(crate) ready: u32,
    pub(crate) opening: u32,
    pub(crate) checking: u32,
    pub(crate) closing: u32,
    pub(crate) overdue: u32,
    pub(crate) waiting: u32,
    pub(crate) outage: Option<Outage>,
}

impl<E: Send + 'static> Rack<E> {
    pub(crate) fn new(id: u64, limits: Limits) -> Self {
        Self {
            id,
            shelf: Shelf::new(limits.max_size),
            book: Mutex::new(Book {
                phase: Phase::Open,
                queue: Queue::new(),
                limits,
                taken: 0,
                opening: 0,
                arriving: 0,
                checking: 0,
                free: BinaryHeap::new(),
                fresh: 0,
                owed: 0,
                prepaid: 0,
                warm: 0,
                outage: None,
                closing: HashMap::new(),
                condemned: 0,
                overdue: 0,
                watchers: 0,
            }),
            changed: Condvar::new(),
        }
    }

    // ---- the door: the one way in which a connection becomes available ----

    /// Deals with what [`Shelf::put`] could not. Returns connections that are to be closed.
    #[cold]
    pub(crate) fn settle(&self, put: Put<E>, slot: u32, mark: Mark, now: Moment) -> Vec<Box<E>> {
        match put {
            Put::Done => Vec::new(),
            Put::Refused(entry) => self.offer(slot, entry, mark, now),
            Put::Look => self.look(now),
        }
    }

    /// What the connections are to be closed for that [`settle`](Self::settle) and [`look`](Self::look) return.
    pub(crate) fn unwanted_because(&self) -> CloseReason {
        if self.shelf.alert() & CLOSED == 0 { CloseReason::Resize } else { CloseReason::PoolClosed }
    }

    fn offer(&self, slot: u32, entry: Box<E>, mark: Mark, now: Moment) -> Vec<Box<E>> {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return vec![entry];
        }
        if book.surplus() > 0 {
            book.condemned += 1;
            self.leave(book, Vec::new());
            return vec![entry];
        }
        let rung = self.assign(&mut book, Taken { slot, entry, mark }, now);
        self.leave(book, rung);
        Vec::new()
    }

    /// Gives the connection to the oldest waiter if that one has waited long enough; else puts it on the shelf and
    /// wakes somebody to come and get it.
    fn assign(&self, book: &mut Book<E>, taken: Taken<E>, now: Moment) -> Vec<Arc<Waiter<E>>> {
        let Taken { slot, mut entry, mark } = taken;
        let due = book
            .queue
            .oldest()
            .is_some_and(|since| book.limits.patience.is_none_or(|patience| now.since(since) >= patience));
        if due && book.phase == Phase::Open {
            // The previous borrower's record ends here; the new one writes its own when it runs.
            if let Some(slot) = self.shelf.slot(slot) {
                slot.set_mark(Mark::BUSY);
            }
            match book.queue.give(entry) {
                Ok(waiter) => {
                    // It may have been about to look for something else, and will not do that now.
                    let mut rung = self.pass_on(book);
                    rung.push(waiter);
                    return rung;
                }
                Err(back) => entry = back,
            }
        }
        self.shelf.publish(slot, entry, mark);
        // Never more awake than there are connections: the others would only find an empty shelf.
        if book.phase == Phase::Open && book.queue.awake() < book.taken { book.queue.rouse(1) } else { Vec::new() }
    }

    /// Looks at the shelf for those who wait. Returns connections that are to be closed.
    pub(crate) fn look(&self, now: Moment) -> Vec<Box<E>> {
        let mut book = self.book.lock();
        match book.phase {
            Phase::Closed => {
                drop(book);
                return self.drain(u32::MAX);
            }
            Phase::Paused => return Vec::new(),
            Phase::Open => {}
        }
        let surplus = self.condemn(&mut book);
        if !surplus.is_empty() {
            self.leave(book, Vec::new());
            return surplus;
        }
        if book.queue.sleepers() > 0
            && let Some(taken) = self.shelf.take(0, 0, u32::MAX)
        {
            let rung = self.assign(&mut book, taken, now);
            self.leave(book, rung);
        }
        Vec::new()
    }

    /// Takes idle connections off the shelf that there is no room for any more. They are to be closed.
    fn condemn(&self, book: &mut Book<E>) -> Vec<Box<E>> {
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
                self.shelf.slot(index)?.set_mark(Mark::BUSY);
                Some(taken.entry)
            })
            .take(count as usize)
            .collect()
    }

    // ---- waiting ----

    /// Enters the queue. Whoever has entered looks at the shelf once more before it sleeps.
    pub(crate) fn enter(&self, waiter: &Arc<Waiter<E>>, now: Moment) -> Result<Ticket, Refusal> {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return Err(Refusal::Closed);
        }
        if book.limits.max_waiting.is_some_and(|max| book.queue.len() >= max) {
            return Err(Refusal::Overloaded);
        }
        let ticket = book.queue.enter(Arc::clone(waiter), now);
        self.leave(book, Vec::new());
        announce();
        Ok(ticket)
    }

    /// Comes back to the old place in the queue, after a connection that was given turned out not to be good.
    pub(crate) fn enter_again(&self, waiter: &Arc<Waiter<E>>, ticket: Ticket) -> Result<(), Refusal> {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return Err(Refusal::Closed);
        }
        book.queue.enter_again(Arc::clone(waiter), ticket);
        self.leave(book, Vec::new());
        announce();
        Ok(())
    }

    /// Says that the waiter goes back to sleep; it looks at the shelf once more before it does.
    pub(crate) fn rest(&self, ticket: Ticket) {
        let mut book = self.book.lock();
        book.queue.rest(ticket);
        self.leave(book, Vec::new());
        announce();
    }

    /// Leaves the queue. What was put into the waiter's cell in the last moment is returned.
    pub(crate) fn withdraw(&self, ticket: Ticket, waiter: &Waiter<E>) -> Word<E> {
        let mut book = self.book.lock();
        let word = book.queue.leave(ticket, waiter);
        let rung = self.pass_on(&mut book);
        self.leave(book, rung);
        word
    }

    /// Wakes another waiter if something is free that the one before might have taken.
    fn pass_on(&self, book: &mut Book<E>) -> Vec<Arc<Waiter<E>>> {
        let free = book.phase == Phase::Open
            && book.queue.awake() == 0
            && book.queue.sleepers() > 0
            && (book.room() > 0 || self.shelf.each().any(|(_, slot)| slot.mark().is_idle()));
        if free { book.queue.rouse(1) } else { Vec::new() }
    }

    // ---- places ----

    /// Plans as many connections as are wanted and allowed, less what is being opened or checked already.
    pub(crate) fn plan(self: &Arc<Self>, now: Moment) -> Vec<Permit<E>> {
        let mut book = self.book.lock();
        if book.phase != Phase::Open || book.room() == 0 {
            return Vec::new();
        }
        let mut wanted = book.demand(self.shelf.idle()).saturating_sub(book.opening + book.checking);
        wanted = wanted.max(book.warm.saturating_sub(book.taken)).min(book.room());
        if let Some(outage) = &book.outage {
            // One probe at a time while the server is away.
            wanted = wanted.min(u32::from(now >= outage.retry_at && book.opening == 0));
        }
        (0..wanted).map(|_| self.reserve(&mut book)).collect()
    }

    /// One place, if there is one, whoever may want it.
    pub(crate) fn try_reserve(self: &Arc<Self>) -> Option<Permit<E>> {
        let mut book = self.book.lock();
        (book.phase == Phase::Open && book.limits.max_size > book.taken).then(|| self.reserve(&mut book))
    }

    fn reserve(self: &Arc<Self>, book: &mut Book<E>) -> Permit<E> {
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
        Permit { rack: Arc::clone(self), slot, opening: true, void: false }
    }

    /// Whether anybody still wants a connection that is about to be opened: a returned one may have served.
    pub(crate) fn still_wanted(&self) -> bool {
        let book = self.book.lock();
        book.phase != Phase::Closed
            && (book.taken <= book.warm || book.demand(self.shelf.idle()) >= book.opening + book.checking)
    }

    /// Says that `permit`'s connection is open. The server is there, so an outage is over; returns it. The connection
    /// counts as one that is about to come free until [`Pending`] is dropped, which is to be when it lies on the
    /// shelf: who looks in between must not open another one.
    pub(crate) fn opened(self: &Arc<Self>, permit: &mut Permit<E>, pays_debt: bool) -> (Option<Outage>, Pending<E>) {
        let mut book = self.book.lock();
        debug_assert!(permit.opening, "opened twice");
        permit.opening = false;
        book.arriving += 1;
        book.owed = book.owed.saturating_sub(u32::from(pays_debt));
        let outage = book.outage.take();
        self.leave(book, Vec::new());
        (outage, Pending { rack: Arc::clone(self), what: What::Opening })
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
        book.outage = Some(Outage { cause: Arc::clone(cause), failures, retry_at, permanent });
        self.leave(book, Vec::new());
        Failed { failures, retry_at, news: before.is_none() }
    }

    /// Sends all who wait away.
    pub(crate) fn fail_waiters(&self, error: &Error) {
        let mut book = self.book.lock();
        let rung = book.queue.fail(error);
        self.leave(book, rung);
    }

    /// Takes the permit's place back.
    fn vacate(&self, book: &mut Book<E>, permit: &mut Permit<E>) -> Vec<Arc<Waiter<E>>> {
        if std::mem::replace(&mut permit.void, true) {
            return Vec::new();
        }
        book.taken -= 1;
        book.opening -= u32::from(permit.opening);
        book.free.push(Reverse(permit.slot));
        if let Some(slot) = self.shelf.slot(permit.slot) {
            slot.set_mark(Mark::VACANT);
        }
        // One who is awake already will come by the book and see the place.
        if book.queue.awake() == 0 { book.queue.rouse(1) } else { Vec::new() }
    }

    /// A check begins: its connection counts as one that is about to come free.
    pub(crate) fn check_begins(self: &Arc<Self>) -> Pending<E> {
        self.book.lock().checking += 1;
        Pending { rack: Arc::clone(self), what: What::Checking }
    }

    /// Fewer checks are under way than callers wait: one more idle connection may be checked for them.
    pub(crate) fn may_check(&self) -> bool {
        let book = self.book.lock();
        book.checking < book.queue.len().max(1)
    }

    /// A connection was retired that is to be replaced.
    pub(crate) fn owe(&self) {
        let mut book = self.book.lock();
        if book.prepaid > 0 {
            book.prepaid -= 1;
        } else {
            book.owed += 1;
        }
    }

    /// The successor is open before the connection is retired that it replaces: nothing will be owed for it.
    pub(crate) fn prepay(&self) {
        self.book.lock().prepaid += 1;
    }

    // ---- closing connections ----

    /// Takes over the permit of a connection that is about to be closed; `condemned` if it was one too many.
    pub(crate) fn close_begins(&self, connection: u64, permit: Permit<E>, now: Moment, condemned: bool) {
        if let Some(slot) = self.shelf.slot(permit.slot) {
            slot.set_mark(Mark::BUSY);
        }
        let mut book = self.book.lock();
        book.condemned = book.condemned.saturating_sub(u32::from(condemned));
        book.closing.insert(connection, (permit, now));
        self.leave(book, Vec::new());
    }

    /// The connection is closed: its place is free, if it was not given away meanwhile.
    pub(crate) fn close_ends(&self, connection: u64) {
        let mut book = self.book.lock();
        let mut closed = book.closing.remove(&connection);
        // In one step with the removal: in between, the connection would count as one too many.
        let rung = match &mut closed {
            Some((permit, _)) => self.vacate(&mut book, permit),
            None => {
                book.overdue -= 1;
                Vec::new()
            }
        };
        self.leave(book, rung);
    }

    /// Gives away the places of connections that have been closing since before `limit`. Returns the oldest of the
    /// others.
    pub(crate) fn give_up_slow_closes(&self, limit: Moment) -> Option<Moment> {
        let mut book = self.book.lock();
        let slow: Vec<u64> = book.closing.iter().filter(|(_, (_, since))| *since <= limit).map(|(id, _)| *id).collect();
        let mut permits: Vec<_> = slow.iter().filter_map(|id| book.closing.remove(id)).collect();
        book.overdue += permits.len() as u32;
        let rung = permits.iter_mut().flat_map(|(permit, _)| self.vacate(&mut book, permit)).collect();
        let next = book.closing.values().map(|(_, since)| *since).min();
        self.leave(book, rung);
        next
    }

    // ---- the state of the pool ----

    /// Closes the pool. Returns whether it was open, and the idle connections, which are to be closed.
    pub(crate) fn close(&self, error: &Error) -> (bool, Vec<Box<E>>) {
        let mut book = self.book.lock();
        if book.phase == Phase::Closed {
            return (false, Vec::new());
        }
        book.phase = Phase::Closed;
        let rung = book.queue.fail(error);
        self.leave(book, rung);
        // The other half of the fence in `Shelf::put`: whoever published a connection before it saw the alert is
        // seen here; whoever publishes later sees the alert and comes to `look`.
        fence(Ordering::SeqCst);
        (true, self.drain(u32::MAX))
    }

    pub(crate) fn pause(&self) -> bool {
        let mut book = self.book.lock();
        let was_open = book.phase == Phase::Open;
        if was_open {
            book.phase = Phase::Paused;
        }
        self.leave(book, Vec::new());
        was_open
    }

    pub(crate) fn resume(&self) -> bool {
        let mut book = self.book.lock();
        let was_paused = book.phase == Phase::Paused;
        let mut rung = Vec::new();
        if was_paused {
            book.phase = Phase::Open;
            let all = book.limits.max_size;
            rung = book.queue.rouse(all);
        }
        self.leave(book, rung);
        was_paused
    }

    /// Changes the maximum. Returns idle connections that there is no more room for.
    pub(crate) fn resize(&self, max_size: u32) -> Vec<Box<E>> {
        let mut book = self.book.lock();
        let grown = max_size.saturating_sub(book.limits.max_size);
        book.limits.max_size = max_size;
        book.limits.min_idle = book.limits.min_idle.min(max_size);
        let rung = book.queue.rouse(grown);
        self.leave(book, rung);
        // As in `close`: who published a connection before it could see the alert is seen below.
        fence(Ordering::SeqCst);
        let mut book = self.book.lock();
        let surplus = self.condemn(&mut book);
        self.leave(book, Vec::new());
        surplus
    }

    pub(crate) fn set_warm(&self, warm: u32) {
        self.book.lock().warm = warm;
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let book = self.book.lock();
        book.numbers()
    }

    /// Waits until `done` says so of the book's numbers; `left` tells for how long, and `None` ends it.
    pub(crate) fn watch(
        &self,
        mut done: impl FnMut(&Numbers) -> bool,
        mut left: impl FnMut() -> Option<Duration>,
    ) -> bool {
        let mut book = self.book.lock();
        book.watchers += 1;
        let result = loop {
            if done(&book.numbers()) {
                break true;
            }
            let Some(left) = left() else { break false };
            self.changed.wait_for(&mut book, left);
        };
        book.watchers -= 1;
        result
    }

    /// Leaves the book: brings the alert up to date, unlocks, and then rings.
    fn leave(&self, book: MutexGuard<'_, Book<E>>, rung: Vec<Arc<Waiter<E>>>) {
        let mut alert = book.queue.sleepers();
        if book.phase == Phase::Closed {
            alert |= CLOSED;
        }
        if book.phase == Phase::Paused {
            alert |= PAUSED;
        }
        if book.surplus() > 0 {
            alert |= SURPLUS;
        }
        self.shelf.set_alert(alert);
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

/// The waiter's half of the announcement: the raised alert is published before the shelf is looked at. Its other half
/// is in [`Shelf::put`].
fn announce() {
    fence(Ordering::SeqCst);
}

impl<E: Send + 'static> Book<E> {
    /// How many more connections may be begun now.
    fn room(&self) -> u32 {
        let places = self.limits.max_size.saturating_sub(self.taken);
        places.min(self.limits.max_connecting.saturating_sub(self.opening))
    }

    /// How many connections are wanted besides those on the shelf: one for each waiter that is about to sleep, who has
    /// looked at the shelf in vain, and what the minimum lacks. Idle connections do not count for waiters: a slot's
    /// word says "idle" until whoever took the connection has written its own name there.
    fn demand(&self, idle: u32) -> u32 {
        let ready = self.limits.min_idle.saturating_add(self.owed).saturating_sub(idle);
        self.queue.sleepers().saturating_add(ready)
    }

    /// Connections that are too many and not being closed yet.
    fn surplus(&self) -> u32 {
        let leaving = self.closing.len() as u32 + self.condemned;
        self.taken.saturating_sub(leaving).saturating_sub(self.limits.max_size)
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            phase: self.phase,
            max_size: self.limits.max_size,
            min_idle: self.limits.min_idle,
            taken: self.taken,
            ready: self.taken.saturating_sub(self.opening),
            opening: self.opening - self.arriving,
            checking: self.checking,
            closing: self.closing.len() as u32,
            overdue: self.overdue,
            waiting: self.queue.len(),
            outage: self.outage.clone(),
        }
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
}

#[derive(Debug)]
enum What {
    Opening,
    Checking,
}

impl<E: Send + 'static> Drop for Pending<E> {
    fn drop(&mut self) {
        let mut book = self.rack.book.lock();
        match self.what {
            What::Opening => {
                book.opening -= 1;
                book.arriving -= 1;
            }
            What::Checking => book.checking -= 1,
        }
        // Those who counted on it, and did not get it, may have to open one after all.
        let rung = self.rack.pass_on(&mut book);
        self.rack.leave(book, rung);
    }
}
