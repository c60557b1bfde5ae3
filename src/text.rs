//! Text for people: tables whose columns stand below each other, on one line each whatever is in them.

use std::time::Duration;

/// A name, or a driver's error, may have line breaks and control characters; a table has neither.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Rows of cells, each column as wide as its widest cell; those from `right_from` on stand right.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]], right_from: usize) -> Vec<String> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| on_one_line(cell))).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column >= right_from { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Three digits and a unit: `0`, `12.3 µs`, `1.20 s`, `3 min`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        0.0 => return "0".to_owned(),
        // What would be rounded to a thousand is one of the next unit.
        ..0.999_5e-6 => (seconds * 1e9, "ns"),
        ..0.999_5e-3 => (seconds * 1e6, "µs"),
        ..0.999_5 => (seconds * 1e3, "ms"),
        ..99.95 => (seconds, "s"),
        ..6000.0 => return format!("{:.0} min", seconds / 60.0),
        ..360_000.0 => return format!("{:.0} h", seconds / 3600.0),
        _ => return format!("{:.0} d", seconds / 86_400.0),
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_end_without_blanks() {
        let rows = [["a", "1"], ["bcd", "10"], ["e\nf", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows, 1), ["a     1", "bcd  10", "e f"]);
    }

    #[test]
    fn durations_have_three_digits_at_the_most() {
        let shown = [0, 999, 1_500, 12_340_000, 123_400_000, 1_234_000_000, 99_000_000_000, 600_000_000_000]
            .map(|nanos| short(Duration::from_nanos(nanos)));
        assert_eq!(shown, ["0", "999 ns", "1.50 µs", "12.3 ms", "123 ms", "1.23 s", "99.0 s", "10 min"]);
        let rounded = [999_600, 9_996_000, 99_960_000, 999_600_000].map(|nanos| short(Duration::from_nanos(nanos)));
        assert_eq!(rounded, ["1.00 ms", "10.0 ms", "100 ms", "1.00 s"]);
        assert_eq!(short(Duration::from_secs(7200)), "2 h");
        assert_eq!(short(Duration::from_secs(86_400 * 9)), "9 d");
    }
}
