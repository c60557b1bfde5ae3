//! Why a database cannot be opened, in rusqlite's own type of error: with the name of the database, the step and the reason.

use rusqlite::{Error, ErrorCode, ffi};
use std::fmt;
use std::io;
use std::path::Path;

/// An error of SQLite's, with what was attempted. Its code stays.
pub(super) fn named(database: &str, what: &str, error: Error) -> Error {
    let text = |error: &dyn fmt::Display| format!("cannot open the database {database:?}: {what}: {error}");
    match error {
        Error::SqliteFailure(code, message) => {
            // Without a message of its own, the code's.
            let words = Error::SqliteFailure(code, message);
            Error::SqliteFailure(code, Some(text(&words)))
        }
        error => Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(text(&error))),
    }
}

/// Something that lasts until somebody changes it.
pub(super) fn lasting(database: &str, why: &str) -> Error {
    misuse(&format!("cannot open the database {database:?}: {why}"))
}

/// An error of the program's, not of SQLite's.
pub(super) fn misuse(what: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_MISUSE), Some(what.to_owned()))
}

/// Whether trying again may help: somebody is in the way, or something has run out.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OperationInterrupted
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

/// What stands in the way of opening a file, if a look at it tells.
pub(super) fn obstacle(path: &Path, must_exist: bool) -> Option<String> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Some("it is a folder".to_owned()),
        Ok(_) => std::fs::File::open(path).err().and_then(|error| refusal(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder.map(Path::metadata) {
                Some(Err(_)) => Some("its folder does not exist".to_owned()),
                _ if must_exist => Some("it does not exist".to_owned()),
                _ => None,
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Some("its folder is a file".to_owned()),
        Err(error) => refusal(&error),
    }
}

/// Not for want of descriptors or memory.
fn refusal(error: &io::Error) -> Option<String> {
    (error.kind() == io::ErrorKind::PermissionDenied).then(|| error.to_string())
}
