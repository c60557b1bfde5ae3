//! Everything that pools tell of themselves, as data, as JSON and as a table.

mod support;

use millpond::sqlite::{SqliteManager, SqlitePool};
use millpond::status::{Observe, Status};
use millpond::{Balanced, Error, HealthReport, Pool, PooledConnection, Pools, ReadWrite, Roles};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::{Folder, Lab, Named};

fn names(status: &Status) -> Vec<&str> {
    status.pools().iter().map(|status| status.health.pool.as_str()).collect()
}

fn named(name: &str) -> Pool<Named> {
    Pool::builder(Named("x")).name(name).max_size(2).build().expect("it connects")
}

#[test]
fn pools_of_all_kinds_are_looked_at_together() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Folder::new();
    let one = named("one");
    let sqlite = SqlitePool::new(SqliteManager::file(folder.file("app.db")))?;
    let balanced = Balanced::builder().member("left", named("left")).member("right", named("right")).build()?;
    let split = ReadWrite::new(named("primary"), named("replica"));
    let roles = Roles::builder().role("batch", named("batch")).build()?;
    let keyed = Pools::new(|_: &&str| Ok(named("tenant")));
    drop(keyed.get(&"a")?);
    let list = vec![Arc::new(named("listed"))];
    let all: [&dyn Observe; 7] = [&one, &sqlite, &balanced, &split, &roles, &keyed, &list];
    let status = Status::of(all);
    let names = names(&status);
    for name in ["one", "left", "right", "primary", "replica", "batch", "tenant", "listed"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 10, "two of SQLite: {names:?}");
    Ok(())
}

#[cfg(feature = "r2d2")]
#[test]
fn a_pool_in_the_shape_of_r2d2_is_looked_at_like_any_other() -> Result<(), Box<dyn std::error::Error>> {
    let pool = millpond::r2d2::Pool::new(r2d2_sqlite::SqliteConnectionManager::memory())?;
    assert_eq!(Status::of([&pool]).pools().len(), 1);
    Ok(())
}

#[test]
fn a_pool_is_there_once_and_namesakes_are_told_apart_in_the_order_of_their_birth() {
    let (first, second, third) = (named("orders"), named("orders"), named("orders"));
    let status = Status::of([&third, &first, &first.clone(), &second, &third]);
    assert_eq!(names(&status), ["orders (3)", "orders", "orders (2)"]);
    let again = Status::of([&second, &first]);
    assert_eq!(names(&again), ["orders (2)", "orders"]);
    assert_eq!(Status::of([] as [&Pool<Named>; 0]).level(), HealthReport::default().level());
}

#[test]
fn the_json_has_what_a_page_shows() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).name("orders").max_size(1).use_times(true).build()?;
    drop(pool.get()?);
    let mut held = pool.get()?;
    PooledConnection::set_label(&mut held, "<b>report</b>");
    pool.get_timeout(Duration::from_millis(5)).expect_err("it is borrowed");
    let json: serde_json::Value = serde_json::from_str(&Status::of([&pool]).to_json()).expect("it is JSON");
    let of = &json["pools"][0];
    assert_eq!((&json["level"], &of["health"]["pool"]), (&"warning".into(), &"orders".into()));
    assert_eq!((&of["stats"]["in_use"], &of["stats"]["closed"]["total"]), (&1.into(), &0.into()));
    let buckets = of["stats"]["wait_time"]["buckets"].as_array().expect("pairs");
    assert_eq!(buckets.iter().map(|pair| pair[1].as_u64().expect("a count")).sum::<u64>(), 1);
    let (upper, waited) = (buckets[0][0].as_f64(), of["stats"]["wait_time"]["max"].as_f64());
    assert!(upper > waited && waited >= Some(0.005), "{upper:?} {waited:?}");
    assert_eq!(of["holders"][0]["label"], "<b>report</b>", "as it is: whoever shows it escapes it");
    assert!(of["holders"][0]["location"].as_str().is_some_and(|place| place.starts_with("tests/status.rs:")));
    assert_eq!((&of["incidents"][0]["kind"], &of["incidents"][0]["count"]), (&"timed_out".into(), &1.into()));
    let at = json["at"].as_f64().expect("seconds since 1970");
    assert!((0.0..60.0).contains(&(at - of["incidents"][0]["last"].as_f64().expect("the same"))));
    assert!(of["health"]["number"].is_null() && of["number"].is_null());
    Ok(())
}

#[test]
fn the_table_has_a_line_for_each_pool_and_lines_for_what_is_wrong() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).name("orders\u{1b}[2J").max_size(1).min_idle(1).build()?;
    let held = pool.get()?;
    pool.get_timeout(Duration::from_millis(5)).expect_err("it is borrowed");
    let table = pool.table();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("pool ") && lines[1].starts_with("orders\\u{1b}[2J  warning     1/1"), "{table}");
    assert_eq!(lines[2], "  ! the only connection is in use; nobody waits");
    assert!(lines[3].starts_with("  1 checkouts, 1 waited; 1 opened, 0 attempts failed;"), "{table}");
    assert!(lines[4].starts_with("  held: thread \"") && lines[4].contains("tests/status.rs:"), "{table}");
    assert!(lines[5].contains("ago: timed out after 0.01 s"), "{table}");
    drop(held);
    lab.broken.store(true, SeqCst);
    drop(pool.get()?);
    support::eventually("it is closed", || pool.table().contains("; 1 closed: 1 broken"));
    Ok(())
}

/// Row E5: also when everybody waits. Counted, not timed: nothing of it waits for a borrowed connection.
#[test]
fn an_exhausted_pool_answers_without_a_connection() -> Result<(), Error> {
    let pool = named("full");
    let held = pool.get_many(2)?;
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..100).map(|_| scope.spawn(|| pool.get().map(drop))).collect();
        support::eventually("they wait", || pool.stats().waiting == 100);
        let status = pool.status();
        assert_eq!((status.stats.waiting, status.holders.len()), (100, 2));
        assert!(status.stats.oldest_wait > Duration::ZERO);
        drop(held);
        waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic").expect("served"));
    });
    Ok(())
}
