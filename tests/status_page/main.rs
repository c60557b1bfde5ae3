//! The status page, in a real browser, over real pools.

mod browser;
mod form;
mod load;
mod site;
#[path = "../support/mod.rs"]
mod support;

use browser::browser;
use load::{Load, fragile};
use millpond::status::{CONTENT_SECURITY_POLICY, Observe, Status, page};
use millpond::{Pool, PooledConnection};
use serde_json::json;
use site::{Does, Site};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;
use support::Lab;

/// The level of the first pool of the list, as it is read on the page.
const LEVEL: &str = "document.querySelector('.pool .level').textContent";
/// Of the first pool, in the table of counters: checkouts since the start, without commas.
const CHECKOUTS: &str = "Number([...document.querySelectorAll('caption')].find(c => c.textContent === 'Counters')\
    .parentNode.rows[1].cells[3].textContent.replaceAll(',', ''))";
const TROUBLE: &str = "document.getElementById('trouble')";

/// Serves the status of these pools, now and later.
fn serve(pools: impl Observe + Send + 'static) -> Site {
    Site::new(move || Status::of([&pools]).to_json())
}

fn idle(name: &str) -> Pool<impl millpond::Manager<Connection = ()>> {
    Pool::builder(|| Ok::<_, std::io::Error>(())).name(name).max_size(4).build().expect("the settings fit")
}

#[test]
fn values_change_under_load() {
    let Some(browser) = browser() else { return };
    let pool = fragile(&Lab::new(), "orders");
    let _load = Load::on(&pool, 6, Duration::from_millis(2), Duration::from_millis(1));
    let site = serve(pool);
    browser.go(&site.url());
    browser.wait_until(&format!("document.querySelector('table') && {CHECKOUTS} > 0"));
    let before = browser.number(&format!("return {CHECKOUTS}"));
    browser.wait_until(&format!("{CHECKOUTS} > {before}"));
    // Rates and percentiles are made of two answers; charts need two points with a rate.
    browser
        .wait_until("Number(document.querySelectorAll('.pool .value')[1].lastChild.textContent.replace(',', '')) > 0");
    browser
        .wait_until("/^[0-9.]+ (µs|ms|s)$/.test(document.querySelectorAll('.pool .value')[3].lastChild.textContent)");
    browser
        .wait_until("[...document.querySelectorAll('path.line')].every(path => path.getAttribute('d').includes('L'))");
    browser.wait_until("document.querySelector('.bar .used').style.width !== '0%'");
    // Who holds a connection, with its thread, place and label.
    browser.wait_until(
        "/worker-\\d+.*load\\.rs:\\d+.*request \\d/.test(document.body.innerText.replaceAll(/\\s+/g, ' '))",
    );
}

#[test]
fn an_outage_shows_within_two_seconds() {
    let Some(browser) = browser() else { return };
    let lab = Lab::new();
    let pool = fragile(&lab, "orders");
    let _load = Load::on(&pool, 3, Duration::from_millis(2), Duration::from_millis(5));
    let site = serve(pool);
    browser.go(&site.url());
    let mut measured = Vec::new();
    // On a machine that stands still for a second, the next one may be seen in time.
    for _ in 0..5 {
        browser.wait_until(&format!("{LEVEL} !== 'critical' && document.querySelector('.outage')?.hidden"));
        browser.run(
            "window.shown = null;
             window.began = performance.now();
             const outage = document.querySelector('.outage');
             const seen = new MutationObserver(() => {
                 if (!outage.hidden && outage.textContent.includes('refused (attempt')) {
                     window.shown = performance.now() - window.began;
                     seen.disconnect();
                 }
             });
             seen.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });",
        );
        lab.refuse.store(true, SeqCst);
        browser.wait_until("window.shown !== null");
        measured.push(browser.number("return window.shown"));
        browser.wait_until(&format!("{LEVEL} === 'critical'"));
        assert!(browser.text("return document.querySelector('.why').textContent").starts_with("the server is away"));
        lab.refuse.store(false, SeqCst);
        if measured.last().is_some_and(|&took| took < 2000.0) {
            println!("an outage shows after {measured:.0?} ms");
            // It is an incident afterwards.
            browser.wait_until("/server away/.test(document.querySelector('.incidents').textContent)");
            return;
        }
    }
    panic!("an outage shows after {measured:.0?} ms");
}

