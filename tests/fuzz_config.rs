//! Settings made of anything: nothing panics, what is wrong is told by its key, what is right comes back as it was.
//!
//! `MILLPOND_CASES` sets the number of cases of each property; `scripts/fuzz-config` runs many.

#![allow(clippy::indexing_slicing, reason = "a test")]

use millpond::pool_config::PoolConfig;
use millpond::{ErrorKind, Pool};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::io;

/// Settings with what they take: a time, a time or none, a number and so on.
const NAMES: [(&str, &str); 40] = [
    ("name", "text"),
    ("max_size", "count"),
    ("min_idle", "count"),
    ("connection_timeout", "time"),
    ("max_lifetime", "time or none"),
    ("idle_timeout", "time or none"),
    ("max_uses", "uses"),
    ("validation", "validation"),
    ("keepalive", "time or none"),
    ("fairness", "fairness"),
    ("max_waiting", "count or none"),
    ("max_connecting", "count"),
    ("when_down", "when_down"),
    ("nested", "nested"),
    ("leak_threshold", "time or none"),
    ("bound_only", "truth"),
    ("use_times", "truth"),
    ("incidents", "count"),
    ("maintenance", "maintenance"),
    ("retry.initial_delay", "time"),
    ("retry.max_delay", "time"),
    ("retry.multiplier", "real"),
    ("retry.jitter", "real"),
    ("retry.give_up", "time or none"),
    ("start_up.initial_delay", "time"),
    ("start_up.max_delay", "time"),
    ("start_up.multiplier", "real"),
    ("start_up.jitter", "real"),
    ("start_up.give_up", "time or none"),
    ("warm_up.mode", "mode"),
    ("warm_up.connections", "count"),
    ("warm_up.within", "time or none"),
    ("warm_up.batch", "count"),
    ("warm_up.pause", "time"),
    ("warm_up.required", "truth"),
    ("adaptive.floor", "count"),
    ("adaptive.ceiling", "count"),
    ("adaptive.target_wait", "time"),
    ("adaptive.every", "time"),
    ("adaptive.patience", "time"),
];

fn cases() -> ProptestConfig {
    let cases = std::env::var("MILLPOND_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256);
    // What fails is small to begin with, and would be shrunk for hours.
    ProptestConfig { cases, failure_persistence: None, max_shrink_time: 30_000, ..ProptestConfig::default() }
}

/// The variable of a setting, where the prefix is `P`.
fn variable(name: &str) -> String {
    format!("P_{}", name.replace('.', "_").to_uppercase())
}

/// Text that means something now and then.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC*",
        "[0-9]{1,25}(\\.[0-9]{0,12})?",
        "-?[0-9]{0,3}[.e+-]?[0-9]{0,3} ?(s|ms|m|M|h|d|y|us|ns|min|secs?)? ?([0-9]{0,20}(s|ms))?",
        select(vec![
            "",
            " ",
            "none",
            "off",
            "always",
            "never",
            "strict",
            "true",
            "no",
            "fail_fast",
            "lazy",
            "inf",
            "NaN",
            "0",
            "1e999"
        ])
        .prop_map(str::to_owned),
        select(vec!["s3cr3t", "redis://:s3cr3t@db", "password=s3cr3t", "\u{0}", "٣", "1\n2"]).prop_map(str::to_owned),
    ]
}

/// A key that is one of ours, nearly one, or none.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&NAMES[..]).prop_map(|(name, _)| variable(name)),
        (select(&NAMES[..]), select(vec!["_SECS", "_MS", "S", "_", "x"]))
            .prop_map(|((name, _), end)| variable(name) + end),
        "P_[A-Z_]{0,20}",
        "P_\\PC{0,90}",
        "\\PC*",
    ]
}

