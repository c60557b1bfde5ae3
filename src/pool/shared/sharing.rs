//! What a pool does when its budget calls.

use super::{Core, retire_all};
use crate::budget::Member;
use crate::clock::ticks_between;
use crate::manager::Manager;
use crate::pool::shelf::SURPLUS;

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
            let unwanted = self.rack.shed(self.clock.coarse());
            retire_all(unwanted.entries, unwanted.reason);
        }
    }

    fn has_to_be_told(&self) -> Option<u32> {
        let now = self.clock.coarse().tick();
        let idle = self.rack.shelf.each().filter(|(_, slot)| slot.mark().is_idle());
        let longest = idle.map(|(_, slot)| ticks_between(slot.idle_since(), now)).max();
        // Who brings one back while the alert is up comes by the book.
        longest.or_else(|| (self.rack.shelf.alert() & SURPLUS == 0).then_some(0))
    }
}
