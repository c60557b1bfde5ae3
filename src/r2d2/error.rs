//! r2d2's error.

use millpond::{ErrorKind, drop_in};
use std::fmt;

const TIMED_OUT: &str = "timed out waiting for connection";

/// Why there is no connection. The text is r2d2's: `timed out waiting for connection`, followed by the manager's error,
/// if that is what kept it.
///
/// [`source`](std::error::Error::source) is a [`millpond::Error`], with a kind, the pool's numbers and the
/// holders of its connections.
#[derive(Debug)]
pub struct Error(pub(super) millpond::Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What r2d2 does not know has millpond's words: pauses, and whatever is no time-out.
        if !self.0.is_timeout() || self.0.kind() == ErrorKind::Paused {
            return self.0.fmt(f);
        }
        f.write_str(TIMED_OUT)?;
        match std::error::Error::source(&self.0) {
            Some(cause) => write!(f, ": {}", drop_in::redact(&cause.to_string())),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn description(&self) -> &str {
        TIMED_OUT
    }

    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<Error> for millpond::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}
