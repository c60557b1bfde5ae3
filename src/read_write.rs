//! One pool to write and others to read, as for a primary and its replicas.
//!
//! ```
//! use millpond::{Balanced, Pool, read_write::ReadWrite};
//! use std::time::Duration;
//!
//! // Stand-ins: a connection is the name of its server.
//! # fn open(name: &'static str) -> millpond::Builder<impl millpond::Manager<Connection = &'static str>> {
//! #     Pool::builder(move || Ok::<_, std::io::Error>(name)).name(name)
//! # }
//! let primary = open("primary").build()?;
//! let replicas = Balanced::builder().member("a", open("replica").build()?).member("b", open("replica").build()?).build()?;
//! let db = ReadWrite::new(primary, replicas).sticky_reads(Duration::from_secs(2));
//!
//! assert_eq!(db.with_read(|conn| *conn)?, "replica");
//! let written = db.write()?;
//! assert_eq!(**written, "primary");
//! drop(written);
//! // What this thread has just written may not have reached the replicas yet: for 2 s it reads where it has written.
//! assert_eq!(db.with_read(|conn| *conn)?, "primary");
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! Writer and readers have managers of one type, because a reader may be given a connection of the writer. Where they are
//! closures, whose types differ, box them: see [the front page](crate#which-pool-to-choose). For one SQLite file there is
//! [`SqlitePool`](crate::sqlite::SqlitePool), which also knows about transactions.

use crate::clock::{Clock, Moment};
use crate::{Balanced, Error, HealthReport, Manager, Pool, PooledConnection};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A pool to write and others to read: see the [module](self). A handle, cheap to clone; clones are one and the same to
/// [sticky reads](Self::sticky_reads).
pub struct ReadWrite<M: Manager> {
    writer: Pool<M>,
    readers: Balanced<M>,
    fall_back: bool,
    sticky: Sticky,
}

impl<M: Manager> ReadWrite<M> {
    /// Writes go to `writer`, reads to `readers`: a pool, or several that are [balanced](Balanced).
    #[must_use]
    pub fn new(writer: Pool<M>, readers: impl Into<Balanced<M>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number that nobody else has is all that is asked of it.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let sticky = Sticky { id, lasting: Duration::ZERO, clock: Clock::System };
        Self { writer, readers: readers.into(), fall_back: true, sticky }
    }

    /// Whether a read goes to the writer when no reader is left: all are away, paused, closed or drained. Readers that are
    /// merely busy are waited for. Default: yes, as a slow answer is better than none, and more than its maximum the writer's
    /// pool never takes on. No, where writing must not suffer from it.
    #[must_use]
    pub fn fallback_to_writer(mut self, fall_back: bool) -> Self {
        self.fall_back = fall_back;
        self
    }

    /// For how long after a write the reads of the same thread go to the writer, because replicas are behind: longer than they
    /// ever are. Counted from the checkout, and again from the return, so that a long transaction is covered. Default: not at
    /// all.
    ///
    /// It goes by threads. Another thread of the same session, another process, and a connection that was handed to another
    /// thread and returned there, are not covered; and a worker thread that has written for one request reads from the
    /// writer for the next one, too. When the writer is away such a read fails: what was asked for is what was written.
    #[must_use]
    pub fn sticky_reads(mut self, lasting: Duration) -> Self {
        self.sticky.lasting = lasting;
        self
    }

    /// Takes the time for sticky reads from a clock that is moved by hand: for tests.
    #[cfg(any(test, loom, shuttle, feature = "testing"))]
    #[must_use]
    pub fn clock(mut self, clock: crate::clock::HandClock) -> Self {
        self.sticky.clock = Clock::Hand(clock);
        self
    }

    /// Borrows a connection to read: of a reader, or of the writer after a [write](Self::sticky_reads) or
    /// [when no reader is left](Self::fallback_to_writer). Waits no longer than the readers'
    /// [`connection_timeout`](crate::balance::BalancedBuilder::connection_timeout) in all; where they are a single pool, than
    /// [that pool's](crate::Builder::connection_timeout).
    ///
    /// # Errors
    ///
    /// As [`Balanced::get`]; where the writer was asked, too, its error, with a text about all.
    #[track_caller]
    pub fn read(&self) -> Result<PooledConnection<M>, Error> {
        self.read_timeout(self.readers.connection_timeout())
    }

