//! What a pool says of how it does: in numbers, in sentences, and as JSON.

mod support;

use millpond::health::{HealthLevel, WarningKind};
use millpond::testing::HandClock;
use millpond::{Breaker, Budget, Health, HealthReport, Pool, WhenDown};
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};
use support::{LONG, Lab, eventually};

fn units(name: &str, max_size: u32) -> Pool<impl millpond::Manager<Connection = ()>> {
    Pool::builder(|| Ok::<_, io::Error>(())).name(name).max_size(max_size).build().expect("it opens")
}

fn kinds(health: &Health) -> Vec<WarningKind> {
    health.warnings.iter().map(|warning| warning.kind).collect()
}

#[test]
fn a_pool_warns_above_eighty_percent_and_when_none_is_left() {
    let pool = units("orders", 10);
    let mut held = pool.get_many(8).expect("there are ten");
    assert_eq!((pool.health().level, kinds(&pool.health())), (HealthLevel::Ok, vec![]));
    held.extend(pool.get());
    assert_eq!(kinds(&pool.health()), [WarningKind::NearlyFull]);
    held.extend(pool.get());
    assert_eq!((pool.health().level, kinds(&pool.health())), (HealthLevel::Warning, vec![WarningKind::NoneLeft]));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..2).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("they wait", || pool.stats().waiting == 2);
        let health = pool.health();
        assert_eq!((health.level, health.waiting, health.utilisation), (HealthLevel::Critical, 2, 1.0));
        assert_eq!(health.warnings[0].reason, "all 10 connections are in use; 2 callers wait");
        held.clear();
        callers.into_iter().for_each(|caller| caller.join().expect("no panic").expect("ten came back"));
    });
    assert!(pool.health().warnings.is_empty());
}

#[test]
fn a_server_that_is_away_is_told_with_its_own_words_and_without_passwords() {
    #[derive(Debug)]
    struct Talkative;
    impl std::fmt::Display for Talkative {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot reach redis://:s3cr3t@db")
        }
    }
    impl std::error::Error for Talkative {}

    let pool = Pool::builder(|| Err::<(), _>(Talkative))
        .name("redis://:s3cr3t@db")
        .when_down(WhenDown::FailFast)
        .build_lazy()
        .expect("good settings");
    assert_eq!(pool.health().breaker, Breaker::Closed, "nothing has been tried yet");
    pool.get_timeout(LONG).expect_err("it is away");
    let health = pool.health();
    assert_eq!((health.level, kinds(&health)), (HealthLevel::Critical, vec![WarningKind::ServerAway]));
    let outage = health.outage.as_ref().expect("connecting fails");
    assert!(outage.attempts >= 1);
    assert_eq!(outage.error, "cannot reach redis://:***@db");
    let report: HealthReport = [health.clone()].into_iter().collect();
    let all = format!("{health:?} {health} {report} {} {}", health.to_json(), report.to_json());
    assert!(all.contains("cannot reach redis://:***@db") && !all.contains("s3cr3t"), "{all}");
}

#[test]
fn an_error_that_cannot_be_printed_is_no_reason_to_fail() {
    #[derive(Debug)]
    struct Mute;
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::resume_unwind(Box::new("no words"))
        }
    }
    impl std::error::Error for Mute {}
    let pool = Pool::builder(|| Ok::<(), Mute>(())).max_size(1).build().expect("it opens");
    assert!(pool.health().outage.is_none());
    let pool = Pool::builder(|| Err::<(), _>(Mute)).when_down(WhenDown::FailFast).build_lazy().expect("good settings");
    // Who prints it while connecting fails, the log, may panic itself; the pool reports that.
    pool.get_timeout(LONG).expect_err("it is away");
    assert_eq!(pool.health().outage.expect("connecting fails").error, "the error's text panicked: no words");
}

#[test]
fn a_server_that_does_not_answer_is_told_of_though_nothing_has_failed() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).max_size(4).clock(clock.clone()).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let callers: Vec<_> = (0..20).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("they wait for four attempts", || gate.waiting() == 4 && pool.stats().waiting == 20);
        let health = pool.health();
        assert_eq!((health.level, kinds(&health)), (HealthLevel::Warning, vec![WarningKind::CallersWait]));
        clock.advance(Duration::from_secs(1));
        let health = pool.health();
        assert_eq!((health.level, kinds(&health)), (HealthLevel::Critical, vec![WarningKind::ServerSilent]));
        assert_eq!((health.in_use, health.breaker), (0, Breaker::Closed));
        assert_eq!(
            health.warnings[0].reason,
            "the server has not answered for 1.0 s to an attempt to connect, or a check; 20 callers wait"
        );
        gate.open();
        callers.into_iter().for_each(|caller| caller.join().expect("no panic").expect("it has answered"));
    });
    eventually("nothing is under way any more", || pool.stats().connecting == 0);
    assert_eq!((pool.health().warnings, pool.stats().unanswered), (vec![], Duration::ZERO));
}

