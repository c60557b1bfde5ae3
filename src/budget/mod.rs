//! One ceiling over many pools.

mod ledger;

use crate::config::{LARGEST, Maintenance};
use crate::error::Error;
use crate::sync::{AtomicU32, Mutex, Ordering};
use ledger::Ledger;
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Weak};

/// A ceiling over the connections of many pools: together they never have more open, or being opened, than this. For
/// hundreds of tenants on one server, and for several pools to one database.
///
/// Each pool that was [built with it](crate::Builder::budget) also keeps its own `max_size`. What happens at the ceiling:
///
/// - A caller for whom no connection is idle waits, as at `max_size`, within the same deadline.
/// - An idle connection of another pool is closed for it, of the pool that has one idle for longest, also where that pool keeps
///   a minimum: who waits comes before what is kept ready. Minimums and warm-ups take what is free and nothing from anybody, so a
///   pool that cannot be [built](crate::Builder::build) with its minimum waits for it within its time-out; it gets the first
///   connection as a caller does.
/// - Where nothing is idle, a pool that has two more than one that waits gives up what comes back to it, also if it has callers
///   of its own. A pool that has none gets the next connection that comes back anywhere: such pools take turns with the others,
///   so with more busy pools than connections every use opens one.
///
/// The ceiling holds as `max_size` does: a connection whose closing takes longer than 100 ms gives its place away, and one that
/// was taken [out of its pool](crate::PooledConnection::into_inner) no longer counts. A thread that holds a connection of
/// one pool while it waits for one of another can wait in vain, as within one pool; leave room for what a thread needs at once.
///
/// Closing a connection for another pool is the work of helper threads. Pools without threads
/// ([`Maintenance::Manual`](crate::Maintenance)) do it on the thread that asks, so all pools of a budget are of one kind. Event
/// handlers hear of it on the thread that asks, which may be another pool's.
///
/// A budget belongs to a process. A forked child makes a new one.
///
/// # Examples
///
/// ```
/// use millpond::{Budget, CloseReason, Pool};
///
/// let budget = Budget::new(2);
/// let open = || Ok::<_, std::io::Error>(());
/// let orders = Pool::builder(open).name("orders").budget(&budget).build_lazy()?;
/// let users = Pool::builder(open).name("users").budget(&budget).build_lazy()?;
///
/// drop(orders.get_many(2)?);
/// assert_eq!((orders.stats().idle, budget.stats().taken), (2, 2));
///
/// let user = users.get()?; // one of the two gives way
/// assert_eq!(orders.stats().closed.by(CloseReason::Budget), 1);
/// assert_eq!(budget.stats().peak, 2);
/// # drop(user);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

/// What all pools of a budget share.
struct Shared {
    ledger: Mutex<Ledger>,
    /// Not zero while pools that have more than they need should say so. Written under the lock of the ledger.
    contended: AtomicU32,
    /// Only one caller at a time gathers several connections, whichever pool they are of.
    gathering: Mutex<()>,
    /// What kind its pools are of: 0 not known yet, 1 with threads, 2 without.
    kind: AtomicU32,
}

/// The numbers of a [`Budget`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BudgetStats {
    /// The most connections that all pools may have together.
    pub limit: u32,
    /// Connections that are open or being opened, those included that are being closed.
    pub taken: u32,
    /// The most there ever were at once.
    pub peak: u32,
    /// Pools that share the budget and are not closed.
    pub pools: u32,
    /// Pools that have callers waiting for a connection which the budget does not have.
    pub pools_waiting: u32,
    /// Connections that were closed to make room for another pool.
    pub given_up: u64,
}

/// A pool, as its budget sees it. None of these is called under a lock.
pub(crate) trait Member: Send + Sync {
    /// There may be a place for it: has somebody look who waits. Says whether anybody does.
    fn place_is_free(&self) -> bool;
    /// Somebody lacks a place: gives up what is idle and asked for, and sees to it that what comes back is.
    fn shed(&self);
    /// Whether `shed` would do anything: for how many ticks its longest idle connection has been so, or zero where it has none and
    /// does not know of the line.
    fn has_to_be_told(&self) -> Option<u32>;
}

/// The account of a pool with its budget.
pub(crate) struct Account {
    shared: Arc<Shared>,
    pool: u64,
}

/// A place, from a budget. Dropping it gives it back and sees to those who wait for one.
pub(crate) struct Place {
    shared: Arc<Shared>,
    /// The pool's number, doubled, and one more when the connection is closed to make room for another pool. In one word,
    /// because each connection has it: with a third one, a small connection would take another cache line.
    pool_and_end: u64,
}

