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
//! distribution has `count`, `mean`, `p50`, `p95`, `p99` and `max`. All times are in seconds. [`PoolsStats`](crate::PoolsStats) and
//! [`BudgetStats`](crate::BudgetStats) have the names of their fields.

use crate::redact::redact;
use crate::stats::SILENCE;
use crate::{Breaker, Manager, Outage, Pool, Stats};
use std::collections::HashSet;
use std::fmt;

/// Of how many in a hundred in use a pool is said to be nearly full, when it is more.
const NEARLY_FULL_PERCENT: u64 = 80;

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
    #[allow(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers, and no map whose keys are not text")
    }
}

fn judge(pool: &str, stats: &Stats, outage: Option<Outage>) -> Health {
    let warnings = warnings(stats, outage.as_ref());
    let share = if stats.max_size == 0 { 0.0 } else { f64::from(stats.in_use) / f64::from(stats.max_size) };
    Health {
        pool: redact(pool).into_owned(),
        level: warnings.first().map_or(HealthLevel::Ok, |worst| worst.level),
        paused: stats.paused,
        closed: stats.closed_for_good,
        breaker: stats.breaker,
        max_size: stats.max_size,
        size: stats.size,
        in_use: stats.in_use,
        idle: stats.idle,
        connecting: stats.connecting,
        checking: stats.checking,
        waiting: stats.waiting,
        // More may be in use than the maximum that it was lowered to meanwhile.
        utilisation: share.min(1.0),
        outage,
        warnings,
    }
}

/// The worst first.
fn warnings(stats: &Stats, outage: Option<&Outage>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |kind, level, reason| warnings.push(Warning { kind, level, reason });
    if stats.closed_for_good {
        let reason = match stats.in_use {
            0 => "the pool is closed".to_owned(),
            n => format!("the pool is closed; {} still in use", counted(n, "connection is", "connections are")),
        };
        warn(WarningKind::Closed, HealthLevel::Critical, reason);
        return warnings;
    }
    if stats.breaker != Breaker::Closed {
        warn(WarningKind::ServerAway, HealthLevel::Critical, away(stats, outage));
    } else if stats.unanswered >= SILENCE {
        // As long as connections are lent, and nobody waits, it may be one of them alone that meets nobody.
        let served = stats.idle > 0 || stats.in_use > 0 && stats.waiting == 0;
        let level = if served { HealthLevel::Warning } else { HealthLevel::Critical };
        let (silent, waiting) = (stats.unanswered.as_secs_f64(), waiting(stats.waiting));
        let reason =
            format!("the server has not answered for {silent:.1} s to an attempt to connect, or a check; {waiting}");
        warn(WarningKind::ServerSilent, level, reason);
    }
    let (used, max) = (u64::from(stats.in_use), u64::from(stats.max_size));
    if used >= max && max > 0 {
        let level = if stats.waiting > 0 { HealthLevel::Critical } else { HealthLevel::Warning };
        let all = match stats.max_size {
            1 => "the only connection is in use".to_owned(),
            n => format!("all {n} connections are in use"),
        };
        warn(WarningKind::NoneLeft, level, format!("{all}; {}", waiting(stats.waiting)));
    } else if used * 100 > max * NEARLY_FULL_PERCENT {
        let percent = used * 100 / max.max(1);
        let reason = format!("{used} of {max} connections are in use ({percent} %)");
        warn(WarningKind::NearlyFull, HealthLevel::Warning, reason);
    }
    if stats.waiting > 0 && stats.idle == 0 && used < max && !stats.paused {
        let numbers = format!("{used} of {max} connections are in use, {} on their way", stats.connecting);
        let waiting = waiting(stats.waiting);
        if let Some(limit) = stats.budget_used_up {
            let reason = format!("the budget of {limit} connections that it shares is used up; {numbers}; {waiting}");
            warn(WarningKind::BudgetUsedUp, HealthLevel::Critical, reason);
        } else if stats.breaker == Breaker::Closed && stats.unanswered < SILENCE {
            warn(WarningKind::CallersWait, HealthLevel::Warning, format!("nothing is idle; {numbers}; {waiting}"));
        }
    }
    if stats.paused {
        let reason = format!("the pool is paused; {}", waiting(stats.waiting));
        warn(WarningKind::Paused, HealthLevel::Warning, reason);
    }
    warnings.sort_by_key(|warning| std::cmp::Reverse(warning.level));
    warnings
}

