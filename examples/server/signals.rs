//! Ctrl-C and SIGTERM: the first one asks for an end, the second one is one.

use std::process;
use std::sync::mpsc::{self, Receiver};

/// What a shell takes for the end by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Hears signals from now on, and passes on the first one.
pub(crate) fn listen() -> Result<Receiver<()>, ctrlc::Error> {
    let (tell, told) = mpsc::sync_channel(1);
    let mut first = true;
    ctrlc::set_handler(move || {
        if !first {
            eprintln!("server: ended at once, and what was under way is not answered");
            process::exit(INTERRUPTED);
        }
        first = false;
        // There is room for one, and whoever is to hear it may have failed meanwhile.
        let _ = tell.try_send(());
    })?;
    Ok(told)
}
