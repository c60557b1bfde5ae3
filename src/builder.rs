//! The settings of a pool, one function each.

use crate::adaptive::Adaptive;
use crate::alarm::Tended;
use crate::budget::{Budget, Member};
use crate::clock::Clock;
use crate::config::{Fairness, Maintenance, Nested, RetryPolicy, Settings, Spell, Validation, WhenDown};
use crate::error::Error;
use crate::event::EventHandler;
use crate::maintenance::keeper;
use crate::manager::Manager;
use crate::pool::shared::{Core, Hooks, Parts};
use crate::pool::{Pool, next_number};
use crate::redact::redact;
use crate::warm_up::WarmUp;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Settings for a [`Pool`], made by [`Pool::builder`]. Nothing is checked before [`build`](Self::build), which then
/// reports every problem at once.
///
/// # Examples
///
/// ```
/// use millpond::{ErrorKind, Pool};
/// use std::time::Duration;
///
/// let open = || Ok::<_, std::io::Error>(());
/// let pool = Pool::builder(open).name("orders").max_size(4).connection_timeout(Duration::from_secs(2)).build()?;
/// assert_eq!(pool.stats().max_size, 4);
///
/// let error = Pool::builder(open).max_size(0).min_idle(3).build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(error.to_string().contains("max_size is 0"));
/// assert!(error.to_string().contains("min_idle is 3"));
/// # Ok::<(), millpond::Error>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<M: Manager> {
    pub(crate) manager: M,
    name: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) warm_up: Option<WarmUp>,
    hooks: Hooks<M>,
    handlers: Vec<Box<dyn EventHandler>>,
    budget: Option<Budget>,
    clock: Clock,
}

impl<M: Manager> Builder<M> {
    pub(crate) fn new(manager: M) -> Self {
        Self {
            manager,
            name: None,
            settings: Settings::default(),
            warm_up: None,
            hooks: Hooks::default(),
            handlers: Vec::new(),
            budget: None,
            clock: Clock::System,
        }
    }

