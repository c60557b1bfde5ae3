//! What a pool remembers of what went wrong, without anybody who listened.

mod support;

use millpond::testing::HandClock;
use millpond::{
    CloseReason, Error, ErrorKind, FnManager, Incident, IncidentKind, Maintenance, Pool, PooledConnection, RetryPolicy,
    Validation, WhenDown,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{LONG, Lab, Scripted, assert_healthy, eventually};

const SECOND: Duration = Duration::from_secs(1);

/// A pool that does everything in its callers' threads, by a clock that stands still.
fn by_hand(max_size: u32) -> (Arc<Lab>, HandClock, millpond::Builder<Scripted>) {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let builder = Pool::builder(lab.manager()).name("orders").max_size(max_size).maintenance(Maintenance::Manual);
    (Arc::clone(&lab), clock.clone(), builder.clock(clock))
}

fn kinds(incidents: &[Incident]) -> Vec<(IncidentKind, u64)> {
    incidents.iter().map(|incident| (incident.kind, incident.count)).collect()
}

#[test]
fn callers_that_were_not_served_are_one_incident_with_the_holders_of_that_time() -> Result<(), Error> {
    let (_lab, clock, builder) = by_hand(1);
    let pool = builder.build()?;
    let mut held = pool.get()?;
    PooledConnection::set_label(&mut held, "nightly report");
    clock.advance(3 * SECOND);
    for _ in 0..5 {
        pool.get_timeout(Duration::ZERO).expect_err("it is borrowed");
        clock.advance(SECOND);
    }
    drop(held);
    clock.advance(11 * SECOND);
    let held = pool.get()?;
    pool.get_timeout(Duration::ZERO).expect_err("it is borrowed");
    drop(held);

    let incidents = pool.incidents();
    assert_eq!(kinds(&incidents), [(IncidentKind::TimedOut, 5), (IncidentKind::TimedOut, 1)]);
    let first = &incidents[0];
    assert!(first.text.starts_with("timed out after 0.00 s waiting for a connection from \"orders\""), "{first}");
    assert_eq!((first.holders.len(), first.holders[0].label()), (1, Some("nightly report")));
    assert_eq!(first.last.duration_since(first.first).expect("later"), 4 * SECOND);
    assert!(first.to_string().ends_with(" (5 times in 4.00 s)"), "{first}");
    Ok(())
}

#[test]
fn an_outage_is_told_from_its_first_error_to_its_end() -> Result<(), Error> {
    let (lab, clock, builder) = by_hand(2);
    let pool = builder.when_down(WhenDown::FailFast).retry(RetryPolicy::default()).build()?;
    let held = pool.get()?;
    lab.refuse.store(true, SeqCst);
    pool.get().expect_err("the second one is refused");
    for _ in 0..3 {
        pool.get().expect_err("the server is away");
    }
    lab.refuse.store(false, SeqCst);
    clock.advance(60 * SECOND);
    drop(pool.get()?);
    drop(held);
    pool.maintain();
    let incidents = pool.incidents();
    assert_eq!(incidents.first().map(|first| first.kind), Some(IncidentKind::ServerAway), "{incidents:?}");
    assert_eq!(incidents[0].text, "cannot connect: refused (attempt 2)");
    let turned_away = incidents.iter().find(|incident| incident.kind == IncidentKind::TurnedAway).expect("three");
    assert!(turned_away.count >= 3, "{turned_away:?}");
    assert!(turned_away.text.ends_with("refused (attempt 2)"), "the server's own error is there: {turned_away}");
    let last = incidents.last().expect("it is back");
    assert_eq!(last.kind, IncidentKind::ServerBack, "{incidents:?}");
    assert!(last.text.starts_with("connected again after 1 failed attempts in 60"), "{last}");
    Ok(())
}

#[test]
fn a_connection_that_is_closed_for_an_error_says_for_which() -> Result<(), Error> {
    let (lab, clock, builder) = by_hand(1);
    let pool = builder.validation(Validation::Always).build()?;
    let told = |pool: &Pool<Scripted>, kind: IncidentKind| {
        let incidents = pool.incidents();
        let found = incidents.iter().find(|incident| incident.kind == kind);
        found.unwrap_or_else(|| panic!("{kind:?} in {incidents:?}")).text.clone()
    };
    let mut held = pool.get()?;
    PooledConnection::mark_broken(&mut held);
    drop(held);
    assert_eq!(told(&pool, IncidentKind::Retired(CloseReason::Broken)), "connection 1 is closed: broken");

    lab.unclean.store(true, SeqCst);
    drop(pool.get()?);
    lab.unclean.store(false, SeqCst);
    let text = told(&pool, IncidentKind::Retired(CloseReason::ResetFailed));
    assert_eq!(text, "connection 2 could not be cleaned: refused (attempt 1)");

    drop(pool.get()?);
    lab.invalid.store(true, SeqCst);
    clock.advance(SECOND);
    drop(pool.get());
    lab.invalid.store(false, SeqCst);
    let text = told(&pool, IncidentKind::Retired(CloseReason::Invalid));
    assert!(text.starts_with("connection 3 failed its check: refused (attempt "), "{text}");

    clock.advance(60 * SECOND);
    let user = thread::scope(|scope| {
        scope.spawn(|| pool.with(|_| std::panic::resume_unwind(Box::new("its user panics")))).join()
    });
    assert!(user.is_err());
    told(&pool, IncidentKind::Retired(CloseReason::Panicked));

    lab.set_panics(Some("has_broken"));
    drop(pool.get()?);
    lab.set_panics(None);
    assert_eq!(told(&pool, IncidentKind::Panicked), "has_broken panicked: scripted panic in has_broken");
    Ok(())
}

#[test]
fn what_is_done_by_hand_is_told_in_order_and_nothing_is_told_where_nothing_happened() -> Result<(), Error> {
    let (_lab, _clock, builder) = by_hand(4);
    let pool = builder.build()?;
    drop(pool.get_many(4)?);
    pool.maintain();
    assert_eq!(kinds(&pool.incidents()), []);
    pool.resize(3)?;
    pool.pause();
    pool.get_timeout(Duration::ZERO).expect_err("it is paused");
    pool.resume();
    pool.close();
    let told = [
        (IncidentKind::Resized, 1),
        (IncidentKind::Paused, 1),
        (IncidentKind::TimedOut, 1),
        (IncidentKind::Resumed, 1),
        (IncidentKind::Closed, 1),
    ];
    assert_eq!(kinds(&pool.incidents()), told);
    assert_eq!(pool.incidents()[0].text, "the maximum goes from 4 to 3, by hand");
    Ok(())
}

#[test]
fn a_lease_that_lasts_too_long_is_told_of_and_so_is_its_end() -> Result<(), Error> {
    let (_lab, clock, builder) = by_hand(1);
    let pool = builder.leak_threshold(Some(SECOND)).build()?;
    let held = pool.get()?;
    clock.advance(2 * SECOND);
    pool.maintain();
    drop(held);
    clock.advance(SECOND);
    pool.maintain();
    let incidents = pool.incidents();
    assert_eq!(kinds(&incidents), [(IncidentKind::Overdue, 1), (IncidentKind::OverdueEnded, 1)]);
    assert!(incidents[0].text.contains("tests/incidents.rs:"), "the line of the checkout: {}", incidents[0]);
    Ok(())
}

#[test]
fn the_last_ones_are_kept_as_many_as_were_asked_for() -> Result<(), Error> {
    for (most, kept) in [(0, 0), (1, 1), (3, 3), (64, 41)] {
        let (_lab, _clock, builder) = by_hand(1);
        let pool = builder.incidents(most).build()?;
        for _ in 0..20 {
            pool.pause();
            pool.resume();
        }
        pool.close();
        let incidents = pool.incidents();
        assert_eq!(incidents.len(), kept, "of 41");
        assert!(incidents.last().is_none_or(|last| last.kind == IncidentKind::Closed));
    }
    Ok(())
}

#[test]
fn a_thousand_callers_that_give_up_together_are_one_incident_with_their_number() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).connection_timeout(Duration::from_millis(300)).build()?;
    let held = pool.get()?;
    thread::scope(|scope| {
        for _ in 0..200 {
            let caller = || (0..5).for_each(|_| drop(pool.get_timeout(Duration::ZERO)));
            scope.spawn(caller);
        }
    });
    drop(held);
    let incidents = pool.incidents();
    let timed_out = incidents.iter().filter(|incident| incident.kind == IncidentKind::TimedOut);
    assert_eq!(timed_out.map(|incident| incident.count).sum::<u64>(), 1000, "{incidents:?}");
    assert!(incidents.len() < 10, "only a pause of ten seconds makes a new one: {incidents:?}");
    assert_healthy(&pool);
    Ok(())
}

