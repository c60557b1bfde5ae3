//! Opens, cleans and closes connections to one database.

use super::fault;
use super::opening::optimize;
use super::session::Changed;
use super::settings::{JournalMode, OnReturn, Pragma, Settings, Synchronous};
use crate::redact::redact;
use crate::{Fault, Manager};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::fmt;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
    pub(super) place: Place,
    /// How the database is called in errors.
    pub(super) name: String,
    pub(super) access: Access,
    /// How the first connection of all is opened.
    pub(super) first: Access,
    pub(super) settings: Settings,
    pub(super) state: Arc<State>,
}

/// Where the database is.
#[derive(Clone)]
pub(super) enum Place {
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
pub(super) struct State {
    /// Of the database, among those of the process.
    pub(super) number: u64,
    /// The first connection has been set up, and those that follow need not wait.
    pub(super) ready: AtomicBool,
    /// A database in memory lives as long as it has a connection. Locked while the first connection is set up.
    keeper: Mutex<Option<Connection>>,
    pub(super) changed: Changed,
    /// How many connections are open.
    open: AtomicUsize,
}

impl State {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            ready: AtomicBool::new(false),
            keeper: Mutex::default(),
            changed: Changed::default(),
            open: AtomicUsize::new(0),
        }
    }
}

impl SqliteManager {
    /// A database in a file, which is made by the first connection if it is missing. The path is taken as it is, from where
    /// the process is now, also if it looks like a URI; those go to [`uri`](Self::uri).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // So that no connection is opened elsewhere after a change of the folder. Names that no file can have stay.
        let path = if Self::is_private(&path) { path } else { std::path::absolute(&path).unwrap_or(path) };
        Self::new(path.display().to_string(), Place::File(path))
    }

    /// Names by which each connection would have a database for itself.
    pub(super) fn is_private(path: &Path) -> bool {
        path.as_os_str().is_empty() || path.as_os_str() == ":memory:"
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
        let mut manager = Self::new("(in memory)".to_owned(), Place::Memory(String::new()));
        manager.place = Place::Memory(format!("file:/millpond-memory-{}?vfs=memdb", manager.state.number));
        manager
    }

    fn new(name: String, place: Place) -> Self {
        let access = Access::Write;
        Self { place, name, access, first: access, settings: Settings::default(), state: Arc::new(State::new()) }
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

    /// How long a statement waits for a lock that another connection has, of this process or of another. Default: 5 s. More
    /// than SQLite can count (24 days) is as much as that.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.settings.busy_timeout = timeout.min(Duration::from_millis(i32::MAX as u64));
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
    /// anything else last. A pragma that this SQLite does not know, or that it refuses, is an error of opening; so is a key
    /// where this SQLite has no cipher, which would ignore it.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts alike, as they are written")]
    pub fn pragma(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        let pragma = Pragma { name: name.into(), value: value.to_string() };
        self.settings.pragmas.retain(|other| !other.name.eq_ignore_ascii_case(&pragma.name));
        self.settings.pragmas.push(pragma);
        self.settings.pragmas.sort_by_key(Pragma::turn);
        self
    }

    /// Calls `f` with every new connection, readers' too, before anything else is done with it: for functions, collations and
    /// extensions that the schema needs. What only the pool needs goes to [`Builder::on_open`](crate::Builder::on_open),
    /// which comes later.
    #[must_use]
    pub fn on_connect(mut self, f: impl Fn(&mut Connection) -> rusqlite::Result<()> + Send + Sync + 'static) -> Self {
        self.settings.on_connect = Some(Arc::new(f));
        self
    }

    /// Calls `f` with the very first connection, and opens no second one before it has returned: for the schema and its
    /// migrations. It is called once in the life of the pool, unless it fails: then that is the pool's error, everybody who
    /// waits for a connection gets it, and it is called again for whoever asks after the pause of
    /// [`Builder::retry`](crate::Builder::retry).
    ///
    /// Other processes do the same at the same time, so migrate within an immediate transaction. An error of another kind
    /// than rusqlite's comes through [`abort`](super::abort). The connection is closed afterwards, so what `f` has changed of
    /// its session (`PRAGMA foreign_keys = OFF`, to rebuild a table) concerns nobody.
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

    /// The first time it sets the database up, while all others wait; the connection that did it is not for anybody to use.
    fn prepare(&self) -> rusqlite::Result<Option<Connection>> {
        // Acquire: what the first connection was given to set up has been done.
        if self.state.ready.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut keeper = self.state.keeper.lock();
        // Relaxed: the lock tells what whoever had it has done.
        if self.state.ready.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (conn, kept) = self.open_first()?;
        *keeper = kept;
        self.state.ready.store(true, Ordering::Release);
        drop(keeper);
        Ok(Some(conn))
    }

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }

    /// Whether a reader is in nobody's way: with a write-ahead log, as far as is known.
    pub(super) fn readers_are_apart(&self) -> bool {
        let logged = matches!(self.settings.journal_mode, JournalMode::Wal | JournalMode::Keep);
        logged && !self.is_in_memory()
    }

    /// Whether it only reads by its owner's wish.
    pub(super) fn is_read_only(&self) -> bool {
        self.first == Access::Read
    }

    /// The database's number among those of the process.
    pub(super) fn database_id(&self) -> u64 {
        self.state.number
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
}

impl Manager for SqliteManager {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Connection> {
        // Closed after the other is open: the last one to go tidies the log away.
        let _first = self.prepare()?;
        let conn = self.open()?;
        // Relaxed: at worst a log is left, or looked for once more.
        self.state.open.fetch_add(1, Ordering::Relaxed);
        Ok(conn)
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
        // It only writes down a number, which statements with a deadline change, and anybody can.
        conn.busy_timeout(self.settings.busy_timeout)
    }

    fn close(&self, conn: Connection) {
        if self.access == Access::Write
            && !self.is_in_memory()
            && self.settings.optimize_on_close
            && conn.is_autocommit()
            && !conn.is_busy()
        {
            optimize(&conn, "PRAGMA optimize");
        }
        if let Err((_, error)) = conn.close() {
            log::warn!("the database {:?} cannot be closed: {}", self.name, redact(&error.to_string()));
        }
        // Relaxed: at worst a log is left, or looked for once more.
        let last = self.state.open.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && self.first == Access::Write {
            self.tidy_up();
        }
    }

    fn classify(&self, error: &rusqlite::Error) -> Fault {
        if fault::may_pass(error) { Fault::Transient } else { Fault::Permanent }
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
