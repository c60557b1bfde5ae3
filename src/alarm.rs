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

/// A pool's line to the keeper. Without one (a pool that is moved by hand) nothing happens.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Option<Line>>);

#[derive(Debug)]
struct Line {
    id: u64,
    keeper: Sender<Message>,
    due: Moment,
}

impl Alarm {
    pub(crate) fn connect(&self, id: u64, keeper: Sender<Message>) {
        *self.0.lock() = Some(Line { id, keeper, due: Moment::NEVER });
    }

    /// Asks to be tended at `moment` at the latest.
    pub(crate) fn at(&self, moment: Moment) {
        let mut line = self.0.lock();
        if let Some(line) = &mut *line
            && moment < line.due
        {
            line.due = moment;
            // The keeper lives as long as a pool is connected to it.
            drop(line.keeper.send(Message::At(line.id, moment)));
        }
    }

    /// The keeper comes: what was asked for is done with.
    pub(crate) fn answered(&self) {
        if let Some(line) = &mut *self.0.lock() {
            line.due = Moment::NEVER;
        }
    }

    pub(crate) fn disconnect(&self) {
        let line = self.0.lock().take();
        if let Some(line) = line {
            drop(line.keeper.send(Message::Leave(line.id)));
        }
    }
}
