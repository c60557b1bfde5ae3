//! What the command line says.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Loads a CSV or JSON-lines file of any size into a SQLite database, with several workers and a pool of connections.
///
/// Without any arguments it loads a small file of real data into a temporary database, to show what it does.
#[derive(Clone, Debug, Parser)]
#[command(name = "batch", after_help = EXIT_CODES)]
pub(crate) struct Flags {
    /// The file, or `-` for the standard input, which cannot be resumed.
    pub(crate) file: Option<PathBuf>,
    /// The database; made if it is not there.
    #[arg(long, value_name = "DB", requires = "file")]
    pub(crate) into: Option<PathBuf>,
    /// The table; made if it is not there, with the columns of the header, or of the first objects. Default: the name of the
    /// file.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// Default: by the name of the file.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// What separates the fields of a CSV file: one character, or `tab`.
    #[arg(long, default_value = ",", value_parser = delimiter)]
    pub(crate) delimiter: u8,
    /// Threads that parse and insert. Default: as many as there are cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) workers: Option<u32>,
    /// Lines in a transaction.
    #[arg(long, value_name = "LINES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) per_transaction: u32,
    /// What becomes of lines that cannot be loaded: skipped and reported, or the end of the load.
    #[arg(long, value_enum, default_value = "fatal")]
    pub(crate) bad_lines: BadLines,
    /// Where to write all bad lines that are skipped, with their numbers and reasons, as CSV. An interrupted load that goes
    /// on adds to it.
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,
    /// Goes on with a load that was interrupted, in whatever way.
    #[arg(long, conflicts_with_all = ["anew", "compare"])]
    pub(crate) resume: bool,
    /// Forgets an interrupted load of this table, and begins anew. The rows that it has loaded stay.
    #[arg(long, conflicts_with = "compare")]
    pub(crate) anew: bool,
    /// The longest record, in bytes: a quote that is never closed is not to fill the memory.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_record: u64,
    /// Loads the file into temporary databases instead: over one connection, over r2d2, and over millpond.
    #[arg(long, requires = "file", conflicts_with = "into")]
    pub(crate) compare: bool,
    /// Rounds of the comparison.
    #[arg(long, default_value_t = 3, requires = "compare", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// An object on each line.
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BadLines {
    Skip,
    Fatal,
}

const EXIT_CODES: &str = "\
A line is bad if it has the wrong number of fields, is not UTF-8 or not JSON, or violates a constraint of the table. An empty \
field is NULL.

Exit codes:
  0    every line is loaded
  1    the load failed; what was committed stays
  2    the command line is wrong
  3    loaded, but for the bad lines that were skipped
  130  interrupted by Ctrl-C (SIGINT, SIGTERM or SIGHUP): what was committed stays, and --resume goes on.
       A second Ctrl-C ends the program at once, with the same to be said";

impl Flags {
    /// As clap does it where the rule is not one of its own.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match (&self.file, &self.into) {
            (Some(_), None) if !self.compare => Err("with a file, --into <DB> says where to load it to"),
            (None, _) if self.resume || self.anew || self.rejects.is_some() => Err("<FILE> is missing"),
            (Some(file), _) if file.as_os_str() == "-" && self.format.is_none() => Err("standard input needs --format"),
            (Some(file), _) if file.as_os_str() == "-" && self.table.is_none() => Err("standard input needs --table"),
            (Some(file), _) if file.as_os_str() == "-" && self.resume => Err("standard input cannot be resumed"),
            (Some(file), _) if file.as_os_str() == "-" && self.compare => Err("standard input can be read only once"),
            _ => Ok(()),
        }
    }

    /// The format that was given, or that the name tells.
    pub(crate) fn format(&self) -> Format {
        let named = self.file.as_ref().and_then(|file| file.extension()).and_then(|extension| extension.to_str());
        self.format.unwrap_or(match named.map(str::to_ascii_lowercase).as_deref() {
            Some("jsonl" | "ndjson" | "json") => Format::Jsonl,
            _ => Format::Csv,
        })
    }

    pub(crate) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, |workers| workers as usize)
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [one] if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => Ok(*one),
        _ if text == "tab" => Ok(b'\t'),
        _ => Err("one ASCII character, other than a quote or a line break, or `tab`".to_owned()),
    }
}
