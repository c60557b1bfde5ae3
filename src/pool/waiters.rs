//! Those who wait: a queue, oldest first, and for each waiter a cell in which it is given what it waits for.
//!
//! Everything here is decided under the book's lock: who is oldest, who is woken, who has left. A waiter's own lock
//! is taken inside the book's, never the other way round; a waiter sleeps on its own lock alone. So a waiter that
//! gives up takes the book's lock, looks into its cell for the last time, and leaves: nothing can be put into a
//! cell whose owner has gone.

#![allow(clippy::significant_drop_tightening, reason = "the lock is what the sleeper waits on")]

use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::sync::{Condvar, Mutex};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What a waiter finds in its cell.
#[derive(Debug)]
pub(crate) enum Word<E> {
    /// Nothing yet.
    Wait,
    /// Look at the shelf, and at the places: something came free.
    Look,
    /// The connection is yours.
    Given(Box<E>),
    /// Nobody will get one.
    Failed(Error),
}

/// How a sleep ended.
#[derive(Debug)]
pub(crate) enum Woken<E> {
    Look,
    Given(Box<E>),
    Failed(Error),
    TimedOut,
}

/// One caller that waits.
#[derive(Debug)]
pub(crate) struct Waiter<E> {
    /// The number of the thread that waits.
    thread: u32,
    /// It has another pool to go to, and does not wait here for the end of an outage.
    pub(crate) elsewhere: bool,
    word: Mutex<Word<E>>,
    bell: Condvar,
}

impl<E: Send + 'static> Waiter<E> {
    pub(crate) fn new(thread: u32, elsewhere: bool) -> Arc<Self> {
        Arc::new(Self { thread, elsewhere, word: Mutex::new(Word::Wait), bell: Condvar::new() })
    }

    /// Sleeps until something is in the cell or the deadline has passed.
    pub(crate) fn sleep(self: &Arc<Self>, clock: &Clock, deadline: Moment) -> Woken<E> {
        #[cfg(any(test, loom, shuttle, feature = "testing"))]
        let by_hand = match clock {
            Clock::System => false,
            Clock::Hand(hand) => {
                let this: Arc<dyn crate::clock::Ring> = Arc::clone(self) as _;
                hand.enrol(Arc::downgrade(&this));
                true
            }
        };
        let mut word = self.word.lock();
        loop {
            match std::mem::replace(&mut *word, Word::Wait) {
                Word::Wait => {}
                Word::Look => return Woken::Look,
                Word::Given(entry) => return Woken::Given(entry),
                Word::Failed(error) => return Woken::Failed(error),
            }
            if deadline == Moment::NEVER {
                self.bell.wait(&mut word);
                continue;
            }
            let left = deadline.since(clock.now());
            if left.is_zero() {
                return Woken::TimedOut;
            }
            #[cfg(any(test, loom, shuttle, feature = "testing"))]
            if by_hand {
                self.bell.wait(&mut word);
                continue;
            }
            self.bell.wait_for(&mut word, left);
        }
    }

    fn put(&self, new: Word<E>) -> Word<E> {
        std::mem::replace(&mut *self.word.lock(), new)
    }

    /// Rings after every lock has been left, so that the woken thread runs into none. No system call is made for a
    /// thread that is not asleep.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }
}

#[cfg(any(test, loom, shuttle, feature = "testing"))]
impl<E: Send> crate::clock::Ring for Waiter<E> {
    fn ring(&self) {
        // Under the lock, so that a sleeper that has just read the clock is already waiting when the bell rings.
        let _word = self.word.lock();
        self.bell.notify_all();
    }
}

/// A waiter's place in the queue: since when it waits, and a number that tells apart those of the same moment.
pub(crate) type Ticket = (Moment, u64);

/// What a waiter is about. One that goes away before it has looked at all that it was to look at must tell another:
/// without that, a waiter that was told of a free place, and was given a connection before it came to take the place,
/// would leave the place to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    /// Has announced itself, and looks at the shelf and then at the places before it sleeps.
    Looking,
    /// Has looked, and sleeps or is about to.
    Asleep,
    /// Told to look, and has not come back since.
    Awake,
}

#[derive(Debug)]
struct Place<E> {
    waiter: Arc<Waiter<E>>,
    stance: Stance,
}

/// The queue. Part of the book, so under its lock.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    places: BTreeMap<Ticket, Place<E>>,
    awake: u32,
    next: u64,
}

