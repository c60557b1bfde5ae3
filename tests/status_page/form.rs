//! What the page is made of: who can read and use it, and what stays out of it.

use super::{LEVEL, idle, serve};
use crate::browser::{Browser, browser};
use crate::load::{Load, fragile};
use crate::support::Lab;
use millpond::{Pool, PooledConnection};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Everything that can have the focus, as it comes.
const FOCUSABLE: &str = "[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]\
    .filter(element => element.tabIndex >= 0 && element.checkVisibility())";

/// A pool with all that can be on the page: load, warnings, time-outs, incidents with holders, an outage.
fn eventful(browser: &Browser) -> (crate::site::Site, Load, impl Drop + use<>) {
    let lab = Lab::new();
    let pool = fragile(&lab, "orders");
    let full = idle("a name that is long, without-any-place-to-break-it-for-a-good-while_and_some_more_of_it");
    let mut held = full.get_many(4).expect("four are free");
    let longest = held.first_mut().expect("there are four");
    PooledConnection::set_label(longest, "a_label_that_is_as_long_as_somebody_may_make_one_without_a_thought");
    for _ in 0..12 {
        full.get_timeout(Duration::from_millis(1)).expect_err("all are held");
    }
    lab.refuse.store(true, SeqCst);
    let load = Load::on(&pool, 6, Duration::from_millis(2), Duration::ZERO);
    let site = serve(super::Together(vec![Box::new(pool), Box::new(full)]));
    browser.go(&site.url());
    browser
        .wait_until("document.querySelector('.outage:not([hidden])') && document.querySelector('.incidents summary')");
    (site, load, held)
}

#[test]
fn nothing_is_written_to_the_console() {
    let Some(browser) = browser() else { return };
    let page = eventful(&browser);
    browser.run("document.getElementById('close').click(); document.getElementById('open').click()");
    browser.run("document.querySelectorAll('summary').forEach(summary => summary.click())");
    // A pointer over a chart.
    browser.run("document.querySelectorAll('.plot').forEach(plot => plot.dispatchEvent(new PointerEvent('pointermove', { clientX: 900 })))");
    let asked = page.0.asked().len();
    crate::support::eventually("it is asked twice more", || page.0.asked().len() > asked + 2);
    assert_eq!(browser.console(), Vec::<Value>::new());
}

#[test]
fn markup_in_a_name_stays_text() {
    let Some(browser) = browser() else { return };
    let name = r#"<script>document.title="x"</script><img src=x onerror="document.title='x'">"#;
    let pool = idle(name);
    let mut held = pool.get().expect("it is free");
    PooledConnection::set_label(&mut held, "<b>bold</b>");
    let site = serve(pool);
    browser.go(&site.url());
    browser.wait_until(&format!("document.querySelector('.pool') && {LEVEL} === 'ok'"));
    assert_eq!(browser.text("return document.querySelector('.pool h3').textContent"), name);
    browser.wait_until("document.body.innerText.includes('<b>bold</b>')");
    assert_eq!(browser.number("return document.scripts.length"), 1.0);
    assert_eq!(browser.number("return document.querySelectorAll('img, main b:not(figcaption b)').length"), 0.0);
    assert_eq!(browser.text("return document.title"), "All ok · Pools");
    assert_eq!(browser.console(), Vec::<Value>::new());
}

#[test]
fn nothing_is_loaded_from_outside() {
    let Some(browser) = browser() else { return };
    let site = serve(idle("orders"));
    browser.go(&site.url());
    browser.wait_until("document.querySelector('.pool')");
    let loaded = browser.run("return performance.getEntriesByType('resource').map(entry => new URL(entry.name).href)");
    let json = site.url() + ".json";
    assert!(loaded.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|one| *one == json)), "{loaded}");
    let asked: BTreeSet<_> = site.asked().into_iter().collect();
    assert_eq!(asked, BTreeSet::from(["/pools".to_owned(), "/pools.json".to_owned()]));
    let elements =
        "return document.querySelectorAll('[src], link[href]:not([href^=\"data:\"]), iframe, object').length";
    assert_eq!(browser.number(elements), 0.0);
}

#[test]
fn on_a_phone_nothing_is_wider_than_the_screen() {
    let Some(browser) = browser() else { return };
    let _page = eventful(&browser);
    let widths = "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]";
    for width in [360, 412, 600, 800, 1000, 1280, 2200] {
        browser.screen(width, 800, width < 600);
        browser.run("document.querySelectorAll('details').forEach(details => { details.open = true })");
        let within = "[...document.querySelectorAll('main *:not(.unseen)')].filter(element => element.checkVisibility() \
            && !element.closest('svg') && element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).map(element => element.outerHTML.slice(0, 200))";
        assert_eq!(browser.run(&format!("return {within}")), json!([]), "at {width}");
        assert_eq!(browser.run(widths), json!([width, width]));
    }
}