/// An error of a driver whose text cannot be had.
#[derive(Debug)]
struct Mute;

impl std::fmt::Display for Mute {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::panic::resume_unwind(Box::new("no text"))
    }
}

impl std::error::Error for Mute {}

#[test]
fn an_error_that_panics_when_it_is_printed_is_told_without_its_text_and_costs_nothing() -> Result<(), Error> {
    for maintenance in [Maintenance::Background, Maintenance::Manual] {
        let mute = Arc::new(AtomicBool::new(true));
        let (ill, sick) = (Arc::clone(&mute), Arc::clone(&mute));
        let opener = move || if ill.load(SeqCst) { Err(Mute) } else { Ok(()) };
        let manager = FnManager::new(opener).reset(move |()| if sick.load(SeqCst) { Err(Mute) } else { Ok(()) });
        let pool = Pool::builder(manager)
            .max_size(1)
            .when_down(WhenDown::FailFast)
            .retry(RetryPolicy::default())
            .maintenance(maintenance)
            .build_lazy()?;
        assert_eq!(pool.get().unwrap_err().kind(), ErrorKind::Connect);
        let incidents = pool.incidents();
        assert_eq!(incidents[0].kind, IncidentKind::ServerAway, "{:?}", kinds(&incidents));
        assert_eq!(incidents[0].text, "cannot connect: the error's text panicked: no text");
        let before = pool.stats().panics;
        for _ in 0..3 {
            drop((pool.status().incidents(), pool.health(), millpond::render_prometheus([&pool])));
        }
        assert_eq!(pool.stats().panics, before, "looking at it counts for nothing");

        mute.store(false, SeqCst);
        let mut held = None;
        eventually("it connects again", || {
            held = pool.get().ok();
            held.is_some()
        });
        mute.store(true, SeqCst);
        drop(held);
        mute.store(false, SeqCst);
        eventually("what could not be cleaned is closed", || pool.stats().closed.by(CloseReason::ResetFailed) == 1);
        drop(pool.get_timeout(LONG)?);
        let stats = pool.stats();
        assert_eq!(stats.opened - stats.closed, u64::from(stats.size), "the books balance");
    }
    Ok(())
}

