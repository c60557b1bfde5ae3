//! The members and settings of a [`Balanced`].

use super::member::Member;
use super::turn::{LARGEST_WEIGHT, MOST_MEMBERS};
use super::{Balance, Balanced};
use crate::clock::Clock;
use crate::redact::redact;
use crate::{Error, Manager, Pool};
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// Members and settings for a [`Balanced`], made by [`Balanced::builder`]. Nothing is checked before
/// [`build`](Self::build), which then reports every problem at once.
#[must_use = "a builder does nothing until it builds"]
pub struct BalancedBuilder<M: Manager> {
    name: String,
    policy: Balance,
    timeout: Duration,
    members: Vec<(String, Pool<M>, u32)>,
    clock: Clock,
}

impl<M: Manager> BalancedBuilder<M> {
    pub(super) fn new() -> Self {
        let timeout = Duration::from_secs(5);
        Self {
            name: "balanced".to_owned(),
            policy: Balance::default(),
            timeout,
            members: Vec::new(),
            clock: Clock::System,
        }
    }

    /// What errors and log messages call all of them together. Default: `balanced`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = redact(&name.into()).into_owned();
        self
    }

    /// Who serves the next caller. Default: [`Balance::RoundRobin`].
    pub fn policy(mut self, policy: Balance) -> Self {
        self.policy = policy;
        self
    }

    /// How long [`Balanced::get`] waits at the most, for all members together; more than zero. Default 5 s, as for a pool.
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A member. The name, where it is a URL, is kept without the password. In the order in which they are added, members
    /// are asked by [`Balance::Failover`], and those of the same load by the others.
    pub fn member(self, name: impl Into<String>, pool: Pool<M>) -> Self {
        self.weighted(name, pool, 1)
    }

    /// A member with a weight, from 0 (drained: it is not asked) to 1,000. With [`Balance::Weighted`] it has so many turns of a
    /// round; the other policies know only 0 and more. Default 1.
    pub fn weighted(mut self, name: impl Into<String>, pool: Pool<M>, weight: u32) -> Self {
        self.members.push((redact(&name.into()).into_owned(), pool, weight));
        self
    }

    /// Takes the time from a clock that is moved by hand: for tests, together with members on the same clock.
    #[cfg(any(test, loom, shuttle, feature = "testing"))]
    pub fn clock(mut self, clock: crate::clock::HandClock) -> Self {
        self.clock = Clock::Hand(clock);
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong: no member, two of the same name, a
    /// weight above 1,000, a time of zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Balanced, Pool};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).build_lazy()?;
    /// let twice = Balanced::builder().member("a", pool.clone()).weighted("a", pool, 5_000);
    /// let error = twice.build().unwrap_err().to_string();
    /// assert!(error.contains(r#"two members are called "a""#), "{error}");
    /// assert!(error.contains(r#"the weight of "a" is 5000"#), "{error}");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn build(self) -> Result<Balanced<M>, Error> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        let Self { name, policy, timeout, members, clock } = self;
        let members = members.into_iter().map(|(name, pool, weight)| Member::new(name, pool, weight)).collect();
        Ok(Balanced::of(name, policy, Some(timeout), members, clock))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.members.len() {
            0 => problems.push("there is no member".to_owned()),
            n if n > MOST_MEMBERS => problems.push(format!("there are {n} members, but {MOST_MEMBERS} is the most")),
            _ => {}
        }
        if self.timeout.is_zero() {
            problems.push("connection_timeout is 0 s, but it must be longer than nothing".to_owned());
        }
        let mut names = HashSet::new();
        for (name, _, weight) in &self.members {
            if !names.insert(name) {
                problems.push(format!("two members are called {name:?}"));
            }
            problems.extend(weight_problem(name, *weight));
        }
        problems
    }
}

pub(super) fn weight_problem(member: &str, weight: u32) -> Option<String> {
    let problem = || format!("the weight of {member:?} is {weight}, but {LARGEST_WEIGHT} is the most");
    (weight > LARGEST_WEIGHT).then(problem)
}

impl<M: Manager> fmt::Debug for BalancedBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .field("connection_timeout", &self.timeout)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}
