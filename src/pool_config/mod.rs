#![doc = include_str!("../../docs/configuration.md")]

mod adaptive_rules;
mod env;
#[cfg(feature = "serde")]
mod file;
mod gather;
mod lint;
mod presets;
mod rules;
mod value;

pub use lint::Lint;

use crate::adaptive::Adaptive;
use crate::builder::{all_problems, problems};
use crate::config::{LARGEST, Settings, Spell};
use crate::{Builder, Error, Fairness, Maintenance, Manager, Nested, RetryPolicy, Validation, WarmUp, WhenDown};
use std::fmt;
use std::time::Duration;
use value::Slot;

/// The settings of a pool that can be written down: those of [`Builder`], without its functions over connections.
///
/// Each field is called as the function of the builder, and holds what that one takes; `None` where nothing was said, so
/// that layers can be laid over each other ([`merge`](Self::merge)). Hence `Some(None)` says that there is to be no
/// `max_lifetime`, and `None` says nothing about it.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, pool_config::PoolConfig};
/// use std::time::Duration;
///
/// let mut config = PoolConfig::production();
/// config.max_size = Some(20);
/// config.max_lifetime = Some(None);
/// // In a program: PoolConfig::from_env("DB_POOL")?
/// let env = PoolConfig::from_vars("DB_POOL", [("DB_POOL_MAX_SIZE", "8"), ("DB_POOL_CONNECTION_TIMEOUT", "1500ms")])?;
/// let config = config.merge(env);
/// assert_eq!(config.max_size, Some(8));
/// assert_eq!(config.connection_timeout, Some(Duration::from_millis(1500)));
///
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).config(&config).build()?;
/// assert_eq!(pool.stats().max_size, 8);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// [`Builder::name`]
    pub name: Option<String>,
    /// [`Builder::max_size`]
    pub max_size: Option<u32>,
    /// [`Builder::min_idle`]
    pub min_idle: Option<u32>,
    /// [`Builder::connection_timeout`]
    pub connection_timeout: Option<Duration>,
    /// [`Builder::max_lifetime`]; `Some(None)` for no limit.
    pub max_lifetime: Option<Option<Duration>>,
    /// [`Builder::idle_timeout`]; `Some(None)` for no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// [`Builder::max_uses`]; `Some(None)` for no limit.
    pub max_uses: Option<Option<u64>>,
    /// [`Builder::validation`]
    pub validation: Option<Validation>,
    /// [`Builder::keepalive`]; `Some(None)` for no such checks.
    pub keepalive: Option<Option<Duration>>,
    /// [`Builder::fairness`]
    pub fairness: Option<Fairness>,
    /// [`Builder::max_waiting`]; `Some(None)` for no limit.
    pub max_waiting: Option<Option<u32>>,
    /// [`Builder::max_connecting`]
    pub max_connecting: Option<u32>,
    /// [`Builder::when_down`]
    pub when_down: Option<WhenDown>,
    /// [`Builder::nested`]
    pub nested: Option<Nested>,
    /// [`Builder::leak_threshold`]; `Some(None)` for never.
    pub leak_threshold: Option<Option<Duration>>,
    /// [`Builder::bound_only`]
    pub bound_only: Option<bool>,
    /// [`Builder::use_times`]
    pub use_times: Option<bool>,
    /// [`Builder::incidents`]
    pub incidents: Option<u32>,
    /// [`Builder::maintenance`]
    pub maintenance: Option<Maintenance>,
    /// [`Builder::retry`]
    pub retry: RetryConfig,
    /// [`Builder::start_up`]
    pub start_up: RetryConfig,
    /// [`Builder::warm_up`]
    pub warm_up: WarmUpConfig,
    /// [`Builder::adaptive`]
    pub adaptive: AdaptiveConfig,
}

/// The parts of a [`RetryPolicy`]. What is not given stays as the builder has it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// [`RetryPolicy::initial_delay`]
    pub initial_delay: Option<Duration>,
    /// [`RetryPolicy::max_delay`]
    pub max_delay: Option<Duration>,
    /// [`RetryPolicy::multiplier`]
    pub multiplier: Option<f64>,
    /// [`RetryPolicy::jitter`]
    pub jitter: Option<f64>,
    /// [`RetryPolicy::give_up`]; `Some(None)` for never.
    pub give_up: Option<Option<Duration>>,
}

