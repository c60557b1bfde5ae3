//! The numbers are those of pools that are really used.

use crate::scrape::Scrape;
use crate::support::{LONG, Lab, come_to_rest, eventually};
use millpond::prometheus::Exposition;
use millpond::testing::HandClock;
use millpond::{Maintenance, Pool, PooledConnection, Validation, WhenDown, render_prometheus};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

fn scrape(pool: &impl millpond::Observe) -> Scrape {
    Scrape::read(&Exposition::new().hikaricp(true).render([pool]))
}

const NOW: Duration = Duration::from_millis(1);

#[test]
fn checkouts_time_outs_and_closes_are_counted() {
    let lab = Lab::new();
    let pool =
        Pool::builder(lab.manager()).name("orders").max_size(3).min_idle(2).use_times(true).build().expect("it opens");
    for _ in 0..40 {
        drop(pool.get().expect("there are three"));
    }
    let mut held = pool.get_many(3).expect("there are three");
    for _ in 0..5 {
        pool.get_timeout(NOW).expect_err("none is left");
    }
    PooledConnection::mark_broken(&mut held[0]);
    PooledConnection::discard(held.remove(1));
    drop(held.remove(0));
    eventually("both are closed", || pool.stats().closed == 2);
    come_to_rest(&pool);

    let scrape = scrape(&pool);
    for (name, label, value) in [
        ("millpond_checkouts_total", "", 43.0),
        ("db_client_connection_timeouts_total", "", 5.0),
        ("millpond_connections_closed_total", r#"reason="broken""#, 1.0),
        ("millpond_connections_closed_total", r#"reason="discarded""#, 1.0),
        ("millpond_connections_closed_total", r#"reason="idle_timeout""#, 0.0),
        ("millpond_connections_closed_total", r#"reason="pool_closed""#, 0.0),
        ("db_client_connection_count", r#"db_client_connection_state="used""#, 1.0),
        ("db_client_connection_max", "", 3.0),
        ("db_client_connection_idle_max", "", 3.0),
        ("db_client_connection_idle_min", "", 2.0),
        ("db_client_connection_pending_requests", "", 0.0),
        ("db_client_connection_use_time_seconds_count", "", 42.0),
        ("millpond_connect_failures_total", "", 0.0),
        ("millpond_server_away", "", 0.0),
        ("millpond_paused", "", 0.0),
    ] {
        assert_eq!(scrape.orders(name, label), value, "{name} {label}");
    }
    let stats = pool.stats();
    assert_eq!(scrape.orders("millpond_connections_opened_total", ""), stats.opened as f64);
    assert_eq!(scrape.orders("millpond_connections", ""), f64::from(stats.size));
    assert_eq!(scrape.orders("millpond_waits_total", ""), stats.waits as f64);
    assert_eq!(
        scrape.orders("db_client_connection_count", r#"db_client_connection_state="idle""#),
        f64::from(stats.idle)
    );
    let closed: Vec<_> = scrape.series().filter(|(s, _)| s.starts_with("millpond_connections_closed_total")).collect();
    assert_eq!(closed.len(), stats.closed.each().count(), "all reasons, also those for which none was closed");

    let hikari = |name: &str| scrape.get(&format!(r#"hikaricp_connections{name}{{pool="orders"}}"#));
    assert_eq!((hikari("_active"), hikari("_max"), hikari("_min"), hikari("_pending")), (1.0, 3.0, 2.0, 0.0));
    assert_eq!((hikari(""), hikari("_idle")), (f64::from(stats.size), f64::from(stats.idle)));
    assert_eq!((hikari("_timeout_total"), hikari("_acquire_seconds_count")), (5.0, 48.0));
    assert_eq!(hikari("_acquire_seconds_sum"), stats.wait_time.sum().as_secs_f64());
    assert_eq!(hikari("_acquire_seconds_max"), stats.wait_time.max().as_secs_f64());
    assert!(hikari("_acquire_seconds_sum") >= 0.005 && hikari("_acquire_seconds_max") >= 0.001);
    assert_eq!(hikari("_usage_seconds_count"), 42.0);
    assert_eq!(hikari("_usage_seconds_max"), stats.use_time.max().as_secs_f64());
    assert_eq!(hikari("_creation_seconds_count"), stats.opened as f64);
}

#[test]
fn buckets_are_cumulative_end_in_the_count_and_agree_with_the_pools_own() {
    let clock = HandClock::new();
    let pool = Pool::builder(|| Ok::<_, std::io::Error>(()))
        .name("orders")
        .max_size(1)
        .use_times(true)
        .maintenance(Maintenance::Manual)
        .clock(clock.clone())
        .build()
        .expect("it opens");
    // Each in another octave, one below all bounds, and one above them.
    let held = [1, 20, 100, 1_000, 3_000, 1_000_000, 1_048_575, 200_000_000].map(Duration::from_micros);
    for held in held {
        let conn = pool.get().expect("one is there");
        clock.advance(held);
        drop(conn);
    }
    let scrape = scrape(&pool);
    let family = "db_client_connection_use_time_seconds";
    let buckets = scrape.buckets(family);
    let bounds: Vec<_> = (4..=26).map(|n| f64::from(1 << n) / 1e6).chain([f64::INFINITY]).collect();
    assert_eq!(buckets.iter().map(|(bound, _)| *bound).collect::<Vec<_>>(), bounds);
    for &(bound, below) in &buckets {
        let exact = held.iter().filter(|held| held.as_secs_f64() < bound).count();
        assert_eq!(below, exact as f64, "below {bound} s");
    }
    assert_eq!(scrape.orders(&format!("{family}_count"), ""), 8.0);
    let sum: Duration = held.iter().sum();
    assert_eq!(scrape.orders(&format!("{family}_sum"), ""), sum.as_secs_f64());

    let times = pool.stats().use_time;
    for (bound, below) in buckets.iter().filter(|(bound, _)| bound.is_finite()) {
        let own = times.cumulative().find(|(end, _)| end.as_secs_f64() == *bound);
        assert!(own.is_none_or(|(_, n)| n as f64 == *below), "{bound} s is the end of a bucket of the pool");
        assert!(own.is_some() || *bound > 67.0, "{bound} s: no bucket of the pool ends there");
    }
}

#[test]
fn the_same_series_are_there_before_and_after_use() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).name("orders").max_size(1).use_times(true).build_lazy().expect("settings");
    let names = |scrape: &Scrape| scrape.series().map(|(series, _)| series.to_owned()).collect::<Vec<_>>();
    let before = scrape(&pool);
    let held = pool.get().expect("one");
    pool.get_timeout(NOW).expect_err("none is left");
    drop(held);
    pool.close_and_wait(LONG).expect("all came back");
    let after = scrape(&pool);
    assert_eq!(names(&before), names(&after));
    assert!(before.series().zip(after.series()).any(|(one, other)| one != other), "though not their values");
    assert_eq!((before.orders("millpond_closed", ""), after.orders("millpond_closed", "")), (0.0, 1.0));
    assert_eq!(after.orders("millpond_health_level", ""), 2.0);
    assert_eq!(after.orders("millpond_connections_closed_total", r#"reason="pool_closed""#), 1.0);
}

#[test]
fn use_times_are_counted_only_where_they_are_measured() {
    let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build().expect("it opens");
    drop(pool.get().expect("one"));
    let scrape = scrape(&pool);
    assert_eq!(scrape.orders("db_client_connection_use_time_seconds_count", ""), 0.0);
    assert_eq!(scrape.orders("db_client_connection_create_time_seconds_count", ""), 1.0);
}

#[test]
fn who_waits_and_who_holds_is_seen() {
    let pool =
        Pool::builder(Lab::new().manager()).name("orders").max_size(1).max_waiting(Some(1)).build().expect("it opens");
    let held = pool.get().expect("one");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.get_timeout(LONG).map(drop));
        eventually("it waits", || pool.stats().oldest_wait >= 20 * NOW);
        pool.get_timeout(LONG).expect_err("one waits already");
        let scrape = scrape(&pool);
        assert_eq!(scrape.orders("db_client_connection_pending_requests", ""), 1.0);
        assert!(scrape.orders("millpond_oldest_wait_seconds", "") >= 0.02);
        assert!(scrape.orders("millpond_longest_lease_seconds", "") >= 0.01);
        assert_eq!(scrape.orders("millpond_overloads_total", ""), 1.0);
        assert_eq!(scrape.orders("millpond_health_level", ""), 2.0);
        drop(held);
        waiter.join().expect("no panic").expect("one came back");
    });
    let scrape = scrape(&pool);
    assert_eq!(scrape.orders("millpond_oldest_wait_seconds", ""), 0.0);
    assert_eq!(scrape.orders("millpond_longest_lease_seconds", ""), 0.0);
    assert_eq!(scrape.orders("db_client_connection_wait_time_seconds_count", ""), pool.stats().waits as f64);
}

#[test]
fn an_outage_is_seen_and_so_is_its_end() {
    let lab = Lab::new();
    let build = Pool::builder(lab.manager()).name("orders").when_down(WhenDown::FailFast);
    let pool = build.build_lazy().expect("good settings");
    lab.refuse.store(true, SeqCst);
    pool.get().expect_err("the server refuses");
    pool.get().expect_err("and nobody asks it again");
    let away = scrape(&pool);
    assert_eq!(away.orders("millpond_server_away", ""), 1.0);
    assert!(away.orders("millpond_connect_failures_total", "") >= 1.0);
    assert!(away.orders("millpond_fast_failures_total", "") >= 1.0);
    lab.refuse.store(false, SeqCst);
    eventually("it is back", || pool.get().is_ok());
    assert_eq!(scrape(&pool).orders("millpond_server_away", ""), 0.0);
}

#[test]
fn checks_pauses_resizes_and_panics_are_counted() {
    let lab = Lab::new();
    let build = Pool::builder(lab.manager()).name("orders").max_size(4).validation(Validation::Always);
    let clock = HandClock::new();
    let pool = build.maintenance(Maintenance::Manual).clock(clock.clone()).build().expect("it opens");
    // One that was opened a moment ago needs no check.
    clock.advance(Duration::from_secs(1));
    drop(pool.get().expect("it passes its check"));
    clock.advance(Duration::from_secs(1));
    lab.invalid.store(true, SeqCst);
    drop(pool.get().expect("another one is opened"));
    lab.invalid.store(false, SeqCst);
    pool.resize(6).expect("a good size");
    pool.resize(5).expect("a good size");
    pool.pause();
    let paused = scrape(&pool);
    assert_eq!(paused.orders("millpond_checks_total", r#"result="failed""#), 1.0);
    assert_eq!(paused.orders("millpond_checks_total", r#"result="passed""#), 1.0);
    assert_eq!(paused.orders("millpond_connections_closed_total", r#"reason="invalid""#), 1.0);
    assert_eq!(paused.orders("millpond_resizes_total", r#"direction="grown""#), 1.0);
    assert_eq!(paused.orders("millpond_resizes_total", r#"direction="shrunk""#), 1.0);
    assert_eq!((paused.orders("millpond_paused", ""), paused.orders("millpond_health_level", "")), (1.0, 1.0));
    pool.resume();
    lab.set_panics(Some("has_broken"));
    drop(pool.get().expect("one"));
    assert_eq!(scrape(&pool).orders("millpond_panics_total", ""), 1.0);
}

#[test]
fn no_counter_falls_while_the_pool_is_busy() {
    let lab = Lab::new();
    let build = Pool::builder(lab.manager()).name("orders").max_size(4).validation(Validation::Always);
    let pool = build.build().expect("it opens");
    let counters = |text: &str| {
        let scrape = Scrape::read(text);
        let growing =
            |series: &str| series.contains("_total{") || series.contains("_count{") || series.contains("_bucket");
        let gauges = "db_client_connection_count";
        let all = scrape.series().filter(|(series, _)| growing(series) && !series.starts_with(gauges));
        all.map(|(series, value)| (series.to_owned(), value)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let users: Vec<_> = (0..3)
            .map(|user| {
                let (pool, lab) = (&pool, &lab);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        drop(pool.get_timeout(LONG).expect("in time"));
                        // Connections that were opened so far fail their next check, so that few pass one.
                        if user == 0 {
                            lab.dead_below.store(lab.attempts.load(SeqCst), SeqCst);
                        }
                    }
                })
            })
            .collect();
        let mut before = counters(&render_prometheus([&pool]));
        while users.iter().any(|user| !user.is_finished()) {
            let now = counters(&render_prometheus([&pool]));
            for ((series, was), (_, is)) in before.iter().zip(&now) {
                assert!(is >= was, "{series} fell from {was} to {is}");
            }
            before = now;
        }
    });
    assert!(pool.stats().check_failures > 0 && pool.stats().checks > pool.stats().check_failures);
}
