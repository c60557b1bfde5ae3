//! A pool in a simulation: callers come, wait in turn, hold a connection and go, in simulated time. The same rule decides
//! on its size as in a real pool, or another one, or none.

#![allow(dead_code, unreachable_pub, reason = "each user needs its own part")]

pub mod load;

use load::Load;
use millpond::adaptive::{Adaptive, Decision, Observation, Rule};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

pub type Nanos = u64;
pub const SECOND: Nanos = 1_000_000_000;

/// How long it takes to open a connection: PostgreSQL with TLS in the same building.
const CONNECT: Nanos = 20_000_000;
/// As the pool has it by default.
const CONNECTING: u32 = 4;

/// Who decides on the size.
pub enum Sizer {
    Fixed(u32),
    Rule(Box<Rule>),
    /// Grows by a fifth when the p99 wait of a second exceeds 100 ms, shrinks by a fifth when more than 80 % are idle.
    Fifth,
}

pub struct Limits {
    pub settings: Adaptive,
    pub floor: u32,
    pub ceiling: u32,
    pub target: Duration,
    pub samples: u32,
}

pub struct Outcome {
    pub p99: f64,
    pub worst: f64,
    pub late: f64,
    pub mean: f64,
    pub open: f64,
    pub decisions: usize,
    pub turns: usize,
    pub sizes: Vec<(f64, u32)>,
    pub steps: Vec<(f64, u32, u32)>,
}

struct Waiter { since: Nanos, hold: Nanos, full: bool }

struct Sim<'a> {
    load: &'a Load,
    now: Nanos,
    ends: BinaryHeap<Reverse<(Nanos, u64, bool)>>,
    seq: u64,
    max: u32,
    in_use: u32,
    idle: u32,
    connecting: u32,
    queue: VecDeque<Waiter>,
    waits: Vec<Nanos>,
    checkouts: u64,
    late: u64,
    target: Nanos,
    recent: Vec<Nanos>,
}

impl Sim<'_> {
    fn push(&mut self, at: Nanos, connect: bool) {
        self.seq += 1;
        self.ends.push(Reverse((at, self.seq, connect)));
    }
    fn lend(&mut self, since: Nanos, hold: Nanos, full: bool) {
        self.in_use += 1;
        self.checkouts += 1;
        let wait = self.now - since;
        self.waits.push(wait);
        self.recent.push(wait);
        self.late += u64::from(full && wait > self.target);
        let end = self.load.ends(self.now, hold);
        self.push(end, false);
    }
    fn open_more(&mut self) {
        while self.connecting < CONNECTING
            && (self.connecting as usize) < self.queue.len()
            && self.in_use + self.idle + self.connecting < self.max
        {
            self.connecting += 1;
            self.push(self.now + CONNECT, true);
        }
    }
    fn arrive(&mut self, hold: Nanos) {
        if self.idle > 0 && self.queue.is_empty() {
            self.idle -= 1;
            let now = self.now;
            self.lend(now, hold, false);
        } else {
            self.queue.push_back(Waiter { since: self.now, hold, full: false });
            self.open_more();
            let full = self.in_use + self.idle + self.connecting >= self.max && self.queue.len() as u32 > self.connecting;
            if let Some(w) = self.queue.back_mut() { w.full = full; }
        }
    }
    fn free(&mut self) {
        if self.in_use + self.idle + self.connecting + 1 > self.max {
            // too many: closed
        } else if let Some(w) = self.queue.pop_front() {
            self.lend(w.since, w.hold, w.full);
        } else {
            self.idle += 1;
        }
    }
    fn resize(&mut self, to: u32) {
        self.max = to;
        while self.idle > 0 && self.in_use + self.idle + self.connecting > to { self.idle -= 1; }
        self.open_more();
    }
}

