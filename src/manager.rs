//! What a pool must know about a kind of connection.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What a failure means for the rest of the pool.
///
/// [`Manager::classify`] says it of every error of [`connect`](Manager::connect), of
/// [`Builder::on_open`](crate::Builder::on_open), and of [`is_valid`](Manager::is_valid).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It may work the next time (refused, reset, timed out): the pool tries again with growing pauses.
    #[default]
    Transient,
    /// It will not work however often it is tried (bad password, no such database): everybody who waits gets the
    /// error now instead of at the end of their time-out. Of a check it says no more than `Transient`: that connection is closed,
    /// and whether there can be another one shows when it is opened.
    Permanent,
    /// Every connection that is open now is as bad as this one (the primary was demoted): none is lent again, as after
    /// [`Pool::refresh`](crate::Pool::refresh).
    DiscardAll,
}

/// Opens, checks, cleans and closes connections of one kind.
///
/// Two functions are needed; the others have defaults that do nothing. Every one of them may panic: the pool
/// counts and reports the panic and loses no place by it. None is called while a lock of the pool is held.
///
/// You rarely write one: a closure that opens a connection is a manager, so is every `r2d2::ManageConnection`
/// (feature `r2d2`), and so are `Arc<T>`, `Box<T>` and `dyn Manager` of managers.
///
/// # Examples
///
/// ```
/// use millpond::{Manager, Pool};
/// use std::net::{SocketAddr, TcpListener, TcpStream};
///
/// struct Plain(SocketAddr);
///
/// impl Manager for Plain {
///     type Connection = TcpStream;
///     type Error = std::io::Error;
///
///     fn connect(&self) -> std::io::Result<TcpStream> {
///         TcpStream::connect(self.0)
///     }
///     fn is_valid(&self, stream: &mut TcpStream) -> std::io::Result<()> {
///         stream.peer_addr().map(drop)
///     }
/// }
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let pool = Pool::new(Plain(listener.local_addr()?))?;
/// assert_eq!(pool.get()?.peer_addr()?, listener.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Manager: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// What opening and checking can fail with. Callers find it as the `source()` of the pool's error.
    type Error: StdError + Send + Sync + 'static;

    /// Opens a connection. Runs on a helper thread, never on a caller's, except with
    /// [`Maintenance::Manual`](crate::Maintenance::Manual), where it runs on the caller's.
    ///
    /// # Errors
    ///
    /// Whatever the driver reports.
    fn connect(&self) -> Result<Self::Connection, Self::Error>;

    /// Asks the server whether the connection still works. Runs before a connection that has been idle for a
    /// while is lent again, as [`Validation`](crate::Validation) says, on a helper thread; on the caller's with
    /// [`Maintenance::Manual`](crate::Maintenance::Manual), and where the system refuses another thread.
    ///
    /// # Errors
    ///
    /// Any error closes the connection.
    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error>;

    /// Says whether [`is_valid`](Self::is_valid) finds anything out. Where it does not (a file cannot hang up), the pool
    /// never calls it, whatever the [`Validation`](crate::Validation), and no caller waits for it.
    fn can_validate(&self) -> bool {
        true
    }

    /// Says from local knowledge alone whether the connection is beyond use. Runs at every return, on the thread
    /// that drops the guard, and so must not block.
    fn has_broken(&self, _connection: &mut Self::Connection) -> bool {
        false
    }

    /// Cleans the connection for its next user: roll back, discard, unwatch. Runs at every return, on the thread
    /// that drops the guard, before anybody else can have the connection.
    ///
    /// # Errors
    ///
    /// Any error closes the connection.
    fn reset(&self, _connection: &mut Self::Connection) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Closes the connection. Runs on a helper thread; with [`Maintenance::Manual`](crate::Maintenance::Manual) on the thread
    /// that gives it up. The default drops it.
    fn close(&self, connection: Self::Connection) {
        drop(connection);
    }

    /// Says what an error means for the rest of the pool. The default calls every error transient.
    fn classify(&self, _error: &Self::Error) -> Fault {
        Fault::Transient
    }
}

