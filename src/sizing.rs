#![doc = include_str!("../docs/sizing.md")]

use crate::config::in_brief;
use crate::scaling::{Fleet, Plan};
use crate::{Builder, Error, Manager};
use std::fmt;
use std::time::Duration;

/// How many checkouts may find no connection free: one in twenty. Less costs many connections that are nearly always idle.
const MAY_WAIT: f64 = 0.05;
/// How many connections keep a core busy, since some of them wait for the disk or the network: PostgreSQL's wiki, "Number Of
/// Database Connections", which HikariCP made known.
const PER_CORE: u32 = 2;
/// How much more than is possible a measured load may be: the time that passes until it is divided by, and rounding.
const MEASURED: f64 = 1.01;
/// What [`Builder::max_size`] takes.
const LARGEST_POOL: u32 = 1 << 20;

/// What a process does with its connections, and what its server bears; [`size`](Self::size) says how large its pool is to
/// be.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, scaling::Fleet, sizing::{Bound, Workload}};
///
/// // 32 threads that hold a connection for a fifth of their time, before a server with 8 cores.
/// let workload = Workload::threads(32).holding(0.2).background(2).reserve(1).server_cores(8);
/// let size = workload.size()?;
/// assert_eq!((size.max_size(), size.decided_by()), (15, Bound::Threads));
///
/// // Four such processes that share its 100 connections, and its cores.
/// let size = workload.fleet(Fleet::new(4, 100)).size()?;
/// assert_eq!((size.max_size(), size.decided_by()), (5, Bound::Server));
/// println!("{size}");
///
/// let pool = size.apply(Pool::builder(|| Ok::<_, std::io::Error>(()))).build()?;
/// assert_eq!((pool.stats().max_size, pool.stats().idle), (5, 2));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    threads: u32,
    holding: Option<f64>,
    checkouts: Option<(f64, Duration)>,
    background: u32,
    reserve: u32,
    cores: Option<u32>,
    disks: u32,
    working: f64,
    fleet: Option<Fleet>,
}

impl Workload {
    /// So many threads that serve requests and borrow one connection at a time; 0 where there are only background jobs.
    #[must_use]
    pub const fn threads(threads: u32) -> Self {
        Self {
            threads,
            holding: None,
            checkouts: None,
            background: 0,
            reserve: 0,
            cores: None,
            disks: 1,
            working: 1.0,
            fleet: None,
        }
    }

    /// The share of its time for which a thread holds a connection when it is busiest, more than 0 and at most 1. Default: not
    /// known, so that each thread is to have one.
    #[must_use]
    pub const fn holding(mut self, share: f64) -> Self {
        self.holding = Some(share);
        self
    }

    /// The same as it is measured: how many connections all threads together borrow in a second when they are busiest, and for
    /// how long one of them on average ([`Stats::use_time`](crate::Stats::use_time)). In place of
    /// [`holding`](Self::holding). Up to 1 % more than all threads can hold is taken for what measuring makes of all of them.
    #[must_use]
    pub const fn checkouts(mut self, per_second: f64, held_for: Duration) -> Self {
        self.checkouts = Some((per_second, held_for));
        self
    }

    /// Background jobs, each of which holds a connection for as long as it runs. Default: none.
    #[must_use]
    pub const fn background(mut self, jobs: u32) -> Self {
        self.background = jobs;
        self
    }

    /// Connections on top for what is rare and must not wait: a health check, a migration at the start, a console within the
    /// process. Default: none. What other programs need is [`Fleet::reserved`].
    #[must_use]
    pub const fn reserve(mut self, connections: u32) -> Self {
        self.reserve = connections;
        self
    }

    /// The cores of the server, without hyper-threads; for SQLite those of this machine. All processes of the
    /// [`fleet`](Self::fleet) share them. Default: not known, and no bound.
    #[must_use]
    pub const fn server_cores(mut self, cores: u32) -> Self {
        self.cores = Some(cores);
        self
    }

