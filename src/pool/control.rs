//! What changes a pool while it runs: its size, its times, its connections, and its end.

use super::Pool;
use crate::adaptive::{Adaptive, AdaptiveState};
use crate::config::Validation;
use crate::error::Error;
use crate::helpers;
use crate::maintenance::{keeper, sweep};
use crate::manager::Manager;
use crate::warm_up::WarmUp;
use std::time::Duration;

impl<M: Manager> Pool<M> {
    /// Changes the maximum. Growing wakes those who wait; shrinking closes surplus idle connections now and borrowed
    /// ones when they come back. `min_idle` is lowered where it would exceed the maximum.
    ///
    /// In an [adaptive](crate::adaptive) pool the rule goes on from there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `max_size` is 0 or more than 1,048,576, or outside of the range in which
    /// the pool adapts.
    pub fn resize(&self, max_size: u32) -> Result<(), Error> {
        self.core.resize_by_hand(max_size)
    }

    /// Changes the range in which the pool adapts its size, or how; with `None` it keeps the size that it has:
    /// [`Builder::adaptive`](crate::Builder::adaptive). What the rule has learnt is forgotten. A size outside of the range is moved
    /// to its nearer end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that cannot be.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, adaptive::Adaptive};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).adaptive(Adaptive::between(2, 40)).build()?;
    /// pool.resize(4)?; // the rule may change it again
    /// pool.set_adaptive(Some(Adaptive::between(8, 16)))?;
    /// assert_eq!(pool.stats().max_size, 8);
    /// pool.set_adaptive(None)?;
    /// pool.resize(25)?; // and so it stays
    /// assert!(pool.adaptive_state().is_none());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn set_adaptive(&self, adaptive: Option<Adaptive>) -> Result<(), Error> {
        self.core.set_adaptive(adaptive)
    }

    /// What the rule of an [adaptive](crate::adaptive) pool has decided last, and on what grounds; `None` where the size is
    /// fixed. Changes of the size are told to the [`EventHandler`](crate::EventHandler) as well.
    #[must_use]
    pub fn adaptive_state(&self) -> Option<AdaptiveState> {
        self.core.adaptive_state()
    }

    /// Changes how many idle connections are kept ready: [`Builder::min_idle`](crate::Builder::min_idle). A larger number is
    /// opened in the background; with a smaller one, surplus connections go when their idle time is over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is more than the maximum.
    pub fn set_min_idle(&self, min_idle: u32) -> Result<(), Error> {
        self.core.set_min_idle(min_idle)
    }

    /// Changes how long [`get`](Self::get) waits, for callers that come later:
    /// [`Builder::connection_timeout`](crate::Builder::connection_timeout).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::new(|| Ok::<_, std::io::Error>(()))?;
    /// pool.set_connection_timeout(Duration::from_millis(250))?;
    /// pool.set_max_lifetime(Some(Duration::from_secs(300)))?; // also for those that are open
    /// pool.set_idle_timeout(None)?;
    /// let error = pool.set_keepalive(Some(Duration::ZERO)).unwrap_err();
    /// assert!(error.to_string().contains("keepalive is 0 s"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn set_connection_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.core.set_connection_timeout(timeout)
    }

    /// Changes how old connections may get: [`Builder::max_lifetime`](crate::Builder::max_lifetime). It also holds for those
    /// that are open; where that makes many of them too old at once, they are replaced one after the other as far as the
    /// new lifetime allows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is zero.
    pub fn set_max_lifetime(&self, lifetime: Option<Duration>) -> Result<(), Error> {
        self.core.set_max_lifetime(lifetime)
    }

    /// Changes how long connections may lie idle: [`Builder::idle_timeout`](crate::Builder::idle_timeout). It also holds for
    /// those that are idle now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is zero.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        self.core.set_idle_timeout(timeout)
    }

    /// Changes after how long an idle connection is checked in the background:
    /// [`Builder::keepalive`](crate::Builder::keepalive).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is zero.
    pub fn set_keepalive(&self, every: Option<Duration>) -> Result<(), Error> {
        self.core.set_keepalive(every)
    }

    /// Changes when a connection is checked before it is lent: [`Builder::validation`](crate::Builder::validation).
    pub fn set_validation(&self, validation: Validation) {
        self.core.set_validation(validation);
    }

    /// Changes after how long a borrowed connection is overdue:
    /// [`Builder::leak_threshold`](crate::Builder::leak_threshold).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is zero.
    pub fn set_leak_threshold(&self, after: Option<Duration>) -> Result<(), Error> {
        self.core.set_leak_threshold(after)
    }

    /// Parts with every connection that is open or being opened now: idle ones are closed at once, borrowed ones when
    /// they come back, and none of them is lent after this returns. For a changed password or a moved server.
    ///
    /// # Examples
    ///
    /// Credentials that rotate: the manager reads them for each connection, and after a change the pool is refreshed. A
    /// connection that was being opened with the old ones meanwhile is closed when it arrives.
    ///
    /// ```
    /// use std::io::Error;
    /// use std::sync::{Arc, Mutex};
    ///
    /// let password = Arc::new(Mutex::new("old"));
    /// let current = Arc::clone(&password);
    /// let pool = millpond::Pool::new(move || Ok::<_, Error>(*current.lock().unwrap()))?;
    /// assert_eq!(*pool.get()?, "old");
    ///
    /// *password.lock().unwrap() = "new";
    /// pool.refresh();
    /// assert_eq!(*pool.get()?, "new");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn refresh(&self) {
        self.core.refresh(Duration::ZERO);
    }

    /// The same, one connection after the other until `interval` has passed, so that the server does not have to open all
    /// of them anew at the same time; where the maximum leaves room, each is replaced before it is closed. Meanwhile the old
    /// ones are still lent. Zero is the same as [`refresh`](Self::refresh).
    pub fn refresh_over(&self, interval: Duration) {
        self.core.refresh(interval);
    }

    /// Lends nothing until [`resume`](Self::resume); callers wait, within their deadline, and get an error of the kind
    /// [`ErrorKind::Paused`](crate::ErrorKind::Paused) at its end. Nothing is opened meanwhile. Borrowed connections stay
    /// borrowed: [`wait_idle`](Self::wait_idle) waits for them.
    ///
    /// # Examples
    ///
    /// A window for maintenance, in which no connection is open:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::builder(|| Ok::<_, std::io::Error>(())).min_idle(2).build()?;
    /// pool.pause();
    /// pool.refresh(); // closes the idle ones, and the borrowed ones when they come back
    /// pool.wait_idle(Duration::from_secs(10))?;
    /// // ... ALTER TABLE ...
    /// pool.resume();
    /// assert!(pool.get().is_ok());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn pause(&self) {
        self.core.pause(false);
    }

    /// Lends nothing until [`resume`](Self::resume); callers that wait and callers that come get an error of the kind
    /// [`ErrorKind::Paused`](crate::ErrorKind::Paused) at once.
    pub fn pause_and_reject(&self) {
        self.core.pause(true);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.core.resume();
    }

    /// Waits until nobody holds a connection. Of use while the pool is paused; else it tells of a moment that may be over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Exhausted`](crate::ErrorKind::Exhausted) after `timeout`, with those who still hold connections.
    pub fn wait_idle(&self, timeout: Duration) -> Result<(), Error> {
        self.core.wait_idle(timeout)
    }

    /// Opens connections ahead of time, as [`Builder::warm_up`](crate::Builder::warm_up) does, at any time: before a wave of
    /// work that is expected.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with what is wrong with the plan; when it is
    /// [required](WarmUp::required), as [`wait_ready`](Self::wait_ready).
    pub fn warm_up(&self, plan: WarmUp) -> Result<(), Error> {
        self.core.warm_up(plan)
    }

    /// Waits until a warm-up is complete that goes on in the background, else until `min_idle` connections (at least one) are
    /// open.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) when `timeout` has passed or the server says that trying again will
    /// not help, with the manager's own error as `source()`; [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the pool
    /// is closed.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), Error> {
        self.core.wait_ready(timeout)
    }

    /// Closes the pool for good, for all its handles: callers that wait fail now, idle connections are closed now,
    /// borrowed ones when they come back. Does not wait.
    pub fn close(&self) {
        self.core.close();
    }

    /// Closes the pool and waits until every connection is closed and, if it was the last pool of the process, every
    /// thread of the crate has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after `timeout`, with those who still hold connections.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = millpond::Pool::new(|| Ok::<_, std::io::Error>(()))?;
    /// let conn = pool.get()?;
    /// let error = pool.close_and_wait(Duration::from_millis(20)).unwrap_err();
    /// assert_eq!(error.holders().len(), 1);
    /// drop(conn);
    /// pool.close_and_wait(Duration::from_secs(10))?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn close_and_wait(&self, timeout: Duration) -> Result<(), Error> {
        let core = &self.core;
        core.refuse_forked()?;
        let began = core.clock.now();
        let deadline = began.after(timeout);
        core.close();
        let all_closed = core.rack.watch(|numbers| numbers.taken + numbers.overdue == 0, || core.slice_until(deadline));
        let more_time = || !deadline.since(core.clock.now()).is_zero();
        if all_closed && helpers::join(more_time) && keeper::join_thread(more_time) {
            return Ok(());
        }
        Err(core.still_held(began))
    }

    /// Does the upkeep that is due now: retires what is old or idle, checks, refills, tries again after a failure. The
    /// keeper's thread does it by itself. A pool without threads ([`Maintenance::Manual`](crate::Maintenance)) needs this
    /// call now and then, about once a minute; so does one whose clock is moved by hand.
    pub fn maintain(&self) {
        sweep::tend(&self.core, self.core.clock.now());
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use crate::clock::Moment;
    use crate::manager::FnManager;
    use crate::{Budget, Maintenance, Pool, Validation};
    use std::io;
    use std::time::Duration;

    #[test]
    fn the_upkeep_of_a_pool_without_connections_is_never_due() {
        let manager = FnManager::new(|| Ok::<_, io::Error>(())).check(|()| Ok(()));
        let pool = Pool::builder(manager)
            .idle_timeout(None)
            .max_lifetime(None)
            .validation(Validation::Always)
            .keepalive(Some(Duration::from_secs(60)))
            .maintenance(Maintenance::Manual)
            .build_lazy()
            .expect("good settings");
        pool.maintain();
        assert_eq!(pool.core.alarm.due(), Moment::NEVER);
        drop(pool.get().expect("it connects"));
        pool.maintain();
        assert!(pool.core.alarm.due() < Moment::NEVER);
    }

    #[test]
    fn a_budget_alone_is_no_reason_for_upkeep() {
        let pool = Pool::builder(|| Ok::<_, io::Error>(()))
            .max_size(2)
            .idle_timeout(None)
            .max_lifetime(None)
            .maintenance(Maintenance::Manual)
            .budget(&Budget::new(2))
            .build_lazy()
            .expect("good settings");
        drop(pool.get().expect("it connects"));
        pool.maintain();
        assert_eq!(pool.core.alarm.due(), Moment::NEVER);
    }
}
