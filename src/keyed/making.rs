//! Each pool is made once, however many ask for it at the same time.

use super::table::{Slot, Table};
use crate::clock::{Clock, Moment};
use crate::error::quietly;
use crate::redact::redact;
use crate::{Error, ErrorKind, Manager};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// What is being made, and who waits for it. Taken before the table's locks, never after them.
pub(super) struct Makings<K, M: Manager> {
    book: Mutex<Book<K, M>>,
}

struct Book<K, M: Manager> {
    under_way: HashMap<K, Arc<Making<M>>>,
    /// What each thread waits for: a provider may ask for another pool.
    waits: HashMap<ThreadId, Arc<Making<M>>>,
    closed: bool,
}

/// One call of the provider.
struct Making<M: Manager> {
    by: ThreadId,
    made: Mutex<Made<M>>,
    told: Condvar,
}

enum Made<M: Manager> {
    NotYet,
    Done(Result<Arc<Slot<M>>, Error>),
    /// Nobody is to wait for it any more.
    LetGo,
}

/// What ends a making even where a key panics.
struct Ending<'a, K: Eq + Hash, M: Manager> {
    book: &'a Mutex<Book<K, M>>,
    key: &'a K,
    making: &'a Making<M>,
}

impl<K: Eq + Hash, M: Manager> Drop for Ending<'_, K, M> {
    fn drop(&mut self) {
        let mut book = self.book.lock();
        if book.under_way.get(self.key).is_some_and(|making| std::ptr::eq(&raw const **making, self.making)) {
            book.under_way.remove(self.key);
        }
        drop(book);
        // Where it has ended in order, this has been told already.
        let text = "the pool of a key cannot be made: something of the key panicked".to_owned();
        self.making.tell(Made::Done(Err(Error::plain(ErrorKind::Connect, text))));
    }
}

/// What there is to do for somebody who asks.
enum Part<M: Manager> {
    Take(Arc<Slot<M>>),
    Wait(Arc<Making<M>>),
    Make(Arc<Making<M>>),
}

/// What came of asking: the pool, and the one whose place it has taken.
pub(super) struct Obtained<M: Manager> {
    pub(super) slot: Arc<Slot<M>>,
    pub(super) before: Option<Arc<Slot<M>>>,
    /// Whether it was made here and now, for this place.
    pub(super) by_me: bool,
}

impl<K: Clone + Eq + Hash + fmt::Debug, M: Manager> Makings<K, M> {
    pub(super) fn new() -> Self {
        let book = Book { under_way: HashMap::new(), waits: HashMap::new(), closed: false };
        Self { book: Mutex::new(book) }
    }

    /// The pool of a key: the one in the table, unless it is closed or `stale`; else one that `make` makes here, or that somebody
    /// makes already. `make` is called outside of every lock, and must not panic.
    pub(super) fn obtain(
        &self,
        table: &Table<K, M>,
        key: &K,
        stale: Option<&Arc<Slot<M>>>,
        timeout: Duration,
        make: impl FnOnce() -> Result<Arc<Slot<M>>, Error>,
    ) -> Result<Obtained<M>, Error> {
        let deadline = Clock::System.now().after(timeout);
        loop {
            match self.part(table, key, stale)? {
                Part::Take(slot) => return Ok(Obtained { slot, before: None, by_me: false }),
                Part::Wait(making) => {
                    let slot = making.wait(key, deadline);
                    self.book.lock().waits.remove(&thread::current().id());
                    if let Some(slot) = slot? {
                        return Ok(Obtained { slot, before: None, by_me: false });
                    }
                }
                Part::Make(making) => {
                    let ending = Ending { book: &self.book, key, making: &making };
                    let made = self.publish(table, key, &making, make());
                    making.tell(Made::Done(made.as_ref().map(|made| Arc::clone(&made.slot)).map_err(Error::clone)));
                    drop(ending);
                    return made;
                }
            }
        }
    }

    /// Lets go of the call of the provider that is under way for this key, if there is one: who waits for it looks anew, and so
    /// does who comes next.
    pub(super) fn let_go(&self, key: &K) {
        let making = self.book.lock().under_way.remove(key);
        if let Some(making) = making {
            making.tell(Made::LetGo);
        }
    }

