//! The connections of a server: which are open, on which a request is under way, and how many there were.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a server counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// Connections that are open now.
    pub(crate) open: usize,
    /// The most that were open at once. Looked at whenever one is opened, so no moment is missed.
    pub(crate) most_open: usize,
    /// All that were ever let in.
    pub(crate) accepted: u64,
    /// Those that were turned away at the door.
    pub(crate) refused: u64,
    /// Requests that were begun, answered or not.
    pub(crate) requests: u64,
}

#[derive(Default)]
pub(crate) struct Book {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    guests: HashMap<u64, Guest>,
    census: Census,
    /// Threads that serve a connection, also where that is closed already.
    threads: usize,
    held: bool,
    stopped: bool,
}

struct Guest {
    /// Another handle to the socket, to close it from outside.
    stream: TcpStream,
    stance: Stance,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stance {
    Idle,
    Busy,
    /// The client may have its answer already, and must not lose it.
    Answering,
    /// To be closed as soon as the answer is out.
    Leaving,
}

impl Book {
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state())
    }

    /// A panic elsewhere leaves nothing half done here, so the poison says nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn census(&self) -> Census {
        self.with(|state| Census { open: state.guests.len(), ..state.census })
    }

    /// Writes a connection down, unless there are enough.
    pub(crate) fn enter(&self, stream: &TcpStream, most: usize) -> Option<u64> {
        let stream = stream.try_clone().ok();
        self.with(|state| {
            let Some(stream) = stream.filter(|_| state.guests.len() < most) else {
                state.census.refused += 1;
                return None;
            };
            state.census.accepted += 1;
            let number = state.census.accepted;
            state.threads += 1;
            state.guests.insert(number, Guest { stream, stance: Stance::Idle });
            state.census.most_open = state.census.most_open.max(state.guests.len());
            Some(number)
        })
    }

    /// Crosses a connection out and closes it, in this order: the client may open the next one as soon as it sees the
    /// end of this one, and must not be counted twice.
    fn leave(&self, number: u64) {
        if let Some(guest) = self.with(|state| state.guests.remove(&number)) {
            // Fails where the client was faster.
            drop(guest.stream.shutdown(Shutdown::Both));
        }
    }

    /// The thread of a connection ends.
    pub(crate) fn gone(&self, number: u64) {
        self.leave(number);
        self.with(|state| state.threads -= 1);
        self.changed.notify_all();
    }

    /// A request begins.
    pub(crate) fn begin(&self, number: u64) {
        self.with(|state| {
            state.census.requests += 1;
            state.set(number, Stance::Busy);
        });
    }

    /// A request has been dealt with, and its answer is about to go out; says whether another may follow.
    pub(crate) fn end(&self, number: u64) -> bool {
        self.with(|state| {
            state.set(number, Stance::Answering);
            !state.stopped
        })
    }

    /// The answer is out; says whether the connection stays.
    pub(crate) fn answered(&self, number: u64) -> bool {
        self.with(|state| state.set(number, Stance::Idle).is_some_and(|before| before != Stance::Leaving))
    }

    /// Closes the connections on which no request is under way; those whose answer is just going out go after it.
    pub(crate) fn close_idle(&self) {
        let leaving = self.with(|state| {
            let mut leaving = Vec::new();
            for (&number, guest) in &mut state.guests {
                match guest.stance {
                    Stance::Idle => leaving.push(number),
                    Stance::Answering => guest.stance = Stance::Leaving,
                    Stance::Busy | Stance::Leaving => {}
                }
            }
            leaving
        });
        leaving.into_iter().for_each(|number| self.leave(number));
    }

    pub(crate) fn close_all(&self) {
        let all: Vec<_> = self.with(|state| state.guests.keys().copied().collect());
        all.into_iter().for_each(|number| self.leave(number));
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.with(|state| state.held = held);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.with(|state| (state.stopped, state.held) = (true, false));
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.with(|state| state.stopped)
    }

    pub(crate) fn wait_while_held(&self) {
        drop(self.changed.wait_while(self.state(), |state| state.held));
    }

    pub(crate) fn wait_until_empty(&self) {
        drop(self.changed.wait_while(self.state(), |state| state.threads > 0));
    }
}

impl State {
    /// Returns the stance before.
    fn set(&mut self, number: u64, stance: Stance) -> Option<Stance> {
        let guest = self.guests.get_mut(&number)?;
        Some(std::mem::replace(&mut guest.stance, stance))
    }
}
