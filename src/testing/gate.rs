//! Where threads wait until a test lets them go on.

use super::{PATIENCE, polled};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something that threads wait at until a test opens it. Clones are the same gate.
///
/// A test that makes threads meet at gates, and not after pauses, says the same on every machine.
///
/// # Examples
///
/// ```
/// use millpond::testing::Gate;
///
/// let gate = Gate::new();
/// let waits = gate.clone();
/// let thread = std::thread::spawn(move || waits.pass());
/// gate.wait_for(1); // it is there now
/// assert!(!gate.is_open());
/// gate.open();
/// thread.join().expect("it goes on");
/// gate.pass(); // nobody waits at an open one
/// ```
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    waiting: u32,
}

impl Gate {
    /// A closed one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the gate is open.
    pub fn pass(&self) {
        let mut state = self.0.state.lock();
        state.waiting += 1;
        self.0.changed.notify_all();
        while !state.open {
            self.0.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }

    /// Opens it, for good, for all who wait and all who come.
    pub fn open(&self) {
        self.0.state.lock().open = true;
        self.0.changed.notify_all();
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.state.lock().open
    }

    /// How many threads wait at it now.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.0.state.lock().waiting
    }

    /// Waits until at least `threads` wait at it.
    ///
    /// # Panics
    ///
    /// When that takes longer than a minute, which only a defect does.
    #[track_caller]
    pub fn wait_for(&self, threads: u32) {
        self.wait_within(threads, PATIENCE);
    }

    #[track_caller]
    fn wait_within(&self, threads: u32, patience: Duration) {
        let mut state = self.0.state.lock();
        self.0.changed.wait_while_for(&mut state, |state| state.waiting < threads, patience);
        // Not by what ended the wait: the last one may have come together with the end of the time.
        let waiting = state.waiting;
        drop(state);
        assert!(waiting >= threads, "{waiting} threads wait at the gate, and not {threads}");
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("Gate").field("open", &state.open).field("waiting", &state.waiting).finish()
    }
}

/// Looks again and again until something is so: for what happens on another thread and gives no signal.
///
/// # Panics
///
/// With `what`, when it is not so after a minute.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, PooledConnection, testing::eventually};
///
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).min_idle(2).build()?;
/// PooledConnection::discard(pool.get()?);
/// eventually("there is another one instead", || pool.stats().idle == 2);
/// # Ok::<(), millpond::Error>(())
/// ```
#[track_caller]
pub fn eventually(what: &str, so: impl FnMut() -> bool) {
    assert!(polled(so), "never so: {what}");
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[test]
    fn what_others_do_at_the_gate_does_not_prolong_the_wait() {
        let (gate, over) = (Gate::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            // As those who come do, more often than the wait is long.
            let coming = scope.spawn(|| {
                polled(|| {
                    gate.0.changed.notify_all();
                    over.load(SeqCst)
                })
            });
            let late = catch_unwind(AssertUnwindSafe(|| gate.wait_within(1, Duration::from_millis(500))));
            over.store(true, SeqCst);
            assert!(late.is_err() && coming.join().expect("no panic"), "it has ended before they have");
        });
    }
}
