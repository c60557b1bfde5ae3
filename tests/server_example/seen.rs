//! What operators see.

use crate::browser::browser;
use crate::process::Server;
use millpond::prometheus;
use millpond::status::CONTENT_SECURITY_POLICY;
use serde_json::json;

#[test]
fn operators_are_told_of_both_pools() {
    let server = Server::start(&["--readers", "3"]);
    server.write("Ada", "one");
    let health = server.get("/health");
    assert_eq!((health.status, &health.json()["level"]), (200, &json!("ok")));
    assert_eq!(health.header("cache-control"), Some("no-store"));

    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some(prometheus::CONTENT_TYPE));
    let max = |pool| format!(r#"db_client_connection_max{{db_client_connection_pool_name="guest-book-{pool}"}}"#);
    assert_eq!(sample(&metrics.body, &max("readers")), 3.0);
    assert_eq!(sample(&metrics.body, &max("writer")), 1.0);
    let checkouts = r#"millpond_checkouts_total{db_client_connection_pool_name="guest-book-writer"}"#;
    assert_eq!(sample(&metrics.body, checkouts), 1.0, "one connection for all of a request");

    assert_eq!(server.get("/pools.json").json()["pools"].as_array().map(Vec::len), Some(2));
    let page = server.get("/status");
    assert_eq!(page.header("content-security-policy"), Some(CONTENT_SECURITY_POLICY));
    assert!(page.body.contains(r#"data-json="/pools.json""#));
}

/// Each line is a comment, or a name and a number.
fn sample(text: &str, name: &str) -> f64 {
    let mut found = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (its, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let number: f64 = number.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        if its == name {
            found = Some(number);
        }
    }
    found.unwrap_or_else(|| panic!("{name} in {text}"))
}

#[test]
fn a_browser_writes_into_the_book_and_the_status_page_tells_of_it() {
    let Some(browser) = browser() else { return };
    let server = Server::start(&[]);
    browser.go(&server.url);
    browser.run(
        "document.querySelector('[name=name]').value = 'Ada';
         document.querySelector('[name=text]').value = '<b>from</b> a browser';
         document.querySelector('form').submit()",
    );
    browser
        .wait_until("location.pathname === '/entries/1' && document.body.innerText.includes('<b>from</b> a browser')");
    assert_ne!(browser.text("return getComputedStyle(document.body).maxWidth"), "none", "the policy allows the style");

    browser.go(&format!("{}/status", server.url));
    browser.wait_until("document.querySelectorAll('.pool').length === 2");
    browser
        .wait_until("document.body.innerText.includes('guest-book-writer') && document.querySelector('.pool .level')");
    let checkouts = "[...document.querySelectorAll('caption')].filter(c => c.textContent === 'Counters')\
        .map(c => Number(c.parentNode.rows[1].cells[3].textContent.replaceAll(',', ''))).reduce((a, b) => a + b, 0)";
    browser.wait_until(&format!("{checkouts} > 0"));
    let before = browser.number(&format!("return {checkouts}"));
    server.write("Grace", "meanwhile");
    browser.wait_until(&format!("{checkouts} > {before}"));
    let complaints: Vec<_> =
        browser.console().into_iter().filter(|entry| !entry.to_string().contains("favicon.ico")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