impl<E: Send + 'static> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { places: BTreeMap::new(), awake: 0, next: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.places.len() as u32
    }

    /// How many need to be woken when something comes free: the others are on their way to look.
    pub(crate) fn sleepers(&self) -> u32 {
        self.len() - self.awake
    }

    pub(crate) fn awake(&self) -> u32 {
        self.awake
    }

    pub(crate) fn enter(&mut self, waiter: Arc<Waiter<E>>, since: Moment) -> Ticket {
        let ticket = (since, self.next);
        self.next += 1;
        self.places.insert(ticket, Place { waiter, stance: Stance::Looking });
        ticket
    }

    /// Comes back with an old ticket, in front of all that came later.
    pub(crate) fn enter_again(&mut self, waiter: Arc<Waiter<E>>, ticket: Ticket) {
        self.places.insert(ticket, Place { waiter, stance: Stance::Looking });
    }

    /// Leaves, and takes along what was put into the cell in the last moment. Says whether it had looked at what is
    /// free, and was asleep since.
    pub(crate) fn leave(&mut self, ticket: Ticket, waiter: &Waiter<E>) -> (Word<E>, bool) {
        let asleep = self.places.remove(&ticket).is_some_and(|place| self.strike(&place));
        (waiter.put(Word::Wait), asleep)
    }

    fn strike(&mut self, place: &Place<E>) -> bool {
        self.awake -= u32::from(place.stance == Stance::Awake);
        place.stance == Stance::Asleep
    }

    /// Announces itself again: it has looked in vain, and from now on it must be woken.
    pub(crate) fn rest(&mut self, ticket: Ticket) {
        if let Some(place) = self.places.get_mut(&ticket) {
            self.awake -= u32::from(place.stance == Stance::Awake);
            place.stance = Stance::Looking;
        }
    }

    /// Has looked at everything that it was to look at after it had announced itself.
    pub(crate) fn sleep(&mut self, ticket: Ticket) {
        if let Some(place) = self.places.get_mut(&ticket)
            && place.stance == Stance::Looking
        {
            place.stance = Stance::Asleep;
        }
    }

    /// The numbers of the threads that wait.
    pub(crate) fn threads(&self) -> HashSet<u32> {
        self.places.values().map(|place| place.waiter.thread).collect()
    }

    pub(crate) fn oldest(&self) -> Option<Moment> {
        self.places.first_key_value().map(|((since, _), _)| *since)
    }

    /// Gives a connection to the oldest waiter, who is to be rung afterwards. Says whether that one had looked at what
    /// is free, and was asleep since.
    pub(crate) fn give(&mut self, entry: Box<E>) -> Result<(Arc<Waiter<E>>, bool), Box<E>> {
        let Some((_, place)) = self.places.pop_first() else { return Err(entry) };
        let asleep = self.strike(&place);
        // A waiter in the queue has been given nothing yet: the cell holds `Wait`, or a `Look` that this overrides.
        place.waiter.put(Word::Given(entry));
        Ok((place.waiter, asleep))
    }

    /// Tells up to `count` of those who sleep to look, oldest first; they are to be rung afterwards.
    pub(crate) fn rouse(&mut self, count: u32) -> Vec<Arc<Waiter<E>>> {
        let mut roused = Vec::new();
        for place in self.places.values_mut() {
            if roused.len() as u32 >= count {
                break;
            }
            if place.stance != Stance::Awake {
                place.stance = Stance::Awake;
                self.awake += 1;
                place.waiter.put(Word::Look);
                roused.push(Arc::clone(&place.waiter));
            }
        }
        roused
    }

    /// Whether one of those who wait has another pool to go to.
    pub(crate) fn any_elsewhere(&self) -> bool {
        self.places.values().any(|place| place.waiter.elsewhere)
    }

    /// Sends everybody away with an error; they are to be rung afterwards.
    pub(crate) fn fail(&mut self, error: &Error) -> Vec<Arc<Waiter<E>>> {
        self.fail_those(error, |_| true)
    }

    /// The same with those who have another pool to go to.
    pub(crate) fn fail_elsewhere(&mut self, error: &Error) -> Vec<Arc<Waiter<E>>> {
        self.fail_those(error, |waiter| waiter.elsewhere)
    }

    fn fail_those(&mut self, error: &Error, which: impl Fn(&Waiter<E>) -> bool) -> Vec<Arc<Waiter<E>>> {
        let failed: Vec<_> = self.places.extract_if(.., |_, place| which(&place.waiter)).collect();
        failed
            .into_iter()
            .map(|(_, place)| {
                self.strike(&place);
                place.waiter.put(Word::Failed(error.clone()));
                place.waiter
            })
            .collect()
    }
}
