//! Grouped bar charts as SVG, readable on light and on dark pages.

use std::fmt::Write;

use crate::contestants::Kind;
use crate::table::number;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// For values that span several powers of ten. Bars start at the power below the least value.
    Log,
}

#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    /// What the vertical axis counts, with its unit.
    pub unit: String,
    pub scale: Scale,
    /// A value worth a line across, and its name.
    pub mark: Option<(f64, String)>,
    groups: Vec<String>,
    series: Vec<Series>,
}

/// The bars of one contestant.
#[derive(Clone, Debug)]
struct Series {
    name: &'static str,
    /// The same in every chart, so that a reader knows a pool by it.
    colour: usize,
    values: Vec<f64>,
}

const WIDTH: f64 = 880.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const PLOT: f64 = 280.0;
/// A bar narrower than this has its value written upwards.
const WIDE: f64 = 34.0;
/// About the width of a character at the size of the legend.
const CHARACTER: f64 = 7.2;

const STYLE: &str = "\
    text { font: 12px system-ui, sans-serif; fill: #24292f } \
    .title { font-size: 15px; font-weight: 600 } \
    .value { font-size: 10px; paint-order: stroke; stroke: #fff; stroke-width: 3px } \
    .grid { stroke: #d0d7de } .axis { stroke: #57606a } \
    .mark { stroke: #cf222e; stroke-dasharray: 5 4 } .name { fill: #cf222e } \
    .s0 { fill: #0969da } .s1 { fill: #54aeff } .s2 { fill: #1b7c83 } .s3 { fill: #cf5f00 } .s4 { fill: #e9a15b } \
    .s5 { fill: #8250df } .s6 { fill: #bf3989 } .s7 { fill: #57606a } .s8 { fill: #9a9fa5 } .s9 { fill: #7d8a2e } \
    @media (prefers-color-scheme: dark) { \
    text { fill: #e6edf3 } .value { stroke: #0d1117 } .grid { stroke: #30363d } .axis { stroke: #8b949e } \
    .mark { stroke: #ff7b72 } .name { fill: #ff7b72 } \
    .s0 { fill: #2f81f7 } .s1 { fill: #a5d6ff } .s2 { fill: #39c5cf } .s3 { fill: #f0883e } .s4 { fill: #ffc680 } \
    .s5 { fill: #a371f7 } .s6 { fill: #f778ba } .s7 { fill: #8b949e } .s8 { fill: #c9d1d9 } .s9 { fill: #c5d05f } }";

impl Chart {
    pub fn new<S: Into<String>>(title: &str, unit: &str, scale: Scale, groups: impl IntoIterator<Item = S>) -> Self {
        Self {
            title: title.to_owned(),
            unit: unit.to_owned(),
            scale,
            mark: None,
            groups: groups.into_iter().map(Into::into).collect(),
            series: Vec::new(),
        }
    }

    pub fn mark(mut self, value: f64, name: &str) -> Self {
        self.mark = Some((value, name.to_owned()));
        self
    }

    /// One bar in each group.
    pub fn series(&mut self, kind: Kind, values: impl IntoIterator<Item = f64>) {
        self.named(kind.name(), kind as usize, values);
    }

    /// The same for what is no pool under test; the colour is that of a kind that is not in this chart.
    pub fn named(&mut self, name: &'static str, colour: usize, values: impl IntoIterator<Item = f64>) {
        let values = values.into_iter().collect();
        self.series.push(Series { name, colour, values });
    }

