//! The guest book: what is in it, and what may be written.

use crate::Fault;
use crate::failure::Refused;
use crate::flags::Flags;
use crate::watch::Watch;
use millpond::sqlite::{self, SqliteManager, SqlitePool, abort};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::{Value as Json, json};
use std::time::Duration;

pub(crate) const LONGEST_NAME: usize = 40;
pub(crate) const LONGEST_TEXT: usize = 1_000;
/// So many entries are on a page, and no more in an answer than `MOST`.
pub(crate) const SOME: u32 = 20;
pub(crate) const MOST: u32 = 100;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS guest (name TEXT PRIMARY KEY, entries INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS entry (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL REFERENCES guest,
        text TEXT NOT NULL,
        written INTEGER NOT NULL DEFAULT (unixepoch())
    )";

/// Nothing here is passed a connection: what is called within a request works with that of the request (see
/// [`scope`](crate::scope)), and what is called from elsewhere borrows one.
pub(crate) struct GuestBook {
    pub(crate) pool: SqlitePool,
}

/// What somebody wants to write.
pub(crate) struct Draft {
    name: String,
    text: String,
}

pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) text: String,
    /// As `2026-11-22 01:23`, in UTC.
    pub(crate) written: String,
}

/// Some of the entries, and how many there are in all.
pub(crate) struct Excerpt {
    pub(crate) guests: i64,
    pub(crate) total: i64,
    /// The latest first.
    pub(crate) entries: Vec<Entry>,
}

impl GuestBook {
    pub(crate) fn open(flags: &Flags) -> Result<Self, Fault> {
        let manager = SqliteManager::file(&flags.database).on_first_connect(|conn| conn.execute_batch(SCHEMA));
        let waiting = Some(flags.waiting);
        let pool = SqlitePool::builder(manager)
            .name("guest-book")
            .readers(flags.readers)
            .configure_readers(move |readers| watched(readers.max_waiting(waiting)))
            .configure_writer(move |writer| watched(writer.max_waiting(waiting)))
            .build()?;
        Ok(Self { pool })
    }

    /// Writes an entry, and counts it among those of its guest: both or neither.
    pub(crate) fn add(&self, draft: &Draft) -> Result<i64, sqlite::Error> {
        self.pool.write_transaction(|conn| {
            self.count(&draft.name)?;
            conn.prepare_cached("INSERT INTO entry (name, text) VALUES (?1, ?2)")?.insert([&draft.name, &draft.text])
        })
    }

    /// Called within the transaction above, on its connection, although nothing was passed.
    fn count(&self, name: &str) -> Result<(), sqlite::Error> {
        let count = "INSERT INTO guest VALUES (?1, 1) ON CONFLICT DO UPDATE SET entries = entries + 1";
        self.pool.write(|conn| conn.prepare_cached(count)?.execute([name]).map(|_| ()))
    }

    /// The latest entries, or those before one of them.
    pub(crate) fn excerpt(&self, before: Option<i64>, most: u32) -> Result<Excerpt, sqlite::Error> {
        let (guests, total) = self.totals()?;
        let entries = self.pool.read(|conn| {
            let some = "SELECT id, name, text, strftime('%Y-%m-%d %H:%M', written, 'unixepoch') FROM entry
                        WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
            let mut statement = conn.prepare_cached(some)?;
            statement.query_map((before.unwrap_or(i64::MAX), most), entry)?.collect()
        })?;
        Ok(Excerpt { guests, total, entries })
    }

    fn totals(&self) -> Result<(i64, i64), sqlite::Error> {
        let totals = "SELECT count(*), coalesce(sum(entries), 0) FROM guest";
        self.pool.read(|conn| conn.prepare_cached(totals)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    pub(crate) fn entry(&self, id: i64) -> Result<Entry, sqlite::Error> {
        let one = "SELECT id, name, text, strftime('%Y-%m-%d %H:%M', written, 'unixepoch') FROM entry WHERE id = ?1";
        let look = |conn: &Connection| conn.prepare_cached(one)?.query_row([id], entry).optional();
        self.pool.read(|conn| look(conn)?.ok_or_else(|| abort(Refused::NotFound(format!("there is no entry {id}")))))
    }
}

/// No request holds a connection for ten seconds, unless something is wrong: then a line in the log says who does.
fn watched(pool: millpond::Builder<SqliteManager>) -> millpond::Builder<SqliteManager> {
    pool.use_times(true).leak_threshold(Some(Duration::from_secs(10))).event_handler(Watch::default())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry { id: row.get(0)?, name: row.get(1)?, text: row.get(2)?, written: row.get(3)? })
}

impl Draft {
    /// Refuses what is not there, is empty, or is longer than it may be.
    pub(crate) fn new(name: Option<String>, text: Option<String>) -> Result<Self, Refused> {
        Ok(Self { name: written("name", name, LONGEST_NAME)?, text: written("text", text, LONGEST_TEXT)? })
    }
}

fn written(field: &'static str, value: Option<String>, longest: usize) -> Result<String, Refused> {
    let Some(value) = value else { return Err(Refused::bad(field, "", "it is missing")) };
    // A browser sends the ends of lines as two characters, and counts one.
    let value = value.replace("\r\n", "\n");
    let trimmed = value.trim();
    let length = trimmed.chars().count();
    if trimmed.is_empty() {
        return Err(Refused::bad(field, &value, "it is empty"));
    }
    if length > longest {
        let why = format!("it has {length} characters, and {longest} are allowed");
        return Err(Refused::bad(field, trimmed, why));
    }
    if let Some(control) = trimmed.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Refused::bad(field, trimmed, format!("it has the control character {control:?} in it")));
    }
    Ok(trimmed.to_owned())
}

impl Excerpt {
    pub(crate) fn to_json(&self) -> Json {
        json!({
            "guests": self.guests,
            "total": self.total,
            "entries": self.entries.iter().map(Entry::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Entry {
    fn to_json(&self) -> Json {
        json!({ "id": self.id, "name": self.name, "text": self.text, "written": self.written })
    }
}
