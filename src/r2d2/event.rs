//! What a pool reports while it runs: r2d2's events.
//!
//! # Examples
//!
//! ```
//! # #[derive(Debug)] struct Memory;
//! # impl r2d2::ManageConnection for Memory {
//! #     type Connection = Vec<u8>;
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
//! #     fn is_valid(&self, _: &mut Vec<u8>) -> std::io::Result<()> { Ok(()) }
//! #     fn has_broken(&self, _: &mut Vec<u8>) -> bool { false }
//! # }
//! use millpond::r2d2::{self, HandleEvent, event::TimeoutEvent};
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use std::time::Duration;
//!
//! #[derive(Debug)]
//! struct CountTimeouts(Arc<AtomicU64>);
//!
//! impl HandleEvent for CountTimeouts {
//!     fn handle_timeout(&self, _: TimeoutEvent) {
//!         self.0.fetch_add(1, Ordering::Relaxed);
//!     }
//! }
//!
//! let timeouts = Arc::new(AtomicU64::new(0));
//! let pool = r2d2::Pool::builder()
//!     .max_size(1)
//!     .event_handler(Box::new(CountTimeouts(Arc::clone(&timeouts))))
//!     .build(Memory)?;
//! let _held = pool.get()?;
//! assert!(pool.get_timeout(Duration::from_millis(5)).is_err());
//! assert_eq!(timeouts.load(Ordering::Relaxed), 1);
//! # Ok::<(), r2d2::Error>(())
//! ```

use millpond::drop_in;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Hears what a pool does. All functions have defaults that do nothing.
///
/// In r2d2's words a connection is *acquired* when it is opened and *released* when it is closed; *checkout* and
/// *checkin* are what happens in between. No lock of the pool is held during any of the calls, so a handler may use the
/// pool. A panic in one is logged and goes no further.
///
/// The pool reads the exact clock only if there is a handler: that costs about 40 ns per checkout.
#[allow(unused_variables, reason = "the names are documentation; the defaults do nothing")]
pub trait HandleEvent: fmt::Debug + Sync + Send {
    /// A connection was opened, and the customizer has accepted it. Nobody can have borrowed it yet.
    fn handle_acquire(&self, event: AcquireEvent) {}

    /// A connection is about to be closed.
    fn handle_release(&self, event: ReleaseEvent) {}

    /// A connection was borrowed. Runs on the borrowing thread, after `try_get` too, where r2d2 reports nothing.
    fn handle_checkout(&self, event: CheckoutEvent) {}

    /// A caller's time is up. Runs on that caller's thread.
    fn handle_timeout(&self, event: TimeoutEvent) {}

    /// A borrowed connection came back, sound or broken. Runs on the returning thread.
    fn handle_checkin(&self, event: CheckinEvent) {}
}

/// A handler that hears nothing: the default.
#[derive(Copy, Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "r2d2's users name it as a value")]
pub struct NopEventHandler;

impl HandleEvent for NopEventHandler {}

/// A connection was opened.
#[derive(Debug)]
pub struct AcquireEvent {
    pub(super) id: u64,
}

impl AcquireEvent {
    /// The connection's number, unique over all pools of the process.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.id
    }
}

/// A connection is about to be closed.
#[derive(Debug)]
pub struct ReleaseEvent {
    pub(super) id: u64,
    pub(super) age: Duration,
}

impl ReleaseEvent {
    /// The connection's number.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long ago it was opened.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }
}

/// A connection was borrowed.
#[derive(Debug)]
pub struct CheckoutEvent {
    pub(super) id: u64,
    pub(super) duration: Duration,
}

impl CheckoutEvent {
    /// The connection's number.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long the caller took to get it, waiting and testing included.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

/// A caller got no connection in time.
#[derive(Debug)]
pub struct TimeoutEvent {
    pub(super) timeout: Duration,
}

impl TimeoutEvent {
    /// The time that the caller was willing to wait.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// A borrowed connection came back.
#[derive(Debug)]
pub struct CheckinEvent {
    pub(super) id: u64,
    pub(super) duration: Duration,
}

impl CheckinEvent {
    /// The connection's number.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long it was borrowed.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

/// The exact time. Events are told to people in real time, whatever clock the pool itself goes by.
#[expect(clippy::disallowed_methods, reason = "an event's duration is not a decision of the pool")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Tells a handler, and keeps its panic from the pool: a checkin may happen while a thread unwinds already.
pub(super) fn tell(handler: &dyn HandleEvent, event: impl FnOnce(&dyn HandleEvent)) {
    let Err(thrown) = catch_unwind(AssertUnwindSafe(|| event(handler))) else { return };
    // What it has thrown, and how it prints, are the handler's too.
    let told = catch_unwind(AssertUnwindSafe(|| {
        let message = drop_in::panic_message(thrown);
        log::error!("the event handler {} panicked: {message}", drop_in::redact(&format!("{handler:?}")));
    }));
    if let Err(again) = told {
        drop(drop_in::panic_message(again));
    }
}
