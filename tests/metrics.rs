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

/// What the recorder has heard, by name and labels; of histograms all that it has been told so far, sorted.
#[derive(Default)]
struct Heard {
    values: BTreeMap<String, f64>,
    times: BTreeMap<String, Vec<f64>>,
}

impl Heard {
    fn listen(&mut self, snapshotter: &Snapshotter) {
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{}{{{}}}", key.key().name(), labels.join(","));
            match value {
                DebugValue::Counter(total) => _ = self.values.insert(name, total as f64),
                DebugValue::Gauge(value) => _ = self.values.insert(name, value.into_inner()),
                DebugValue::Histogram(values) => {
                    let times = self.times.entry(name).or_default();
                    times.extend(values.into_iter().map(|value| value.into_inner()));
                    times.sort_by(f64::total_cmp);
                }
            }
        }
    }

    /// A counter or gauge of `orders`, with a further label.
    fn of(&self, name: &str, label: &str) -> Option<f64> {
        self.values.get(&format!("{name}{{db.client.connection.pool.name=orders{label}}}")).copied()
    }

    fn times(&self, name: &str) -> &[f64] {
        let name = format!("db.client.connection.{name}{{db.client.connection.pool.name=orders}}");
        self.times.get(&name).map_or(&[], Vec::as_slice)
    }
}

#[test]
fn a_recorder_that_is_installed_after_the_pool_was_used_gets_everything_and_the_end_of_it_once() -> Result<(), Error> {
    let (lab, clock, metrics) = (Lab::new(), HandClock::new(), Arc::new(Metrics::new().every(SECOND)));
    let build = |name: &str| {
        let builder = Pool::builder(lab.manager()).name(name).max_size(2).min_idle(1).clock(clock.clone());
        let builder = builder.use_times(true).maintenance(Maintenance::Manual);
        builder.event_handler(Arc::clone(&metrics)).build()
    };
    let (orders, cache) = (build("orders")?, build("cache")?);
    for _ in 0..3 {
        drop(orders.get()?);
    }
    orders.maintain();

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("nobody else records here");
    let mut heard = Heard::default();
    let held = orders.get_many(2)?;
    orders.get_timeout(Duration::ZERO).expect_err("both are borrowed");
    clock.advance(SECOND);
    orders.maintain();
    cache.maintain();
    heard.listen(&snapshotter);
    let connection = |name: &str, label: &str| heard.of(&format!("db.client.connection.{name}"), label);
    assert_eq!(connection("count", ",db.client.connection.state=used"), Some(2.0));
    assert_eq!(connection("count", ",db.client.connection.state=idle"), Some(0.0));
    assert_eq!((connection("max", ""), connection("idle.max", "")), (Some(2.0), Some(2.0)));
    assert_eq!((connection("idle.min", ""), connection("pending_requests", "")), (Some(1.0), Some(0.0)));
    assert_eq!(connection("timeouts", ""), Some(1.0));
    assert_eq!(heard.of("millpond.checkouts", ""), Some(5.0), "those before the recorder came, too");
    assert_eq!(heard.of("millpond.opened", ""), Some(2.0));
    let other = heard.values.get("millpond.opened{db.client.connection.pool.name=cache}");
    assert_eq!(other, Some(&1.0), "each pool has its own");

    clock.advance(4 * SECOND);
    drop(held);
    orders.maintain();
    heard.listen(&snapshotter);
    let uses = heard.times("use_time").to_vec();
    assert_eq!(uses.len(), 2, "the three before the recorder came are gone");
    assert!(uses.iter().all(|seconds| (4.4..5.6).contains(seconds)), "5 s to an eighth: {uses:?}");
    assert_eq!(heard.times("wait_time").len(), 2, "who timed out, and who had the second one opened");

    let held = orders.get()?;
    orders.close();
    PooledConnection::discard(held);
    heard.listen(&snapshotter);
    for reason in ["pool_closed", "discarded"] {
        assert_eq!(heard.of("millpond.closed", &format!(",reason={reason}")), Some(1.0), "{reason}");
    }
    assert_eq!(heard.of("db.client.connection.count", ",db.client.connection.state=idle"), Some(0.0));
    assert_eq!(heard.of("db.client.connection.count", ",db.client.connection.state=used"), Some(0.0));
    assert_eq!(heard.times("use_time").len(), 3, "nothing is told twice at the end");

    let again = build("orders")?;
    drop(again.get()?);
    drop(again.get()?);
    clock.advance(SECOND);
    again.maintain();
    heard.listen(&snapshotter);
    assert_eq!(heard.of("millpond.checkouts", ""), Some(8.0), "it goes on where the one before has ended");
    assert_eq!(heard.times("use_time").len(), 5);
    Ok(())
}
