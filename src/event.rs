//! What a pool tells about itself while it runs.

use crate::adaptive::{Grounds, Reason};
use crate::error::Error;
use crate::extensions::Extensions;
use crate::lease::Lease;
use crate::stats::Stats;
use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It reached its [`max_lifetime`](crate::Builder::max_lifetime).
    Lifetime,
    /// It was idle for [`idle_timeout`](crate::Builder::idle_timeout).
    IdleTimeout,
    /// It was lent [`max_uses`](crate::Builder::max_uses) times.
    MaxUses,
    /// [`Pool::refresh`](crate::Pool::refresh) was called after it was opened.
    Refresh,
    /// [`Pool::resize`](crate::Pool::resize), or the rule of an [adaptive](crate::adaptive) pool, left no place for it.
    Resize,
    /// Another pool of the same [`Budget`](crate::Budget) needed its place.
    Budget,
    /// [`Manager::has_broken`](crate::Manager::has_broken) or
    /// [`PooledConnection::mark_broken`](crate::PooledConnection::mark_broken) said so.
    Broken,
    /// Its check failed.
    Invalid,
    /// [`Manager::reset`](crate::Manager::reset) or the `on_return` hook failed.
    ResetFailed,
    /// Its guard was dropped by a panicking thread, or a callback panicked over it.
    Panicked,
    /// [`PooledConnection::discard`](crate::PooledConnection::discard) was called.
    Discarded,
    /// [`PooledConnection::into_inner`](crate::PooledConnection::into_inner) was called: it left the pool open.
    Detached,
    /// The pool was closed.
    PoolClosed,
}

impl CloseReason {
    pub(crate) const ALL: [Self; 13] = [
        Self::Lifetime,
        Self::IdleTimeout,
        Self::MaxUses,
        Self::Refresh,
        Self::Resize,
        Self::Budget,
        Self::Broken,
        Self::Invalid,
        Self::ResetFailed,
        Self::Panicked,
        Self::Discarded,
        Self::Detached,
        Self::PoolClosed,
    ];
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// The reason in lower case and without blanks, as it stands in metrics and in JSON; printed, it has blanks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxUses => "max_uses",
            Self::Refresh => "refresh",
            Self::Resize => "resize",
            Self::Budget => "budget",
            Self::Broken => "broken",
            Self::Invalid => "invalid",
            Self::ResetFailed => "reset_failed",
            Self::Panicked => "panicked",
            Self::Discarded => "discarded",
            Self::Detached => "detached",
            Self::PoolClosed => "pool_closed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str().replace('_', " "))
    }
}

/// What the pool is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Connections are lent.
    Up,
    /// Connecting fails: the server is away. Told again after each further attempt that has failed.
    Down,
    /// The same, and one attempt is under way that will show whether it is back.
    HalfOpen,
    /// Paused by hand.
    Paused,
    /// Closed for good.
    Closed,
}

/// A connection was opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// Its number, counted up from 1 in each pool.
    pub connection: u64,
    /// How long opening it took.
    pub took: Duration,
}

/// An attempt to open a connection failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectFailed<'a> {
    /// The manager's own error.
    pub error: &'a (dyn StdError + 'static),
    /// How many attempts have failed since the last success.
    pub attempts: u32,
    /// How long the attempt took.
    pub took: Duration,
}

/// A connection was lent.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckedOut<'a> {
    /// Its number.
    pub connection: u64,
    /// How long the caller waited for it; zero where it was there at once.
    pub waited: Duration,
    /// The source line of the checkout.
    pub location: &'static Location<'static>,
    /// What the user keeps beside the connection.
    pub extensions: &'a Extensions,
}

/// A connection came back. It may still be closed: a [`Closed`] follows then.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckedIn<'a> {
    /// Its number.
    pub connection: u64,
    /// How long it was borrowed.
    pub held: Duration,
    /// What the borrower wrote on it with [`PooledConnection::set_label`](crate::PooledConnection::set_label).
    pub label: Option<&'a str>,
    /// What the user keeps beside the connection.
    pub extensions: &'a Extensions,
}

