//! What is written in the book, and what follows from it: pure, and all of it under one lock.

use super::places::Permit;
use crate::clock::Moment;
use crate::error::Cause;
use crate::pool::waiters::Queue;
use crate::stats::Closed;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// Nobody counts on a check that takes longer than this; one that ends takes a round trip.
pub(crate) const SLOW_CHECK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Nothing is lent; who comes waits.
    Paused,
    /// Nothing is lent, and who comes is sent away.
    Rejecting,
    Closed,
}

/// Connecting fails at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) cause: Cause,
    pub(crate) since: Moment,
    /// When somebody last asked for connections without waiting for them in the queue.
    pub(crate) asked: Moment,
    pub(crate) failures: u32,
    pub(crate) retry_at: Moment,
    /// Trying again is not expected to help.
    pub(crate) permanent: bool,
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
    /// While connecting fails, callers fail at once instead of waiting.
    pub(crate) fail_fast: bool,
    /// For how long attempts are made while nobody waits: for connections that are to be there from the start, before the
    /// first one was opened, and otherwise.
    pub(crate) start_up: Duration,
    pub(crate) give_up: Duration,
}

/// Why a newcomer may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Paused,
    Overloaded,
}

#[derive(Debug)]
pub(super) struct Book<E: Send + 'static> {
    pub(super) phase: Phase,
    pub(super) queue: Queue<E>,
    pub(super) limits: Limits,
    /// Permits that are out.
    pub(super) taken: u32,
    /// Those of them whose connection is being opened.
    pub(super) opening: u32,
    /// Those of these that are open and on their way to the shelf.
    pub(super) arriving: u32,
    /// Checks that are under way, by a number of their own, and since when.
    pub(super) checks: HashMap<u64, Moment>,
    /// Attempts to connect that are under way, by place, and since when.
    pub(super) attempts: HashMap<u32, Moment>,
    /// When an attempt to connect, or a check, last succeeded.
    pub(super) answered: Moment,
    pub(super) next_check: u64,
    /// Places that were used before, lowest first.
    pub(super) free: BinaryHeap<Reverse<u32>>,
    /// The lowest place never used.
    pub(super) fresh: u32,
    /// Replacements for connections that were retired by age.
    pub(super) owed: u32,
    /// Replacements that were opened before what they replace was retired.
    pub(super) successors: u32,
    /// While the pool is being warmed up: how many connections it is to have for now.
    pub(super) warm: u32,
    pub(super) outage: Option<Outage>,
    /// How many connections may be opened at the same time, as long as that is less than the limit: after an outage the
    /// gates open one by one.
    pub(super) gate: u32,
    /// Permits of connections that are being closed, and since when.
    pub(super) closing: HashMap<u64, (Permit<E>, Moment)>,
    /// Connections that were found to be too many and are on their way to be closed.
    pub(super) condemned: u32,
    /// Connections that take so long to close that their place was given away.
    pub(super) overdue: u32,
    /// How many connections were opened and closed since the pool was built. Counted in one step with what is open.
    pub(super) opened: u64,
    pub(super) closed: Closed,
    /// Every connection was found to be held by a thread that waits, and none has come free since.
    pub(super) deadlock: bool,
    /// Somebody waits on `changed`.
    pub(super) watchers: u32,
    /// Somebody who is not in the queue waits for connections.
    pub(super) asking: u32,
    /// What stands in the shelf's alert. Everybody reads that one, so it is written only when it changes.
    pub(super) alert: u32,
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
    pub(crate) opened: u64,
    pub(crate) closed: Closed,
    pub(crate) waiting: u32,
    /// Since when the server has left an attempt to connect, or a check, without an answer, where one is under way. What hangs
    /// while others succeed counts from the last success.
    pub(crate) unanswered_since: Option<Moment>,
    /// Since when the first of those who wait has waited.
    pub(crate) waiting_since: Option<Moment>,
    pub(crate) outage: Option<Outage>,
    pub(crate) deadlock: bool,
}

