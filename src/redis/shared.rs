//! What the connections of one manager tell each other; and what all managers have in common.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Sockets take no time-out of zero.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Whether the server knows `RESET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResetSupport {
    Untried,
    Works,
    Refused,
}

#[derive(Debug)]
pub(super) struct Shared {
    replica: bool,
    demotions: AtomicU64,
    /// Up to which demotion a pool has been refreshed.
    answered: AtomicU64,
    reset: AtomicU8,
}

impl Shared {
    pub(super) fn new(replica: bool) -> Self {
        Self { replica, demotions: AtomicU64::new(0), answered: AtomicU64::new(0), reset: AtomicU8::new(0) }
    }

    /// Whether the server is meant to be a replica.
    pub(super) fn is_replica(&self) -> bool {
        self.replica
    }

    /// How often the server was found to have been demoted.
    pub(super) fn demotions(&self) -> u64 {
        // Relaxed, here and below: a number that nothing else hangs on. Who reads it too early lends one more connection that
        // is closed on its return.
        self.demotions.load(Ordering::Relaxed)
    }

    /// Counts a demotion that a connection met which knew of `known`. Those who meet the same one count it once.
    pub(super) fn note_demotion(&self, known: u64) {
        let _ = self.demotions.compare_exchange(known, known + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the caller is the one to act upon a demotion.
    #[inline]
    pub(super) fn take_demotion(&self) -> bool {
        let demotions = self.demotions();
        self.answered.load(Ordering::Relaxed) != demotions
            && self.answered.swap(demotions, Ordering::Relaxed) != demotions
    }

    pub(super) fn reset_support(&self) -> ResetSupport {
        match self.reset.load(Ordering::Relaxed) {
            0 => ResetSupport::Untried,
            1 => ResetSupport::Works,
            _ => ResetSupport::Refused,
        }
    }

    pub(super) fn reset_works(&self) {
        self.reset.store(ResetSupport::Works as u8, Ordering::Relaxed);
    }

    /// `true` for the one who finds out that the server does not know the command. It is not believed of one that has known it.
    pub(super) fn give_reset_up(&self) -> bool {
        let (untried, refused) = (ResetSupport::Untried as u8, ResetSupport::Refused as u8);
        self.reset.compare_exchange(untried, refused, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
