//! The checks while it runs, and the samples for what must stay flat.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use redis::Connection;

use super::{Ground, MOST, listed};
use crate::drill::process::{descriptors, resident, threads};
use crate::table::{Table, number};

/// How long one connection too many may be seen: a close that the machine delays by more than 100 ms gives its place
/// away, and then there is one more until it ends.
const BRIEF: Duration = Duration::from_secs(1);
/// The same at the server, which learns of a close later.
const LISTED: Duration = Duration::from_millis(1500);

/// The process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Duration,
    pub size: u32,
    pub in_use: u32,
    pub waiting: u32,
    pub good: u64,
    pub failed: u64,
    pub threads: usize,
    pub descriptors: usize,
    pub resident: u64,
}

#[allow(missing_debug_implementations, reason = "a connection of the driver has none")]
pub struct Watch<'a> {
    ground: &'a Ground,
    begun: Instant,
    observer: Option<Connection>,
    pub samples: Vec<Sample>,
    /// How often the server was asked, and the most that it listed beyond what was taken out.
    pub asked: u64,
    pub most_listed: usize,
    pub most_owned: i64,
}

impl<'a> Watch<'a> {
    pub fn new(ground: &'a Ground) -> Self {
        let begun = Instant::now();
        Self { ground, begun, observer: None, samples: Vec::new(), asked: 0, most_listed: 0, most_owned: 0 }
    }

    /// Looks on for so long, and calls `tell` ten times a second.
    pub fn run(&mut self, span: Duration, mut tell: impl FnMut(Duration)) {
        // Some hundred samples however long it takes.
        let step = (span / 150).max(Duration::from_secs(1));
        let (mut next_sample, mut next_list) = (step, Duration::from_secs(2));
        while self.begun.elapsed() < span {
            thread::sleep(Duration::from_millis(10));
            self.count_own();
            let now = self.begun.elapsed();
            tell(now);
            if now >= next_list {
                self.ask_server();
                next_list = now + Duration::from_millis(500);
            }
            if now >= next_sample {
                self.sample();
                next_sample = now + step;
            }
        }
    }

    /// The connections as they count themselves, and as the pool counts them.
    fn count_own(&mut self) {
        let owned = || self.ground.tally.owned.load(Ordering::SeqCst);
        let now = owned();
        self.most_owned = self.most_owned.max(now);
        if now > MOST.into() && self.lasts(BRIEF, || owned() > MOST.into()) {
            self.ground.broken(format!("{} connections where {MOST} are allowed", owned()));
        }
        let size = || {
            let stats = self.ground.pool.stats();
            stats.size + stats.connecting
        };
        if size() > MOST && self.lasts(BRIEF, || size() > MOST) {
            self.ground.broken(format!("more than {MOST} by its own count: {:?}", self.ground.pool.stats()));
        }
    }

    /// The server's list, when nothing is in its way to be right.
    fn ask_server(&mut self) {
        if !self.ground.is_calm() {
            return;
        }
        let Some(mut observer) = self.observer.take().or_else(|| self.ground.observer().ok()) else { return };
        let detached = || usize::try_from(self.ground.tally.detached.load(Ordering::SeqCst)).unwrap_or(0);
        // Before and after: one may be closed while the server counts.
        let before = detached();
        let Ok(seen) = listed(&mut observer) else { return };
        let beyond = seen.saturating_sub(before.max(detached()));
        if beyond > MOST as usize {
            // A list that fails is not one that is too long.
            let too_many = || listed(&mut observer).is_ok_and(|seen| seen.saturating_sub(detached()) > MOST as usize);
            if self.lasts(LISTED, too_many) && self.ground.is_calm() {
                self.ground.broken(format!("the server lists {beyond} connections where {MOST} are allowed"));
            }
        } else {
            self.most_listed = self.most_listed.max(beyond);
        }
        self.asked += 1;
        self.observer = Some(observer);
    }

    /// Whether something is so at every look for that long.
    fn lasts(&self, span: Duration, mut so: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        while so() {
            if begun.elapsed() > span {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.ground.tally.brief.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn sample(&mut self) {
        let (stats, tally) = (self.ground.pool.stats(), &self.ground.tally);
        self.samples.push(Sample {
            at: self.begun.elapsed(),
            size: stats.size,
            in_use: stats.in_use,
            waiting: stats.waiting,
            good: tally.good.load(Ordering::Relaxed),
            failed: tally.failed.load(Ordering::Relaxed),
            threads: threads(""),
            descriptors: descriptors(),
            resident: resident(),
        });
    }

    /// About a dozen of the samples.
    pub fn table(&self) -> Table {
        let head =
            ["time", "size", "in use", "waiting", "good a second", "failed", "threads", "descriptors", "memory MB"];
        let mut table = Table::new(head);
        let every = self.samples.len().div_ceil(12).max(1);
        let mut before: Option<&Sample> = None;
        for sample in self.samples.iter().step_by(every) {
            let (good, failed, at) = before.map_or((0, 0, Duration::ZERO), |b| (b.good, b.failed, b.at));
            let rate = (sample.good - good) as f64 / (sample.at - at).as_secs_f64();
            table.row([
                format!("{:.0} s", sample.at.as_secs_f64()),
                sample.size.to_string(),
                sample.in_use.to_string(),
                sample.waiting.to_string(),
                number(rate),
                (sample.failed - failed).to_string(),
                sample.threads.to_string(),
                sample.descriptors.to_string(),
                megabytes(sample.resident),
            ]);
            before = Some(sample);
        }
        table
    }

    /// The medians of the first and of the last third, and whether the last is not above the first.
    pub fn flat(&self) -> Table {
        let mut table = Table::new(["must stay flat", "first third", "last third", "allowed"]);
        let third = self.samples.len() / 3;
        if third == 0 {
            return table;
        }
        let median = |samples: &[Sample], of: &dyn Fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        // What comes and goes with faults, and what an allocator keeps, differ between any two thirds by this much.
        let mut compare = |name: &str, slack: f64, of: &dyn Fn(&Sample) -> f64| {
            let (first, last) = self.samples.split_at(third);
            let (first, last) = (median(first, of), median(last.split_at(last.len() - third).1, of));
            let allowed = first * 1.25 + slack;
            table.row([name.to_owned(), number(first), number(last), number(allowed)]);
            if last > allowed {
                self.ground.broken(format!("{name}: {last} in the last third, {first} in the first"));
            }
        };
        compare("threads", 8.0, &|sample| sample.threads as f64);
        compare("descriptors", 8.0, &|sample| sample.descriptors as f64);
        compare("memory, MB", 4.0, &|sample| sample.resident as f64 / 1e6);
        table
    }
}

fn megabytes(bytes: u64) -> String {
    number(bytes as f64 / 1e6)
}
