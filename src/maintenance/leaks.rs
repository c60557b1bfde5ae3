//! Leases that last longer than they should: told once when they are overdue, and once when they have ended.

use crate::clock::{Moment, tick_span, ticks, ticks_between};
use crate::incident::IncidentKind;
use crate::manager::Manager;
use crate::pool::shared::Core;
use std::time::Duration;

/// How soon the end of an overdue lease is noticed. Nobody looks for it on the return, which is the fast path.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// However short the limit is, leases are not looked at more often.
const SOON: Duration = Duration::from_millis(20);

/// Tells of leases that are overdue and of overdue ones that have ended; asks to be called again in time.
pub(super) fn watch<M: Manager>(core: &Core<M>, now: Moment) {
    let Some(limit) = *core.leak_threshold.lock() else { return };
    let mut next = now.after(limit);
    let mut told = std::mem::take(&mut *core.overdue.lock());
    told.retain(|&index, (mark, lease)| {
        let Some(slot) = core.rack.shelf.slot(index) else { return false };
        if slot.mark() == *mark {
            return true;
        }
        // Where it lies idle its mark says since when; else it has been lent or closed in the meantime.
        let end = if slot.mark().is_idle() { slot.mark().since() } else { now.tick() };
        lease.held = lease.held.max(tick_span(ticks_between(mark.since(), end)));
        let text = format!("connection {} has come back: {lease}", lease.connection);
        log::warn!("pool {:?}: {text}", core.name);
        core.note(IncidentKind::OverdueEnded, text);
        core.emit(|handler, pool| handler.overdue_ended(pool, lease));
        false
    });
    for (index, slot) in core.rack.shelf.each() {
        let mark = slot.mark();
        if !mark.is_lent() || told.contains_key(&index) {
            continue;
        }
        let held = ticks_between(mark.since(), now.tick());
        if held < ticks(limit) {
            next = next.min(now.after(limit.saturating_sub(tick_span(held))));
        } else if let Some(lease) = core.lease_of(slot) {
            let text = format!("connection {} is overdue: {lease}", lease.connection);
            log::warn!("pool {:?}: {text}", core.name);
            core.note(IncidentKind::Overdue, text);
            core.emit(|handler, pool| handler.overdue(pool, &lease));
            told.insert(index, (mark, lease));
        }
    }
    if !told.is_empty() {
        next = next.min(now.after(LOOK_AGAIN));
    }
    *core.overdue.lock() = told;
    core.alarm.at(next.max(now.after(SOON)));
}
