//! What is done on a visit: old and idle connections are retired, wanted ones are opened, slow closes given up.

use super::{adapt, leaks};
use crate::alarm::Tended;
use crate::clock::{Moment, tick_span, ticks, ticks_between};
use crate::config::Validation;
use crate::event::CloseReason;
use crate::manager::Manager;
use crate::pool::entry::{Occasion, Verdict};
use crate::pool::rack::{Numbers, Phase};
use crate::pool::shared::{CLOSE_GRACE, Core, Item, retire, retire_all};
use crate::pool::shelf::Slot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a pool that keeps a minimum and has room is looked at: nobody counts idle connections on the fast path.
const REFILL: Duration = Duration::from_millis(250);

/// How soon a connection is looked at again whose turn to die had not come.
const NEXT_TURN: Duration = Duration::from_millis(20);

impl<M: Manager> Tended for Core<M> {
    fn tend(self: Arc<Self>, now: Moment) {
        tend(&self, now);
    }

    fn thaw(&self, now: Moment) {
        self.notice_standstill(now);
    }
}

/// Whoever does the upkeep, until it is done.
struct Tending<'a, M: Manager>(&'a Core<M>);

impl<'a, M: Manager> Tending<'a, M> {
    /// Unless somebody is at it already, who will then see to it that somebody comes again.
    fn begin(core: &'a Core<M>) -> Option<Self> {
        // Sequentially consistent, here and below: either this one sees that the other has ended, or that one sees this mark.
        while core.tending.swap(true, Ordering::SeqCst) {
            core.tend_again.store(true, Ordering::SeqCst);
            if core.tending.load(Ordering::SeqCst) {
                return None;
            }
        }
        Some(Self(core))
    }
}

impl<M: Manager> Drop for Tending<'_, M> {
    fn drop(&mut self) {
        self.0.tending.store(false, Ordering::SeqCst);
        if self.0.tend_again.swap(false, Ordering::SeqCst) {
            // The visit that came meanwhile has done nothing, and what it was asked for still stands in the alarm, which
            // does not ring for anything later.
            self.0.alarm.answered();
            self.0.alarm.at(self.0.clock.now());
        }
    }
}

/// Does all that is due, unless somebody is at it: the keeper, a caller of `maintain`, or one who waits.
pub(crate) fn tend<M: Manager>(core: &Arc<Core<M>>, now: Moment) {
    if core.forked() {
        return;
    }
    let Some(_tending) = Tending::begin(core) else { return };
    core.alarm.answered();
    let next_close = core.rack.give_up_slow_closes(now.before(CLOSE_GRACE));
    if let Some(begun) = next_close {
        core.alarm.at(begun.after(CLOSE_GRACE));
    }
    let numbers = core.rack.numbers();
    if numbers.phase == Phase::Closed {
        return;
    }
    bury(core, now);
    thin_out(core, now, &numbers);
    keep_alive(core, now);
    leaks::watch(core, now);
    adapt::tick(core, now);
    core.sample_due(now);
    if let Some(next) = core.rack.hedge(now) {
        core.alarm.at(next);
    }
    refill(core);
    plan_next(core, now, &numbers);
}

/// Opens what is wanted.
fn refill<M: Manager>(core: &Arc<Core<M>>) {
    if core.by_callers() {
        // As long as there is room: nobody goes on with it when one has been opened.
        loop {
            core.warm_on();
            if core.open_now() == 0 {
                break;
            }
        }
    } else {
        core.open_now();
        // Not here: it may call a function of the user's.
        let warming = Arc::clone(core);
        if !core.warming.lock().is_empty() {
            drop(core.dispatch(Box::new(move || {
                warming.warm_on();
                warming.open_now();
            })));
        }
    }
}

/// Retires idle connections of an older generation, and those whose planned death has come: one at a time, and each
/// only when its successor is open, as long as the maximum and the lifetime allow.
fn bury<M: Manager>(core: &Arc<Core<M>>, now: Moment) {
    core.end_renewal(now);
    let until = *core.sweep_until.lock();
    let changed = until != Moment::ZERO;
    if until > now {
        core.alarm.at(until);
    } else if changed {
        *core.sweep_until.lock() = Moment::ZERO;
    }
    if !changed && !core.deaths.lock().any_until(now) {
        return;
    }
    // While connecting fails, nobody's turn comes soon.
    let next_turn = if core.rack.numbers().outage.is_some() { REFILL } else { NEXT_TURN };
    let slots: Vec<u32> = core.rack.shelf.each().map(|(index, _)| index).collect();
    for index in slots {
        let Some(taken) = core.rack.shelf.take_at(index, now.tick(), u32::MAX) else { continue };
        let mut item = taken.entry;
        let rules = core.rules_for(&mut item);
        let planned = item.generation >= rules.oldest;
        match item.verdict(now, &rules, Occasion::Sweep { above_minimum: false }) {
            Verdict::Retire(reason @ (CloseReason::Lifetime | CloseReason::Refresh)) if planned => {
                if may_die(core, now, item.expires(&rules)) {
                    retire(item, reason);
                } else {
                    core.alarm.at(now.after(next_turn));
                    core.put_back(item, taken.mark);
                }
            }
            Verdict::Retire(reason) => retire(item, reason),
            Verdict::Keep | Verdict::Validate => core.put_back(item, taken.mark),
        }
    }
}

