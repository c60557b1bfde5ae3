//! What went wrong, in a form that programs and people can both use.

use crate::lease::Lease;
use crate::redact::redact;
use crate::stats::Stats;
use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// An error of any kind, shared by all who met it.
pub(crate) type Cause = Arc<dyn StdError + Send + Sync + 'static>;

/// Why a connection could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Every connection was borrowed until the deadline. The error names who holds them.
    Exhausted,
    /// No connection could be opened; `source()` is the manager's own error, unless the server never answered.
    Connect,
    /// Idle connections were there, but none passed its check in time; `source()` is the last check's error, unless
    /// the check never ended.
    Validate,
    /// As many callers wait already as [`Builder::max_waiting`](crate::Builder::max_waiting) allows.
    Overloaded,
    /// The pool is paused and was not resumed before the deadline.
    Paused,
    /// The pool is closed.
    Closed,
    /// Every connection was held by threads that themselves waited in this pool, until the deadline; or a nested checkout
    /// was refused ([`Nested::Deny`](crate::Nested::Deny)), or the connection that is [bound](crate::Pool::bind) to the
    /// thread was in use by a closure further up. The error names the holders.
    Deadlock,
    /// No connection is bound to this thread (any more), and others may not be used ([`Builder::bound_only`](crate::Builder::bound_only),
    /// [`Scope`](crate::Scope)).
    Unbound,
    /// The process is a child that was forked off the one that made the pool: the connections are the parent's.
    Forked,
    /// Settings that cannot be, all of them listed in the text.
    Config,
}

/// The error of every function of the pool. Cheap to clone.
///
/// Its text carries the pool's name and numbers and, when the pool was exhausted, the longest holders; the
/// manager's own error is not in the text but in [`source`](StdError::source), for all who waited alike.
///
/// # Examples
///
/// ```
/// use millpond::{ErrorKind, Pool};
/// use std::error::Error as _;
/// use std::io;
/// use std::time::Duration;
///
/// let pool = Pool::builder(|| Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)))
///     .connection_timeout(Duration::from_millis(50))
///     .build_lazy()?;
/// let error = pool.get().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Connect);
/// let cause = error.source().and_then(|e| e.downcast_ref::<io::Error>());
/// assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    pool: Option<Arc<str>>,
    text: Text,
    stats: Option<Stats>,
    holders: Vec<Lease>,
    cause: Option<Cause>,
}

/// A wait that was in vain.
pub(crate) struct Wait {
    pub(crate) waited: Duration,
    /// So many connections were held by the thread that waited.
    pub(crate) own: u32,
    /// The limit of the budget, if that is what the pool lacks.
    pub(crate) budget: Option<u32>,
}

/// What the error says. Where a thousand callers may give up in one moment, the text is not made before somebody reads
/// it.
enum Text {
    Said(String),
    /// The same, of a deadline that has passed.
    SaidLate(String),
    TimedOut(Wait),
    /// `ready` of `wanted` connections were open.
    NotReady {
        waited: Duration,
        ready: u32,
        wanted: u32,
    },
    StillHeld {
        waited: Duration,
        closed: bool,
    },
}

