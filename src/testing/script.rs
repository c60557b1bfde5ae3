//! What a manager is to do, and what it has done.

use super::Gate;
use super::scripted::{Refused, Scripted, ScriptedConnections};
use crate::Manager;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

/// A function of a [`Manager`] that a script can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// [`Manager::connect`].
    Connect,
    /// [`Manager::is_valid`].
    IsValid,
    /// [`Manager::has_broken`].
    HasBroken,
    /// [`Manager::reset`].
    Reset,
    /// [`Manager::close`].
    Close,
}

impl Call {
    const COUNT: usize = Self::Close as usize + 1;
}

/// What one call does.
///
/// # Examples
///
/// ```
/// use millpond::testing::{Act, Gate, Refused};
///
/// let gate = Gate::new();
/// let refuses_late = Act::fail(|| Refused::new("too many connections")).behind(&gate);
/// assert_eq!(format!("{refuses_late:?}"), "Act(fail, behind a gate)");
/// ```
pub struct Act<E> {
    gate: Option<Gate>,
    end: End<E>,
}

enum End<E> {
    Succeed,
    Fail(Arc<dyn Fn() -> E + Send + Sync>),
    Panic(Arc<str>),
}

impl<E> Act<E> {
    /// Does what the manager does by itself.
    #[must_use]
    pub fn succeed() -> Self {
        Self { gate: None, end: End::Succeed }
    }

    /// Fails with what `error` makes. For [`Call::HasBroken`] that means that the connection is broken; [`Call::Close`]
    /// cannot fail, and closes.
    pub fn fail(error: impl Fn() -> E + Send + Sync + 'static) -> Self {
        Self { gate: None, end: End::Fail(Arc::new(error)) }
    }

    /// Panics with this text, without printing it on the terminal.
    pub fn panic(text: impl Into<String>) -> Self {
        Self { gate: None, end: End::Panic(text.into().into()) }
    }

    /// Hangs until the gate is open, and succeeds then.
    #[must_use]
    pub fn hang(gate: &Gate) -> Self {
        Self::succeed().behind(gate)
    }

    /// Waits at the gate first.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

impl<E> Clone for Act<E> {
    fn clone(&self) -> Self {
        let end = match &self.end {
            End::Succeed => End::Succeed,
            End::Fail(error) => End::Fail(Arc::clone(error)),
            End::Panic(text) => End::Panic(Arc::clone(text)),
        };
        Self { gate: self.gate.clone(), end }
    }
}

impl<E> fmt::Debug for Act<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match &self.end {
            End::Succeed => "succeed",
            End::Fail(_) => "fail",
            End::Panic(_) => "panic",
        };
        write!(f, "Act({end}{})", if self.gate.is_some() { ", behind a gate" } else { "" })
    }
}

/// Tells a manager what to do, and keeps accounts of it. Clones are the same script.
///
/// Without anything set, everything succeeds. [`Script::new`] goes with connections to nothing; [`Script::around`] puts
/// faults into a manager of yours.
///
/// # Examples
///
/// ```
/// use millpond::sqlite::SqliteManager;
/// use millpond::testing::{Act, Call, Script};
/// use millpond::{ErrorKind, Pool};
/// use std::time::Duration;
///
/// let (script, manager) = Script::around(SqliteManager::memory());
/// let pool = Pool::builder(manager).max_size(1).build()?;
///
/// // The next return finds a transaction that cannot be rolled back.
/// script.next(Call::Reset, Act::fail(|| rusqlite::Error::InvalidQuery));
/// drop(pool.get()?);
/// assert_eq!(pool.get()?.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?, 1);
/// assert_eq!(script.calls(Call::Connect), 2, "the first connection was not lent again");
///
/// // From now on the file cannot be opened.
/// script.set(Call::Connect, Act::fail(|| rusqlite::Error::InvalidPath("/gone".into())));
/// pool.refresh();
/// let error = pool.get_timeout(Duration::from_millis(20)).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Connect);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Script<E = Refused>(Arc<Mutex<State<E>>>);

struct State<E> {
    acts: [Acts<E>; Call::COUNT],
    live: u32,
    most_live: u32,
    /// The number of the connection that was opened last.
    number: u64,
    /// Connections up to this number are dead.
    cut: u64,
}

