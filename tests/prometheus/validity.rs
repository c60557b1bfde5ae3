//! What is rendered is what the format wants, whatever pools are called and however many there are.

use crate::promtool::promtool;
use crate::scrape::Scrape;
use millpond::prometheus::{CONTENT_TYPE, Exposition};
use millpond::{Manager, Observe, Pool, render_prometheus};
use std::io;
use std::time::Instant;

fn units(name: &str) -> Pool<impl Manager<Connection = ()> + use<>> {
    Pool::builder(|| Ok::<_, io::Error>(())).name(name).build_lazy().expect("good settings")
}

/// The names that OpenTelemetry and Micrometer have chosen, and the linter would not have. Everything else that it says is a fault
/// of ours.
const NOT_OURS: [&str; 1] =
    [r#"db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix"#];

fn assert_valid(text: &str) {
    drop(Scrape::read(text));
    if let Some((_, said)) = promtool(&["check", "metrics"], text) {
        let complaints: Vec<_> = said.lines().filter(|line| !NOT_OURS.contains(line)).collect();
        assert!(complaints.is_empty(), "{complaints:#?} about\n{text}");
    }
}

const NAMES: [&str; 9] = [
    "orders",
    "",
    "with \"quotes\" and a back\\slash",
    "two\nlines\r\nand\ttabs",
    "ends with a backslash\\",
    r#"injected"} 1 # HELP "#,
    "\u{fc}ber \u{2615} \u{202e}right to left",
    "{curly=\"braces\"}, commas",
    "a NUL \0 within",
];

#[test]
fn prometheus_has_no_complaint_about_any_name() {
    let pools = NAMES.map(units);
    for hikaricp in [false, true] {
        let text = Exposition::new().hikaricp(hikaricp).render(&pools);
        assert_valid(&text);
        assert_eq!(text.contains("hikaricp_"), hikaricp);
        let scrape = Scrape::read(&text);
        let of = |name: &str| scrape.series().filter(|(series, _)| series.starts_with(&format!("{name}{{"))).count();
        assert_eq!(of("db_client_connection_max"), NAMES.len());
        assert_eq!(of("hikaricp_connections_max"), if hikaricp { NAMES.len() } else { 0 });
    }
    let text = render_prometheus(&pools);
    for escaped in [
        r#"with \"quotes\" and a back\\slash"#,
        "two\\nlines\r\\nand\ttabs",
        r"ends with a backslash\\",
        "über ☕ \u{202e}right to left",
        "a NUL \0 within",
    ] {
        let line = format!("db_client_connection_max{{db_client_connection_pool_name=\"{escaped}\"}} 10");
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn the_linter_is_really_asked() {
    if let Some((content, said)) = promtool(&["check", "metrics"], "# TYPE a counter\na{b=\"c} 1\n") {
        assert!(!content && said.contains("error while linting"), "{said}");
    }
}

#[test]
fn no_pools_are_no_text() {
    let none: [&dyn Observe; 0] = [];
    let text = Exposition::new().hikaricp(true).render(none);
    assert_eq!(text, "");
    assert_valid(&text);
}

#[test]
fn equal_names_are_told_apart_and_clones_are_one() {
    let (first, second, third, sly) = (units("same"), units("same"), units("same"), units("same (2)"));
    let clone = first.clone();
    let pools: [&dyn Observe; 5] = [&sly, &third, &clone, &second, &first];
    let text = Exposition::new().hikaricp(true).render(pools);
    assert_valid(&text);
    let mut names: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("hikaricp_connections_max{pool=\"")).collect();
    names.sort_unstable();
    assert_eq!(names, ["same (2)\"} 10", "same (3)\"} 10", "same (4)\"} 10", "same\"} 10"]);
}

#[test]
fn passwords_in_names_do_not_appear() {
    let text = Exposition::new().hikaricp(true).render([&units("redis://user:s3cr3t@host:6379/0")]);
    assert!(!text.contains("s3cr3t"));
    assert!(text.contains(r#"hikaricp_connections_max{pool="redis://user:***@host:6379/0"} 10"#), "{text}");
}

#[test]
fn families_carry_their_units() {
    let scrape = Scrape::read(&Exposition::new().hikaricp(true).render([&units("orders")]));
    assert!(scrape.families.len() > 40);
    for (family, kind) in &scrape.families {
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
        let timed = ["time_s", "wait_s", "lease_s", "unanswered_s", "acquire_", "usage_", "creation_"];
        assert_eq!(timed.iter().any(|part| family.contains(part)), family.contains("_seconds"), "{family}");
        assert!(kind != "histogram" && kind != "summary" || family.ends_with("_seconds"), "{family}");
    }
}

#[test]
fn each_family_is_in_the_documentation_with_its_type_and_no_other_is() {
    let documentation = include_str!("../../src/prometheus/mod.rs");
    let scrape = Scrape::read(&Exposition::new().hikaricp(true).render([&units("orders")]));
    let rows = documentation.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("//! | `")?.split_once("` | ")?;
        let kind: String = rest.chars().take_while(|c| c.is_alphabetic()).collect();
        Some((name.to_owned(), kind))
    });
    let documented: std::collections::BTreeMap<_, _> = rows.collect();
    assert_eq!(documented, scrape.families);
    let series = Scrape::read(&render_prometheus([&units("orders")])).series().count();
    assert!(documentation.contains(&format!("{series} for each pool, 78 of them")), "{series}");
}

#[test]
fn the_content_type_is_that_of_the_text_format() {
    assert_eq!(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
}

#[test]
#[ignore = "a measurement: cargo test --release -p millpond --test prometheus -- --ignored --nocapture"]
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn what_rendering_costs() {
    for number in [1, 100, 1_000] {
        let pools: Vec<_> = (0..number).map(|n| units(&format!("shard-{n}"))).collect();
        for pool in &pools {
            let held = pool.get_many(3).expect("there are ten");
            pool.get_timeout(std::time::Duration::from_micros(50)).map(drop).unwrap_or_default();
            drop(held);
        }
        let rounds = 20_000 / number;
        for hikaricp in [false, true] {
            let exposition = Exposition::new().hikaricp(hikaricp);
            let mut took: Vec<_> = (0..rounds)
                .map(|_| {
                    let began = Instant::now();
                    let bytes = exposition.render(&pools).len();
                    (began.elapsed(), bytes)
                })
                .collect();
            took.sort_unstable();
            let (median, bytes) = took[took.len() / 2];
            println!("{number} pools, hikaricp {hikaricp}: {:.1} µs, {bytes} bytes", median.as_secs_f64() * 1e6);
        }
    }
}
