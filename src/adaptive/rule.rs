//! The rule itself: what was seen in an interval goes in, a decision comes out. It reads no clock and touches no pool.

use super::staffing::{self, LATE_SHARE};
use super::{Adaptive, Decision, Grounds, Reason};
use std::collections::VecDeque;
use std::time::Duration;

/// Over how many seconds rates are averaged: long enough that thirty samples of a load of 20 are right to 5 %, and short
/// beside the patience.
const AVERAGED: f64 = 30.0;
/// How many checkouts must have come back before their mean use time is believed.
const BELIEVED: f64 = 5.0;
/// How many callers may be late beyond their share before something is done: what one hiccup of the server makes late. And
/// where many come, as many as would use up the share of ten seconds.
const DEBT: f64 = 5.0;
const DEBT_SECONDS: f64 = 10.0;
/// What of all callers may be late before that counts: twice what is aimed for, so that chance alone is no reason.
const ALLOWED: f64 = 2.0 * LATE_SHARE;
/// How many checkouts must be overdue, against half of the usual speed, before the server is taken to hang: by chance that
/// happens to one interval in some hundred.
const MISSED: f64 = 4.0;
/// A rate that is so many standard deviations above the usual is no chance.
const JUMP: f64 = 3.0;
/// In how many seconds a queue is to be worked off.
const CLEARED: f64 = 10.0;
/// How much of the margin is given up at a time, how many checkouts without a late one that takes, and how many times the
/// patience: what was learnt by making callers wait is not to be forgotten over lunch.
const GIVEN_UP: f64 = 0.1;
const CALM_CHECKOUTS: f64 = 1000.0;
const CALM_PATIENCES: f64 = 5.0;
/// The margin is never less than this part of what the formula says. (Where threads are few, nobody else can come.)
const LEAST_MARGIN: f64 = 0.5;

/// An interval that is so many times as long as the one before, and as is set, says nothing: the process stood still.
const TOO_LONG: u32 = 4;

/// What happened in an interval, and how things stand at its end.
///
/// # Examples
///
/// ```
/// use millpond::adaptive::Observation;
/// use std::time::Duration;
///
/// let mut seen = Observation::default();
/// seen.interval = Duration::from_secs(1);
/// (seen.max_size, seen.in_use, seen.checkouts) = (10, 4, 100);
/// assert_eq!(seen.waiting, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// How long the interval was.
    pub interval: Duration,
    /// The maximum of the pool.
    pub max_size: u32,
    /// The minimum of idle connections, below which the size never goes.
    pub min_idle: u32,
    /// Connections that are borrowed now: a sample.
    pub in_use: u32,
    /// Callers that wait now.
    pub waiting: u32,
    /// Those of them that wait because the pool is full. Not those for whom a connection is being opened, checked or closed, or
    /// whom a [`Budget`](crate::Budget) has no place for: a larger pool would not help them.
    pub waiting_for_room: u32,
    /// For how long the first of all that wait has waited.
    pub longest_wait: Duration,
    /// Connections lent in the interval.
    pub checkouts: u64,
    /// Callers that got none in the interval, because the pool was full.
    pub gave_up: u64,
    /// Callers whose wait ended in the interval and was longer than the target, while the pool was full; those that gave up
    /// are among them.
    pub late: u64,
    /// Connecting fails, or nothing may be lent: what is seen says nothing about the size.
    pub outage: bool,
}

