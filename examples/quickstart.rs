//! The quick start: a pool over a real SQLite file, shared by eight threads.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! The first half of `main` is what a newcomer needs: make a pool, borrow a connection, share the pool between threads.
//! Then the same work is done without a pool and with r2d2, and a table puts the three side by side.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it times itself; only the library has a clock of its own")]

mod support;

use std::path::Path;
use std::time::Duration;

use indicatif::HumanCount;
use millpond::Pool;
use rusqlite::Connection;
use support::airports::{self, Atlas};
use support::contest::{self, Entrant};
use support::{Failure, TempFolder, report, work};

/// Half as many as there are threads, because sharing is what a pool is for. The longest waits in the table come when all
/// of them are held by threads that wait for their turn to write, or that the machine has set aside.
const CONNECTIONS: u32 = 4;

fn main() -> Result<(), Failure> {
    let atlas = Atlas::read()?;
    let folder = TempFolder::create("quickstart")?;
    let file = folder.file("millpond.db");
    let keeper = airports::create_database(&file, &atlas)?;

    // A pool needs to know how to open a connection: a closure will do, and so will any manager written for r2d2.
    let pool = Pool::builder(move || open(&file)).name("airports").max_size(CONNECTIONS).build()?;

    // `get` borrows a connection. It goes home when the guard is dropped, here at the end of the block.
    let count: u32 = {
        let conn = pool.get()?;
        conn.query_row("SELECT count(*) FROM airport", [], |row| row.get(0))?
    };

    // `with` lends one for the length of a closure. The first `?` is the pool's error, the second is SQLite's.
    let jfk = pool.with(|conn| work::describe(conn, "JFK"))??;
    println!("{count} airports are in the database; JFK is {jfk}.");

    // Threads share a pool through clones of the handle, or through an `Arc`, or by borrowing it from a scope.
    let threads = ["SEA", "DEN", "ATL"].map(|code| {
        let pool = pool.clone();
        std::thread::spawn(move || -> Result<String, Failure> { Ok(work::describe(&*pool.get()?, code)?) })
    });
    for thread in threads {
        println!("From a thread of its own: {}.", thread.join().map_err(|_| "a thread panicked")??);
    }

    // From here on, the contest: every entrant gets a database of its own, with the same rows and the same settings.
    let (bare_file, r2d2_file) = (folder.file("bare.db"), folder.file("r2d2.db"));
    let bare_keeper = airports::create_database(&bare_file, &atlas)?;
    let r2d2_keeper = airports::create_database(&r2d2_file, &atlas)?;
    let r2d2_manager =
        r2d2_sqlite::SqliteConnectionManager::file(&r2d2_file).with_init(|conn| conn.execute_batch(SETTINGS));
    let r2d2_pool = r2d2::Pool::builder().max_size(CONNECTIONS).build(r2d2_manager)?;

    let through_millpond = |job: contest::Job<'_>| job(&mut *pool.get()?);
    let without_a_pool = |job: contest::Job<'_>| job(&mut open(&bare_file)?);
    let through_r2d2 = |job: contest::Job<'_>| job(&mut *r2d2_pool.get()?);
    let mut entrants = [
        Entrant::new("millpond", &through_millpond, &keeper),
        Entrant::new("no pool", &without_a_pool, &bare_keeper),
        Entrant::new("r2d2", &through_r2d2, &r2d2_keeper),
    ];
    contest::run(&mut entrants, &atlas)?;

    let [millpond, bare, r2d2] = &entrants;
    let r2d2_opened = u64::from(r2d2_pool.state().connections);
    report::table(&[(millpond, pool.stats().opened), (bare, bare.operations()), (r2d2, r2d2_opened)]);
    for entrant in &entrants {
        entrant.check()?;
    }
    report::answers(&*pool.get()?, &atlas)?;
    let stats = pool.stats();
    println!(
        "\nThe pool has {} connections, {} in use; of {} checkouts, {} had to wait and {} timed out.",
        stats.size,
        stats.in_use,
        HumanCount(stats.checkouts),
        HumanCount(stats.waits),
        stats.timeouts
    );
    println!("In its own words, `pool.table()`:\n{}", pool.table());

    // Dropping the last handle closes the pool as well, but does not wait until its connections are closed.
    pool.close_and_wait(Duration::from_secs(10))?;
    println!("Every answer was right, and every database holds exactly the flights that were written to it.");
    Ok(())
}

/// Write-ahead logging lets readers and one writer work side by side; a second writer waits up to the time-out.
const SETTINGS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;";

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(file)?;
    conn.execute_batch(SETTINGS)?;
    Ok(conn)
}
