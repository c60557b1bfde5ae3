//! A headless Chromium, driven through WebDriver.
//!
//! The tests of this binary share two: to start one takes longer than most of them. They must not outlive the tests however those
//! end, and a static is never dropped; so their parent is a small shell that waits on a pipe from here, which the kernel closes in
//! any case, and then ends all that was started.

use crate::support::Folder;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::io::{Write, stderr};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::Duration;
use ureq::Agent;

/// Chromium's processes are known by the folder that they were given. It makes more of them until the first has ended, so it is
/// looked again. The brackets: this shell's own command line, and that of grep, are not to be found.
const GUARD: &str = r#"
dir=$1
trap '' HUP INT TERM
chromedriver --port=0 </dev/null >"$dir/log" 2>&1 &
driver=$!
read -r _
kill -KILL "$driver" 2>/dev/null
wait "$driver" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(grep -ls -e "[-]-user-data-dir=$dir" /proc/[0-9]*/cmdline | cut -d/ -f3)
    [ -n "$pids" ] || break
    kill -KILL $pids 2>/dev/null
    sleep 0.1
done
rm -rf "$dir"
"#;

/// What a test waits for comes within so many looks, 50 ms apart, or does not come.
const LOOKS: u32 = 400;

pub(crate) struct Browser {
    agent: Agent,
    /// That of the session.
    url: String,
}

/// A running chromedriver.
struct Driver {
    url: String,
    folder: PathBuf,
    _lifeline: ChildStdin,
    _guard: Child,
}

static DRIVER: LazyLock<Option<Driver>> = LazyLock::new(Driver::start);
/// Two, because a test waits more than it works: for the page, which asks once a second.
static BROWSERS: [Mutex<Option<Browser>>; 2] = [Mutex::new(None), Mutex::new(None)];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A browser that nobody else has, with nothing left of what they did; or `None`, which is said, where there is none.
pub(crate) fn browser() -> Option<MappedMutexGuard<'static, Browser>> {
    let Some(driver) = &*DRIVER else {
        let required = env::var_os("MILLPOND_REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "no chromedriver, or no chromium, and MILLPOND_REQUIRE_SERVERS=1 is set");
        // Past libtest's capture: a skip that nobody sees looks like a pass.
        drop(writeln!(stderr(), "skipped: no chromedriver"));
        return None;
    };
    // A test that has failed leaves a browser that is as good as before.
    let free = BROWSERS.iter().find_map(Mutex::try_lock);
    let nth = NEXT.fetch_add(1, SeqCst) % BROWSERS.len();
    let browser = free.unwrap_or_else(|| BROWSERS.get(nth).expect("it is less than there are").lock());
    let browser = MutexGuard::map(browser, |browser| browser.get_or_insert_with(|| driver.open()));
    browser.go("about:blank");
    browser.screen(1280, 900, false);
    browser.prefer("light");
    browser.console();
    Some(browser)
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl Driver {
    fn start() -> Option<Self> {
        if !is_installed("chromedriver") || !(is_installed("chromium") || is_installed("google-chrome")) {
            return None;
        }
        // The guard removes it.
        let folder = ManuallyDrop::new(Folder::new());
        let mut guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("every Unix has a shell");
        let lifeline = guard.stdin.take().expect("it was asked for above");
        let url = format!("http://127.0.0.1:{}/session", port(&folder.file("log")));
        Some(Self { url, folder: folder.path().to_owned(), _lifeline: lifeline, _guard: guard })
    }

    fn open(&self) -> Browser {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .new_agent();
        let browser = Browser { agent, url: self.url.clone() };
        let number = NEXT.fetch_add(1, SeqCst);
        let profile = format!("--user-data-dir={}", self.folder.join(format!("profile-{number}")).display());
        let options = json!({"args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            profile,
        ]});
        let wanted = json!({"goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": options});
        let session = browser.post("", &json!({"capabilities": {"alwaysMatch": wanted}}));
        let id = session.get("sessionId").and_then(Value::as_str).expect("each session has one");
        Browser { url: format!("{}/{id}", self.url), ..browser }
    }
}

impl Browser {
    fn post(&self, command: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}{command}", self.url)).content_type("application/json");
        let answer = request
            .send(body.to_string())
            .and_then(|mut answer| answer.body_mut().with_config().limit(1 << 28).read_to_string());
        value(command, &answer.expect("chromedriver answers"))
    }

    fn get(&self, command: &str) -> Value {
        let answer = self.agent.get(format!("{}{command}", self.url)).call();
        let answer = answer.and_then(|mut answer| answer.body_mut().with_config().limit(1 << 28).read_to_string());
        value(command, &answer.expect("chromedriver answers"))
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What the function body `script` returns on the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The same where it is a text.
    pub(crate) fn text(&self, script: &str) -> String {
        let value = self.run(script);
        value.as_str().unwrap_or_else(|| panic!("{script}: {value}")).to_owned()
    }

    /// The same where it is a number.
    pub(crate) fn number(&self, script: &str) -> f64 {
        let value = self.run(script);
        value.as_f64().unwrap_or_else(|| panic!("{script}: {value}"))
    }

    /// Waits until the expression is true on the page.
    pub(crate) fn wait_until(&self, condition: &str) {
        for _ in 0..LOOKS {
            if self.run(&format!("return Boolean({condition})")) == true {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("never on the page: {condition}\n{}", self.text("return document.body.innerText"));
    }

    /// A command of the protocol of Chromium's developer tools.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    pub(crate) fn screen(&self, width: u32, height: u32, phone: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Has the system prefer `light` or `dark`.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// What has been written to the console since the last look.
    pub(crate) fn console(&self) -> Vec<Value> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        log.as_array().expect("a list of entries").clone()
    }

    pub(crate) fn press_tab(&self) {
        let key = |kind: &str| json!({"type": kind, "value": "\u{E004}"});
        let actions = json!([{"type": "key", "id": "keys", "actions": [key("keyDown"), key("keyUp")]}]);
        self.post("/actions", &json!({ "actions": actions }));
    }

    /// The name by which a screen reader calls what has the focus.
    pub(crate) fn name_of_focused(&self) -> String {
        let element = self.get("/element/active");
        let id = element.as_object().and_then(|object| object.values().next()).and_then(Value::as_str);
        let label = self.get(&format!("/element/{}/computedlabel", id.expect("an element has an id")));
        label.as_str().expect("a text").to_owned()
    }

    /// The page as far as it is visible, as a PNG in base64.
    pub(crate) fn screenshot(&self) -> String {
        self.get("/screenshot").as_str().expect("a text").to_owned()
    }
}

/// Waits until chromedriver has told its port.
fn port(log: &Path) -> u16 {
    for _ in 0..LOOKS {
        let text = fs::read_to_string(log).unwrap_or_default();
        let told = text.split("started successfully on port ").nth(1).and_then(|rest| rest.split_once('.'));
        if let Some(port) = told.and_then(|(port, _)| port.parse().ok()) {
            return port;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("chromedriver does not start: {}", fs::read_to_string(log).unwrap_or_default());
}

fn value(command: &str, answer: &str) -> Value {
    let mut answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{command}: not JSON: {answer}"));
    let value = answer.get_mut("value").map(Value::take).unwrap_or_default();
    let fault = value.get("stacktrace").and(value.get("message"));
    assert!(fault.is_none(), "{command}: {value}");
    value
}
