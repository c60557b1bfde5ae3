//! How a pool does, in one word, in numbers, and in sentences for whoever is called at night.
//!
//! [`Pool::health`] takes a look that waits for nobody: it borrows no connection and asks no server, so a page that shows it
//! does not queue behind the exhausted pool that it is to tell of. [`HealthReport`] has many pools, the worst first.
//!
//! # Examples
//!
//! ```
//! use millpond::Pool;
//! use millpond::health::{HealthLevel, HealthReport, WarningKind};
//!
//! let open = || Ok::<_, std::io::Error>(());
//! let orders = Pool::builder(open).name("orders").max_size(2).build()?;
//! let users = Pool::builder(open).name("users").max_size(10).build()?;
//! assert_eq!(orders.health().level, HealthLevel::Ok);
//!
//! let held = orders.get_many(2)?;
//! let health = orders.health();
//! assert_eq!((health.level, health.in_use, health.utilisation), (HealthLevel::Warning, 2, 1.0));
//! assert_eq!(health.warnings[0].kind, WarningKind::NoneLeft);
//! assert_eq!(health.warnings[0].reason, "all 2 connections are in use; nobody waits");
//!
//! let report: HealthReport = [users.health(), orders.health()].into_iter().collect();
//! assert_eq!(report.level(), HealthLevel::Warning);
//! assert_eq!(report.pools()[0].pool, "orders", "the worst comes first");
//! println!("{report}");
//! # drop(held);
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # When it warns
//!
//! | [`WarningKind`] | when | level |
//! |---|---|---|
//! | `NearlyFull` | more than 80 % of the maximum is in use, and not all of it | warning |
//! | `NoneLeft` | all connections are in use | warning; critical if somebody waits |
//! | `CallersWait` | callers wait and nothing is idle, for no reason that is told besides | warning |
//! | `BudgetUsedUp` | callers wait and nothing is idle, and all of the [`Budget`](crate::Budget) that the pool shares is used | critical |
//! | `ServerAway` | the last attempt to connect has failed | critical |
//! | `ServerSilent` | an attempt to connect, or a check, has had no answer for 1 s | critical; warning while a connection is idle, or some are in use and nobody waits |
//! | `Paused` | [`Pool::pause`] was called | warning |
//! | `Closed` | [`Pool::close`] was called | critical; nothing else is said of such a pool |
//!
//! 80 % because the time that callers wait grows with 1 / (1 - utilisation): at 80 % a burst of a quarter more fills the pool,
//! and there is still time to act. Above means above: of five connections four are 80 %, and no warning. A pool that is
//! full while nobody waits does what it is for, and a pool of one connection, as for a single writer, is full whenever it is
//! used: that is a warning to be read over time, not a reason to call somebody. So is `CallersWait`: whoever waits for a handshake
//! of a few milliseconds is seen there, too. An attempt that has had no answer for 1 s has lost a packet (TCP sends the first one
//! again after 1 s), or meets nobody; callers cannot be served by it for as long, whatever their time-outs are.
//!
//! # As JSON
//!
//! With the feature `json` there is [`Health::to_json`] and [`HealthReport::to_json`]; with `serde`, both and
//! [`Stats`] can be serialized to whatever else. These names are part of the interface of this crate:
//!
//! | field | type | |
//! |---|---|---|
//! | `pool` | string | the pool's name, without passwords. Not escaped for HTML |
//! | `level` | `"ok"`, `"warning"`, `"critical"` | the worst of the warnings |
//! | `paused`, `closed` | bool | |
//! | `breaker` | `"closed"`, `"open"`, `"half_open"` | `closed` when connecting works |
//! | `max_size`, `size`, `in_use`, `idle`, `connecting`, `checking`, `waiting` | number | as in [`Stats`] |
//! | `utilisation` | number, 0 to 1 | `in_use` of `max_size` |
//! | `outage` | `null`, or an object | `seconds` since the first failure, `attempts`, and `error`: the text of the last one |
//! | `warnings` | array of objects | `kind` (`"nearly_full"`, `"none_left"`, `"callers_wait"`, `"budget_used_up"`, `"server_away"`, `"server_silent"`, `"paused"`, `"closed"`), `level`, `reason` |
//!
//! A report is `{"level": …, "pools": […]}`. In `Stats`, `closed` has `total` and each reason (`idle_timeout` …), and each
//! distribution has `count`, `sum`, `mean`, `p50`, `p95`, `p99`, `max` and `buckets` (see the module [`status`](crate::status)). All times are in seconds. [`PoolsStats`](crate::PoolsStats) and
//! [`BudgetStats`](crate::BudgetStats) have the names of their fields.