    /// How many disks of the server seek at the same time. Default 1; 0 where all that is read fits into its memory.
    #[must_use]
    pub const fn disks(mut self, disks: u32) -> Self {
        self.disks = disks;
        self
    }

    /// The share of the time that a connection is held for which the server works on it, more than 0 and at most 1. Less
    /// than 1 where a transaction waits for the program between two statements. Default: 1.
    #[must_use]
    pub const fn working(mut self, share: f64) -> Self {
        self.working = share;
        self
    }

    /// The processes that share the server, and its limit. What it says about threads is replaced by what this workload
    /// makes use of. Default: one process alone, and no limit.
    #[must_use]
    pub fn fleet(mut self, fleet: Fleet) -> Self {
        self.fleet = Some(fleet);
        self
    }

    /// How large the pool is to be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that cannot be, each with its field and value; those of
    /// the [`fleet`](Self::fleet) included.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{scaling::Fleet, sizing::Workload};
    ///
    /// let error = Workload::threads(8).holding(1.5).fleet(Fleet::new(0, 100)).size().unwrap_err().to_string();
    /// assert!(error.contains("holding is 1.5, but it must be more than 0 and at most 1"), "{error}");
    /// assert!(error.contains("processes is 0"), "{error}");
    /// ```
    pub fn size(&self) -> Result<Size, Error> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        let smallest = self.plan(1)?;
        let pools = smallest.as_ref().map_or(1, Plan::connections);
        // Behind PgBouncer each thread has a connection, which costs next to nothing there, and PgBouncer keeps what the
        // server bears.
        let behind = smallest.is_some_and(|plan| plan.pgbouncer().is_some());
        let load = self.load();
        let threads = self.threads.min(LARGEST_POOL);
        let peak = if behind { threads } else { peak(load, threads) };
        let busy = peak.saturating_add(self.background).min(LARGEST_POOL);
        let server = self.bears().map(|bears| u32::try_from(bears / pools).unwrap_or(LARGEST_POOL).max(1));
        let useful = if behind { busy } else { busy.min(server.unwrap_or(LARGEST_POOL)) };
        let with_reserve = |connections: u32| connections.saturating_add(self.reserve).min(LARGEST_POOL);
        let (asked, useful) = (with_reserve(busy), with_reserve(useful));
        let plan = self.plan(useful)?;
        let max_size = plan.as_ref().map_or(useful, Plan::max_size);
        let min_idle = plan.as_ref().map_or(max_size.div_ceil(4), Plan::min_idle);
        let bound = if max_size < useful {
            Bound::Limit
        } else if useful < asked {
            Bound::Server
        } else {
            Bound::Threads
        };
        Ok(Size { workload: self.clone(), pools, load, peak, asked, server, plan, max_size, min_idle, bound })
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |good: bool, problem: String| {
            if !good {
                problems.push(problem);
            }
        };
        let share = |value: f64| value > 0.0 && value <= 1.0;
        check(
            self.threads > 0 || self.background > 0,
            "threads is 0 and background is 0, so nobody needs a connection".to_owned(),
        );
        for (name, value) in [("holding", self.holding), ("working", Some(self.working))] {
            let value = value.unwrap_or(1.0);
            check(share(value), format!("{name} is {}, but it must be more than 0 and at most 1", in_brief(value)));
        }
        check(self.cores != Some(0), "server_cores is 0, and must be at least 1".to_owned());
        if let Some((rate, held_for)) = self.checkouts {
            let (load, threads) = (rate * held_for.as_secs_f64(), self.threads);
            let text = format!("checkouts is {} per second held for {held_for:?}", in_brief(rate));
            check(self.holding.is_none(), format!("{text} and holding is given too: one of them is enough"));
            let good = rate.is_finite() && rate >= 0.0;
            check(good, format!("{text}, but the rate must be a number of 0 or more"));
            check(
                !good || load <= f64::from(threads) * MEASURED,
                format!(
                    "{text}, which is {} at once, but threads is {threads}: each of them has one at a time",
                    tenths(load)
                ),
            );
        }
        if let Some(fleet) = &self.fleet {
            problems.extend(fleet.clone().threads_per_process(1).problems());
        }
        problems
    }

    /// How many of the threads hold a connection at once, on average (Little's law).
    fn load(&self) -> f64 {
        match self.checkouts {
            Some((rate, held_for)) => (rate * held_for.as_secs_f64()).min(f64::from(self.threads)),
            None => f64::from(self.threads) * self.holding.unwrap_or(1.0),
        }
    }

    /// How many connections the server works on at once.
    fn bears(&self) -> Option<u64> {
        let at_once = u64::from(self.cores?) * u64::from(PER_CORE) + u64::from(self.disks);
        Some((at_once as f64 / self.working) as u64)
    }

    fn plan(&self, connections: u32) -> Result<Option<Plan>, Error> {
        self.fleet.as_ref().map(|fleet| fleet.clone().threads_per_process(connections).plan()).transpose()
    }
}

