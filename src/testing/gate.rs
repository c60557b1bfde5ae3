//! Where threads wait until a test lets them go on.

use super::{PATIENCE, polled};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::sync::Arc;

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
        let mut state = self.0.state.lock();
        while state.waiting < threads {
            if self.0.changed.wait_for(&mut state, PATIENCE).timed_out() {
                let waiting = state.waiting;
                drop(state);
                panic!("{waiting} threads wait at the gate, and not {threads}");
            }
        }
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
