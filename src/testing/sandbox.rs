//! A pool whose work is undone.

use super::PATIENCE;
use crate::error::text_of;
use crate::{Fault, Maintenance, Manager, Pool, Validation};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::thread::panicking;
use std::time::Duration;

/// The pool of a [`Sandbox`]: its type says only what is lent and what that fails with.
pub type SandboxPool<C, E> = Pool<Box<dyn Manager<Connection = C, Error = E>>>;

type Step<C, E> = Box<dyn Fn(&mut C) -> Result<(), E> + Send + Sync>;

/// A pool over a real database for one test: all that the test does is rolled back, so the next one finds the database as it
/// was, and tests need no tidying up.
///
/// The pool has one connection, in a transaction that begins when it is opened and never ends: whoever borrows it, on
/// whatever thread, sees what those before have done, and nobody outside does. That is Ecto's sandbox, and what diesel's
/// `TestCustomizer` does.
///
/// What is tested has to make do with one connection at a time, and must not commit. Work of its own in transactions needs
/// savepoints, as diesel's transactions within a transaction are; a plain `COMMIT` ends the sandbox. To notice that,
/// let `begin` set a savepoint and `roll_back` go back to it first, as below: where the work was committed, there is no such
/// savepoint any more, and the test fails instead of leaving its traces in silence. For
/// [`SqlitePool`](crate::sqlite::SqlitePool), take `rolled_back`: its nested transactions are savepoints already.
///
/// # Panics
///
/// Dropping it rolls back, and panics where that failed or could not be complete, unless the thread is panicking
/// anyway; [`roll_back`](Self::roll_back) returns the reason instead.
///
/// # Examples
///
/// ```
/// use millpond::testing::Sandbox;
/// use millpond::{Manager, Pool};
/// use rusqlite::Connection;
///
/// // What is tested.
/// fn add<M: Manager<Connection = Connection>>(db: &Pool<M>, name: &str) -> rusqlite::Result<i64> {
///     let conn = db.get().expect("a connection");
///     conn.execute("INSERT INTO guest VALUES (?1)", [name])?;
///     conn.query_row("SELECT count(*) FROM guest", [], |row| row.get(0))
/// }
///
/// # let folder = std::env::temp_dir().join(format!("millpond-sandbox-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("guests.db");
/// # Connection::open(&path)?.execute_batch("CREATE TABLE guest (name TEXT)")?;
/// let open = move || Connection::open(&path);
/// let sandbox = || {
///     Sandbox::new(
///         open.clone(),
///         |conn| conn.execute_batch("BEGIN; SAVEPOINT sandbox"),
///         |conn| conn.execute_batch("ROLLBACK TO sandbox; ROLLBACK"),
///     )
/// };
///
/// let test = sandbox();
/// assert_eq!(add(test.pool(), "Ada")?, 1);
/// assert_eq!(add(test.pool(), "Grace")?, 2);
/// test.roll_back()?;
///
/// let test = sandbox();
/// assert_eq!(add(test.pool(), "Edsger")?, 1, "the others have never been there");
///
/// // One that commits is found out.
/// test.pool().get()?.execute_batch("COMMIT")?;
/// assert!(test.roll_back().unwrap_err().to_string().contains("no such savepoint: sandbox"));
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sandbox<C: Send + 'static, E: std::error::Error + Send + Sync + 'static> {
    pool: SandboxPool<C, E>,
    outcome: Arc<Mutex<Outcome>>,
    is_over: bool,
}

#[derive(Default)]
struct Outcome {
    opened: u32,
    undone: u32,
    failed: Option<String>,
}