macro_rules! forward {
    ($pointer:ty) => {
        impl<T: Manager + ?Sized> Manager for $pointer {
            type Connection = T::Connection;
            type Error = T::Error;

            fn connect(&self) -> Result<Self::Connection, Self::Error> {
                (**self).connect()
            }
            fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
                (**self).is_valid(connection)
            }
            fn can_validate(&self) -> bool {
                (**self).can_validate()
            }
            fn has_broken(&self, connection: &mut Self::Connection) -> bool {
                (**self).has_broken(connection)
            }
            fn reset(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
                (**self).reset(connection)
            }
            fn close(&self, connection: Self::Connection) {
                (**self).close(connection);
            }
            fn classify(&self, error: &Self::Error) -> Fault {
                (**self).classify(error)
            }
        }
    };
}

forward!(Arc<T>);
forward!(Box<T>);

type Classify<E> = Box<dyn Fn(&E) -> Fault + Send + Sync>;
type Look<C> = Box<dyn Fn(&mut C) -> bool + Send + Sync>;
type Step<C, E> = Box<dyn Fn(&mut C) -> Result<(), E> + Send + Sync>;

/// A manager made of closures: anything that can be opened can be pooled, without an adapter crate.
///
/// # Examples
///
/// ```
/// use millpond::{FnManager, Pool};
///
/// let manager = FnManager::new(|| rusqlite::Connection::open_in_memory())
///     .check(|c| c.execute_batch("SELECT 1"))
///     .reset(|c| if c.is_autocommit() { Ok(()) } else { c.execute_batch("ROLLBACK") });
/// let pool = Pool::new(manager)?;
/// pool.with(|c| c.execute_batch("BEGIN"))??;
/// assert!(pool.with(|c| c.is_autocommit())?, "the transaction was rolled back on return");
///
/// // One that says by itself that it is broken is closed when it comes back.
/// let pool = Pool::new(FnManager::new(|| Ok::<_, std::io::Error>(Vec::new())).broken(|parts| parts.is_empty()))?;
/// pool.with(|parts| parts.push("whole"))?;
/// pool.with(Vec::clear)?;
/// assert_eq!(pool.with(|parts| parts.len())?, 0);
/// assert_eq!(pool.stats().opened, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FnManager<F, C, E> {
    connect: F,
    check: Option<Step<C, E>>,
    broken: Option<Look<C>>,
    reset: Option<Step<C, E>>,
    classify: Option<Classify<E>>,
}

impl<F, C, E> FnManager<F, C, E>
where
    F: Fn() -> Result<C, E> + Send + Sync + 'static,
{
    /// Opens connections with `connect`; without [`check`](Self::check) every connection counts as valid.
    pub fn new(connect: F) -> Self {
        Self { connect, check: None, broken: None, reset: None, classify: None }
    }

    /// Checks an idle connection with `check`: see [`Manager::is_valid`].
    #[must_use]
    pub fn check(mut self, check: impl Fn(&mut C) -> Result<(), E> + Send + Sync + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Says with `broken` whether a connection is beyond use when it is returned: see [`Manager::has_broken`].
    #[must_use]
    pub fn broken(mut self, broken: impl Fn(&mut C) -> bool + Send + Sync + 'static) -> Self {
        self.broken = Some(Box::new(broken));
        self
    }

    /// Cleans a connection on its return with `reset`: see [`Manager::reset`].
    #[must_use]
    pub fn reset(mut self, reset: impl Fn(&mut C) -> Result<(), E> + Send + Sync + 'static) -> Self {
        self.reset = Some(Box::new(reset));
        self
    }

    /// Classes errors with `classify`: see [`Manager::classify`].
    #[must_use]
    pub fn classify(mut self, classify: impl Fn(&E) -> Fault + Send + Sync + 'static) -> Self {
        self.classify = Some(Box::new(classify));
        self
    }
}

impl<F, C, E> fmt::Debug for FnManager<F, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnManager")
            .field("check", &self.check.is_some())
            .field("broken", &self.broken.is_some())
            .field("reset", &self.reset.is_some())
            .field("classify", &self.classify.is_some())
            .finish_non_exhaustive()
    }
}

