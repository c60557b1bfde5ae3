//! The way of a caller whom the member whose turn it is has no idle connection for.

use super::{Balance, Inner};
use crate::clock::Moment;
use crate::{Error, ErrorKind, Manager, PooledConnection};
use std::time::Duration;

/// What a caller has tried.
pub(crate) struct Search<'a, M: Manager> {
    inner: &'a Inner<M>,
    deadline: Moment,
    /// Nothing but what is idle was asked for.
    at_once: bool,
    /// By member, in the order in which they were tried.
    tried: Vec<(usize, Error)>,
}

type Served<M> = Option<PooledConnection<M>>;

impl<'a, M: Manager> Search<'a, M> {
    pub(super) fn new(inner: &'a Inner<M>, timeout: Duration) -> Self {
        let deadline = inner.clock.now().after(timeout);
        Self { inner, deadline, at_once: timeout.is_zero(), tried: Vec::new() }
    }

    /// Asks one member after the other of those that take part, first the one whose turn it is. The caller may have `further`
    /// places to go to afterwards, and keeps time for them.
    #[track_caller]
    pub(super) fn ask(&mut self, first: Option<usize>, further: u32) -> Served<M> {
        let mut open = self.inner.order(first);
        let alone = self.inner.members.len() == 1 && further == 0;
        let mut again = None;
        while !open.is_empty() {
            let index = open.remove(0);
            let Some(member) = self.inner.members.get(index) else { continue };
            let left = self.left();
            if left.is_zero() && !self.at_once {
                break;
            }
            let share = if !member.pool.is_lending() {
                Duration::ZERO
            } else if member.waits_for_borrowers() || again == Some(index) {
                // To begin anew in the next queue would not be faster.
                left
            } else {
                // It waits for the server, and that may take for ever.
                left / (open.len() as u32 + 1 + further)
            };
            let since = member.pool.moment();
            let result = if alone { member.pool.get_timeout(share) } else { member.pool.get_or_leave(share) };
            match result {
                Ok(connection) => return Some(connection),
                Err(error) => {
                    match error.kind() {
                        kind if is_away(kind) => {
                            if member.has_gone(&error) {
                                member.leave(self.inner.group(), since, &error);
                            }
                        }
                        ErrorKind::Exhausted | ErrorKind::Overloaded if self.inner.policy != Balance::Failover => {}
                        // What it waited for of the server has come, and others have it: no standby is there for that.
                        ErrorKind::Exhausted if share < left && again.is_none() => {
                            again = Some(index);
                            open.insert(0, index);
                        }
                        _ => open.clear(),
                    }
                    self.tried.retain(|(tried, _)| *tried != index);
                    self.tried.push((index, error));
                }
            }
        }
        None
    }

    /// Whether none of those that were asked lends, so that nobody's turn comes by waiting.
    pub(crate) fn nobody_is_busy(&self) -> bool {
        self.tried.iter().all(|(_, error)| is_away(error.kind()))
    }

    /// When nobody takes part: asks all of them all the same, each for an equal share of the time that is left, and there
    /// waits as its pool's settings say.
    #[track_caller]
    pub(super) fn ask_again(&mut self) -> Served<M> {
        if self.left().is_zero() && !self.tried.is_empty() {
            return None;
        }
        let mut open: Vec<usize> = self.inner.in_weight().collect();
        while let Some(index) = open.pop() {
            let Some(member) = self.inner.members.get(index) else { continue };
            match member.pool.get_timeout(self.left() / (open.len() as u32 + 1)) {
                Ok(connection) => {
                    member.come_back(self.inner.group());
                    return Some(connection);
                }
                Err(error) => {
                    self.tried.retain(|(tried, _)| *tried != index);
                    self.tried.push((index, error));
                }
            }
        }
        None
    }

    /// How much time the caller has.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.since(self.inner.clock.now())
    }

    /// The error of all that was tried; the last one's own where there is but one member.
    pub(crate) fn into_error(self) -> Error {
        match self.tried.last() {
            Some((_, error)) if self.inner.members.len() == 1 => error.clone(),
            Some((_, error)) => Error::of_members(self.text(), self.left().is_zero() || error.is_timeout(), error),
            // All are drained: by hand, as a pause is.
            None => Error::plain(ErrorKind::Paused, self.text()),
        }
    }

    fn text(&self) -> String {
        let said = self.inner.members.iter().enumerate().map(|(index, member)| {
            let state = match self.tried.iter().find(|(tried, _)| *tried == index) {
                Some((_, error)) => error.to_string(),
                None if member.weight() == 0 => "is drained".to_owned(),
                None if member.is_away() => "is left out".to_owned(),
                None => "was not asked, because the time was over".to_owned(),
            };
            format!("{:?}: {state}", member.name)
        });
        format!("no member of {:?} has a connection: {}", self.inner.name, said.collect::<Vec<_>>().join("; "))
    }
}

/// Whether an attempt that ends so has met nobody who lends, so that the next member is asked under any policy.
fn is_away(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Connect | ErrorKind::Validate | ErrorKind::Paused | ErrorKind::Closed)
}
