//! The numbers of pools as text for Prometheus, without any exporter: [`render_prometheus`] makes the body of an answer to
//! `GET /metrics`.
//!
//! # Examples
//!
//! ```
//! use millpond::{Pool, prometheus, render_prometheus};
//!
//! let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(4).build()?;
//! let held = pool.get()?;
//! let body = render_prometheus([&pool]); // with the header `Content-Type: ` and `prometheus::CONTENT_TYPE`
//! let used = r#"db_client_connection_count{db_client_connection_pool_name="orders",db_client_connection_state="used"} 1"#;
//! assert!(body.lines().any(|line| line == used), "{body}");
//! # assert!(prometheus::CONTENT_TYPE.starts_with("text/plain; version=0.0.4"));
//! # drop(held);
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! A program that has metrics of its own appends this to them. Not, however, to what an exporter makes of the feature `metrics` or of
//! OpenTelemetry for the same pools: no series may be there twice.
//!
//! # Families
//!
//! What OpenTelemetry has a name for has that name, in its translation for Prometheus; all else begins with `millpond_`. Each
//! sample has the label `db_client_connection_pool_name`. Times are in seconds, and counters count from when the pool was built.
//!
//! | family | type | [`Stats`](crate::Stats) |
//! |---|---|---|
//! | `db_client_connection_count` | gauge, `db_client_connection_state`: `idle`, `used` | `idle`, `in_use` |
//! | `db_client_connection_idle_max` | gauge | `max_size`: all may lie idle |
//! | `db_client_connection_idle_min` | gauge | `min_idle` |
//! | `db_client_connection_max` | gauge | `max_size` |
//! | `db_client_connection_pending_requests` | gauge | `waiting` |
//! | `db_client_connection_timeouts_total` | counter | `timeouts` |
//! | `db_client_connection_create_time_seconds` | histogram | `connect_time`: only attempts that succeeded |
//! | `db_client_connection_wait_time_seconds` | histogram | `wait_time`: only those who had to wait, whether they got a connection or not |
//! | `db_client_connection_use_time_seconds` | histogram | `use_time`: zeros, unless [`Builder::use_times`](crate::Builder::use_times) is on or the pool has an event handler |
//! | `millpond_connections` | gauge | `size`: idle, in use, being checked and being closed |
//! | `millpond_connecting` | gauge | `connecting` |
//! | `millpond_checking` | gauge | `checking` |
//! | `millpond_oldest_wait_seconds` | gauge | `oldest_wait` |
//! | `millpond_unanswered_seconds` | gauge | `unanswered` |
//! | `millpond_longest_lease_seconds` | gauge | none: the first of [`Pool::holders`](crate::Pool::holders) |
//! | `millpond_server_away` | gauge, 0 or 1 | `breaker`: 1 where it is open or half open |
//! | `millpond_paused` | gauge, 0 or 1 | `paused` |
//! | `millpond_closed` | gauge, 0 or 1 | `closed_for_good` |
//! | `millpond_budget_used_up` | gauge, 0 or 1 | `budget_used_up` |
//! | `millpond_health_level` | gauge | none: [`Health::level`](crate::Health::level), 0 ok, 1 warning, 2 critical |
//! | `millpond_connections_opened_total` | counter | `opened` |
//! | `millpond_connections_closed_total` | counter, `reason`: all of [`CloseReason`](crate::CloseReason), as `idle_timeout` | `closed` |
//! | `millpond_connect_failures_total` | counter | `connect_failures` |
//! | `millpond_checks_total` | counter, `result`: `passed`, `failed` | `checks`, `check_failures` |
//! | `millpond_checkouts_total` | counter | `checkouts` |
//! | `millpond_waits_total` | counter | `waits` |
//! | `millpond_late_total` | counter | `late` |
//! | `millpond_overloads_total` | counter | `overloads` |
//! | `millpond_fast_failures_total` | counter | `fast_failures` |
//! | `millpond_resizes_total` | counter, `direction`: `grown`, `shrunk` | `grown`, `shrunk` |
//! | `millpond_panics_total` | counter | `panics` |
//!
//! **Buckets.** The histograms have one bucket an octave, from 16 µs to 67 s, always the same: a series that is there once stays,
//! whatever happens. The bounds are ends of buckets in which the pool counts, so no number is interpolated; a time that is exactly
//! a bound counts above it, not below as Prometheus would have it. The bounds are two to a power of microseconds (1.048576 s and not
//! 1 s), so a quantile that Prometheus makes of them lies within the right octave and no nearer;
//! [`Distribution::quantile`](crate::Distribution::quantile) knows it four times as exactly.
//!
//! **Names.** Give each pool a name of its own, and one that stays ([`Builder::name`](crate::Builder::name)): without, it is
//! `pool-1` and so on, in the order in which the pools were built. Namesakes are told apart as by
//! [`Status::of`](crate::Status::of), by age. Passwords are taken out of names. A pool whose name is empty has no such
//! label as far as Prometheus is concerned.
//!
//! # What it costs
//!
//! | pools | time | text |
//! |---:|---:|---:|
//! | 1 | 18 µs | 15 kB |
//! | 100 | 0.7 ms | 1.2 MB |
//! | 1,000 | 17 ms | 12 MB |
//!
//! That is the median of many on two cores of a shared machine, and the names of HikariCP are a tenth on top. Measure yours with
//! `cargo test --release -p millpond --test prometheus -- --ignored --nocapture`. Much of a text is the same from scrape to scrape,
//! so compress it where your server can. Nobody who borrows waits for it. The series are what costs Prometheus: 121 for each pool, 78 of them of the three histograms. With
//! thousands of pools, drop what you do not look at in `metric_relabel_configs`.
//!
//! # Dashboards for HikariCP
//!
//! [`Exposition::hikaricp`] adds the names under which Micrometer tells of HikariCP, with the label `pool`, so that dashboards made
//! for it light up (Grafana's 6083, 20729 and 6756):
//!
//! | family | type | here |
//! |---|---|---|
//! | `hikaricp_connections` | gauge | `size` |
//! | `hikaricp_connections_active` | gauge | `in_use` |
//! | `hikaricp_connections_idle` | gauge | `idle` |
//! | `hikaricp_connections_pending` | gauge | `waiting` |
//! | `hikaricp_connections_max` | gauge | `max_size` |
//! | `hikaricp_connections_min` | gauge | `min_idle` |
//! | `hikaricp_connections_timeout_total` | counter | `timeouts` |
//! | `hikaricp_connections_acquire_seconds` | summary | count: checkouts and time-outs; sum: what was waited |
//! | `hikaricp_connections_acquire_seconds_max` | gauge | the longest wait |
//! | `hikaricp_connections_usage_seconds` | summary | `use_time`, with `use_times` or an event handler |
//! | `hikaricp_connections_usage_seconds_max` | gauge | its longest |
//! | `hikaricp_connections_creation_seconds` | summary | `connect_time` |
//! | `hikaricp_connections_creation_seconds_max` | gauge | its longest |
//!
//! They are not quite the same. The maxima are those since the pool was built, where Micrometer's fade after minutes: a panel of
//! them shows the worst ever. HikariCP measures each checkout to the nanosecond; here a connection that was idle counts
//! as no wait at all, so the mean of `acquire` is right to about a microsecond, and its maximum is of those who waited. Callers that
//! were turned away without a wait are in none of them. Dashboards that select by the labels of Spring (`application`, `instance`)
//! need these from the scrape configuration. What HikariCP's own tracker for Prometheus says (Grafana's 17313) has other names, and
//! is not made.

