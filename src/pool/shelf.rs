//! The shelf: one slot a connection, where idle ones lie and borrowed ones are written down.
//!
//! A connection has the same slot for life, so putting it back looks for no place, and two threads that use two
//! connections touch no common cache line. Taking and putting are one atomic exchange each.
//!
//! **The announcement.** A waiter must not go to sleep while a connection lies on the shelf, and a returner must not
//! overlook a waiter. Both sides write first and look afterwards, with a sequentially consistent fence between:
//! the returner publishes the connection, fences, and reads `alert`; the waiter raises `alert`, fences, and looks
//! at the shelf. Of two such fences one comes first, so at least one side sees the other. Without either fence
//! both may look too early: the model `seeded_missing_fence` finds that.

use crate::sync::{AtomicU32, AtomicU64, Exchange, Ordering, fence};
use crossbeam_utils::atomic::AtomicCell;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64 as PlainU64;

/// Somebody must look before a connection is lent or put back: the pool is closed.
pub(crate) const CLOSED: u32 = 1 << 31;
/// The same: the pool is paused.
pub(crate) const PAUSED: u32 = 1 << 30;
/// The same: there are more connections than the pool may have. The bits below count the waiters who need to be
/// woken.
pub(crate) const SURPLUS: u32 = 1 << 29;

/// What lies in a slot, and who has it: everything that others may read without taking the connection.
///
/// The word is written by whoever owns the connection at that moment, so it needs no read-modify-write.
/// `VACANT`, `IDLE | since`, `BUSY`, or `LENT | thread | since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

const TAG: u64 = 3;
const VACANT: u64 = 0;
const IDLE: u64 = 1;
const LENT: u64 = 2;
const BUSY: u64 = 3;

impl Mark {
    pub(crate) const VACANT: Self = Self(VACANT);
    /// Being opened, checked or swept: neither idle nor lent.
    pub(crate) const BUSY: Self = Self(BUSY);

    pub(crate) fn idle(since: u32) -> Self {
        Self(IDLE | u64::from(since) << 32)
    }

    #[inline]
    pub(crate) fn lent(thread: u32, since: u32) -> Self {
        Self(LENT | u64::from(thread) << 2 | u64::from(since) << 32)
    }

    #[inline]
    pub(crate) fn is_idle(self) -> bool {
        self.0 & TAG == IDLE
    }

    pub(crate) fn is_lent(self) -> bool {
        self.0 & TAG == LENT
    }

    #[inline]
    pub(crate) fn since(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn thread(self) -> u32 {
        (self.0 as u32) >> 2
    }
}

/// One place, on a cache line of its own. Not on two, though some processors fetch lines in pairs: two threads were not
/// measurably faster so, and a connection would cost 64 bytes more.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot<E> {
    word: AtomicU64,
    cell: Exchange<E>,
    location: AtomicCell<Option<&'static Location<'static>>>,
    /// The number of the connection that has this place.
    pub(crate) connection: PlainU64,
    /// How often connections of this place were lent. Written by the borrower alone: a load and a store.
    checkouts: PlainU64,
    /// Since when the connection has been idle, where that is longer than its mark says, because it was checked
    /// meanwhile. Above it the count of checkouts at that time, so that lending makes it void without writing here.
    rests: PlainU64,
}

impl<E> Slot<E> {
    fn new() -> Self {
        Self {
            word: AtomicU64::new(VACANT),
            cell: Exchange::empty(),
            location: AtomicCell::new(None),
            connection: PlainU64::new(0),
            checkouts: PlainU64::new(0),
            rests: PlainU64::new(u64::MAX),
        }
    }

