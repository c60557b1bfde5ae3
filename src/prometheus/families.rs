//! What there is of a pool, and what it is called: by OpenTelemetry where that has a name for it, else `millpond_`.

use super::text::{Family, Samples::*, Value};
use crate::health::HealthLevel;
use crate::stats::Breaker;
use crate::status::PoolStatus;
use std::time::Duration;

/// The label with the pool's name.
pub(super) const POOL: &str = "db_client_connection_pool_name";

pub(super) const ALL: &[Family] = &[
    Family {
        name: "db_client_connection_count",
        help: "Connections by what they do.",
        samples: GaugeBy("db_client_connection_state", |pool| {
            counts([("idle", pool.stats.idle.into()), ("used", pool.stats.in_use.into())])
        }),
    },
    Family {
        name: "db_client_connection_idle_max",
        help: "The most connections that may lie idle.",
        samples: Gauge(|pool| pool.stats.max_size.into()),
    },
    Family {
        name: "db_client_connection_idle_min",
        help: "How many connections are kept idle.",
        samples: Gauge(|pool| pool.stats.min_idle.into()),
    },
    Family {
        name: "db_client_connection_max",
        help: "The most connections there may be.",
        samples: Gauge(|pool| pool.stats.max_size.into()),
    },
    Family {
        name: "db_client_connection_pending_requests",
        help: "Callers that wait for a connection.",
        samples: Gauge(|pool| pool.stats.waiting.into()),
    },
    Family {
        name: "db_client_connection_timeouts_total",
        help: "Callers whose deadline passed.",
        samples: Counter(|pool| pool.stats.timeouts.into()),
    },
    Family {
        name: "db_client_connection_create_time_seconds",
        help: "How long opening a connection took, where it succeeded.",
        samples: Histogram(|pool| &pool.stats.connect_time),
    },
    Family {
        name: "db_client_connection_wait_time_seconds",
        help: "How long those waited who had to, whether they got a connection or not.",
        samples: Histogram(|pool| &pool.stats.wait_time),
    },
    Family {
        name: "db_client_connection_use_time_seconds",
        help: "How long connections were borrowed, where that is measured (use_times, or an event handler).",
        samples: Histogram(|pool| &pool.stats.use_time),
    },
    Family {
        name: "millpond_connections",
        help: "Connections that are open: idle, in use, being checked and being closed.",
        samples: Gauge(|pool| pool.stats.size.into()),
    },
    Family {
        name: "millpond_connecting",
        help: "Connections that are being opened.",
        samples: Gauge(|pool| pool.stats.connecting.into()),
    },
    Family {
        name: "millpond_checking",
        help: "Connections whose check is under way.",
        samples: Gauge(|pool| pool.stats.checking.into()),
    },
    Family {
        name: "millpond_oldest_wait_seconds",
        help: "For how long the first of those who wait has waited.",
        samples: Gauge(|pool| pool.stats.oldest_wait.into()),
    },
    Family {
        name: "millpond_unanswered_seconds",
        help: "For how long the server has left an attempt to connect, or a check, without an answer.",
        samples: Gauge(|pool| pool.stats.unanswered.into()),
    },
    Family {
        name: "millpond_longest_lease_seconds",
        help: "For how long the connection that is borrowed for longest has been.",
        samples: Gauge(|pool| pool.holders.first().map_or(Duration::ZERO, |lease| lease.held()).into()),
    },
    Family {
        name: "millpond_server_away",
        help: "1 while connecting fails.",
        samples: Gauge(|pool| (pool.stats.breaker != Breaker::Closed).into()),
    },
    Family {
        name: "millpond_paused",
        help: "1 while the pool is paused.",
        samples: Gauge(|pool| pool.stats.paused.into()),
    },
    Family {
        name: "millpond_closed",
        help: "1 when the pool is closed for good.",
        samples: Gauge(|pool| pool.stats.closed_for_good.into()),
    },
    Family {
        name: "millpond_budget_used_up",
        help: "1 while callers wait and all of the budget that the pool shares is used.",
        samples: Gauge(|pool| pool.stats.budget_used_up.is_some().into()),
    },
    Family {
        name: "millpond_health_level",
        help: "How the pool does: 0 ok, 1 warning, 2 critical.",
        samples: Gauge(|pool| level(pool.health.level)),
    },
    Family {
        name: "millpond_connections_opened_total",
        help: "Connections that were opened.",
        samples: Counter(|pool| pool.stats.opened.into()),
    },
    Family {
        name: "millpond_connections_closed_total",
        help: "Connections that were closed, by reason.",
        samples: CounterBy("reason", closed),
    },
    Family {
        name: "millpond_connect_failures_total",
        help: "Attempts to open a connection that failed.",
        samples: Counter(|pool| pool.stats.connect_failures.into()),
    },
    Family {
        name: "millpond_checks_total",
        help: "Checks of connections, by result.",
        samples: CounterBy("result", |pool| {
            let failed = pool.stats.check_failures;
            counts([("passed", pool.stats.checks.saturating_sub(failed)), ("failed", failed)])
        }),
    },
    Family {
        name: "millpond_checkouts_total",
        help: "Connections that were lent.",
        samples: Counter(|pool| pool.stats.checkouts.into()),
    },
    Family {
        name: "millpond_waits_total",
        help: "Checkouts and failures that had to wait.",
        samples: Counter(|pool| pool.stats.waits.into()),
    },
    Family {
        name: "millpond_late_total",
        help: "Callers that waited for longer than the target of a size that adapts.",
        samples: Counter(|pool| pool.stats.late.into()),
    },
    Family {
        name: "millpond_overloads_total",
        help: "Callers turned away because too many waited.",
        samples: Counter(|pool| pool.stats.overloads.into()),
    },
    Family {
        name: "millpond_fast_failures_total",
        help: "Callers that failed at once, or were sent to another pool, because the server was away.",
        samples: Counter(|pool| pool.stats.fast_failures.into()),
    },
    Family {
        name: "millpond_resizes_total",
        help: "How often the maximum was changed, by direction.",
        samples: CounterBy("direction", |pool| counts([("grown", pool.stats.grown), ("shrunk", pool.stats.shrunk)])),
    },
    Family {
        name: "millpond_panics_total",
        help: "Panics in callbacks.",
        samples: Counter(|pool| pool.stats.panics.into()),
    },
];

fn counts<const N: usize>(counts: [(&str, u64); N]) -> Vec<(String, u64)> {
    counts.map(|(of, count)| (of.to_owned(), count)).into()
}

fn closed(pool: &PoolStatus) -> Vec<(String, u64)> {
    pool.stats.closed.each().map(|(reason, count)| (reason.as_str().to_owned(), count)).collect()
}

fn level(level: HealthLevel) -> Value {
    Value::Count(match level {
        HealthLevel::Ok => 0,
        HealthLevel::Warning => 1,
        HealthLevel::Critical => 2,
    })
}