/// What a setting takes, as a file has it.
fn right(takes: &'static str) -> BoxedStrategy<Value> {
    let time = || {
        prop_oneof![
            (0..10_000_u64).prop_map(|millis| json!(format!("{millis}ms"))),
            (0..1_000_000_u32).prop_map(|seconds| json!(seconds)),
            (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, ns)| json!(format!("{s}s {ns}ns"))),
            (0.0..1e9_f64).prop_map(|seconds| json!(seconds)),
        ]
    };
    let one_of = |words: &[&'static str]| select(words.to_vec()).prop_map(|word| json!(word));
    match takes {
        "text" => "\\PC*[a-z]".prop_map(|text| json!(text)).boxed(),
        "count" => prop_oneof![(0..20_u32).prop_map(|n| json!(n)), any::<u32>().prop_map(|n| json!(n))].boxed(),
        "count or none" => prop_oneof![any::<u32>().prop_map(|n| json!(n)), Just(json!("none"))].boxed(),
        "uses" => prop_oneof![any::<u64>().prop_map(|n| json!(n)), Just(json!("none"))].boxed(),
        "time" => time().boxed(),
        "time or none" => prop_oneof![3 => time(), 1 => Just(json!("none"))].boxed(),
        "real" => prop_oneof![(0.0..3.0_f64).prop_map(|n| json!(n)), any::<i32>().prop_map(|n| json!(n))].boxed(),
        "truth" => any::<bool>().prop_map(|truth| json!(truth)).boxed(),
        "validation" => prop_oneof![time(), one_of(&["always", "never"])].boxed(),
        "fairness" => prop_oneof![time(), one_of(&["strict"])].boxed(),
        "when_down" => one_of(&["wait", "fail_fast"]).boxed(),
        "nested" => one_of(&["allow", "warn", "deny"]).boxed(),
        "maintenance" => one_of(&["background", "manual"]).boxed(),
        "mode" => one_of(&["lazy", "background", "blocking"]).boxed(),
        _ => unreachable!("{takes}"),
    }
}

/// A file in which every setting can be read, though not every value be had.
fn file() -> impl Strategy<Value = Value> {
    let settings: Vec<_> =
        NAMES.iter().map(|(name, takes)| (Just(*name), prop::option::weighted(0.3, right(takes)))).collect();
    settings.prop_map(|settings| {
        let mut file = json!({});
        for (name, value) in settings {
            if let Some(value) = value {
                match name.split_once('.') {
                    Some((group, name)) => file[group][name] = value,
                    None => file[name] = value,
                }
            }
        }
        file
    })
}

/// A file that can be used, of which nothing is wrong in itself.
fn config() -> impl Strategy<Value = PoolConfig> {
    file().prop_map(|mut file| {
        // What is wrong is taken out until nothing is: few settings can be wrong alone.
        loop {
            let error = match serde_json::from_value::<PoolConfig>(file.clone()) {
                Ok(config) => return config,
                Err(error) => error.to_string(),
            };
            let (name, _) = NAMES
                .into_iter()
                .find(|(name, _)| error.contains(&format!("{name} is ")))
                .unwrap_or_else(|| panic!("no setting is named in {error}"));
            let table = match name.split_once('.') {
                Some((group, _)) => &mut file[group],
                None => &mut file,
            };
            let removed = table.as_object_mut().and_then(|table| table.remove(name.rsplit('.').next().unwrap_or(name)));
            assert!(removed.is_some(), "{name} was not given: {error}");
        }
    })
}