mod families;
mod hikaricp;
mod text;

use crate::status::{Observe, Status};
use text::Writer;

/// What an answer with this text is to say in its header `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The numbers of all these pools as text for Prometheus: see the [module](self). Empty where there are no pools.
///
/// Takes pools of whatever kinds, as [`Status::of`] does, and like it has one that is there several times once.
///
/// # Examples
///
/// ```
/// use millpond::{Observe, Pool, render_prometheus};
///
/// let orders = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build()?;
/// let cache = Pool::builder(|| Ok::<_, std::io::Error>(0_u8)).name("cache").build()?;
/// let pools: [&dyn Observe; 2] = [&orders, &cache]; // connections of different types
/// let body = render_prometheus(pools);
/// assert!(body.contains(r#"db_client_connection_max{db_client_connection_pool_name="cache"} 10"#));
/// assert_eq!(body.matches("# TYPE db_client_connection_max gauge").count(), 1, "once for both");
/// # Ok::<(), millpond::Error>(())
/// ```
#[must_use]
pub fn render_prometheus<'a, P: Observe + ?Sized + 'a>(pools: impl IntoIterator<Item = &'a P>) -> String {
    Exposition::new().render(pools)
}

/// What is rendered, and how.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, prometheus::Exposition};
///
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build()?;
/// let both = Exposition::new().hikaricp(true);
/// assert!(both.render([&pool]).contains(r#"hikaricp_connections_max{pool="orders"} 10"#));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Exposition {
    hikaricp: bool,
}

impl Exposition {
    /// What [`render_prometheus`] renders.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to add what the numbers are called for HikariCP: see [there](self#dashboards-for-hikaricp). Default: no.
    #[must_use]
    pub fn hikaricp(mut self, add: bool) -> Self {
        self.hikaricp = add;
        self
    }

    /// The numbers of all these pools as text for Prometheus.
    #[must_use]
    pub fn render<'a, P: Observe + ?Sized + 'a>(self, pools: impl IntoIterator<Item = &'a P>) -> String {
        let status = Status::of(pools);
        let mut writer = Writer::new(status.pools());
        writer.families(families::POOL, families::ALL);
        if self.hikaricp {
            writer.families(hikaricp::POOL, hikaricp::ALL);
        }
        writer.finish()
    }
}