    pub fn to_svg(&self) -> String {
        let (legend, top) = self.legend();
        let axis = Axis::over(self.scale, self.values());
        let bottom = top + PLOT;
        let height = bottom + 34.0;
        let y = |value: f64| bottom - PLOT * axis.part(value);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"22\">{title}</text>\n\
             <text x=\"{LEFT}\" y=\"42\">{unit}</text>\n{legend}",
            title = escaped(&self.title),
            unit = escaped(&self.unit),
        );
        for tick in axis.ticks() {
            let at = y(tick);
            line(&mut svg, "grid", LEFT, at, WIDTH - RIGHT, at);
            text(&mut svg, "", "end", LEFT - 8.0, at + 4.0, &plain(tick));
        }
        let labels = self.bars(&mut svg, bottom, &y);
        line(&mut svg, "axis", LEFT, bottom, WIDTH - RIGHT, bottom);
        if let Some((value, _)) = &self.mark {
            line(&mut svg, "mark", LEFT, y(*value), WIDTH - RIGHT, y(*value));
        }
        svg.push_str(&labels);
        svg.push_str("</svg>\n");
        svg
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let bars = self.series.iter().flat_map(|one| one.values.iter().copied());
        bars.chain(self.mark.iter().map(|(value, _)| *value)).filter(|value| value.is_finite() && *value > 0.0)
    }

    /// Draws the bars, and returns their labels: those come last, over all lines.
    fn bars(&self, svg: &mut String, bottom: f64, y: &impl Fn(f64) -> f64) -> String {
        let mut labels = String::new();
        let group_width = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let bar = (group_width * 0.86 / self.series.len().max(1) as f64).min(56.0);
        for (position, group) in self.groups.iter().enumerate() {
            let middle = LEFT + group_width * (position as f64 + 0.5);
            text(svg, "", "middle", middle, bottom + 20.0, group);
            let mut left = middle - bar * self.series.len() as f64 / 2.0;
            for Series { colour, values, .. } in &self.series {
                let value = values.get(position).copied().unwrap_or(f64::NAN);
                if value.is_finite() && value > 0.0 {
                    let top = y(value);
                    let _ = writeln!(
                        svg,
                        "<rect class=\"s{colour}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"1\"/>",
                        left + 0.5,
                        bar - 1.0,
                        (bottom - top).max(1.0),
                    );
                    let centre = left + bar / 2.0;
                    if bar >= WIDE {
                        text(&mut labels, "value", "middle", centre, top - 4.0, &number(value));
                    } else {
                        let _ = writeln!(
                            labels,
                            "<text class=\"value\" transform=\"translate({:.1} {:.1}) rotate(-90)\">{}</text>",
                            centre + 3.5,
                            top - 4.0,
                            number(value),
                        );
                    }
                }
                left += bar;
            }
        }
        labels
    }

    /// The legend, and where the plot below it begins.
    fn legend(&self) -> (String, f64) {
        let mut svg = String::new();
        let (mut x, mut y) = (LEFT, 64.0);
        let mut entry = |class: String, name: &str, dashed: bool| {
            let width = 18.0 + CHARACTER * name.chars().count() as f64 + 14.0;
            if x + width > WIDTH - RIGHT {
                (x, y) = (LEFT, y + 20.0);
            }
            if dashed {
                line(&mut svg, &class, x, y - 4.0, x + 12.0, y - 4.0);
            } else {
                let _ = writeln!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" rx=\"2\"/>",
                    y - 10.0
                );
            }
            text(&mut svg, if dashed { "name" } else { "" }, "start", x + 18.0, y, name);
            x += width;
        };
        for Series { name, colour, .. } in &self.series {
            entry(format!("s{colour}"), name, false);
        }
        if let Some((_, name)) = &self.mark {
            entry("mark".to_owned(), name, true);
        }
        (svg, y + 40.0)
    }
}

struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Leaves room above the highest bar for its value.
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((f64::MAX, 0.0), |(least, most): (f64, f64), v| (least.min(v), most.max(v)));
        match scale {
            _ if most == 0.0 => Self { scale: Scale::Linear, low: 0.0, high: 1.0, step: 0.5 },
            Scale::Linear => {
                let step = round_step(most * 1.08 / 6.0);
                Self { scale, low: 0.0, high: step * (most * 1.08 / step).ceil(), step }
            }
            Scale::Log => {
                // A bar of no height says nothing: the least one ends a third of a power above the floor or higher.
                let low = (least.log10() - 0.33).floor();
                Self { scale, low, high: (most.log10() + 0.35).max(low + 1.0), step: 1.0 }
            }
        }
    }

    fn part(&self, value: f64) -> f64 {
        let place = if self.scale == Scale::Log { value.log10() } else { value };
        ((place - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step + 1e-9).floor() as u32;
        let places = (0..=count).map(|tick| self.low + self.step * f64::from(tick));
        places.map(|place| if self.scale == Scale::Log { 10f64.powf(place) } else { place }).collect()
    }
}

/// The label of a tick, which is a round number: without digits that say nothing.
pub(crate) fn plain(tick: f64) -> String {
    if tick >= 100.0 { number(tick) } else { format!("{}", (tick * 1e6).round() / 1e6) }
}

/// The next of 1, 2, 5, 10, 20 …
pub(crate) fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let digit = least / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|round| *round >= digit).unwrap_or(10.0)
}

pub(crate) fn line(svg: &mut String, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
    let _ = writeln!(svg, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

pub(crate) fn text(svg: &mut String, class: &str, anchor: &str, x: f64, y: f64, content: &str) {
    let content = escaped(content);
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(svg, "<text{class} text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>");
}

pub(crate) fn escaped(content: &str) -> String {
    content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_every_value_and_none_for_what_was_not_measured() {
        let mut chart = Chart::new("a < b", "ns", Scale::Log, ["1", "2"]).mark(10.0, "ideal");
        chart.series(Kind::Millpond, [1.0, 1000.0]);
        chart.series(Kind::R2d2, [f64::NAN, 20.0]);
        let svg = chart.to_svg();
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches("rx=\"1\"").count(), 3);
        assert_eq!(svg.matches("rx=\"2\"").count(), 2);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([0.18, 3.1, 70.0].map(round_step), [0.2, 5.0, 100.0]);
    }
}