    /// The same, waiting no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        if self.is_sticky() {
            return self.writer.get_timeout(timeout);
        }
        if !self.fall_back {
            return self.readers.get_timeout(timeout);
        }
        let search = match self.readers.get_or_leave(timeout) {
            Ok(connection) => return Ok(connection),
            Err(search) if search.nobody_is_busy() => search,
            Err(search) => return Err(search.into_error()),
        };
        self.writer.get_timeout(search.left()).map_err(|error| {
            let text = format!("{}; the writer {:?}: {error}", search.into_error(), self.writer.name());
            Error::of_members(text, error.is_timeout(), &error)
        })
    }

    /// Calls `f` with a connection to read.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); what `f` returns is passed through.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[track_caller]
    pub fn with_read<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        let mut connection = self.read()?;
        Ok(f(&mut connection))
    }

    /// Borrows a connection of the writer.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`].
    #[track_caller]
    pub fn write(&self) -> Result<Writing<M>, Error> {
        self.writer.get().map(|connection| self.writing(connection))
    }

    /// The same, waiting no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`].
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> Result<Writing<M>, Error> {
        self.writer.get_timeout(timeout).map(|connection| self.writing(connection))
    }

    /// Calls `f` with a connection of the writer.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); what `f` returns is passed through.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[track_caller]
    pub fn with_write<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        let mut connection = self.write()?;
        Ok(f(&mut connection))
    }

    fn writing(&self, connection: PooledConnection<M>) -> Writing<M> {
        self.sticky.note();
        Writing { connection, noted: Noted(self.sticky.clone()) }
    }

    /// Whether reads of this thread go to the writer now, because it has written a short while ago.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.sticky.holds()
    }

    /// The pool that writes go to.
    #[must_use]
    pub fn writer(&self) -> &Pool<M> {
        &self.writer
    }

    /// The pools that reads go to.
    #[must_use]
    pub fn readers(&self) -> &Balanced<M> {
        &self.readers
    }

    /// How the writer and the readers do, the worst first. A pool that does both is in it once.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        HealthReport::of(self.pools())
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool<M>> {
        std::iter::once(&self.writer).chain(self.readers.pools())
    }
}

/// A connection to write with, made by [`ReadWrite::write`]: a [`PooledConnection`], and through it the connection, whose
/// return counts as a write.
pub struct Writing<M: Manager> {
    // In this order: the connection is back before the time begins.
    connection: PooledConnection<M>,
    noted: Noted,
}

impl<M: Manager> Writing<M> {
    /// The guard of the pool, for what only that can do, like [`PooledConnection::discard`]. This counts as the end of the
    /// write.
    #[must_use]
    pub fn into_pooled(this: Self) -> PooledConnection<M> {
        let Self { connection, noted } = this;
        drop(noted);
        connection
    }
}

impl<M: Manager> Deref for Writing<M> {
    type Target = PooledConnection<M>;

    fn deref(&self) -> &PooledConnection<M> {
        &self.connection
    }
}

impl<M: Manager> DerefMut for Writing<M> {
    fn deref_mut(&mut self) -> &mut PooledConnection<M> {
        &mut self.connection
    }
}

impl<M: Manager> fmt::Debug for Writing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writing").field(&self.connection).finish()
    }
}

thread_local! {
    /// Until when reads of this thread go to the writer, for each [`ReadWrite`] that it has written through. What is over goes when
    /// the next one comes.
    static WROTE: RefCell<Vec<Wrote>> = const { RefCell::new(Vec::new()) };
}

struct Wrote {
    /// The number of the [`ReadWrite`].
    id: u64,
    until: Moment,
    clock: Clock,
}

/// For how long the reads of a thread that has written go to the writer.
#[derive(Clone)]
struct Sticky {
    id: u64,
    lasting: Duration,
    clock: Clock,
}

impl Sticky {
    /// This thread writes, or has written.
    fn note(&self) {
        if self.lasting.is_zero() {
            return;
        }
        let until = self.clock.now().after(self.lasting);
        // Where the thread ends and its list is gone, `holds` takes it for one that has written.
        let _noted = WROTE.try_with(|wrote| {
            let mut wrote = wrote.borrow_mut();
            if let Some(before) = wrote.iter_mut().find(|wrote| wrote.id == self.id) {
                before.until = until;
                return;
            }
            wrote.retain(|wrote| wrote.clock.coarse() < wrote.until);
            wrote.push(Wrote { id: self.id, until, clock: self.clock.clone() });
        });
    }

    fn holds(&self) -> bool {
        if self.lasting.is_zero() {
            return false;
        }
        let now = self.clock.coarse();
        let holds = WROTE.try_with(|wrote| {
            let mut wrote = wrote.borrow_mut();
            let Some(index) = wrote.iter().position(|wrote| wrote.id == self.id) else { return false };
            let holds = wrote.get(index).is_some_and(|wrote| now < wrote.until);
            if !holds {
                wrote.swap_remove(index);
            }
            holds
        });
        holds.unwrap_or(true)
    }
}

/// Notes a write when it goes.
struct Noted(Sticky);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.note();
    }
}

impl<M: Manager> Clone for ReadWrite<M> {
    fn clone(&self) -> Self {
        let Self { writer, readers, fall_back, sticky } = self;
        Self { writer: writer.clone(), readers: readers.clone(), fall_back: *fall_back, sticky: sticky.clone() }
    }
}

impl<M: Manager> fmt::Debug for ReadWrite<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadWrite")
            .field("writer", &self.writer)
            .field("readers", &self.readers)
            .field("fallback_to_writer", &self.fall_back)
            .field("sticky_reads", &self.sticky.lasting)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::clock::HandClock;

    #[test]
    fn a_thread_keeps_no_note_of_what_is_over() {
        let clock = HandClock::new();
        let kept = || WROTE.with(|wrote| wrote.borrow().len());
        let sticky = |id| Sticky { id, lasting: Duration::from_secs(1), clock: Clock::Hand(clock.clone()) };
        (0..100).for_each(|id| sticky(id).note());
        assert_eq!(kept(), 100);
        clock.advance(Duration::from_millis(1_100));
        sticky(100).note();
        assert_eq!(kept(), 1, "the hundred that are over have gone, whoever they belonged to");
        assert!(sticky(100).holds() && !sticky(99).holds());
    }
}
