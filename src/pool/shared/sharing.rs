//! What a pool does when its budget calls.

use super::{Core, retire_all};
use crate::budget::Member;
use crate::clock::ticks_between;
use crate::manager::Manager;

impl<M: Manager> Member for Core<M> {
    fn place_is_free(&self) -> bool {
        if self.forked() {
            // The line is the parent's; here it does not move.
            return true;
        }
        if !self.rack.invite() {
            return false;
        }
        // For those who wait for the pool to be ready, and so not in the queue.
        self.alarm.at(self.clock.now());
        true
    }

    fn shed(&self) {
        if !self.forked() {
            let unwanted = self.rack.shed();
            retire_all(unwanted.entries, unwanted.reason);
        }
    }

    fn idle_for(&self) -> Option<u32> {
        let now = self.clock.coarse().tick();
        let idle = self.rack.shelf.each().filter(|(_, slot)| slot.mark().is_idle());
        idle.map(|(_, slot)| ticks_between(slot.idle_since(), now)).max()
    }
}
