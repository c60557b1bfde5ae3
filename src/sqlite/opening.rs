//! How a connection to a database is opened: what is set, in which order, and what is done once.

use super::error::{abort, is_busy};
use super::fault;
use super::held::Held;
use super::limit::{self, Limited};
use super::manager::{Access, Place, SqliteManager};
use super::session::outcome;
use super::settings::{Hook, JournalMode, OnReturn, Turn};
use crate::clock::{Clock, Moment};
use rusqlite::{Connection, OpenFlags};
use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

impl SqliteManager {
    /// The first connection of all, with everything that is done once; it is not for anybody to use. For a database in
    /// memory also the one that keeps it.
    pub(super) fn open_first(&self) -> rusqlite::Result<(Connection, Option<Connection>)> {
        let keeper = if self.is_in_memory() { Some(self.open_at(Access::Write)?) } else { None };
        let mut conn = self.open_with(self.first, self.settings.journal_mode.as_str())?;
        self.refuse_unknown_pragmas(&conn)?;
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

    /// A mode that is not written into the file, so that each connection has to set it.
    fn own_journal_mode(&self) -> Option<&'static str> {
        self.settings.journal_mode.as_str().filter(|_| self.settings.journal_mode != JournalMode::Wal)
    }

    pub(super) fn open(&self) -> rusqlite::Result<Connection> {
        self.open_with(self.access, self.own_journal_mode())
    }

    fn open_with(&self, access: Access, journal_mode: Option<&str>) -> rusqlite::Result<Connection> {
        let mut conn = self.open_at(access)?;
        let settings = &self.settings;
        let only_asked = access == Access::Read && self.is_in_memory();
        if let Some(hook) = &settings.on_connect {
            hook(&mut conn).map_err(|error| fault::named(&self.name, "on_connect failed", error))?;
        }
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
        } else if only_asked {
            // Its file system knows no connections that only read.
            self.set(&conn, "query_only", 1)?;
        }
        self.set(&conn, "foreign_keys", u8::from(settings.foreign_keys))?;
        self.set_up(&conn, Turn::Rest)?;
        self.state.changed.watch(&mut conn, settings.on_return == OnReturn::Detect, only_asked)?;
        outcome(conn.progress_handler(limit::STEPS, Some(limit::is_over)))?;
        let number = self.state.number;
        outcome(conn.commit_hook(Some(move || limit::is_over() || Held::forbids_commit(number))))?;
        Ok(conn)
    }

    /// Opened, and patient; nothing has been read yet.
    fn open_at(&self, access: Access) -> rusqlite::Result<Connection> {
        let mut flags = match access {
            Access::Read if !self.is_in_memory() => OpenFlags::SQLITE_OPEN_READ_ONLY,
            _ if self.settings.must_exist => OpenFlags::SQLITE_OPEN_READ_WRITE,
            _ => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        // A connection is never used by two threads at a time, so it needs no lock of its own.
        flags |= OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match &self.place {
            Place::File(path) if Self::is_private(path) => return Err(self.private()),
            // It would be made again without its schema. (And without the flag that makes it, nothing new could be attached.)
            Place::File(path) if self.state.ready.load(Ordering::Relaxed) && !path.exists() => {
                return Err(fault::nowhere(&self.name, "it was there and is gone"));
            }
            Place::File(path) => Connection::open_with_flags(path, flags),
            Place::Uri(uri) | Place::Memory(uri) => {
                Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
            }
        };
        let conn = opened.map_err(|source| self.unopened(source))?;
        conn.busy_timeout(self.settings.busy_timeout)?;
        let shared = |uri: &str| uri.contains("cache=shared");
        if matches!(&self.place, Place::Uri(uri) if conn.path().is_none_or(str::is_empty) && !shared(uri)) {
            return Err(self.private());
        }
        if access == Access::Write && conn.is_readonly("main").unwrap_or(false) {
            // SQLite falls back to reading, and fails at the first write.
            return Err(fault::write_protected(&self.name));
        }
        Ok(conn)
    }

    /// Each connection would have a database for itself.
    fn private(&self) -> rusqlite::Error {
        let why = "each connection would have a database of its own; SqliteManager::memory() is one for all";
        fault::lasting(&self.name, why)
    }

    /// Statistics, by a connection of its own.
    pub(super) fn optimize_now(&self) -> rusqlite::Result<()> {
        // All tables, and not only those that this connection has queried: it has queried none.
        optimize(&self.open()?, "PRAGMA optimize = 0x10002");
        Ok(())
    }

    /// Has the log taken over into the file and removed, if it was left behind: the last connection to go could only read, or
    /// several went in the same moment, and none was the last. Another one is opened and closed for it.
    pub(super) fn tidy_up(&self) {
        let Place::File(path) = &self.place else { return };
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        if !Path::new(&log).exists() {
            return;
        }
        if let Err(error) = self.open_with(Access::Write, None) {
            log::debug!("the log of the database {:?} is left as it is: {error}", self.name);
        }
    }

    /// SQLite says nothing about pragmas that it does not know, a key for a cipher that it does not have among them.
    fn refuse_unknown_pragmas(&self, conn: &Connection) -> rusqlite::Result<()> {
        let known = |name: &str| {
            let sql = "SELECT count(*), coalesce(sum(name = lower(?1)), 0) FROM pragma_pragma_list";
            let (all, this): (i64, i64) = conn.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?)))?;
            // Some are built without the list.
            Ok::<_, rusqlite::Error>(all == 0 || this > 0)
        };
        for pragma in &self.settings.pragmas {
            let ciphered =
                || ["cipher_version", "cipher"].iter().any(|asked| self.ask::<String>(conn, asked, None).is_ok());
            let (good, why) = match pragma.turn() {
                Turn::Key => (ciphered(), "this SQLite has no cipher, and would ignore it".to_owned()),
                Turn::Shape | Turn::Rest => (known(&pragma.name)?, "this SQLite does not know it".to_owned()),
            };
            if !good {
                return Err(fault::lasting(&self.name, &format!("PRAGMA {pragma}: {why}")));
            }
        }
        Ok(())
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
            let what = format!("PRAGMA {pragma} failed");
            drain(conn, &pragma.sql()).map_err(|error| match pragma.is_secret() {
                // What it says of the statement is the key.
                true => fault::named(&self.name, &what, fault::without_words(error)),
                false => fault::named(&self.name, &what, error),
            })?;
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
        if got.eq_ignore_ascii_case(mode) || self.is_in_memory() {
            return Ok(());
        }
        let why = format!("its journal mode stays {got:?}, where {mode:?} was asked for");
        Err(fault::lasting(&self.name, &why))
    }

    /// SQLite says "unable to open database file" for many things; what a look at the path tells is said too.
    fn unopened(&self, error: rusqlite::Error) -> rusqlite::Error {
        let Place::File(path) = &self.place else {
            // What it says has the URI in it, with its parameters.
            return fault::named(&self.name, "SQLite refuses", fault::without_words(error));
        };
        match fault::obstacle(path, self.access == Access::Read || self.settings.must_exist) {
            Some(why) => fault::nowhere(&self.name, &why),
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

/// So that statistics stay current, and no longer than a pool waits for a close. Whatever it ends with, nothing is lost.
pub(super) fn optimize(conn: &Connection, pragma: &str) {
    let _limit = Limited::begin(Clock::System.now().after(Duration::from_millis(100)), Duration::ZERO);
    let sql = format!("PRAGMA busy_timeout = 0; PRAGMA analysis_limit = 400; {pragma}");
    if let Err(error) = conn.execute_batch(&sql) {
        log::debug!("PRAGMA optimize ended early: {error}");
    }
}
