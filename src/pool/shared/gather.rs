//! Several connections at once: all or none.

use super::{Core, Item};
use crate::ErrorKind;
use crate::budget::Account;
use crate::clock::Moment;
use crate::config::Nested;
use crate::error::Error;
use crate::manager::Manager;
use crate::pool::rack::Phase;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

impl<M: Manager> Core<M> {
    /// Several connections, or none. Only one caller gathers at a time, so two that want several never hold what
    /// the other lacks.
    pub(crate) fn checkout_many(
        self: &Arc<Self>,
        count: usize,
        timeout: Duration,
        place: &'static Location<'static>,
        mut take: impl FnMut(Box<Item<M>>),
    ) -> Result<(), Error> {
        self.refuse_forked()?;
        let max = self.rack.numbers().max_size;
        if count > max as usize {
            let text = format!("{count} connections were asked for at once, but max_size of {:?} is {max}", self.name);
            return Err(Error::of(&self.name, ErrorKind::Config, text));
        }
        if let Some(limit) = self.rack.account.as_ref().map(Account::limit).filter(|limit| count > *limit as usize) {
            let text =
                format!("{count} connections of {:?} were asked for at once, but its budget is {limit}", self.name);
            return Err(Error::of(&self.name, ErrorKind::Config, text));
        }
        // Of all pools of the budget, or two of them would hold what the other lacks.
        let gathering = self.rack.account.as_ref().map_or(&self.gathering, Account::gathering);
        self.refuse_nested()?;
        let began = self.clock.now();
        let deadline = began.after(timeout);
        let _turn = loop {
            let left = deadline.since(self.clock.now());
            // In slices, because the clock may be one that is moved by hand.
            if let Some(turn) = gathering.try_lock_for(left.min(Duration::from_millis(20))) {
                break turn;
            }
            if self.rack.numbers().phase == Phase::Closed {
                return Err(Error::closed(&self.name));
            }
            if left.is_zero() {
                return Err(self.timeout_error(began, &self.rack.numbers()));
            }
        };
        let mut gathered = Gathered { core: self, items: Vec::with_capacity(count) };
        while gathered.items.len() < count {
            // Not nested: only one caller gathers at a time.
            let mut item = self.obtain((began, deadline), place, Nested::Allow, false)?;
            let before = item.used;
            let now = self.clock.now();
            self.lend(&mut item, now, now.since(began), place);
            gathered.items.push((item, before));
        }
        std::mem::take(&mut gathered.items).into_iter().for_each(|(item, _)| take(item));
        Ok(())
    }
}

/// Connections that were gathered for somebody who wants several. Where not all of them can be had they go back as they
/// came: nobody has used them, so there is nothing to be cleaned, and it must not take the caller's time.
struct Gathered<'a, M: Manager> {
    core: &'a Arc<Core<M>>,
    /// With the time at which each was last used.
    items: Vec<(Box<Item<M>>, Moment)>,
}

impl<M: Manager> Drop for Gathered<'_, M> {
    fn drop(&mut self) {
        for (mut item, before) in self.items.drain(..) {
            self.core.note_return(&item);
            item.uses -= 1;
            item.used = before;
            self.core.admit(item);
        }
    }
}