/// Decides on the size of a pool, interval by interval; the module's documentation says how.
///
/// # Examples
///
/// ```
/// use millpond::adaptive::{Adaptive, Decision, Observation, Rule};
/// use std::time::Duration;
///
/// let mut rule = Rule::new(&Adaptive::between(2, 40));
/// let mut seen = Observation::default();
/// seen.interval = Duration::from_secs(1);
/// (seen.max_size, seen.in_use, seen.checkouts) = (4, 4, 100);
/// (seen.waiting, seen.waiting_for_room, seen.longest_wait) = (100, 100, Duration::from_millis(500));
///
/// // 200 came in a second, 96 were done, so four connections are half of what is needed; and there is a queue.
/// let Decision::Grow { to, .. } = rule.observe(&seen) else { panic!("callers wait") };
/// assert!((9..=18).contains(&to), "{to}");
/// assert!(rule.grounds().to_string().starts_with("200.0 checkouts per second"));
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    settings: Adaptive,
    /// Seconds that were observed, without those that say nothing about the size.
    now: f64,
    /// How long the interval before was.
    before: Duration,
    flow: Flow,
    /// At the end of the interval before.
    in_use: u32,
    waiting: u32,
    /// Callers that were late beyond their share.
    debt: f64,
    /// Checkouts that should have come back while callers waited, at half of the usual speed, and have not.
    missed: f64,
    /// A queue that was there when the size was changed or the server came back: its waits say nothing about the size.
    clearing: bool,
    /// How many times as much as the formula's is kept above the demand.
    margin: f64,
    /// Checkouts since the last late one, and since when.
    calm: (f64, f64),
    /// What was needed, with the time, as far as nothing larger came later: the first is the most in the patience.
    needed: VecDeque<(f64, u32)>,
    resized: f64,
    grounds: Grounds,
}

/// Sums over the past, in which what is old counts less and less.
#[derive(Clone, Debug, Default)]
struct Flow {
    /// Connections in use, by seconds.
    busy: f64,
    /// Checkouts that came back.
    finished: f64,
    /// Callers that came, and the seconds in which they did.
    offered: f64,
    span: f64,
}

impl Flow {
    fn learn(&mut self, in_use: u32, finished: f64, offered: f64, seconds: f64) {
        let kept = (-seconds / AVERAGED).exp();
        self.busy = self.busy * kept + f64::from(in_use) * seconds;
        self.finished = self.finished * kept + finished;
        self.offered = self.offered * kept + offered;
        self.span = self.span * kept + seconds;
    }

    /// More callers came than usual, and not by chance: the usual is forgotten.
    fn notice_jump(&mut self, offered: f64, seconds: f64) {
        let usual = self.rate() * seconds;
        if self.span > 0.0 && offered > usual + JUMP * usual.max(1.0).sqrt() {
            (self.offered, self.span) = (0.0, 0.0);
            // Of the use time so much is kept as is just believed, so that what comes now soon outweighs it.
            let kept = (BELIEVED / self.finished.max(BELIEVED)).min(1.0);
            (self.busy, self.finished) = (self.busy * kept, self.finished * kept);
        }
    }

    fn rate(&self) -> f64 {
        if self.span > 0.0 { self.offered / self.span } else { 0.0 }
    }

    /// How many seconds a connection is used for, by Little's law: the mean number in use over the rate.
    fn use_time(&self) -> Option<f64> {
        (self.finished >= BELIEVED).then(|| self.busy / self.finished)
    }
}

impl Rule {
    /// A rule that has seen nothing yet.
    #[must_use]
    pub fn new(settings: &Adaptive) -> Self {
        Self {
            settings: settings.clone(),
            now: 0.0,
            before: settings.every,
            flow: Flow::default(),
            in_use: 0,
            waiting: 0,
            debt: 0.0,
            missed: 0.0,
            clearing: false,
            margin: 1.0,
            calm: (0.0, 0.0),
            needed: VecDeque::new(),
            resized: 0.0,
            grounds: Grounds::default(),
        }
    }

    /// What the last decision was based on.
    #[must_use]
    pub fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// Is told that somebody else has changed the size: nothing is shrunk before the patience is over again.
    pub fn resized_by_hand(&mut self) {
        self.resized = self.now;
        self.debt = 0.0;
        self.clearing = true;
    }

