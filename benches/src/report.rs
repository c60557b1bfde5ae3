//! What a run leaves behind: printed as it comes, and written to the documentation when asked.

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::chart::Chart;
use crate::figures::Found;
use crate::table::Table;

/// Where what a run has found is written down.
pub fn docs_folder() -> PathBuf {
    let home = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("benches"), PathBuf::from);
    home.join("../docs")
}

/// Tells whoever forgot `--release`.
pub fn warn_unless_optimised() {
    if cfg!(debug_assertions) {
        eprintln!("built without optimisation: the numbers mean nothing, add --release");
    }
}

#[derive(Debug, Default)]
pub struct Report {
    markdown: String,
    charts: Vec<(&'static str, String)>,
    pub found: Found,
}

impl Report {
    pub fn heading(&mut self, title: &str) {
        self.print(&format!("## {title}\n"));
    }

    pub fn text(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    pub fn table(&mut self, table: &Table) {
        self.print(&table.to_string());
    }

    /// Charts are for the documentation only; a terminal has the table.
    pub fn chart(&mut self, file: &'static str, chart: &Chart) {
        self.markdown.push_str(&format!("![{}](charts/{file}.svg)\n\n", chart.title));
        self.charts.push((file, chart.to_svg()));
    }

    fn print(&mut self, block: &str) {
        println!("{block}");
        self.markdown.push_str(block);
        self.markdown.push('\n');
    }

    /// Writes `benchmarks.md` and the charts below `docs`.
    pub fn write(&self, docs: &Path, preface: &str) -> io::Result<()> {
        let charts = docs.join("charts");
        fs::create_dir_all(&charts)?;
        for (file, svg) in &self.charts {
            fs::write(charts.join(file).with_extension("svg"), svg)?;
        }
        fs::write(docs.join("benchmarks.md"), format!("{preface}\n{}", self.markdown.trim_end().to_owned() + "\n"))
    }
}

/// A line on the terminal that says what runs now, and is gone afterwards.
#[derive(Debug)]
pub struct Progress {
    section: &'static str,
    rounds: usize,
    shown: bool,
}

impl Progress {
    pub fn new(section: &'static str, rounds: usize) -> Self {
        let shown = io::stderr().is_terminal();
        if !shown {
            eprintln!("{section} …");
        }
        Self { section, rounds, shown }
    }

    pub fn at(&self, round: usize, what: &str) {
        if self.shown {
            eprint!("\r\x1b[K{}: round {} of {}, {what}", self.section, round + 1, self.rounds);
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
