//! The names of HikariCP, as Micrometer gives them. What differs is told in the documentation of the module.

use super::text::{Family, Samples::*};
use crate::stats::{Distribution, Stats};
use std::time::Duration;

/// The label with the pool's name.
pub(super) const POOL: &str = "pool";

pub(super) const ALL: &[Family] = &[
    Family {
        name: "hikaricp_connections",
        help: "Connections that are open.",
        samples: Gauge(|pool| pool.stats.size.into()),
    },
    Family {
        name: "hikaricp_connections_active",
        help: "Connections that are borrowed.",
        samples: Gauge(|pool| pool.stats.in_use.into()),
    },
    Family {
        name: "hikaricp_connections_idle",
        help: "Connections that wait to be borrowed.",
        samples: Gauge(|pool| pool.stats.idle.into()),
    },
    Family {
        name: "hikaricp_connections_pending",
        help: "Callers that wait for a connection.",
        samples: Gauge(|pool| pool.stats.waiting.into()),
    },
    Family {
        name: "hikaricp_connections_max",
        help: "The most connections there may be.",
        samples: Gauge(|pool| pool.stats.max_size.into()),
    },
    Family {
        name: "hikaricp_connections_min",
        help: "How many connections are kept idle.",
        samples: Gauge(|pool| pool.stats.min_idle.into()),
    },
    Family {
        name: "hikaricp_connections_timeout_total",
        help: "Callers whose deadline passed.",
        samples: Counter(|pool| pool.stats.timeouts.into()),
    },
    Family {
        name: "hikaricp_connections_acquire_seconds",
        help: "How long callers waited; those who did not have to count as zero.",
        samples: Summary(|pool| acquired(&pool.stats)),
    },
    Family {
        name: "hikaricp_connections_acquire_seconds_max",
        help: "The longest wait since the pool was built.",
        samples: Gauge(|pool| pool.stats.wait_time.max().into()),
    },
    Family {
        name: "hikaricp_connections_usage_seconds",
        help: "How long connections were borrowed, where that is measured.",
        samples: Summary(|pool| whole(&pool.stats.use_time)),
    },
    Family {
        name: "hikaricp_connections_usage_seconds_max",
        help: "The longest time that one was borrowed since the pool was built.",
        samples: Gauge(|pool| pool.stats.use_time.max().into()),
    },
    Family {
        name: "hikaricp_connections_creation_seconds",
        help: "How long opening a connection took.",
        samples: Summary(|pool| whole(&pool.stats.connect_time)),
    },
    Family {
        name: "hikaricp_connections_creation_seconds_max",
        help: "The longest time that opening one took since the pool was built.",
        samples: Gauge(|pool| pool.stats.connect_time.max().into()),
    },
];

/// HikariCP measures every checkout. Here those that found an idle connection are not timed, and took less than a microsecond.
fn acquired(stats: &Stats) -> (u64, Duration) {
    (stats.checkouts + stats.timeouts, stats.wait_time.sum())
}

fn whole(times: &Distribution) -> (u64, Duration) {
    (times.count(), times.sum())
}
