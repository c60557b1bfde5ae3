//! Checkouts by threads that hold a connection already.

use super::{Core, Item};
use crate::ErrorKind;
use crate::clock::tick_span;
use crate::config::Nested;
use crate::error::Error;
use crate::lease::{Lease, thread_number, with_thread_names};
use crate::manager::Manager;
use crate::pool::shelf::Slot;
use std::panic::Location;
use std::sync::atomic::Ordering;

impl<M: Manager> Core<M> {
    /// A connection that a thread has borrowed and not returned.
    pub(crate) fn lent_to(&self, thread: u32) -> Option<Lease> {
        let holds = |slot: &Slot<Item<M>>| slot.mark().is_lent() && slot.mark().thread() == thread;
        let (_, slot) = self.rack.shelf.each().find(|(_, slot)| holds(slot))?;
        self.lease_of(slot)
    }

    /// How many connections a thread has borrowed and not returned.
    pub(crate) fn lent_count(&self, thread: u32) -> u32 {
        let held = self.rack.shelf.each().filter(|(_, slot)| slot.mark().is_lent() && slot.mark().thread() == thread);
        held.count() as u32
    }

    /// Who has this place's connection, if it is borrowed.
    pub(crate) fn lease_of(&self, slot: &Slot<Item<M>>) -> Option<Lease> {
        let (mark, location) = slot.lease()?;
        let connection = slot.connection.load(Ordering::Relaxed);
        Some(Lease {
            connection,
            thread: with_thread_names(|name| name(mark.thread())),
            location,
            held: tick_span(self.clock.coarse().tick().wrapping_sub(mark.since())),
            label: self.labels.read().get(&connection).cloned(),
        })
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
                Err(Error::plain(ErrorKind::Deadlock, text))
            }
        }
    }

    /// Once for each source line, so that a busy program does not fill its log.
    #[cold]
    pub(crate) fn warn_if_nested(&self, place: &'static Location<'static>) {
        let Some(lease) = self.lent_to(thread_number()) else { return };
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
