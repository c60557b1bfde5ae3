//! Who holds a connection: what is written down at checkout, and how it is read.

use crate::redact::redact;
use parking_lot::RwLock;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One borrowed connection: who has it, since when, and where it was taken.
///
/// Listed by [`Pool::holders`](crate::Pool::holders) and by the error of an exhausted pool.
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    pub(crate) connection: u64,
    pub(crate) thread: Arc<str>,
    pub(crate) location: Option<&'static Location<'static>>,
    pub(crate) held: Duration,
    pub(crate) label: Option<Arc<str>>,
}

impl Lease {
    /// The number of the connection, as [`PooledConnection::id`](crate::PooledConnection::id) gives it.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The name of the thread that took the connection, or `thread N` where it has none. It stays the same when
    /// the guard is moved to another thread.
    #[must_use]
    pub fn thread(&self) -> &str {
        &self.thread
    }

    /// The source line of the checkout.
    #[must_use]
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.location
    }

    /// For how long it has been held, exact to about 5 ms.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.held
    }

    /// What the holder wrote on it with [`PooledConnection::set_label`](crate::PooledConnection::set_label).
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

/// `connection`, `thread`, `location` as `file:line`, `held` in seconds, and `label`.
#[cfg(feature = "serde")]
impl serde::Serialize for Lease {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Lease", 5)?;
        fields.serialize_field("connection", &self.connection)?;
        fields.serialize_field("thread", self.thread())?;
        let location = self.location.map(|location| format!("{}:{}", location.file(), location.line()));
        fields.serialize_field("location", &location)?;
        fields.serialize_field("held", &self.held.as_secs_f64())?;
        fields.serialize_field("label", &self.label())?;
        fields.end()
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {:?}", self.thread)?;
        if let Some(location) = self.location {
            write!(f, " at {}:{}", location.file(), location.line())?;
        }
        write!(f, " for {:.2} s", self.held.as_secs_f64())?;
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease(#{} {self})", self.connection)
    }
}

/// How many bits of a slot's word hold a thread's number.
pub(crate) const THREAD_BITS: u32 = 30;

static NEXT: AtomicU32 = AtomicU32::new(1);
/// Readers do not hold each other up: a thousand callers who give up together all read it.
static NAMES: LazyLock<RwLock<Names>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Names {
    of: HashMap<u32, Arc<str>>,
    /// Threads that have ended, oldest first: who leaks a guard often ends soon afterwards.
    ended: VecDeque<u32>,
}

/// So many ended threads are remembered.
const REMEMBERED: usize = 1000;

/// Tells the book of names when the thread ends.
struct Enrolled(u32);

impl Drop for Enrolled {
    fn drop(&mut self) {
        let mut names = NAMES.write();
        names.ended.push_back(self.0);
        if names.ended.len() > REMEMBERED
            && let Some(oldest) = names.ended.pop_front()
        {
            names.of.remove(&oldest);
        }
    }
}

thread_local! {
    // No destructor, so that reading it on every checkout is one load.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static ENROLLED: Cell<Option<Enrolled>> = const { Cell::new(None) };
}

/// The number of the calling thread: small, never zero, given out at its first checkout.
#[inline]
pub(crate) fn thread_number() -> u32 {
    let number = NUMBER.get();
    if number == 0 { enrol() } else { number }
}

#[cold]
fn enrol() -> u32 {
    // Relaxed: only uniqueness matters. Wraps after a thousand million threads; the name is all that suffers.
    let number = (NEXT.fetch_add(1, Ordering::Relaxed) & ((1 << THREAD_BITS) - 1)).max(1);
    NUMBER.set(number);
    let name =
        std::thread::current().name().map_or_else(|| format!("thread {number}"), |name| redact(name).into_owned());
    NAMES.write().of.insert(number, name.into());
    // During the destruction of the thread's locals the name simply stays.
    let _unless_ending = ENROLLED.try_with(|enrolled| enrolled.set(Some(Enrolled(number))));
    number
}

/// What a thread is called.
pub(crate) fn thread_name(number: u32) -> Arc<str> {
    NAMES.read().of.get(&number).cloned().unwrap_or_else(|| format!("thread {number} (ended)").into())
}