#[test]
fn a_server_that_goes_away_is_told_of_and_so_is_its_return() {
    let Some(browser) = browser() else { return };
    let site = serve(idle("orders"));
    let told = |why: &str| format!("!{TROUBLE}.hidden && {TROUBLE}.textContent.includes('{why}')");
    let fine = format!("{TROUBLE}.hidden && {LEVEL} === 'ok' && !document.body.classList.contains('stale')");
    browser.go(&site.url());
    browser.wait_until(&fine);

    site.does(Does::HangUp);
    browser.wait_until(&told("it cannot be reached"));
    // No old number looks new.
    assert_eq!(browser.text(&format!("return {LEVEL}")), "was ok");
    assert!(browser.text("return document.title").starts_with("No answer"));
    assert!(browser.text(&format!("return {TROUBLE}.textContent")).contains("since"));
    assert!(browser.text("return document.getElementById('updated').textContent").starts_with("Last answer"));
    site.does(Does::Answer);
    browser.wait_until(&fine);

    site.does(Does::Fail);
    browser.wait_until(&told("it says 500"));
    site.does(Does::Answer);
    browser.wait_until(&fine);

    // One that takes the request and says nothing is not asked again meanwhile.
    site.does(Does::Hang);
    browser.wait_until(&told("nothing for 2.5 s"));
    assert_eq!(site.hanging(), 1);
    site.does(Does::Answer);
    browser.wait_until(&fine);
}

#[test]
fn an_answer_that_is_none_is_told_of() {
    let Some(browser) = browser() else { return };
    let site = serve(idle("orders"));
    let told = |why: &str| format!("!{TROUBLE}.hidden && {TROUBLE}.textContent.includes('{why}')");
    browser.go(&site.url());
    site.says(|| "<!doctype html><title>Log in</title>".to_owned());
    browser.wait_until(&told("the answer is not JSON"));
    site.says(|| r#"{"error": "later"}"#.to_owned());
    browser.wait_until(&told("the answer is not the status of pools"));
    // A cache between that hands out the same again and again.
    let copy = Status::of([&idle("orders")]).to_json();
    site.says(move || copy.clone());
    browser.wait_until(&told("the answer is a copy of an older one"));
}

#[test]
fn a_pause_stops_the_questions_and_says_so() {
    let Some(browser) = browser() else { return };
    let site = serve(idle("orders"));
    browser.go(&site.url());
    browser.wait_until(&format!("document.querySelector('.pool') && {LEVEL} === 'ok'"));
    browser.run("document.getElementById('pause').click()");
    browser.wait_until(&format!("{LEVEL} === 'was ok' && {TROUBLE}.textContent.startsWith('Paused')"));
    // A question that was under way has arrived; a second one would be due by then.
    let asked = site.asked().len();
    sleep(Duration::from_millis(2200));
    assert!(site.asked().len() <= asked + 1, "{:?}", site.asked());
    browser.run("document.getElementById('pause').click()");
    browser.wait_until(&format!("{LEVEL} === 'ok' && {TROUBLE}.hidden"));
}

#[test]
fn a_page_that_nobody_looks_at_asks_less_often() {
    let Some(browser) = browser() else { return };
    let site = serve(idle("orders"));
    browser.go(&site.url());
    browser.wait_until(&format!("document.querySelector('.pool') && {LEVEL} === 'ok'"));
    let hide = |hidden: bool| {
        browser.run(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        ))
    };
    hide(true);
    let asked = site.asked().len();
    sleep(Duration::from_millis(2400));
    // One was due already.
    assert!(site.asked().len() <= asked + 1, "{:?}", site.asked());
    let asked = site.asked().len();
    // What is there is old until there is an answer, and that is asked for at once.
    hide(false);
    support::eventually("it is asked", || site.asked().len() > asked);
    browser.wait_until(&format!("{LEVEL} === 'ok' && !document.body.classList.contains('stale')"));
}

