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

/// An error of SQLite's whose own words are nobody's business: its code alone.
pub(super) fn without_words(error: Error) -> Error {
    match error {
        Error::SqliteFailure(code, _) => Error::SqliteFailure(code, None),
        _ => Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), None),
    }
}

/// A path that leads to no database, and will not before somebody makes one.
pub(super) fn nowhere(database: &str, why: &str) -> Error {
    with_code(ffi::SQLITE_CANTOPEN_FULLPATH, database, why)
}

pub(super) fn write_protected(database: &str) -> Error {
    with_code(ffi::SQLITE_READONLY, database, "it is write-protected; open it with read_only()")
}

fn with_code(code: i32, database: &str, why: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(format!("cannot open the database {database:?}: {why}")))
}

/// Something that lasts until somebody changes it.
pub(super) fn lasting(database: &str, why: &str) -> Error {
    with_code(ffi::SQLITE_MISUSE, database, why)
}

/// An error of the program's, not of SQLite's.
pub(super) fn misuse(what: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_MISUSE), Some(what.to_owned()))
}

/// Whether trying again may help: somebody is in the way, or something has run out.
pub(super) fn may_pass(error: &Error) -> bool {
    if matches!(error, Error::SqliteFailure(code, _) if code.extended_code == ffi::SQLITE_CANTOPEN_FULLPATH) {
        return false;
    }
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
        // Not by opening it: closing it again would take away every lock that this process has on the file.
        Ok(_) => (!may_read(path)).then(|| "permission denied".to_owned()),
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

#[cfg(target_os = "linux")]
fn may_read(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK) != Err(rustix::io::Errno::ACCESS)
}

#[cfg(not(target_os = "linux"))]
fn may_read(_: &Path) -> bool {
    true
}

/// Not for want of descriptors or memory.
fn refusal(error: &io::Error) -> Option<String> {
    (error.kind() == io::ErrorKind::PermissionDenied).then(|| "permission denied".to_owned())
}