/// A connection that came back was cleaned by [`Manager::reset`](crate::Manager::reset) and the `on_return` hook.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reset<'a> {
    /// Its number.
    pub connection: u64,
    /// What it failed with; the connection is closed then.
    pub error: Option<&'a (dyn StdError + 'static)>,
    /// How long cleaning it took.
    pub took: Duration,
}

/// A connection passed its check.
#[derive(Debug)]
#[non_exhaustive]
pub struct Valid {
    /// Its number.
    pub connection: u64,
    /// How long the check took.
    pub took: Duration,
}

/// A connection failed its check.
#[derive(Debug)]
#[non_exhaustive]
pub struct Invalid<'a> {
    /// Its number.
    pub connection: u64,
    /// What the check failed with.
    pub error: &'a (dyn StdError + 'static),
    /// How long the check took.
    pub took: Duration,
}

/// The pool has parted with a connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed<'a> {
    /// Its number.
    pub connection: u64,
    /// Why.
    pub reason: CloseReason,
    /// How old it was.
    pub age: Duration,
    /// How often it was lent.
    pub uses: u64,
    /// How long closing it took.
    pub took: Duration,
    /// What the user keeps beside the connection.
    pub extensions: &'a Extensions,
}

/// The maximum was changed, by hand or by the rule of an [adaptive](crate::adaptive) pool.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resized<'a> {
    /// What it was.
    pub from: u32,
    /// What it is.
    pub to: u32,
    /// Why.
    pub reason: Reason,
    /// The numbers that the rule went by.
    pub grounds: Option<&'a Grounds>,
}

/// A callback panicked. The pool caught it and lost nothing by it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Panicked<'a> {
    /// Which callback, for example `connect` or `has_broken`.
    pub callback: &'static str,
    /// What the panic said.
    pub message: &'a str,
}