impl Error {
    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the deadline passed, whatever it was that took so long.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        !matches!(self.0.text, Text::Said(_))
    }

    /// The [name](crate::Builder::name) of the pool that the error is about, unless it is about settings, or about several pools.
    /// Where none of the pools of a [`Balanced`](crate::Balanced) or a [`ReadWrite`](crate::ReadWrite) could serve, the one that
    /// was asked last; the text is about all.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::Pool;
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build_lazy()?;
    /// pool.close();
    /// let error = pool.get().unwrap_err();
    /// assert_eq!(error.pool(), Some("orders")); // for an answer or a metric: which pool could not serve
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        self.0.pool.as_deref()
    }

    /// The pool's numbers at that moment, where the error is about a pool's state.
    #[must_use]
    pub fn stats(&self) -> Option<&Stats> {
        self.0.stats.as_ref()
    }

    /// Who held connections at that moment, longest first. After a checkout in vain at most sixteen, because a thousand callers
    /// may give up in one moment; all of them where a pool did not become idle in time
    /// ([`close_and_wait`](crate::Pool::close_and_wait), [`wait_idle`](crate::Pool::wait_idle)), and of several pools that did not
    /// ([`Pools::close_all`](crate::Pools::close_all)) those of one after the other.
    #[must_use]
    pub fn holders(&self) -> &[Lease] {
        &self.0.holders
    }

    /// The text and the causes, without secrets: for tables and log lines, which are all that is left of an error.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&text_of(error));
            cause = error.source();
        }
        text
    }

    /// Where no pool is to be named.
    pub(crate) fn plain(kind: ErrorKind, text: String) -> Self {
        Self::with_cause(kind, text, None)
    }

    pub(crate) fn with_cause(kind: ErrorKind, text: String, cause: Option<Cause>) -> Self {
        Self::said(None, kind, text, cause)
    }

    pub(crate) fn of(pool: &Arc<str>, kind: ErrorKind, text: String) -> Self {
        Self::said(Some(pool), kind, text, None)
    }

    pub(crate) fn said(pool: Option<&Arc<str>>, kind: ErrorKind, text: String, cause: Option<Cause>) -> Self {
        let (text, stats, holders) = (Text::Said(text), None, Vec::new());
        Self(Arc::new(Inner { kind, pool: pool.cloned(), text, stats, holders, cause }))
    }

    /// For fronts over many pools: a deadline has passed, and these hold what was waited for.
    pub(crate) fn late(kind: ErrorKind, text: String, holders: Vec<Lease>) -> Self {
        Self(Arc::new(Inner { kind, pool: None, text: Text::SaidLate(text), stats: None, holders, cause: None }))
    }

    pub(crate) fn closed(pool: &Arc<str>) -> Self {
        Self::of(pool, ErrorKind::Closed, format!("the pool {pool:?} is closed"))
    }

    pub(crate) fn forked(pool: &Arc<str>) -> Self {
        let text = format!(
            "the pool {pool:?} belongs to the process that this one was forked off; its connections are shared with that \
             process and cannot be used here: build a pool after the fork"
        );
        Self::of(pool, ErrorKind::Forked, text)
    }

    /// A thread that could not be started.
    pub(crate) fn no_thread(pool: &Arc<str>, error: std::io::Error) -> Self {
        let text = format!("the pool {pool:?} cannot start its upkeep thread");
        Self::said(Some(pool), ErrorKind::Connect, text, Some(Arc::new(error)))
    }

    pub(crate) fn unbound(pool: &Arc<str>) -> Self {
        let text = format!("no connection of {pool:?} is bound to this thread, and borrowing another one is forbidden");
        Self::of(pool, ErrorKind::Unbound, text)
    }

    /// The connection that was bound to the thread was closed.
    pub(crate) fn binding_lost(pool: &Arc<str>) -> Self {
        let text = format!(
            "the connection of {pool:?} that was bound to this thread was lost to a panic: what was begun on it cannot go on"
        );
        Self::of(pool, ErrorKind::Unbound, text)
    }

    /// The connection that is bound to the thread is in use.
    pub(crate) fn used_above(pool: &Arc<str>, by: &Location<'_>) -> Self {
        let text = format!(
            "the connection of {pool:?} that is bound to this thread is in use by the closure that was called at {}:{}: pass \
             the connection on from there",
            by.file(),
            by.line()
        );
        Self::of(pool, ErrorKind::Deadlock, text)
    }

    /// All that is wrong with the settings, in one error.
    pub(crate) fn config(problems: &[String]) -> Self {
        Self::plain(ErrorKind::Config, format!("unusable settings: {}", problems.join("; ")))
    }

    pub(crate) fn permanent(pool: &Arc<str>, cause: Cause) -> Self {
        let text = format!("cannot open a connection for {pool:?}, and trying again would not help");
        Self::said(Some(pool), ErrorKind::Connect, text, Some(cause))
    }

    /// The error of somebody whose deadline passed.
    pub(crate) fn timeout(
        kind: ErrorKind,
        pool: &Arc<str>,
        wait: Wait,
        stats: Stats,
        holders: Vec<Lease>,
        cause: Option<Cause>,
    ) -> Self {
        let (pool, text, stats) = (Some(Arc::clone(pool)), Text::TimedOut(wait), Some(stats));
        Self(Arc::new(Inner { kind, pool, text, stats, holders, cause }))
    }

    /// The error of somebody whom none of several pools could serve: a text about all of them, whether time was over, and
    /// everything else as the last one said it.
    pub(crate) fn of_members(text: String, timed_out: bool, last: &Self) -> Self {
        let Inner { kind, pool, stats, holders, cause, .. } = &*last.0;
        let text = if timed_out { Text::SaidLate(text) } else { Text::Said(text) };
        let (pool, stats, holders, cause) = (pool.clone(), stats.clone(), holders.clone(), cause.clone());
        Self(Arc::new(Inner { kind: *kind, pool, text, stats, holders, cause }))
    }

    /// The error of somebody who waited for a pool to be ready.
    pub(crate) fn not_ready(
        pool: &Arc<str>,
        waited: Duration,
        (ready, wanted): (u32, u32),
        stats: Stats,
        cause: Option<Cause>,
    ) -> Self {
        let (kind, pool, text) = (ErrorKind::Connect, Some(Arc::clone(pool)), Text::NotReady { waited, ready, wanted });
        Self(Arc::new(Inner { kind, pool, text, stats: Some(stats), holders: Vec::new(), cause }))
    }

    /// The error of somebody who closed a pool, or waited for it to be idle, and saw connections still out at the deadline.
    pub(crate) fn still_held(
        pool: &Arc<str>,
        (waited, closed): (Duration, bool),
        stats: Stats,
        holders: Vec<Lease>,
    ) -> Self {
        let kind = if closed { ErrorKind::Closed } else { ErrorKind::Exhausted };
        let (pool, text) = (Some(Arc::clone(pool)), Text::StillHeld { waited, closed });
        Self(Arc::new(Inner { kind, pool, text, stats: Some(stats), holders, cause: None }))
    }
}

