//! Changing the maximum, by hand or by the adaptive rule, and what the rule is told.

use super::{Core, retire_all};
use crate::adaptive::{Adaptive, AdaptiveState, Decision, Grounds, Observation, Reason, Rule};
use crate::clock::Moment;
use crate::error::Error;
use crate::event::{CloseReason, Resized};
use crate::incident::IncidentKind;
use crate::manager::Manager;
use crate::pool::rack::{Numbers, Phase};
use crate::sync::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// What is waited for longer than this is late: never, in a pool of a fixed size.
pub(crate) fn late_after(adaptive: Option<&Adaptive>) -> u64 {
    adaptive.map_or(u64::MAX, |adaptive| u64::try_from(adaptive.target().as_nanos()).unwrap_or(u64::MAX))
}

/// What the maximum is to be, and why.
#[derive(Debug)]
pub(crate) struct Wish {
    to: u32,
    reason: Reason,
    grounds: Option<Grounds>,
}

/// Who waits because the pool is full. What is taken and not lent is being opened, checked or closed, and about to serve
/// somebody; where that is the most of it, all wait for that.
fn waiting_for_room(numbers: &Numbers, in_use: u32) -> u32 {
    let coming = numbers.taken.saturating_sub(in_use);
    let full = numbers.phase == Phase::Open && numbers.taken >= numbers.max_size && coming <= in_use;
    if full { numbers.waiting.saturating_sub(coming) } else { 0 }
}

/// A rule at work on a pool, and what the pool had counted when it decided last.
#[derive(Debug)]
pub(crate) struct Adapting {
    settings: Adaptive,
    rule: Rule,
    decision: Decision,
    last: Moment,
    checkouts: u64,
    gave_up: u64,
    late: u64,
}

impl Adapting {
    pub(crate) fn new(settings: Adaptive, now: Moment) -> Self {
        let rule = Rule::new(&settings);
        Self { settings, rule, decision: Decision::Hold(Reason::Fits), last: now, checkouts: 0, gave_up: 0, late: 0 }
    }

    /// When the next decision is due.
    pub(crate) fn due(&self) -> Moment {
        self.last.after(self.settings.interval())
    }

    /// Decides, on what `core` has counted since the last time.
    pub(crate) fn decide<M: Manager>(&mut self, now: Moment, core: &Core<M>) -> AdaptiveState {
        let seen = self.observe(now, core);
        self.decision = self.rule.observe(&seen);
        self.state()
    }

    fn observe<M: Manager>(&mut self, now: Moment, core: &Core<M>) -> Observation {
        let numbers = core.rack.numbers();
        let stats = core.brief(&numbers);
        // Who was turned away because too many waited is worse off than who was late.
        let (late, gave_up) = (stats.late + stats.overloads, core.counters.gave_up.get() + stats.overloads);
        let seen = Observation {
            interval: now.since(self.last),
            max_size: numbers.max_size,
            min_idle: numbers.min_idle,
            in_use: stats.in_use,
            waiting: numbers.waiting,
            waiting_for_room: waiting_for_room(&numbers, stats.in_use),
            longest_wait: numbers.waiting_since.map_or(Duration::ZERO, |since| now.since(since)),
            checkouts: stats.checkouts.saturating_sub(self.checkouts),
            gave_up: gave_up.saturating_sub(self.gave_up),
            late: late.saturating_sub(self.late),
            outage: numbers.outage.is_some() || numbers.phase != Phase::Open,
        };
        (self.last, self.checkouts, self.late, self.gave_up) = (now, stats.checkouts, late, gave_up);
        seen
    }

    fn state(&self) -> AdaptiveState {
        AdaptiveState::new(self.decision, self.rule.grounds().clone())
    }
}

impl<M: Manager> Core<M> {
    /// Asks for the first decision: else its interval would last until somebody comes.
    pub(crate) fn adapt_from_now(&self) {
        let due = self.adapting.lock().as_ref().map(Adapting::due);
        if let Some(due) = due {
            self.alarm.at(due);
        }
    }

    pub(crate) fn adaptive(&self) -> Option<Adaptive> {
        self.adapting.lock().as_ref().map(|adapting| adapting.settings.clone())
    }

    pub(crate) fn adaptive_state(&self) -> Option<AdaptiveState> {
        self.adapting.lock().as_ref().map(Adapting::state)
    }

