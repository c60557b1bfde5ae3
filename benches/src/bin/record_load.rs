//! Records a load for the simulations of `tests/simulation`: when a program over SQLite borrows connections, and for how long.
//!
//! ```sh
//! cargo run --release -p millpond-benches --bin record_load >tests/data/checkouts.csv
//! ```
//!
//! The program is a small service about airports: clients that come and go think, ask, and now and then write; an answer is
//! put together while the connection is held. There are always connections enough, so that nobody's arrival is put off by
//! the pool. For two minutes: a quiet time, more and more clients, a rush, and the quiet again.

#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use millpond::Pool;
use millpond::event::{CheckedIn, EventHandler};
use millpond::sqlite::SqliteManager;
use rusqlite::Connection;

const AIRPORTS: &str = include_str!("../../../examples/data/airports.csv");
const SECONDS: u64 = 120;
const CLIENTS: u32 = 60;
/// How long a client thinks between two questions, on average.
const THINKING: f64 = 0.4;

/// When each connection was borrowed, and for how long.
struct Recorder {
    begun: Instant,
    seen: Mutex<Vec<(Duration, Duration)>>,
}

impl EventHandler for Recorder {
    fn checked_in(&self, _: &str, event: &CheckedIn<'_>) {
        let begun = self.begun.elapsed().saturating_sub(event.held);
        self.seen.lock().expect("no panic under this lock").push((begun, event.held));
    }
}

/// How many clients are there, by the second.
fn clients(second: u64) -> u32 {
    match second {
        0..30 => 8,
        30..60 => 8 + (second - 30) as u32,
        60..80 => CLIENTS,
        _ => 12,
    }
}

fn fill(conn: &mut Connection) -> rusqlite::Result<()> {
    let load = conn.transaction()?;
    load.execute_batch("CREATE TABLE airport (code TEXT PRIMARY KEY, line TEXT); CREATE TABLE visit (code TEXT)")?;
    for line in AIRPORTS.lines().skip(1) {
        load.execute("INSERT OR IGNORE INTO airport VALUES (?1, ?2)", [line.get(..4).unwrap_or(line), line])?;
    }
    load.commit()
}

fn answer(conn: &mut Connection, dice: &mut Rng) -> rusqlite::Result<()> {
    let letters = format!("%{}%", dice.alphabetic());
    let found: u32 = conn.query_row("SELECT count(*) FROM airport WHERE line LIKE ?1", [&letters], |row| row.get(0))?;
    // The answer goes to the client bit by bit.
    thread::sleep(Duration::from_secs_f64(0.004 + 0.012 * exponential(dice)));
    if found.is_multiple_of(7) {
        let change = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for _ in 0..20 {
            change.execute("INSERT INTO visit VALUES (?1)", [&letters])?;
        }
        change.commit()?;
    }
    if dice.u32(0..400) == 0 {
        // Somebody wants to know it exactly.
        let join = "SELECT count(*) FROM airport a, airport b WHERE a.line < b.line AND a.code LIKE ?1";
        conn.query_row(join, [&letters], |row| row.get::<_, u32>(0))?;
    }
    Ok(())
}

fn exponential(dice: &mut Rng) -> f64 {
    -(1.0 - dice.f64()).ln()
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("millpond-record-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("airports.db");
    let begun = Instant::now();
    let recorder = Arc::new(Recorder { begun, seen: Mutex::default() });
    let pool = Pool::builder(SqliteManager::file(&file))
        .max_size(CLIENTS)
        .min_idle(CLIENTS)
        .event_handler(Arc::clone(&recorder))
        .build()?;
    pool.with(fill)??;
    let begun = begun.elapsed();
    recorder.seen.lock().expect("no panic under this lock").clear();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (pool, recorder) = (&pool, &recorder);
            scope.spawn(move || {
                let mut dice = Rng::with_seed(number.into());
                loop {
                    thread::sleep(Duration::from_secs_f64(THINKING * exponential(&mut dice)));
                    let second = recorder.begun.elapsed().saturating_sub(begun).as_secs();
                    if second >= SECONDS {
                        break;
                    }
                    if number < clients(second) {
                        pool.with(|conn| answer(conn, &mut dice))
                            .expect("there are enough")
                            .expect("the file is whole");
                    }
                }
            });
        }
    });
    let mut seen = std::mem::take(&mut *recorder.seen.lock().expect("no panic under this lock"));
    seen.sort();
    println!("at_us,held_us");
    for (at, held) in seen {
        println!("{},{}", at.saturating_sub(begun).as_micros(), held.as_micros());
    }
    pool.close_and_wait(Duration::from_secs(10))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