mod report;
mod rule;

pub use report::HealthReport;

use crate::{Breaker, Manager, Outage, Pool, Stats};
use report::line;
pub(crate) use rule::judge;
use std::fmt;

/// How a pool does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum HealthLevel {
    /// Nothing to say.
    #[default]
    Ok,
    /// Callers are served; somebody should look before they are not.
    Warning,
    /// Callers wait for what is not there, or fail.
    Critical,
}

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WarningKind {
    /// More than 80 % of the maximum is in use.
    NearlyFull,
    /// All connections are in use.
    NoneLeft,
    /// Callers wait, and nothing is idle.
    CallersWait,
    /// Callers wait, and the budget that the pool shares with others is used up.
    BudgetUsedUp,
    /// Connecting fails.
    ServerAway,
    /// Connecting neither fails nor succeeds.
    ServerSilent,
    /// The pool is paused.
    Paused,
    /// The pool is closed.
    Closed,
}

/// Something about a pool that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Warning {
    /// What it is about, for programs.
    pub kind: WarningKind,
    /// How bad that is.
    pub level: HealthLevel,
    /// The reason, with the numbers, for people.
    pub reason: String,
}

/// How a pool does at one moment: see the [module](self). Made by [`Pool::health`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Health {
    /// The pool's name.
    pub pool: String,
    /// The worst of the warnings.
    pub level: HealthLevel,
    /// Nothing is lent until the pool is resumed.
    pub paused: bool,
    /// Nothing is lent any more.
    pub closed: bool,
    /// Whether connecting works.
    pub breaker: Breaker,
    /// The most connections there may be.
    pub max_size: u32,
    /// Connections that are open.
    pub size: u32,
    /// Connections that are borrowed.
    pub in_use: u32,
    /// Connections that wait to be borrowed.
    pub idle: u32,
    /// Connections that are being opened.
    pub connecting: u32,
    /// Connections whose check is under way.
    pub checking: u32,
    /// Callers that wait for a connection.
    pub waiting: u32,
    /// How much of the maximum is in use, from 0 to 1.
    pub utilisation: f64,
    /// Since when connecting has failed, and why, where it does and that is known.
    pub outage: Option<Outage>,
    /// What somebody should know, the worst first. Empty for a pool that does well.
    pub warnings: Vec<Warning>,
}

impl<M: Manager> Pool<M> {
    /// How the pool does: a level, its numbers, and warnings with their reasons. Borrows nothing, asks no server and waits for
    /// no caller, so it answers at once also when the pool is exhausted.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, WhenDown, health::HealthLevel};
    /// use std::io;
    ///
    /// let refused = || Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused));
    /// let pool = Pool::builder(refused).name("orders").when_down(WhenDown::FailFast).build_lazy()?;
    /// pool.get().unwrap_err();
    /// let health = pool.health();
    /// assert_eq!(health.level, HealthLevel::Critical);
    /// assert_eq!(health.outage.expect("connecting fails").error, "connection refused");
    /// assert!(health.warnings[0].reason.starts_with("the server is away: connecting has failed for "));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        let (stats, outage) = self.glance();
        judge(self.name(), &stats, outage)
    }
}

impl Health {
    /// What is to be said of a pool with these numbers: the rule behind [`Pool::health`], which besides knows why connecting
    /// fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Health, health::WarningKind};
    ///
    /// let stats = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(4).build_lazy()?.stats();
    /// assert!(Health::of("orders", &stats).warnings.is_empty());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn of(pool: &str, stats: &Stats) -> Self {
        judge(pool, stats, None)
    }

    /// Itself as JSON: see the [module](self).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(4).build()?;
    /// let json: serde_json::Value = serde_json::from_str(&pool.health().to_json())?;
    /// assert_eq!(json["pool"], "orders");
    /// assert_eq!(json["level"], "ok");
    /// assert_eq!(json["utilisation"], 0.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    pub fn to_json(&self) -> String {
        crate::encode::json(self)
    }
}

impl HealthLevel {
    /// The level in lower case, as it stands in tables and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for HealthLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// One line: level, name, numbers, and all warnings.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(self, 0, 0, f)
    }
}
