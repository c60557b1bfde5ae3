//! How far a load is: rows that are committed with the data, so that they are never ahead of it nor behind.

use super::Failure;
use super::flags::Flags;
use super::source::Identity;
use millpond::sqlite::abort;
use rusqlite::{Connection, OptionalExtension, params};
use std::ops::Range;

/// What the tables of the ledger are called; nothing else may be.
pub(crate) const PREFIX: &str = "millpond_batch_";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS millpond_batch_job (
        id INTEGER PRIMARY KEY, target TEXT NOT NULL, file TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL,
        reading TEXT NOT NULL, finished INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS millpond_batch_progress (
        job INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL, failed INTEGER NOT NULL,
        PRIMARY KEY (job, first)) WITHOUT ROWID;
    CREATE UNIQUE INDEX IF NOT EXISTS millpond_batch_progress_next ON millpond_batch_progress (job, next);
";

/// A load, and the records that are settled: loaded, or rejected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    id: i64,
    /// In order. None of them meet.
    settled: Vec<Range<u64>>,
    /// Records that were rejected before.
    pub(crate) rejected: u64,
    pub(crate) finished: bool,
}

impl Job {
    /// Finds the load that is to go on, or writes down a new one.
    pub(crate) fn begin(conn: &Connection, flags: &Flags, table: &str, file: &Identity) -> Result<Self, Failure> {
        conn.execute_batch(SCHEMA)?;
        let reading = format!("{:?} {:?}", flags.format(), char::from(flags.delimiter));
        let latest = "SELECT id, file, size, sha256, reading, finished FROM millpond_batch_job
                      WHERE target = ?1 COLLATE NOCASE ORDER BY id DESC LIMIT 1";
        let found = conn.query_row(latest, [table], |row| {
            let identity = Identity { size: row.get::<_, i64>(2)?.cast_unsigned(), sha256: row.get(3)? };
            Ok((row.get(0)?, row.get::<_, String>(1)?, identity, row.get::<_, String>(4)?, row.get(5)?))
        });
        let name = flags.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        match found.optional()? {
            Some((id, was, identity, as_read, finished)) if flags.resume => {
                if identity != *file {
                    let Identity { size, sha256 } = &identity;
                    return Err(format!(
                        "cannot resume: {name} is not the file whose load into {table:?} was begun ({was}, {size} bytes, \
                         SHA-256 {sha256}); it has {} bytes, SHA-256 {}",
                        file.size, file.sha256
                    )
                    .into());
                }
                if as_read != reading {
                    return Err(format!("cannot resume: the file was read as {as_read}, and now as {reading}").into());
                }
                Self::read(conn, id, finished)
            }
            Some((.., finished)) if !finished && !flags.resume && !flags.anew => Err(format!(
                "a load into {table:?} was interrupted: --resume goes on with it, --anew forgets it and begins anew"
            )
            .into()),
            found => {
                if flags.resume && found.is_none() {
                    eprintln!("there is no load into {table:?} to resume: beginning with the first line");
                }
                let of_table = "job IN (SELECT id FROM millpond_batch_job WHERE target = ?1 COLLATE NOCASE)";
                conn.execute(&format!("DELETE FROM millpond_batch_progress WHERE {of_table}"), [table])?;
                conn.execute("DELETE FROM millpond_batch_job WHERE target = ?1 COLLATE NOCASE", [table])?;
                conn.execute(
                    "INSERT INTO millpond_batch_job (target, file, size, sha256, reading) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![table, name, file.size.cast_signed(), file.sha256, reading],
                )?;
                Ok(Self { id: conn.last_insert_rowid(), ..Self::default() })
            }
        }
    }

    fn read(conn: &Connection, id: i64, finished: bool) -> Result<Self, Failure> {
        let mut query =
            conn.prepare("SELECT first, next, failed FROM millpond_batch_progress WHERE job = ?1 ORDER BY first")?;
        let row = |row: &rusqlite::Row<'_>| {
            let [first, next, failed] = [row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?].map(i64::cast_unsigned);
            Ok((first..next, failed))
        };
        let rows: Vec<_> = query.query_map([id], row)?.collect::<Result<_, _>>()?;
        let rejected = rows.iter().map(|(_, failed)| failed).sum();
        Ok(Self { id, settled: rows.into_iter().map(|(range, _)| range).collect(), rejected, finished })
    }

    /// How many records are settled.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn is_settled(&self, record: u64) -> bool {
        let at = self.settled.partition_point(|range| range.end <= record);
        self.settled.get(at).is_some_and(|range| range.contains(&record))
    }

    /// The number of the record that is the `nth` of those that are not settled.
    fn unsettled(&self, nth: u64) -> u64 {
        let mut record = nth;
        for range in &self.settled {
            if range.start > record {
                break;
            }
            record += range.end - range.start;
        }
        record
    }

    /// Writes down that these items are settled; in the transaction that settles them. Items are counted without what was
    /// settled before, records with it.
    pub(crate) fn note(&self, conn: &Connection, items: Range<u64>, failed: &[u64]) -> rusqlite::Result<()> {
        let mut item = items.start;
        while item < items.end {
            let first = self.unsettled(item);
            // Up to the next one that was settled before.
            let at = self.settled.partition_point(|range| range.end <= first);
            let room = self.settled.get(at).map_or(u64::MAX, |range| range.start - first);
            let len = room.min(items.end - item);
            let bad = failed.iter().filter(|failed| (item..item + len).contains(failed)).count() as u64;
            self.add(conn, first..first + len, bad)?;
            item += len;
        }
        Ok(())
    }

    /// Grows the row that ends here, or the one that begins where this ends, or makes one: there are not many more rows than
    /// workers.
    fn add(&self, conn: &Connection, records: Range<u64>, failed: u64) -> rusqlite::Result<()> {
        let meets = "SELECT 1 FROM millpond_batch_progress WHERE job = ?1 AND first < ?3 AND next > ?2";
        let range = params![self.id, records.start.cast_signed(), records.end.cast_signed()];
        if conn.prepare_cached(meets)?.exists(range)? {
            return Err(abort("another process loads the same file into the same table"));
        }
        let (mut first, mut next, mut failed) =
            (records.start.cast_signed(), records.end.cast_signed(), failed.cast_signed());
        let take = |condition: &str, at: i64| {
            let sql = format!(
                "DELETE FROM millpond_batch_progress WHERE job = ?1 AND {condition} RETURNING first, next, failed"
            );
            let row =
                |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
            conn.prepare_cached(&sql)?.query_row([self.id, at], row).optional()
        };
        if let Some((its_first, _, its_failed)) = take("next = ?2", first)? {
            (first, failed) = (its_first, failed + its_failed);
        }
        if let Some((_, its_next, its_failed)) = take("first = ?2", next)? {
            (next, failed) = (its_next, failed + its_failed);
        }
        let mut insert = conn.prepare_cached("INSERT INTO millpond_batch_progress VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute([self.id, first, next, failed]).map(drop)
    }

    /// Every record is settled.
    pub(crate) fn finish(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.execute("UPDATE millpond_batch_job SET finished = 1 WHERE id = ?1", [self.id]).map(drop)
    }
}
