//! Prometheus' own tool, from the Debian package `prometheus`.

use std::env;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// What it said to a command, and whether it was content. `None`, and a word on the terminal, where there is no `promtool`.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    let command = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let required = env::var_os("MILLPOND_REQUIRE_SERVERS").is_some_and(|value| value == "1");
            assert!(!required, "no promtool, and MILLPOND_REQUIRE_SERVERS=1 is set");
            // Past libtest's capture: a skip that nobody sees looks like a pass.
            drop(writeln!(io::stderr(), "skipped: no promtool"));
            return None;
        }
        child => child.expect("promtool starts"),
    };
    // It reads to the end before it says anything. One that takes no input may be gone already.
    drop(child.stdin.take().expect("it is piped").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
