//! The adaptive tick: what has happened since the last one is put before the rule, and its decision is carried out.

use crate::adaptive::Decision;
use crate::clock::Moment;
use crate::manager::Manager;
use crate::pool::shared::Core;
use std::sync::Arc;

/// Decides on the size if it is time to; asks to be called again when it is.
pub(super) fn tick<M: Manager>(core: &Arc<Core<M>>, now: Moment) {
    let mut adapting = core.adapting.lock();
    let Some(adapting_now) = &mut *adapting else { return };
    let due = adapting_now.due();
    if now < due {
        core.alarm.at(due);
        return;
    }
    let state = adapting_now.decide(now, core);
    core.alarm.at(adapting_now.due());
    if let Decision::Grow { to, reason } | Decision::Shrink { to, reason } = state.decision {
        core.wish(to, reason, Some(state.grounds));
        drop(adapting);
        core.fulfil();
    }
}
