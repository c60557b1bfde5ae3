//! A batch job: loads a CSV or JSON-lines file of any size into SQLite, with several workers and a progress bar, can be
//! interrupted at any moment, and goes on exactly where it was.
//!
//! ```text
//! cargo run --release --example batch
//! cargo run --release --example batch -- big.csv --into big.db --bad-lines skip
//! cargo run --release --example batch -- --help
//! ```
//!
//! The thread that reads takes records from the file one by one; workers parse them, and take turns with the one writer
//! of a [`SqlitePool`](millpond::sqlite::SqlitePool). [`millpond::batch`] is what holds that together. How far the load
//! is, is written into the database by the transaction that writes the rows, so neither a signal nor a crash can part
//! the two.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it times itself; only the library has a clock of its own")]

#[path = "batch/compare.rs"]
mod compare;
#[path = "batch/flags.rs"]
mod flags;
#[path = "support/folder.rs"]
mod folder;
#[path = "batch/gate.rs"]
mod gate;
#[path = "batch/ledger.rs"]
mod ledger;
#[path = "batch/lines.rs"]
mod lines;
#[path = "batch/load.rs"]
mod load;
#[path = "batch/rejects.rs"]
mod rejects;
#[path = "batch/source.rs"]
mod source;
#[path = "batch/summary.rs"]
mod summary;
#[path = "batch/target.rs"]
mod target;
#[path = "batch/values.rs"]
mod values;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use flags::Flags;
use folder::TempFolder;
use load::{Ending, Loaded};
use rusqlite::Connection;
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

/// Any error, from any of the libraries in play.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const REJECTED: u8 = 3;
const INTERRUPTED: u8 = 130;

/// Raised by the first signal.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Err(problem) = flags.check() {
        Flags::command().error(ErrorKind::MissingRequiredArgument, problem).exit();
    }
    run(flags).unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}

fn run(flags: Flags) -> Result<ExitCode, Failure> {
    let Some(file) = flags.file.clone() else { return show() };
    if flags.compare {
        compare::compare(&flags, &file)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Not before, so that whatever does not load ends at once, as other programs do.
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            process::exit(INTERRUPTED.into());
        }
        eprintln!("interrupted: what is in work is committed; once more ends the program at once");
    })?;
    let into = flags.into.clone().ok_or("--into is missing")?;
    let loaded = load::load(&flags, &file, &into, &STOP)?;
    summary::print(&flags, &loaded);
    Ok(exit_code(&loaded))
}

fn exit_code(loaded: &Loaded) -> ExitCode {
    match &loaded.ending {
        Ending::Complete | Ending::NothingToDo if loaded.rejected() > 0 => REJECTED.into(),
        Ending::Complete | Ending::NothingToDo => ExitCode::SUCCESS,
        Ending::Interrupted => INTERRUPTED.into(),
        Ending::Failed(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Without arguments: a small file of real data, into a database that goes at the end.
fn show() -> Result<ExitCode, Failure> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/routes.csv");
    let folder = TempFolder::create("batch")?;
    let into = folder.file("routes.db");
    let words = ["batch".as_ref(), file.as_os_str(), "--into".as_ref(), into.as_os_str()];
    let flags = Flags::try_parse_from(words.iter().chain([&"--per-transaction".as_ref(), &"500".as_ref()]))?;
    println!("{} holds how many flights went from one airport to another in 2008.", file.display());
    let loaded = load::load(&flags, &file, &into, &STOP)?;
    summary::print(&flags, &loaded);

    let conn = Connection::open(&into)?;
    let mut busiest = conn.prepare("SELECT origin, destination, flights FROM routes ORDER BY flights DESC LIMIT 3")?;
    let mut rows = busiest.query([])?;
    println!("\nThe busiest routes:");
    while let Some(row) = rows.next()? {
        let (from, to, flights): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        println!("  {from} to {to}: {flights} flights");
    }
    println!("\nWhat to try next (with `cargo run --release --example batch --` before it):\n");
    println!("  FILE.csv --into my.db                       your own file; Ctrl-C stops it");
    println!("  FILE.csv --into my.db --resume              goes on, after Ctrl-C, a crash or a power cut");
    println!("  FILE.csv --into my.db --bad-lines skip      skips and reports what cannot be loaded");
    println!("  FILE.csv --compare                          times it beside one connection, and r2d2");
    println!("  --help                                      all flags, and the exit codes");
    Ok(exit_code(&loaded))
}
