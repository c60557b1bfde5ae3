//! Outages and other faults of real servers, met by millpond and by r2d2 side by side. Prints the scoreboard.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use millpond_benches::drill::board::Board;
use millpond_benches::drill::{SCENES, Scene, child};
use millpond_benches::report::{docs_folder, warn_unless_optimised};

const USAGE: &str = "\
usage: scripts/outage-drill [--long] [--only SCENE]... [--write]

  --long        adds outages of 20 s and of 33 s, repeats the short ones more often, and suspends a server for 30 s
  --only SCENE  runs this scene only; may be given more than once
  --write       puts the scoreboard into docs/reliability.md and its chart beside it (all scenes must run)";

struct Options {
    long: bool,
    write: bool,
    scenes: Vec<Scene>,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut long, mut write, mut only) = (false, false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--long" => long = true,
            "--write" => write = true,
            "--only" => only.push(arguments.next().ok_or("--only needs the name of a scene")?),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if let Some(name) = only.iter().find(|name| SCENES.iter().all(|scene| scene.name != **name)) {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        return Err(format!("no scene {name}; there are {}", names.join(", ")));
    }
    if write && !only.is_empty() {
        return Err("--write needs all scenes: no --only".to_owned());
    }
    let wanted =
        |scene: &Scene| if only.is_empty() { long || !scene.long } else { only.iter().any(|n| n == scene.name) };
    Ok(Options { long, write, scenes: SCENES.iter().copied().filter(wanted).collect() })
}

/// Runs a scene below a line that says how long it has been at it.
fn watched<R>(label: &str, work: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let (running, ended) = mpsc::channel::<()>();
    let terminal = io::stderr().is_terminal();
    if !terminal {
        eprintln!("{label} …");
    }
    let result = thread::scope(|scope| {
        if terminal {
            scope.spawn(move || {
                while ended.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
                    eprint!("\r\x1b[K{label} … {:.0} s", begun.elapsed().as_secs_f64());
                    let _ = io::stderr().flush();
                }
            });
        }
        // Dropped with the work, also if it panics.
        let _running = running;
        work()
    });
    let back = if terminal { "\r\x1b[K" } else { "" };
    eprintln!("{back}{label}: {:.1} s", begun.elapsed().as_secs_f64());
    result
}

fn main() -> ExitCode {
    // Some scenes need a process of their own, and start this program once more.
    if let Some(code) = child::play() {
        return code;
    }
    let Options { long, write, scenes } = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    warn_unless_optimised();
    let mut board = Board::default();
    for (position, scene) in scenes.iter().enumerate() {
        let label = format!("[{}/{}] {}: {}", position + 1, scenes.len(), scene.name, scene.about);
        board.push(watched(&label, || (scene.run)(long)));
    }
    println!("\n{board}");
    if write {
        let docs = docs_folder();
        if let Err(error) = board.write(&docs) {
            eprintln!("cannot write below {}: {error}", docs.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
