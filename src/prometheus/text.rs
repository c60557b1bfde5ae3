//! The text format: a family's HELP and TYPE, and all its samples below them.

use crate::stats::Distribution;
use crate::status::PoolStatus;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Samples that belong together.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// Without backslashes and newlines, which would have to be escaped.
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

/// What a family has of each pool.
pub(super) enum Samples {
    Gauge(fn(&PoolStatus) -> Value),
    Counter(fn(&PoolStatus) -> Value),
    /// One for each value of a label.
    GaugeBy(&'static str, fn(&PoolStatus) -> Vec<(String, u64)>),
    CounterBy(&'static str, fn(&PoolStatus) -> Vec<(String, u64)>),
    Histogram(fn(&PoolStatus) -> &Distribution),
    /// Count and sum, without quantiles.
    Summary(fn(&PoolStatus) -> (u64, Duration)),
}

impl Samples {
    fn kind(&self) -> &'static str {
        match self {
            Self::Gauge(_) | Self::GaugeBy(..) => "gauge",
            Self::Counter(_) | Self::CounterBy(..) => "counter",
            Self::Histogram(_) => "histogram",
            Self::Summary(_) => "summary",
        }
    }
}

/// The value of a sample.
pub(super) enum Value {
    Count(u64),
    Seconds(Duration),
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Count(is.into())
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Seconds(duration)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Seconds(duration) => duration.as_secs_f64().fmt(f),
        }
    }
}

/// The bounds of all histograms: 2^4 µs to 2^26 µs, one an octave. Each is the end of one of the four buckets an octave in which
/// pools count (a test says so). Below 16 µs nobody waits and nothing connects; above 67 s all time-outs have passed.
fn bounds() -> impl Iterator<Item = Duration> {
    (4..=26).map(|octave| Duration::from_micros(1 << octave))
}

/// So much text there is of a pool, names of both kinds included: one allocation instead of a dozen.
const BYTES: usize = 16 * 1024;

/// Writes families of samples, one after another.
pub(super) struct Writer<'a> {
    text: String,
    /// With their names, as they stand in quotes.
    pools: Vec<(String, &'a PoolStatus)>,
    /// With their texts.
    bounds: Vec<(Duration, String)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(pools: &'a [PoolStatus]) -> Self {
        Self {
            text: String::with_capacity(pools.len() * BYTES),
            pools: pools.iter().map(|status| (escaped(&status.health.pool), status)).collect(),
            bounds: bounds().map(|bound| (bound, bound.as_secs_f64().to_string())).collect(),
        }
    }

    /// Writes families whose samples have the name of their pool in this label.
    pub(super) fn families(&mut self, pool: &'static str, families: &[Family]) {
        // A family without samples is no fault, and no use.
        if !self.pools.is_empty() {
            families.iter().for_each(|family| self.family(pool, family));
        }
    }

    fn family(&mut self, label: &str, family: &Family) {
        let Self { text, pools, bounds } = self;
        let Family { name, help, samples } = family;
        line(text, format_args!("# HELP {name} {help}"));
        line(text, format_args!("# TYPE {name} {}", samples.kind()));
        for (pool, status) in pools {
            match samples {
                Samples::Gauge(read) | Samples::Counter(read) => {
                    line(text, format_args!("{name}{{{label}=\"{pool}\"}} {}", read(status)));
                }
                Samples::GaugeBy(by, read) | Samples::CounterBy(by, read) => {
                    for (of, count) in read(status) {
                        line(text, format_args!("{name}{{{label}=\"{pool}\",{by}=\"{of}\"}} {count}"));
                    }
                }
                Samples::Histogram(read) => {
                    let times = read(status);
                    for (le, below) in buckets(times, bounds) {
                        line(text, format_args!("{name}_bucket{{{label}=\"{pool}\",le=\"{le}\"}} {below}"));
                    }
                    line(text, format_args!("{name}_sum{{{label}=\"{pool}\"}} {}", Value::Seconds(times.sum())));
                    line(text, format_args!("{name}_count{{{label}=\"{pool}\"}} {}", times.count()));
                }
                Samples::Summary(read) => {
                    let (count, sum) = read(status);
                    line(text, format_args!("{name}_sum{{{label}=\"{pool}\"}} {}", Value::Seconds(sum)));
                    line(text, format_args!("{name}_count{{{label}=\"{pool}\"}} {count}"));
                }
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes all that is written to it");
    text.push('\n');
}

/// For each bound how many were below it, and in the end how many there are.
fn buckets<'a>(times: &Distribution, bounds: &'a [(Duration, String)]) -> impl Iterator<Item = (&'a str, u64)> {
    let mut own = times.cumulative().peekable();
    let mut below = 0;
    let of_bounds: Vec<_> = bounds
        .iter()
        .map(|(bound, le)| {
            while let Some((_, more)) = own.next_if(|(end, _)| end <= bound) {
                below = more;
            }
            (le.as_str(), below)
        })
        .collect();
    of_bounds.into_iter().chain([("+Inf", times.count())])
}

/// A label's value as it stands between quotes. The format has escapes for three characters and takes all others as they are.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str(r"\\"),
            '"' => escaped.push_str(r#"\""#),
            '\n' => escaped.push_str(r"\n"),
            _ => escaped.push(c),
        }
    }
    escaped
}
