//! One of several pools, and whether it takes part.

use crate::clock::Moment;
use crate::{Error, ErrorKind, Health, Manager, Pool};
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A member of a [`Balanced`](super::Balanced) at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its weight; 0 if it is drained.
    pub weight: u32,
    /// Whether it has left, because its server is away or it is paused or closed, and has not come back.
    pub away: bool,
    /// How its pool does.
    pub health: Health,
}

pub(super) struct Member<M: Manager> {
    pub(super) name: String,
    pub(super) pool: Pool<M>,
    weight: AtomicU32,
    /// When the attempt began after which it left, by its pool's clock; 0 while it takes part.
    left: AtomicU64,
    /// It left because it lends nothing, and not because it failed.
    shut: AtomicBool,
    /// Somebody looks whether it is back: one is enough.
    looking: AtomicBool,
}

// Orderings: a member's state is advice. Who reads an old one goes to a member that has just left, and learns so from its
// pool, or passes over one that is just back.
const R: Ordering = Ordering::Relaxed;

impl<M: Manager> Member<M> {
    pub(super) fn new(name: String, pool: Pool<M>, weight: u32) -> Self {
        let (left, shut, looking) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { name, pool, weight: weight.into(), left, shut, looking }
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight.load(R)
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, R);
    }

    /// Its weight, as long as it takes part.
    #[inline]
    pub(super) fn share(&self) -> u32 {
        if self.left.load(R) == 0 { self.weight.load(R) } else { 0 }
    }

    pub(super) fn is_away(&self) -> bool {
        self.left.load(R) != 0
    }

    /// Nothing is idle, and there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        !self.pool.has_room()
    }

    /// Who comes waits for others to return theirs, and not for the server.
    pub(super) fn waits_for_borrowers(&self) -> bool {
        self.pool.is_all_lent()
    }

    /// Whether an attempt that ended so says that it is to take no part. A caller whose time was short has learnt nothing about
    /// the server from having got no answer yet.
    pub(super) fn has_gone(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Paused | ErrorKind::Closed => true,
            ErrorKind::Connect | ErrorKind::Validate => error.source().is_some() || self.pool.is_silent(),
            _ => false,
        }
    }

    /// It takes no part from now on, because of what an attempt ended with that began at `since`. Those who wait there, and have
    /// another member to go to, go there.
    pub(super) fn leave(&self, (group, away): (&str, &AtomicUsize), since: Moment, error: &Error) {
        self.shut.store(!self.pool.is_lending(), R);
        if self.left.compare_exchange(0, since.to_bits().max(1), R, R).is_ok() {
            away.fetch_add(1, R);
            log::warn!("balanced {group:?}: {:?} is left out: {error}", self.name);
            self.pool.send_on(&Error::of_members(format!("is left out: {error}"), false, error));
        }
    }

    pub(super) fn come_back(&self, (group, away): (&str, &AtomicUsize)) {
        if self.left.swap(0, R) != 0 {
            away.fetch_sub(1, R);
            log::info!("balanced {group:?}: {:?} takes part again", self.name);
        }
    }

    /// Looks whether it may take part again, and if not has its pool find out. Its pool does the work, in the background: who
    /// looks waits for nothing.
    pub(super) fn look(&self, group: (&str, &AtomicUsize)) {
        let since = self.left.load(R);
        if since == 0 || self.weight() == 0 || self.looking.swap(true, Ordering::Acquire) {
            return;
        }
        let since = Moment::from_bits(since);
        if self.pool.is_lending() {
            if self.shut.load(R) || self.pool.has_worked_since(since) {
                self.come_back(group);
            } else {
                self.pool.keep_trying(since);
            }
        }
        self.looking.store(false, Ordering::Release);
    }

    pub(super) fn status(&self) -> MemberStatus {
        let health = self.pool.health();
        MemberStatus { name: self.name.clone(), weight: self.weight(), away: self.is_away(), health }
    }
}