    fn part(&self, table: &Table<K, M>, key: &K, stale: Option<&Arc<Slot<M>>>) -> Result<Part<M>, Error> {
        let me = thread::current().id();
        let mut book = self.book.lock();
        book.refuse_closed()?;
        let present = table.find(key).filter(|slot| !slot.pool.is_closed());
        if let Some(slot) = present.filter(|slot| !stale.is_some_and(|stale| Arc::ptr_eq(slot, stale))) {
            return Ok(Part::Take(slot));
        }
        if let Some(making) = book.under_way.get(key).map(Arc::clone) {
            if book.leads_to(&making, me) {
                drop(book);
                return Err(circle(key));
            }
            book.waits.insert(me, Arc::clone(&making));
            return Ok(Part::Wait(making));
        }
        let making = Arc::new(Making { by: me, made: Mutex::new(Made::NotYet), told: Condvar::new() });
        book.under_way.insert(key.clone(), Arc::clone(&making));
        drop(book);
        Ok(Part::Make(making))
    }

    /// Puts what was made into the table, and ends the making.
    fn publish(
        &self,
        table: &Table<K, M>,
        key: &K,
        making: &Arc<Making<M>>,
        made: Result<Arc<Slot<M>>, Error>,
    ) -> Result<Obtained<M>, Error> {
        let mut book = self.book.lock();
        let mine = book.under_way.get(key).is_some_and(|other| Arc::ptr_eq(other, making));
        if mine {
            book.under_way.remove(key);
        }
        let slot = made?;
        if let Err(error) = book.refuse_closed() {
            drop(book);
            slot.pool.close();
            return Err(error);
        }
        if !mine {
            // It was let go of. Where there is a pool by now, that is the key's.
            drop(book);
            let slot = table.find(key).filter(|slot| !slot.pool.is_closed()).unwrap_or(slot);
            return Ok(Obtained { slot, before: None, by_me: false });
        }
        let before = table.insert(key.clone(), Arc::clone(&slot));
        Ok(Obtained { slot, before, by_me: true })
    }

    pub(super) fn is_under_way(&self, key: &K) -> bool {
        self.book.lock().under_way.contains_key(key)
    }

    /// How many pools are being made, and how many callers wait for that.
    pub(super) fn numbers(&self) -> (usize, usize) {
        let book = self.book.lock();
        (book.under_way.len(), book.waits.len())
    }

    /// From now on nothing is made, and nothing that was begun gets into the table.
    pub(super) fn close(&self) {
        self.book.lock().closed = true;
    }
}

impl<K, M: Manager> Book<K, M> {
    fn refuse_closed(&self) -> Result<(), Error> {
        if self.closed {
            return Err(Error::plain(ErrorKind::Closed, "all pools are closed, and no more are made".to_owned()));
        }
        Ok(())
    }

    /// Whether a making waits, through others, for what this thread is making.
    fn leads_to(&self, making: &Making<M>, thread: ThreadId) -> bool {
        let mut by = making.by;
        // No circle is ever closed, so the way ends.
        while by != thread {
            match self.waits.get(&by).filter(|next| matches!(*next.made.lock(), Made::NotYet)) {
                Some(next) => by = next.by,
                None => return false,
            }
        }
        true
    }
}

impl<M: Manager> Making<M> {
    /// The first word counts.
    fn tell(&self, made: Made<M>) {
        let mut place = self.made.lock();
        if matches!(*place, Made::NotYet) {
            *place = made;
        }
        drop(place);
        self.told.notify_all();
    }

    /// `None` where it was let go of.
    fn wait<K: fmt::Debug>(&self, key: &K, deadline: Moment) -> Result<Option<Arc<Slot<M>>>, Error> {
        let began = Clock::System.now();
        let mut made = self.made.lock();
        loop {
            match &*made {
                Made::NotYet => {}
                Made::Done(made) => return made.clone().map(Some),
                Made::LetGo => return Ok(None),
            }
            let now = Clock::System.now();
            if now >= deadline {
                drop(made);
                let waited = now.since(began).as_secs_f64();
                let key = named(key);
                let text = format!(
                    "timed out after {waited:.2} s waiting for the pool of {key}, which another thread is making"
                );
                return Err(Error::late(ErrorKind::Connect, text, Vec::new()));
            }
            if deadline == Moment::NEVER {
                self.told.wait(&mut made);
            } else {
                self.told.wait_for(&mut made, deadline.since(now));
            }
        }
    }
}

/// A key as messages show it.
pub(super) fn named(key: &impl fmt::Debug) -> String {
    let text = quietly(|| format!("{key:?}"));
    text.map_or_else(|| "a key whose Debug panics".to_owned(), |text| redact(&text).into_owned())
}

fn circle(key: &impl fmt::Debug) -> Error {
    let text =
        format!("the pool of {} is needed to make itself: the provider asks for it while it makes it", named(key));
    Error::plain(ErrorKind::Deadlock, text)
}
