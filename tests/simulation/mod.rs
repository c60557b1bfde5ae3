//! A pool in a simulation: callers come, wait in turn, hold a connection and go, in time that passes by itself. The rule that
//! decides on its size is the one of real pools, or another one, or none. The same seed gives the same run on every machine.
//!
//! For the tests of the rule, and for its charts.

#![allow(dead_code, unreachable_pub, reason = "each user needs its own part")]

pub mod load;

use load::{Load, MILLISECOND, Nanos, SECOND};
use millpond::adaptive::{Adaptive, Decision, Observation, Rule};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// How long opening a connection takes: PostgreSQL with TLS in the same building.
const CONNECT: Nanos = 20 * MILLISECOND;
/// How many are opened at once, as pools have it by default.
const CONNECTING: u32 = 4;
/// How often the rules decide, as pools have it by default.
const EVERY: Nanos = SECOND;
/// What comes before is not counted: the pools have just been built.
pub const WARM_UP: Nanos = 180 * SECOND;

pub const FLOOR: u32 = 2;
pub const CEILING: u32 = 100;
/// The size at the start.
const FIRST: u32 = 10;
pub const TARGET: Duration = Duration::from_millis(10);

/// Who decides on the size.
pub enum Sizer {
    Fixed(u32),
    Rule(Box<Rule>),
    /// The simple rule: grows by a fifth when waits (their p99 in the last second) exceed 100 ms, and shrinks by a fifth when
    /// more than 80 % are idle.
    Fifth,
}

impl Sizer {
    pub fn rule() -> Self {
        Self::Rule(Box::new(Rule::new(&Adaptive::between(FLOOR, CEILING).target_wait(TARGET))))
    }
}

/// What became of a load. All but `sizes` is counted after the warm-up.
pub struct Outcome {
    /// Seconds of waiting.
    pub p99: f64,
    pub worst: f64,
    /// Means over time: of the maximum, and of the connections that were open.
    pub size: f64,
    pub open: f64,
    pub decisions: usize,
    /// How often growing followed on shrinking, or shrinking on growing.
    pub turns: usize,
    /// The maximum and when it was changed to that, in seconds from the start.
    pub sizes: Vec<(f64, u32)>,
}

/// Runs a pool under a load to its end.
pub fn run(load: &Load, sizer: Sizer) -> Outcome {
    let first = if let Sizer::Fixed(size) = sizer { size } else { FIRST };
    let mut tally = Tally { sizes: vec![(0.0, first)], ..Tally::default() };
    let mut pool = Simulated { load, max_size: first, ..Simulated::new(load) };
    let mut decider = Decider { sizer, checkouts: 0, late: 0 };
    let mut arrivals = load.arrivals.iter().copied().peekable();
    let mut tick = EVERY;
    loop {
        let arrival = arrivals.peek().map_or(Nanos::MAX, |(at, _)| *at);
        let end = pool.ends.peek().map_or(Nanos::MAX, |Reverse(end)| end.at);
        let next = arrival.min(end).min(tick);
        if next >= load.length {
            break;
        }
        tally.pass(pool.now, next, &pool);
        pool.now = next;
        if next == end {
            pool.end_one();
        } else if next == arrival {
            arrivals.next();
            pool.arrive();
        } else {
            tick += EVERY;
            let to = decider.decide(&mut pool);
            if to != pool.max_size {
                tally.sizes.push((next as f64 / SECOND as f64, to));
                pool.resize(to);
            }
        }
    }
    tally.close(pool)
}

/// The least fixed size whose p99 is no longer.
pub fn best_fixed(load: &Load, p99: f64) -> (u32, Outcome) {
    let (mut too_small, mut enough) = (0, 2 * CEILING);
    let mut best = run(load, Sizer::Fixed(enough));
    while enough - too_small > 1 {
        let middle = (too_small + enough) / 2;
        let outcome = run(load, Sizer::Fixed(middle));
        if outcome.p99 <= p99 {
            (enough, best) = (middle, outcome);
        } else {
            too_small = middle;
        }
    }
    (enough, best)
}

/// A use that ends, or a connection that has been opened.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct End {
    at: Nanos,
    /// What was begun first ends first.
    number: u64,
    opened: bool,
}

struct Caller {
    since: Nanos,
    met_full: bool,
}

struct Simulated<'a> {
    load: &'a Load,
    now: Nanos,
    max_size: u32,
    in_use: u32,
    idle: u32,
    connecting: u32,
    ends: BinaryHeap<Reverse<End>>,
    begun: u64,
    queue: VecDeque<Caller>,
    /// Callers that have got a connection, in the order in which they came, and how long each waited since it was last asked.
    checkouts: u64,
    late: u64,
    waits: Vec<Nanos>,
    waits_before: usize,
    warm: Option<usize>,
}

impl<'a> Simulated<'a> {
    fn new(load: &'a Load) -> Self {
        Self {
            load,
            now: 0,
            max_size: 0,
            in_use: 0,
            idle: 0,
            connecting: 0,
            ends: BinaryHeap::new(),
            begun: 0,
            queue: VecDeque::new(),
            checkouts: 0,
            late: 0,
            waits: Vec::new(),
            waits_before: 0,
            warm: None,
        }
    }

    fn arrive(&mut self) {
        if self.idle > 0 && self.queue.is_empty() {
            self.idle -= 1;
            self.lend(Caller { since: self.now, met_full: false });
            return;
        }
        self.queue.push_back(Caller { since: self.now, met_full: false });
        self.open();
        let met_full = self.taken() >= self.max_size && self.queue.len() as u32 > self.connecting;
        self.queue.back_mut().expect("pushed above").met_full = met_full;
    }

