//! Until when this thread's work may go on.
//!
//! SQLite asks now and then, on the thread that runs a statement, whether to go on, and when it prepares a statement, commits,
//! or meets a lock. The answers are here, and not with the connection, so that whatever is called within keeps the same
//! deadline, on whichever connection it works.

use crate::clock::{Clock, Moment};
use std::cell::Cell;
use std::thread;
use std::time::Duration;

/// After how many steps of a statement SQLite asks: some tens of microseconds.
pub(super) const STEPS: i32 = 1000;

#[derive(Clone, Copy)]
struct Limit {
    until: Moment,
    /// How long each lock may be waited for.
    patience: Duration,
}

const NONE: Limit = Limit { until: Moment::NEVER, patience: Duration::ZERO };

thread_local! {
    // Without a destructor, so it can be read as long as the thread runs.
    static LIMIT: Cell<Limit> = const { Cell::new(NONE) };
}

/// Work with a deadline; the one before is back when this is dropped.
pub(super) struct Limited(Limit);

impl Limited {
    /// An earlier deadline of what this is part of stays.
    pub(super) fn begin(until: Moment, patience: Duration) -> Self {
        let before = LIMIT.get();
        LIMIT.set(Limit { until: until.min(before.until), patience });
        Self(before)
    }

    /// For what must not be interrupted.
    pub(super) fn suspended() -> Self {
        Self(LIMIT.replace(NONE))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        LIMIT.set(self.0);
    }
}

/// How much time there is left, if there is a deadline.
pub(super) fn left() -> Option<Duration> {
    let until = LIMIT.get().until;
    (until != Moment::NEVER).then(|| until.since(Clock::System.now()))
}

/// Whether the deadline is over: what a statement is interrupted for.
pub(super) fn is_over() -> bool {
    left().is_some_and(|left| left.is_zero())
}

/// SQLite's own pauses before it looks at a lock again.
const PAUSES: [u64; 12] = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100];

/// Whether to look at a lock again, after a pause; as SQLite's own busy time-out does it, and no longer than the deadline.
pub(super) fn wait_for_lock(tried: i32) -> bool {
    let tried = usize::try_from(tried).unwrap_or(0);
    let pause = |nth: usize| Duration::from_millis(PAUSES.get(nth).or(PAUSES.last()).copied().unwrap_or(1));
    let waited: Duration = (0..tried.min(PAUSES.len())).map(pause).sum();
    let more = u32::try_from(tried.saturating_sub(PAUSES.len())).unwrap_or(u32::MAX);
    let waited = waited.saturating_add(pause(PAUSES.len()).saturating_mul(more));
    let patience = LIMIT.get().patience.saturating_sub(waited);
    let pause = pause(tried).min(patience).min(left().unwrap_or(Duration::MAX));
    if pause.is_zero() {
        return false;
    }
    thread::sleep(pause);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_part_of_something_keeps_its_deadline_and_none_is_left_afterwards() {
        assert_eq!(left(), None);
        let now = Clock::System.now();
        let outer = Limited::begin(now, HOUR);
        {
            let _inner = Limited::begin(now.after(HOUR), HOUR);
            assert!(is_over(), "the outer one is");
            let _undo = Limited::suspended();
            assert!(!is_over());
        }
        assert!(is_over());
        drop(outer);
        assert_eq!((left(), is_over()), (None, false));
    }

    #[test]
    fn a_lock_is_waited_for_no_longer_than_patience_and_deadline_allow() {
        let now = Clock::System.now();
        let _limit = Limited::begin(now.after(HOUR), Duration::from_millis(3));
        assert!(wait_for_lock(0) && wait_for_lock(1), "1 ms and 2 ms");
        assert!(!wait_for_lock(2), "the three are over");
        assert!(!wait_for_lock(i32::MAX));
        let _late = Limited::begin(now, HOUR);
        assert!(!wait_for_lock(0));
    }
}
