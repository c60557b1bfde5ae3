#![doc = include_str!("../docs/scaling.md")]

use crate::{Builder, Error, Manager};
use std::fmt;

/// The share of a server's limit that is left to others where nobody says how much: a tenth, for migrations, backups,
/// monitoring and somebody at a console.
const RESERVED_SHARE: u32 = 10;
/// And at least this many, which PostgreSQL keeps for superusers by default (`superuser_reserved_connections`).
const RESERVED_AT_LEAST: u32 = 3;
/// How many more connections PgBouncer takes than the pools may open, in percent: a connection that a pool has closed may
/// still be on PgBouncer's list when the next one comes.
const CLIENTS_ON_TOP: u64 = 10;
/// What [`Builder::max_size`] takes.
const LARGEST_POOL: u32 = 1 << 20;

/// Processes that share a server, and what that server bears; [`plan`](Self::plan) says what to set in each.
///
/// The sum over all pools never exceeds what the server has for them, also while a deployment has old and new processes
/// running side by side.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, scaling::Fleet};
///
/// // Eight processes with twenty worker threads each, and a PostgreSQL with max_connections = 100.
/// let plan = Fleet::new(8, 100).threads_per_process(20).plan()?;
/// assert_eq!(plan.max_size(), 5); // sixteen processes while a deployment rolls: 80 of the 90 that are not reserved
/// println!("{plan}");
///
/// let pool = plan.apply(Pool::builder(|| Ok::<_, std::io::Error>(()))).build()?;
/// assert_eq!(pool.stats().max_size, 5);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    processes: u32,
    server_limit: u32,
    reserved: Option<u32>,
    pools: u32,
    threads: Option<u32>,
    rolling: u32,
    idle_share: u32,
    bouncers: Option<u32>,
}

impl Fleet {
    /// `processes` that run at the same time when nothing is being deployed, and a server that takes `server_limit`
    /// connections: `max_connections` of PostgreSQL and MySQL, `maxclients` of Redis, of each node where there are several.
    #[must_use]
    pub const fn new(processes: u32, server_limit: u32) -> Self {
        Self {
            processes,
            server_limit,
            reserved: None,
            pools: 1,
            threads: None,
            rolling: 100,
            idle_share: 25,
            bouncers: None,
        }
    }

    /// How many connections of the server are left to others: migrations, backups, monitoring, other programs, somebody at
    /// a console. Default: a tenth of the limit, and at least 3, which is what PostgreSQL keeps for superusers.
    #[must_use]
    pub const fn reserved(mut self, connections: u32) -> Self {
        self.reserved = Some(connections);
        self
    }

    /// How many pools each process has to this server, say one for each tenant or role. Default 1.
    #[must_use]
    pub const fn pools_per_process(mut self, pools: u32) -> Self {
        self.pools = pools;
        self
    }

    /// How many threads of a process borrow from a pool, one connection each. More connections than that are never used, so
    /// no pool becomes larger. Default: not known, and a pool gets its full share.
    ///
    /// Fewer are often enough: how many connections a number of threads keeps busy is a question to one process, and its
    /// answer may be given here in place of the threads.
    #[must_use]
    pub const fn threads_per_process(mut self, threads: u32) -> Self {
        self.threads = Some(threads);
        self
    }

    /// How many further processes there may be while a deployment rolls, in percent. Default 100: a complete second set,
    /// as with blue and green. A rolling update of Kubernetes starts 25 % more by default (`maxSurge`), but does not count
    /// processes that are on their way out, and those keep their connections until they have ended: 25 is safe where they
    /// end in no time. 0 where the old ones have ended before the new ones start.
    #[must_use]
    pub const fn rolling(mut self, percent: u32) -> Self {
        self.rolling = percent;
        self
    }

    /// How much of each pool is kept open without being used, in percent, rounded up. Default 25: enough for a burst to begin
    /// with, and small enough that most of the server's memory goes to those who work.
    #[must_use]
    pub const fn min_idle_share(mut self, percent: u32) -> Self {
        self.idle_share = percent;
        self
    }

    /// Puts so many PgBouncers that pool by transaction between the processes and the server, usually 1. The pools are
    /// then as large as there are threads, which must be given, because a connection to PgBouncer costs 2 kB and not a
    /// process of the server; the limit of the server is kept by PgBouncer, whose settings are part of the plan
    /// ([`Plan::pgbouncer`]).
    #[must_use]
    pub const fn pgbouncer(mut self, instances: u32) -> Self {
        self.bouncers = Some(instances);
        self
    }

