//! Several pools as one: callers are dealt out over them, one whose server is away is left out, and comes back by itself.
//!
//! ```
//! use millpond::balance::{Balance, Balanced};
//! use millpond::Pool;
//!
//! // Two replicas; the second machine is three times as large. (Stand-ins: a connection is the name of its server.)
//! # fn open(name: &'static str) -> millpond::Builder<impl millpond::Manager<Connection = &'static str>> {
//! #     Pool::builder(move || Ok::<_, std::io::Error>(name)).name(name)
//! # }
//! let (small, large) = (open("small").build()?, open("large").build()?);
//! let replicas =
//!     Balanced::builder().name("replicas").policy(Balance::Weighted).member("small", small).weighted("large", large, 3).build()?;
//!
//! let mut served = Vec::new();
//! for _ in 0..8 {
//!     served.push(*replicas.get()?);
//! }
//! assert_eq!(served.iter().filter(|&&name| name == "large").count(), 6);
//!
//! replicas.set_weight("small", 0)?; // before the machine is taken down: those who have a connection keep it
//! assert_eq!(replicas.with(|conn| *conn)?, "large");
//! println!("{}", replicas.health());
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # Who serves
//!
//! The [policy](Balance) says whose turn it is, and with an idle connection there that is all: a count of turns, no lock, no
//! allocation. Otherwise:
//!
//! - **Full.** A member all of whose connections are in use is passed over as long as another one has an idle connection, or
//!   room to open one. When all are full the caller queues at the one whose turn it is, to its deadline.
//!   [`Balance::Failover`] passes nobody over for that: a standby is not there for what is too much for the first one.
//!   Connections that are yet to be opened are not in use: see the end of the next rule.
//! - **Away.** Where connecting fails the caller is at the next member at once, also if it was waiting; members' own
//!   [`when_down`](crate::Builder::when_down) does not hold for it. Where nothing fails and nothing answers, it stays for its
//!   share of the time: what is left, divided by the members that are yet to be asked.
//! - **Nobody left.** When all members are away (or paused, or closed) all of them are asked all the same, each for an equal
//!   share of what is left; there the caller waits as the pool's own settings say. At the end it gets the last one's error, with
//!   a text that names each member and what it said.
//!
//! # Who is left out
//!
//! A member leaves when a caller could not get a connection there because connecting or checking failed (kinds `Connect` and
//! `Validate`), or has had no answer for 1 s, or because its pool is paused or closed; one that is merely exhausted stays. A
//! caller in a hurry, whose time was over before a server that is well could answer, moves on, and that is all. Those who wait
//! at a member that leaves move on, too. It is back when its pool has seen a
//! connection work since: its pool keeps looking for its server in the background, with the pauses of its
//! [`retry`](crate::Builder::retry), as long as callers come here. No caller is sent to try. One that was resumed is back
//! at once. Leaving and coming back are one line in the log each.
//!
//! What no pool can prevent happens here as well: a connection that was used or checked within the last 500 ms is lent
//! unchecked, and if its server has just gone, the caller's own work fails. Try that again, as with one pool.
//!
//! # The set of members
//!
//! It is fixed; weights are not. To change the set make another `Balanced` over the same pools, which costs nothing: pools are
//! handles.

mod builder;
mod member;
mod search;
mod turn;

pub use builder::BalancedBuilder;
pub use member::MemberStatus;

use crate::clock::Clock;
use crate::redact::redact;
use crate::{Error, ErrorKind, HealthReport, Manager, Pool, PooledConnection};
use builder::weight_problem;
use member::Member;
pub(crate) use search::Search;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use turn::Turns;

/// Who serves the next caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// In proportion to the weights: of as many turns as they add up to, each member has exactly its weight, spread over the
    /// round. (nginx spreads them a little more evenly, under a lock.)
    Weighted,
    /// The one with the fewest callers that have or want a connection, relative to its maximum; of equals one after the other.
    /// For work of very different length. Looks at all members' slots, so each checkout costs more the more connections there
    /// are.
    LeastBusy,
    /// The first one that is not away, in the order in which they were added: a primary and its standbys.
    Failover,
}

/// Several pools as one: see the [module](self). A handle, cheap to clone.
pub struct Balanced<M: Manager> {
    inner: Arc<Inner<M>>,
}

pub(crate) struct Inner<M: Manager> {
    name: String,
    policy: Balance,
    /// Without one, the only member's own.
    timeout: Option<Duration>,
    members: Box<[Member<M>]>,
    turns: Turns,
    /// How many members have left.
    away: AtomicUsize,
    clock: Clock,
}

