//! Connections that are bound to a thread: whoever asks below uses the same one.
//!
//! What is bound lies in a place of the thread, behind a type that only its own pool can undo. A closure that works on it
//! has it out of the place, so that nobody else can have it meanwhile, and puts it back.

use crate::error::Error;
use crate::manager::Manager;
use crate::pool::Pool;
use crate::pool::shared::{Core, Item, checkin_to};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// A connection that is bound to this thread: [`Pool::with`] uses it, here and in all that is called from here, until the
/// binding is dropped. Made by [`Pool::bind`].
///
/// It stays on its thread, and is returned to the pool when the last binding of it is dropped, also by unwinding.
#[must_use = "the connection is bound only as long as this lives"]
pub struct Bound<M: Manager> {
    place: Rc<Place<M>>,
}

/// Where a thread keeps the connection that is bound to it.
struct Place<M: Manager> {
    pool: Pool<M>,
    state: Cell<State<M>>,
    /// How many bindings there are.
    bindings: Cell<usize>,
}

enum State<M: Manager> {
    Free(Box<Item<M>>),
    /// A closure that was called there works on it.
    Used(&'static Location<'static>),
    /// It was lost to a panic.
    Lost,
}

thread_local! {
    /// By the numbers of their pools.
    static PLACES: RefCell<Vec<(u64, Rc<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

impl<M: Manager> Pool<M> {
    /// Borrows a connection and binds it to this thread: until the binding is dropped, [`with`](Self::with) on this thread
    /// uses this connection and waits for nobody. For a request or a job whose parts ask for a connection by themselves,
    /// and are to share one.
    ///
    /// A thread that is bound already gets another binding of the same connection: what is called from a part that binds
    /// may bind too. [`get`](Self::get) and its neighbours do not look at bindings; they lend another connection.
    ///
    /// A closure has the connection for itself. Another `with` that is called from within it fails at once, as
    /// [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock); pass the connection down instead.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Error, Pool};
    /// use rusqlite::Connection;
    ///
    /// type Db = Pool<millpond::FnManager<fn() -> rusqlite::Result<Connection>, Connection, rusqlite::Error>>;
    ///
    /// fn log_in(db: &Db) -> Result<usize, Box<dyn std::error::Error>> {
    ///     Ok(db.with(|conn| conn.execute("INSERT INTO visit VALUES ('ada')", []))??)
    /// }
    ///
    /// # let open: fn() -> rusqlite::Result<Connection> = || Connection::open_in_memory();
    /// let db = Pool::builder(millpond::FnManager::new(open)).max_size(1).build()?;
    /// let request = db.bind()?;
    /// db.with(|conn| conn.execute_batch("CREATE TEMP TABLE visit (name TEXT); BEGIN"))??;
    /// log_in(&db)?; // in the transaction, although nothing was passed to it
    /// db.with(|conn| conn.execute_batch("COMMIT"))??;
    /// drop(request); // the connection goes home
    /// assert_eq!(db.stats().in_use, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn bind(&self) -> Result<Bound<M>, Error> {
        if let Some(place) = place_of(&self.core) {
            place.bindings.set(place.bindings.get() + 1);
            return Ok(Bound { place });
        }
        let at = Location::caller();
        let item = self.core.checkout(None, at)?;
        let place = Rc::new(Place { pool: self.clone(), state: Cell::new(State::Free(item)), bindings: Cell::new(1) });
        let listed = PLACES.try_with(|places| {
            places.borrow_mut().push((self.core.rack.id, Rc::clone(&place) as Rc<dyn Any>));
        });
        if listed.is_err() {
            // The thread ends, and its list is gone.
            if let State::Free(item) = place.state.replace(State::Lost) {
                checkin_to(&self.core, item);
            }
            return Err(Error::unbound(&self.core.name));
        }
        // Relaxed: what counts is what this thread itself has bound.
        self.core.bound.fetch_add(1, Ordering::Relaxed);
        Ok(Bound { place })
    }

    /// Whether a connection of this pool is bound to this thread.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        place_of(&self.core).is_some()
    }

    /// `with` where something may be bound, or where something must be.
    #[cold]
    pub(super) fn with_bound<R>(
        &self,
        f: impl FnOnce(&mut M::Connection) -> R,
        at: &'static Location<'static>,
    ) -> Result<R, Error> {
        self.core.refuse_forked()?;
        if let Some(place) = place_of(&self.core) {
            let mut lent = Lent { item: Some(place.take(at)?), place, panicking: std::thread::panicking() };
            let item = lent.item.as_mut().expect("put there on the line before");
            return Ok(f(&mut item.connection));
        }
        if self.core.settings.bound_only {
            return Err(Error::unbound(&self.core.name));
        }
        self.with_borrowed(f, at)
    }
}

