//! Loads.

use super::{Nanos, SECOND};

pub struct Dice(pub u64);
impl Dice {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
    pub fn exponential(&mut self) -> f64 { -(1.0 - self.unit()).ln() }
    pub fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[derive(Clone, Copy)]
pub enum Hold { Exp(f64), LogNormal(f64, f64), Fixed(f64) }
impl Hold {
    pub fn draw(self, d: &mut Dice) -> f64 {
        match self {
            Self::Exp(m) => m * d.exponential(),
            Self::Fixed(m) => m,
            Self::LogNormal(m, sigma) => m * (sigma * d.normal() - sigma * sigma / 2.0).exp(),
        }
    }
    pub fn mean(self) -> f64 { match self { Self::Exp(m) | Self::LogNormal(m, _) | Self::Fixed(m) => m } }
}

pub struct Load {
    pub name: String,
    pub length: Nanos,
    pub arrivals: Vec<(Nanos, Nanos)>,
    pub stalls: Vec<(Nanos, Nanos)>,
}

impl Load {
    pub fn poisson(name: &str, seed: u64, seconds: u64, most: f64, hold: Hold, rate: impl Fn(f64) -> f64) -> Self {
        let mut d = Dice(seed);
        let (mut t, mut arrivals) = (0.0, Vec::new());
        loop {
            t += d.exponential() / most;
            if t >= seconds as f64 { break; }
            if d.unit() * most < rate(t) {
                arrivals.push(((t * 1e9) as Nanos, (hold.draw(&mut d) * 1e9) as Nanos));
            }
        }
        Self { name: name.into(), length: seconds * SECOND, arrivals, stalls: Vec::new() }
    }
    pub fn with_bursts(mut self, seed: u64, every: f64, count: usize, hold: Hold) -> Self {
        let mut d = Dice(seed);
        let mut t = every;
        while ((t * 1e9) as Nanos) < self.length {
            for _ in 0..count {
                self.arrivals.push((((t + 0.02 * d.unit()) * 1e9) as Nanos, (hold.draw(&mut d) * 1e9) as Nanos));
            }
            t += every * (0.5 + d.unit());
        }
        self.arrivals.sort();
        self
    }
    pub fn ends(&self, now: Nanos, hold: Nanos) -> Nanos {
        let mut end = now + hold;
        for &(a, b) in &self.stalls {
            if now < b && end > a { end += b - a.max(now); }
        }
        end
    }
}
