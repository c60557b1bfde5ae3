//! The requests that are under way, so that the end can wait for them.

use parking_lot::{Condvar, Mutex};
use std::time::Instant;

/// Counts what is under way, until it is closed and nothing new begins.
#[derive(Default)]
pub(crate) struct Work {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    under_way: usize,
    closed: bool,
}

/// A request under way; it ends when this is dropped, also by unwinding.
pub(crate) struct UnderWay<'a>(&'a Work);

impl Work {
    /// None once it is closed.
    pub(crate) fn begin(&self) -> Option<UnderWay<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.under_way += 1;
        drop(state);
        Some(UnderWay(self))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Lets nothing new begin, waits for the rest, and says how many had not ended in time.
    pub(crate) fn close(&self, until: Instant) -> usize {
        let mut state = self.state.lock();
        state.closed = true;
        self.ended.wait_while_until(&mut state, |state| state.under_way > 0, until);
        state.under_way
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state.lock().under_way -= 1;
        self.0.ended.notify_all();
    }
}
