//! The dashboard and the alerts ask for what pools tell, and each alert fires when it should.

use crate::promtool::promtool;
use crate::scrape::Scrape;
use millpond::{Pool, render_prometheus};
use serde_json::Value;
use std::collections::BTreeSet;

const DASHBOARD: &str = include_str!("../../docs/observing/dashboard.json");
const ALERTS: &str = include_str!("../../docs/observing/alerts.yml");
const ALERT_TESTS: &str = include_str!("alerts.yml");
const GUIDE: &str = include_str!("../../docs/observing.md");

/// What queries say besides names of metrics and of labels.
const PROMQL: [&str; 19] = [
    "ALERTS",
    "and",
    "avg_over_time",
    "by",
    "count_over_time",
    "histogram_quantile",
    "ignoring",
    "increase",
    "label_values",
    "max",
    "min_over_time",
    "rate",
    "sum",
    "without",
    "__rate_interval",
    // Labels that Prometheus adds.
    "alertname",
    "alertstate",
    "instance",
    "severity",
];

fn rendered() -> String {
    let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build().expect("it opens");
    render_prometheus([&pool])
}

/// An expression without what is in quotes, and that by itself.
fn without_quotes(expression: &str) -> (String, Vec<&str>) {
    let (code, quoted): (Vec<_>, Vec<_>) = expression.split('"').enumerate().partition(|(n, _)| n % 2 == 0);
    let code: Vec<_> = code.into_iter().map(|(_, part)| part).collect();
    (code.join("\"\""), quoted.into_iter().map(|(_, part)| part).collect())
}

fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// The names of metrics in an expression. Fails where a word is no metric that is rendered, no label of one, and no PromQL; and
/// where a label is to equal what it never is.
fn metrics<'a>(expression: &'a str, text: &'a str) -> BTreeSet<&'a str> {
    let scrape = Scrape::read(text);
    let labels = scrape.series().filter_map(|(series, _)| series.split_once('{'));
    let labels: BTreeSet<_> =
        labels.flat_map(|(_, labels)| labels.split(',')).filter_map(|l| l.split('=').next()).collect();
    let names: BTreeSet<&str> = text.split(['{', '\n']).filter(|name| scrape.names().contains(name)).collect();
    let (code, _) = without_quotes(expression);
    let mut used = BTreeSet::new();
    for word in identifiers(&code) {
        if let Some(name) = names.get(word) {
            used.insert(*name);
        } else {
            assert!(labels.contains(word) || PROMQL.contains(&word), "{word} is nothing, in {expression}");
        }
    }
    for equal in expression.split(['{', ',']).filter_map(|matcher| matcher.split('}').next()) {
        let ours = |name: &str| labels.contains(name) && name != "db_client_connection_pool_name" && name != "le";
        if equal.split_once("=\"").is_some_and(|(name, _)| ours(name)) {
            assert!(text.contains(equal), "{equal} is never so, in {expression}");
        }
    }
    used
}

fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        Value::Object(fields) => {
            let own = ["expr", "definition"].into_iter().filter_map(|field| fields.get(field)?.as_str());
            own.chain(fields.values().flat_map(expressions)).collect()
        }
        _ => Vec::new(),
    }
}

/// The values of a key, on its line or folded on more deeply indented ones below it.
fn values(yaml: &str, key: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let value = |(at, line): (usize, &str)| {
        let value = line.trim_start().trim_start_matches(['-', '{', ' ']).strip_prefix(key)?.strip_prefix(':')?.trim();
        let below = yaml.lines().skip(at + 1).take_while(|below| indent(below) > indent(line));
        let folded = below.map(str::trim).collect::<Vec<_>>().join(" ");
        Some(if value == ">-" { folded } else { value.to_owned() })
    };
    yaml.lines().enumerate().filter_map(value).collect()
}

