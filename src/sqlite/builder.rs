//! Settings of a pool of one writer and many readers.

use super::error::Error;
use super::manager::SqliteManager;
use super::pool::SqlitePool;
use crate::{Builder, Nested, Pool};
use std::fmt;
use std::time::Duration;

type Configure = Box<dyn FnOnce(Builder<SqliteManager>) -> Builder<SqliteManager>>;

/// Settings for a [`SqlitePool`].
#[must_use = "a builder does nothing before `build`"]
pub struct SqlitePoolBuilder {
    manager: SqliteManager,
    name: Option<String>,
    readers: u32,
    timeout: Option<Duration>,
    configure_readers: Option<Configure>,
    configure_writer: Option<Configure>,
}

impl SqlitePoolBuilder {
    pub(super) fn new(manager: SqliteManager) -> Self {
        Self { manager, name: None, readers: 10, timeout: None, configure_readers: None, configure_writer: None }
    }

    /// The name of the pool, in errors and log lines; its two halves are called this and `-readers`, `-writer`. Default: the
    /// name of the file.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The most readers. Default: 10, opened as they are needed. More than there are cores help where readers wait for the
    /// disk.
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers;
        self
    }

    /// How long a call waits for its connection, where it has no time-out of its own. Default: 5 s.
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets anything else of the pool of readers.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::sqlite::{SqliteManager, SqlitePool};
    ///
    /// let pool = SqlitePool::builder(SqliteManager::memory())
    ///     .configure_readers(|readers| readers.min_idle(2))
    ///     .configure_writer(|writer| writer.max_waiting(Some(100)))
    ///     .build()?;
    /// assert_eq!(pool.readers().stats().idle, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn configure_readers(
        mut self,
        f: impl FnOnce(Builder<SqliteManager>) -> Builder<SqliteManager> + 'static,
    ) -> Self {
        self.configure_readers = Some(Box::new(f));
        self
    }

    /// Sets anything else of the pool of the writer. Its size is one, whatever is set.
    pub fn configure_writer(
        mut self,
        f: impl FnOnce(Builder<SqliteManager>) -> Builder<SqliteManager> + 'static,
    ) -> Self {
        self.configure_writer = Some(Box::new(f));
        self
    }

    /// Makes the pool, opens the writer, which sets the database up, and a reader.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Open`](super::ErrorKind::Open) where the database cannot be opened or set up;
    /// [`ErrorKind::Pool`](super::ErrorKind::Pool) with everything that is wrong with the settings.
    pub fn build(self) -> Result<SqlitePool, Error> {
        let read_only = match self.manager.is_read_only() {
            true => vec!["manager is read_only(), and has no writer: take a Pool".to_owned()],
            false => Vec::new(),
        };
        let name = self.name.unwrap_or_else(|| self.manager.short_name().to_owned());
        // Files do not wear out, and what is open costs little: nothing is closed for its age.
        let readers = Pool::builder(self.manager.reader())
            .name(format!("{name}-readers"))
            .max_size(self.readers)
            .max_lifetime(None)
            .keepalive(None);
        let writer = Pool::builder(self.manager)
            .name(format!("{name}-writer"))
            .max_lifetime(None)
            .idle_timeout(None)
            .keepalive(None)
            .nested(Nested::Deny);
        let finish = |builder: Builder<SqliteManager>, configure: Option<Configure>| {
            let builder = match self.timeout {
                Some(timeout) => builder.connection_timeout(timeout),
                None => builder,
            };
            match configure {
                Some(configure) => configure(builder),
                None => builder,
            }
        };
        let writer = finish(writer, self.configure_writer).max_size(1);
        let readers = finish(readers, self.configure_readers);
        // Everything that is wrong in one error, and before a file is made.
        let problems = [writer.problems(), readers.problems(), read_only].concat();
        if !problems.is_empty() {
            return Err(crate::Error::config(&problems).into());
        }
        let (writer, readers) = (writer.build()?, readers.build()?);
        Ok(SqlitePool::of(readers, writer))
    }
}

impl fmt::Debug for SqlitePoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlitePoolBuilder")
            .field("manager", &self.manager)
            .field("name", &self.name)
            .field("readers", &self.readers)
            .field("connection_timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
