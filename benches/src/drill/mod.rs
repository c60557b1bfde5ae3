//! The outage drill: real servers, real faults, millpond and r2d2 side by side, each with its default settings.

pub mod board;
mod chart;
pub mod child;
mod closing;
mod cut;
mod deadlines;
mod descriptors;
mod leaks;
mod outage;
pub(crate) mod pair;
pub mod process;
mod servers;
mod suspended;
mod threads;
mod wall_clock;

use std::fmt;
use std::time::Duration;

use crate::table::{number, time};
use pair::{KINDS, Kind};
use servers::{MariaDb, Postgres, Redis};

/// One line of the scoreboard.
#[derive(Clone, Debug)]
pub struct Row {
    pub fault: String,
    pub figure: String,
    pub reach: String,
    pub millpond: String,
    pub r2d2: String,
    /// Whether the figure was reached, where only the scene can tell.
    met: Option<bool>,
}

impl Row {
    fn new(fault: &str, figure: &str, reach: &str, [millpond, r2d2]: [String; 2]) -> Self {
        let owned = str::to_owned;
        Self { fault: owned(fault), figure: owned(figure), reach: owned(reach), millpond, r2d2, met: None }
    }

    fn judged(self, met: bool) -> Self {
        Self { met: Some(met), ..self }
    }

    /// What the scene says; else, where what is to be reached is said in so many words, whether it stands there.
    fn verdict(&self) -> Option<bool> {
        let words = ["clean", "yes", "0", "0, 0", "0 ns", "8"];
        self.met.or_else(|| words.contains(&&*self.reach).then_some(self.millpond.starts_with(&self.reach)))
    }
}

/// A duration in the unit that suits it.
pub fn span(duration: Duration) -> String {
    time(duration.as_nanos() as f64)
}

/// One fault, with both pools.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub name: &'static str,
    pub about: &'static str,
    /// Runs only when asked for, by `--long` or by its name.
    pub long: bool,
    /// Is told whether it may take long.
    pub run: fn(long: bool) -> Score,
}

const fn scene(name: &'static str, about: &'static str, run: fn(bool) -> Score) -> Scene {
    Scene { name, about, long: false, run }
}

const fn long(name: &'static str, about: &'static str, run: fn(bool) -> Score) -> Scene {
    Scene { long: true, ..scene(name, about, run) }
}

pub const SCENES: &[Scene] = &[
    scene("killed", "redis-server killed for 2 s", |long| outage::short::<Redis>(if long { 5 } else { 3 })),
    scene("killed-postgres", "postgres killed for 2 s", |long| outage::short::<Postgres>(if long { 3 } else { 1 })),
    scene("killed-mariadb", "mariadbd killed for 2 s", |long| outage::short::<MariaDb>(if long { 3 } else { 1 })),
    scene("refused", "redis-server refuses for 10 s", |_| outage::refused()),
    long("killed-20", "redis-server killed for 20 s", |_| outage::long(20)),
    long("killed-33", "redis-server killed for 33 s", |_| outage::long(33)),
    scene("connect-hangs", "a port where connecting hangs", |_| deadlines::connect_hangs()),
    scene("check-hangs", "redis-server suspended", deadlines::check_hangs),
    scene("check-slow", "checks that take 500 ms", |_| deadlines::check_slow()),
    scene("cut", "50 idle connections, CLIENT KILL", |_| cut::by_server::<Redis>("CLIENT KILL")),
    scene("cut-postgres", "50 idle connections, pg_terminate_backend", |_| {
        cut::by_server::<Postgres>("pg_terminate_backend")
    }),
    scene("cut-mariadb", "50 idle connections, KILL", |_| cut::by_server::<MariaDb>("KILL")),
    scene("cut-reset", "50 idle connections, RST on their way", |_| cut::on_the_way()),
    scene("leaks", "what a session leaves to the next borrower", |_| leaks::rows().into()),
    scene("closing", "a pool is closed or dropped in full use", |long| closing::rows(long).into()),
    scene("descriptors", "no more descriptors", |_| descriptors::rows().into()),
    scene("threads", "no more threads", |_| threads::rows().into()),
    scene("wall-clock", "the wall clock jumps", |_| wall_clock::rows().into()),
    scene("suspended", "the process is suspended", |long| suspended::rows(long).into()),
];

