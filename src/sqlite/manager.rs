//! Opens, cleans and closes connections to one database.

use super::error::{abort, is_busy};
use super::fault;
use super::session::{Changed, outcome};
use super::settings::{Hook, JournalMode, OnReturn, Pragma, Settings, Synchronous, Turn};
use crate::clock::{Clock, Moment};
use crate::redact::redact;
use crate::{Fault, Manager};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::fmt;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Opens connections to a SQLite database, sets them up, cleans them when they come back, and tidies up when they are
/// closed.
///
/// | what | default | why |
/// |---|---|---|
/// | [`busy_timeout`](Self::busy_timeout) | 5 s | before anything else, so that all that follows waits for locks instead of failing |
/// | [`journal_mode`](Self::journal_mode) | write-ahead log | readers and the writer do not wait for each other; set once, by the first connection, because setting it while others work fails |
/// | [`synchronous`](Self::synchronous) | normal | safe against crashes with a write-ahead log, at a fraction of the cost of `full` |
/// | [`foreign_keys`](Self::foreign_keys) | on | SQLite leaves them unchecked unless it was built otherwise |
/// | [`journal_size_limit`](Self::journal_size_limit) | 64 MiB | a log that grew once is cut again |
/// | [`on_return`](Self::on_return) | roll back, and detect other changes | the next borrower finds the connection as it was opened |
/// | [`optimize_on_close`](Self::optimize_on_close) | yes, bounded | the query planner's statistics stay current, as SQLite advises |
///
/// No connection is checked before it is lent: a file does not hang up, and a query that would find nothing out costs as
/// much as one that does something.
///
/// # Examples
///
/// ```
/// use millpond::Pool;
/// use millpond::sqlite::SqliteManager;
///
/// # let folder = std::env::temp_dir().join(format!("millpond-sqlite-manager-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("app.db");
/// let manager = SqliteManager::file(&path)
///     .pragma("cache_size", -64_000) // 64 MB
///     .on_first_connect(|conn| conn.execute_batch("CREATE TABLE IF NOT EXISTS visit (page TEXT NOT NULL)"));
/// let pool = Pool::builder(manager).max_size(4).build()?;
/// pool.get()?.execute("INSERT INTO visit VALUES ('/')", [])?;
///
/// // A transaction that somebody forgot is no trouble of the next one's.
/// pool.get()?.execute_batch("BEGIN; DELETE FROM visit")?;
/// let visits: i64 = pool.get()?.query_row("SELECT count(*) FROM visit", [], |row| row.get(0))?;
/// assert_eq!(visits, 1);
/// # pool.close_and_wait(std::time::Duration::from_secs(10))?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteManager {
    place: Place,
    /// How the database is called in errors.
    name: String,
    access: Access,
    /// How the first connection of all is opened.
    first: Access,
    settings: Settings,
    state: Arc<State>,
}

/// Where the database is.
#[derive(Clone)]
enum Place {
    File(PathBuf),
    Uri(String),
    /// Shared by the connections of this process: the URI by which they find it.
    Memory(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    /// Opened so that SQLite itself refuses to write.
    Read,
}

/// What all managers of one database share.
#[derive(Default)]
struct State {
    /// The first connection has been set up, and those that follow need not wait.
    ready: AtomicBool,
    first: Mutex<First>,
    changed: Changed,
}

#[derive(Default)]
struct First {
    done: bool,
    /// A database in memory lives as long as it has a connection.
    _keeper: Option<Connection>,
}

impl SqliteManager {
    /// A database in a file, which is made if it is missing. The path is taken as it is; a URI goes to [`uri`](Self::uri).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(path.display().to_string(), Place::File(path))
    }

    /// A database that SQLite finds by a [URI](https://sqlite.org/uri.html), with its parameters.
    pub fn uri(uri: impl Into<String>) -> Self {
        let uri = uri.into();
        // Parameters may be keys of ciphers.
        Self::new(uri.split('?').next().unwrap_or_default().to_owned(), Place::Uri(uri))
    }