    fn lend(&mut self, caller: Caller) {
        let waited = self.now - caller.since;
        self.waits.push(waited);
        if self.warm.is_none() && caller.since >= WARM_UP {
            self.warm = Some(self.waits.len() - 1);
        }
        // First come, first served: so this is the caller with this number.
        let (_, held) = *self.load.arrivals.get(self.checkouts as usize).expect("it has arrived");
        self.checkouts += 1;
        self.late += u64::from(caller.met_full && u128::from(waited) > TARGET.as_nanos());
        self.in_use += 1;
        self.begin(self.load.end_of(self.now, held), false);
    }

    fn begin(&mut self, at: Nanos, opened: bool) {
        self.begun += 1;
        self.ends.push(Reverse(End { at, number: self.begun, opened }));
    }

    fn end_one(&mut self) {
        let Some(Reverse(End { opened, .. })) = self.ends.pop() else { return };
        *(if opened { &mut self.connecting } else { &mut self.in_use }) -= 1;
        // Else it is one too many, and closed.
        if self.taken() < self.max_size {
            match self.queue.pop_front() {
                Some(caller) => self.lend(caller),
                None => self.idle += 1,
            }
        }
        self.open();
    }

    /// Opens what is wanted, as far as there is room.
    fn open(&mut self) {
        while self.connecting < CONNECTING.min(self.queue.len() as u32) && self.taken() < self.max_size {
            self.connecting += 1;
            self.begin(self.now + CONNECT, true);
        }
    }

    fn resize(&mut self, to: u32) {
        self.max_size = to;
        self.idle -= self.idle.min(self.taken().saturating_sub(to));
        self.open();
    }

    /// As a pool says of itself.
    fn waiting_for_room(&self) -> u32 {
        let coming = self.taken().saturating_sub(self.in_use);
        let full = self.taken() >= self.max_size && coming <= self.in_use;
        if full { (self.queue.len() as u32).saturating_sub(coming) } else { 0 }
    }

    fn taken(&self) -> u32 {
        self.in_use + self.idle + self.connecting
    }
}

struct Decider {
    sizer: Sizer,
    /// As they were at the last decision.
    checkouts: u64,
    late: u64,
}

impl Decider {
    fn decide(&mut self, pool: &mut Simulated<'_>) -> u32 {
        let size = pool.max_size;
        let recent = pool.waits_before;
        pool.waits_before = pool.waits.len();
        match &mut self.sizer {
            Sizer::Fixed(_) => size,
            Sizer::Fifth => {
                let fifth = (size / 5).max(1);
                if quantile(&mut pool.waits.iter().skip(recent).copied().collect::<Vec<_>>(), 0.99) > 100 * MILLISECOND
                {
                    (size + fifth).min(CEILING)
                } else if pool.in_use * 5 < size {
                    (size - fifth).max(FLOOR)
                } else {
                    size
                }
            }
            Sizer::Rule(rule) => {
                let mut seen = Observation::default();
                seen.interval = Duration::from_nanos(EVERY);
                (seen.max_size, seen.in_use, seen.waiting) = (size, pool.in_use, pool.queue.len() as u32);
                seen.waiting_for_room = pool.waiting_for_room();
                let longest = pool.queue.front().map_or(0, |caller| pool.now - caller.since);
                seen.longest_wait = Duration::from_nanos(longest);
                seen.checkouts = pool.checkouts - self.checkouts;
                seen.late = pool.late - self.late;
                (self.checkouts, self.late) = (pool.checkouts, pool.late);
                match rule.observe(&seen) {
                    Decision::Grow { to, .. } | Decision::Shrink { to, .. } => to,
                    _ => size,
                }
            }
        }
    }
}

#[derive(Default)]
struct Tally {
    /// Connections times nanoseconds.
    allowed: u128,
    open: u128,
    sizes: Vec<(f64, u32)>,
}

impl Tally {
    fn pass(&mut self, from: Nanos, to: Nanos, pool: &Simulated<'_>) {
        let passed = u128::from(to.saturating_sub(from.max(WARM_UP)));
        self.allowed += passed * u128::from(pool.max_size);
        self.open += passed * u128::from(pool.taken());
    }

    fn close(mut self, pool: Simulated<'_>) -> Outcome {
        let end = pool.load.length;
        self.pass(pool.now, end, &pool);
        let span = (end - WARM_UP) as f64;
        let mut waits = pool.waits;
        let mut waits = waits.split_off(pool.warm.unwrap_or(waits.len()));
        // Who waits at the end has waited, too.
        waits.extend(pool.queue.iter().map(|caller| end - caller.since));
        let seconds = |nanos: Nanos| nanos as f64 / SECOND as f64;
        let changes = self.sizes.array_windows().filter(|[_, (at, _)]| *at >= seconds(WARM_UP));
        let grows: Vec<bool> = changes.map(|[(_, from), (_, to)]| to > from).collect();
        Outcome {
            p99: seconds(quantile(&mut waits, 0.99)),
            worst: seconds(waits.iter().copied().max().unwrap_or(0)),
            size: self.allowed as f64 / span,
            open: self.open as f64 / span,
            decisions: grows.len(),
            turns: grows.array_windows().filter(|[before, after]| before != after).count(),
            sizes: self.sizes,
        }
    }
}

fn quantile(values: &mut [Nanos], q: f64) -> Nanos {
    if values.is_empty() {
        return 0;
    }
    let rank = (values.len() as f64 * q).ceil() as usize;
    *values.select_nth_unstable(rank.clamp(1, values.len()) - 1).1
}