fn away(stats: &Stats, outage: Option<&Outage>) -> String {
    let mut reason = "the server is away: connecting ".to_owned();
    match outage {
        Some(Outage { lasting, attempts, error }) => {
            let attempts = counted(*attempts, "attempt", "attempts");
            reason.push_str(&format!("has failed for {:.1} s ({attempts}): {error}", lasting.as_secs_f64()));
        }
        None => reason.push_str("fails"),
    }
    reason.push_str(&format!("; {}", waiting(stats.waiting)));
    reason
}

fn waiting(callers: u32) -> String {
    if callers == 0 { "nobody waits".to_owned() } else { counted(callers, "caller waits", "callers wait") }
}

fn counted(n: u32, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// How many pools do, the worst first, and by name among those of the same level. Collected from [`Health`]s; prints as a
/// table.
///
/// # Examples
///
/// ```
/// use millpond::{HealthReport, Pool};
///
/// let open = || Ok::<_, std::io::Error>(());
/// let pools = [Pool::builder(open).name("cache").build()?, Pool::builder(open).name("orders").max_size(1).build()?];
/// let held = pools[1].get()?;
/// let report = HealthReport::of(&pools);
/// assert_eq!(
///     report.to_string(),
///     "warning  orders  1/1 in use  0 idle  0 waiting  the only connection is in use; nobody waits\n\
///      ok       cache   0/10 in use  1 idle  0 waiting\n"
/// );
/// # drop(held);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HealthReport {
    level: HealthLevel,
    pools: Vec<Health>,
}

impl HealthReport {
    /// How these pools do. A pool that is there several times, or a clone of one, is in it once.
    #[must_use]
    pub fn of<'a, M: Manager>(pools: impl IntoIterator<Item = &'a Pool<M>>) -> Self {
        let mut seen = HashSet::new();
        pools.into_iter().filter(|pool| seen.insert(pool.number())).map(Pool::health).collect()
    }

    /// The worst level of all pools; `Ok` where there are none.
    #[must_use]
    pub fn level(&self) -> HealthLevel {
        self.level
    }

    /// The pools, the worst first.
    #[must_use]
    pub fn pools(&self) -> &[Health] {
        &self.pools
    }

    /// Itself as JSON: see the [module](self).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{HealthReport, Pool};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build()?;
    /// let report: HealthReport = [pool.health()].into_iter().collect();
    /// let json: serde_json::Value = serde_json::from_str(&report.to_json())?;
    /// assert_eq!((&json["level"], &json["pools"][0]["pool"]), (&"ok".into(), &"orders".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers, and no map whose keys are not text")
    }
}

impl FromIterator<Health> for HealthReport {
    fn from_iter<T: IntoIterator<Item = Health>>(pools: T) -> Self {
        let mut pools: Vec<Health> = pools.into_iter().collect();
        pools.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.pool.cmp(&b.pool)));
        Self { level: pools.first().map_or(HealthLevel::Ok, |worst| worst.level), pools }
    }
}

impl IntoIterator for HealthReport {
    type Item = Health;
    type IntoIter = std::vec::IntoIter<Health>;

    fn into_iter(self) -> Self::IntoIter {
        self.pools.into_iter()
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

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = self.pools.iter().map(|health| health.level.as_str().len()).max().unwrap_or(0);
        let names = self.pools.iter().map(|health| on_one_line(&health.pool).chars().count()).max().unwrap_or(0);
        self.pools.iter().try_for_each(|health| {
            line(health, levels, names, f)?;
            f.write_str("\n")
        })
    }
}

fn line(health: &Health, levels: usize, names: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Health { level, in_use, max_size, idle, waiting, .. } = health;
    let name = on_one_line(&health.pool);
    write!(f, "{level:levels$}  {name:names$}  {in_use}/{max_size} in use  {idle} idle  {waiting} waiting")?;
    let reasons: Vec<_> = health.warnings.iter().map(|warning| on_one_line(&warning.reason)).collect();
    if reasons.is_empty() { Ok(()) } else { write!(f, "  {}", reasons.join(", ")) }
}

