//! Point reads from a SQLite file: a prepared statement, one row by its primary key.

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;

use crate::contestants::Kind;
use crate::end_to_end::{CONNECTIONS, Kept, Way, compare};
use crate::figures::Figure;
use crate::plan::Plan;
use crate::report::Report;

const ROWS: u64 = 10_000;

/// A database of its own for one run, removed afterwards.
struct Database {
    folder: PathBuf,
}

impl Database {
    fn create() -> Self {
        let database = Self { folder: env::temp_dir().join(format!("millpond-benches-{}", process::id())) };
        fs::create_dir_all(&database.folder).expect("the folder for temporary files can be written to");
        let mut conn = open(&database.file());
        let filling = conn.transaction().expect("nobody else has this database");
        filling
            .execute_batch("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL)")
            .expect("the database is new");
        {
            let mut insert = filling
                .prepare("INSERT INTO item (id, name, price) VALUES (?1, ?2, ?3)")
                .expect("the table was made above");
            for id in 0..ROWS {
                insert
                    .execute((id as i64, format!("item number {id}"), (id * 37 % 1_000) as i64))
                    .expect("every id is new");
            }
        }
        filling.commit().expect("nobody else has this database");
        database
    }

    fn file(&self) -> PathBuf {
        self.folder.join("items.db")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's cleaning of temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn open(file: &Path) -> Connection {
    let mut conn = Connection::open(file).expect("the file was made by this run");
    set_up(&mut conn).expect("a new database takes these settings");
    conn
}

/// As most servers set it up: readers do not wait for a writer.
fn set_up(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
}

fn read(conn: &Connection, choice: u64) {
    let mut statement =
        conn.prepare_cached("SELECT price FROM item WHERE id = ?1").expect("the table was made by this run");
    let price: i64 =
        statement.query_row([(choice % ROWS) as i64], |row| row.get(0)).expect("every id below ROWS has a row");
    black_box(price);
}

fn manager(file: &Path) -> SqliteConnectionManager {
    SqliteConnectionManager::file(file).with_init(set_up)
}

fn r2d2_pool(file: &Path, checked: bool) -> r2d2::Pool<SqliteConnectionManager> {
    r2d2::Pool::builder()
        .max_size(CONNECTIONS)
        .test_on_check_out(checked)
        .build(manager(file))
        .expect("the file was made by this run")
}

pub fn run(plan: Plan, report: &mut Report) {
    let database = Database::create();
    let file = database.file();
    let raw = Kept::new();
    let own =
        millpond::Pool::builder(manager(&file)).max_size(CONNECTIONS).build().expect("the file was made by this run");
    let (checked, unchecked) = (r2d2_pool(&file, true), r2d2_pool(&file, false));

    let through_r2d2 = |kind, pool: r2d2::Pool<SqliteConnectionManager>| {
        Way::through(kind, move || {
            let pool = pool.clone();
            Box::new(move |choice| read(&pool.get().expect("there is a connection for each thread"), choice))
        })
    };
    let ways = [
        Way::raw(|| {
            let own = raw.take(|| open(&file));
            Box::new(move |choice| read(own.conn.as_ref().expect("only drop takes it"), choice))
        }),
        Way::through(Kind::Millpond, || {
            let pool = &own;
            Box::new(move |choice| read(&pool.get().expect("there is a connection for each thread"), choice))
        }),
        Way::through(Kind::MillpondWith, || {
            let pool = &own;
            Box::new(move |choice| {
                pool.with(|conn| read(conn, choice)).expect("there is a connection for each thread");
            })
        }),
        through_r2d2(Kind::R2d2, checked),
        through_r2d2(Kind::R2d2Unchecked, unchecked),
    ];

    report.heading("SQLite point reads");
    report.text(
        "A row by its primary key from a file of 10 000 rows, write-ahead log, prepared statement from the driver's cache. \
         Every read checks a connection out and returns it.",
    );
    let [one, eight] = compare(plan, report, "sqlite", "SQLite point reads", 100, &ways);
    report.found.record(Figure::SqliteOne, one);
    report.found.record(Figure::SqliteEight, eight);
}