#[test]
fn a_server_is_silent_also_when_those_who_waited_have_gone() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).clock(clock.clone()).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let caller = scope.spawn(|| pool.get_timeout(Duration::from_secs(2)).map(drop));
        eventually("it waits", || gate.waiting() == 1 && pool.stats().waiting == 1);
        clock.advance(Duration::from_secs(3));
        caller.join().expect("no panic").expect_err("it has timed out");
    });
    let health = pool.health();
    assert_eq!((health.level, kinds(&health)), (HealthLevel::Critical, vec![WarningKind::ServerSilent]));
    gate.open();
    eventually("it has answered", || pool.health().level == HealthLevel::Ok);
}

#[test]
fn one_attempt_that_hangs_while_others_succeed_is_not_taken_for_a_silent_server() {
    let (lab, clock) = (Lab::new(), HandClock::new());
    let gate = Lab::gate(&lab.connect_gate);
    let pool = Pool::builder(lab.manager()).clock(clock.clone()).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let caller = scope.spawn(|| pool.get_timeout(LONG).map(drop));
        eventually("it hangs", || gate.waiting() == 1);
        *lab.connect_gate.lock().expect("no panic under this lock") = None;
        clock.advance(Duration::from_secs(3));
        assert_eq!(kinds(&pool.health()), [WarningKind::ServerSilent]);
        let other = scope.spawn(|| pool.get_timeout(LONG).map(drop));
        caller.join().expect("no panic").expect("one came");
        other.join().expect("no panic").expect("one came");
        assert_eq!((pool.stats().connecting, kinds(&pool.health())), (1, vec![]));
        gate.open();
    });
}

#[test]
fn a_budget_that_is_used_up_while_callers_wait_is_told_with_its_limit() {
    let budget = Budget::new(2);
    let open = || Ok::<_, io::Error>(());
    let pool = Pool::builder(open).max_size(10).budget(&budget).build_lazy().expect("good settings");
    let held = pool.get_many(2).expect("there are two");
    assert_eq!((pool.health().level, pool.stats().budget_used_up), (HealthLevel::Ok, None), "nobody waits");
    thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| pool.get_timeout(LONG).map(drop))).collect();
        eventually("they wait", || pool.stats().waiting == 8);
        let health = pool.health();
        assert_eq!((health.level, kinds(&health)), (HealthLevel::Critical, vec![WarningKind::BudgetUsedUp]));
        let reason = &health.warnings[0].reason;
        assert!(reason.starts_with("the budget of 2 connections") && reason.ends_with("8 callers wait"), "{reason}");
        assert!(health.to_json().contains(r#""kind":"budget_used_up""#));
        drop(held);
        callers.into_iter().for_each(|caller| caller.join().expect("no panic").expect("two came back"));
    });
    assert!(pool.health().warnings.is_empty());
}

#[test]
fn paused_and_closed_are_told() {
    let pool = units("orders", 2);
    pool.pause();
    let health = pool.health();
    assert_eq!((health.paused, health.closed, kinds(&health)), (true, false, vec![WarningKind::Paused]));
    pool.resume();
    assert!(pool.health().warnings.is_empty());
    let held = pool.get().expect("one is idle");
    pool.close();
    let health = pool.health();
    assert_eq!((health.level, health.closed, kinds(&health)), (HealthLevel::Critical, true, vec![WarningKind::Closed]));
    assert_eq!(health.warnings[0].reason, "the pool is closed; 1 connection is still in use");
    drop(held);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it is about how long an answer takes")]
fn an_exhausted_pool_with_a_thousand_waiters_answers_as_fast_as_any() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(4).build().expect("it opens");
    let held = pool.get_many(4).expect("there are four");
    thread::scope(|scope| {
        for _ in 0..1_000 {
            let small = thread::Builder::new().stack_size(128 << 10);
            small.spawn_scoped(scope, || drop(pool.get_timeout(LONG))).expect("there is room for threads");
        }
        eventually("all wait", || pool.stats().waiting == 1_000);
        let look = || {
            let began = Instant::now();
            assert_eq!(pool.health().waiting, 1_000);
            began.elapsed()
        };
        // The best of many: what else the machine does is not the pool's.
        let best = (0..100).map(|_| look()).min().expect("a hundred");
        assert!(best < Duration::from_millis(1), "{best:?}");
        drop(held);
    });
}

