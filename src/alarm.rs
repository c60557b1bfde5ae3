//! How a pool asks to be looked after: it names a moment, and the keeper comes then.

use crate::clock::Moment;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Something that wants to be looked after from time to time.
pub(crate) trait Tended: Send + Sync {
    /// Does what is due. Must not block: blocking work goes to helper threads.
    fn tend(self: Arc<Self>, now: Moment);
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

    /// A moment before `limit` at which the keeper was to come and has not; told once.
    #[allow(clippy::significant_drop_tightening, reason = "the lock covers two lines, on purpose")]
    pub(crate) fn missed(&self, limit: Moment) -> Option<Moment> {
        let mut wish = self.0.lock();
        let missed = wish.keeper.is_some() && wish.due < limit;
        missed.then(|| std::mem::replace(&mut wish.due, Moment::NEVER))
    }

    pub(crate) fn disconnect(&self) {
        let keeper = self.0.lock().keeper.take();
        if let Some((id, keeper)) = keeper {
            drop(keeper.send(Message::Leave(id)));
        }
    }
}