impl<M: Manager> Balanced<M> {
    /// Members and settings.
    pub fn builder() -> BalancedBuilder<M> {
        BalancedBuilder::new()
    }

    fn of(name: String, policy: Balance, timeout: Option<Duration>, members: Box<[Member<M>]>, clock: Clock) -> Self {
        let (turns, away) = (Turns::default(), AtomicUsize::new(0));
        Self { inner: Arc::new(Inner { name, policy, timeout, members, turns, away, clock }) }
    }

    /// Borrows a connection of the member whose turn it is, or of another one: see the [module](self). Waits no longer than
    /// [`connection_timeout`](BalancedBuilder::connection_timeout) in all.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`], when no member has one: the kind, the numbers and the source are those of the member that was asked
    /// last.
    #[inline]
    #[track_caller]
    pub fn get(&self) -> Result<PooledConnection<M>, Error> {
        let first = self.inner.choose();
        match self.inner.at_hand(first) {
            Some(connection) => Ok(connection),
            None => self.get_slowly(first, self.connection_timeout()),
        }
    }

    /// The same, waiting no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[inline]
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        let first = self.inner.choose();
        match self.inner.at_hand(first) {
            Some(connection) => Ok(connection),
            None => self.get_slowly(first, timeout),
        }
    }

    #[cold]
    #[track_caller]
    fn get_slowly(&self, first: Option<usize>, timeout: Duration) -> Result<PooledConnection<M>, Error> {
        let mut search = Search::new(&self.inner, timeout);
        if let Some(connection) = search.ask(first, 0) {
            return Ok(connection);
        }
        let again = if search.nobody_is_busy() { search.ask_again() } else { None };
        again.ok_or_else(|| search.into_error())
    }

    /// For somebody who has another place to go to when nobody takes part any more.
    #[track_caller]
    pub(crate) fn get_or_leave(&self, timeout: Duration) -> Result<PooledConnection<M>, Search<'_, M>> {
        let first = self.inner.choose();
        if let Some(connection) = self.inner.at_hand(first) {
            return Ok(connection);
        }
        let mut search = Search::new(&self.inner, timeout);
        search.ask(first, 1).ok_or(search)
    }

    /// Borrows an idle connection, of the member whose turn it is or of another one that takes part; never blocks and never
    /// opens one.
    #[track_caller]
    pub fn try_get(&self) -> Option<PooledConnection<M>> {
        let first = self.inner.choose()?;
        for (_, member) in self.inner.from(first).filter(|(_, member)| member.share() > 0) {
            if let Some(connection) = member.pool.try_get() {
                return Some(connection);
            }
        }
        None
    }

    /// Calls `f` with a borrowed connection. What is [bound](Pool::bind) to the thread is not looked for: there are several
    /// pools.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); what `f` returns is passed through.
    ///
    /// # Panics
    ///
    /// When `f` does; the connection is closed then.
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut M::Connection) -> R) -> Result<R, Error> {
        let mut connection = self.get()?;
        Ok(f(&mut connection))
    }

    /// The pool of the member whose turn it is: for what only a pool does, like [`Pool::bind`] and [`Pool::get_many`]. `None`
    /// if all have left or are drained.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Balanced, Pool};
    ///
    /// let open = || Ok::<_, std::io::Error>(());
    /// let both = Balanced::builder().member("a", Pool::new(open)?).member("b", Pool::new(open)?).build()?;
    /// let pool = both.choose().expect("both are there");
    /// let request = pool.bind()?; // all that this request does is done on one connection of one server
    /// pool.with(|_| ())?;
    /// # drop(request);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn choose(&self) -> Option<&Pool<M>> {
        let member = self.inner.members.get(self.inner.choose()?)?;
        Some(&member.pool)
    }

    /// The pool of a member, if there is one of this name.
    #[must_use]
    pub fn pool(&self, member: &str) -> Option<&Pool<M>> {
        let name = redact(member);
        self.inner.members.iter().find(|member| member.name == name).map(|member| &member.pool)
    }

    /// Changes the weight of a member: 0 drains it, so that nobody new comes to it, while those who have a connection keep it.
    /// [`Pool::wait_idle`] waits for them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if there is no such member, with those there are, or if the weight is more than 1,000.
    pub fn set_weight(&self, member: &str, weight: u32) -> Result<(), Error> {
        let name = redact(member);
        let Some(found) = self.inner.members.iter().find(|member| member.name == name) else {
            let known: Vec<_> = self.inner.members.iter().map(|member| format!("{:?}", member.name)).collect();
            let text = format!("{:?} has no member {name:?}, but {}", self.inner.name, known.join(", "));
            return Err(Error::plain(ErrorKind::Config, text));
        };
        if let Some(problem) = weight_problem(&name, weight) {
            return Err(Error::config(&[problem]));
        }
        found.set_weight(weight);
        Ok(())
    }

    /// What errors and log messages call all of them together.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How long [`get`](Self::get) waits at the most.
    pub(crate) fn connection_timeout(&self) -> Duration {
        let own = || self.pools().next().map_or(Duration::ZERO, Pool::connection_timeout);
        self.inner.timeout.unwrap_or_else(own)
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool<M>> {
        self.inner.members.iter().map(|member| &member.pool)
    }

    /// The members in the order in which they were added: weight, whether it is left out, and how its pool does.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        self.inner.members.iter().map(Member::status).collect()
    }

    /// How the members' pools do, the worst first.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        HealthReport::of(self.pools())
    }
}