/// How many holders a text names: enough for a leak, short enough for a log line.
const HOLDERS_IN_TEXT: usize = 4;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, pool, text, stats, holders, cause } = &*self.0;
        let pool = pool.as_deref().unwrap_or_default();
        let numbers = stats.as_ref().map(Stats::summary).unwrap_or_default();
        match text {
            Text::Said(text) | Text::SaidLate(text) => f.write_str(text),
            Text::TimedOut(Wait { waited, own, budget }) => {
                let waited = waited.as_secs_f64();
                write!(f, "timed out after {waited:.2} s waiting for a connection from {pool:?} ({numbers})")?;
                f.write_str(match kind {
                    ErrorKind::Connect if cause.is_some() => "; connecting fails",
                    ErrorKind::Connect => "; the server does not answer",
                    ErrorKind::Validate if cause.is_some() => "; idle connections fail their check",
                    ErrorKind::Validate => "; the check of an idle connection does not end",
                    ErrorKind::Paused => "; the pool is paused",
                    ErrorKind::Deadlock => {
                        "; every connection is held by a thread that itself waits for one of this pool"
                    }
                    _ => "",
                })?;
                if let Some(limit) = budget {
                    write!(f, "; the budget of {limit} connections that it shares is used up")?;
                }
                if *own > 0 {
                    write!(f, "; the thread that waited holds {own} itself")?;
                }
                if matches!(kind, ErrorKind::Exhausted | ErrorKind::Deadlock) && !holders.is_empty() {
                    write!(f, "; held longest by {}", listed(holders.iter().take(HOLDERS_IN_TEXT)))?;
                }
                Ok(())
            }
            Text::NotReady { waited, ready, wanted } => {
                let waited = waited.as_secs_f64();
                write!(
                    f,
                    "timed out after {waited:.2} s: {ready} of {wanted} connections of {pool:?} are open ({numbers})"
                )?;
                f.write_str(if cause.is_some() { "; connecting fails" } else { "" })
            }
            Text::StillHeld { waited, closed } => {
                let waited = waited.as_secs_f64();
                let named = listed(holders.iter().take(HOLDERS_IN_TEXT));
                let holders = match holders.len().saturating_sub(HOLDERS_IN_TEXT) {
                    _ if holders.is_empty() => "nobody".to_owned(),
                    0 => named,
                    more => format!("{named}, and {more} more"),
                };
                if *closed {
                    write!(f, "the pool {pool:?} is closed, but after {waited:.2} s not everything has ended ")?;
                } else {
                    write!(f, "after {waited:.2} s the pool {pool:?} is not idle ")?;
                }
                write!(f, "({numbers}); held by {holders}")
            }
        }
    }
}

fn listed<'a>(holders: impl IntoIterator<Item = &'a Lease>) -> String {
    holders.into_iter().map(Lease::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("text", &self.to_string())
            .field("cause", &self.0.cause.as_ref().map(|cause| text_of(&**cause)))
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn StdError + 'static))
    }
}

/// The text of an error that others have written, without secrets. Making it is their code, and may panic.
pub(crate) fn text_of(error: &(dyn StdError + 'static)) -> String {
    catch_unwind(AssertUnwindSafe(|| redact(&error.to_string()).into_owned()))
        .unwrap_or_else(|payload| Panicked::caught("the error's text", payload).to_string())
}

/// A panic in a callback, as an error: what connecting failed with when it panicked.
#[derive(Debug)]
pub(crate) struct Panicked {
    pub(crate) callback: &'static str,
    pub(crate) message: String,
}

impl Panicked {
    /// Of what was caught, without secrets.
    #[cold]
    pub(crate) fn caught(callback: &'static str, payload: Box<dyn Any + Send>) -> Self {
        let message = redact(&message(&*payload)).into_owned();
        dispose(payload);
        Self { callback, message }
    }
}

/// Calls what is the user's, where a panic is told to nobody.
pub(crate) fn quietly<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(dispose).ok()
}

/// Drops what is the user's: a payload or an error whose destructor panics must not take the thread with it. What that throws
/// may do the same once more, and is leaked.
pub(crate) fn dispose(of_users: impl Sized) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(of_users))) {
        std::mem::forget(again);
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} panicked: {}", self.callback, self.message)
    }
}

impl StdError for Panicked {}