    /// A new database in memory, which all connections of this manager's pool share, and which lives as long as the pool
    /// does, whether a connection is open or not.
    ///
    /// It is one of SQLite's `memdb`: a connection that finds it locked waits, as with a file. (In databases of the *shared
    /// cache*, which others use for this, it fails at once, whatever the busy time-out.) There is no write-ahead log, so
    /// readers and writers wait for each other.
    #[must_use]
    pub fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::new("(in memory)".to_owned(), Place::Memory(format!("file:/millpond-memory-{number}?vfs=memdb")))
    }

    fn new(name: String, place: Place) -> Self {
        let access = Access::Write;
        Self { place, name, access, first: access, settings: Settings::default(), state: Arc::default() }
    }

    /// The same database, for reading only, once it has been set up as this one sets it up.
    pub(super) fn reader(&self) -> Self {
        Self {
            place: self.place.clone(),
            name: self.name.clone(),
            access: Access::Read,
            first: self.first,
            settings: self.settings.clone(),
            state: Arc::clone(&self.state),
        }
    }

    /// Opens the database so that SQLite refuses to write to it. The file must exist, and no journal mode is set.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        (self.access, self.first) = (Access::Read, Access::Read);
        self
    }

    /// Whether a missing file is an error. Default: it is made.
    #[must_use]
    pub fn must_exist(mut self, must_exist: bool) -> Self {
        self.settings.must_exist = must_exist;
        self
    }

    /// How SQLite keeps a half-done transaction from harming the file. Default: a write-ahead log.
    ///
    /// Set by the first connection alone, before any other opens: the mode is written into the file, and to change it needs
    /// a lock that no other connection may be in the way of.
    #[must_use]
    pub fn journal_mode(mut self, mode: JournalMode) -> Self {
        self.settings.journal_mode = mode;
        self
    }

    /// When SQLite waits for the disk. Default: [`Synchronous::Normal`].
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.settings.synchronous = synchronous;
        self
    }

    /// Whether foreign keys are checked. Default: yes.
    #[must_use]
    pub fn foreign_keys(mut self, checked: bool) -> Self {
        self.settings.foreign_keys = checked;
        self
    }

    /// How long a statement waits for a lock that another connection has, of this process or of another. Default: 5 s.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.settings.busy_timeout = timeout;
        self
    }

    /// To how many bytes a journal, or a write-ahead log that has been taken over into the file, is cut. Default: 64 MiB, as
    /// Rails has it. `None`: it stays as large as it once became.
    #[must_use]
    pub fn journal_size_limit(mut self, bytes: Option<u64>) -> Self {
        self.settings.journal_size_limit = bytes;
        self
    }

    /// How many prepared statements each connection keeps for `prepare_cached`. Default: rusqlite's own, 16.
    #[must_use]
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.settings.statement_cache = Some(statements);
        self
    }

    /// Another setting, made on each connection when it is opened; later calls for the same name count. A key of a cipher is
    /// set first, what shapes a new file (`page_size`, `encoding`, `auto_vacuum`, `locking_mode`) before the journal mode,
    /// anything else last. A name that is none, or a pragma that SQLite refuses, is an error of opening.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts alike, as they are written")]
    pub fn pragma(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        let pragma = Pragma { name: name.into(), value: value.to_string() };
        self.settings.pragmas.retain(|other| !other.name.eq_ignore_ascii_case(&pragma.name));
        self.settings.pragmas.push(pragma);
        self.settings.pragmas.sort_by_key(Pragma::turn);
        self
    }

    /// Calls `f` with the very first connection, and opens no second one before it has returned: for the schema and its
    /// migrations. It is called once in the life of the pool, unless it fails: then that is the pool's error, everybody who
    /// waits for a connection gets it, and it is called again for whoever asks after the pause of
    /// [`Builder::retry`](crate::Builder::retry).
    ///
    /// Other processes do the same at the same time, so migrate within an immediate transaction. An error of another kind
    /// than rusqlite's comes through [`abort`].
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::Pool;
    /// use millpond::sqlite::SqliteManager;
    /// use rusqlite::TransactionBehavior;
    ///
    /// let manager = SqliteManager::memory().on_first_connect(|conn| {
    ///     let change = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    ///     let version: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    ///     if version < 1 {
    ///         change.execute_batch("CREATE TABLE visit (page TEXT); PRAGMA user_version = 1")?;
    ///     }
    ///     change.commit()
    /// });
    /// let pool = Pool::builder(manager).min_idle(4).build()?;
    /// assert_eq!(pool.get()?.execute("INSERT INTO visit VALUES ('/')", [])?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on_first_connect(
        mut self,
        f: impl Fn(&mut Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_first_connect = Some(Arc::new(f));
        self
    }

    /// What is looked at when a connection comes back. Default: [`OnReturn::Detect`].
    ///
    /// To open a new connection for every borrower, whatever the last one did, set
    /// [`max_uses(Some(1))`](crate::Builder::max_uses).
    #[must_use]
    pub fn on_return(mut self, on_return: OnReturn) -> Self {
        self.settings.on_return = on_return;
        self
    }

    /// Whether `PRAGMA optimize` is run when a connection is closed, never when it is returned. Default: yes. It takes
    /// microseconds where nothing has changed, looks at 400 rows of an index at the most, waits for no lock, and is
    /// interrupted after 100 ms.
    #[must_use]
    pub fn optimize_on_close(mut self, optimize: bool) -> Self {
        self.settings.optimize_on_close = optimize;
        self
    }

    /// How long a statement waits for a lock.
    pub(super) fn patience(&self) -> Duration {
        self.settings.busy_timeout
    }

    /// The database, as errors name it; for a file, its path.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.name
    }

    /// The last part of the path, or all of it.
    pub(super) fn short_name(&self) -> &str {
        let last = Path::new(&self.name).file_name().and_then(|name| name.to_str());
        last.unwrap_or(&self.name)
    }

    // ---- opening ----

    /// The first connection of all, with everything that is done once. For a database in memory also the one that keeps it.
    fn open_first(&self) -> rusqlite::Result<(Connection, Option<Connection>)> {
        let keeper = match &self.place {
            Place::Memory(_) => Some(self.open_at(Access::Write)?),
            Place::File(_) | Place::Uri(_) => None,
        };
        let mut conn = self.open_with(self.first, self.settings.journal_mode.as_str())?;
        if let Some(hook) = &self.settings.on_first_connect {
            self.run(hook, &mut conn)?;
        }
        Ok((conn, keeper))
    }

    fn run(&self, hook: &Hook, conn: &mut Connection) -> rusqlite::Result<()> {
        let outcome = hook(conn)
            .and_then(|()| if conn.is_autocommit() { Ok(()) } else { Err(abort("it has left a transaction open")) });
        outcome.map_err(|error| fault::named(&self.name, "on_first_connect failed", error))
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        self.open_with(self.access, None)
    }

    fn open_with(&self, access: Access, journal_mode: Option<&str>) -> rusqlite::Result<Connection> {
        let mut conn = self.open_at(access)?;
        let settings = &self.settings;
        if let Some(statements) = settings.statement_cache {
            conn.set_prepared_statement_cache_capacity(statements);
        }
        self.set_up(&conn, Turn::Key)?;
        // The first that reads the file: here it turns out whether it is a database at all.
        let _: i64 = self.ask(&conn, "schema_version", None)?;
        if access == Access::Write {
            self.set_up(&conn, Turn::Shape)?;
            if let Some(mode) = journal_mode {
                self.set_journal_mode(&conn, mode)?;
            }
            self.set(&conn, "synchronous", settings.synchronous.as_str())?;
            if let Some(bytes) = settings.journal_size_limit {
                self.set(&conn, "journal_size_limit", bytes)?;
            }
        } else if matches!(self.place, Place::Memory(_)) {
            // Its file system knows no connections that only read.
            self.set(&conn, "query_only", 1)?;
        }
        self.set(&conn, "foreign_keys", u8::from(settings.foreign_keys))?;
        self.set_up(&conn, Turn::Rest)?;
        if settings.on_return == OnReturn::Detect {
            self.state.changed.watch(&mut conn)?;
        }
        Ok(conn)
    }

    /// Opened, and patient; nothing has been read yet.
    fn open_at(&self, access: Access) -> rusqlite::Result<Connection> {
        let mut flags = match access {
            Access::Read if !matches!(self.place, Place::Memory(_)) => OpenFlags::SQLITE_OPEN_READ_ONLY,
            _ if self.settings.must_exist => OpenFlags::SQLITE_OPEN_READ_WRITE,
            _ => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        // A connection is never used by two threads at a time, so it needs no lock of its own.
        flags |= OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match &self.place {
            Place::File(path) => {
                self.refuse_private(path)?;
                Connection::open_with_flags(path, flags)
            }
            Place::Uri(uri) | Place::Memory(uri) => {
                Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
            }
        };
        let conn = opened.map_err(|source| self.unopened(source))?;
        conn.busy_timeout(self.settings.busy_timeout)?;
        if access == Access::Write && conn.is_readonly("main").unwrap_or(false) {
            // SQLite falls back to reading, and fails at the first write.
            return Err(fault::lasting(&self.name, "it is write-protected; open it with read_only()"));
        }
        Ok(conn)
    }

    /// Names of databases that each connection would have for itself.
    fn refuse_private(&self, path: &Path) -> rusqlite::Result<()> {
        let private = path.as_os_str().is_empty() || path.as_os_str() == ":memory:";
        if !private {
            return Ok(());
        }
        let why = "each connection would have a database of its own; SqliteManager::memory() is one for all";
        Err(fault::lasting(&self.name, why))
    }

    fn set_up(&self, conn: &Connection, turn: Turn) -> rusqlite::Result<()> {
        for pragma in self.settings.pragmas.iter().filter(|pragma| pragma.turn() == turn) {
            if pragma.name.eq_ignore_ascii_case("journal_mode") {
                let why = "journal_mode() sets the journal mode, once, and no pragma does";
                return Err(fault::lasting(&self.name, why));
            }
            if !pragma.is_name() {
                let why = format!("{:?} is not the name of a pragma", pragma.name);
                return Err(fault::lasting(&self.name, &why));
            }
            drain(conn, &pragma.sql())
                .map_err(|error| fault::named(&self.name, &format!("PRAGMA {pragma} failed"), error))?;
        }
        Ok(())
    }

    fn set(&self, conn: &Connection, name: &str, value: impl fmt::Display) -> rusqlite::Result<()> {
        let sql = format!("PRAGMA {name} = {value}");
        drain(conn, &sql).map_err(|error| fault::named(&self.name, &format!("{sql} failed"), error))
    }

    fn ask<T: rusqlite::types::FromSql>(&self, conn: &Connection, name: &str, to: Option<&str>) -> rusqlite::Result<T> {
        let sql = to.map_or_else(|| format!("PRAGMA {name}"), |to| format!("PRAGMA {name} = {to}"));
        let answer = conn.query_row(&sql, [], |row| row.get(0));
        answer.map_err(|error| fault::named(&self.name, &format!("{sql} failed"), error))
    }

    /// Another process may be doing the same, and there are moments at which SQLite does not wait for it.
    fn set_journal_mode(&self, conn: &Connection, mode: &str) -> rusqlite::Result<()> {
        let until = Clock::System.now().after(self.settings.busy_timeout);
        let got: String = again_while_busy(until, || self.ask(conn, "journal_mode", Some(mode)), is_busy)?;
        if got.eq_ignore_ascii_case(mode) || matches!(self.place, Place::Memory(_)) {
            return Ok(());
        }
        let why = format!("its journal mode stays {got:?}, where {mode:?} was asked for");
        Err(fault::lasting(&self.name, &why))
    }

    /// SQLite says "unable to open database file" for many things; what a look at the path tells is said too.
    fn unopened(&self, error: rusqlite::Error) -> rusqlite::Error {
        let Place::File(path) = &self.place else { return fault::named(&self.name, "SQLite refuses", error) };
        match fault::obstacle(path, self.access == Access::Read || self.settings.must_exist) {
            Some(why) => fault::lasting(&self.name, &why),
            // As when there are no descriptors left.
            None => fault::named(&self.name, "SQLite refuses", error),
        }
    }
}