/// The parts of a [`WarmUp`]. What is not given stays as the builder has it: unless told otherwise it opens `min_idle`
/// connections, and at least one, waits for them as long as the connection timeout, and needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpConfig {
    /// Whether anything is opened ahead, and whether the program waits for it.
    pub mode: Option<WarmUpMode>,
    /// How many are opened, unless `mode` is lazy.
    pub connections: Option<u32>,
    /// [`WarmUp::within`]; `Some(None)` waits until the server is there.
    pub within: Option<Option<Duration>>,
    /// [`WarmUp::batch`]
    pub batch: Option<u32>,
    /// [`WarmUp::pause`]
    pub pause: Option<Duration>,
    /// Whether it is an error that they are not ready in time ([`WarmUp::required`]).
    pub required: Option<bool>,
}

/// The parts of an [`Adaptive`]. What is not given stays as the builder has it. Where anything is given, both ends of the range
/// must be, in this layer or in another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveConfig {
    /// Never fewer connections ([`Adaptive::between`]).
    pub floor: Option<u32>,
    /// Never more connections ([`Adaptive::between`]).
    pub ceiling: Option<u32>,
    /// [`Adaptive::target_wait`]
    pub target_wait: Option<Duration>,
    /// [`Adaptive::every`]
    pub every: Option<Duration>,
    /// [`Adaptive::patience`]
    pub patience: Option<Duration>,
}

/// The kinds of [`WarmUp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarmUpMode {
    /// [`WarmUp::lazy`]
    Lazy,
    /// [`WarmUp::background`]
    Background,
    /// [`WarmUp::blocking`]
    Blocking,
}

impl PoolConfig {
    /// These settings, and over them the other ones: where both say something, `over` counts. So from the general to the
    /// particular: `preset.merge(file).merge(environment)`.
    #[must_use]
    pub fn merge(self, over: Self) -> Self {
        Self {
            name: over.name.or(self.name),
            max_size: over.max_size.or(self.max_size),
            min_idle: over.min_idle.or(self.min_idle),
            connection_timeout: over.connection_timeout.or(self.connection_timeout),
            max_lifetime: over.max_lifetime.or(self.max_lifetime),
            idle_timeout: over.idle_timeout.or(self.idle_timeout),
            max_uses: over.max_uses.or(self.max_uses),
            validation: over.validation.or(self.validation),
            keepalive: over.keepalive.or(self.keepalive),
            fairness: over.fairness.or(self.fairness),
            max_waiting: over.max_waiting.or(self.max_waiting),
            max_connecting: over.max_connecting.or(self.max_connecting),
            when_down: over.when_down.or(self.when_down),
            nested: over.nested.or(self.nested),
            leak_threshold: over.leak_threshold.or(self.leak_threshold),
            bound_only: over.bound_only.or(self.bound_only),
            use_times: over.use_times.or(self.use_times),
            incidents: over.incidents.or(self.incidents),
            maintenance: over.maintenance.or(self.maintenance),
            retry: self.retry.merge(over.retry),
            start_up: self.start_up.merge(over.start_up),
            warm_up: self.warm_up.merge(over.warm_up),
            adaptive: self.adaptive.merge(over.adaptive),
        }
    }