    /// Decides at the end of an interval. What it says is taken to be done.
    pub fn observe(&mut self, seen: &Observation) -> Decision {
        let seconds = seen.interval.as_secs_f64();
        if seconds <= 0.0 {
            return Decision::Hold(Reason::Fits);
        }
        let usual = self.settings.every.max(std::mem::replace(&mut self.before, seen.interval));
        if seen.interval > usual.saturating_mul(TOO_LONG) {
            return self.begin_anew(seen);
        }
        let (in_use, waiting) = (f64::from(seen.in_use), f64::from(seen.waiting));
        let (in_use_before, waiting_before) = (f64::from(self.in_use), f64::from(self.waiting));
        (self.in_use, self.waiting) = (seen.in_use, seen.waiting);
        let lent = seen.checkouts as f64;
        let offered = (lent + seen.gave_up as f64 + waiting - waiting_before).max(0.0);
        let finished = (lent + in_use_before - in_use).max(0.0);

        self.grounds.late = seen.late;
        self.grounds.waiting = seen.waiting;
        let hangs = self.hangs(seen, finished, seconds);
        if seen.outage || hangs {
            (self.debt, self.clearing) = (0.0, true);
            return Decision::Hold(if seen.outage { Reason::Outage } else { Reason::Stalled });
        }
        self.now += seconds;
        if seen.waiting > 0 {
            self.flow.notice_jump(offered, seconds);
        }
        self.flow.learn(seen.in_use, finished, offered, seconds);
        let demand = self.demand(seen);
        self.note_needed(demand);
        self.note_late(seen, offered);
        if let Some((to, reason)) = self.grown(seen, demand, waiting < waiting_before) {
            (self.debt, self.clearing, self.resized) = (0.0, true, self.now);
            return Decision::Grow { to, reason };
        }
        let starved = seen.waiting > 0 && seen.waiting_for_room == 0;
        if self.clearing && waiting >= waiting_before && !starved {
            // The queue is not getting shorter by itself, so its waits count from now on.
            self.clearing = false;
        }
        match self.shrunk(seen) {
            Some(to) => {
                self.resized = self.now;
                Decision::Shrink { to, reason: Reason::Idle }
            }
            None => Decision::Hold(Reason::Fits),
        }
    }

    /// One sample of what is in use stands for no long time, nor is that time patience. What was learnt before is kept.
    fn begin_anew(&mut self, seen: &Observation) -> Decision {
        (self.in_use, self.waiting) = (seen.in_use, seen.waiting);
        (self.debt, self.missed, self.clearing) = (0.0, 0.0, true);
        (self.grounds.late, self.grounds.waiting) = (seen.late, seen.waiting);
        Decision::Hold(Reason::Fits)
    }

    /// Whether much less comes back than usual while callers wait: the server hangs, and more connections would hang too.
    fn hangs(&mut self, seen: &Observation, finished: f64, seconds: f64) -> bool {
        self.missed = match self.flow.use_time() {
            Some(use_time) if seen.waiting > 0 && use_time > 0.0 => {
                let usual = f64::from(seen.in_use) * seconds / use_time;
                (self.missed + usual / 2.0 - finished).clamp(0.0, 4.0 * MISSED)
            }
            _ => 0.0,
        };
        if self.missed < MISSED {
            return false;
        }
        if finished > 0.0 {
            // Slow, and not dead: if it stays so, that is how long connections are used for.
            self.flow.learn(seen.in_use, finished, finished, seconds);
        }
        true
    }

    /// How many connections would be in use if nobody had to wait.
    fn demand(&mut self, seen: &Observation) -> f64 {
        let use_time = self.flow.use_time();
        let demand = match use_time {
            Some(use_time) => self.flow.rate() * use_time,
            // Nothing has come back yet, so it is not known: twice as many as are in use while callers wait for room.
            None if seen.waiting_for_room > 0 => 2.0 * f64::from(seen.in_use),
            None => f64::from(seen.in_use),
        };
        self.grounds.per_second = self.flow.rate();
        self.grounds.use_time = use_time.and_then(|time| Duration::try_from_secs_f64(time).ok());
        self.grounds.demand = demand;
        demand
    }

