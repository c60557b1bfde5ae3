//! What operators ask for. Nothing here borrows a connection, so it is answered also when all of them are in use.

use crate::http::Answer;
use crate::site::Site;
use millpond::health::{HealthLevel, WarningKind};
use millpond::{HealthReport, PoolStatus, Status, prometheus, render_prometheus, status};
use std::time::Duration;

/// For the probe of a load balancer: 503 takes the server out of service.
///
/// Critical is what a pool says when all of its connections are in use and somebody waits. For the one writer that is how it
/// works: whoever waits for half a millisecond is seen there. It counts as down once the oldest has waited for a quarter of the
/// deadline. Anything else that is critical counts at once.
pub(crate) fn health(site: &Site) -> Answer {
    let status = Status::of([site.pool()]);
    let down = site.work().is_closed() || status.pools().iter().any(|pool| is_down(pool, site.deadline() / 4));
    let report: HealthReport = status.pools().iter().map(|pool| pool.health.clone()).collect();
    fresh(if down { 503 } else { 200 }, "application/json", report.to_json())
}

fn is_down(pool: &PoolStatus, patience: Duration) -> bool {
    let mut critical = pool.health.warnings.iter().filter(|warning| warning.level == HealthLevel::Critical);
    critical.any(|warning| warning.kind != WarningKind::NoneLeft || pool.stats.oldest_wait >= patience)
}

pub(crate) fn metrics(site: &Site) -> Answer {
    fresh(200, prometheus::CONTENT_TYPE, render_prometheus([site.pool()]))
}

pub(crate) fn pools(site: &Site) -> Answer {
    fresh(200, "application/json", Status::of([site.pool()]).to_json())
}

pub(crate) fn status(_: &Site) -> Answer {
    fresh(200, "text/html; charset=utf-8", status::page("/pools.json"))
        .with("Content-Security-Policy", status::CONTENT_SECURITY_POLICY)
}

/// No cache may keep it.
fn fresh(status: u16, kind: &str, body: String) -> Answer {
    Answer::new(status, kind, body).with("Cache-Control", "no-store")
}