    /// What to set in each process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that cannot be, each with its field and value. Where
    /// the server has less than one connection for each pool, the error says how many processes it has room for, and that
    /// a pooler is what helps:
    ///
    /// ```
    /// use millpond::scaling::Fleet;
    ///
    /// let error = Fleet::new(60, 100).plan().unwrap_err().to_string();
    /// assert!(error.contains("server_limit is 100"), "{error}");
    /// assert!(error.contains("at most 45 processes") && error.contains("PgBouncer"), "{error}");
    ///
    /// let plan = Fleet::new(60, 100).threads_per_process(20).pgbouncer(1).plan()?;
    /// assert_eq!(plan.max_size(), 20);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn plan(&self) -> Result<Plan, Error> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        let reserved = self.kept_back();
        let available = self.server_limit.saturating_sub(reserved);
        let asked = self.threads.unwrap_or(LARGEST_POOL).min(LARGEST_POOL);
        let (max_size, pgbouncer) = match self.bouncers {
            None => (self.share(available)?.min(asked), None),
            Some(instances) => (asked, Some(self.behind(instances, asked, available)?)),
        };
        let min_idle = (u64::from(max_size) * u64::from(self.idle_share)).div_ceil(100);
        let min_idle = u32::try_from(min_idle).unwrap_or(max_size);
        Ok(Plan { fleet: self.clone(), reserved, available, max_size, min_idle, pgbouncer })
    }

    /// What cannot be, apart from there being too many processes.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.zeros();
        let (reserved, limit) = (self.kept_back(), self.server_limit);
        if limit > 0 && limit <= reserved {
            problems.push(format!("reserved is {reserved} and server_limit is {limit}: nothing is left for the pools"));
        }
        if self.idle_share > 100 {
            problems.push(format!("min_idle_share is {} %, and cannot be more than 100 %", self.idle_share));
        }
        if self.bouncers.is_some() && self.threads.is_none() {
            problems
                .push("threads_per_process is not given: behind PgBouncer it decides how large a pool is".to_owned());
        }
        problems
    }

    fn kept_back(&self) -> u32 {
        self.reserved.unwrap_or_else(|| (self.server_limit / RESERVED_SHARE).max(RESERVED_AT_LEAST))
    }

    fn zeros(&self) -> Vec<String> {
        let fields = [
            ("processes", Some(self.processes)),
            ("server_limit", Some(self.server_limit)),
            ("pools_per_process", Some(self.pools)),
            ("threads_per_process", self.threads),
            ("pgbouncer", self.bouncers),
        ];
        let zeros = fields.into_iter().filter(|(_, value)| *value == Some(0));
        zeros.map(|(name, _)| format!("{name} is 0, and must be at least 1")).collect()
    }

    /// Those that run at once in the worst moment of a deployment.
    const fn at_once(&self, processes: u32) -> u64 {
        let processes = processes as u64;
        processes + (processes * self.rolling as u64).div_ceil(100)
    }

    const fn pools_at_once(&self, processes: u32) -> u64 {
        // Each factor is below 2^59 and 2^32, so only the product can be too large.
        self.at_once(processes).saturating_mul(self.pools as u64)
    }

    /// What each pool may have of what is available to all.
    fn share(&self, available: u32) -> Result<u32, Error> {
        let pools = self.pools_at_once(self.processes);
        match u32::try_from(u64::from(available) / pools) {
            Ok(share) if share > 0 => Ok(share),
            _ => Err(Error::config(&[self.too_many(available, pools)])),
        }
    }

    fn too_many(&self, available: u32, pools: u64) -> String {
        let Self { processes, server_limit, .. } = self;
        let fit = self.largest_that_fits(available);
        let advice = match fit {
            0 => "not even one process has room; raise the limit,".to_owned(),
            1 => "run at most 1 process,".to_owned(),
            fit => format!("run at most {fit} processes,"),
        };
        format!(
            "processes is {processes} and server_limit is {server_limit}: the {available} connections that are not \
             reserved are less than one for each of {pools} pools ({}); {advice} or put a pooler between that shares \
             connections, such as PgBouncer in transaction mode (Fleet::pgbouncer)",
            self.census()
        )
    }

    /// How many processes of this fleet could have one connection for each pool.
    fn largest_that_fits(&self, available: u32) -> u32 {
        // More processes never need fewer connections, so the border can be found by halving.
        let (mut fits, mut fails) = (0, self.processes);
        while fails - fits > 1 {
            let middle = fits + (fails - fits) / 2;
            if self.pools_at_once(middle) <= u64::from(available) {
                fits = middle;
            } else {
                fails = middle;
            }
        }
        fits
    }

    /// Who they are: `16 processes while a deployment rolls, 2 pools each`.
    fn census(&self) -> String {
        let processes = self.at_once(self.processes);
        let mut text = format!("{processes} {}", if processes == 1 { "process" } else { "processes" });
        if processes > u64::from(self.processes) {
            text.push_str(" while a deployment rolls");
        }
        if self.pools > 1 {
            text.push_str(&format!(", {} pools each", self.pools));
        }
        text
    }

    fn behind(&self, instances: u32, max_size: u32, available: u32) -> Result<PgBouncer, Error> {
        let pool_size = available / instances;
        if pool_size == 0 {
            let problem = format!(
                "pgbouncer is {instances}: the {available} connections that are not reserved (server_limit is {}) are less \
                 than one for each",
                self.server_limit
            );
            return Err(Error::config(&[problem]));
        }
        // Each takes them all, so that one may be away.
        let clients = self.pools_at_once(self.processes).saturating_mul(u64::from(max_size));
        let more = clients.saturating_mul(CLIENTS_ON_TOP).div_ceil(100);
        Ok(PgBouncer { instances, max_client_conn: clients.saturating_add(more), pool_size })
    }
}

