//! What r2d2's interface needs of the pool beyond its public names.
//!
//! For the module `r2d2`, and for the crate in `compat/`, which is made of the same files and sees no more of this crate
//! than other crates do. Hidden, and no promise to anybody else.

use crate::kind::Native;
use crate::{Builder, Manager, Pool, PooledConnection};
use std::any::Any;
use std::borrow::Cow;

/// A builder that does as r2d2 does where the public settings have no word for it: a connection that has worked lately is
/// checked on the caller's thread, and `idle_timeout` also takes those that `min_idle` keeps, which are then replaced.
pub fn builder<M: Manager>(manager: M) -> Builder<M> {
    Pool::builder::<Native>(manager).check_on_caller(true).replace_idle(true)
}

/// Borrows an idle connection, as [`Pool::try_get`] does, but one that needs a check is checked, on this thread.
#[track_caller]
pub fn try_get_checked<M: Manager>(pool: &Pool<M>) -> Option<PooledConnection<M>> {
    pool.try_get_checked()
}

/// Begins to open a connection for whoever comes next, if there is room for one and none is being opened. While connecting
/// fails, when the next attempt is due has been decided already.
pub fn open_ahead<M: Manager>(pool: &Pool<M>) {
    pool.open_ahead();
}

/// The text with passwords masked, as in all that the pool itself prints and logs.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    crate::redact::redact(text)
}

/// What a caught panic says, with passwords masked.
#[must_use]
pub fn panic_message(payload: Box<dyn Any + Send>) -> String {
    crate::error::Panicked::caught("an event handler", payload).message
}