/// A name, or a driver's error, may have line breaks and control characters; a table has neither.
fn on_one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn stats(in_use: u32, max_size: u32, waiting: u32) -> Stats {
        Stats { max_size, in_use, size: in_use, waiting, ..Stats::default() }
    }

    fn kinds(stats: &Stats) -> Vec<(WarningKind, HealthLevel)> {
        Health::of("p", stats).warnings.iter().map(|warning| (warning.kind, warning.level)).collect()
    }

    #[test]
    fn eighty_percent_is_no_warning_and_more_is_one() {
        for (in_use, max) in [(0, 10), (8, 10), (4, 5), (3, 4), (80, 100), (0, 1), (0, 0)] {
            assert_eq!(kinds(&stats(in_use, max, 0)), [], "{in_use} of {max}");
        }
        for (in_use, max) in [(9, 10), (81, 100), (5, 6), (u32::MAX - 1, u32::MAX)] {
            assert_eq!(
                kinds(&stats(in_use, max, 0)),
                [(WarningKind::NearlyFull, HealthLevel::Warning)],
                "{in_use} of {max}"
            );
        }
        assert_eq!(Health::of("p", &stats(9, 10, 0)).warnings[0].reason, "9 of 10 connections are in use (90 %)");
    }

    #[test]
    fn none_left_is_critical_only_when_somebody_waits() {
        assert_eq!(kinds(&stats(10, 10, 0)), [(WarningKind::NoneLeft, HealthLevel::Warning)]);
        assert_eq!(kinds(&stats(10, 10, 7)), [(WarningKind::NoneLeft, HealthLevel::Critical)]);
        let health = Health::of("p", &stats(10, 10, 7));
        assert_eq!((health.level, health.utilisation), (HealthLevel::Critical, 1.0));
        assert_eq!(health.warnings[0].to_string(), "all 10 connections are in use; 7 callers wait");
        // The pool was made smaller while they were out.
        let health = Health::of("p", &stats(10, 3, 1));
        assert_eq!(
            (health.utilisation, health.warnings[0].reason.as_str()),
            (1.0, "all 3 connections are in use; 1 caller waits")
        );
    }

    #[test]
    fn who_waits_is_told_of_whatever_is_in_use() {
        let waiting = stats(2, 10, 8);
        assert_eq!(kinds(&waiting), [(WarningKind::CallersWait, HealthLevel::Warning)]);
        assert_eq!(
            Health::of("p", &waiting).warnings[0].reason,
            "nothing is idle; 2 of 10 connections are in use, 0 on their way; 8 callers wait"
        );
        let used_up = Stats { budget_used_up: Some(2), ..waiting.clone() };
        assert_eq!(kinds(&used_up), [(WarningKind::BudgetUsedUp, HealthLevel::Critical)]);
        assert!(Health::of("p", &used_up).warnings[0].reason.starts_with("the budget of 2 connections"));
        assert_eq!(kinds(&Stats { idle: 1, ..waiting.clone() }), [], "who is just being woken");
        assert_eq!(
            kinds(&Stats { paused: true, ..waiting.clone() }),
            [(WarningKind::Paused, HealthLevel::Warning)],
            "who waits for that is in its reason"
        );
        let silent = Stats { unanswered: SILENCE, connecting: 4, ..waiting };
        assert_eq!(kinds(&silent), [(WarningKind::ServerSilent, HealthLevel::Critical)]);
        assert_eq!(
            kinds(&Stats { idle: 1, waiting: 0, ..silent.clone() }),
            [(WarningKind::ServerSilent, HealthLevel::Warning)]
        );
        let nobody = Stats { waiting: 0, ..silent.clone() };
        assert_eq!(kinds(&nobody), [(WarningKind::ServerSilent, HealthLevel::Warning)], "some are in use");
        let none = Stats { in_use: 0, ..nobody };
        assert_eq!(kinds(&none), [(WarningKind::ServerSilent, HealthLevel::Critical)], "who comes next is not served");
        let almost = Stats { unanswered: SILENCE - Duration::from_millis(1), waiting: 0, ..silent };
        assert_eq!(kinds(&almost), []);
    }

    #[test]
    fn several_things_are_told_the_worst_first() {
        let away = Stats { breaker: Breaker::HalfOpen, paused: true, ..stats(1, 1, 0) };
        assert_eq!(
            kinds(&away),
            [
                (WarningKind::ServerAway, HealthLevel::Critical),
                (WarningKind::NoneLeft, HealthLevel::Warning),
                (WarningKind::Paused, HealthLevel::Warning)
            ]
        );
        let closed = Stats { closed_for_good: true, ..away };
        assert_eq!(kinds(&closed), [(WarningKind::Closed, HealthLevel::Critical)], "the rest does not matter any more");
        assert_eq!(Health::of("p", &closed).warnings[0].reason, "the pool is closed; 1 connection is still in use");
    }

    #[test]
    fn a_table_has_one_line_for_each_pool_whatever_it_is_called() {
        let report: HealthReport =
            ["b\nc\u{1b}[2J", "a"].into_iter().map(|name| Health::of(name, &stats(0, 1, 0))).collect();
        assert_eq!(report.to_string().lines().count(), 2);
        assert!(!report.to_string().contains('\u{1b}'));
        assert_eq!(report.pools()[0].pool, "a");
    }
}
