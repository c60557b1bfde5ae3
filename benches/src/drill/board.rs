//! The scoreboard: all scenes in one table, printed, and put into the documentation when asked.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::{Row, Score};
use crate::table::Table;

/// What lies between these lines of `docs/reliability.md` is written by the drill.
const BEGIN: &str = "<!-- written by scripts/outage-drill: begin -->\n";
const END: &str = "<!-- written by scripts/outage-drill: end -->\n";

const CHART: &str = "outage.svg";

#[derive(Debug, Default)]
pub struct Board {
    scores: Vec<Score>,
}

impl Board {
    pub fn push(&mut self, score: Score) {
        self.scores.push(score);
    }

    fn rows(&self) -> impl Iterator<Item = &(Row, Option<bool>)> {
        self.scores.iter().flat_map(|score| &score.rows)
    }

    fn chart(&self) -> Option<&str> {
        self.scores.iter().find_map(|score| score.chart.as_deref())
    }

    /// Writes the table into `reliability.md` below `docs`, and the chart beside it.
    pub fn write(&self, docs: &Path) -> io::Result<()> {
        let page = docs.join("reliability.md");
        let text = fs::read_to_string(&page)?;
        let mut part = format!("\n{self}\n");
        if let Some(svg) = self.chart() {
            fs::write(docs.join(CHART), svg)?;
            part.push_str(&format!("![{}]({CHART})\n\n", alt(svg)));
        }
        let text = replaced(&text, &part).ok_or_else(|| {
            let lost = format!("{} has lost the lines between which the scoreboard stands", page.display());
            io::Error::new(io::ErrorKind::InvalidData, lost)
        })?;
        fs::write(page, text)
    }
}

/// The table, and how many of the figures to reach are reached.
impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["fault", "figure", "to reach", "millpond", "r2d2", "reached"]);
        let mut before = "";
        for (Row { fault, figure, reach, millpond, r2d2, .. }, met) in self.rows() {
            let repeated = *fault == before;
            before = fault;
            let fault = if repeated { "" } else { fault };
            let met = match met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            table.row([fault, figure, reach, millpond, r2d2, met]);
        }
        let verdicts = || self.rows().filter_map(|(_, met)| *met);
        let (judged, met) = (verdicts().count(), verdicts().filter(|met| *met).count());
        write!(f, "{table}\n{met} of {judged} figures are reached.\n")
    }
}

/// The chart's own title and description, which stand in it as they must in an attribute.
fn alt(svg: &str) -> String {
    let inner = |begin: &str, end: &str| Some(svg.split_once(begin)?.1.split_once(end)?.0);
    let title = inner("<title id=\"title\">", "</title>").unwrap_or("One outage");
    let about = inner("<desc id=\"about\">", "</desc>").unwrap_or_default();
    format!("{title}. {about}")
}

fn replaced(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{part}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fault: &str) -> Row {
        Row::new(fault, "f", "", ["1", "2"].map(str::to_owned))
    }

    #[test]
    fn a_fault_is_named_once() {
        let mut board = Board::default();
        board.push(vec![row("cut"), row("cut"), row("killed")].into());
        let text = board.to_string();
        assert_eq!((text.matches("cut").count(), text.matches("killed").count()), (1, 1));
        assert!(text.ends_with("0 of 0 figures are reached.\n"));
    }

    #[test]
    fn only_what_stands_between_the_lines_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(replaced(&text, "new\n"), Some(format!("before\n{BEGIN}new\n{END}after\n")));
        assert_eq!(replaced("a page without them\n", "new\n"), None);
    }
}