fn tenths(load: f64) -> String {
    if load < 1e16 { format!("{load:.1}") } else { in_brief(load) }
}

/// How many connections `threads` need that hold `load` of them on average, so that few have to wait.
fn peak(load: f64, threads: u32) -> u32 {
    // Erlang's formula for those who wait, by way of the one for those who are turned away, which can be had step by step.
    let mut away = 1.0;
    for connections in 1..threads {
        let n = f64::from(connections);
        away = load * away / (n + load * away);
        let wait = away / (1.0 - load / n * (1.0 - away));
        if n > load && wait <= MAY_WAIT {
            return connections;
        }
    }
    threads
}

/// What bounds a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// Threads and jobs use no more.
    Threads,
    /// The cores and disks of the server do not work on more at once.
    Server,
    /// The server takes no more, of all processes.
    Limit,
}

/// How large a pool is to be, by [`Workload::size`]. Prints as a table with the reason for each figure.
///
/// # Examples
///
/// ```
/// use millpond::sizing::Workload;
///
/// let size = Workload::threads(32).holding(0.2).server_cores(8).size()?;
/// assert_eq!((size.max_size(), size.min_idle()), (12, 3));
/// let table = size.to_string();
/// assert!(table.contains("32 threads, each holding one for 20 % of its time"), "{table}");
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    workload: Workload,
    pools: u64,
    load: f64,
    peak: u32,
    /// What threads, jobs and reserve would use.
    asked: u32,
    server: Option<u32>,
    plan: Option<Plan>,
    max_size: u32,
    min_idle: u32,
    bound: Bound,
}

impl Size {
    /// For [`Builder::max_size`]. At least 1.
    #[must_use]
    pub const fn max_size(&self) -> u32 {
        self.max_size
    }

    /// For [`Builder::min_idle`]: a quarter, or what the [`Fleet`] says.
    #[must_use]
    pub const fn min_idle(&self) -> u32 {
        self.min_idle
    }

    /// Which of the bounds is the smallest.
    #[must_use]
    pub const fn decided_by(&self) -> Bound {
        self.bound
    }