    /// Whether a pool can be built with this, where the builder has its defaults for what is not given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong, as [`Builder::build`] has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::pool_config::PoolConfig;
    ///
    /// let mut config = PoolConfig::default();
    /// assert!(config.validate().is_ok());
    /// config.min_idle = Some(12);
    /// config.retry.jitter = Some(1.5);
    /// let error = config.validate().unwrap_err().to_string();
    /// assert!(error.contains("min_idle is 12, which is more than max_size 10"), "{error}");
    /// assert!(error.contains("retry.jitter is 1.5"), "{error}");
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        let (mut settings, mut warm_up) = (Settings::default(), None);
        self.apply(&mut settings, &mut warm_up);
        match all_problems(&settings, warm_up.as_ref()) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Error::config(&problems)),
        }
    }

    /// What cannot be whatever the other layers say. What depends on two settings is judged where both are given here.
    fn own_problems(&self, spell: Spell<'_>) -> Vec<String> {
        // What is not given must not collide with anything.
        let lenient = RetryPolicy::default().initial_delay(Duration::from_nanos(1)).max_delay(Duration::MAX);
        let mut settings = Settings::default();
        settings.max_size = LARGEST;
        settings.retry = lenient.clone();
        settings.set_start_up(lenient);
        let mut warm_up = Some(WarmUp::blocking(0));
        self.apply(&mut settings, &mut warm_up);
        problems(&settings, warm_up.as_ref(), spell)
    }

    fn apply(&self, settings: &mut Settings, warm_up: &mut Option<WarmUp>) {
        set(&mut settings.max_size, self.max_size);
        set(&mut settings.min_idle, self.min_idle);
        set(&mut settings.connection_timeout, self.connection_timeout);
        set(&mut settings.max_lifetime, self.max_lifetime);
        set(&mut settings.idle_timeout, self.idle_timeout);
        set(&mut settings.max_uses, self.max_uses);
        set(&mut settings.validation, self.validation);
        set(&mut settings.keepalive, self.keepalive);
        set(&mut settings.fairness, self.fairness);
        set(&mut settings.max_waiting, self.max_waiting);
        set(&mut settings.max_connecting, self.max_connecting);
        set(&mut settings.when_down, self.when_down);
        set(&mut settings.nested, self.nested);
        set(&mut settings.leak_threshold, self.leak_threshold);
        set(&mut settings.bound_only, self.bound_only);
        set(&mut settings.use_times, self.use_times);
        set(&mut settings.incidents, self.incidents);
        set(&mut settings.maintenance, self.maintenance);
        self.retry.apply(&mut settings.retry);
        if self.start_up != RetryConfig::default() {
            let mut policy = settings.start_up();
            self.start_up.apply(&mut policy);
            settings.set_start_up(policy);
        }
        if self.warm_up != WarmUpConfig::default() {
            let plan = warm_up.get_or_insert_with(|| WarmUp::by_default(settings.min_idle));
            self.warm_up.apply(plan);
        }
        if self.adaptive != AdaptiveConfig::default() {
            self.adaptive.apply(settings.adaptive.get_or_insert_with(Adaptive::without_range));
        }
    }

    /// Every setting, with the name that files know it by.
    fn slots(&mut self) -> Vec<(&'static str, &mut dyn Slot)> {
        // In full, so that none can be forgotten.
        let Self {
            name,
            max_size,
            min_idle,
            connection_timeout,
            max_lifetime,
            idle_timeout,
            max_uses,
            validation,
            keepalive,
            fairness,
            max_waiting,
            max_connecting,
            when_down,
            nested,
            leak_threshold,
            bound_only,
            use_times,
            incidents,
            maintenance,
            retry,
            start_up,
            warm_up,
            adaptive,
        } = self;
        let WarmUpConfig { mode, connections, within, batch, pause, required } = warm_up;
        let AdaptiveConfig { floor, ceiling, target_wait, every, patience } = adaptive;
        let mut slots: Vec<(&'static str, &mut dyn Slot)> = vec![
            ("name", name),
            ("max_size", max_size),
            ("min_idle", min_idle),
            ("connection_timeout", connection_timeout),
            ("max_lifetime", max_lifetime),
            ("idle_timeout", idle_timeout),
            ("max_uses", max_uses),
            ("validation", validation),
            ("keepalive", keepalive),
            ("fairness", fairness),
            ("max_waiting", max_waiting),
            ("max_connecting", max_connecting),
            ("when_down", when_down),
            ("nested", nested),
            ("leak_threshold", leak_threshold),
            ("bound_only", bound_only),
            ("use_times", use_times),
            ("incidents", incidents),
            ("maintenance", maintenance),
        ];
        // Groups at the end: TOML has its tables there.
        slots.extend(retry.slots(RETRY));
        slots.extend(start_up.slots(START_UP));
        slots.extend([
            ("warm_up.mode", mode as &mut dyn Slot),
            ("warm_up.connections", connections),
            ("warm_up.within", within),
            ("warm_up.batch", batch),
            ("warm_up.pause", pause),
            ("warm_up.required", required),
            ("adaptive.floor", floor),
            ("adaptive.ceiling", ceiling),
            ("adaptive.target_wait", target_wait),
            ("adaptive.every", every),
            ("adaptive.patience", patience),
        ]);
        slots
    }

    /// What is given, as it would be written.
    fn written(&self) -> Vec<(&'static str, value::Value)> {
        let mut copy = self.clone();
        copy.slots().into_iter().filter_map(|(name, slot)| Some((name, slot.show()?))).collect()
    }
}