    /// Relaxed: a hint. Whoever acts on it goes through the exchange, which orders everything else.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.word.load(Ordering::Relaxed))
    }

    /// Release, so that [`lease`](Self::lease) never pairs this word with an older location.
    #[inline]
    pub(crate) fn set_mark(&self, mark: Mark) {
        self.word.store(mark.0, Ordering::Release);
    }

    /// Puts the connection back without a look at who waits: under the book's lock only.
    #[inline]
    pub(crate) fn publish(&self, entry: Box<E>, mark: Mark) {
        self.set_mark(mark);
        self.cell.put(entry);
    }

    /// Writes down who borrows. Only the borrower calls it.
    #[inline]
    pub(crate) fn lend(&self, mark: Mark, location: &'static Location<'static>) {
        self.location.store(Some(location));
        self.set_mark(mark);
        let count = self.checkouts.load(Ordering::Relaxed);
        self.checkouts.store(count + 1, Ordering::Relaxed);
    }

    /// The connection was last used at `tick`, whatever its mark will say of checks. Only its holder calls it.
    pub(crate) fn rest_since(&self, tick: u32) {
        self.rests.store(self.checkouts() << 32 | u64::from(tick), Ordering::Relaxed);
    }

    /// Since when the idle connection has not been used.
    pub(crate) fn idle_since(&self) -> u32 {
        let rests = self.rests.load(Ordering::Relaxed);
        if rests >> 32 == self.checkouts() & u64::from(u32::MAX) { rests as u32 } else { self.mark().since() }
    }

    pub(crate) fn checkouts(&self) -> u64 {
        self.checkouts.load(Ordering::Relaxed)
    }

    /// Who borrows this place's connection, if the answer can be read in one piece: the location is stored before
    /// the word, and the word changes at every return, so an unchanged word means that the two belong together.
    pub(crate) fn lease(&self) -> Option<(Mark, Option<&'static Location<'static>>)> {
        let before = Mark(self.word.load(Ordering::Acquire));
        if !before.is_lent() {
            return None;
        }
        let location = self.location.load();
        (Mark(self.word.load(Ordering::Acquire)) == before).then_some((before, location))
    }
}

type Segment<E> = OnceLock<Box<[Slot<E>]>>;

/// Enough doublings for [`LARGEST`](crate::config::LARGEST) from the smallest first segment.
const SEGMENTS: usize = 20;

/// All slots of a pool. Slots are made in segments, each as large as all before it, so that a pool may grow while
/// others use it and a huge maximum costs nothing until it is needed.
#[derive(Debug)]
pub(crate) struct Shelf<E> {
    first: Box<[Slot<E>]>,
    more: [Segment<E>; SEGMENTS],
    /// One more than the highest slot ever used: nobody looks beyond. Read often, written seldom, like `alert`.
    used: AtomicU32,
    alert: AtomicU32,
}

/// What became of a connection that was put on the shelf.
#[derive(Debug)]
pub(crate) enum Put<E> {
    /// It lies there, and nobody waits.
    Done,
    /// It was not put there: somebody waits, or the pool is closed, paused or too large.
    Refused(Box<E>),
    /// It lies there, but in the meantime somebody came who needs to know.
    Look,
}

/// A connection taken from the shelf.
#[derive(Debug)]
pub(crate) struct Taken<'a, E> {
    pub(crate) slot: &'a Slot<E>,
    pub(crate) entry: Box<E>,
    /// What the slot's word said before.
    pub(crate) mark: Mark,
}