#[test]
fn a_pool_that_is_gone_is_marked_and_a_restart_gives_no_negative_rate() {
    let Some(browser) = browser() else { return };
    let pools = Arc::new(Mutex::new(vec![idle("orders"), idle("users")]));
    let served = Arc::clone(&pools);
    let site = Site::new(move || Status::of([&*served.lock().expect("no panic")]).to_json());
    for _ in 0..500 {
        drop(pools.lock().expect("no panic")[0].get());
    }
    browser.go(&site.url());
    browser.wait_until(&format!("document.querySelectorAll('.pool').length === 2 && {CHECKOUTS} === 500"));
    // Whatever is negative anywhere, from here on.
    browser.run(
        "window.negative = [];
         new MutationObserver(() => {
             const texts = [...document.querySelectorAll('main td, main dd, main .value')].map(element => element.textContent);
             const found = texts.join('\\n').match(/[-−]\\d[^\\n]*/);
             if (found) window.negative.push(found[0]);
         }).observe(document.body, { subtree: true, childList: true, characterData: true });",
    );
    // The program has started anew: the same name, and all counters from zero.
    pools.lock().expect("no panic")[0] = idle("orders");
    browser.wait_until(&format!("{CHECKOUTS} === 0 && document.body.innerText.includes('counters began anew')"));
    browser.wait_until("document.querySelectorAll('.pool .value')[1].lastChild.textContent === '0'");
    assert_eq!(browser.run("return window.negative"), json!([]));

    drop(pools.lock().expect("no panic").pop());
    browser.wait_until("document.querySelector('.pool.gone')?.innerText.includes('Gone since')");
    let gone = browser.text("return document.querySelector('.pool.gone').innerText");
    assert!(gone.contains("users") && gone.contains("gone"), "{gone}");
    assert_eq!(browser.text(&format!("return {LEVEL}")), "ok", "what is gone comes last");
    pools.lock().expect("no panic").push(idle("users"));
    browser.wait_until("!document.querySelector('.pool.gone')");
}

#[test]
fn only_changes_of_level_are_announced_and_the_worst_comes_first() {
    let Some(browser) = browser() else { return };
    let (orders, users) = (idle("orders"), idle("users"));
    let site = serve(vec![orders, users.clone()]);
    browser.go(&site.url());
    browser.wait_until("document.querySelectorAll('.pool').length === 2");
    browser.run(
        "window.said = [];
         const region = document.querySelector('[aria-live]');
         new MutationObserver(() => window.said.push(region.textContent)).observe(region, { subtree: true, childList: true, characterData: true });",
    );
    let first = "document.querySelector('.pool h3').textContent";
    browser.wait_until(&format!("{first} === 'orders'"));
    let held = users.get_many(4).expect("four are free");
    browser.wait_until(&format!("{first} === 'users' && {LEVEL} === 'warning'"));
    // Two more answers in which nothing changes but the times.
    let asked = site.asked().len();
    support::eventually("it is asked twice more", || site.asked().len() > asked + 2);
    assert_eq!(
        browser.run("return window.said"),
        json!(["users: warning, all 4 connections are in use; nobody waits"])
    );
    // What does better stays where it is for a while.
    drop(held);
    browser.wait_until("window.said.length === 2");
    assert_eq!(browser.text("return window.said[1]"), "users: ok");
    assert_eq!(browser.text(&format!("return {first}")), "users");
}

#[test]
fn a_thousand_pools_are_a_bounded_number_of_nodes() {
    let Some(browser) = browser() else { return };
    let pools: Vec<_> = (0..1000)
        .map(|n| Pool::builder(|| Ok::<_, std::io::Error>(())).name(format!("tenant-{n}")).max_size(4).build_lazy())
        .collect::<Result<_, _>>()
        .expect("the settings fit");
    let worst = pools[777].clone();
    let site = serve(pools);
    browser.go(&site.url());
    let nodes = "document.querySelectorAll('*').length";
    browser.wait_until("document.querySelectorAll('.pool').length === 100");
    let count = browser.number(&format!("return {nodes}"));
    assert!(count < 3500.0, "{count} nodes");
    println!("1,000 pools: {count} nodes");

    // One of those that are not shown becomes the worst.
    let _held = worst.get_many(4).expect("four are free");
    browser.wait_until("document.querySelector('.pool h3').textContent === 'tenant-777'");
    let asked = site.asked().len();
    support::eventually("it is asked three times more", || site.asked().len() > asked + 3);
    assert!(browser.number(&format!("return {nodes}")) < count + 50.0, "it does not grow");

    let filter = |text: &str| {
        browser.run(&format!(
            "const filter = document.getElementById('filter'); filter.value = '{text}'; filter.dispatchEvent(new Event('input'))"
        ))
    };
    filter("tenant-99");
    browser.wait_until("document.querySelectorAll('.pool').length === 11");
    filter("warning");
    browser.wait_until("document.querySelectorAll('.pool').length === 1");
    filter("");
    browser.run("document.getElementById('more').click()");
    browser.wait_until("document.querySelectorAll('.pool').length >= 200");
    // Details are made for what is opened, and unmade.
    let closed = browser.number(&format!("return {nodes}"));
    browser.run("document.querySelector('.pool button').click()");
    browser.wait_until(&format!("{nodes} > {closed} + 50"));
    browser.run("document.getElementById('close').click()");
    browser.wait_until(&format!("{nodes} < {closed} + 50"));
}