/// Hears what a pool does. All functions have defaults that do nothing.
///
/// They run on the thread on which the thing happens, outside every lock of the pool, and should be quick. A panic
/// in one of them is caught and counted. An event handler switches exact use times on; with those, a checkout costs about 130 ns
/// more, and with [`samples_only`](Self::samples_only) nothing more.
///
/// What is told of a connection, in this order: `connected`; for each checkout `checked_out`, `checked_in` and, unless it was
/// found broken, `reset`; checks in between, `valid` or `invalid`; `retired` with the reason and, unless it was taken out of the
/// pool, `closed`. A pool may have several handlers
/// ([`Builder::event_handler`](crate::Builder::event_handler) adds one), and each hears everything.
///
/// # Examples
///
/// ```
/// use millpond::event::{Closed, Connected, EventHandler};
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
///
/// #[derive(Default)]
/// struct Opened(AtomicUsize);
///
/// impl EventHandler for Opened {
///     fn connected(&self, _pool: &str, _event: &Connected) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let opened = Arc::new(Opened::default());
/// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(()))
///     .min_idle(2)
///     .event_handler(Arc::clone(&opened))
///     .build()?;
/// assert_eq!(opened.0.load(Ordering::Relaxed), 2);
/// # drop(pool);
/// # Ok::<(), millpond::Error>(())
/// ```
#[allow(unused_variables, reason = "the names are documentation; the defaults do nothing")]
pub trait EventHandler: Send + Sync + 'static {
    /// A connection was opened.
    fn connected(&self, pool: &str, event: &Connected) {}
    /// An attempt to open a connection failed.
    fn connect_failed(&self, pool: &str, event: &ConnectFailed<'_>) {}
    /// A connection was lent.
    fn checked_out(&self, pool: &str, event: &CheckedOut<'_>) {}
    /// A connection came back.
    fn checked_in(&self, pool: &str, event: &CheckedIn<'_>) {}
    /// A connection that came back was cleaned.
    fn reset(&self, pool: &str, event: &Reset<'_>) {}
    /// A connection passed its check.
    fn valid(&self, pool: &str, event: &Valid) {}
    /// A connection failed its check.
    fn invalid(&self, pool: &str, event: &Invalid<'_>) {}
    /// The pool has decided to close a connection, and does it now or on a helper thread.
    fn retired(&self, pool: &str, connection: u64, reason: CloseReason) {}
    /// A connection was closed.
    fn closed(&self, pool: &str, event: &Closed<'_>) {}
    /// A caller did not get a connection: its deadline passed, or it was turned away.
    fn timed_out(&self, pool: &str, error: &Error) {}
    /// A connection is borrowed for longer than [`leak_threshold`](crate::Builder::leak_threshold).
    fn overdue(&self, pool: &str, lease: &Lease) {}
    /// One that was overdue has come back; `lease` says after how long.
    fn overdue_ended(&self, pool: &str, lease: &Lease) {}
    /// The pool's state changed.
    fn state_changed(&self, pool: &str, state: State) {}
    /// The maximum was changed.
    fn resized(&self, pool: &str, event: &Resized<'_>) {}
    /// A callback panicked.
    fn panicked(&self, pool: &str, event: &Panicked<'_>) {}
    /// Whether it wants samples and no events. Nothing but [`sampled`](Self::sampled) is called then, and a checkout costs what
    /// it costs without a handler. Asked once, when the pool is built. Default: no.
    fn samples_only(&self) -> bool {
        false
    }
    /// How often [`sampled`](Self::sampled) is to be called, 20 ms or more. Asked once, when the pool is built. Default: never.
    fn sample_every(&self) -> Option<Duration> {
        None
    }
    /// The pool's numbers: first when it is built and then every [`sample_every`](Self::sample_every), as long as the call before
    /// has ended; when the pool is closed; and when the last connection of a closed pool is, which is the last call. So whoever
    /// publishes them publishes the last ones, too. One call at a time, on a helper thread; in a pool without threads, on whichever
    /// does the upkeep: `maintain`, a caller that waits, who closes.
    fn sampled(&self, pool: &str, stats: &Stats) {}
}

impl<T: EventHandler + ?Sized> EventHandler for std::sync::Arc<T> {
    fn connected(&self, pool: &str, event: &Connected) {
        (**self).connected(pool, event);
    }
    fn connect_failed(&self, pool: &str, event: &ConnectFailed<'_>) {
        (**self).connect_failed(pool, event);
    }
    fn checked_out(&self, pool: &str, event: &CheckedOut<'_>) {
        (**self).checked_out(pool, event);
    }
    fn checked_in(&self, pool: &str, event: &CheckedIn<'_>) {
        (**self).checked_in(pool, event);
    }
    fn reset(&self, pool: &str, event: &Reset<'_>) {
        (**self).reset(pool, event);
    }
    fn valid(&self, pool: &str, event: &Valid) {
        (**self).valid(pool, event);
    }
    fn invalid(&self, pool: &str, event: &Invalid<'_>) {
        (**self).invalid(pool, event);
    }
    fn retired(&self, pool: &str, connection: u64, reason: CloseReason) {
        (**self).retired(pool, connection, reason);
    }
    fn closed(&self, pool: &str, event: &Closed<'_>) {
        (**self).closed(pool, event);
    }
    fn timed_out(&self, pool: &str, error: &Error) {
        (**self).timed_out(pool, error);
    }
    fn overdue(&self, pool: &str, lease: &Lease) {
        (**self).overdue(pool, lease);
    }
    fn overdue_ended(&self, pool: &str, lease: &Lease) {
        (**self).overdue_ended(pool, lease);
    }
    fn state_changed(&self, pool: &str, state: State) {
        (**self).state_changed(pool, state);
    }
    fn resized(&self, pool: &str, event: &Resized<'_>) {
        (**self).resized(pool, event);
    }
    fn panicked(&self, pool: &str, event: &Panicked<'_>) {
        (**self).panicked(pool, event);
    }
    fn samples_only(&self) -> bool {
        (**self).samples_only()
    }
    fn sample_every(&self) -> Option<Duration> {
        (**self).sample_every()
    }
    fn sampled(&self, pool: &str, stats: &Stats) {
        (**self).sampled(pool, stats);
    }
}
