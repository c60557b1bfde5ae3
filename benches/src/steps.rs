//! Sizes over time as a drawing, and above them the callers that they are for.

use std::fmt::Write;

use crate::chart::{escaped, line, plain, round_step, text};

/// A size and since when, in seconds.
pub struct Line {
    pub name: &'static str,
    pub steps: Vec<(f64, f64)>,
}

pub struct Steps {
    pub title: String,
    /// What is to be seen, for those who do not see it.
    pub about: String,
    /// The seconds that are drawn.
    pub from: f64,
    pub to: f64,
    /// When the server hangs.
    pub shaded: Option<[f64; 2]>,
    /// Callers per second.
    pub callers: Vec<(f64, f64)>,
    /// The first is one's own.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 462.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
/// Top and bottom of the two panels.
const CALLERS: (f64, f64) = (92.0, 172.0);
const SIZES: (f64, f64) = (216.0, 412.0);

/// The colours of the other charts. Two lines are broken, for those who cannot tell the colours.
const STYLE: &str = "\
    text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 } \
    .grid { stroke: #d0d7de } .axis { stroke: #57606a } .away { fill: #818b98; opacity: 0.18 } \
    .line { fill: none; stroke-width: 2; stroke-linejoin: round } .callers { stroke: #57606a; stroke-width: 1 } \
    .l0 { stroke: #0969da } .l1 { stroke: #1b7c83; stroke-dasharray: 8 4 } .l2 { stroke: #cf5f00; stroke-dasharray: 3 2 } \
    @media (prefers-color-scheme: dark) { \
    text { fill: #e6edf3 } .grid { stroke: #30363d } .axis { stroke: #8b949e } .callers { stroke: #8b949e } \
    .l0 { stroke: #2f81f7 } .l1 { stroke: #39c5cf } .l2 { stroke: #f0883e } }";

impl Steps {
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"title about\">\n<title id=\"title\">{title}</title>\n\
             <desc id=\"about\">{about}</desc>\n<style>{STYLE}</style>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"22\">{title}</text>\n",
            title = escaped(&self.title),
            about = escaped(&self.about),
        );
        self.legend(&mut svg);
        self.panel(&mut svg, CALLERS, "callers per second", "callers", std::iter::once(&self.callers));
        self.panel(&mut svg, SIZES, "connections allowed", "l", self.lines.iter().map(|line| &line.steps));
        self.seconds(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, second: f64) -> f64 {
        let part = (second - self.from) / (self.to - self.from);
        LEFT + (WIDTH - LEFT - RIGHT) * part.clamp(0.0, 1.0)
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (position, one) in self.lines.iter().enumerate() {
            let _ = writeln!(svg, "<path class=\"l{position} line\" d=\"M{x} 44h22\"/>");
            text(svg, "", "start", x + 28.0, 48.0, one.name);
            x += 120.0;
        }
        if self.shaded.is_some() {
            let _ = writeln!(svg, "<rect class=\"away\" x=\"{x}\" y=\"38\" width=\"22\" height=\"12\"/>");
            text(svg, "", "start", x + 28.0, 48.0, "the server hangs");
        }
    }

    fn panel<'a>(
        &self,
        svg: &mut String,
        (top, bottom): (f64, f64),
        name: &str,
        class: &str,
        lines: impl Iterator<Item = &'a Vec<(f64, f64)>> + Clone,
    ) {
        let seen = lines.clone().flat_map(|steps| self.seen(steps));
        let most = seen.map(|(_, value)| value).fold(1.0, f64::max);
        let step = round_step(most / if bottom - top > 150.0 { 5.0 } else { 2.0 });
        let ticks = (most / step).ceil();
        let y = |value: f64| bottom - (bottom - top) * value / (step * ticks);
        if let Some([from, to]) = self.shaded {
            let (left, right) = (self.x(from), self.x(to));
            let (width, height) = (right - left, bottom - top);
            let _ = writeln!(
                svg,
                "<rect class=\"away\" x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
        }
        text(svg, "", "start", LEFT, top - 10.0, name);
        for tick in 0..=ticks as u32 {
            let value = f64::from(tick) * step;
            line(svg, if tick == 0 { "axis" } else { "grid" }, LEFT, y(value), WIDTH - RIGHT, y(value));
            text(svg, "", "end", LEFT - 8.0, y(value) + 4.0, &plain(value));
        }
        // One's own comes last, over the others.
        for (position, steps) in lines.enumerate().collect::<Vec<_>>().into_iter().rev() {
            let mut path = String::new();
            for (at, value) in self.seen(steps) {
                let x = self.x(at);
                if path.is_empty() {
                    let _ = write!(path, "M{x:.1} {:.1}", y(value));
                } else {
                    let _ = write!(path, "H{x:.1}V{:.1}", y(value));
                }
            }
            let class = if class == "l" { format!("l{position}") } else { class.to_owned() };
            let _ = writeln!(svg, "<path class=\"{class} line\" d=\"{path}H{:.1}\"/>", WIDTH - RIGHT);
        }
    }

    /// The steps within the seconds that are drawn, from the one that holds at the beginning on.
    fn seen<'a>(&'a self, steps: &'a [(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + 'a {
        let first = steps.partition_point(|(at, _)| *at <= self.from).saturating_sub(1);
        steps.iter().copied().skip(first).take_while(|(at, _)| *at < self.to)
    }

    fn seconds(&self, svg: &mut String) {
        let bottom = SIZES.1;
        let step = round_step((self.to - self.from) / 12.0);
        let first = (self.from / step).ceil() as u32;
        for second in (first..).map(|tick| f64::from(tick) * step).take_while(|second| *second <= self.to) {
            line(svg, "axis", self.x(second), bottom, self.x(second), bottom + 5.0);
            text(svg, "", "middle", self.x(second), bottom + 19.0, &plain(second));
        }
        text(svg, "", "end", WIDTH - RIGHT, bottom + 38.0, "seconds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_the_size_that_holds_at_the_beginning_and_ends_at_the_right_edge() {
        let steps = vec![(0.0, 4.0), (5.0, 8.0), (15.0, 2.0), (99.0, 50.0)];
        let chart = Steps {
            title: "a < b".to_owned(),
            about: String::new(),
            from: 10.0,
            to: 20.0,
            shaded: Some([12.0, 13.0]),
            callers: vec![(0.0, 1.0)],
            lines: vec![Line { name: "own", steps }],
        };
        assert_eq!(chart.seen(&chart.lines[0].steps).collect::<Vec<_>>(), [(5.0, 8.0), (15.0, 2.0)]);
        let svg = chart.to_svg();
        assert!(svg.contains("a &lt; b") && svg.contains("the server hangs"));
        assert_eq!(svg.matches("l0 line").count(), 2);
        assert_eq!(svg.matches("class=\"away\"").count(), 3);
    }
}