pub fn run(load: &Load, mut sizer: Sizer, limits: &Limits, first: u32) -> Outcome {
    let every = match &sizer { Sizer::Fixed(_) => SECOND, _ => limits.settings_every() };
    let first = match sizer { Sizer::Fixed(n) => n, _ => first };
    let mut sim = Sim { load, now: 0, ends: BinaryHeap::new(), seq: 0, max: first, in_use: 0, idle: 0, connecting: 0, queue: VecDeque::new(), waits: Vec::new(), checkouts: 0, late: 0, target: limits.target.as_nanos() as u64, recent: Vec::new() };
    let mut arrivals = load.arrivals.iter().copied().peekable();
    let step = every / u64::from(limits.samples);
    let (mut tick, mut sampled, mut samples) = (step, 0u64, 0u32);
    let (mut area, mut open_area) = (0.0, 0.0);
    let (mut last_checkouts, mut last_late) = (0, 0);
    let mut steps = Vec::new();
    let mut sizes = vec![(0.0, first)];
    let end = load.length;
    let mut last = 0;
    loop {
        let next_arrival = arrivals.peek().map_or(u64::MAX, |a| a.0);
        let next_end = sim.ends.peek().map_or(u64::MAX, |e| e.0.0);
        let next = next_arrival.min(next_end).min(tick);
        if next >= end { break; }
        area += (next - last) as f64 * f64::from(sim.max);
        open_area += (next - last) as f64 * f64::from(sim.in_use + sim.idle + sim.connecting);
        last = next;
        sim.now = next;
        if next == next_end {
            let Reverse((_, _, connect)) = sim.ends.pop().expect("peeked");
            if connect { sim.connecting -= 1; } else { sim.in_use -= 1; }
            sim.free();
            sim.open_more();
        } else if next == next_arrival {
            let (_, hold) = arrivals.next().expect("peeked");
            sim.arrive(hold);
        } else {
            tick += step;
            sampled += u64::from(sim.in_use);
            samples += 1;
            if samples < limits.samples { continue; }
            let mean = sampled as f64 / f64::from(samples);
            (sampled, samples) = (0, 0);
            let size = sim.max;
            let to = match &mut sizer {
                Sizer::Fixed(_) => size,
                Sizer::Fifth => {
                    let fifth = (size / 5).max(1);
                    let waits = &mut sim.recent;
                    let p99 = quantile(waits, 0.99);
                    if p99 > 100_000_000 { (size + fifth).min(limits.ceiling) }
                    else if f64::from(sim.in_use) < 0.2 * f64::from(size) { (size - fifth).max(limits.floor) }
                    else { size }
                }
                Sizer::Rule(rule) => {
                    let mut seen = Observation::default();
                    seen.interval = Duration::from_nanos(every);
                    seen.max_size = size;
                    seen.in_use = sim.in_use;
                    seen.waiting = sim.queue.iter().filter(|w| w.full).count() as u32;
                    seen.longest_wait = Duration::from_nanos(sim.queue.front().map_or(0, |w| sim.now - w.since));
                    seen.checkouts = sim.checkouts - last_checkouts;
                    seen.late = sim.late - last_late;
                    let d = rule.observe(&seen);
                    if std::env::var("TRACE").is_ok() { println!("{:.0} size {size} in {} {:?} -> {d:?}", next as f64 / 1e9, sim.in_use, rule.grounds()); }
                    match d {
                        Decision::Hold(_) => size,
                        Decision::Grow { to, .. } | Decision::Shrink { to, .. } => to,
                        _ => size,
                    }
                }
            };
            sim.recent.clear();
            (last_checkouts, last_late) = (sim.checkouts, sim.late);
            if to != size {
                steps.push((next as f64 / 1e9, size, to));
                sim.resize(to);
                sizes.push((next as f64 / 1e9, to));
            }
        }
    }
    for w in &sim.queue { sim.waits.push(end - w.since); }
    let turns = steps.windows(2).filter(|p| (p[0].2 > p[0].1) != (p[1].2 > p[1].1)).count();
    let late = sim.waits.iter().filter(|w| **w > sim.target).count() as f64 / sim.waits.len().max(1) as f64;
    let worst = sim.waits.iter().copied().max().unwrap_or(0) as f64 / 1e9;
    Outcome { p99: quantile(&mut sim.waits, 0.99) as f64 / 1e9, worst, late, mean: area / end as f64, open: open_area / end as f64, decisions: steps.len(), turns, sizes, steps }
}

impl Limits { fn settings_every(&self) -> Nanos { 1_000_000_000 } }

fn quantile(v: &mut [Nanos], q: f64) -> Nanos {
    if v.is_empty() { return 0; }
    let k = ((v.len() as f64 * q).ceil() as usize).clamp(1, v.len()) - 1;
    *v.select_nth_unstable(k).1
}

/// The smallest fixed size with that p99.
pub fn best_fixed(load: &Load, limits: &Limits, p99: f64) -> (u32, Outcome) {
    let (mut lo, mut hi) = (0, limits.ceiling * 2);
    let mut best = run(load, Sizer::Fixed(hi), limits, hi);
    while hi - lo > 1 {
        let mid = (lo + hi) / 2;
        let o = run(load, Sizer::Fixed(mid), limits, mid);
        if o.p99 <= p99 { hi = mid; best = o; } else { lo = mid; }
    }
    (hi, best)
}