impl<M: Manager> Bound<M> {
    /// Calls `f` with the connection, as [`Pool::with`] does on this thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Deadlock`](crate::ErrorKind::Deadlock) from within a closure that has the connection already.
    /// [`ErrorKind::Unbound`](crate::ErrorKind::Unbound) after a panic in another closure: that connection was closed, and
    /// nothing that was begun on it could go on with another one. Drop the binding and bind anew.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        self.place.pool.with_bound(f, Location::caller())
    }
}

impl<M: Manager> Place<M> {
    fn take(&self, at: &'static Location<'static>) -> Result<Box<Item<M>>, Error> {
        match self.state.replace(State::Used(at)) {
            State::Free(item) => Ok(item),
            State::Used(by) => {
                self.state.replace(State::Used(by));
                Err(Error::used_above(&self.pool.core.name, by))
            }
            State::Lost => {
                self.state.replace(State::Lost);
                Err(Error::binding_lost(&self.pool.core.name))
            }
        }
    }
}

/// The bound connection, while a closure works on it.
struct Lent<M: Manager> {
    place: Rc<Place<M>>,
    item: Option<Box<Item<M>>>,
    /// The thread was unwinding already when the closure was called.
    panicking: bool,
}

impl<M: Manager> Drop for Lent<M> {
    fn drop(&mut self) {
        let Some(item) = self.item.take() else { return };
        // Nobody knows how far the closure got. And the last binding may have been dropped by the closure itself.
        let failed = std::thread::panicking() && !self.panicking;
        if failed || self.place.bindings.get() == 0 {
            self.place.state.replace(State::Lost);
            checkin_to(&self.place.pool.core, item);
        } else {
            self.place.state.replace(State::Free(item));
        }
    }
}

impl<M: Manager> Drop for Bound<M> {
    fn drop(&mut self) {
        let place = &self.place;
        place.bindings.set(place.bindings.get() - 1);
        if place.bindings.get() > 0 {
            return;
        }
        let core = &place.pool.core;
        // A thread that ends has dropped the list already.
        let listed = PLACES.try_with(|places| {
            let mut places = places.borrow_mut();
            let index = places.iter().position(|(pool, _)| *pool == core.rack.id)?;
            Some(places.swap_remove(index))
        });
        drop(listed);
        core.bound.fetch_sub(1, Ordering::Relaxed);
        let state = place.state.replace(State::Lost);
        match state {
            State::Free(item) => checkin_to(core, item),
            // The closure that works on it returns it.
            State::Used(by) => drop(place.state.replace(State::Used(by))),
            State::Lost => {}
        }
    }
}

impl<M: Manager> fmt::Debug for Bound<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("pool", &self.place.pool.name()).finish_non_exhaustive()
    }
}

fn place_of<M: Manager>(core: &Core<M>) -> Option<Rc<Place<M>>> {
    let found = PLACES.try_with(|places| {
        let places = places.borrow();
        places.iter().find(|(pool, _)| *pool == core.rack.id).map(|(_, place)| Rc::clone(place))
    });
    found.ok().flatten().and_then(|place| place.downcast().ok())
}
