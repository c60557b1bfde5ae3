//! Checks out and returns: `instructions POOL TIMES`. Run under callgrind with two different `TIMES`; the difference of the
//! instruction counts over the difference of the times is what one checkout takes.

#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use millpond_benches::contestants::{Kind, Setting};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let kind = arguments.next().and_then(|name| Kind::named(&name));
    let times = arguments.next().and_then(|times| times.parse().ok());
    let (Some(kind), Some(times)) = (kind, times) else {
        let names = Kind::ALL.map(|kind| format!("'{}'", kind.name()));
        eprintln!("usage: instructions POOL TIMES\npools: {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    kind.full(Setting::of_size(8)).burst(times);
    ExitCode::SUCCESS
}