#[test]
fn tab_reaches_everything_and_everything_has_a_name() {
    let Some(browser) = browser() else { return };
    let _page = eventful(&browser);
    browser.run("document.getElementById('pause').click()");
    browser.run(&format!("{FOCUSABLE}.forEach((element, n) => {{ element.dataset.nth = n }})"));
    let all = browser.number(&format!("return {FOCUSABLE}.length")) as usize;
    assert!(all >= 8, "{all}");
    let mut seen = Vec::new();
    let mut names = Vec::new();
    for _ in 0..all {
        browser.press_tab();
        seen.push(browser.text("return document.activeElement.dataset.nth ?? document.activeElement.outerHTML"));
        names.push(browser.name_of_focused());
        let ring = "const own = document.activeElement, style = getComputedStyle(own), before = getComputedStyle(own, '::before');
            return own.matches(':focus-visible') && [style, before].some(one => one.outlineStyle === 'solid' && parseFloat(one.outlineWidth) >= 2)";
        assert_eq!(browser.run(ring), true, "the focus shows on {names:?}");
    }
    assert_eq!(seen, (0..all).map(|n| n.to_string()).collect::<Vec<_>>(), "in the order of the page");
    assert!(names.iter().all(|name| !name.trim().is_empty()), "{names:?}");
    for name in ["Skip to the pools", "Go on", "Filter", "Open all shown", "Collapse all", "orders"] {
        assert!(names.iter().any(|one| one == name), "{name}: {names:?}");
    }
}

#[test]
fn light_and_dark_differ_and_text_is_readable_in_both() {
    let Some(browser) = browser() else { return };
    let page = eventful(&browser);
    let contrast = include_str!("contrast.js");
    let back = "return getComputedStyle(document.body).backgroundColor";
    let mut backs = Vec::new();
    for does in [crate::site::Does::Answer, crate::site::Does::HangUp] {
        page.0.does(does);
        browser.wait_until(&format!(
            "document.body.classList.contains('stale') === {}",
            does == crate::site::Does::HangUp
        ));
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            assert_eq!(browser.run(contrast), json!([]), "{scheme}");
            backs.push(browser.text(back));
        }
    }
    assert_ne!(backs[0], backs[1]);
}

#[test]
fn who_asks_for_little_motion_gets_none() {
    let Some(browser) = browser() else { return };
    let site = serve(idle("orders"));
    browser.go(&site.url());
    browser.wait_until("document.querySelector('.bar .used')");
    let lasts = "return getComputedStyle(document.querySelector('.bar .used')).transitionDuration";
    assert_eq!(browser.text(lasts), "0.25s");
    let reduced = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
    browser.devtools("Emulation.setEmulatedMedia", &reduced);
    assert_eq!(browser.text(lasts), "0s");
}

#[test]
fn a_screen_reader_finds_headings_and_tables_with_names() {
    let Some(browser) = browser() else { return };
    let _page = eventful(&browser);
    browser.devtools("Accessibility.enable", &json!({}));
    let tree = browser.devtools("Accessibility.getFullAXTree", &json!({}));
    browser.devtools("Accessibility.disable", &json!({}));
    let nodes = tree["nodes"].as_array().expect("a list");
    let named = |role: &str| -> Vec<&str> {
        let of = nodes.iter().filter(|node| node["ignored"] == false && node["role"]["value"] == role);
        of.map(|node| node["name"]["value"].as_str().unwrap_or_default()).collect()
    };
    let headings = named("heading");
    for name in ["All pools together", "Each pool, the worst first", "orders", "Connections", "Last five minutes"] {
        assert!(headings.contains(&name), "{name}: {headings:?}");
    }
    let tables = named("table");
    for name in ["Times", "Counters", "Closed connections, by reason", "Held longest", "Incidents, newest first"] {
        assert!(tables.contains(&name), "{name}: {tables:?}");
    }
    assert!(!tables.contains(&"") && !headings.contains(&""), "{tables:?} {headings:?}");
    let texts = named("StaticText");
    for label in ["In use ", "Waiting ", "Checkouts/s ", "Time-outs/s ", "Wait p99, 1 min "] {
        assert!(texts.iter().any(|text| text.trim() == label.trim()), "{label}: {texts:?}");
    }
    assert!(named("columnheader").contains(&"p99") && named("rowheader").contains(&"Checkouts"));
    let charts = named("image");
    assert!(charts.iter().any(|name| name.starts_with("Callers waiting, last 5 minutes: lowest ")), "{charts:?}");
    for landmark in ["main", "banner", "contentinfo", "search"] {
        assert_eq!(named(landmark).len(), 1, "{landmark}");
    }
}

#[test]
fn a_password_in_a_name_or_a_label_never_reaches_the_page() {
    let Some(browser) = browser() else { return };
    let refuses = || Err::<(), _>(std::io::Error::other("cannot reach redis://app:hunter2@cache/0"));
    let away = Pool::builder(refuses).name("away").connection_timeout(Duration::from_millis(1)).build_lazy();
    let away = away.expect("the settings fit");
    away.get().expect_err("it refuses");
    let pool = idle("postgres://app:hunter2@db/orders");
    let mut held = pool.get().expect("it is free");
    PooledConnection::set_label(&mut held, "to mysql://root:hunter2@old/, password=hunter2");
    let site = serve(super::Together(vec![Box::new(away), Box::new(pool)]));
    browser.go(&site.url());
    browser.wait_until("document.body.innerText.includes('@old/') && document.body.innerText.includes('@cache/0')");
    browser.wait_until("document.body.innerText.includes('app:***@db')");
    assert_eq!(browser.run("return document.documentElement.outerHTML.includes('hunter2')"), false);
}
