//! r2d2's builder: its setters, defaults and panics.

use super::error::Error;
use super::event::{HandleEvent, NopEventHandler};
use super::hooks::{Adapter, DiscreetErrorHandler};
use super::pool::Pool;
use super::traits::{CustomizeConnection, HandleError, ManageConnection, NopConnectionCustomizer};
use millpond::{Nested, Validation, drop_in};
use scheduled_thread_pool::ScheduledThreadPool;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Settings and hooks of a pool, with r2d2's names, defaults and panics.
///
/// Setters refuse what cannot be at once, by a panic with r2d2's words.
/// [`millpond::Builder`] has all of millpond's settings, and reports problems in an error.
///
/// # Examples
///
/// ```
/// # #[derive(Debug)] struct Memory;
/// # impl r2d2::ManageConnection for Memory {
/// #     type Connection = Vec<u8>;
/// #     type Error = std::io::Error;
/// #     fn connect(&self) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
/// #     fn is_valid(&self, _: &mut Vec<u8>) -> std::io::Result<()> { Ok(()) }
/// #     fn has_broken(&self, _: &mut Vec<u8>) -> bool { false }
/// # }
/// use millpond::r2d2;
/// use std::time::Duration;
///
/// let pool = r2d2::Pool::builder()
///     .max_size(4)
///     .min_idle(Some(1))
///     .connection_timeout(Duration::from_secs(3))
///     .build(Memory)?;
/// assert_eq!(pool.max_size(), 4);
/// assert_eq!(pool.state().connections, 1);
/// # Ok::<(), r2d2::Error>(())
/// ```
pub struct Builder<M: ManageConnection> {
    config: Config<M::Connection, M::Error>,
}

/// What a builder collects and a pool repeats.
pub(super) struct Config<C, E> {
    pub(super) max_size: u32,
    pub(super) min_idle: Option<u32>,
    pub(super) test_on_check_out: bool,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) connection_timeout: Duration,
    pub(super) error_handler: Box<dyn HandleError<E>>,
    pub(super) connection_customizer: Box<dyn CustomizeConnection<C, E>>,
    /// None, if nobody listens: then no clock is read for it.
    pub(super) event_handler: Option<Arc<dyn HandleEvent>>,
}

impl<C, E> Config<C, E> {
    fn print(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event_handler: &dyn HandleEvent = self.event_handler.as_deref().unwrap_or(&NopEventHandler);
        f.debug_struct(name)
            .field("max_size", &self.max_size)
            .field("min_idle", &self.min_idle)
            .field("test_on_check_out", &self.test_on_check_out)
            .field("max_lifetime", &self.max_lifetime)
            .field("idle_timeout", &self.idle_timeout)
            .field("connection_timeout", &self.connection_timeout)
            .field("error_handler", &self.error_handler)
            .field("event_handler", &event_handler)
            .field("connection_customizer", &self.connection_customizer)
            .finish()
    }
}

impl<C, E> fmt::Debug for Config<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print("Config", f)
    }
}

impl<M: ManageConnection> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.print("Builder", f)
    }
}

impl<M: ManageConnection> Default for Builder<M> {
    fn default() -> Self {
        Self {
            config: Config {
                max_size: 10,
                min_idle: None,
                test_on_check_out: true,
                max_lifetime: Some(Duration::from_secs(30 * 60)),
                idle_timeout: Some(Duration::from_secs(10 * 60)),
                connection_timeout: Duration::from_secs(30),
                error_handler: Box::new(DiscreetErrorHandler),
                connection_customizer: Box::new(NopConnectionCustomizer),
                event_handler: None,
            },
        }
    }
}

impl<M: ManageConnection> Builder<M> {
    /// Starts from r2d2's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most connections that are open at a time, those in use included; 10 by default.
    ///
    /// # Panics
    ///
    /// If it is 0, as r2d2 does.
    #[must_use]
    pub fn max_size(mut self, max_size: u32) -> Self {
        assert!(max_size > 0, "max_size must be positive");
        self.config.max_size = max_size;
        self
    }

    /// How many idle connections are kept ready, as far as `max_size` allows. `None`, the default, means `max_size`, as
    /// in r2d2: all connections are opened at the start and kept open. `Some(0)` opens them on demand.
    #[must_use]
    pub fn min_idle(mut self, min_idle: Option<u32>) -> Self {
        self.config.min_idle = min_idle;
        self
    }

    /// Accepted, and not needed: millpond's pools share one timer thread and start helper threads only while there is
    /// something to open or close. r2d2 has this setting because its pools have three threads each.
    #[must_use]
    pub fn thread_pool(self, thread_pool: Arc<ScheduledThreadPool>) -> Self {
        drop(thread_pool);
        self
    }