impl<M: Manager> Inner<M> {
    /// Whose turn it is.
    #[inline]
    fn choose(&self) -> Option<usize> {
        // Relaxed, as in `member`.
        if self.away.load(Ordering::Relaxed) > 0 {
            self.look_after_those_who_left();
        }
        let shares = self.members.iter().map(Member::share);
        match self.policy {
            Balance::Failover => shares.into_iter().position(|share| share > 0),
            Balance::RoundRobin => turn::in_order(self.turns.next(), shares),
            Balance::Weighted => self.turns.spread(self.turns.next(), shares),
            Balance::LeastBusy => self.least_busy(),
        }
    }

    /// An idle connection of that member, if it needs no check.
    #[inline]
    #[track_caller]
    fn at_hand(&self, member: Option<usize>) -> Option<PooledConnection<M>> {
        self.members.get(member?)?.pool.take_idle()
    }

    #[cold]
    fn look_after_those_who_left(&self) {
        self.members.iter().for_each(|member| member.look(self.group()));
    }

    fn least_busy(&self) -> Option<usize> {
        // The first of equals is another one each time.
        let after = turn::in_order(self.turns.next(), self.members.iter().map(|_| 1))?;
        let mut best: Option<(usize, u64, u64)> = None;
        for (index, member) in self.from(after) {
            if member.share() == 0 {
                continue;
            }
            let (busy, max) = member.pool.load();
            let (busy, max) = (u64::from(busy), u64::from(max));
            if best.is_none_or(|(_, least, of)| busy * of < least * max) {
                best = Some((index, busy, max));
            }
        }
        best.map(|(index, ..)| index)
    }

    /// All members, beginning with this one.
    fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Member<M>)> {
        let all = || self.members.iter().enumerate();
        all().skip(first).chain(all().take(first))
    }

    /// Those that have a weight, whether or not they take part, the last one first.
    fn in_weight(&self) -> impl Iterator<Item = usize> {
        let weighted = self.members.iter().enumerate().filter(|(_, member)| member.weight() > 0);
        weighted.map(|(index, _)| index).rev()
    }

    /// Those that take part, in the order in which a caller is to ask them.
    fn order(&self, first: Option<usize>) -> Vec<usize> {
        let Some(first) = first else { return Vec::new() };
        let takes_part = self.from(first).filter(|(_, member)| member.share() > 0);
        let mut order: Vec<_> = takes_part.map(|(index, member)| (index, member.is_full())).collect();
        if self.policy != Balance::Failover {
            order.sort_by_key(|&(_, full)| full);
        }
        order.into_iter().map(|(index, _)| index).collect()
    }

    /// What a member needs to know to leave and to come back.
    fn group(&self) -> (&str, &AtomicUsize) {
        (&self.name, &self.away)
    }
}

/// A single member, called as its pool, whose [`connection_timeout`](crate::Builder::connection_timeout) holds, also when it
/// [changes](Pool::set_connection_timeout).
impl<M: Manager> From<Pool<M>> for Balanced<M> {
    fn from(pool: Pool<M>) -> Self {
        let name = pool.name().to_owned();
        let members = Box::new([Member::new(name.clone(), pool, 1)]);
        Self::of(name, Balance::Failover, None, members, Clock::System)
    }
}

impl<M: Manager> Clone for Balanced<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: Manager> fmt::Debug for Balanced<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.inner.members.iter().map(|member| (&member.name, member.weight())).collect();
        f.debug_struct("Balanced")
            .field("name", &self.inner.name)
            .field("policy", &self.inner.policy)
            .field("members", &members)
            .finish_non_exhaustive()
    }
}
