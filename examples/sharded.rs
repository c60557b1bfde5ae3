//! Three shards, one of them slow and one damaged: a fan-out with a deadline, a recovery, and a fan-out again.
//!
//! ```text
//! cargo run --release --example sharded
//! ```
//!
//! Each shard is a SQLite file with the sales of a region. In the west they are a view that takes its time; the file of the
//! south is damaged on the way, and replaced by its copy.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it times itself; only the library has a clock of its own")]

#[path = "support/folder.rs"]
mod folder;

use folder::TempFolder;
use millpond::{FanOut, Pool, Pools, WarmUp};
use rusqlite::Connection;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;
type Region = &'static str;
type Totals = FanOut<Region, (i64, f64), rusqlite::Error>;

const REGIONS: [Region; 3] = ["north", "south", "west"];

/// How many of them are asked at once.
const AT_ONCE: usize = 3;

/// Rows that the west counts through before it answers: about two seconds' worth.
const DETOUR: u32 = 20_000_000;

fn main() -> Result<(), Failure> {
    let folder = TempFolder::create("sharded")?;
    for (number, region) in (1..).zip(REGIONS) {
        create(&folder.file(&format!("{region}.db")), region, number)?;
    }
    let (south, copy) = (folder.file("south.db"), folder.file("south-copy.db"));
    fs::copy(&south, &copy)?;

    // One pool for each shard, made when it is first asked for.
    let path = folder.file("");
    let shards = Pools::new(move |region: &Region| {
        let file = path.join(format!("{region}.db"));
        Pool::builder(move || Connection::open(&file)).name(*region).max_size(2).build_lazy()
    });
    let warm = shards.warm_all(REGIONS, WarmUp::blocking(1));
    println!("Warmed up: {} of {} shards.", warm.ok().count(), REGIONS.len());

    let second = Duration::from_secs(1);
    let patient = Duration::from_secs(60);
    let (rows, took) = ask(&shards, patient);
    report("All is well, and there is time: every shard answers.", &rows, took, patient);

    damage(&south)?;
    let (rows, took) = ask(&shards, second);
    report("The south is damaged, and there is one second.", &rows, took, second);

    println!("\nThe damaged file is replaced by its copy. The pool still has the old one open:");
    fs::remove_file(&south)?;
    fs::copy(&copy, &south)?;
    let recovery = shards.recover_with(&"south", Duration::from_secs(5), |conn| total(conn).map(drop));
    println!("  south: {recovery}");
    if !recovery.is_healthy() {
        return Err("the south could not be recovered".into());
    }

    let (rows, took) = ask(&shards, patient);
    report("And once more, with time:", &rows, took, patient);
    let all = rows.all()?;
    let (count, sum) = all.iter().fold((0, 0.0), |(count, sum), row| (count + row.0, sum + row.1));
    println!("\nAll regions together: {count} sales, {sum:.2} in all.");
    let stats = shards.stats();
    println!("{} pools, {} made, {} connections opened.", stats.pools, stats.created, stats.opened);
    // Waits for the query in the west that nobody waits for any more, if it has not ended.
    shards.close_all_and_wait(Duration::from_secs(60))?;
    Ok(())
}

/// The same question to every shard. Nothing in it is about shards that are slow or damaged.
fn ask(
    shards: &Pools<Region, impl millpond::Manager<Connection = Connection>>,
    deadline: Duration,
) -> (Totals, Duration) {
    let began = Instant::now();
    let rows = shards.fan_out(REGIONS, AT_ONCE, deadline, |_, conn| total(conn));
    (rows, began.elapsed())
}

fn total(conn: &mut Connection) -> rusqlite::Result<(i64, f64)> {
    conn.query_row("SELECT count(*), total(price) FROM sale", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn report(title: &str, rows: &Totals, took: Duration, deadline: Duration) {
    println!("\n{title}");
    for line in rows.table(|(count, sum)| format!("{count} sales, {sum:.2} in all")).lines() {
        println!("  {line}");
    }
    println!("  (back after {:.0} ms; the deadline was {deadline:?})", took.as_secs_f64() * 1e3);
}

fn create(file: &Path, region: Region, number: u32) -> rusqlite::Result<()> {
    let conn = Connection::open(file)?;
    conn.execute_batch("PRAGMA synchronous = OFF; CREATE TABLE receipt (price REAL NOT NULL); BEGIN")?;
    for n in 0..1_000 * number {
        conn.execute("INSERT INTO receipt VALUES (?1)", [f64::from(n % 100) + 0.5])?;
    }
    let detour = if region == "west" { DETOUR } else { 0 };
    conn.execute_batch(&format!(
        "COMMIT;
        CREATE VIEW sale (price) AS
            WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {detour})
            SELECT price FROM receipt WHERE (SELECT max(i) FROM n) = {detour}"
    ))
}

/// Overwrites the first page, as a disk or a careless script might.
fn damage(file: &Path) -> Result<(), Failure> {
    let mut bytes = fs::read(file)?;
    bytes.iter_mut().take(4096).for_each(|byte| *byte = 0xA5);
    Ok(fs::write(file, bytes)?)
}
