//! What a worker does with a chunk: prepare, a transaction, and what follows when an item fails in it.

use super::brake::Brake;
use super::error::{BatchError, TransactionError};
use super::lend::{Lend, LendError};
use super::report::{Outcome, Span};
use crate::error::Panicked;
use std::error::Error as StdError;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A function over a connection and the items that its transaction is about to settle.
pub(super) type OnCommit<'a, L> =
    Box<dyn Fn(<L as Lend>::Conn<'_>, &Span) -> Result<(), Box<dyn StdError + Send + Sync>> + Sync + 'a>;

/// Items that share a checkout, and a transaction where there are any.
pub(super) struct Chunk<T> {
    /// The place of its first item.
    pub(super) first: u64,
    pub(super) items: Vec<T>,
}

/// What has come of a chunk.
pub(super) struct Ended<T, R, E> {
    pub(super) outcomes: Vec<Outcome<T, R, E>>,
    /// Items that were not begun, or were undone.
    pub(super) left: u64,
}

/// What all workers share.
pub(super) struct Job<'b, 'a, L: Lend, E, P, W> {
    pub(super) lender: &'b L,
    pub(super) brake: &'b Brake<'a, E>,
    pub(super) on_commit: Option<&'b OnCommit<'a, L>>,
    pub(super) prepare: &'b P,
    pub(super) work: &'b W,
}

struct Slot<T, V, R, E> {
    item: T,
    prepared: Option<V>,
    result: Option<Result<R, BatchError<E>>>,
}

/// How a transaction over some items of a chunk has ended.
enum Attempt<E> {
    Done,
    /// This item failed. Nothing is done, where there are transactions; else what comes before it.
    Failed(usize, BatchError<E>),
    /// No item is at fault, and none is done.
    Lost(LendError),
    /// The batch was ended while this waited for its connection.
    NotBegun,
}

impl<L: Lend, E, P, W> Job<'_, '_, L, E, P, W> {
    pub(super) fn run<T, V, R>(&self, chunk: Chunk<T>) -> Ended<T, R, E>
    where
        P: Fn(&T) -> Result<V, E>,
        W: Fn(L::Conn<'_>, &T, &V) -> Result<R, E>,
    {
        let slots = chunk.items.into_iter().map(|item| Slot { item, prepared: None, result: None });
        let mut slots: Vec<_> = slots.collect();
        if !self.brake.is_on() && self.prepare_all(&mut slots) {
            self.work_on(chunk.first, &mut slots);
        }
        let (mut outcomes, mut left) = (Vec::with_capacity(slots.len()), 0);
        for (slot, index) in slots.into_iter().zip(chunk.first..) {
            match slot.result {
                Some(result) => outcomes.push(Outcome { index, item: slot.item, result }),
                None => left += 1,
            }
        }
        Ended { outcomes, left }
    }

    /// Whether the batch goes on.
    fn prepare_all<T, V, R>(&self, slots: &mut [Slot<T, V, R, E>]) -> bool
    where
        P: Fn(&T) -> Result<V, E>,
    {
        for index in 0..slots.len() {
            if self.brake.is_on() {
                forget(slots);
                return false;
            }
            let Some(slot) = slots.get_mut(index) else { break };
            let error = match catch_unwind(AssertUnwindSafe(|| (self.prepare)(&slot.item))) {
                Ok(Ok(prepared)) => {
                    slot.prepared = Some(prepared);
                    continue;
                }
                Ok(Err(error)) => BatchError::Failed(error),
                Err(payload) => BatchError::Panicked(Panicked::caught("the closure that prepares", payload).message),
            };
            let goes_on = self.brake.goes_on_after(&error, 1);
            if !goes_on {
                self.leave_unnoted(slots, |_| false);
            }
            if let Some(slot) = slots.get_mut(index) {
                slot.result = Some(Err(error));
            }
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// In one transaction if no item fails. One that does splits it: the items before it are done again, in a transaction of
    /// their own, and those behind it in the next one. So an item runs twice at the most, unless one fails that did not fail
    /// before; doing all again without the bad one, for each bad one, would take the square of that, and each item alone,
    /// as Spring Batch does it, a commit for each.
    fn work_on<T, V, R>(&self, first: u64, slots: &mut [Slot<T, V, R, E>])
    where
        W: Fn(L::Conn<'_>, &T, &V) -> Result<R, E>,
    {
        let (mut from, mut until) = (0, slots.len());
        // What was tried once is finished, though the brake may have gone on: its errors have been told.
        let mut is_new = true;
        while let Some(part) = slots.get_mut(from..until).filter(|part| !part.is_empty()) {
            let at = first + from as u64;
            match self.attempt(at, part, std::mem::take(&mut is_new)) {
                Attempt::NotBegun => return forget(part),
                Attempt::Done => (from, until) = (until, slots.len()),
                Attempt::Failed(index, error) => {
                    let goes_on = self.brake.goes_on_after(&error, 1);
                    if !goes_on {
                        self.leave_unnoted(slots.get_mut(from..).unwrap_or_default(), |_| false);
                    }
                    if let Some(slot) = slots.get_mut(from + index) {
                        slot.result = Some(Err(error));
                    }
                    if !goes_on {
                        return;
                    }
                    if self.lender.is_transactional() { until = from + index + 1 } else { from += index + 1 }
                }
                Attempt::Lost(error) => {
                    // A transaction for the sake of its note alone has none: then the last one that failed has the error.
                    let pending = part.iter().filter(|slot| slot.result.is_none()).count();
                    let goes_on = self.brake.goes_on_after(&error.clone().into(), pending as u64);
                    let last = part.len() - 1;
                    for (index, slot) in part.iter_mut().enumerate() {
                        if slot.result.is_none() || (pending == 0 && index == last) {
                            slot.result = Some(Err(error.clone().into()));
                        }
                    }
                    if !goes_on {
                        let ends_it = |error: &BatchError<E>| {
                            matches!(error, BatchError::Connection(_) | BatchError::Transaction(_))
                        };
                        return self.leave_unnoted(slots.get_mut(from..).unwrap_or_default(), ends_it);
                    }
                    (from, until) = (until, slots.len());
                }
            }
        }
    }

    /// The batch ends with an error, and no commit tells of those among these that were to be left out: they are left, and
    /// told of by the run that settles them.
    fn leave_unnoted<T, V, R>(&self, slots: &mut [Slot<T, V, R, E>], ends_it: impl Fn(&BatchError<E>) -> bool) {
        if self.on_commit.is_some() {
            let its = |result: &Result<R, BatchError<E>>| result.as_ref().is_err_and(&ends_it);
            slots.iter_mut().for_each(|slot| drop(slot.result.take_if(|result| !its(result))));
        }
    }

    /// Those of the items that have not failed yet, on one connection, in one transaction.
    fn attempt<T, V, R>(&self, first: u64, part: &mut [Slot<T, V, R, E>], is_new: bool) -> Attempt<E>
    where
        W: Fn(L::Conn<'_>, &T, &V) -> Result<R, E>,
    {
        if self.on_commit.is_none() && part.iter().all(|slot| slot.result.is_some()) {
            return Attempt::Done;
        }
        // Where it is, for a panic; which unwinds over the guard, so that the pool closes the connection.
        let mut at = None;
        let mut failed = None;
        let mut unnoted = None;
        let mut not_begun = false;
        let lent = catch_unwind(AssertUnwindSafe(|| {
            self.lender.lend(|mut conn| {
                not_begun = is_new && self.brake.is_on();
                if not_begun {
                    return false;
                }
                for (index, slot) in part.iter_mut().enumerate() {
                    let (None, Some(prepared)) = (&slot.result, &slot.prepared) else { continue };
                    at = Some(index);
                    match (self.work)(L::reborrow(&mut conn), &slot.item, prepared) {
                        Ok(done) => slot.result = Some(Ok(done)),
                        Err(error) => {
                            failed = Some((index, BatchError::Failed(error)));
                            return false;
                        }
                    }
                }
                at = None;
                let Some(on_commit) = self.on_commit else { return true };
                match on_commit(conn, &span(first, part)) {
                    Ok(()) => true,
                    Err(cause) => {
                        unnoted = Some(TransactionError::new("on_commit", cause));
                        false
                    }
                }
            })
        }));
        let ended = match (lent, failed, unnoted, at) {
            _ if not_begun => Attempt::NotBegun,
            // What rolling back fails with is the pool's affair: it closes the connection.
            (_, Some((index, error)), ..) => Attempt::Failed(index, error),
            (_, None, Some(error), _) => Attempt::Lost(LendError::Transaction(error)),
            (Ok(Ok(())), ..) => Attempt::Done,
            (Ok(Err(error)), ..) => Attempt::Lost(error),
            (Err(payload), .., at) => {
                let panicked = Panicked::caught("a function of the transaction", payload);
                match at {
                    Some(index) => Attempt::Failed(index, BatchError::Panicked(panicked.message)),
                    None => Attempt::Lost(LendError::Transaction(TransactionError::new("panic", panicked.into()))),
                }
            }
        };
        if self.lender.is_transactional() && !matches!(ended, Attempt::Done) {
            part.iter_mut().for_each(|slot| drop(slot.result.take_if(|result| result.is_ok())));
        }
        ended
    }
}

/// Nothing of this was begun: what has failed while it was prepared is left, too, and no commit has told of it.
fn forget<T, V, R, E>(slots: &mut [Slot<T, V, R, E>]) {
    slots.iter_mut().for_each(|slot| slot.result = None);
}

fn span<T, V, R, E>(first: u64, part: &[Slot<T, V, R, E>]) -> Span {
    let failed = part.iter().zip(first..).filter(|(slot, _)| matches!(slot.result, Some(Err(_))));
    Span {
        items: Range { start: first, end: first + part.len() as u64 },
        failed: failed.map(|(_, index)| index).collect(),
    }
}
