//! Where code takes its connection from when nobody has passed it one: what is bound to the thread, what a provider says,
//! or a pool to fall back on.

use crate::{Bound, Error, ErrorKind, Manager, Pool};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

type Provider<M> = Box<dyn Fn() -> Option<Pool<M>> + Send + Sync>;

/// Finds the connection for code that is called within a request or a job, without passing it down: the one that is bound
/// to the thread in this scope ([`bind`](Self::bind), [`bind_to`](Self::bind_to)); else one of the pool that the provider names (by tenant, by shard); else one of the pool to fall back on;
/// else an error. Without [`fallback`](Self::fallback), falling back is forbidden.
///
/// One scope serves all threads: keep it in a `static`, or share it by reference.
///
/// # Examples
///
/// Each tenant has a database; what belongs to nobody is in the main one.
///
/// ```
/// use millpond::{Pool, Scope};
/// use std::cell::RefCell;
/// use std::collections::HashMap;
///
/// thread_local! { static TENANT: RefCell<Option<&'static str>> = const { RefCell::new(None) } }
///
/// // Stand-ins for databases: a connection is the name of what it is connected to.
/// # fn open(name: &'static str) -> Result<Pool<impl millpond::Manager<Connection = &'static str>>, millpond::Error> {
/// #     Pool::new(move || Ok::<_, std::io::Error>(name))
/// # }
/// let main = open("main")?;
/// let tenants = HashMap::from([("acme", open("acme")?)]);
/// let scope = Scope::new()
///     .provider(move || TENANT.with_borrow(|tenant| tenant.and_then(|name| tenants.get(name).cloned())))
///     .fallback(main);
///
/// assert_eq!(scope.with(|conn| *conn)?, "main");
/// TENANT.set(Some("acme"));
/// let request = scope.bind()?; // one connection for all that follows on this thread
/// TENANT.set(None);
/// assert_eq!(scope.with(|conn| *conn)?, "acme", "what is bound comes before what the provider says now");
/// drop(request);
/// assert_eq!(scope.with(|conn| *conn)?, "main");
/// # Ok::<(), millpond::Error>(())
/// ```
pub struct Scope<M: Manager> {
    id: u64,
    provider: Option<Provider<M>>,
    fallback: Option<Pool<M>>,
}

/// A connection that is bound to this thread for a [`Scope`]. It is returned when this is dropped.
#[must_use = "the connection is bound only as long as this lives"]
pub struct ScopeBound<M: Manager> {
    number: u64,
    bound: Bound<M>,
}

/// That something of a pool is bound to this thread for a scope.
struct Choice {
    scope: u64,
    /// Of the binding.
    number: u64,
    pool: Box<dyn Any>,
}

thread_local! {
    /// The latest last.
    static CHOSEN: RefCell<Vec<Choice>> = const { RefCell::new(Vec::new()) };
}

/// For scopes and bindings.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<M: Manager> Scope<M> {
    /// A scope in which only what is [bound](Self::bind_to) is to be had.
    #[must_use]
    pub fn new() -> Self {
        Self { id: next_number(), provider: None, fallback: None }
    }

    /// Asks `provider` for a pool where nothing is bound. It is called on the thread that needs the connection, each time,
    /// so it should be quick; `None` means that it knows of none here.
    #[must_use]
    pub fn provider(mut self, provider: impl Fn() -> Option<Pool<M>> + Send + Sync + 'static) -> Self {
        self.provider = Some(Box::new(provider));
        self
    }

    /// Takes connections from `pool` where nothing is bound and the provider knows of none. Without it that is an error.
    #[must_use]
    pub fn fallback(mut self, pool: Pool<M>) -> Self {
        self.fallback = Some(pool);
        self
    }

    /// The pool that [`with`](Self::with) would use here and now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unbound`] where nothing is bound, the provider knows of no pool, and there is none to fall back on.
    pub fn pool(&self) -> Result<Pool<M>, Error> {
        let bound = CHOSEN.try_with(|chosen| {
            let chosen = chosen.borrow();
            let latest = chosen.iter().rfind(|choice| choice.scope == self.id)?;
            latest.pool.downcast_ref::<Pool<M>>().cloned()
        });
        let provided = || self.provider.as_ref().and_then(|provider| provider());
        bound.ok().flatten().or_else(provided).or_else(|| self.fallback.clone()).ok_or_else(|| {
            let why = match &self.provider {
                Some(_) => "the provider knows of no pool",
                None => "there is no provider",
            };
            let text = format!("no connection is bound to this thread, {why}, and there is no pool to fall back on");
            Error::plain(ErrorKind::Unbound, text)
        })
    }

    /// Binds a connection of [`pool`](Self::pool) to this thread. Where one is bound already, that is bound once more.
    ///
    /// # Errors
    ///
    /// As [`pool`](Self::pool) and [`Pool::get`].
    #[track_caller]
    pub fn bind(&self) -> Result<ScopeBound<M>, Error> {
        self.bind_to(&self.pool()?)
    }

    /// Binds a connection of a pool of the caller's choice to this thread, before whatever is bound in this scope.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`].
    #[track_caller]
    pub fn bind_to(&self, pool: &Pool<M>) -> Result<ScopeBound<M>, Error> {
        let bound = pool.bind()?;
        let number = next_number();
        let choice = Choice { scope: self.id, number, pool: Box::new(pool.clone()) };
        // Where the thread ends and its list is gone, there is no binding either.
        let _listed = CHOSEN.try_with(|chosen| chosen.borrow_mut().push(choice));
        Ok(ScopeBound { number, bound })
    }

    /// Calls `f` with the connection that is bound to this thread, or else with one that is borrowed for it.
    ///
    /// # Errors
    ///
    /// As [`pool`](Self::pool) and [`Pool::with`].
    ///
    /// # Panics
    ///
    /// When `f` or the provider does.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        self.pool()?.with(f)
    }
}

impl<M: Manager> ScopeBound<M> {
    /// Calls `f` with the connection.
    ///
    /// # Errors
    ///
    /// As [`Bound::with`].
    ///
    /// # Panics
    ///
    /// When `f` does.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        self.bound.with(f)
    }
}

impl<M: Manager> Drop for ScopeBound<M> {
    fn drop(&mut self) {
        let choice = CHOSEN.try_with(|chosen| {
            let mut chosen = chosen.borrow_mut();
            // Bindings may be dropped in any order.
            let index = chosen.iter().rposition(|choice| choice.number == self.number)?;
            Some(chosen.remove(index))
        });
        // Outside of the borrow: it may be the last handle of the pool.
        drop(choice);
    }
}

impl<M: Manager> Default for Scope<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Manager> fmt::Debug for Scope<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("provider", &self.provider.is_some())
            .field("fallback", &self.fallback)
            .finish_non_exhaustive()
    }
}

impl<M: Manager> fmt::Debug for ScopeBound<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeBound").field("bound", &self.bound).finish_non_exhaustive()
    }
}
