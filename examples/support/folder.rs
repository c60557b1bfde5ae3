//! A folder for the files of one run.

use std::path::PathBuf;
use std::{env, fs, io, process};

/// A folder for this run only, removed with all that is in it when dropped.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn create(example: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("millpond-{example}-{}", process::id()));
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