impl<C: Send + 'static, E: std::error::Error + Send + Sync + 'static> Sandbox<C, E> {
    /// Pools one connection of `manager`'s; `begin` begins its transaction, `roll_back` undoes it. The connection is opened when
    /// it is first borrowed.
    #[allow(clippy::missing_panics_doc, reason = "the settings are constants")]
    pub fn new<K>(
        manager: impl crate::IntoManager<K, Manager: Manager<Connection = C, Error = E>>,
        begin: impl Fn(&mut C) -> Result<(), E> + Send + Sync + 'static,
        roll_back: impl Fn(&mut C) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let outcome = Arc::<Mutex<Outcome>>::default();
        let manager = Undone {
            manager: manager.into_manager(),
            begin: Box::new(begin),
            roll_back: Box::new(roll_back),
            outcome: Arc::clone(&outcome),
        };
        // Nothing may replace the connection: a new one knows nothing of what was done. Without threads the rolling back
        // has happened when the pool is closed.
        let pool = Pool::builder(Box::new(manager) as Box<dyn Manager<Connection = C, Error = E>>)
            .name("sandbox")
            .max_size(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .keepalive(None)
            .validation(Validation::Never)
            .maintenance(Maintenance::Manual)
            .build_lazy()
            .expect("these settings are legal");
        Self { pool, outcome, is_over: false }
    }

    /// The pool, to be given to what is tested.
    #[must_use]
    pub fn pool(&self) -> &SandboxPool<C, E> {
        &self.pool
    }

    /// Rolls back and closes, when the connection has come back.
    ///
    /// # Errors
    ///
    /// When rolling back failed; when the connection was replaced in the middle, with what was done on it before; when it is
    /// still borrowed after a minute.
    pub fn roll_back(mut self) -> Result<(), SandboxError> {
        self.end(PATIENCE)
    }

    fn end(&mut self, patience: Duration) -> Result<(), SandboxError> {
        self.is_over = true;
        self.pool.close_and_wait(patience).map_err(|error| SandboxError(error.to_string()))?;
        let Outcome { opened: times, undone, failed } = std::mem::take(&mut *self.outcome.lock());
        match failed {
            Some(error) => Err(SandboxError(format!("the sandbox could not be rolled back: {error}"))),
            None if times > 1 => Err(SandboxError(format!(
                "the sandbox's connection was opened {times} times: what was done before is lost"
            ))),
            // Rolling back has panicked, or somebody has taken the connection out of the pool.
            None if undone < times => Err(SandboxError("the sandbox's connection was not rolled back".to_owned())),
            None => Ok(()),
        }
    }
}

impl<C: Send + 'static, E: std::error::Error + Send + Sync + 'static> Drop for Sandbox<C, E> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // A test that panics may do so with the connection in its hands, on this very thread.
        let patience = if panicking() { Duration::ZERO } else { PATIENCE };
        if let (Err(error), false) = (self.end(patience), panicking()) {
            panic!("{error}");
        }
    }
}

impl<C: Send + 'static, E: std::error::Error + Send + Sync + 'static> fmt::Debug for Sandbox<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Why a [`Sandbox`] has left traces, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxError(String);

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SandboxError {}

/// Connections that begin when they are opened and are undone when they are closed.
struct Undone<M: Manager> {
    manager: M,
    begin: Step<M::Connection, M::Error>,
    roll_back: Step<M::Connection, M::Error>,
    outcome: Arc<Mutex<Outcome>>,
}

impl<M: Manager> Manager for Undone<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    fn connect(&self) -> Result<M::Connection, M::Error> {
        let mut connection = self.manager.connect()?;
        if let Err(error) = (self.begin)(&mut connection) {
            self.manager.close(connection);
            return Err(error);
        }
        self.outcome.lock().opened += 1;
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.manager.is_valid(connection)
    }

    fn has_broken(&self, connection: &mut M::Connection) -> bool {
        self.manager.has_broken(connection)
    }

    // No `reset`: it would roll back what the next borrower is to see.

    fn close(&self, mut connection: M::Connection) {
        match (self.roll_back)(&mut connection) {
            Ok(()) => self.outcome.lock().undone += 1,
            Err(error) => drop(self.outcome.lock().failed.get_or_insert(text_of(&error))),
        }
        self.manager.close(connection);
    }

    fn classify(&self, error: &M::Error) -> Fault {
        self.manager.classify(error)
    }
}