/// JSON of any shape, with keys of ours in it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|truth| json!(truth)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        word().prop_map(|text| json!(text)),
    ];
    let name = prop_oneof![
        select(&NAMES[..]).prop_map(|(name, _)| name.rsplit('.').next().expect("a last part").to_owned()),
        select(vec!["retry", "start_up", "warm_up", "adaptive", "retry.jitter", "keepalive_secs"])
            .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|entries| json!(entries.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

/// The builder and `validate` say the same, and lints take whatever there is.
fn check_use(config: &PoolConfig) -> Result<(), TestCaseError> {
    let builder = || Pool::builder(|| Ok::<_, io::Error>(())).config(config);
    drop((config.lint(), builder().lint(), format!("{config:?}")));
    let manual = builder().maintenance(millpond::Maintenance::Manual);
    match (config.validate(), manual.build_lazy()) {
        (Ok(()), Ok(_)) => {}
        (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
        (validated, built) => prop_assert!(false, "{validated:?} and {:?}", built.err()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_environment_is_read_or_refused_by_its_keys(vars in prop::collection::vec((key(), word()), 0..12)) {
        let all = PoolConfig::from_vars("P", vars.clone());
        if let Ok(config) = &all {
            check_use(config)?;
        }
        for (key, value) in &vars {
            let alone = PoolConfig::from_vars("P", [(key, value)]);
            let Err(alone) = alone else { continue };
            prop_assert_eq!(alone.kind(), ErrorKind::Config);
            prop_assert!(all.is_err());
            let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && key.len() < 100;
            if plain {
                prop_assert!(alone.to_string().contains(&format!("{key} is ")), "{key}: {alone}");
            }
            let ours = NAMES.iter().any(|(name, _)| key.to_uppercase().starts_with(&variable(name)));
            if !ours && !key.contains("s3cr3t") {
                prop_assert!(!alone.to_string().contains("s3cr3t"), "{alone}");
            }
            // A bare word given to a setting is its value; what looks like a secret is not told.
            if value.contains("://") || value.contains('=') && value.contains("password") {
                prop_assert!(!alone.to_string().contains("s3cr3t"), "{alone}");
            }
            prop_assert!(alone.to_string().len() < 1_000, "{alone}");
        }
    }

    #[test]
    fn any_text_is_a_file_or_refused(text in "\\PC*") {
        for config in [toml::from_str::<PoolConfig>(&text).ok(), serde_json::from_str(&text).ok()].into_iter().flatten() {
            check_use(&config)?;
        }
    }

    #[test]
    fn any_lines_are_a_file_or_refused(lines in prop::collection::vec((select(&NAMES[..]), word(), any::<u8>()), 0..8)) {
        let mut text = String::new();
        for ((name, _), word, how) in lines {
            match how % 4 {
                0 => text.push_str(&format!("{name} = {word}\n")),
                1 => text.push_str(&format!("{name} = {word:?}\n")),
                2 => text.push_str(&format!("[{name}]\n{word} = 1\n")),
                _ => text.push_str(&format!("{name} = '{word}'\n")),
            }
        }
        if let Ok(config) = toml::from_str::<PoolConfig>(&text) {
            check_use(&config)?;
        }
    }

    #[test]
    fn any_tree_is_a_file_or_refused(tree in any_json()) {
        if let Ok(config) = serde_json::from_value::<PoolConfig>(tree.clone()) {
            check_use(&config)?;
        }
        // The same from text, where numbers may take another way.
        if let Ok(config) = serde_json::from_str::<PoolConfig>(&tree.to_string()) {
            check_use(&config)?;
        }
    }

    #[test]
    fn a_file_whose_values_can_be_read_has_only_problems_of_the_builders(file in file()) {
        let config = match serde_json::from_value::<PoolConfig>(file) {
            Ok(config) => config,
            Err(error) => {
                let error = error.to_string();
                prop_assert!(!error.contains("is not a setting") && !error.contains("it must be a duration"), "{}", error);
                return Ok(());
            }
        };
        check_use(&config)?;
    }

    #[test]
    fn what_was_written_is_read_as_it_was(config in config()) {
        check_use(&config)?;
        let text = toml::to_string(&config).expect("it can be written");
        prop_assert_eq!(&toml::from_str::<PoolConfig>(&text).expect("and read"), &config, "{}", text);
        let tree = serde_json::to_value(&config).expect("it can be written");
        prop_assert_eq!(&serde_json::from_value::<PoolConfig>(tree.clone()).expect("and read"), &config, "{}", tree);

        // And in the environment, one variable for each.
        let mut vars = Vec::new();
        for (name, value) in tree.as_object().expect("a table") {
            match value {
                Value::Object(group) => vars.extend(group.iter().map(|(inner, value)| (format!("{name}.{inner}"), value))),
                value => vars.push((name.clone(), value)),
            }
        }
        let vars = vars.into_iter().map(|(name, value)| {
            (variable(&name), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        prop_assert_eq!(PoolConfig::from_vars("P", vars).expect("it is read"), config);
    }

    #[test]
    fn layers_can_be_merged_in_any_grouping(a in config(), b in config(), c in config()) {
        let left = a.clone().merge(b.clone()).merge(c.clone());
        let right = a.clone().merge(b.clone().merge(c));
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(&a.clone().merge(PoolConfig::default()), &a);
        prop_assert_eq!(&PoolConfig::default().merge(a.clone()), &a);
        prop_assert_eq!(&a.clone().merge(a.clone()), &a);
        check_use(&left)?;
        // What the later one gives counts, and what it leaves open is that of the first.
        let (one, other, both) = (json!(a), json!(b), json!(a.merge(b)));
        for (name, _) in NAMES {
            let path = format!("/{}", name.replace('.', "/"));
            prop_assert_eq!(both.pointer(&path), other.pointer(&path).or(one.pointer(&path)), "{}", name);
        }
    }
}
