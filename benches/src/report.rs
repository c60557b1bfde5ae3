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

/// The heading of the last section.
pub const FIGURES: &str = "Figures to reach";

/// Where a section begins and ends.
fn section(text: &str, heading: &str) -> Option<(usize, usize)> {
    let begin = text.find(&format!("## {heading}\n"))?;
    let end = text.get(begin + 1..)?.find("\n## ").map_or(text.len(), |length| begin + length + 2);
    Some((begin, end))
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

    /// The same for a chart of another kind.
    pub fn drawing(&mut self, file: &'static str, title: &str, svg: String) {
        self.markdown.push_str(&format!("![{title}](charts/{file}.svg)\n\n"));
        self.charts.push((file, svg));
    }

    fn print(&mut self, block: &str) {
        println!("{block}");
        self.markdown.push_str(block);
        self.markdown.push('\n');
    }

    /// Writes `benchmarks.md` and the charts below `docs`.
    pub fn write(&self, docs: &Path, preface: &str) -> io::Result<()> {
        self.write_charts(docs)?;
        fs::write(docs.join("benchmarks.md"), format!("{preface}\n{}", self.markdown.trim_end().to_owned() + "\n"))
    }

    /// Writes the charts, and puts the sections of these headings into `benchmarks.md`: in the place of those that are there, else
    /// before the figures.
    pub fn write_sections(&self, docs: &Path, headings: &[&str]) -> io::Result<()> {
        self.write_charts(docs)?;
        let file = docs.join("benchmarks.md");
        let mut text = fs::read_to_string(&file)?;
        for heading in headings {
            let Some((begin, end)) = section(&self.markdown, heading) else { continue };
            let place = section(&text, heading).or_else(|| section(&text, FIGURES).map(|(begin, _)| (begin, begin)));
            let (from, to) = place.unwrap_or((text.len(), text.len()));
            text.replace_range(from..to, self.markdown.get(begin..end).unwrap_or_default());
        }
        fs::write(file, text)
    }

    fn write_charts(&self, docs: &Path) -> io::Result<()> {
        let charts = docs.join("charts");
        fs::create_dir_all(&charts)?;
        self.charts.iter().try_for_each(|(file, svg)| fs::write(charts.join(file).with_extension("svg"), svg))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_goes_up_to_the_next_heading() {
        let text = "# T\n\n## One\n\nfirst\n\n### Part\n\n## Two\n\nlast\n";
        let cut = |heading| section(text, heading).and_then(|(begin, end)| text.get(begin..end));
        assert_eq!(cut("One"), Some("## One\n\nfirst\n\n### Part\n\n"));
        assert_eq!(cut("Two"), Some("## Two\n\nlast\n"));
        assert_eq!(cut("Three"), None);
    }
}