    /// The name that errors, log messages and metrics carry; where it is a URL, without the password. Default: `pool-1`,
    /// `pool-2` and so on.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(redact(&name.into()).into_owned());
        self
    }

    /// The most connections, open and being opened together; 1 to 1,048,576. Default 10, as in r2d2 and HikariCP:
    /// a server with some cores is kept busy by about that many. A connection that is being closed counts for 100 ms;
    /// one whose close takes longer no longer keeps its place from others.
    pub fn max_size(mut self, max_size: u32) -> Self {
        self.settings.max_size = max_size;
        self
    }

    /// Has the maximum follow the [load](crate::adaptive); [`max_size`](Self::max_size) then says where it starts, or the nearer
    /// end of the range. Default: it is fixed.
    pub fn adaptive(mut self, adaptive: Adaptive) -> Self {
        self.settings.adaptive = Some(adaptive);
        self
    }

    /// How many idle connections are kept ready. Default 0: connections are opened when they are wanted. (r2d2's
    /// default is `max_size`, which opens ten connections in every program that needs one.)
    pub fn min_idle(mut self, min_idle: u32) -> Self {
        self.settings.min_idle = min_idle;
        self
    }

    /// How long [`Pool::get`] waits at the most, for queue, connecting and checking together; more than zero.
    /// Default 5 s: long enough for a restart of a server, short enough for somebody in front of a screen.
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connection_timeout = timeout;
        self
    }

    /// How old a connection may get. It is retired up to a tenth earlier, by chance, and earlier still (but not
    /// below 45 %) where that keeps more than a fifth of the pool from going in the same second. Judged on return and while
    /// idle; never while it is borrowed. Default 30 min, as in r2d2 and HikariCP.
    pub fn max_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.settings.max_lifetime = lifetime;
        self
    }

    /// How long a connection may lie idle, beyond `min_idle`. Default 10 min, as in r2d2 and HikariCP.
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// How often a connection is lent before it is replaced, exactly. Default: as often as you like.
    pub fn max_uses(mut self, uses: Option<u64>) -> Self {
        self.settings.max_uses = uses;
        self
    }

    /// When an idle connection is checked before it is lent. Default: when it has been idle for 500 ms.
    pub fn validation(mut self, validation: Validation) -> Self {
        self.settings.validation = validation;
        self
    }

    /// How long an idle connection may go unused before it is checked in the background, and again after as long.
    /// Servers and firewalls drop what is silent for too long (often after 5 to 10 minutes); this keeps it in their
    /// memory, and finds what was dropped before a caller does. Default 2 min, as in HikariCP. With
    /// [`Validation::Never`](crate::Validation::Never) nothing is checked.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let open = || Ok::<_, std::io::Error>(());
    /// let pool = millpond::Pool::builder(open).keepalive(Some(Duration::from_secs(60))).build()?;
    /// let error = millpond::Pool::builder(open).keepalive(Some(Duration::ZERO)).build().unwrap_err();
    /// assert!(error.to_string().contains("keepalive is 0 s"));
    /// # drop(pool);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn keepalive(mut self, every: Option<Duration>) -> Self {
        self.settings.keepalive = every;
        self
    }

    /// Who is served first. Default: whoever comes, until somebody has waited for 1 ms.
    pub fn fairness(mut self, fairness: Fairness) -> Self {
        self.settings.fairness = fairness;
        self
    }

    /// How many callers may wait; one more is turned away at once with [`ErrorKind::Overloaded`]. Default: all.
    ///
    /// [`ErrorKind::Overloaded`]: crate::ErrorKind::Overloaded
    pub fn max_waiting(mut self, callers: Option<u32>) -> Self {
        self.settings.max_waiting = callers;
        self
    }

    /// How many connections are opened at the same time. Default 4, so that a burst of callers is no storm of
    /// handshakes; a returned connection serves them meanwhile.
    pub fn max_connecting(mut self, connections: u32) -> Self {
        self.settings.max_connecting = connections;
        self
    }

    /// How long to pause between failed attempts to connect. Default: 50 ms, growing to a thirtieth of the outage and at
    /// most 1 s, less up to half; and for 30 s while nobody waits.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// The same until the first connection has been opened: how a program starts while its server is still away. Default: as
    /// [`retry`](Self::retry), but without an end, because there is nothing else to do. `give_up` also ends the waiting of
    /// [`build`](Self::build).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, RetryPolicy, WarmUp};
    /// use std::io;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::time::Duration;
    ///
    /// // A server that is not there for the first two attempts; the program waits for it, however long that takes.
    /// let attempts = AtomicU32::new(0);
    /// let late = move || match attempts.fetch_add(1, Ordering::Relaxed) {
    ///     0 | 1 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
    ///     _ => Ok(()),
    /// };
    /// let pool = Pool::builder(late)
    ///     .start_up(RetryPolicy::default().initial_delay(Duration::from_millis(5)))
    ///     .warm_up(WarmUp::blocking(1).within(Duration::MAX).required())
    ///     .build()?;
    /// assert_eq!(pool.stats().connect_failures, 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn start_up(mut self, policy: RetryPolicy) -> Self {
        self.settings.set_start_up(policy);
        self
    }

    /// What [`build`](Self::build) opens ahead of time, whether it waits for that, and how gently. Default:
    /// [`min_idle`](Self::min_idle) connections and at least one, which must be ready within the connection timeout.
    pub fn warm_up(mut self, plan: WarmUp) -> Self {
        self.warm_up = Some(plan);
        self
    }

    /// What callers do while connecting fails. Default: they wait until their deadlines, because the server may be back
    /// before.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Breaker, ErrorKind, Pool, WhenDown};
    /// use std::error::Error as _;
    /// use std::io;
    ///
    /// let refused = || Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused));
    /// let pool = Pool::builder(refused).when_down(WhenDown::FailFast).build_lazy()?;
    /// let error = pool.get().unwrap_err(); // one attempt, and no 5 s
    /// assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, false));
    /// assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()));
    /// assert_ne!(pool.stats().breaker, Breaker::Closed);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn when_down(mut self, when_down: WhenDown) -> Self {
        self.settings.when_down = when_down;
        self
    }

    /// What happens when a thread asks for a connection while it holds one of this pool. Default: a warning when it has
    /// to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{ErrorKind, Nested, Pool};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(2).nested(Nested::Deny).build()?;
    /// let outer = pool.get()?;
    /// assert_eq!(pool.get().unwrap_err().kind(), ErrorKind::Deadlock);
    /// drop(outer);
    /// assert_eq!(pool.get_many(2)?.len(), 2); // several at once are not nested
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn nested(mut self, nested: Nested) -> Self {
        self.settings.nested = nested;
        self
    }

    /// Whether [`Pool::with`] works only on threads to which a connection is [bound](Pool::bind): a part of a program that
    /// asks outside of any request or job then gets an error of the kind [`Unbound`](crate::ErrorKind::Unbound) instead of
    /// a connection of its own. Default: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{ErrorKind, Pool};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).bound_only(true).build()?;
    /// assert_eq!(pool.with(|_| ()).unwrap_err().kind(), ErrorKind::Unbound);
    /// let job = pool.bind()?;
    /// pool.with(|_| ())?;
    /// # drop(job);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn bound_only(mut self, bound_only: bool) -> Self {
        self.settings.bound_only = bound_only;
        self
    }

    /// Who does the upkeep. Default: threads of the crate's own, one for all timers of the process and some helpers.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Maintenance, Pool};
    ///
    /// let pool = Pool::builder(|| rusqlite::Connection::open_in_memory())
    ///     .maintenance(Maintenance::Manual)
    ///     .build()?; // opened here, on this thread
    /// let one: i64 = pool.get()?.query_row("SELECT 1", [], |row| row.get(0))?;
    /// assert_eq!(one, 1);
    /// pool.maintain(); // now and then: retires what is old or idle, refills
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.settings.maintenance = maintenance;
        self
    }

    /// After how long a borrowed connection is overdue: a warning in the log then says who holds it, where it was taken,
    /// and for how long, and another one when it comes back; [`EventHandler`] hears both. Nothing is taken from anybody.
    /// Default: never, as in HikariCP; how long is too long depends on what connections are borrowed for.
    pub fn leak_threshold(mut self, after: Option<Duration>) -> Self {
        self.settings.leak_threshold = after;
        self
    }

    /// Measures how long connections are borrowed, for [`Stats::use_time`](crate::Stats::use_time). Default off: two
    /// readings of the exact clock and a histogram cost about 70 ns a checkout. An event handler switches it on, unless it wants
    /// samples only.
    pub fn use_times(mut self, measure: bool) -> Self {
        self.settings.use_times = measure;
        self
    }

    /// Called with every new connection before it is lent, on the thread that opened it: a helper's, or with
    /// [`Maintenance::Manual`] the caller's. An error closes the connection and counts as a failed attempt to connect, with
    /// what [`Manager::classify`] makes of it. It is of the manager's type, so that a hook which cannot fail may say
    /// `Ok(())` and no more.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::Pool;
    ///
    /// let pool = Pool::builder(|| rusqlite::Connection::open_in_memory())
    ///     .on_open(|conn| conn.execute_batch("PRAGMA foreign_keys = ON"))
    ///     .on_return(|_| Ok(()))
    ///     .build()?;
    /// let on: bool = pool.get()?.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?;
    /// assert!(on);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_open(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_open = Some(Box::new(hook));
        self
    }

    /// Called with every connection that comes back, after [`Manager::reset`], on the thread that returns it. An error
    /// closes the connection. For PostgreSQL and MySQL there are ready ones in `millpond::reset`.
    pub fn on_return(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_return = Some(Box::new(hook));
        self
    }

    /// Called with every connection before it is closed, on a helper thread; with [`Maintenance::Manual`] on the thread that
    /// gives it up.
    pub fn on_close(mut self, hook: impl Fn(&mut M::Connection) + Send + Sync + 'static) -> Self {
        self.hooks.on_close = Some(Box::new(hook));
        self
    }

    /// Hears what the pool does, besides those that were given before. Default: nobody does.
    pub fn event_handler(mut self, handler: impl EventHandler) -> Self {
        self.handlers.push(Box::new(handler));
        self
    }

    /// How many [incidents](crate::Pool::incidents) the pool keeps, the last ones; 0 for none. Default 64: an outage is a handful,
    /// because many of a kind in a row are kept as one. Each takes up to 2 kB, most of it for the holders at a time-out.
    pub fn incidents(mut self, most: u32) -> Self {
        self.settings.incidents = most;
        self
    }

    /// Shares a ceiling over connections with all pools that are built with the same [`Budget`]. Default: none.
    pub fn budget(mut self, budget: &Budget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Takes the time from a clock that is moved by hand: for tests. Such a pool is not visited by the keeper; call
    /// [`Pool::maintain`] after moving the clock.
    #[cfg(any(test, loom, shuttle, feature = "testing"))]
    pub fn clock(mut self, clock: crate::clock::HandClock) -> Self {
        self.clock = Clock::Hand(clock);
        self
    }

    /// For `drop_in`: checks run on the caller's thread where they are not likely to hang.
    pub(crate) fn check_on_caller(mut self, on_caller: bool) -> Self {
        self.settings.check_on_caller = on_caller;
        self
    }

    /// For `drop_in`: `idle_timeout` also takes those that `min_idle` keeps, which are then replaced.
    pub(crate) fn replace_idle(mut self, replace: bool) -> Self {
        self.settings.replace_idle = replace;
        self
    }

    /// Makes the pool and opens `min_idle` connections, at least one, so that a wrong address or password is found
    /// here; or what [`warm_up`](Self::warm_up) says. Failed attempts are repeated until the connection timeout is over, or
    /// until an error is [permanent](crate::Fault::Permanent).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong with the settings;
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) with the manager's own error as `source()`.
    pub fn build(self) -> Result<Pool<M>, Error> {
        let plan = self.warm_up.clone().unwrap_or_else(|| WarmUp::by_default(self.settings.min_idle));
        let pool = self.build_lazy()?;
        pool.warm_up(plan)?;
        Ok(pool)
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = all_problems(&self.settings, self.warm_up.as_ref());
        problems.extend(self.budget.iter().filter_map(|budget| budget.problem(self.settings.maintenance)));
        problems
    }

    /// Makes the pool and opens nothing: the first caller does. [`warm_up`](Self::warm_up) is left to
    /// [`Pool::warm_up`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong with the settings;
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) if no thread can be had for the upkeep.
    pub fn build_lazy(self) -> Result<Pool<M>, Error> {
        let problems = self.problems();
        let Self { manager, name, mut settings, warm_up: _, hooks, handlers, budget, clock } = self;
        if !manager.can_validate() {
            settings.validation = Validation::Never;
        }
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        settings.max_size = settings.first_size();
        let number = next_number();
        let name = name.unwrap_or_else(|| format!("pool-{number}"));
        let by_hand = !matches!(clock, Clock::System) || settings.maintenance == Maintenance::Manual;
        let core = Arc::new(Core::new(Parts { manager, name, number, settings, hooks, handlers, budget, clock }));
        if let Some(account) = &core.rack.account {
            let member: Arc<dyn Member> = Arc::clone(&core) as _;
            account.enlist(Arc::downgrade(&member));
        }
        let pool = Pool::from_core(Arc::clone(&core));
        if !by_hand {
            let tended: Arc<dyn Tended> = Arc::clone(&core) as _;
            keeper::join(number, Arc::downgrade(&tended), &core.alarm)
                .map_err(|error| Error::no_thread(&core.name, error))?;
        }
        core.adapt_from_now();
        core.sample_from_now();
        Ok(pool)
    }
}

/// What is wrong with settings that are complete.
pub(crate) fn all_problems(settings: &Settings, warm_up: Option<&WarmUp>) -> Vec<String> {
    let mut problems = problems(settings, warm_up, &str::to_owned);
    problems.extend(settings.adaptive.iter().filter_map(Adaptive::gap));
    problems
}

/// What is wrong with settings to which others may be added.
pub(crate) fn problems(settings: &Settings, warm_up: Option<&WarmUp>, spell: Spell<'_>) -> Vec<String> {
    let mut problems = settings.problems_as(spell);
    let most = (settings.first_size_from(), settings.first_size());
    problems.extend(warm_up.iter().flat_map(|plan| plan.problems_as(most, spell)));
    problems
}

impl<M: Manager> fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}