struct Acts<E> {
    always: Act<E>,
    next: VecDeque<Act<E>>,
    calls: u64,
    under_way: u32,
}

impl Script {
    /// A script for connections to nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::empty()
    }

    /// The manager that follows this script. Any number may.
    #[must_use]
    pub fn manager(&self) -> Scripted<ScriptedConnections> {
        Scripted::new(self.clone(), ScriptedConnections::new(self.clone()))
    }

    /// Cuts all connections that are open, as a server that goes away does: [`request`](super::ScriptedConnection::request)
    /// fails, `is_valid` fails, and what has failed says so on its return.
    pub fn cut_all(&self) {
        let mut state = self.0.lock();
        state.cut = state.number;
    }

    pub(super) fn is_cut(&self, number: u64) -> bool {
        number <= self.0.lock().cut
    }

    pub(super) fn number_next(&self) -> u64 {
        let mut state = self.0.lock();
        state.number += 1;
        state.number
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: std::error::Error + Send + Sync + 'static> Script<E> {
    /// A script, and the manager that follows it: `manager`, except where the script says otherwise. Its connections are
    /// `manager`'s, its errors those that the script makes or `manager`'s, and it is `manager` that classes them.
    pub fn around<M: Manager<Error = E>>(manager: M) -> (Self, Scripted<M>) {
        let script = Self::empty();
        (script.clone(), Scripted::new(script, manager))
    }
}

impl<E> Script<E> {
    fn empty() -> Self {
        let acts =
            std::array::from_fn(|_| Acts { always: Act::succeed(), next: VecDeque::new(), calls: 0, under_way: 0 });
        Self(Arc::new(Mutex::new(State { acts, live: 0, most_live: 0, number: 0, cut: 0 })))
    }

    /// What `call` does from now on, whenever nothing is [next](Self::next).
    pub fn set(&self, call: Call, act: Act<E>) {
        self.of(call, |acts| acts.always = act);
    }

    /// What `call` does once: the next time, or after what was said to be next before.
    pub fn next(&self, call: Call, act: Act<E>) {
        self.of(call, |acts| acts.next.push_back(act));
    }

    /// Everything succeeds from now on. Who waits at a gate waits on.
    pub fn clear(&self) {
        for acts in &mut self.0.lock().acts {
            acts.always = Act::succeed();
            acts.next.clear();
        }
    }

    /// How often it was called.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.of(call, |acts| acts.calls)
    }

    /// How many calls wait at their gates.
    #[must_use]
    pub fn under_way(&self, call: Call) -> u32 {
        self.of(call, |acts| acts.under_way)
    }

    /// How many connections are open, as the manager has opened and closed them.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.0.lock().live
    }

    /// The most that ever were open at once.
    #[must_use]
    pub fn most_live(&self) -> u32 {
        self.0.lock().most_live
    }

    fn of<R>(&self, call: Call, f: impl FnOnce(&mut Acts<E>) -> R) -> R {
        let mut state = self.0.lock();
        f(state.acts.get_mut(call as usize).expect("there is one for each call"))
    }

    /// Does what the script says: `Ok` where that is to succeed.
    pub(super) fn play(&self, call: Call) -> Result<(), E> {
        let act = self.of(call, |acts| {
            acts.calls += 1;
            acts.under_way += 1;
            acts.next.pop_front().unwrap_or_else(|| acts.always.clone())
        });
        if let Some(gate) = &act.gate {
            gate.pass();
        }
        self.of(call, |acts| acts.under_way -= 1);
        match act.end {
            End::Succeed => Ok(()),
            End::Fail(error) => Err(error()),
            End::Panic(text) => resume_unwind(Box::new(text.to_string())),
        }
    }

    pub(super) fn opened(&self) {
        let mut state = self.0.lock();
        state.live += 1;
        state.most_live = state.most_live.max(state.live);
    }

    pub(super) fn closed(&self) {
        let mut state = self.0.lock();
        state.live = state.live.saturating_sub(1);
    }
}

impl<E> Clone for Script<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for Script<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        let calls: Vec<_> = state.acts.iter().map(|acts| acts.calls).collect();
        f.debug_struct("Script").field("calls", &calls).field("live", &state.live).finish_non_exhaustive()
    }
}
