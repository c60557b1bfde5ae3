//! Checkouts by threads that hold a connection already.

use super::{Core, Item};
use crate::ErrorKind;
use crate::config::Nested;
use crate::error::Error;
use crate::lease::{Lease, thread_number};
use crate::manager::Manager;
use crate::pool::shelf::Slot;
use std::panic::Location;

impl<M: Manager> Core<M> {
    /// A connection that a thread has borrowed and not returned.
    pub(crate) fn lent_to(&self, thread: u32) -> Option<Lease> {
        self.slots_of(thread).next().and_then(|slot| self.lease_of(slot))
    }

    /// How many connections a thread has borrowed and not returned.
    pub(crate) fn lent_count(&self, thread: u32) -> u32 {
        self.slots_of(thread).count() as u32
    }

    fn slots_of(&self, thread: u32) -> impl Iterator<Item = &Slot<Item<M>>> {
        let slots = self.rack.shelf.each().map(|(_, slot)| slot);
        slots.filter(move |slot| slot.mark().is_lent() && slot.mark().thread() == thread)
    }

    pub(crate) fn refuse_nested(&self) -> Result<(), Error> {
        if self.settings.nested != Nested::Deny {
            return Ok(());
        }
        match self.lent_to(thread_number()) {
            None => Ok(()),
            Some(lease) => {
                let text =
                    format!("nested checkout refused: this thread holds a connection of {:?}: {lease}", self.name);
                Err(Error::of(&self.name, ErrorKind::Deadlock, text))
            }
        }
    }

    /// Once for each source line, so that a busy program does not fill its log.
    #[cold]
    pub(crate) fn warn_of_nested(&self, lease: &Lease, place: &'static Location<'static>) {
        if self.nested_at.lock().insert(place) {
            log::warn!(
                "pool {:?}: {}:{} waits for a connection while its thread holds one: {lease}; threads that do so can wait \
                 for each other",
                self.name,
                place.file(),
                place.line(),
            );
        }
    }
}
