//! The small programs beside this one, and whether a command is there.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where the program `name` of this package is. `cargo run` builds only the program that it runs, so cargo is asked for
/// the other one first; started without cargo, one that was built before is taken.
pub fn program(name: &str) -> Option<PathBuf> {
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--bin", name]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        build.status().ok().filter(|status| status.success())?;
    }
    let path = env::current_exe().ok()?.with_file_name(name);
    path.exists().then_some(path)
}

pub fn is_installed(command: &str) -> bool {
    let version = Command::new(command).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}