impl<E> Shelf<E> {
    pub(crate) fn new(expected: u32) -> Self {
        Self {
            first: slots(expected.clamp(1, 64).next_power_of_two()),
            more: [const { OnceLock::new() }; SEGMENTS],
            used: AtomicU32::new(0),
            alert: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> Option<&Slot<E>> {
        match self.first.get(index as usize) {
            Some(slot) => Some(slot),
            None => self.far_slot(index),
        }
    }

    fn far_slot(&self, index: u32) -> Option<&Slot<E>> {
        let (segment, offset) = self.locate(index);
        self.more.get(segment)?.get()?.get(offset)
    }

    /// Segment *k* begins at `first.len() << k` and is as long as that.
    fn locate(&self, index: u32) -> (usize, usize) {
        let first = self.first.len() as u32;
        let segment = (index / first).ilog2();
        (segment as usize, (index - (first << segment)) as usize)
    }

    /// Makes sure that the slot exists. Called under the book's lock.
    pub(crate) fn prepare(&self, index: u32) {
        if index as usize >= self.first.len() {
            let (segment, _) = self.locate(index);
            if let Some(segment_slots) = self.more.get(segment) {
                segment_slots.get_or_init(|| slots((self.first.len() as u32) << segment));
            }
        }
        // Relaxed: written under the lock; a reader that misses the newest slots takes the slow path, and that locks.
        if index >= self.used.load(Ordering::Relaxed) {
            self.used.store(index + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &Slot<E>)> {
        (0..self.used.load(Ordering::Relaxed)).filter_map(|index| Some((index, self.slot(index)?)))
    }

    /// Relaxed: it steers who takes the slow path. Where a decision depends on it, a fence or a lock stands before.
    #[inline]
    pub(crate) fn alert(&self) -> u32 {
        self.alert.load(Ordering::Relaxed)
    }

    /// How many wait and need to be woken.
    pub(crate) fn sleepers(&self) -> u32 {
        self.alert() & (SURPLUS - 1)
    }

    /// Called under the book's lock; whoever raises it fences before looking at the shelf.
    pub(crate) fn set_alert(&self, alert: u32) {
        self.alert.store(alert, Ordering::Relaxed);
    }

    /// Takes the connection of this slot, if it is idle and has been for less than `fresh` ticks.
    #[inline]
    pub(crate) fn take_at(&self, index: u32, now: u32, fresh: u32) -> Option<Taken<'_, E>> {
        let slot = self.slot(index)?;
        let mark = slot.mark();
        // The word is looked at first because an exchange on an empty slot would take the cache line away from
        // whoever is about to return the connection.
        if !mark.is_idle() || (fresh != u32::MAX && now.wrapping_sub(mark.since()) >= fresh) {
            return None;
        }
        let entry = slot.cell.take()?;
        Some(Taken { slot, entry, mark })
    }

    /// Takes the first idle connection, and says which it is. From the front, so that the connections at the back have
    /// time to grow old and be closed.
    #[cold]
    pub(crate) fn take_first(&self, now: u32, fresh: u32) -> Option<(u32, Taken<'_, E>)> {
        (0..self.used.load(Ordering::Relaxed)).find_map(|index| Some((index, self.take_at(index, now, fresh)?)))
    }

    /// Puts a connection into its slot.
    #[inline]
    pub(crate) fn put(&self, index: u32, entry: Box<E>, mark: Mark) -> Put<E> {
        if self.alert() != 0 {
            return Put::Refused(entry);
        }
        if let Some(slot) = self.slot(index) {
            slot.publish(entry, mark);
        }
        // Publishes the connection before `alert` is read; its other half is `announce` in `rack.rs`.
        fence(Ordering::SeqCst);
        if self.alert() == 0 { Put::Done } else { Put::Look }
    }

    /// Whether a connection lies there, however long it has.
    pub(crate) fn any_idle(&self) -> bool {
        self.each().any(|(_, slot)| slot.mark().is_idle())
    }

    pub(crate) fn idle(&self) -> u32 {
        self.each().map(|(_, slot)| u32::from(slot.mark().is_idle())).sum()
    }
}

fn slots<E>(count: u32) -> Box<[Slot<E>]> {
    (0..count).map(|_| Slot::new()).collect()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn every_slot_of_a_shelf_that_grows_is_a_different_one() {
        for expected in [1, 3, 8, 1000] {
            let shelf = Shelf::<u32>::new(expected);
            let count = 3000;
            for index in 0..count {
                shelf.prepare(index);
                shelf.slot(index).expect("prepared").publish(Box::new(index), Mark::idle(0));
            }
            assert_eq!(shelf.idle(), count);
            let taken: Vec<_> =
                (0..count).map(|index| *shelf.take_at(index, 0, u32::MAX).expect("it was put").entry).collect();
            assert_eq!(taken, (0..count).collect::<Vec<_>>());
            assert!(shelf.take_first(0, u32::MAX).is_none());
        }
    }

    #[test]
    fn those_who_sleep_are_counted_beside_what_else_the_alert_says() {
        let shelf = Shelf::<()>::new(1);
        for sleepers in [0, 1, 6, SURPLUS - 1] {
            shelf.set_alert(PAUSED | CLOSED | SURPLUS | sleepers);
            assert_eq!(shelf.sleepers(), sleepers);
        }
    }

    #[test]
    fn what_has_been_idle_for_too_long_is_left_to_those_who_check() {
        let shelf = Shelf::new(1);
        shelf.prepare(0);
        assert!(matches!(shelf.put(0, Box::new(()), Mark::idle(100)), Put::Done));
        assert!(shelf.take_first(110, 10).is_none());
        assert!(shelf.take_first(109, 10).is_some());
    }

    #[test]
    fn a_lease_says_who_and_where_until_the_connection_is_back() {
        let shelf = Shelf::new(1);
        shelf.prepare(0);
        let slot = shelf.slot(0).expect("prepared");
        slot.publish(Box::new(()), Mark::idle(1));
        assert!(slot.lease().is_none());
        let taken = shelf.take_at(0, 1, u32::MAX).expect("published");
        let here = Location::caller();
        slot.lend(Mark::lent(77, 5), here);
        let (mark, location) = slot.lease().expect("lent");
        assert_eq!((mark.thread(), mark.since(), location), (77, 5, Some(here)));
        slot.publish(taken.entry, Mark::idle(6));
        assert!(slot.lease().is_none());
        assert_eq!(slot.checkouts(), 1);
    }
}
