//! The pool as all its handles, guards and jobs share it: the only place that acts on a pool.
//!
//! What is to be done is decided in the book and by the verdict; here it is done, outside every lock: connecting,
//! checking, cleaning, closing, telling.

mod adapt;
mod birth;
mod check;
mod checkin;
mod checkout;
mod close;
mod fork;
mod gather;
mod nested;
mod open;
mod report;
pub(crate) mod rules;
mod sharing;
mod tell;
mod warm;

pub(crate) use adapt::{Adapting, Wish, late_after};
pub(crate) use birth::Parts;
pub(crate) use checkin::{checkin, checkin_to};
pub(crate) use close::{retire, retire_all};
pub(crate) use tell::{Handlers, Samplers, by_interest};

use crate::alarm::Alarm;
use crate::clock::{Clock, Moment};
use crate::config::{Maintenance, Settings};
use crate::error::Cause;
use crate::helpers;
use crate::incident::Journal;
use crate::lease::Lease;
use crate::manager::Manager;
use crate::pool::entry::{Entry, Rules};
use crate::pool::lifespan::Deaths;
use crate::pool::rack::Rack;
use crate::pool::shelf::Mark;
use crate::pool::warming::Warming;
use crate::sync::{AtomicU32, Condvar, Mutex};
use forkguard::Guard as ForkGuard;
use parking_lot::{Mutex as PlainMutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32 as PlainU32, AtomicU64, AtomicUsize};
use std::time::Duration;

/// A connection of a pool over `M`.
pub(crate) type Item<M> = Entry<<M as Manager>::Connection, Arc<Core<M>>>;

/// A user's function over a connection that may refuse it.
pub(crate) type Hook<M> =
    Box<dyn Fn(&mut <M as Manager>::Connection) -> Result<(), <M as Manager>::Error> + Send + Sync>;

/// A user's function over a connection that is about to be closed.
pub(crate) type Farewell<C> = Box<dyn Fn(&mut C) + Send + Sync>;

/// The user's functions over connections.
pub(crate) struct Hooks<M: Manager> {
    pub(crate) on_open: Option<Hook<M>>,
    pub(crate) on_return: Option<Hook<M>>,
    pub(crate) on_close: Option<Farewell<M::Connection>>,
}

impl<M: Manager> Default for Hooks<M> {
    fn default() -> Self {
        Self { on_open: None, on_return: None, on_close: None }
    }
}

/// How long closing a connection may take before its place is given to somebody else. A close that is not hindered
/// takes less than a millisecond; one that hangs must not cost the pool a place.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(100);

/// A pool.
pub(crate) struct Core<M: Manager> {
    pub(crate) rack: Arc<Rack<Item<M>>>,
    pub(crate) clock: Clock,
    /// Tells the process that made the pool from a child that was forked off.
    pub(crate) origin: ForkGuard,
    /// Connections that were idle for less than so many ticks are lent without a check.
    pub(crate) fresh: PlainU32,
    /// Which alerts bar newcomers from the shelf.
    pub(crate) barrier: u32,
    pub(crate) max_uses: u64,
    /// What connections are judged by, and the number of these rules.
    pub(crate) rules: Mutex<Rules>,
    pub(crate) edition: AtomicU32,
    pub(crate) connection_timeout: RwLock<Duration>,
    pub(crate) leak_threshold: Mutex<Option<Duration>>,
    pub(crate) adapting: Mutex<Option<Adapting>>,
    /// What the maximum was last wished to be, by hand or by the rule.
    pub(crate) wished: Mutex<Option<Arc<Wish>>>,
    /// From how many nanoseconds on a wait in a full pool is counted as late.
    pub(crate) late_after: AtomicU64,
    /// A checkout has more to look at than the shelf: the r2d2 module's, and where nested ones are refused.
    pub(crate) careful: bool,
    /// Exact use times are measured.
    pub(crate) timed: bool,
    /// Somebody looks on when connections come back: a hook or an event handler.
    pub(crate) observed: bool,
    /// How many connections are bound to threads, and one more where only those may be used: `with` looks at the thread
    /// when this is not zero.
    pub(crate) bound: AtomicUsize,
    /// How many times the pool has been refreshed.
    pub(crate) generation: AtomicU32,
    pub(crate) handlers: Handlers,
    pub(crate) samplers: Samplers,
    /// Where incidents are kept.
    pub(crate) journal: PlainMutex<Journal>,
    pub(crate) manager: M,
    pub(crate) hooks: Hooks<M>,
    pub(crate) name: Arc<str>,
    /// As the pool was built. What may change since is beside it.
    pub(crate) settings: Settings,
    pub(crate) counters: crate::stats::Counters,
    /// How many handles there are: the last one that goes closes the pool.
    pub(crate) handles: AtomicUsize,
    pub(crate) next_connection: AtomicU64,
    pub(crate) seed: u64,
    pub(crate) deaths: Mutex<Deaths>,
    /// Until when all that is idle is looked at on each visit, because rules have changed, and something may have been on
    /// its way to the shelf meanwhile.
    pub(crate) sweep_until: Mutex<Moment>,
    /// The upkeep is being done.
    pub(crate) tending: AtomicBool,
    /// Somebody came for it meanwhile.
    pub(crate) tend_again: AtomicBool,
    /// What was idle when something failed is being checked.
    pub(crate) suspecting: AtomicBool,
    /// This and the next are read by everybody who gives up: readers must not hold each other up.
    pub(crate) labels: RwLock<HashMap<u64, Arc<str>>>,
    pub(crate) last_check_failure: RwLock<Option<(Moment, Cause)>>,
    /// Leases that are overdue and have been told of, by place.
    pub(crate) overdue: Mutex<HashMap<u32, (Mark, Lease)>>,
    /// Source lines of nested checkouts that have been told of.
    pub(crate) nested_at: Mutex<HashSet<&'static Location<'static>>>,
    /// Warm-ups that are under way.
    pub(crate) warming: Mutex<Vec<Warming>>,
    pub(crate) next_warming: AtomicU64,
    /// What there was to tell of a warm-up has been told.
    pub(crate) told: Condvar,
    /// Only one caller at a time gathers several connections.
    pub(crate) gathering: Mutex<()>,
    pub(crate) alarm: Alarm,
    pub(crate) enrolment: Mutex<Option<helpers::Enrolment>>,
}

impl<M: Manager> Core<M> {
    /// Whether the pool has no threads: callers do all the work.
    pub(crate) fn by_callers(&self) -> bool {
        self.settings.maintenance == Maintenance::Manual
    }

    /// Has a job that may block for long done on a helper thread, or here where the pool has none.
    ///
    /// # Errors
    ///
    /// Gives the job back when no thread can be had.
    pub(crate) fn dispatch(&self, job: helpers::Job) -> Result<(), (io::Error, helpers::Job)> {
        if self.by_callers() {
            job();
            return Ok(());
        }
        helpers::run(job)
    }
}

impl<M: Manager> fmt::Debug for Core<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("name", &self.name).finish_non_exhaustive()
    }
}
