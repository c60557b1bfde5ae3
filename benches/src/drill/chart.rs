//! One outage as a drawing: good calls over time, and below them the failed ones.

use std::fmt::Write;

use super::pair::Kind;
use crate::chart::{escaped, line, plain, round_step, text};

/// Calls in each tenth of a second.
pub(super) struct Curve {
    pub(super) kind: Kind,
    pub(super) good: Vec<u64>,
    pub(super) failed: Vec<u64>,
}

pub(super) struct Timeline {
    pub(super) title: String,
    /// What is to be seen, for those who do not see it.
    pub(super) about: String,
    /// In seconds, where 0 is the beginning of the outage.
    pub(super) begin: f64,
    /// How long the outage lasted, in seconds.
    pub(super) away: f64,
    pub(super) curves: [Curve; 2],
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 496.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
/// Top and bottom of the two panels.
const GOOD: (f64, f64) = (92.0, 302.0);
const FAILED: (f64, f64) = (346.0, 446.0);

/// The colours that the pools have in the bar charts too. One line is broken, for those who cannot tell the colours.
const STYLE: &str = "\
    text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 } \
    .grid { stroke: #d0d7de } .axis { stroke: #57606a } .away { fill: #818b98; opacity: 0.18 } \
    .line { fill: none; stroke-width: 2; stroke-linejoin: round } .r2d2.line { stroke-dasharray: 5 2 } \
    rect.millpond { fill: #0969da } rect.r2d2 { fill: #cf5f00 } \
    .millpond.line { stroke: #0969da } .r2d2.line { stroke: #cf5f00 } \
    @media (prefers-color-scheme: dark) { \
    text { fill: #e6edf3 } .grid { stroke: #30363d } .axis { stroke: #8b949e } \
    rect.millpond { fill: #2f81f7 } rect.r2d2 { fill: #f0883e } \
    .millpond.line { stroke: #2f81f7 } .r2d2.line { stroke: #f0883e } }";

impl Timeline {
    pub(super) fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"title about\">\n<title id=\"title\">{title}</title>\n\
             <desc id=\"about\">{about}</desc>\n<style>{STYLE}</style>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"22\">{title}</text>\n",
            title = escaped(&self.title),
            about = escaped(&self.about),
        );
        self.legend(&mut svg);
        let good = self.panel(&mut svg, GOOD, "good calls in 0.1 s", |curve| &curve.good);
        for curve in &self.curves {
            self.line(&mut svg, curve, &good);
        }
        let failed = self.panel(&mut svg, FAILED, "failed calls in 0.1 s", |curve| &curve.failed);
        for (position, curve) in self.curves.iter().enumerate() {
            self.bars(&mut svg, curve, position, &failed);
        }
        self.seconds(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn tenths(&self) -> usize {
        self.curves.iter().map(|curve| curve.good.len()).max().unwrap_or(1).max(1)
    }

    /// Where a second stands.
    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (second - self.begin) * 10.0 / self.tenths() as f64
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for curve in &self.curves {
            let name = curve.kind.name();
            let _ = writeln!(svg, "<path class=\"{name} line\" d=\"M{x} 44h22\"/>");
            text(svg, "", "start", x + 28.0, 48.0, name);
            x += 110.0;
        }
        let _ = writeln!(svg, "<rect class=\"away\" x=\"{x}\" y=\"38\" width=\"22\" height=\"12\"/>");
        text(svg, "", "start", x + 28.0, 48.0, "the server is away");
    }

    /// Ground, lines across and their labels; returns where a count stands.
    fn panel(
        &self,
        svg: &mut String,
        (top, bottom): (f64, f64),
        name: &str,
        of: fn(&Curve) -> &[u64],
    ) -> impl Fn(u64) -> f64 + use<> {
        let most = self.curves.iter().flat_map(|curve| of(curve).iter().copied()).max().unwrap_or(0).max(1) as f64;
        let step = round_step(most / if bottom - top > 150.0 { 5.0 } else { 3.0 });
        let ticks = (most / step).ceil();
        let y = move |value: f64| bottom - (bottom - top) * value / (step * ticks);
        let (from, to) = (self.x(0.0), self.x(self.away));
        let _ = writeln!(
            svg,
            "<rect class=\"away\" x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\"/>",
            to - from,
            bottom - top
        );
        text(svg, "", "start", LEFT, top - 10.0, name);
        for tick in 0..=ticks as u32 {
            let value = f64::from(tick) * step;
            line(svg, if tick == 0 { "axis" } else { "grid" }, LEFT, y(value), WIDTH - RIGHT, y(value));
            text(svg, "", "end", LEFT - 8.0, y(value) + 4.0, &plain(value));
        }
        move |count| y(count as f64)
    }

    /// A point in the middle of each tenth.
    fn line(&self, svg: &mut String, curve: &Curve, y: &impl Fn(u64) -> f64) {
        let mut path = String::new();
        for (tenth, count) in curve.good.iter().enumerate() {
            let x = self.x(self.begin + (tenth as f64 + 0.5) / 10.0);
            let _ = write!(path, "{}{x:.1} {:.1}", if tenth == 0 { 'M' } else { 'L' }, y(*count));
        }
        let _ = writeln!(svg, "<path class=\"{} line\" d=\"{path}\"/>", curve.kind.name());
    }

    /// Each tenth has room for a bar of each pool.
    fn bars(&self, svg: &mut String, curve: &Curve, position: usize, y: &impl Fn(u64) -> f64) {
        let width = (self.x(0.1) - self.x(0.0)) / self.curves.len() as f64;
        for (tenth, count) in curve.failed.iter().enumerate().filter(|(_, count)| **count > 0) {
            let x = self.x(self.begin + tenth as f64 / 10.0) + width * position as f64;
            let (top, bottom) = (y(*count), y(0));
            let _ = writeln!(
                svg,
                "<rect class=\"{}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                curve.kind.name(),
                (bottom - top).max(1.0)
            );
        }
    }

    fn seconds(&self, svg: &mut String) {
        let bottom = FAILED.1;
        let end = self.begin + self.tenths() as f64 / 10.0;
        let step = round_step((end - self.begin) / 20.0).max(1.0);
        let first = (self.begin / step).ceil() as i32;
        for second in (first..).map(|tick| f64::from(tick) * step).take_while(|second| *second <= end) {
            line(svg, "axis", self.x(second), bottom, self.x(second), bottom + 5.0);
            text(svg, "", "middle", self.x(second), bottom + 19.0, &format!("{second}").replace('-', "−"));
        }
        text(svg, "", "end", WIDTH - RIGHT, bottom + 38.0, "seconds since the server was killed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_has_a_point_for_every_tenth_and_a_bar_where_calls_failed() {
        let curve = |kind, failed| Curve { kind, good: vec![9, 9, 0, 9], failed };
        let curves = [curve(Kind::Millpond, vec![0, 0, 3, 0]), curve(Kind::R2d2, vec![0, 0, 3, 3])];
        let (title, about) = ("away & back".to_owned(), "one tenth without a call".to_owned());
        let svg = Timeline { title, about, begin: -0.2, away: 0.1, curves }.to_svg();
        assert!(svg.contains("<title id=\"title\">away &amp; back</title>"));
        let path = svg.lines().filter(|text| text.contains("line\" d=\"") && text.contains('L')).collect::<Vec<_>>();
        assert_eq!(path.iter().map(|text| text.matches('L').count()).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(svg.matches("<rect class=\"millpond\"").count(), 1);
        assert_eq!(svg.matches("<rect class=\"r2d2\"").count(), 2);
    }
}