/// Runs a statement whose rows, if it has any, nobody wants.
fn drain(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Tries something again as long as somebody else is in the way. SQLite has its own way of waiting, which some locks do not
/// use.
pub(super) fn again_while_busy<T, E>(
    until: Moment,
    mut f: impl FnMut() -> Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut pause = Duration::from_millis(1);
    loop {
        match f() {
            Err(error) if is_busy(&error) && Clock::System.now() < until => thread::sleep(pause),
            other => return other,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

impl Manager for SqliteManager {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Connection> {
        // Acquire: what the first connection was given to set up has been done.
        if !self.state.ready.load(Ordering::Acquire) {
            let mut first = self.state.first.lock();
            if !first.done {
                let (conn, keeper) = self.open_first()?;
                *first = First { done: true, _keeper: keeper };
                drop(first);
                self.state.ready.store(true, Ordering::Release);
                if self.first == self.access {
                    return Ok(conn);
                }
                // Opened before the other is closed: the last one to go tidies the log away.
                let reader = self.open();
                drop(conn);
                return reader;
            }
        }
        self.open()
    }

    fn is_valid(&self, _: &mut Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    /// A file does not hang up: even after it was deleted, every statement succeeds.
    fn can_validate(&self) -> bool {
        false
    }

    fn reset(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        if !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK")?;
        }
        if conn.is_busy() {
            return Err(fault::misuse("a statement was left unfinished"));
        }
        if self.settings.on_return == OnReturn::Detect && self.state.changed.is_changed(conn) {
            let what = "the session was changed: something attached, something temporary, or a setting";
            return Err(fault::misuse(what));
        }
        Ok(())
    }

    fn close(&self, mut conn: Connection) {
        let of_use = self.access == Access::Write && !matches!(self.place, Place::Memory(_));
        if of_use && self.settings.optimize_on_close && conn.is_autocommit() && !conn.is_busy() {
            optimize(&mut conn);
        }
        if let Err((_, error)) = conn.close() {
            log::warn!("the database {:?} cannot be closed: {}", self.name, redact(&error.to_string()));
        }
    }

    fn classify(&self, error: &rusqlite::Error) -> Fault {
        if fault::may_pass(error) { Fault::Transient } else { Fault::Permanent }
    }
}

/// So that statistics stay current, and no longer than a pool waits for a close. Whatever it ends with, nothing is lost.
fn optimize(conn: &mut Connection) {
    let until = Clock::System.now().after(Duration::from_millis(100));
    let bounded = outcome(conn.progress_handler(1000, Some(move || Clock::System.now() > until)));
    let sql = "PRAGMA busy_timeout = 0; PRAGMA analysis_limit = 400; PRAGMA optimize";
    if let Err(error) = bounded.and_then(|()| conn.execute_batch(sql)) {
        log::debug!("PRAGMA optimize ended early: {error}");
    }
}

impl fmt::Debug for SqliteManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteManager")
            .field("database", &self.name)
            .field("read_only", &(self.access == Access::Read))
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