fn may_die<M: Manager>(core: &Arc<Core<M>>, now: Moment, expires: Moment) -> bool {
    if core.rack.has_successor() || now >= expires {
        return true;
    }
    let numbers = core.rack.numbers();
    let in_motion = numbers.opening > 0 || numbers.closing > 0 || numbers.outage.is_some();
    // Full: the old one must go before the new one can come, but not two at once.
    !in_motion && !core.open_successor()
}

/// Retires what has been idle for too long, oldest first, down to the minimum.
fn thin_out<M: Manager>(core: &Arc<Core<M>>, now: Moment, numbers: &Numbers) {
    let Some(timeout) = core.rules().idle_timeout else { return };
    let verdict = Verdict::Retire(CloseReason::IdleTimeout);
    let spare = |idle: usize| idle.saturating_sub(kept(core, numbers) as usize);
    let old = oldest(core, now, timeout, Slot::idle_since, spare, verdict);
    retire_all(old, CloseReason::IdleTimeout);
}

/// Has checked what was neither used nor checked for long, longest first, and at most a quarter of the idle ones at once:
/// callers need some meanwhile.
fn keep_alive<M: Manager>(core: &Arc<Core<M>>, now: Moment) {
    let rules = core.rules();
    let Some(every) = rules.keepalive.filter(|_| rules.validation != Validation::Never) else { return };
    let quarter = |idle: usize| idle.div_ceil(4).saturating_sub(core.rack.numbers().checking as usize);
    for item in oldest(core, now, every, |slot| slot.mark().since(), quarter, Verdict::Validate) {
        core.send_to_check(item);
    }
}

/// Takes idle connections off the shelf that have been so for `limit` or longer, longest first, and at most as many as
/// `at_most` says of the number of idle ones: those on which the verdict is the one that is asked for.
fn oldest<M: Manager>(
    core: &Arc<Core<M>>,
    now: Moment,
    limit: Duration,
    since: impl Fn(&Slot<Item<M>>) -> u32,
    at_most: impl FnOnce(usize) -> usize,
    verdict: Verdict,
) -> Vec<Box<Item<M>>> {
    let idle = core.rack.shelf.each().filter(|(_, slot)| slot.mark().is_idle());
    let mut ages: Vec<_> = idle.map(|(index, slot)| (ticks_between(since(slot), now.tick()), index)).collect();
    let at_most = at_most(ages.len());
    ages.sort_unstable_by_key(|&(age, _)| std::cmp::Reverse(age));
    let mut found = Vec::new();
    for (age, index) in ages.into_iter().take(at_most) {
        // A tick early is early enough to look; the verdict is exact.
        if age.saturating_add(1) < ticks(limit) {
            break;
        }
        let Some(mut taken) = core.rack.shelf.take_at(index, now.tick(), u32::MAX) else { continue };
        let rules = core.rules_for(&mut taken.entry);
        let above_minimum = verdict != Verdict::Validate;
        if taken.entry.verdict(now, &rules, Occasion::Sweep { above_minimum }) == verdict {
            found.push(taken.entry);
        } else {
            core.put_back(taken.entry, taken.mark);
        }
    }
    found
}

/// How many connections stay however long they have been idle.
fn kept<M: Manager>(core: &Core<M>, numbers: &Numbers) -> u32 {
    if core.settings.replace_idle { 0 } else { numbers.min_idle }
}

fn plan_next<M: Manager>(core: &Arc<Core<M>>, now: Moment, numbers: &Numbers) {
    let deaths = core.deaths.lock();
    if deaths.any_until(now) {
        // It was borrowed when its time came, and may have been returned by a clock that was a little late.
        core.alarm.at(now.after(REFILL));
    }
    if let Some(death) = deaths.first_after(now) {
        core.alarm.at(death);
    }
    drop(deaths);
    if let Some(attempt) = core.rack.next_attempt(now) {
        // Where a budget has no place for it, there will be word when it has.
        let used_up = core.rack.account.as_ref().is_some_and(|account| account.used_up().is_some());
        core.alarm.at(attempt.max(now.after(if used_up { REFILL } else { NEXT_TURN })));
    }
    // What a budget has free some time is for those who wait, and for the rest nobody is told of it.
    let warming = core.rack.account.is_some() && !core.warming.lock().is_empty();
    if (numbers.min_idle > 0 || warming) && numbers.taken < numbers.max_size {
        core.alarm.at(now.after(REFILL));
    }
    // What is borrowed now will be idle one day: whoever returns it does not ring the keeper.
    let (mut idle, mut shelved, mut oldest, mut most_silent) = (0, 0, 0, 0);
    for (_, slot) in core.rack.shelf.each() {
        let mark = slot.mark();
        if mark.is_idle() {
            shelved += 1;
            oldest = oldest.max(ticks_between(slot.idle_since(), now.tick()));
            most_silent = most_silent.max(ticks_between(mark.since(), now.tick()));
        }
        idle += u32::from(mark.is_idle() || mark.is_lent());
    }
    let within = |limit: Option<Duration>, passed: u32| {
        if let Some(limit) = limit {
            core.alarm.at(now.after(limit.saturating_sub(tick_span(passed)).max(NEXT_TURN)));
        }
    };
    let rules = core.rules();
    if idle > kept(core, numbers) {
        // One that stays however long it has been idle is not waited for.
        within(rules.idle_timeout, if shelved > kept(core, numbers) { oldest } else { 0 });
    }
    if idle > 0 && rules.validation != Validation::Never {
        within(rules.keepalive, most_silent);
    }
}
