//! A directory that goes away.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A new directory, removed with all that is in it when this value is dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes a directory whose name contains `name`.
    ///
    /// # Panics
    ///
    /// If the system's directory for temporary files cannot be written.
    pub fn new(name: &str) -> Self {
        let pid = std::process::id();
        let unique = RandomState::new().hash_one(pid) as u32;
        let path = env::temp_dir().join(format!("millpond-{name}-{pid}-{unique:08x}"));
        // Postgres refuses a data directory that others may read.
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A server's guard has removed it already, unless the server was killed.
        drop(fs::remove_dir_all(&self.path));
    }
}