#[test]
fn the_recommended_policy_names_this_script_and_this_style() {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let page = page("/pools.json");
    for tag in ["script", "style"] {
        let text = page.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let (text, _) = text.expect("there is one");
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
        let wanted = format!("{tag}-src 'sha256-{hash}'");
        assert!(CONTENT_SECURITY_POLICY.contains(&wanted), "src/status/page.rs must say {wanted}");
    }
}

/// Not a test: makes `docs/status-page.png`, and others in the folder that `MILLPOND_PICTURES` names.
#[test]
#[ignore = "writes pictures"]
fn pictures_of_the_page() {
    let Some(browser) = browser() else { return };
    let (busy, lab) = (Lab::new(), Lab::new());
    let orders = Pool::builder(busy.manager()).name("orders").max_size(8).use_times(true);
    let orders = orders.connection_timeout(Duration::from_millis(40)).build().expect("the settings fit");
    let payments = fragile(&lab, "payments");
    let users = idle("users");
    let mut report = users.get().expect("four are free");
    PooledConnection::set_label(&mut report, "nightly report");
    let _load = Load::on(&orders, 11, Duration::from_millis(23), Duration::from_millis(9));
    let _more = Load::on(&payments, 3, Duration::from_millis(5), Duration::from_millis(20));
    let all: Vec<Box<dyn Observe + Send>> = vec![Box::new(orders), Box::new(payments), Box::new(users.clone())];
    let site = serve(Together(all));
    browser.screen(1400, 975, false);
    browser.go(&site.url());
    let seconds = std::env::var("MILLPOND_SECONDS").map_or(90, |text| text.parse().expect("a number"));
    for second in 0..seconds {
        sleep(Duration::from_secs(1));
        // Bursts of work and a time without the server.
        let _burst = (second % 20 < 5).then(|| Load::on(&users, 3, Duration::from_millis(400), Duration::ZERO));
        if second + 12 == seconds {
            lab.refuse.store(true, SeqCst);
        }
    }
    let root = std::env::var("MILLPOND_PICTURES").unwrap_or_else(|_| "docs".to_owned());
    let save = |name: &str| {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(browser.screenshot()).expect("base64");
        std::fs::write(format!("{root}/{name}.png"), bytes).expect("the folder is there");
    };
    let toggle = |name: &str| {
        browser.run(&format!(
            "[...document.querySelectorAll('.pool h3 button')].find(button => button.textContent === '{name}').click()"
        ))
    };
    toggle("orders");
    sleep(Duration::from_millis(1500));
    save("status-page");
    if root == "docs" {
        return;
    }
    toggle("payments");
    for (name, scheme, width, phone) in [
        ("light", "light", 1400, false),
        ("dark", "dark", 1400, false),
        ("phone", "light", 360, true),
        ("phone-dark", "dark", 360, true),
    ] {
        browser.prefer(scheme);
        browser.screen(width, if phone { 1800 } else { 2300 }, phone);
        sleep(Duration::from_millis(2500));
        save(name);
    }
    browser.screen(1400, 1000, false);
    site.does(Does::HangUp);
    sleep(Duration::from_millis(3000));
    save("away");
}

/// Pools of different kinds.
struct Together(Vec<Box<dyn Observe + Send>>);

impl Observe for Together {
    fn observe(&self) -> Vec<millpond::PoolStatus> {
        self.0.iter().flat_map(|one| one.observe()).collect()
    }
}