    pub(crate) fn set_adaptive(self: &Arc<Self>, adaptive: Option<Adaptive>) -> Result<(), Error> {
        let numbers = self.rack.numbers();
        let min_idle = numbers.min_idle;
        let problems = adaptive.as_ref().map_or_else(Vec::new, |adaptive| adaptive.problems(min_idle, &str::to_owned));
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        let size = adaptive.as_ref().map_or(numbers.max_size, |adaptive| adaptive.nearest(numbers.max_size));
        // Relaxed: who reads it late has one wait counted by the limit of before.
        self.late_after.store(late_after(adaptive.as_ref()), Ordering::Relaxed);
        let now = self.clock.now();
        let adapting = adaptive.map(|adaptive| {
            let mut adapting = Adapting::new(adaptive, now);
            // What was before is no news.
            adapting.observe(now, self);
            adapting
        });
        let mut current = self.adapting.lock();
        *current = adapting;
        self.wish(size, Reason::ByHand, None);
        drop(current);
        self.fulfil();
        self.alarm.at(now);
        Ok(())
    }

    pub(crate) fn resize_by_hand(self: &Arc<Self>, max_size: u32) -> Result<(), Error> {
        self.check_settings(|settings| settings.max_size = max_size)?;
        if let Some(problem) = self.adaptive().and_then(|adaptive| adaptive.refuses(max_size)) {
            return Err(Error::config(&[problem]));
        }
        let mut adapting = self.adapting.lock();
        if let Some(adapting) = &mut *adapting {
            adapting.rule.resized_by_hand();
        }
        self.wish(max_size, Reason::ByHand, None);
        drop(adapting);
        self.fulfil();
        Ok(())
    }

    /// Writes down what the maximum is to be. To be called under the lock of `adapting`, so that a decision of the rule is
    /// either before a command by hand or takes it into account.
    pub(crate) fn wish(&self, to: u32, reason: Reason, grounds: Option<Grounds>) {
        *self.wished.lock() = Some(Arc::new(Wish { to, reason, grounds }));
    }

    /// Changes the maximum to what was wished last, and tells. Resizing may call the user's functions, so no lock is held
    /// meanwhile; who has been overtaken by a later wish does that one again, in case its own came after it.
    pub(crate) fn fulfil(self: &Arc<Self>) {
        let mut done = None;
        loop {
            let last = self.wished.lock().clone();
            let Some(wish) = last.filter(|last| done.as_ref().is_none_or(|done| !Arc::ptr_eq(done, last))) else {
                break;
            };
            self.resize_because(wish.to, wish.reason, wish.grounds.as_ref());
            done = Some(wish);
        }
    }

    fn resize_because(self: &Arc<Self>, to: u32, reason: Reason, grounds: Option<&Grounds>) {
        let (from, surplus) = self.rack.resize(to);
        retire_all(surplus, CloseReason::Resize);
        self.open_wanted();
        if from == to {
            return;
        }
        (if to > from { &self.counters.grown } else { &self.counters.shrunk }).add();
        let name = &self.name;
        let text = match grounds {
            Some(grounds) => format!("the maximum goes from {from} to {to}: {reason} ({grounds})"),
            None => format!("the maximum goes from {from} to {to}, {reason}"),
        };
        log::debug!("pool {name:?}: {text}");
        if grounds.is_none() {
            // What the rule does is no incident, and there may be much of it.
            self.note(IncidentKind::Resized, text);
        }
        self.emit(|handler, pool| handler.resized(pool, &Resized { from, to, reason, grounds }));
    }

    /// Whether those who wait are late because the pool is full, for the rule to know.
    pub(crate) fn notes_late(&self) -> bool {
        self.late_after.load(Ordering::Relaxed) != u64::MAX
    }

    /// Counts a caller that has waited in a full pool, if it was for too long.
    pub(crate) fn note_late(&self, waited: Duration, gave_up: bool) {
        if waited.as_nanos() > u128::from(self.late_after.load(Ordering::Relaxed)) {
            self.counters.late.add();
            if gave_up {
                self.counters.gave_up.add();
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::Pool;

    #[test]
    fn a_decision_that_is_carried_out_late_does_not_undo_what_was_set_by_hand_meanwhile() {
        let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(50).build_lazy().expect("well set");
        let core = &pool.core;
        core.wish(2, Reason::Idle, None);
        pool.resize(70).expect("well set");
        core.fulfil();
        assert_eq!(pool.stats().max_size, 70);
    }
}