const RETRY: [&str; 5] =
    ["retry.initial_delay", "retry.max_delay", "retry.multiplier", "retry.jitter", "retry.give_up"];
const START_UP: [&str; 5] =
    ["start_up.initial_delay", "start_up.max_delay", "start_up.multiplier", "start_up.jitter", "start_up.give_up"];

impl RetryConfig {
    fn merge(self, over: Self) -> Self {
        Self {
            initial_delay: over.initial_delay.or(self.initial_delay),
            max_delay: over.max_delay.or(self.max_delay),
            multiplier: over.multiplier.or(self.multiplier),
            jitter: over.jitter.or(self.jitter),
            give_up: over.give_up.or(self.give_up),
        }
    }

    fn apply(&self, policy: &mut RetryPolicy) {
        set(&mut policy.initial_delay, self.initial_delay);
        set(&mut policy.max_delay, self.max_delay);
        if let (Some(longest), None) = (self.max_delay.filter(|longest| !longest.is_zero()), self.initial_delay) {
            // The first pause is that of the layer below, or the default, and nobody may have set it.
            policy.initial_delay = policy.initial_delay.min(longest);
        }
        set(&mut policy.multiplier, self.multiplier);
        set(&mut policy.jitter, self.jitter);
        set(&mut policy.give_up, self.give_up);
    }

    fn slots(&mut self, names: [&'static str; 5]) -> [(&'static str, &mut dyn Slot); 5] {
        let Self { initial_delay, max_delay, multiplier, jitter, give_up } = self;
        let [first, second, third, fourth, fifth] = names;
        [(first, initial_delay), (second, max_delay), (third, multiplier), (fourth, jitter), (fifth, give_up)]
    }
}

impl WarmUpConfig {
    fn merge(self, over: Self) -> Self {
        Self {
            mode: over.mode.or(self.mode),
            connections: over.connections.or(self.connections),
            within: over.within.or(self.within),
            batch: over.batch.or(self.batch),
            pause: over.pause.or(self.pause),
            required: over.required.or(self.required),
        }
    }

    fn apply(&self, plan: &mut WarmUp) {
        set(&mut plan.wanted, self.connections);
        set(&mut plan.pause, self.pause);
        set(&mut plan.required, self.required);
        plan.batch = self.batch.or(plan.batch);
        plan.within = self.within.map(|within| within.unwrap_or(Duration::MAX)).or(plan.within);
        if let Some(mode) = self.mode {
            plan.waits = mode == WarmUpMode::Blocking;
            // What nobody waits for is not required, unless somebody has said so, who is then told.
            plan.required &= plan.waits || self.required.is_some();
            if mode == WarmUpMode::Lazy {
                plan.wanted = 0;
            }
        }
    }
}

impl AdaptiveConfig {
    fn merge(self, over: Self) -> Self {
        Self {
            floor: over.floor.or(self.floor),
            ceiling: over.ceiling.or(self.ceiling),
            target_wait: over.target_wait.or(self.target_wait),
            every: over.every.or(self.every),
            patience: over.patience.or(self.patience),
        }
    }

    fn apply(&self, adaptive: &mut Adaptive) {
        adaptive.floor = self.floor.or(adaptive.floor);
        adaptive.ceiling = self.ceiling.or(adaptive.ceiling);
        set(&mut adaptive.target_wait, self.target_wait);
        set(&mut adaptive.every, self.every);
        set(&mut adaptive.patience, self.patience);
    }
}

impl<M: Manager> Builder<M> {
    /// Takes over every setting that is given in `config`, and leaves the others as they are. Functions that are called
    /// later count over it.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, pool_config::PoolConfig};
    ///
    /// let config = PoolConfig::from_vars("CACHE", [("CACHE_MIN_IDLE", "2")])?;
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(4).config(&config).build()?;
    /// assert_eq!((pool.stats().idle, pool.stats().max_size), (2, 4));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn config(mut self, config: &PoolConfig) -> Self {
        config.apply(&mut self.settings, &mut self.warm_up);
        match &config.name {
            Some(name) => self.name(name),
            None => self,
        }
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// What is given, as it would be written; in a name no password.
impl fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PoolConfig");
        for (name, value) in self.written() {
            debug.field(name, &format_args!("{value}"));
        }
        debug.finish()
    }
}