    fn note_needed(&mut self, demand: f64) {
        let needed = self.with_margin(demand, 0.0);
        self.grounds.needed = needed;
        while self.needed.pop_back_if(|(_, before)| *before <= needed).is_some() {}
        self.needed.push_back((self.now, needed));
        let begin = self.now - self.settings.patience.as_secs_f64();
        while self.needed.pop_front_if(|(at, _)| *at < begin).is_some() {}
    }

    fn note_late(&mut self, seen: &Observation, offered: f64) {
        if seen.waiting > 0 && seen.waiting_for_room == 0 && seen.longest_wait >= seen.interval {
            // What has piled up for want of something else will be late when that is over, and the pool full of it.
            self.clearing = true;
        }
        if self.clearing {
            self.debt = 0.0;
            self.clearing = seen.waiting > 0;
        } else {
            // Who has waited for a whole interval is late again in each, or one caller alone would never be noticed.
            let lingering = if seen.longest_wait >= seen.interval { seen.waiting_for_room } else { 0 };
            self.debt = (self.debt + seen.late as f64 + f64::from(lingering) - ALLOWED * offered).max(0.0);
        }
        self.calm.0 += offered;
        if seen.late > 0 {
            self.calm = (0.0, self.now);
        }
        let long = CALM_PATIENCES * self.settings.patience.as_secs_f64();
        if self.calm.0 >= CALM_CHECKOUTS && self.now - self.calm.1 >= long {
            self.margin = (self.margin * (1.0 - GIVEN_UP)).max(LEAST_MARGIN);
            self.calm = (0.0, self.now);
        }
    }

    /// A larger size, if too many were late: what the demand needs; or, where that is there already, a tenth more.
    fn grown(&mut self, seen: &Observation, demand: f64, shorter: bool) -> Option<(u32, Reason)> {
        let late_now = if seen.longest_wait > self.settings.target_wait { seen.waiting_for_room } else { 0 };
        let size = seen.max_size;
        let bearable = DEBT.max(DEBT_SECONDS * LATE_SHARE * self.flow.rate());
        if self.debt + f64::from(late_now) < bearable || size >= self.settings.ceiling() {
            return None;
        }
        let queue = self.flow.use_time().map_or(0.0, |use_time| f64::from(seen.waiting) * use_time / CLEARED);
        let needed = self.with_margin(demand, queue);
        if needed > size {
            return Some((needed, Reason::Load));
        }
        if self.clearing || shorter {
            return None;
        }
        let more = size.saturating_add((size / 10).max(1)).min(self.settings.ceiling());
        let formula = self.by_formula(demand) - demand;
        self.margin = self.margin.max((f64::from(more) - demand) / formula.max(0.5));
        self.calm = (0.0, self.now);
        Some((more, Reason::Waits))
    }

    /// A smaller size, if the most that was needed for so long is clearly less.
    fn shrunk(&self, seen: &Observation) -> Option<u32> {
        if self.clearing || seen.waiting > 0 || self.now - self.resized < self.settings.patience.as_secs_f64() {
            return None;
        }
        let most = self.needed.front().map_or(u32::MAX, |(_, needed)| *needed);
        let floor = self.settings.floor().max(seen.min_idle);
        let to = most.max(seen.in_use).max(floor);
        let least_step = if to == floor { 1 } else { (seen.max_size / 10).max(2) };
        (to.saturating_add(least_step) <= seen.max_size).then_some(to)
    }

    /// The demand and what is to be kept above it, and up to half as much again for a queue that is to be worked off.
    fn with_margin(&self, demand: f64, queue: f64) -> u32 {
        let needed = (demand + self.margin * (self.by_formula(demand) - demand)).ceil();
        // Saturates, where the sum is too large for the type.
        let needed = (needed + queue.min(needed / 2.0)).ceil() as u32;
        needed.max(self.settings.floor()).min(self.settings.ceiling())
    }

    fn by_formula(&self, demand: f64) -> f64 {
        let patience = match self.flow.use_time() {
            Some(use_time) if use_time > 0.0 => self.settings.target_wait.as_secs_f64() / use_time,
            _ => 1.0,
        };
        f64::from(staffing::servers(demand, patience, self.settings.ceiling()))
    }
}