#[test]
fn the_dashboard_asks_for_what_is_rendered() {
    let text = rendered();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 25, "{}", expressions.len());
    let mut asked = BTreeSet::new();
    for expression in expressions {
        let metrics = metrics(expression, &text);
        assert_eq!(metrics.len(), 1, "{expression}");
        asked.extend(metrics);
    }
    assert!(asked.len() > 18, "{asked:?}");
    let panels = dashboard["panels"].as_array().expect("there are panels");
    for panel in panels {
        assert!(
            panel["title"].is_string() && panel["description"].is_string() && panel["targets"][0]["expr"].is_string()
        );
        for target in panel["targets"].as_array().expect("there are queries") {
            let expression = target["expr"].as_str().expect("a query");
            assert!(expression.contains(r#"db_client_connection_pool_name=~"$pool""#), "{expression}");
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().into_iter().flatten().collect();
    assert_eq!(variables.iter().map(|v| v["name"].as_str()).collect::<Vec<_>>(), [Some("datasource"), Some("pool")]);
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36), "Grafana 9");
}

#[test]
fn the_queries_of_the_dashboard_and_of_the_guide_are_promql() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let guide: Vec<_> = GUIDE.split("```promql\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    let text = rendered();
    assert!(guide.len() == 2 && guide.iter().all(|query| !metrics(query, &text).is_empty()), "{guide:?}");
    let queries = expressions(&dashboard).into_iter().filter(|query| !query.starts_with("label_values")).chain(guide);
    let rules: Vec<_> = queries
        .enumerate()
        .map(|(n, query)| {
            let query = query.replace("$__rate_interval", "1m").replace("$pool", ".*");
            format!("  - record: panel:{n}\n    expr: {}\n", Value::from(query))
        })
        .collect();
    let folder = crate::support::Folder::new();
    let file = folder.path().join("panels.yml");
    std::fs::write(&file, format!("groups:\n- name: panels\n  rules:\n{}", rules.concat())).expect("it is written");
    if let Some((content, said)) = promtool(&["check", "rules", file.to_str().expect("plain text")], "") {
        assert!(content && said.contains(&format!("SUCCESS: {} rules found", rules.len())), "{said}");
    }
}

#[test]
fn the_alerts_ask_for_what_is_rendered_and_say_why() {
    let text = rendered();
    let (names, expressions) = (values(ALERTS, "alert"), values(ALERTS, "expr"));
    assert!(names.len() > 10 && names.len() == expressions.len());
    for (name, expression) in names.iter().zip(&expressions) {
        assert!(!metrics(expression, &text).is_empty(), "{name}: {expression}");
    }
    let (summaries, descriptions) = (values(ALERTS, "summary"), values(ALERTS, "description"));
    assert_eq!((summaries.len(), descriptions.len()), (names.len(), names.len()));
    for (name, (summary, description)) in names.iter().zip(summaries.iter().zip(&descriptions)) {
        assert!(summary.contains("$labels.db_client_connection_pool_name"), "{name}: {summary}");
        assert!(description.contains("Threshold: "), "{name}: {description}");
        assert!(GUIDE.contains(&format!("| `{name}` |")), "{name} is not in the guide");
    }
    if let Some((content, said)) = promtool(&["check", "rules", "--lint-fatal", "docs/observing/alerts.yml"], "") {
        assert!(content && said.contains(&format!("SUCCESS: {} rules found", names.len())), "{said}");
    }
}

#[test]
fn each_alert_fires_when_it_should_and_none_does_for_a_pool_that_is_well() {
    let text = rendered();
    for series in values(ALERT_TESTS, "series") {
        assert_eq!(metrics(series.trim_matches('\''), &text).len(), 1, "{series}");
    }
    for name in values(ALERTS, "alert") {
        let fires = [
            format!("alertname: {name}\n        exp_alerts:\n"),
            format!("alertname=\"{name}\",alertstate=\"firing\""),
        ];
        assert!(fires.iter().any(|fires| ALERT_TESTS.contains(fires)), "no test in which {name} fires");
    }
    if let Some((content, said)) = promtool(&["test", "rules", "tests/prometheus/alerts.yml"], "") {
        assert!(content && said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn the_guide_names_only_metrics_that_are_rendered() {
    let text = rendered();
    let scrape = Scrape::read(&text);
    let known = |word: &str| {
        let known = scrape.names();
        known.contains(word) || scrape.families.contains_key(word) || text.contains(&format!("{word}="))
    };
    let words = identifiers(GUIDE).filter(|word| word.starts_with("db_client_") || word.starts_with("millpond_"));
    let unknown: Vec<_> = words.filter(|word| !word.ends_with('_') && !known(word)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
