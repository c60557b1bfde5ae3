//! A pool as it is on its first day.

use super::{Adapting, Core, Hooks, by_interest, late_after, rules};
use crate::alarm::Alarm;
use crate::budget::Budget;
use crate::clock::{Clock, Moment};
use crate::config::{Fairness, Maintenance, Nested, Settings, WhenDown};
use crate::event::EventHandler;
use crate::helpers;
use crate::incident::Journal;
use crate::manager::Manager;
use crate::pool::rack::{Limits, Rack};
use crate::pool::shelf::{CLOSED, PAUSED};
use crate::stats::Counters;
use crate::sync::{AtomicU32, Condvar, Mutex};
use parking_lot::{Mutex as PlainMutex, RwLock};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

/// What a pool is made of. The settings have been found good.
pub(crate) struct Parts<M: Manager> {
    pub(crate) manager: M,
    pub(crate) name: String,
    /// Among the pools of the process.
    pub(crate) number: u64,
    pub(crate) settings: Settings,
    pub(crate) hooks: Hooks<M>,
    pub(crate) handlers: Vec<Box<dyn EventHandler>>,
    pub(crate) budget: Option<Budget>,
    pub(crate) clock: Clock,
}

impl<M: Manager> Core<M> {
    pub(crate) fn new(parts: Parts<M>) -> Self {
        let Parts { manager, name, number, settings, hooks, handlers, budget, clock } = parts;
        let (handlers, samplers) = by_interest(handlers, clock.now());
        let (patience, barrier) = match settings.fairness {
            Fairness::Strict => (None, u32::MAX),
            Fairness::Bounded(patience) => (Some(patience), CLOSED | PAUSED),
        };
        let limits = Limits {
            max_size: settings.max_size,
            min_idle: settings.min_idle,
            max_connecting: settings.max_connecting,
            max_waiting: settings.max_waiting,
            patience,
            fail_fast: settings.when_down == WhenDown::FailFast,
            start_up: settings.start_up().give_up.unwrap_or(Duration::MAX),
            give_up: settings.retry.give_up.unwrap_or(Duration::MAX),
        };
        Self {
            rack: Arc::new(Rack::new(number, limits, budget.map(|budget| budget.open_account()))),
            origin: forkguard::new(),
            fresh: rules::fresh_ticks(settings.validation).into(),
            barrier,
            max_uses: settings.max_uses.unwrap_or(u64::MAX),
            rules: Mutex::new(rules::from_settings(&settings)),
            edition: AtomicU32::new(0),
            connection_timeout: RwLock::new(settings.connection_timeout),
            leak_threshold: Mutex::new(settings.leak_threshold),
            late_after: late_after(settings.adaptive.as_ref()).into(),
            adapting: Mutex::new(settings.adaptive.clone().map(|adaptive| Adapting::new(adaptive, clock.now()))),
            wished: Mutex::new(None),
            timed: settings.use_times || !handlers.is_empty(),
            careful: settings.check_on_caller || settings.nested == Nested::Deny,
            observed: hooks.on_return.is_some() || !handlers.is_empty(),
            bound: AtomicUsize::new(usize::from(settings.bound_only)),
            generation: AtomicU32::new(0),
            sweep_until: Mutex::new(Moment::ZERO),
            tending: AtomicBool::new(false),
            tend_again: AtomicBool::new(false),
            suspecting: AtomicBool::new(false),
            samplers,
            handlers,
            journal: PlainMutex::new(Journal::new(settings.incidents as usize)),
            seed: match clock {
                Clock::System => RandomState::new().hash_one(number),
                // Moved by hand: the same again in every run.
                #[cfg(any(test, loom, shuttle, feature = "testing"))]
                Clock::Hand(_) => 0,
            },
            clock,
            manager,
            hooks,
            name: name.into(),
            counters: Counters::default(),
            handles: AtomicUsize::new(1),
            next_connection: AtomicU64::new(1),
            deaths: Mutex::default(),
            labels: Default::default(),
            overdue: Mutex::default(),
            nested_at: Mutex::default(),
            last_check_failure: Default::default(),
            warming: Mutex::default(),
            next_warming: AtomicU64::new(1),
            told: Condvar::new(),
            gathering: Mutex::new(()),
            alarm: Alarm::default(),
            enrolment: Mutex::new((settings.maintenance == Maintenance::Background).then(helpers::enrol)),
            settings,
        }
    }
}