#[test]
fn a_check_that_fails_with_such_an_error_loses_no_connection() -> Result<(), Error> {
    let dead = Arc::new(AtomicBool::new(false));
    let sick = Arc::clone(&dead);
    let manager = FnManager::new(|| Ok::<_, Mute>(()));
    let manager = manager.check(move |()| if sick.load(SeqCst) { Err(Mute) } else { Ok(()) });
    let pool = Pool::builder(manager).max_size(8).validation(Validation::Always).build()?;
    drop(pool.get_many(8)?);
    dead.store(true, SeqCst);
    drop(pool.get_timeout(Duration::from_millis(1)));
    eventually("all that was idle is closed for it", || pool.stats().closed.by(CloseReason::Invalid) >= 8);
    dead.store(false, SeqCst);
    drop(pool.get_timeout(LONG)?);
    eventually("the books balance", || {
        let stats = pool.stats();
        stats.connecting == 0 && stats.opened - stats.closed == u64::from(stats.size)
    });
    Ok(())
}

#[test]
fn everybody_who_is_sent_away_is_counted() -> Result<(), Error> {
    let lab = Lab::new();
    let gate = Lab::gate(&lab.connect_gate);
    lab.refuse.store(true, SeqCst);
    let pool = Pool::builder(lab.manager()).max_size(1).when_down(WhenDown::FailFast).build_lazy()?;
    thread::scope(|scope| {
        let callers: Vec<_> = (0..20).map(|_| scope.spawn(|| pool.get().map(drop))).collect();
        eventually("all wait for the first attempt", || pool.stats().waiting == 20);
        gate.open();
        for caller in callers {
            assert_eq!(caller.join().expect("no panic").unwrap_err().kind(), ErrorKind::Connect);
        }
    });
    assert_eq!(pool.stats().fast_failures, 20);
    let sent_away = pool.incidents().into_iter().filter(|incident| incident.kind == IncidentKind::TurnedAway);
    assert_eq!(sent_away.map(|incident| incident.count).sum::<u64>(), 20);
    Ok(())
}
