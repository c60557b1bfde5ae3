//! Loads: when callers come, and for how long each holds its connection.

use super::WARM_UP;

pub type Nanos = u64;
pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MILLISECOND;

/// Checkouts of a real program: `benches/src/bin/record_load.rs`.
const RECORDED: &str = include_str!("../data/checkouts.csv");
/// It is played so many times, one after the other.
const REPEATED: u64 = 10;

/// Callers with their moments of arrival, in order, and how long they hold a connection.
pub struct Load {
    pub name: &'static str,
    pub about: &'static str,
    pub length: Nanos,
    pub arrivals: Vec<(Nanos, Nanos)>,
    /// From when to when nothing comes back, if the server hangs.
    pub outage: Option<(Nanos, Nanos)>,
}

/// How long connections are held, in seconds.
#[derive(Clone, Copy, Debug)]
pub enum Hold {
    Always(f64),
    Exponential(f64),
    /// With a heavy tail: by the mean, and the deviation of the logarithm. With 1.0 one in a hundred takes 6 times the mean,
    /// with 1.5 one in a hundred 11 times.
    Lognormal(f64, f64),
}

/// Most loads: 40 ms, and now and then a quarter of a second.
pub const USUAL: Hold = Hold::Lognormal(0.04, 1.0);

/// All loads that the rule is held against.
pub fn all() -> Vec<Load> {
    vec![steady(), step(), wave(), bursts(), outage(), peaks(), recorded()]
}

/// 20 connections' worth, with a heavy tail.
pub fn steady() -> Load {
    let load = Load::new("steady", "500 callers per second", 1200);
    load.with_callers(11, 500.0, USUAL, |_| 500.0)
}

pub fn step() -> Load {
    let load = Load::new("step", "50 callers per second, ten times as many for 5 minutes, and 50 again", 1200);
    load.with_callers(1, 500.0, USUAL, |second| if (420.0..720.0).contains(&second) { 500.0 } else { 50.0 })
}

pub fn wave() -> Load {
    let load = Load::new("wave", "20 to 500 callers per second and back, in 10 minutes", 2_580);
    load.with_callers(2, 500.0, USUAL, |second| 260.0 - 240.0 * (second * std::f64::consts::TAU / 600.0).cos())
}

pub fn bursts() -> Load {
    let load = Load::new("bursts", "50 callers per second, and 40 at once every 5 to 15 seconds", 1980);
    load.with_callers(3, 50.0, USUAL, |_| 50.0).with_bursts(4, 10.0, 40, USUAL)
}

pub fn outage() -> Load {
    let load = Load::new("outage", "150 callers per second, and a server that hangs for 20 s; nobody gives up", 3_780);
    let mut load = load.with_callers(8, 150.0, USUAL, |_| 150.0);
    load.outage = Some((420 * SECOND, 440 * SECOND));
    load
}

pub fn peaks() -> Load {
    let load = Load::new("rare peaks", "20 callers per second, and 60 at once every 75 to 225 seconds", 1980);
    load.with_callers(5, 20.0, USUAL, |_| 20.0).with_bursts(6, 150.0, 60, USUAL)
}

/// The same callers per second all the time, for a quarter of an hour after the warm-up.
pub fn constant(seed: u64, per_second: f64, hold: Hold) -> Load {
    Load::new("constant", "", 1_080).with_callers(seed, per_second, hold, |_| per_second)
}

/// What a real program did, again and again.
pub fn recorded() -> Load {
    let number = |field: &str| field.parse::<u64>().expect("the file holds numbers") * 1_000;
    let rows: Vec<_> = RECORDED.lines().skip(1).filter_map(|row| row.split_once(',')).collect();
    let once: Vec<_> = rows.into_iter().map(|(at, held)| (number(at), number(held))).collect();
    let length = once.last().map_or(0, |(at, _)| at.next_multiple_of(60 * SECOND));
    let mut load = Load::new("recorded", "a service over SQLite: a quiet time, more and more clients, a rush", 0);
    load.length = REPEATED * length;
    load.arrivals =
        (0..REPEATED).flat_map(|turn| once.iter().map(move |(at, held)| (at + turn * length, *held))).collect();
    load
}

impl Load {
    fn new(name: &'static str, about: &'static str, seconds: u64) -> Self {
        Self { name, about, length: seconds * SECOND, arrivals: Vec::new(), outage: None }
    }

    /// Callers that come independently of each other, so many per second at a time, and never more than `most`.
    fn with_callers(mut self, seed: u64, most: f64, hold: Hold, per_second: impl Fn(f64) -> f64) -> Self {
        let mut dice = Dice(seed);
        let mut second = dice.exponential() / most;
        while nanos(second) < self.length {
            if dice.part() * most < per_second(second) {
                self.arrivals.push((nanos(second), nanos(hold.draw(&mut dice))));
            }
            second += dice.exponential() / most;
        }
        self
    }

    /// And so many within 20 ms, each time after half to one and a half of `every` seconds.
    fn with_bursts(mut self, seed: u64, every: f64, callers: u32, hold: Hold) -> Self {
        let mut dice = Dice(seed);
        let mut second = every;
        while nanos(second) < self.length {
            for _ in 0..callers {
                self.arrivals.push((nanos(second + 0.02 * dice.part()), nanos(hold.draw(&mut dice))));
            }
            second += every * (0.5 + dice.part());
        }
        self.arrivals.sort_unstable();
        self
    }

    /// When what begins now comes back.
    pub fn end_of(&self, now: Nanos, held: Nanos) -> Nanos {
        let end = now + held;
        match self.outage {
            Some((from, to)) if now < to && end > from => end + (to - from.max(now)),
            _ => end,
        }
    }

    /// Callers per second in each stretch of so many seconds.
    pub fn rates(&self, seconds: u64) -> Vec<f64> {
        let mut counts = vec![0.0; self.length.div_ceil(seconds * SECOND) as usize];
        for (at, _) in &self.arrivals {
            if let Some(count) = counts.get_mut((at / (seconds * SECOND)) as usize) {
                *count += 1.0 / seconds as f64;
            }
        }
        debug_assert!(self.length > WARM_UP);
        counts
    }
}

fn nanos(seconds: f64) -> Nanos {
    (seconds * SECOND as f64) as Nanos
}

impl Hold {
    fn draw(self, dice: &mut Dice) -> f64 {
        match self {
            Self::Always(mean) => mean,
            Self::Exponential(mean) => mean * dice.exponential(),
            Self::Lognormal(mean, deviation) => mean * (deviation * dice.normal() - deviation * deviation / 2.0).exp(),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    /// 0 to 1, and never 1.
    fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.part()).ln()
    }

    fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.part()).cos()
    }
}