    /// What the whole fleet is to set, where there is one.
    #[must_use]
    pub const fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What else is to be known. Empty where there is nothing to say.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let (jobs, asked) = (self.workload.background, self.asked);
        if jobs > 0 && self.workload.threads > 0 && jobs >= self.max_size {
            advice.push(format!(
                "{jobs} background jobs can hold all {}: give them a pool of their own, or run fewer at a time",
                self.max_size
            ));
        }
        match self.bound {
            Bound::Threads => {}
            Bound::Server => advice.push(format!(
                "threads and jobs would use {asked}, but more connections would queue in the server instead of here, and \
                 slow each other down; what helps is to hold them for shorter, faster queries, or more cores"
            )),
            Bound::Limit => advice.push(format!(
                "threads and jobs would use {asked}, and queue for {}: hold connections for short; if Stats::wait_time shows \
                 that it is not enough, put PgBouncer between",
                self.max_size
            )),
        }
        let held = (self.load + f64::from(jobs)) * self.pools as f64;
        let known = self.workload.holding.is_some() || self.workload.checkouts.is_some();
        if let Some(bears) = self.workload.bears().filter(|&bears| known && held > bears as f64) {
            advice.push(format!(
                "{held:.1} connections of all pools are held on average, and the server works on {bears}: at such times it \
                 cannot keep up, whatever the size"
            ));
        }
        advice.extend(self.plan.as_ref().and_then(Plan::advice_on_rolling));
        let bouncer =
            self.plan.as_ref().and_then(Plan::pgbouncer).map(|bouncer| u64::from(bouncer.default_pool_size()));
        if let Some((pool_size, bears)) = bouncer.zip(self.workload.bears()).filter(|(size, bears)| size > bears) {
            advice.push(format!(
                "PgBouncer may open {pool_size} connections, and the server works on {bears} at once: a default_pool_size \
                 of {bears} is enough, over all PgBouncers"
            ));
        }
        advice
    }

    /// Gives `max_size` and `min_idle` to a builder.
    pub fn apply<M: Manager>(&self, builder: Builder<M>) -> Builder<M> {
        builder.max_size(self.max_size).min_idle(self.min_idle)
    }

    fn rows(&self) -> Vec<(&'static str, String, String)> {
        let Workload { threads, holding, checkouts, background, reserve, cores, disks, working, .. } = &self.workload;
        let source = match checkouts {
            Some((rate, held_for)) => format!("{rate} checkouts a second × {held_for:?}"),
            None => {
                format!("{threads} threads, each holding one for {} % of its time", percent(holding.unwrap_or(1.0)))
            }
        };
        let enough = match self.peak == *threads {
            true => "one for each thread".to_owned(),
            false => format!("so that at most {} % of the checkouts wait", percent(MAY_WAIT)),
        };
        let mut rows = Vec::new();
        if *threads > 0 {
            rows.push(("on average", format!("{:.1}", self.load), source));
            rows.push(("at a peak", self.peak.to_string(), enough));
        }
        if *background > 0 {
            rows.push(("background", background.to_string(), "jobs that hold one while they run".to_owned()));
        }
        if *reserve > 0 {
            rows.push(("reserve", reserve.to_string(), "on top, for what is rare and must not wait".to_owned()));
        }
        if let Some((server, cores)) = self.server.zip(*cores) {
            let mut reason =
                format!("are worked on at once: {} × {PER_CORE} + {}", count(cores, "core"), count(*disks, "disk"));
            if *working < 1.0 {
                reason.push_str(&format!(", for {} % of the time that one is held", percent(*working)));
            }
            if self.plan.is_some() {
                reason.push_str(&format!("; over {}", count(self.pools, "pool")));
            }
            rows.push(("server", server.to_string(), reason));
        }
        let decided = match (self.bound, &self.plan) {
            (Bound::Limit, Some(plan)) => {
                let (available, at_once) = (plan.available(), plan.connections_at_most() / u64::from(self.max_size));
                format!("the limit of the server decides: {available} connections over {}", count(at_once, "pool"))
            }
            (Bound::Server, _) => "what the server works on decides".to_owned(),
            _ => "what threads and jobs use decides".to_owned(),
        };
        rows.push(("max_size", self.max_size.to_string(), decided));
        rows.push(("min_idle", self.min_idle.to_string(), "kept open, for a burst to begin with".to_owned()));
        rows
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let names = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let values = rows.iter().map(|(_, value, _)| value.len()).max().unwrap_or(0);
        for (name, value, reason) in rows {
            writeln!(f, "{name:names$}  {value:>values$}  {reason}")?;
        }
        self.advice().iter().try_for_each(|line| writeln!(f, "- {line}"))
    }
}

/// `1 core`, `2 cores`.
fn count(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// To a tenth, without an end of zeros.
fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}