impl Budget {
    /// A ceiling of `limit` connections, 1 to 1,048,576. Another number is reported when a pool is built with it.
    ///
    /// How many to allow is a question to the server, see [`scaling`](crate::scaling): what it admits, less what is reserved, over
    /// the number of processes.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let ledger = Mutex::new(Ledger::new(limit));
        Self(Arc::new(Shared {
            ledger,
            contended: AtomicU32::new(0),
            gathering: Mutex::new(()),
            kind: AtomicU32::new(0),
        }))
    }

    /// Changes the ceiling. With a higher one those who wait are served at once; with a lower one idle connections are closed now,
    /// and others when they come back, those of the largest pools first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `limit` is 0 or more than 1,048,576.
    ///
    /// # Examples
    ///
    /// ```
    /// let budget = millpond::Budget::new(4);
    /// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).budget(&budget).build_lazy()?;
    /// let held = pool.get_many(4)?;
    /// budget.resize(1)?;
    /// drop(held);
    /// assert_eq!(pool.stats().idle, 1);
    /// assert!(budget.resize(0).is_err());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn resize(&self, limit: u32) -> Result<(), Error> {
        if let Some(problem) = problem(limit) {
            return Err(Error::config(&[problem]));
        }
        self.0.write(|ledger| ledger.resize(limit));
        self.0.settle();
        Ok(())
    }

    /// The numbers.
    #[must_use]
    pub fn stats(&self) -> BudgetStats {
        let ledger::Totals { limit, taken, peak, pools, in_line, given_up } = self.0.ledger.lock().totals();
        BudgetStats { limit, taken, peak, pools, pools_waiting: in_line, given_up }
    }

    /// What is wrong with it for a pool of this kind.
    pub(crate) fn problem(&self, maintenance: Maintenance) -> Option<String> {
        let kind = if maintenance == Maintenance::Manual { 2 } else { 1 };
        // Relaxed: nothing else is concluded from it.
        let other =
            self.0.kind.compare_exchange(0, kind, Ordering::Relaxed, Ordering::Relaxed).is_err_and(|is| is != kind);
        let mixed = || "budget is shared by pools with threads and without (maintenance): it takes one kind".to_owned();
        problem(self.stats().limit).or_else(|| other.then(mixed))
    }

    pub(crate) fn open_account(&self) -> Account {
        Account { shared: Arc::clone(&self.0), pool: self.0.ledger.lock().open() }
    }
}

fn problem(limit: u32) -> Option<String> {
    match limit {
        0 => Some("budget is 0, but its pools need room for one connection".to_owned()),
        _ if limit > LARGEST => Some(format!("budget is {limit}, but {LARGEST} is the most")),
        _ => None,
    }
}

impl Shared {
    fn write<R>(&self, write: impl FnOnce(&mut Ledger) -> R) -> R {
        let mut ledger = self.ledger.lock();
        let result = write(&mut ledger);
        // Relaxed: who reads it too early is told by `shed`, which comes after this.
        self.contended.store(u32::from(ledger.is_contended()), Ordering::Relaxed);
        result
    }

    /// Sees to those in line, after anything has changed: whose turn it is looks for the free place; who has more than it needs
    /// learns that somebody lacks it. To be called without any lock: it acts on other pools.
    fn settle(&self) {
        // Relaxed: whoever has changed anything has written this before.
        if self.contended.load(Ordering::Relaxed) == 0 {
            return;
        }
        // What is done for those in line ends in this, too, where it is done on the spot; so the outermost goes round again.
        let budget = std::ptr::from_ref(self).addr();
        if !Turn::begins(budget) {
            return;
        }
        let turn = Turn(budget);
        loop {
            self.see_to_the_line();
            if !turn.again() {
                break;
            }
        }
    }

    fn see_to_the_line(&self) {
        loop {
            let turn = self.ledger.lock().whose_turn();
            // Who is not interested any more leaves the line, and it is another one's turn.
            let all_look = turn.iter().map(|member| member.place_is_free()).fold(true, |all, looks| all & looks);
            if all_look {
                break;
            }
        }
        let untold = self.ledger.lock().untold();
        let mut told: Vec<_> = untold.iter().filter_map(|member| Some((member.has_to_be_told()?, member))).collect();
        // What has been idle for longest goes first.
        told.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        told.iter().for_each(|(_, member)| member.shed());
    }
}

