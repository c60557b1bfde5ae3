//! The `metrics` facade. One test, because a process has one recorder.

mod support;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use millpond::metrics::Metrics;
use millpond::testing::HandClock;
use millpond::{Error, Maintenance, Pool, PooledConnection};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use support::Lab;

const SECOND: Duration = Duration::from_secs(1);

/// What the recorder has heard, by name and labels; of histograms how many, and since the last time only.
fn heard(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    all.map(|(key, _, _, value)| {
        let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(total) => total as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        (format!("{}{{{}}}", key.key().name(), labels.join(",")), value)
    })
    .collect()
}

#[test]
fn a_recorder_that_is_installed_after_the_pool_was_used_gets_everything_and_the_end_of_it() -> Result<(), Error> {
    let (lab, clock, metrics) = (Lab::new(), HandClock::new(), Arc::new(Metrics::new().every(SECOND)));
    let build = |name: &str| {
        let builder =
            Pool::builder(lab.manager()).name(name).max_size(2).min_idle(1).use_times(true).clock(clock.clone());
        builder.maintenance(Maintenance::Manual).event_handler(Arc::clone(&metrics)).build()
    };
    let (orders, cache) = (build("orders")?, build("cache")?);
    for _ in 0..3 {
        drop(orders.get()?);
    }
    orders.maintain();

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("nobody else records here");
    let held = orders.get_many(2)?;
    assert!(orders.try_get().is_none());
    clock.advance(SECOND);
    orders.maintain();
    cache.maintain();
    let now = heard(&snapshotter);
    let of = |name: &str| now.get(name).copied();
    let pool = "db.client.connection.pool.name=orders";
    assert_eq!(of(&format!("db.client.connection.count{{{pool},db.client.connection.state=used}}")), Some(2.0));
    assert_eq!(of(&format!("db.client.connection.count{{{pool},db.client.connection.state=idle}}")), Some(0.0));
    assert_eq!(of(&format!("db.client.connection.max{{{pool}}}")), Some(2.0));
    assert_eq!(of(&format!("db.client.connection.idle.min{{{pool}}}")), Some(1.0));
    assert_eq!(of(&format!("db.client.connection.pending_requests{{{pool}}}")), Some(0.0));
    assert_eq!(of(&format!("millpond.checkouts{{{pool}}}")), Some(5.0), "those before the recorder came, too");
    assert_eq!(of(&format!("millpond.opened{{{pool}}}")), Some(2.0));
    assert_eq!(of("millpond.opened{db.client.connection.pool.name=cache}"), Some(1.0), "each pool has its own");

    drop(held);
    clock.advance(SECOND);
    orders.maintain();
    let now = heard(&snapshotter);
    assert_eq!(now.get(&format!("db.client.connection.use_time{{{pool}}}")), Some(&2.0), "since the last time");
    assert_eq!(now.get(&format!("db.client.connection.wait_time{{{pool}}}")), Some(&0.0), "nobody waited");

    let held = orders.get()?;
    orders.close();
    PooledConnection::discard(held);
    let now = heard(&snapshotter);
    for reason in ["pool_closed", "discarded"] {
        assert_eq!(now.get(&format!("millpond.closed{{{pool},reason={reason}}}")), Some(&1.0), "{reason}");
    }
    assert_eq!(now.get(&format!("db.client.connection.count{{{pool},db.client.connection.state=idle}}")), Some(&0.0));
    Ok(())
}
