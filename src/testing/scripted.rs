//! The manager that follows a script, and connections to nothing.

use super::script::{Call, Script};
use crate::{Fault, Manager};
use std::fmt;

/// A manager that does what its [`Script`] says, and else what the manager within does.
#[derive(Debug)]
pub struct Scripted<M: Manager> {
    script: Script<M::Error>,
    manager: M,
}

impl<M: Manager> Scripted<M> {
    pub(super) fn new(script: Script<M::Error>, manager: M) -> Self {
        Self { script, manager }
    }
}

impl<M: Manager> Manager for Scripted<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    fn connect(&self) -> Result<M::Connection, M::Error> {
        self.script.play(Call::Connect)?;
        let connection = self.manager.connect()?;
        self.script.opened();
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.script.play(Call::IsValid)?;
        self.manager.is_valid(connection)
    }

    fn can_validate(&self) -> bool {
        // The script may want to fail a check that the manager within does not make.
        true
    }

    fn has_broken(&self, connection: &mut M::Connection) -> bool {
        self.script.play(Call::HasBroken).is_err() || self.manager.has_broken(connection)
    }

    fn reset(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.script.play(Call::Reset)?;
        self.manager.reset(connection)
    }

    fn close(&self, connection: M::Connection) {
        // Also when the script panics: what is left of the connection then is dropped by the panic.
        let _gone = Gone(&self.script);
        drop(self.script.play(Call::Close));
        self.manager.close(connection);
    }

    fn classify(&self, error: &M::Error) -> Fault {
        self.manager.classify(error)
    }
}

struct Gone<'a, E>(&'a Script<E>);

impl<E> Drop for Gone<'_, E> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// What a scripted server says no with.
///
/// # Examples
///
/// ```
/// use millpond::testing::{Act, Call, Refused, Script};
/// use millpond::{ErrorKind, Pool};
/// use std::time::Duration;
///
/// let script = Script::new();
/// script.set(Call::Connect, Act::fail(|| Refused::new("no such database").permanent()));
/// let pool = Pool::builder(script.manager()).build_lazy()?;
/// let error = pool.get_timeout(Duration::from_secs(30)).unwrap_err(); // at once, and not after half a minute
/// assert_eq!(error.kind(), ErrorKind::Connect);
/// assert_eq!(script.calls(Call::Connect), 1);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    text: String,
    fault: Fault,
}

impl Refused {
    /// With this text; the server may say yes later ([`Fault::Transient`]).
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), fault: Fault::Transient }
    }

    /// It never will ([`Fault::Permanent`]).
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.fault = Fault::Permanent;
        self
    }

    /// No connection that is open is good for anything any more ([`Fault::DiscardAll`]).
    #[must_use]
    pub fn discard_all(mut self) -> Self {
        self.fault = Fault::DiscardAll;
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// Opens connections to nothing: what [`Script::manager`] puts its faults into.
#[derive(Debug)]
pub struct ScriptedConnections(Script);

impl ScriptedConnections {
    pub(super) fn new(script: Script) -> Self {
        Self(script)
    }
}

impl Manager for ScriptedConnections {
    type Connection = ScriptedConnection;
    type Error = Refused;

    fn connect(&self) -> Result<ScriptedConnection, Refused> {
        let (script, number) = (self.0.clone(), self.0.number_next());
        Ok(ScriptedConnection { script, number, requests: 0, broken: false })
    }

    fn is_valid(&self, connection: &mut ScriptedConnection) -> Result<(), Refused> {
        connection.check()
    }

    fn has_broken(&self, connection: &mut ScriptedConnection) -> bool {
        connection.broken
    }

    fn classify(&self, error: &Refused) -> Fault {
        error.fault
    }
}

/// A connection to nothing.
#[derive(Debug)]
pub struct ScriptedConnection {
    script: Script,
    number: u64,
    requests: u64,
    broken: bool,
}

impl ScriptedConnection {
    /// Its number: the first one is 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Pretends to ask the server something; the answer is how often this connection was used for that.
    ///
    /// # Errors
    ///
    /// When the connection was [cut](Script::cut_all). It is broken from then on.
    pub fn request(&mut self) -> Result<u64, Refused> {
        self.check()?;
        self.requests += 1;
        Ok(self.requests)
    }

    fn check(&mut self) -> Result<(), Refused> {
        self.broken |= self.script.is_cut(self.number);
        if self.broken { Err(Refused::new(format!("connection {} was cut", self.number))) } else { Ok(()) }
    }
}