/// What to set, by [`Fleet::plan`]. Prints as a table with the reason for each figure.
///
/// # Examples
///
/// ```
/// use millpond::scaling::Fleet;
///
/// let plan = Fleet::new(12, 200).reserved(20).threads_per_process(16).plan()?;
/// assert_eq!((plan.max_size(), plan.min_idle()), (7, 2));
/// assert_eq!((plan.connections(), plan.connections_at_most()), (84, 168));
/// let table = plan.to_string();
/// assert!(table.starts_with("max_size"));
/// assert!(table.contains("180 connections (200 less 20 reserved) over 24 processes while a deployment rolls"));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    fleet: Fleet,
    reserved: u32,
    available: u32,
    max_size: u32,
    min_idle: u32,
    pgbouncer: Option<PgBouncer>,
}

impl Plan {
    /// The maximum of each pool, for [`Builder::max_size`]. At least 1.
    #[must_use]
    pub const fn max_size(&self) -> u32 {
        self.max_size
    }

    /// The minimum of each pool, for [`Builder::min_idle`].
    #[must_use]
    pub const fn min_idle(&self) -> u32 {
        self.min_idle
    }

    /// How many processes there are in the worst moment of a deployment.
    #[must_use]
    pub const fn processes_at_most(&self) -> u64 {
        self.fleet.at_once(self.fleet.processes)
    }

    /// How many connections all pools may open together when nothing is being deployed; behind PgBouncer these are
    /// connections to PgBouncer.
    #[must_use]
    pub const fn connections(&self) -> u64 {
        let pools = (self.fleet.processes as u64).saturating_mul(self.fleet.pools as u64);
        pools.saturating_mul(self.max_size as u64)
    }

    /// How many they may open in the worst moment of a deployment.
    #[must_use]
    pub const fn connections_at_most(&self) -> u64 {
        self.fleet.pools_at_once(self.fleet.processes).saturating_mul(self.max_size as u64)
    }

    /// How many connections the server has for all of this: its limit less what is reserved.
    #[must_use]
    pub const fn available(&self) -> u32 {
        self.available
    }

    /// What to set in PgBouncer, if there is one.
    #[must_use]
    pub const fn pgbouncer(&self) -> Option<&PgBouncer> {
        self.pgbouncer.as_ref()
    }

