//! Settings from the environment and from files: what is read, what is refused, and that all of it is told at once.

use millpond::adaptive::Adaptive;
use millpond::pool_config::{PoolConfig, WarmUpMode};
use millpond::{
    Builder, Error, ErrorKind, Fairness, FnManager, Maintenance, Manager, Nested, Pool, RetryPolicy, Validation,
    WarmUp, WhenDown,
};
use std::ffi::OsString;
use std::io;
use std::time::Duration;

const PAGE: &str = include_str!("../docs/configuration.md");

#[derive(Debug, PartialEq, serde::Deserialize)]
struct File {
    pool: PoolConfig,
}

fn env(vars: &[(&str, &str)]) -> Result<PoolConfig, Error> {
    PoolConfig::from_vars("DB_POOL", vars.iter().copied())
}

fn env_error(vars: &[(&str, &str)]) -> String {
    let error = env(vars).expect_err("something is wrong");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

fn builder() -> Builder<impl Manager> {
    Pool::builder(|| Ok::<_, io::Error>(()))
}

fn toml_of_the_page() -> File {
    let (_, rest) = PAGE.split_once("```toml\n").expect("the page has an example");
    let (example, _) = rest.split_once("```").expect("which ends");
    toml::from_str(example).expect("and is as it should be")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn every_setting_can_be_given_in_the_environment() {
    let config = env(&[
        ("DB_POOL_NAME", "orders"),
        ("DB_POOL_MAX_SIZE", "20"),
        ("DB_POOL_MIN_IDLE", "3"),
        ("DB_POOL_CONNECTION_TIMEOUT", "2s"),
        ("DB_POOL_MAX_LIFETIME", "1h 30m"),
        ("DB_POOL_IDLE_TIMEOUT", "90"),
        ("DB_POOL_MAX_USES", "none"),
        ("DB_POOL_VALIDATION", "always"),
        ("DB_POOL_KEEPALIVE", "off"),
        ("DB_POOL_FAIRNESS", "Strict"),
        ("DB_POOL_MAX_WAITING", "7"),
        ("DB_POOL_MAX_CONNECTING", "2"),
        ("DB_POOL_WHEN_DOWN", "FailFast"),
        ("DB_POOL_NESTED", "deny"),
        ("DB_POOL_LEAK_THRESHOLD", "0.5"),
        ("DB_POOL_BOUND_ONLY", "yes"),
        ("DB_POOL_USE_TIMES", "1"),
        ("DB_POOL_INCIDENTS", "7"),
        ("DB_POOL_MAINTENANCE", "manual"),
        ("DB_POOL_RETRY_INITIAL_DELAY", "10ms"),
        ("DB_POOL_RETRY_MAX_DELAY", "2s"),
        ("DB_POOL_RETRY_MULTIPLIER", "2"),
        ("DB_POOL_RETRY_JITTER", "0.25"),
        ("DB_POOL_RETRY_GIVE_UP", "never"),
        ("DB_POOL_START_UP_GIVE_UP", "1m"),
        ("DB_POOL_WARM_UP_MODE", "background"),
        ("DB_POOL_WARM_UP_CONNECTIONS", "3"),
        ("DB_POOL_WARM_UP_WITHIN", "none"),
        ("DB_POOL_WARM_UP_BATCH", "2"),
        ("DB_POOL_WARM_UP_PAUSE", "100ms"),
        ("DB_POOL_WARM_UP_REQUIRED", "false"),
        ("DB_POOL_ADAPTIVE_FLOOR", "5"),
        ("DB_POOL_ADAPTIVE_CEILING", "40"),
        ("DB_POOL_ADAPTIVE_TARGET_WAIT", "25ms"),
        ("DB_POOL_ADAPTIVE_EVERY_MS", "500"),
        ("DB_POOL_ADAPTIVE_PATIENCE", "10m"),
        ("DB_POOLS", "not ours"),
        ("HOME", "/"),
    ])
    .expect("all of it can be read");
    assert_eq!(config.name.as_deref(), Some("orders"));
    assert_eq!((config.max_size, config.min_idle), (Some(20), Some(3)));
    assert_eq!(config.connection_timeout, Some(seconds(2)));
    assert_eq!(config.max_lifetime, Some(Some(seconds(5_400))));
    assert_eq!(config.idle_timeout, Some(Some(seconds(90))));
    assert_eq!(config.max_uses, Some(None));
    assert_eq!(config.validation, Some(Validation::Always));
    assert_eq!(config.keepalive, Some(None));
    assert_eq!(config.fairness, Some(Fairness::Strict));
    assert_eq!((config.max_waiting, config.max_connecting), (Some(Some(7)), Some(2)));
    assert_eq!((config.when_down, config.nested), (Some(WhenDown::FailFast), Some(Nested::Deny)));
    assert_eq!(config.leak_threshold, Some(Some(Duration::from_millis(500))));
    assert_eq!((config.bound_only, config.use_times), (Some(true), Some(true)));
    assert_eq!(config.incidents, Some(7));
    assert_eq!(config.maintenance, Some(Maintenance::Manual));
    assert_eq!(config.retry.initial_delay, Some(Duration::from_millis(10)));
    assert_eq!(config.retry.max_delay, Some(seconds(2)));
    assert_eq!((config.retry.multiplier, config.retry.jitter), (Some(2.0), Some(0.25)));
    assert_eq!((config.retry.give_up, config.start_up.give_up), (Some(None), Some(Some(seconds(60)))));
    assert_eq!((config.warm_up.mode, config.warm_up.connections), (Some(WarmUpMode::Background), Some(3)));
    assert_eq!((config.warm_up.within, config.warm_up.batch), (Some(None), Some(2)));
    assert_eq!((config.warm_up.pause, config.warm_up.required), (Some(Duration::from_millis(100)), Some(false)));
    assert_eq!((config.adaptive.floor, config.adaptive.ceiling), (Some(5), Some(40)));
    assert_eq!(config.adaptive.target_wait, Some(Duration::from_millis(25)));
    assert_eq!((config.adaptive.every, config.adaptive.patience), (Some(seconds(1) / 2), Some(seconds(600))));

    let by_hand = builder()
        .name("orders")
        .max_size(20)
        .min_idle(3)
        .connection_timeout(seconds(2))
        .max_lifetime(Some(seconds(5_400)))
        .idle_timeout(Some(seconds(90)))
        .max_uses(None)
        .validation(Validation::Always)
        .keepalive(None)
        .fairness(Fairness::Strict)
        .max_waiting(Some(7))
        .max_connecting(2)
        .when_down(WhenDown::FailFast)
        .nested(Nested::Deny)
        .leak_threshold(Some(Duration::from_millis(500)))
        .bound_only(true)
        .use_times(true)
        .incidents(7)
        .maintenance(Maintenance::Manual)
        .retry(
            RetryPolicy::default()
                .initial_delay(Duration::from_millis(10))
                .max_delay(seconds(2))
                .multiplier(2.0)
                .jitter(0.25)
                .give_up(None),
        )
        .start_up(
            RetryPolicy::default()
                .initial_delay(Duration::from_millis(10))
                .max_delay(seconds(2))
                .multiplier(2.0)
                .jitter(0.25)
                .give_up(Some(seconds(60))),
        )
        .adaptive(
            Adaptive::between(5, 40)
                .target_wait(Duration::from_millis(25))
                .every(Duration::from_millis(500))
                .patience(seconds(600)),
        );
    assert_eq!(format!("{:?}", builder().config(&config)), format!("{by_hand:?}"));
}

#[test]
fn the_file_of_the_documentation_has_every_setting_with_its_default() {
    let config = toml_of_the_page().pool;
    let shown = format!("{config:?}");
    assert_eq!(shown.matches(": ").count(), 40, "all of them: {shown}");
    let named = builder().name("orders");
    // `start_up` is said in the file, which is the same as not saying it. A range has no default.
    let same = named.start_up(RetryPolicy::default().give_up(None)).adaptive(Adaptive::between(2, 40));
    assert_eq!(format!("{:?}", builder().config(&config)), format!("{same:?}"));
    assert_eq!(config.lint(), []);
}

#[test]
fn every_setting_of_the_builder_that_is_no_function_can_be_written_down() {
    let not_data = ["config", "on_open", "on_return", "on_close", "event_handler", "budget", "clock"];
    let shown = format!("{:?}", toml_of_the_page().pool);
    let source = include_str!("../src/builder.rs");
    let setters = source.split("    pub fn ").filter_map(|rest| rest.split_once("(mut self, ")).map(|(name, _)| name);
    let mut count = 0;
    for name in setters.filter(|name| !not_data.contains(name)) {
        assert!(shown.contains(&format!("{name}: ")) || shown.contains(&format!("{name}.")), "{name} cannot be");
        count += 1;
    }
    assert!(count > 20, "only {count} are found");
}

#[test]
fn all_problems_are_told_at_once_each_with_its_variable_and_value() {
    let error = env_error(&[
        ("DB_POOL_MAX_SIZE", "ten"),
        ("DB_POOL_MIN_IDLE", "-1"),
        ("DB_POOL_CONNECTION_TIMEOUT", "0"),
        ("DB_POOL_MAX_LIFETIME", "5 fortnights"),
        ("DB_POOL_KEEPALIVE", ""),
        ("DB_POOL_VALIDATION", "sometimes"),
        ("DB_POOL_BOUND_ONLY", "maybe"),
        ("DB_POOL_RETRY_JITTER", "1.5"),
        ("DB_POOL_RETRY_INITIAL_DELAY", "2s"),
        ("DB_POOL_RETRY_MAX_DELAY", "1s"),
        ("DB_POOL_WARM_UP_BATCH", "0"),
        ("DB_POOL_MAX_SISE", "1"),
    ]);
    for problem in [
        r#"DB_POOL_MAX_SIZE is "ten", but it must be a whole number"#,
        r#"DB_POOL_MIN_IDLE is "-1", but it must be a whole number"#,
        "DB_POOL_CONNECTION_TIMEOUT is 0 s, but it must be longer than nothing",
        r#"DB_POOL_MAX_LIFETIME is "5 fortnights", but it must be a duration such as 30s, 500ms or 1h 30m"#,
        "DB_POOL_KEEPALIVE is empty: leave it out",
        r#"DB_POOL_VALIDATION is "sometimes", but it must be always, never, or"#,
        r#"DB_POOL_BOUND_ONLY is "maybe", but it must be true or false"#,
        "DB_POOL_RETRY_JITTER is 1.5, but it must be between 0 and 1",
        "DB_POOL_RETRY_INITIAL_DELAY is 2s, which is longer than DB_POOL_RETRY_MAX_DELAY 1s",
        "DB_POOL_WARM_UP_BATCH is 0, so nothing could ever be opened",
        "DB_POOL_MAX_SISE is not a setting: DB_POOL_MAX_SIZE is",
    ] {
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    assert_eq!(error.matches("; ").count(), 10, "{error}");
}

#[test]
fn what_depends_on_two_settings_is_judged_where_both_are_known() {
    let error =
        env_error(&[("DB_POOL_MIN_IDLE", "12"), ("DB_POOL_MAX_SIZE", "8"), ("DB_POOL_WARM_UP_CONNECTIONS", "9")]);
    assert!(error.contains("DB_POOL_MIN_IDLE is 12, which is more than DB_POOL_MAX_SIZE 8"), "{error}");
    assert!(error.contains("DB_POOL_WARM_UP_CONNECTIONS is 9, which is more than DB_POOL_MAX_SIZE 8"), "{error}");

    // What is not given is not told of.
    let error = env_error(&[("DB_POOL_RETRY_MAX_DELAY", "0"), ("DB_POOL_START_UP_MAX_DELAY", "0")]);
    assert!(!error.contains("INITIAL_DELAY"), "{error}");

    // Here the file may have the maximum, and the longest delay.
    let min = env(&[("DB_POOL_MIN_IDLE", "12"), ("DB_POOL_RETRY_INITIAL_DELAY", "3s")]).expect("not wrong in itself");
    let error = builder().config(&min).build_lazy().expect_err("10 is the default").to_string();
    assert!(error.contains("min_idle is 12, which is more than max_size 10"), "{error}");
    assert!(error.contains("retry.initial_delay is 3s, which is longer than retry.max_delay 1s"), "{error}");
    assert_eq!(min.validate().expect_err("the same").to_string(), error);

    let mut file = PoolConfig::default();
    file.max_size = Some(12);
    file.retry.max_delay = Some(seconds(3));
    file.merge(min).validate().expect("together they can be");
}

#[test]
fn what_nobody_has_set_is_in_nobodys_way() {
    let presets = [PoolConfig::development(), PoolConfig::staging(), PoolConfig::production()];
    for below in presets.into_iter().chain([PoolConfig::default()]) {
        for vars in [
            &[("DB_POOL_MAX_SIZE", "1")][..],
            &[("DB_POOL_RETRY_MAX_DELAY", "40ms")],
            &[("DB_POOL_START_UP_MAX_DELAY", "40ms")],
            &[("DB_POOL_RETRY_MAX_DELAY", "40ms"), ("DB_POOL_START_UP_MAX_DELAY", "20ms")],
            &[("DB_POOL_ADAPTIVE_FLOOR", "1"), ("DB_POOL_ADAPTIVE_CEILING", "1")],
        ] {
            let config = below.clone().merge(env(vars).expect("nothing is wrong in itself"));
            config.validate().unwrap_or_else(|error| panic!("{vars:?}: {error}"));
            builder().config(&config).build_lazy().expect("and it can be built");
        }
    }
    // What somebody has set is told of.
    let mut both = PoolConfig::default();
    both.retry.initial_delay = Some(seconds(1));
    both.retry.max_delay = Some(seconds(1) / 2);
    let error = both.validate().expect_err("one of them is wrong").to_string();
    assert!(error.contains("retry.initial_delay is 1s, which is longer than retry.max_delay 500ms"), "{error}");
}

#[test]
fn zero_is_refused_where_it_would_mean_the_contrary_of_what_is_meant() {
    for (key, words) in [("VALIDATION", "always, never, or for how long"), ("FAIRNESS", "strict, or how long")] {
        for zero in ["0", "0s", "0.0"] {
            let key = format!("DB_POOL_{key}");
            let error = env_error(&[(&key, zero)]);
            assert!(error.contains(&format!("{key} is ")) && error.contains(words), "{error}");
        }
    }
    env(&[("DB_POOL_WARM_UP_PAUSE", "0")]).expect("no pause");
}

#[test]
fn what_may_be_a_password_is_not_repeated() {
    let error = env_error(&[("DB_POOL_MAX_SIZE", "user:s3cr3t@host:5432/db")]);
    assert!(error.contains("DB_POOL_MAX_SIZE is text with an @") && !error.contains("s3cr3t"), "{error}");
}

#[test]
fn a_number_is_told_of_in_brief() {
    for text in [r#"{"max_size": 1e308}"#, r#"{"retry": {"jitter": 1e308}}"#, r#"{"max_lifetime": 1e308}"#] {
        let error = serde_json::from_str::<PoolConfig>(text).expect_err("too much").to_string();
        assert!(error.contains("1e308") && error.len() < 150, "{error}");
    }
}

#[test]
fn a_range_has_two_ends_wherever_they_come_from() {
    let floor = env(&[("DB_POOL_ADAPTIVE_FLOOR", "4")]).expect("the ceiling may come from elsewhere");
    let ceiling = env(&[("DB_POOL_ADAPTIVE_CEILING", "6")]).expect("the floor may");
    let wait = env(&[("DB_POOL_ADAPTIVE_TARGET_WAIT", "50ms")]).expect("both may");
    for (config, problem) in [
        (&floor, "adaptive.floor is 4, but adaptive.ceiling is not given"),
        (&ceiling, "adaptive.ceiling is 6, but adaptive.floor is not given"),
        (&wait, "adaptive.floor and adaptive.ceiling are not given"),
    ] {
        let error = config.validate().expect_err("no range").to_string();
        assert!(error.contains(problem), "{problem} is not in: {error}");
        assert_eq!(builder().config(config).build_lazy().expect_err("the same").to_string(), error);
        assert_eq!(config.lint(), [], "nothing is said of an end that nobody gave");
    }

    floor.clone().merge(ceiling.clone()).validate().expect("a range");
    // The end, and the wait, of what the builder has.
    let over = |config: &PoolConfig| format!("{:?}", builder().adaptive(Adaptive::between(1, 9)).config(config));
    let by_hand = |adaptive| format!("{:?}", builder().adaptive(adaptive));
    assert_eq!(over(&ceiling), by_hand(Adaptive::between(1, 6)));
    assert_eq!(over(&floor.clone().merge(wait)), by_hand(Adaptive::between(4, 9).target_wait(seconds(1) / 20)));
    let pool = builder().config(&floor).config(&ceiling).build().expect("together they are one");
    assert_eq!(pool.stats().max_size, 6, "10, moved into the range");
    assert!(pool.adaptive_state().is_some());
}

#[test]
fn what_cannot_be_of_a_range_is_told_with_its_variables() {
    let error = env_error(&[
        ("DB_POOL_ADAPTIVE_FLOOR", "9"),
        ("DB_POOL_ADAPTIVE_CEILING", "8"),
        ("DB_POOL_ADAPTIVE_PATIENCE_SECS", "0"),
        ("DB_POOL_MIN_IDLE", "10"),
        ("DB_POOL_MAX_SIZE", "20"),
        ("DB_POOL_WARM_UP_CONNECTIONS", "12"),
    ]);
    for problem in [
        "DB_POOL_ADAPTIVE_FLOOR is 9, which is more than DB_POOL_ADAPTIVE_CEILING 8",
        "DB_POOL_ADAPTIVE_PATIENCE_SECS is 0 s, but it must be longer than nothing",
        "DB_POOL_MIN_IDLE is 10, which is more than DB_POOL_ADAPTIVE_FLOOR 9",
        "DB_POOL_WARM_UP_CONNECTIONS is 12, which is more than DB_POOL_ADAPTIVE_CEILING 8",
    ] {
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    assert_eq!(error.matches("; ").count(), 3, "{error}");
    for (key, value, problem) in [
        ("FLOOR", "0", "0, but a pool needs room for one connection"),
        ("CEILING", "0", "0, but a pool needs room for one connection"),
        ("FLOOR", "1048577", "1048577, but 1048576 is the most"),
        ("CEILING", "1048577", "1048577, but 1048576 is the most"),
    ] {
        let error = env_error(&[(&format!("DB_POOL_ADAPTIVE_{key}"), value)]);
        assert!(error.ends_with(&format!("DB_POOL_ADAPTIVE_{key} is {problem}")), "{error}");
    }
    // Above the maximum, which is only where it starts.
    let config = env(&[
        ("DB_POOL_MIN_IDLE", "12"),
        ("DB_POOL_ADAPTIVE_FLOOR", "12"),
        ("DB_POOL_ADAPTIVE_CEILING", "20"),
        ("DB_POOL_WARM_UP_CONNECTIONS", "12"),
    ]);
    config.expect("it starts at its floor").validate().expect("with room for all that is kept");
}

#[test]
fn a_layer_changes_what_it_gives_and_nothing_else() {
    let mut preset = PoolConfig::production();
    preset.retry.jitter = Some(0.3);
    let file = env(&[("DB_POOL_MAX_LIFETIME", "10m"), ("DB_POOL_RETRY_MAX_DELAY", "2s")]).expect("a file, so to speak");
    let vars = env(&[("DB_POOL_MAX_LIFETIME", "none"), ("DB_POOL_WARM_UP_MODE", "lazy")]).expect("the environment");
    let all = preset.clone().merge(file).merge(vars);
    assert_eq!(all.max_lifetime, Some(None), "none is said, and counts");
    assert_eq!((all.retry.jitter, all.retry.max_delay), (Some(0.3), Some(seconds(2))));
    assert_eq!(all.min_idle, preset.min_idle);
    assert_eq!(preset.clone().merge(PoolConfig::default()), preset);

    assert_eq!(format!("{:?}", builder().config(&PoolConfig::default())), format!("{:?}", builder()));
    // Over a builder too, policies included, and before what is called later.
    let first = builder().max_size(5).retry(RetryPolicy::default().multiplier(3.0));
    let told = format!("{:?}", first.config(&all).min_idle(1));
    for part in ["max_size: 5", "multiplier: 3.0", "jitter: 0.3", "max_lifetime: None", "min_idle: 1"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let pool = builder().config(&all).build().expect("it connects");
    assert_eq!(pool.stats().opened, 0, "a lazy start");
}

#[test]
fn a_plan_to_warm_up_is_what_its_parts_say() {
    let opened = |vars: &[(&str, &str)]| {
        let config = env(vars).expect("it can be read");
        let pool = builder().max_connecting(1).config(&config).build().expect("it connects");
        pool.wait_ready(seconds(60)).expect("whoever opens them");
        pool.stats().opened
    };
    assert_eq!(opened(&[("DB_POOL_WARM_UP_BATCH", "1")]), 1, "the rest is the default");
    assert_eq!(opened(&[("DB_POOL_WARM_UP_PAUSE", "1ms"), ("DB_POOL_MIN_IDLE", "4")]), 4);
    assert_eq!(opened(&[("DB_POOL_WARM_UP_MODE", "background"), ("DB_POOL_WARM_UP_CONNECTIONS", "3")]), 3);

    let refused = || Pool::builder(|| Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)));
    let short = ("DB_POOL_WARM_UP_WITHIN", "20ms");
    let required = env(&[short]).expect("it can be read");
    assert_eq!(refused().config(&required).build().expect_err("nobody answers").kind(), ErrorKind::Connect);
    let optional = env(&[short, ("DB_POOL_WARM_UP_REQUIRED", "no")]).expect("it can be read");
    refused().config(&optional).build().expect("a warning is enough");
    refused().warm_up(WarmUp::blocking(2)).config(&required).build().expect("nor did the builder require it");

    let error = env_error(&[("DB_POOL_WARM_UP_MODE", "background"), ("DB_POOL_WARM_UP_REQUIRED", "true")]);
    assert!(error.contains("DB_POOL_WARM_UP_REQUIRED is true, but nobody waits"), "{error}");
}

#[test]
fn the_value_of_what_is_no_setting_is_not_repeated() {
    for (key, value) in [
        ("DB_POOL_URL", "redis://:s3cr3t@db"),
        ("DB_POOL_PASSWORD", "s3cr3t"),
        ("DB_POOL_MAX_SIZE", "redis://:s3cr3t@db"),
        ("DB_POOL_MAX_SIZE", "host=db password=s3cr3t"),
        ("DB_POOL_password=s3cr3t", "1"),
    ] {
        let error = env(&[(key, value)]).expect_err("it is wrong");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("s3cr3t") && told.contains("DB_POOL_"), "{told}");
    }
    let mut config = env(&[("DB_POOL_NAME", "redis://:s3cr3t@db")]).expect("a name may be anything");
    assert_eq!(config.name.as_deref(), Some("redis://:***@db"));
    config.name = Some("redis://:s3cr3t@db".to_owned());
    assert!(!format!("{config:?} {}", serde_json::json!(config)).contains("s3cr3t"));
}

#[test]
fn names_of_other_pools_and_slips_lead_to_the_setting() {
    for (key, setting) in [
        ("TEST_ON_CHECK_OUT", "VALIDATION"),
        ("MAXIMUM_POOL_SIZE", "MAX_SIZE"),
        ("SIZE", "MAX_SIZE"),
        ("TIMEOUT_SECS", "CONNECTION_TIMEOUT"),
        ("LEAK_DETECTION_THRESHOLD", "LEAK_THRESHOLD"),
        ("IDLE_TIME_OUT", "IDLE_TIMEOUT"),
        ("RETRY_MAXDELAY", "RETRY_MAX_DELAY"),
        ("RETRY", "RETRY_INITIAL_DELAY"),
        ("ADAPTIVE", "ADAPTIVE_FLOOR"),
        ("ADAPTIVE_TARGETWAIT", "ADAPTIVE_TARGET_WAIT"),
    ] {
        let error = env_error(&[(&format!("DB_POOL_{key}"), "1")]);
        assert!(error.ends_with(&format!("DB_POOL_{key} is not a setting: DB_POOL_{setting} is")), "{error}");
    }
    for key in ["DB_POOL_URL", "DB_POOL_", "DB_POOL_SERVICE_HOST", &format!("DB_POOL_{}", "X".repeat(10_000))] {
        let error = env_error(&[(key, "1")]);
        assert!(error.ends_with("is not a setting") && error.len() < 120, "{error}");
    }
}

#[test]
fn a_setting_is_given_once() {
    for (one, other) in [
        ("DB_POOL_MAX_SIZE", "db_pool_max_size"),
        ("DB_POOL_MAX_LIFETIME", "DB_POOL_MAX_LIFETIME_SECS"),
        ("DB_POOL_MAX_LIFETIME_MS", "DB_POOL_MAX_LIFETIME_SECS"),
    ] {
        let error = env_error(&[(one, "60"), (other, "60")]);
        assert!(error.contains(&format!("{one} and {other} are both given")), "{error}");
    }
    let error = serde_json::from_str::<PoolConfig>(r#"{"max_size": 1, "max_size": 2}"#).expect_err("twice").to_string();
    assert!(error.contains("max_size and max_size are both given"), "{error}");
}

#[test]
fn a_key_may_end_in_its_unit() {
    let config = env(&[
        ("DB_POOL_CONNECTION_TIMEOUT_SECS", "30"),
        ("DB_POOL_IDLE_TIMEOUT_MS", "1500"),
        ("DB_POOL_RETRY_MAX_DELAY_SECS", "0.5"),
    ])
    .expect("as r2d2's users write it");
    assert_eq!(config.connection_timeout, Some(seconds(30)));
    assert_eq!(config.idle_timeout, Some(Some(Duration::from_millis(1500))));
    assert_eq!(config.retry.max_delay, Some(Duration::from_millis(500)));
    let error = env_error(&[
        ("DB_POOL_CONNECTION_TIMEOUT_SECS", "30s"),
        ("DB_POOL_KEEPALIVE_SECS", "none"),
        ("DB_POOL_MAX_LIFETIME_SECS", "0"),
        ("DB_POOL_MAX_SIZE_SECS", "5"),
    ]);
    for problem in [
        r#"DB_POOL_CONNECTION_TIMEOUT_SECS is "30s", but it must be a plain number of seconds"#,
        r#"DB_POOL_KEEPALIVE_SECS is "none", but it must be a plain number"#,
        "DB_POOL_MAX_LIFETIME_SECS is 0 s",
        "DB_POOL_MAX_SIZE_SECS is not a setting: DB_POOL_MAX_SIZE is",
    ] {
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
}

#[test]
fn a_prefix_is_the_pools_own() {
    let vars = [("app_max_size", "3"), ("APP_MAX_SIZES", "x")];
    for prefix in ["APP", "APP_", "app__"] {
        let error = PoolConfig::from_vars(prefix, vars).expect_err("one is no setting").to_string();
        assert_eq!(error.matches("; ").count(), 0, "{error}");
    }
    for prefix in ["", "_", "___"] {
        let error = PoolConfig::from_vars(prefix, vars).expect_err("whose are they?").to_string();
        assert!(error.contains("prefix is empty"), "{error}");
    }
    assert_eq!(PoolConfig::from_vars("ÄPP", vars).expect("there are none"), PoolConfig::default());
}

#[test]
#[cfg(unix)]
fn what_is_not_text_is_an_error_and_no_panic() {
    use std::os::unix::ffi::OsStringExt;
    let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let vars = [
        (raw(b"DB_POOL_MAX_SIZE"), raw(b"\xff1")),
        (raw(b"DB_POOL_\xff"), raw(b"1")),
        (raw(b"\xff\xfe"), raw(b"\xff")),
    ];
    let error = PoolConfig::from_vars("DB_POOL", vars).expect_err("it is not text").to_string();
    assert!(error.contains("DB_POOL_MAX_SIZE is text that is not UTF-8, but it must be a whole number"), "{error}");
    assert!(error.contains(r#""DB_POOL_�" is not a setting"#), "{error}");
    assert_eq!(error.matches("; ").count(), 1, "{error}");
}

#[test]
fn the_environment_of_the_process_is_read() {
    // Whatever it is: cargo sets variables with this prefix for tests.
    let error = PoolConfig::from_env("CARGO_PKG").expect_err("they are no settings of a pool").to_string();
    assert!(error.contains("CARGO_PKG_VERSION is not a setting"), "{error}");
}

#[test]
fn a_file_takes_numbers_and_words() {
    let text = r#"
        max_size = 8
        min_idle = "2"
        connection_timeout = 2
        idle_timeout = 0.5
        max_lifetime = "none"
        max_uses = 1000
        use_times = true
        fairness = 0.002
        retry = { multiplier = 2, give_up = 60 }
        start_up.give_up = "none"
    "#;
    let config: PoolConfig = toml::from_str(text).expect("it is all well");
    assert_eq!((config.max_size, config.min_idle), (Some(8), Some(2)));
    assert_eq!((config.connection_timeout, config.max_lifetime), (Some(seconds(2)), Some(None)));
    assert_eq!(config.idle_timeout, Some(Some(Duration::from_millis(500))));
    assert_eq!((config.max_uses, config.use_times), (Some(Some(1000)), Some(true)));
    assert_eq!(config.fairness, Some(Fairness::Bounded(Duration::from_millis(2))));
    assert_eq!((config.retry.multiplier, config.retry.give_up), (Some(2.0), Some(Some(seconds(60)))));
    assert_eq!(config.start_up.give_up, Some(None));
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_at_once() {
    let text = r#"{
        "max_size": true,
        "min_idle": [1, [2]],
        "max_lifetime": null,
        "keepalive": {"every": "2m"},
        "max_uses": -1,
        "max_connecting": 0,
        "retry": 5,
        "start_up": {"jitter": 7, "give_upp": "1s"},
        "password": "s3cr3t",
        "wait\n_timeout": 1
    }"#;
    let error = serde_json::from_str::<PoolConfig>(text).expect_err("nothing is right").to_string();
    for problem in [
        "max_size is true, but it must be a whole number",
        "min_idle is a list, but",
        r#"max_lifetime is null (leave it out, or say "none"), but it must be a duration"#,
        "keepalive is a table, but",
        "max_uses is -1, but",
        "max_connecting is 0, so nothing",
        "retry is not a setting: retry.initial_delay is",
        "start_up.jitter is 7, but it must be between 0 and 1",
        "start_up.give_upp is not a setting: start_up.give_up is",
        "password is not a setting",
        r#""wait\n_timeout" is not a setting"#,
    ] {
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    assert!(!error.contains("s3cr3t"));
    for text in ["[]", "5", "null", "\"max_size\""] {
        let error = serde_json::from_str::<PoolConfig>(text).expect_err("no table").to_string();
        assert!(error.contains("a table with the settings of a pool"), "{error}");
    }
}

#[test]
fn what_is_written_is_what_was_given() {
    let every = toml_of_the_page().pool;
    for config in [every, PoolConfig::default(), PoolConfig::development(), PoolConfig::production()] {
        let text = toml::to_string(&config).expect("it can be written");
        assert_eq!(toml::from_str::<PoolConfig>(&text).expect("and read"), config, "{text}");
        let text = serde_json::to_string(&config).expect("it can be written");
        assert_eq!(serde_json::from_str::<PoolConfig>(&text).expect("and read"), config, "{text}");
    }
    let text =
        toml::to_string(&env(&[("DB_POOL_MAX_SIZE", "4"), ("DB_POOL_RETRY_JITTER", "0.5")]).expect("it is read"));
    assert_eq!(text.expect("it can be written"), "max_size = 4\n\n[retry]\njitter = 0.5\n");
}

#[test]
fn a_preset_is_found_by_its_name() {
    for (name, preset) in [
        ("development", PoolConfig::development()),
        ("DEV", PoolConfig::development()),
        ("staging", PoolConfig::staging()),
        (" Production ", PoolConfig::production()),
        ("prod", PoolConfig::production()),
    ] {
        assert_eq!(PoolConfig::preset(name).expect("there is one"), preset);
        builder().config(&preset).build().expect("it can be");
    }
    let error = PoolConfig::preset("test").expect_err("there is none").to_string();
    assert!(error.contains(r#"preset is "test", but it must be development, staging or production"#), "{error}");
}

/// Settings, and the lints that they are to have.
type Unwise = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const FLOOR: (&str, &str) = ("adaptive.floor", "2");
const CEILING: (&str, &str) = ("adaptive.ceiling", "40");

const UNWISE: [Unwise; 60] = [
    (&[("max_lifetime", "29s")], &["lifetime-short"]),
    (&[("max_lifetime", "30s")], &[]),
    (&[("max_lifetime", "none")], &["lifetime-none"]),
    (&[("max_lifetime", "5M")], &["lifetime-long"]),
    (&[("keepalive", "29s")], &["keepalive-often"]),
    (&[("keepalive", "3m"), ("max_lifetime", "3m")], &["keepalive-after-lifetime"]),
    (&[("keepalive", "241s")], &["keepalive-late"]),
    (&[("keepalive", "none"), ("min_idle", "1")], &["keepalive-off"]),
    (&[("keepalive", "none")], &[]),
    (&[("keepalive", "1m"), ("validation", "never")], &["keepalive-without-checks", "validation-never"]),
    (&[("idle_timeout", "9s")], &["idle-timeout-short"]),
    (&[("idle_timeout", "59500ms"), ("max_lifetime", "1m")], &["idle-timeout-after-lifetime"]),
    (&[("idle_timeout", "1m"), ("min_idle", "10")], &["idle-timeout-without-effect"]),
    (&[("min_idle", "10")], &[]),
    (&[("leak_threshold", "1999ms")], &["leak-threshold-short"]),
    (&[("leak_threshold", "31m")], &["leak-threshold-after-lifetime"]),
    (&[("connection_timeout", "249ms")], &["connection-timeout-short"]),
    (&[("connection_timeout", "250ms")], &[]),
    (&[("connection_timeout", "31s")], &["connection-timeout-long"]),
    (&[("connection_timeout", "30s")], &[]),
    (&[("validation", "always")], &["validation-always"]),
    (&[("validation", "9ms")], &["validation-always"]),
    (&[("validation", "10ms")], &[]),
    (&[("validation", "never")], &["validation-never"]),
    (&[("max_size", "101")], &["max-size-large"]),
    (&[("max_size", "11"), ("min_idle", "11")], &["all-kept-open"]),
    (&[("max_connecting", "9")], &["connecting-storm"]),
    (&[("max_waiting", "0")], &["nobody-may-wait"]),
    (&[("fairness", "strict")], &["fairness-strict"]),
    (&[("fairness", "5s")], &["fairness-too-late"]),
    (&[("max_uses", "99")], &["uses-few"]),
    (&[("nested", "allow")], &["nested-allowed"]),
    (&[("retry.jitter", "0")], &["retry-in-step"]),
    (&[("start_up.jitter", "0.05")], &["retry-in-step"]),
    (&[("start_up.max_delay", "9ms")], &["retry-hasty"]),
    (&[("retry.max_delay", "5s")], &[]),
    (&[("retry.max_delay", "5001ms")], &["retry-slow"]),
    (&[("retry.give_up", "500ms")], &["retry-ends-early"]),
    (&[("maintenance", "manual"), ("min_idle", "1")], &["manual-without-upkeep"]),
    (&[("maintenance", "manual"), ("keepalive", "1m")], &["manual-without-upkeep"]),
    (
        &[("warm_up.connections", "9"), ("warm_up.batch", "2"), ("warm_up.pause", "3s"), ("warm_up.within", "11s")],
        &["warm-up-out-of-time"],
    ),
    (&[("warm_up.batch", "5")], &["warm-up-batch-large"]),
    (&[FLOOR, CEILING], &[]),
    (&[("adaptive.floor", "40"), CEILING], &["adaptive-fixed"]),
    (&[FLOOR, CEILING, ("max_size", "41")], &["adaptive-start-moved"]),
    (&[FLOOR, CEILING, ("max_size", "1")], &["adaptive-start-moved"]),
    (&[FLOOR, CEILING, ("max_size", "40")], &[]),
    (&[("adaptive.floor", "11"), CEILING], &[]),
    (&[FLOOR, CEILING, ("adaptive.every", "99ms")], &["adaptive-often"]),
    (&[FLOOR, CEILING, ("adaptive.every", "100ms")], &[]),
    (&[FLOOR, CEILING, ("adaptive.every", "5s")], &["adaptive-seldom"]),
    (&[FLOOR, CEILING, ("adaptive.target_wait", "5s")], &["adaptive-target-too-long"]),
    (&[FLOOR, CEILING, ("adaptive.patience", "999ms")], &["adaptive-hasty"]),
    (&[FLOOR, CEILING, ("adaptive.patience", "1s")], &[]),
    (&[FLOOR, CEILING, ("maintenance", "manual")], &["manual-without-upkeep"]),
    // What the maximum is in other rules, the ceiling is in these pools.
    (&[FLOOR, ("adaptive.ceiling", "101")], &["max-size-large"]),
    (&[FLOOR, CEILING, ("max_size", "200")], &["adaptive-start-moved"]),
    (&[("adaptive.floor", "20"), CEILING, ("min_idle", "20"), ("max_size", "20"), ("idle_timeout", "1m")], &[]),
    (
        &[("adaptive.floor", "20"), ("adaptive.ceiling", "20"), ("min_idle", "20"), ("idle_timeout", "1m")],
        &["idle-timeout-without-effect", "all-kept-open", "adaptive-fixed"],
    ),
    (&[("adaptive.floor", "10"), CEILING, ("min_idle", "10"), ("idle_timeout", "9s")], &["idle-timeout-short"]),
];

#[test]
fn what_is_legal_and_unwise_is_told_with_values_and_a_way_out() {
    for (settings, codes) in UNWISE {
        let vars = settings.iter().map(|(name, value)| (format!("X_{}", name.replace('.', "_")), *value));
        let config = PoolConfig::from_vars("X", vars).unwrap_or_else(|error| panic!("it is legal: {error}"));
        config.validate().expect("and can be built");
        let lints = config.lint();
        assert_eq!(lints.iter().map(|lint| lint.code).collect::<Vec<_>>(), codes, "{settings:?}");
        for lint in lints {
            assert!(lint.fields.iter().any(|field| lint.found.contains(field)), "{lint}");
            assert!(!lint.instead.is_empty() && !lint.source.is_empty() && PAGE.contains(lint.code), "{lint}");
        }
    }
    assert_eq!(PoolConfig::default().lint(), []);
}

#[test]
fn every_lint_of_the_documentation_is_met_by_something() {
    let (_, lints) = PAGE.split_once("| lint | when |").expect("the page has a table");
    for row in lints.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let code = row.split('`').nth(1).expect("a code");
        assert!(UNWISE.iter().any(|(_, codes)| codes.contains(&code)), "{code}");
    }
}

#[test]
fn a_builder_is_looked_at_as_it_is() {
    let network = FnManager::new(|| Ok::<_, io::Error>(())).check(|_| Ok(()));
    let mut config = PoolConfig::default();
    config.max_lifetime = Some(None);
    config.nested = Some(Nested::Allow);
    let codes = |lints: Vec<millpond::pool_config::Lint>| lints.iter().map(|lint| lint.code).collect::<Vec<_>>();
    assert_eq!(codes(Pool::builder(network).config(&config).lint()), ["lifetime-none", "nested-allowed"]);
    assert_eq!(codes(builder().config(&config).nested(Nested::Warn).lint()), [""; 0], "files live for ever");
}

#[test]
fn a_pool_in_which_nobody_may_wait_opens_nothing_for_anybody() {
    let config = env(&[("DB_POOL_MAX_WAITING", "0")]).expect("it is legal");
    let pool = builder().config(&config).build_lazy().expect("and can be built");
    assert_eq!(pool.get().expect_err("as the lint says").kind(), ErrorKind::Overloaded);
}
