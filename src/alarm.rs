//! How a pool asks to be looked after: it names a moment, and the keeper comes then.

use crate::clock::Moment;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Something that wants to be looked after from time to time.
pub(crate) trait Tended: Send + Sync {
    /// Does what is due. Must not block: blocking work goes to helper threads.
    fn tend(self: Arc<Self>, now: Moment);

    /// Is told that the keeper has overslept, while that can still be asked of the alarm.
    fn thaw(&self, now: Moment);
}

/// So much too late the keeper wakes up only if the process stood still. (A callback that holds it up does not count:
/// it is awake then.)
const STANDSTILL: Duration = Duration::from_secs(2);

/// Whether the process stood still, if the keeper was to wake up at this moment and has not, or only now.
pub(crate) fn stood_still(until: Moment, now: Moment) -> bool {
    until.after(STANDSTILL) < now
}

/// Until when the keeper sleeps; `NEVER` while it is awake.
static ASLEEP_UNTIL: AtomicU64 = AtomicU64::new(u64::MAX);

/// Says until when the keeper sleeps. Relaxed: whoever reads it late looks again at the next visit.
pub(crate) fn sleeps_until(moment: Moment) {
    ASLEEP_UNTIL.store(moment.to_bits(), Ordering::Relaxed);
}

/// What the keeper is told.
pub(crate) enum Message {
    Join(u64, Weak<dyn Tended>),
    At(u64, Moment),
    Leave(u64),
}

/// When a pool wants to be looked after, and its line to the keeper. Without a line (a pool that has no threads, or one
/// that is moved by hand) nobody comes, and the moment is only written down.
#[derive(Debug)]
pub(crate) struct Alarm(Mutex<Wish>);

#[derive(Debug)]
struct Wish {
    due: Moment,
    keeper: Option<(u64, Sender<Message>)>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self(Mutex::new(Wish { due: Moment::NEVER, keeper: None }))
    }
}

impl Alarm {
    pub(crate) fn connect(&self, id: u64, keeper: Sender<Message>) {
        self.0.lock().keeper = Some((id, keeper));
    }

    /// Asks to be tended at `moment` at the latest.
    pub(crate) fn at(&self, moment: Moment) {
        let mut wish = self.0.lock();
        if moment < wish.due {
            wish.due = moment;
            if let Some((id, keeper)) = &wish.keeper {
                // The keeper lives as long as a pool is connected to it.
                drop(keeper.send(Message::At(*id, moment)));
            }
        }
    }

    /// When the pool wants to be tended.
    pub(crate) fn due(&self) -> Moment {
        self.0.lock().due
    }

    /// The keeper comes: what was asked for is done with.
    pub(crate) fn answered(&self) {
        self.0.lock().due = Moment::NEVER;
    }

    /// Until when the keeper was to sleep, if it has not woken up long after: the process stood still. Only of a pool that
    /// the keeper looks after.
    pub(crate) fn overslept(&self, now: Moment) -> Option<Moment> {
        let until = Moment::from_bits(ASLEEP_UNTIL.load(Ordering::Relaxed));
        let overslept = stood_still(until, now) && self.0.lock().keeper.is_some();
        overslept.then_some(until)
    }

    pub(crate) fn disconnect(&self) {
        let keeper = self.0.lock().keeper.take();
        if let Some((id, keeper)) = keeper {
            drop(keeper.send(Message::Leave(id)));
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn only_a_keeper_that_comes_much_too_late_has_stood_still() {
        let due = Moment::ZERO.after(Duration::from_secs(60));
        assert!(!stood_still(due, Moment::ZERO) && !stood_still(due, due.after(STANDSTILL)));
        assert!(stood_still(due, due.after(STANDSTILL + Duration::from_nanos(1))));
        assert!(!stood_still(Moment::NEVER, Moment::NEVER), "one that is awake");
    }
}