    /// What else is to be known: that threads will queue, that much lies idle between deployments. Empty where there is
    /// nothing to say.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if let Some(threads) = self.fleet.threads.filter(|&threads| threads > self.max_size) {
            let size = self.max_size;
            advice.push(format!(
                "{threads} threads share {size} of a pool: they queue when more than {size} of them use a connection at \
                 once. Hold connections for short; if Stats::wait_time shows that it is not enough, put PgBouncer between"
            ));
        }
        advice.extend(self.advice_on_rolling());
        advice
    }

    /// That a deployment in smaller steps leaves more for everybody.
    pub(crate) fn advice_on_rolling(&self) -> Option<String> {
        if self.pgbouncer.is_some() || self.fleet.rolling <= 25 {
            return None;
        }
        let slower = Fleet { rolling: 25, ..self.fleet.clone() };
        let better = slower.plan().ok().filter(|better| better.max_size > self.max_size)?;
        Some(format!(
            "between deployments at most {} of {} connections are used; where a deployment starts no more than 25 % of the \
             processes at a time, and old ones end at once, rolling(25) gives a max_size of {}",
            self.connections(),
            self.available,
            better.max_size
        ))
    }

    /// Gives `max_size` and `min_idle` to a builder.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, scaling::Fleet};
    ///
    /// let plan = Fleet::new(4, 100).plan()?;
    /// let pool = plan.apply(Pool::builder(|| Ok::<_, std::io::Error>(()))).build_lazy()?;
    /// assert_eq!(pool.stats().max_size, 11);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn apply<M: Manager>(&self, builder: Builder<M>) -> Builder<M> {
        builder.max_size(self.max_size).min_idle(self.min_idle)
    }

    fn rows(&self) -> Vec<(&'static str, u64, String)> {
        let Self { fleet, reserved, available, max_size, .. } = self;
        let from = format!("{available} connections ({} less {reserved} reserved)", fleet.server_limit);
        let capped = if fleet.threads == Some(*max_size) { ", and no more than threads" } else { "" };
        let reason = match &self.pgbouncer {
            None => format!("{from} over {}{capped}", fleet.census()),
            Some(_) => "as many as threads: PgBouncer keeps the limit of the server".to_owned(),
        };
        let mut rows = vec![
            ("max_size", u64::from(*max_size), reason),
            ("min_idle", u64::from(self.min_idle), format!("{} % of it, kept open", fleet.idle_share)),
            ("connections", self.connections(), "of all pools, when nothing is being deployed".to_owned()),
            ("at most", self.connections_at_most(), format!("of all pools: {}", fleet.census())),
        ];
        if let Some(bouncer) = &self.pgbouncer {
            let each =
                if bouncer.instances > 1 { "each takes them all, so that one may be away" } else { "of all pools" };
            let over = match bouncer.instances {
                1 => String::new(),
                instances => format!(" over {instances} PgBouncers"),
            };
            rows.extend([
                (
                    "max_client_conn",
                    bouncer.max_client_conn,
                    format!("{each}, and {CLIENTS_ON_TOP} % that are on their way out"),
                ),
                ("default_pool_size", bouncer.pool_size.into(), format!("{from}{over}, for each user and database")),
                ("max_db_connections", bouncer.pool_size.into(), "the same, for all users of the database".to_owned()),
            ]);
        }
        rows
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let names = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let values = rows.iter().map(|(_, value, _)| value.to_string().len()).max().unwrap_or(0);
        for (name, value, reason) in rows {
            writeln!(f, "{name:names$}  {value:>values$}  {reason}")?;
        }
        self.advice().iter().try_for_each(|line| writeln!(f, "- {line}"))
    }
}

/// The settings of a PgBouncer that belong to a [`Plan`]. Prints as lines for `pgbouncer.ini`.
///
/// # Examples
///
/// ```
/// use millpond::scaling::Fleet;
///
/// let plan = Fleet::new(10, 50).threads_per_process(20).pgbouncer(1).plan()?;
/// let settings = plan.pgbouncer().expect("there is one").to_string();
/// assert_eq!(
///     settings,
///     "pool_mode = transaction\nmax_client_conn = 440\ndefault_pool_size = 45\nmax_db_connections = 45\n"
/// );
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgBouncer {
    instances: u32,
    max_client_conn: u64,
    pool_size: u32,
}

impl PgBouncer {
    /// `max_client_conn` of each: all that the pools may open in the worst moment of a deployment, so that one PgBouncer
    /// can stand in for another, and a tenth more. It needs as many file descriptors, and those of the next two.
    #[must_use]
    pub const fn max_client_conn(&self) -> u64 {
        self.max_client_conn
    }

    /// `default_pool_size` of each: connections to the server for one user and database.
    #[must_use]
    pub const fn default_pool_size(&self) -> u32 {
        self.pool_size
    }

    /// `max_db_connections` of each: connections to the server for one database, all users together. With more than one
    /// database divide it yourself.
    #[must_use]
    pub const fn max_db_connections(&self) -> u32 {
        self.pool_size
    }
}

impl fmt::Display for PgBouncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pool_mode = transaction")?;
        writeln!(f, "max_client_conn = {}", self.max_client_conn)?;
        writeln!(f, "default_pool_size = {0}\nmax_db_connections = {0}", self.pool_size)
    }
}