#[test]
fn a_report_has_the_worst_first_and_each_pool_once() {
    let pools = [units("b", 4), units("a", 4), units("full", 1), units("closed", 1)];
    let held = pools[2].get().expect("one is idle");
    pools[3].close();
    let report = HealthReport::of(pools.iter().chain([&pools[0].clone()]));
    let names: Vec<_> = report.pools().iter().map(|health| health.pool.as_str()).collect();
    assert_eq!((report.level(), names), (HealthLevel::Critical, vec!["closed", "full", "a", "b"]));
    assert_eq!(report.to_string().lines().count(), 4);
    assert!(report.to_string().starts_with("critical  closed  0/1 in use"), "{report}");
    assert_eq!(HealthReport::default().level(), HealthLevel::Ok);
    drop(held);
}

#[test]
fn the_names_in_the_json_stay_as_they_are() {
    let pool = units("orders", 4);
    let held = pool.get_many(4).expect("there are four");
    assert_eq!(
        pool.health().to_json(),
        concat!(
            r#"{"pool":"orders","level":"warning","paused":false,"closed":false,"breaker":"closed","#,
            r#""max_size":4,"size":4,"in_use":4,"idle":0,"connecting":0,"checking":0,"waiting":0,"utilisation":1.0,"#,
            r#""outage":null,"warnings":[{"kind":"none_left","level":"warning","#,
            r#""reason":"all 4 connections are in use; nobody waits"}]}"#
        )
    );
    drop(held);
    let report = HealthReport::of([&pool]);
    assert_eq!(report.to_json(), format!(r#"{{"level":"ok","pools":[{}]}}"#, pool.health().to_json()));
}

#[test]
fn an_outage_in_the_json_is_an_object_and_levels_and_kinds_are_words() {
    let lab = Lab::new();
    lab.refuse.store(true, SeqCst);
    let pool = Pool::builder(lab.manager()).when_down(WhenDown::FailFast).build_lazy().expect("good settings");
    pool.get_timeout(LONG).expect_err("it refuses");
    let json: Value = serde_json::from_str(&pool.health().to_json()).expect("it is JSON");
    assert_eq!((&json["level"], &json["warnings"][0]["kind"]), (&json!("critical"), &json!("server_away")));
    assert!(json["breaker"] == "open" || json["breaker"] == "half_open");
    assert!(json["outage"]["seconds"].is_f64() && json["outage"]["attempts"].is_u64());
    assert!(json["outage"]["error"].as_str().is_some_and(|text| text.starts_with("refused")));
}

#[test]
fn the_numbers_of_a_pool_have_stable_names_too() {
    let pool = units("orders", 4);
    let json = serde_json::to_value(pool.stats()).expect("it is JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&json),
        "breaker budget_used_up check_failures checking checkouts checks closed closed_for_good connect_failures connect_time connecting \
         fast_failures grown idle in_use late max_size min_idle oldest_wait opened overloads panics paused shrunk size timeouts unanswered use_time \
         wait_time waiting waits"
    );
    assert_eq!(
        keys(&json["closed"]),
        "broken budget detached discarded idle_timeout invalid lifetime max_uses panicked pool_closed refresh reset_failed \
         resize total"
    );
    assert_eq!(keys(&json["connect_time"]), "buckets count max mean p50 p95 p99 sum");
    assert_eq!((&json["opened"], &json["connect_time"]["count"]), (&json!(1), &json!(1)));
    assert!(json["connect_time"]["max"].as_f64().is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn any_name_makes_valid_json() {
    for name in
        ["a \"quoted\" one", "<script>alert(1)</script>", "line\nbreak\u{0}\u{1b}[2J", "Müller 雀 \u{1f986}", "\\", ""]
    {
        let pool = units(name, 1);
        let json: Value = serde_json::from_str(&pool.health().to_json()).expect("it is JSON");
        assert_eq!(json["pool"], name);
        let report: Value = serde_json::from_str(&HealthReport::of([&pool]).to_json()).expect("it is JSON");
        assert_eq!(report["pools"][0]["pool"], name);
    }
}