impl<E: Send + 'static> Book<E> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            phase: Phase::Open,
            queue: Queue::new(),
            limits,
            taken: 0,
            opening: 0,
            arriving: 0,
            checks: HashMap::new(),
            attempts: HashMap::new(),
            answered: Moment::ZERO,
            next_check: 0,
            free: BinaryHeap::new(),
            fresh: 0,
            owed: 0,
            successors: 0,
            warm: 0,
            outage: None,
            gate: u32::MAX,
            closing: HashMap::new(),
            condemned: 0,
            overdue: 0,
            opened: 0,
            closed: Closed::default(),
            deadlock: false,
            watchers: 0,
            asking: 0,
            alert: 0,
        }
    }

    /// How many more connections may be begun now.
    pub(super) fn room(&self) -> u32 {
        let places = self.limits.max_size.saturating_sub(self.taken);
        places.min(self.limits.max_connecting.min(self.gate).saturating_sub(self.opening))
    }

    /// Checks that may soon give a connection. One that takes longer than [`SLOW_CHECK`] may hang.
    pub(super) fn promising(&self, now: Moment) -> u32 {
        self.checks.values().filter(|begun| now.since(**begun) < SLOW_CHECK).count() as u32
    }

    /// How many connections to begin, of `wanted`: while connecting fails one attempt at a time, each when its time has
    /// come, also if nobody wants one, so that a server which is back is noticed before the next caller.
    pub(super) fn allowed(&self, wanted: u32, now: Moment) -> u32 {
        let wanted = match &self.outage {
            None => wanted,
            Some(outage) => u32::from(self.tries_on(now) && now >= outage.retry_at && self.opening == 0),
        };
        wanted.min(self.room())
    }

    /// Whether attempts go on while connecting fails.
    pub(super) fn tries_on(&self, now: Moment) -> bool {
        let starting = self.opened == 0 && (self.warm > 0 || self.limits.min_idle > 0);
        let patience = if starting { self.limits.start_up } else { self.limits.give_up };
        self.outage.as_ref().is_some_and(|outage| self.anybody_waits() || now < outage.asked.after(patience))
    }

    /// The outage, if a caller should not wait for its end; `elsewhere` if it has another pool to go to.
    pub(super) fn hopeless(&self, now: Moment, elsewhere: bool) -> Option<&Outage> {
        let outage = self.outage.as_ref()?;
        let pausing = now < outage.retry_at;
        let trying = self.opening > self.arriving;
        (pausing && outage.permanent || (pausing || trying) && (elsewhere || self.limits.fail_fast)).then_some(outage)
    }

    /// How many connections are wanted besides those on the shelf: one for each waiter that is about to sleep, who has
    /// looked at the shelf in vain, and what the minimum lacks. Idle connections do not count for waiters: a slot's
    /// word says "idle" until whoever took the connection has written its own name there.
    pub(super) fn demand(&self, idle: u32) -> u32 {
        let ready = self.limits.min_idle.saturating_add(self.owed).saturating_sub(idle);
        self.queue.sleepers().saturating_add(ready)
    }

    /// Whether a caller waits, in the queue or for the pool to be ready.
    pub(super) fn anybody_waits(&self) -> bool {
        self.queue.len() > 0 || self.asking > 0
    }

    /// How many connections are lacking for those who wait, besides those that are about to come: not for what is kept ready.
    pub(super) fn in_need(&self, now: Moment) -> u32 {
        let for_callers = self.queue.sleepers().saturating_sub(self.opening + self.promising(now));
        for_callers.max(u32::from(self.asking > 0 && self.staying() == 0))
    }

    /// Connections that are too many and not being closed yet.
    pub(super) fn surplus(&self) -> u32 {
        self.staying().saturating_sub(self.limits.max_size)
    }

    /// Places whose connections stay, or are to be opened.
    pub(super) fn staying(&self) -> u32 {
        self.taken.saturating_sub(self.closing.len() as u32 + self.condemned)
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            phase: self.phase,
            max_size: self.limits.max_size,
            min_idle: self.limits.min_idle,
            taken: self.taken,
            ready: self.staying().saturating_sub(self.opening),
            opening: self.opening - self.arriving,
            checking: self.checks.len() as u32,
            closing: self.closing.len() as u32,
            overdue: self.overdue,
            opened: self.opened,
            closed: self.closed,
            waiting: self.queue.len(),
            unanswered_since: self
                .attempts
                .values()
                .chain(self.checks.values())
                .min()
                .map(|since| (*since).max(self.answered)),
            waiting_since: self.queue.oldest(),
            outage: self.outage.clone(),
            deadlock: self.deadlock,
        }
    }
}