impl<F, C, E> Manager for FnManager<F, C, E>
where
    F: Fn() -> Result<C, E> + Send + Sync + 'static,
    C: Send + 'static,
    E: StdError + Send + Sync + 'static,
{
    type Connection = C;
    type Error = E;

    fn connect(&self) -> Result<C, E> {
        (self.connect)()
    }
    fn is_valid(&self, connection: &mut C) -> Result<(), E> {
        self.check.as_ref().map_or(Ok(()), |check| check(connection))
    }
    fn can_validate(&self) -> bool {
        self.check.is_some()
    }
    fn has_broken(&self, connection: &mut C) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken(connection))
    }
    fn reset(&self, connection: &mut C) -> Result<(), E> {
        self.reset.as_ref().map_or(Ok(()), |reset| reset(connection))
    }
    fn classify(&self, error: &E) -> Fault {
        self.classify.as_ref().map_or(Fault::Transient, |classify| classify(error))
    }
}

/// Everything that [`Pool::new`](crate::Pool::new) takes: a [`Manager`], a closure that opens a connection, or
/// (feature `r2d2`) an `r2d2::ManageConnection`.
///
/// `K` only tells the three apart for the compiler; it is always inferred. A type that is both a `Manager` and an
/// `r2d2::ManageConnection` is ambiguous: wrap it in `millpond::R2d2`, or
/// name [`kind::Native`] in the call.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot open connections for a pool",
    label = "not a manager",
    note = "implement `millpond::Manager`, or pass a closure `Fn() -> Result<C, E>` with `E: std::error::Error + Send + Sync`, \
            or enable the feature `r2d2` for types that implement `r2d2::ManageConnection`"
)]
pub trait IntoManager<K> {
    /// The manager that it becomes.
    type Manager: Manager;
    /// Converts.
    fn into_manager(self) -> Self::Manager;
}

/// Markers that tell the kinds of [`IntoManager`] apart; they have no values.
pub mod kind {
    /// A type with an own [`Manager`](crate::Manager) implementation.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum Native {}
    /// A closure or function that opens a connection.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum Closure {}
    /// An `r2d2::ManageConnection`.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum FromR2d2 {}
}

impl<M: Manager> IntoManager<kind::Native> for M {
    type Manager = M;
    fn into_manager(self) -> M {
        self
    }
}

impl<F, C, E> IntoManager<kind::Closure> for F
where
    F: Fn() -> Result<C, E> + Send + Sync + 'static,
    C: Send + 'static,
    E: StdError + Send + Sync + 'static,
{
    type Manager = FnManager<F, C, E>;
    fn into_manager(self) -> Self::Manager {
        FnManager::new(self)
    }
}

#[cfg(feature = "r2d2")]
pub use adapter::R2d2;

#[cfg(feature = "r2d2")]
mod adapter {
    use super::{IntoManager, Manager, StdError, kind};
    use std::any::type_name;
    use std::fmt;

    /// Makes an `r2d2::ManageConnection` a [`Manager`]. [`Pool::new`](crate::Pool::new) wraps by itself; the name
    /// is needed to spell the type, as in `Pool<R2d2<SqliteConnectionManager>>`.
    #[derive(Clone)]
    #[allow(clippy::exhaustive_structs, reason = "a transparent wrapper, like std::num::Wrapping")]
    pub struct R2d2<M>(pub M);

    /// Names the type alone: managers hold passwords, and some (`redis::Client`) print them.
    impl<M> fmt::Debug for R2d2<M> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "R2d2<{}>(..)", type_name::<M>())
        }
    }

    impl<M> Manager for R2d2<M>
    where
        M: r2d2::ManageConnection,
        M::Error: StdError + Send + Sync + 'static,
    {
        type Connection = M::Connection;
        type Error = M::Error;

        fn connect(&self) -> Result<M::Connection, M::Error> {
            self.0.connect()
        }
        fn is_valid(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
            self.0.is_valid(connection)
        }
        fn has_broken(&self, connection: &mut M::Connection) -> bool {
            self.0.has_broken(connection)
        }
    }

    impl<M> IntoManager<kind::FromR2d2> for M
    where
        M: r2d2::ManageConnection,
        M::Error: StdError + Send + Sync + 'static,
    {
        type Manager = R2d2<M>;
        fn into_manager(self) -> R2d2<M> {
            R2d2(self)
        }
    }
}
