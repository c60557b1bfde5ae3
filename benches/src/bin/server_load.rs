//! Two hundred clients of the example `server`, while its status page is open in a browser. `scripts/server-load` builds both.

#![forbid(unsafe_code)]

#[path = "../../../tests/status_page/browser.rs"]
#[allow(dead_code, reason = "the tests of the status page use more of it")]
mod browser;
#[path = "../../../tests/support/folder.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use more of it")]
mod folder;
/// Where the browser looks for it.
mod support {
    pub(crate) use super::folder::Folder;
}

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use browser::{Browser, browser};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millpond_benches::load::crowd::{Crowd, MIX};
use millpond_benches::load::host::Host;
use millpond_benches::load::outcome::{self, Outcome};
use millpond_benches::report::{docs_folder, warn_unless_optimised};

/// Clients that keep their connections, and come back as soon as they are answered.
#[derive(Debug, Parser)]
#[command(name = "scripts/server-load")]
struct Flags {
    /// How many clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=900))]
    clients: u32,

    /// For how long in each run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// How many runs of each scene, of which the tables show medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,

    /// Leaves the status page closed, which takes a part of the processor
    #[arg(long)]
    no_browser: bool,

    /// Only takes a picture of the status page under load: docs/status-page-load.png
    #[arg(long, conflicts_with = "no_browser")]
    picture: bool,
}

struct Scene {
    title: &'static str,
    /// Of the server.
    flags: &'static [&'static str],
    locked: bool,
}

/// What a server has to bear.
#[derive(Clone, Copy)]
struct Load {
    clients: u32,
    seconds: u64,
    /// Another program locks the database for a part of each second.
    locked: bool,
}

const SCENES: [Scene; 3] = [
    Scene { title: "Everybody may wait", flags: &[], locked: false },
    Scene {
        title: "At the limit: one reader, 16 may wait",
        flags: &["--readers", "1", "--waiting", "16"],
        locked: false,
    },
    Scene {
        title: "At the limit: 16 may wait, and another program locks the database for 0.4 s of each second",
        flags: &["--waiting", "16"],
        locked: true,
    },
];

/// Comes and goes for more than three minutes, and ends with locks: what one would want to see on the page.
const PICTURE: [Load; 6] = [
    Load { clients: 10, seconds: 40, locked: false },
    Load { clients: 60, seconds: 40, locked: false },
    Load { clients: 200, seconds: 50, locked: false },
    Load { clients: 20, seconds: 30, locked: false },
    Load { clients: 120, seconds: 20, locked: false },
    Load { clients: 200, seconds: 30, locked: true },
];

/// So many looks are taken for a good moment.
const LOOKS: u32 = 160;
const LOCKED: Duration = Duration::from_millis(400);
const UNLOCKED: Duration = Duration::from_millis(600);

fn main() -> ExitCode {
    let flags = Flags::parse();
    warn_unless_optimised();
    let done = if flags.picture { picture() } else { all(&flags) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all(flags: &Flags) -> io::Result<()> {
    let window = if flags.no_browser { None } else { browser() };
    println!(
        "{} clients in a closed loop, each with a connection that it keeps: {} of 100 requests for the JSON, {} write, the\n\
         others for the page. After a 503 a client comes back after 50 to 150 ms. Clients and server share {} cores{}.\n\
         Medians of {} runs of {} s.",
        flags.clients,
        MIX.0,
        MIX.1,
        thread::available_parallelism()?,
        if window.is_some() { ", with a browser that shows the status page" } else { "" },
        flags.runs,
        flags.seconds,
    );
    for scene in &SCENES {
        let mut runs = Vec::new();
        let mut report = String::new();
        for run in 1..=flags.runs {
            let host = Host::start(scene.flags)?;
            if let Some(window) = &window {
                window.go(&format!("http://{}/status", host.address));
            }
            let load = Load { clients: flags.clients, seconds: flags.seconds, locked: scene.locked };
            runs.push(work(&host, load, &format!("run {run}"), || {}));
            report = host.end()?;
        }
        println!("\n## {}\n\n{}", scene.title, outcome::table(&runs));
        for (run, Outcome { statuses, errors, .. }) in runs.iter().enumerate() {
            println!("run {}: statuses {statuses:?}, errors {errors:?}", run + 1);
        }
        println!("\nThe server of the last run says:\n\n{}", report.trim_end());
    }
    Ok(())
}

/// Has the crowd work for a while, below a line that says how it goes; calls `at_last` while it still does.
fn work(host: &Host, load: Load, label: &str, at_last: impl FnOnce()) -> Outcome {
    let bar = ProgressBar::new(load.seconds * 10);
    let style = ProgressStyle::with_template("{prefix} {bar:40} {msg}").expect("a good template");
    bar.set_style(style);
    bar.set_prefix(label.to_owned());
    let stop = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        if load.locked {
            scope.spawn(|| lock_now_and_then(host, &stop));
        }
        let crowd = Crowd::gather(host.address, load.clients);
        let begun = Instant::now();
        for tick in 1..=load.seconds * 10 {
            thread::sleep((Duration::from_millis(100) * tick as u32).saturating_sub(begun.elapsed()));
            bar.set_position(tick);
            bar.set_message(format!("{:.0} answers a second", crowd.answered() as f64 / begun.elapsed().as_secs_f64()));
        }
        at_last();
        stop.store(true, Relaxed);
        crowd.dissolve()
    });
    bar.finish_and_clear();
    outcome
}

/// As somebody does who looks into the file with a shell, and forgets it.
fn lock_now_and_then(host: &Host, stop: &AtomicBool) {
    let conn = rusqlite::Connection::open(host.database()).expect("the server has made it");
    conn.busy_timeout(Duration::from_secs(5)).expect("a number is written down");
    while !stop.load(Relaxed) {
        if conn.execute_batch("BEGIN IMMEDIATE").is_ok() {
            thread::sleep(LOCKED);
            conn.execute_batch("ROLLBACK").expect("it has just begun");
        }
        thread::sleep(UNLOCKED);
    }
}

fn picture() -> io::Result<()> {
    let window = browser().ok_or_else(|| io::Error::other("there is no browser"))?;
    let host = Host::start(&["--waiting", "32"])?;
    window.screen(1200, 1000, false);
    window.go(&format!("http://{}/status", host.address));
    let mut saved = Ok(());
    for load in PICTURE {
        work(&host, load, "picture", || {
            if load.locked {
                saved = save(&window);
            }
        });
    }
    host.end()?;
    saved
}

/// With the details of the pool that is worth a look.
fn save(window: &Browser) -> io::Result<()> {
    window.run(
        "document.getElementById('close').click();
         [...document.querySelectorAll('.pool h3 button')].find(one => one.textContent === 'guest-book-writer').click()",
    );
    // A moment in which something can be seen: connections that are on their way from one thread to the next are nobody's.
    for _ in 0..LOOKS {
        thread::sleep(Duration::from_millis(250));
        let busy = "Number(document.body.innerText.match(/Connections in use\\s*(\\d+)/)?.[1]) >= 4";
        if window.run(&format!("return {busy}")) == true {
            break;
        }
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(window.screenshot()).map_err(io::Error::other)?;
    fs::write(docs_folder().join("status-page-load.png"), bytes)
}