/// What came of a scene.
#[derive(Clone, Debug, Default)]
pub struct Score {
    fault: String,
    /// Whether millpond reached the figure, where there is one to reach.
    rows: Vec<(Row, Option<bool>)>,
    /// Of the scene that is drawn.
    chart: Option<String>,
}

impl Score {
    fn of(fault: impl Into<String>) -> Self {
        Self { fault: fault.into(), ..Self::default() }
    }

    /// The harness has told why on its way.
    fn skipped(mut self, program: &str) -> Self {
        self.push(&format!("skipped: no {program}"), String::new(), ["–", "–"].map(str::to_owned), None);
        self
    }

    /// A figure that nothing was promised of.
    fn tell(&mut self, figure: &str, values: [Amount; 2]) {
        self.push(figure, String::new(), values.map(|value| value.to_string()), None);
    }

    /// A figure with the most that millpond may have.
    fn at_most(&mut self, figure: &str, most: Amount, values: [Amount; 2]) {
        let met = values[0] <= most;
        self.push(figure, most.bound(), values.map(|value| value.to_string()), Some(met));
    }

    fn push(&mut self, figure: &str, reach: String, [millpond, r2d2]: [String; 2], met: Option<bool>) {
        self.rows.push((Row::new(&self.fault, figure, &reach, [millpond, r2d2]), met));
    }
}

impl From<Vec<Row>> for Score {
    fn from(rows: Vec<Row>) -> Self {
        let judged = |row: Row| {
            let met = row.verdict();
            (row, met)
        };
        Self { rows: rows.into_iter().map(judged).collect(), ..Self::default() }
    }
}

/// A measured value that knows its unit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Amount {
    /// The greatest duration stands for what was not seen before the scene ended.
    Time(Duration),
    Number(f64),
}

impl Amount {
    fn nanos(nanos: u64) -> Self {
        Self::Time(Duration::from_nanos(nanos))
    }

    fn millis(millis: u64) -> Self {
        Self::Time(Duration::from_millis(millis))
    }

    fn count(count: u64) -> Self {
        Self::Number(count as f64)
    }

    /// As the most that something may be: a round number, without the digits of a measured one.
    fn bound(self) -> String {
        match self {
            Self::Time(most) if most < Duration::from_secs(1) => format!("≤ {} ms", most.as_millis()),
            Self::Time(most) => format!("≤ {} s", most.as_secs_f64()),
            Self::Number(0.0) => "0".to_owned(),
            Self::Number(most) => format!("≤ {most}"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(Duration::MAX) => f.write_str("later"),
            Self::Time(duration) => f.write_str(&time(duration.as_nanos() as f64)),
            Self::Number(value) if value.fract() == 0.0 && *value < 1e3 => write!(f, "{value:.0}"),
            Self::Number(value) => f.write_str(&number(*value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_what_millpond_reached() {
        let mut score = Score::of("a fault");
        score.at_most("on its bound", Amount::millis(100), [Amount::millis(100), Amount::millis(900)]);
        score.at_most("beyond", Amount::count(2), [Amount::count(3), Amount::count(1)]);
        score.at_most("never", Amount::millis(100), [Amount::Time(Duration::MAX), Amount::millis(1)]);
        score.tell("of no promise", [Amount::count(64), Amount::Number(7.66)]);
        let verdicts: Vec<_> = score.rows.iter().map(|(_, met)| *met).collect();
        assert_eq!(verdicts, [Some(true), Some(false), Some(false), None]);
        let cells: Vec<_> = score.rows.iter().map(|(row, _)| row.millpond.as_str()).collect();
        assert_eq!(cells, ["100 ms", "3", "later", "64"]);
        let bounds = [Amount::millis(1100), Amount::millis(1), Amount::count(0), Amount::count(2)].map(Amount::bound);
        assert_eq!(bounds, ["≤ 1.1 s", "≤ 1 ms", "0", "≤ 2"]);
    }

    #[test]
    fn scenes_can_be_told_apart() {
        let mut names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENES.len());
    }
}
