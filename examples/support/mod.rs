//! What the quick start stands on: the data, the work, the contest and its table.

pub(crate) mod airports;
pub(crate) mod contest;
pub(crate) mod report;
pub(crate) mod work;

use std::path::PathBuf;
use std::{env, fs, io, process};

/// Any error, from any of the libraries in play.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A folder for this run only, removed with all that is in it when dropped.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn create() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("millpond-quickstart-{}", process::id()));
        // Not `create_dir_all`: a folder that is already there belongs to somebody else, and must not be removed.
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("could not remove {}: {error}", self.0.display());
        }
    }
}