    /// Whether `ManageConnection::is_valid` is asked at every checkout; true by default.
    #[must_use]
    pub fn test_on_check_out(mut self, test_on_check_out: bool) -> Self {
        self.config.test_on_check_out = test_on_check_out;
        self
    }

    /// How old a connection may get; 30 minutes by default, `None` for no limit.
    ///
    /// It is closed at that age or somewhat earlier, so that connections opened together do not expire together: by up to
    /// a tenth, in large pools with short lifetimes by up to half. A borrowed one is closed when it comes back.
    ///
    /// # Panics
    ///
    /// If it is zero, as r2d2 does.
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: Option<Duration>) -> Self {
        assert!(max_lifetime != Some(Duration::ZERO), "max_lifetime must be positive");
        self.config.max_lifetime = max_lifetime;
        self
    }

    /// How long a connection may be idle before it is closed; 10 minutes by default, `None` for no limit. As in r2d2 that
    /// holds below `min_idle` too: another connection is opened instead.
    ///
    /// # Panics
    ///
    /// If it is zero, as r2d2 does.
    #[must_use]
    pub fn idle_timeout(mut self, idle_timeout: Option<Duration>) -> Self {
        assert!(idle_timeout != Some(Duration::ZERO), "idle_timeout must be positive");
        self.config.idle_timeout = idle_timeout;
        self
    }

    /// How long [`Pool::get`] and [`build`](Self::build) wait; 30 seconds by default.
    ///
    /// # Panics
    ///
    /// If it is zero, as r2d2 does.
    #[must_use]
    pub fn connection_timeout(mut self, connection_timeout: Duration) -> Self {
        assert!(connection_timeout > Duration::ZERO, "connection_timeout must be positive");
        self.config.connection_timeout = connection_timeout;
        self
    }

    /// Who is given the manager's and the customizer's errors; by default they are logged, as by
    /// [`LoggingErrorHandler`](super::LoggingErrorHandler), but without passwords.
    #[must_use]
    pub fn error_handler(mut self, error_handler: Box<dyn HandleError<M::Error>>) -> Self {
        self.config.error_handler = error_handler;
        self
    }

    /// Who is told what the pool does; nobody by default.
    #[must_use]
    pub fn event_handler(mut self, event_handler: Box<dyn HandleEvent>) -> Self {
        self.config.event_handler = Some(Arc::from(event_handler));
        self
    }

    /// Who prepares connections after they are opened and parts with them before they are closed; a
    /// [`NopConnectionCustomizer`] by default.
    #[must_use]
    pub fn connection_customizer(
        mut self,
        connection_customizer: Box<dyn CustomizeConnection<M::Connection, M::Error>>,
    ) -> Self {
        self.config.connection_customizer = connection_customizer;
        self
    }

    /// Opens the pool, and returns when `min_idle` connections are open.
    ///
    /// # Errors
    ///
    /// When that takes longer than `connection_timeout`; the text ends with the last error of the manager, which is asked
    /// again and again until then. At once where `max_size` is above 1,048,576, or the system refuses the thread that looks after
    /// pools.
    ///
    /// # Panics
    ///
    /// If `min_idle` is greater than `max_size`, as r2d2 does.
    pub fn build(self, manager: M) -> Result<Pool<M>, Error> {
        if self.config.min_idle == Some(0) {
            return self.native(manager).build_lazy().map(Pool).map_err(Error);
        }
        self.native(manager).build().map(Pool).map_err(Error)
    }

    /// Opens the pool without waiting for any connection. Those that `min_idle` asks for are opened meanwhile.
    ///
    /// # Panics
    ///
    /// If `min_idle` is greater than `max_size`, as r2d2 does. If `max_size` is above 1,048,576, or the system refuses the thread
    /// that looks after pools, where [`build`](Self::build) returns an error.
    pub fn build_unchecked(self, manager: M) -> Pool<M> {
        match self.native(manager).build_lazy() {
            Ok(pool) => {
                // Its first upkeep is to begin with the idle minimum.
                pool.maintain();
                Pool(pool)
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn native(self, manager: M) -> millpond::Builder<Adapter<M>> {
        let config = self.config;
        let min_idle = config.min_idle.unwrap_or(config.max_size);
        assert!(config.max_size >= min_idle, "min_idle must be no larger than max_size");
        let validation = if config.test_on_check_out { Validation::Always } else { Validation::Never };
        let Config { max_size, connection_timeout, max_lifetime, idle_timeout, .. } = config;
        drop_in::builder(Adapter { manager, config })
            .max_size(max_size)
            .min_idle(min_idle)
            .validation(validation)
            .connection_timeout(connection_timeout)
            .max_lifetime(max_lifetime)
            .idle_timeout(idle_timeout)
            .keepalive(None)
            .nested(Nested::Allow)
    }
}