/// The budgets to whose lines a thread sees, and whether it is to do so again.
type Turns = RefCell<Vec<(usize, bool)>>;

#[cfg(not(any(loom, shuttle)))]
thread_local! { static TURNS: Turns = const { RefCell::new(Vec::new()) }; }

// The threads of a model share one real thread.
#[cfg(loom)]
loom::thread_local! { static TURNS: Turns = RefCell::new(Vec::new()); }
#[cfg(shuttle)]
shuttle::thread_local! { static TURNS: Turns = RefCell::new(Vec::new()); }

/// This thread sees to the line of a budget.
struct Turn(usize);

impl Turn {
    /// Whether it does not do so already. If it does, it will go round again.
    fn begins(budget: usize) -> bool {
        let begins = TURNS.try_with(|turns| {
            let mut turns = turns.borrow_mut();
            let above = turns.iter_mut().find(|(other, _)| *other == budget);
            let begins = above.is_none();
            above.into_iter().for_each(|(_, again)| *again = true);
            if begins {
                turns.push((budget, false));
            }
            begins
        });
        // At the end of a thread, when its list is gone.
        begins.unwrap_or(true)
    }

    fn again(&self) -> bool {
        let again = TURNS.try_with(|turns| {
            let mut turns = turns.borrow_mut();
            turns.iter_mut().find(|(budget, _)| *budget == self.0).is_some_and(|(_, again)| std::mem::take(again))
        });
        again.unwrap_or(false)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _gone = TURNS.try_with(|turns| turns.borrow_mut().retain(|(budget, _)| *budget != self.0));
    }
}

impl Account {
    pub(crate) fn enlist(&self, member: Weak<dyn Member>) {
        self.shared.write(|ledger| ledger.enlist(self.pool, member));
    }

    /// A place, if one is free and nobody is before this pool. For callers that wait the pool gets in line otherwise.
    pub(crate) fn take(&self, for_waiters: bool) -> Option<Place> {
        let granted = self.shared.write(|ledger| ledger.take(self.pool, for_waiters));
        granted.then(|| Place { shared: Arc::clone(&self.shared), pool_and_end: self.pool << 1 })
    }

    /// Nobody waits, or nothing can be opened for them now.
    pub(crate) fn leave_line(&self) {
        self.shared.write(|ledger| ledger.leave_line(self.pool));
    }

    /// Something lies idle that others may need.
    pub(crate) fn has_more(&self) {
        self.shared.write(Ledger::tell_again);
    }

    /// To be called after each of the other functions, when the caller has left its own lock.
    pub(crate) fn settle(&self) {
        self.shared.settle();
    }

    pub(crate) fn is_contended(&self) -> bool {
        // Relaxed: read under the lock of a pool's book. If it says no and there is a line a moment later, `shed` takes that lock.
        self.shared.contended.load(Ordering::Relaxed) != 0
    }

    /// Whether a connection that is at hand is to be given up. `free`: the pool has no use for it. `used`: somebody has used it.
    pub(crate) fn gives_up(&self, free: bool, used: bool) -> bool {
        self.shared.write(|ledger| ledger.gives_up(self.pool, free, used))
    }

    /// Whether anybody lacks a place that nobody is about to give up.
    pub(crate) fn is_short(&self) -> bool {
        self.is_contended() && self.shared.ledger.lock().is_short()
    }

    /// The lock of those who gather several connections.
    pub(crate) fn gathering(&self) -> &Mutex<()> {
        &self.shared.gathering
    }

    pub(crate) fn limit(&self) -> u32 {
        self.shared.ledger.lock().totals().limit
    }

    /// The limit, if it is reached.
    pub(crate) fn used_up(&self) -> Option<u32> {
        let totals = self.shared.ledger.lock().totals();
        (totals.taken >= totals.limit).then_some(totals.limit)
    }

    /// The pool is closed.
    pub(crate) fn close(&self) {
        self.shared.write(|ledger| ledger.close(self.pool));
    }
}

impl Clone for Account {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), pool: self.pool }
    }
}

impl Place {
    /// Its connection is closed to make room for another pool.
    pub(crate) fn give_up(&mut self) {
        self.pool_and_end |= 1;
    }

    fn pool(&self) -> u64 {
        self.pool_and_end >> 1
    }

    fn is_given_up(&self) -> bool {
        self.pool_and_end & 1 == 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.write(|ledger| ledger.release(self.pool(), self.is_given_up()));
        self.shared.settle();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("pool", &self.pool())
            .field("given_up", &self.is_given_up())
            .finish_non_exhaustive()
    }
}
