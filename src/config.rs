//! Settings: their types, their defaults, and what cannot be.

use crate::adaptive::Adaptive;
use std::time::Duration;

/// When an idle connection is asked whether it still works before it is lent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Validation {
    /// At every checkout. The check runs on a helper thread, so that a server which never answers costs no caller
    /// more than its deadline; that is worth 10 to 20 µs, besides the check itself.
    Always,
    /// When it has been neither used nor checked for this long. The default is 500 ms, as HikariCP has it: a busy
    /// pool then never checks, and what was idle for longer is what a server or firewall may have cut.
    IfIdleFor(Duration),
    /// Never: for connections that cannot go away, such as those to a file.
    Never,
}

impl Default for Validation {
    fn default() -> Self {
        Self::IfIdleFor(Duration::from_millis(500))
    }
}

/// Who gets a connection that comes back while others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fairness {
    /// Whoever comes first, until the oldest waiter has waited this long; then it is handed to that waiter. The
    /// default is 1 ms: with short holds the pool runs at full speed, with long holds it is a queue.
    Bounded(Duration),
    /// Always the oldest waiter: a queue. With holds below 100 µs this costs most of the throughput, because every
    /// hand-over is a thread switch.
    Strict,
}

impl Default for Fairness {
    fn default() -> Self {
        Self::Bounded(Duration::from_millis(1))
    }
}

/// What callers do while connecting fails and no connection is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenDown {
    /// Wait until their deadlines: the server may be back before. The default.
    #[default]
    Wait,
    /// Fail at once, with the server's own error as `source()`, except for the one that comes when the next attempt is
    /// due: a circuit breaker. For servers that must answer somebody else quickly, whatever the answer.
    FailFast,
}

/// What happens when a thread asks for a connection while it holds one of the same pool. When enough threads do that, they
/// wait for each other.
///
/// A thread is taken for the holder of what it has borrowed also when it has handed the guard to another thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Nested {
    /// Nothing.
    Allow,
    /// When it has to wait, a warning in the log, with both source lines; once for each line. The default.
    #[default]
    Warn,
    /// It gets an error of the kind [`Deadlock`](crate::ErrorKind::Deadlock) at once, whether a connection is idle or not:
    /// for tests, and for programs that mean to have none of it.
    Deny,
}

/// Who does the upkeep of a pool: refilling, checking, retiring, trying again after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Maintenance {
    /// A thread for the timers of all pools of the process, and helper threads for what may block. The default.
    #[default]
    Background,
    /// Nobody but the callers: the pool starts no thread. Connections are opened, checked and closed on the thread that
    /// needs it or gives it up, those who wait do what is due while they wait, and everything else happens in
    /// [`Pool::maintain`](crate::Pool::maintain). For batch programs, and for places where threads are forbidden.
    ///
    /// What it costs: a `connect` or a check that hangs keeps its caller past the deadline for as long as the driver lets
    /// it, so set the driver's own time-outs (no caller begins another one after its deadline); a connection that is handed
    /// over to a caller while that one checks another waits for it; a bad connection after an outage is found by the caller
    /// who meets it.
    Manual,
}

/// How long to pause between failed attempts to connect, and for how long to go on.
///
/// The pause before attempt *n* is `initial_delay` × `multiplier`^(n-1), at most `max_delay`, and then shortened by
/// a random share up to `jitter`, so that many processes do not come back in step. With the defaults a pause is a
/// thirtieth of the outage so far, and between 25 ms and 1 s: a server that was away for two seconds is noticed within a
/// tenth of a second, and no outage costs more than a second beyond its end.
///
/// # Examples
///
/// ```
/// use millpond::RetryPolicy;
/// use std::time::Duration;
///
/// let refused = || Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
/// let eager = RetryPolicy::default().initial_delay(Duration::from_millis(1)).max_delay(Duration::from_millis(1));
/// let pool = millpond::Pool::builder(refused).retry(eager).build_lazy()?;
/// assert!(pool.get_timeout(Duration::from_millis(100)).is_err());
/// assert!(pool.stats().connect_failures > 2);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    pub(crate) initial_delay: Duration,
    pub(crate) max_delay: Duration,
    pub(crate) multiplier: f64,
    pub(crate) jitter: f64,
    pub(crate) give_up: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(1),
            multiplier: 1.03,
            jitter: 0.5,
            give_up: Some(Duration::from_secs(30)),
        }
    }
}

impl RetryPolicy {
    /// The pause after the first failure; 50 ms by default.
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// The longest pause; 1 s by default, so that a server which is back is noticed within a second.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How much longer each pause is than the one before; 1.03 by default. Pauses add up to the outage, so the next one
    /// is about this much less one of it: doubling, which is usual, lets the pool sleep as long again as the server was
    /// away.
    #[must_use]
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// The largest share by which a pause is shortened at random, 0 to 1; 0.5 by default.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// For how long after the first failure attempts go on while nobody waits for a connection; 30 s by default, `None`
    /// for ever. Afterwards the pool tries again when somebody asks, as after the start.
    #[must_use]
    pub fn give_up(mut self, after: Option<Duration>) -> Self {
        self.give_up = after;
        self
    }

    /// The pause after `failures` failures in a row; `random` is in 0..1.
    pub(crate) fn delay(&self, failures: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_delay.as_secs_f64() * self.multiplier.powi(exponent);
        let capped = grown.min(self.max_delay.as_secs_f64());
        Duration::try_from_secs_f64(capped * (1.0 - self.jitter * random)).unwrap_or(Duration::MAX)
    }
}

/// The most connections that a pool may be asked for. Each has a place of 64 bytes, made when first needed; a
/// larger number is taken for a mistake in the unit or the sign.
pub(crate) const LARGEST: u32 = 1 << 20;

/// The numbers and times of a pool, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) max_size: u32,
    pub(crate) min_idle: u32,
    pub(crate) connection_timeout: Duration,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_uses: Option<u64>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) validation: Validation,
    pub(crate) fairness: Fairness,
    pub(crate) max_waiting: Option<u32>,
    pub(crate) max_connecting: u32,
    pub(crate) retry: RetryPolicy,
    start_up: Option<RetryPolicy>,
    pub(crate) when_down: WhenDown,
    pub(crate) nested: Nested,
    pub(crate) maintenance: Maintenance,
    pub(crate) leak_threshold: Option<Duration>,
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) use_times: bool,
    pub(crate) bound_only: bool,
    /// The r2d2 module checks on the caller's thread, as r2d2 does.
    pub(crate) check_on_caller: bool,
    /// The r2d2 module lets `idle_timeout` go below `min_idle` and opens new connections instead, as r2d2 does.
    pub(crate) replace_idle: bool,
    /// How many incidents are kept.
    pub(crate) incidents: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_size: 10,
            min_idle: 0,
            connection_timeout: Duration::from_secs(5),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            max_uses: None,
            keepalive: Some(Duration::from_secs(2 * 60)),
            validation: Validation::default(),
            fairness: Fairness::default(),
            max_waiting: None,
            max_connecting: 4,
            retry: RetryPolicy::default(),
            start_up: None,
            when_down: WhenDown::default(),
            nested: Nested::default(),
            maintenance: Maintenance::default(),
            leak_threshold: None,
            adaptive: None,
            use_times: false,
            bound_only: false,
            check_on_caller: false,
            replace_idle: false,
            incidents: 64,
        }
    }
}

/// How a setting is called in what is said about it: by its name, or as a caller has spelled it.
pub(crate) type Spell<'a> = &'a dyn Fn(&str) -> String;

impl Settings {
    /// Every setting that cannot be, naming field and value.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems_as(&str::to_owned)
    }

    pub(crate) fn problems_as(&self, spell: Spell<'_>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |good: bool, field: &str, problem: String| {
            if !good {
                problems.push(format!("{} is {problem}", spell(field)));
            }
        };
        let (max, min) = (self.max_size, self.min_idle);
        check(max > 0, "max_size", "0, but a pool needs room for one connection".to_owned());
        check(max <= LARGEST, "max_size", format!("{max}, but {LARGEST} is the most"));
        // The maximum only says where an adaptive pool starts: there the floor is the limit.
        let has_floor = self.adaptive.as_ref().is_some_and(|adaptive| adaptive.floor.is_some());
        check(min <= max || has_floor, "min_idle", format!("{min}, which is more than {} {max}", spell("max_size")));
        check(self.max_connecting > 0, "max_connecting", "0, so nothing could ever be opened".to_owned());
        check(self.max_uses != Some(0), "max_uses", "0, so nothing could ever be lent".to_owned());
        for (name, duration) in [
            ("connection_timeout", Some(self.connection_timeout)),
            ("max_lifetime", self.max_lifetime),
            ("idle_timeout", self.idle_timeout),
            ("keepalive", self.keepalive),
            ("leak_threshold", self.leak_threshold),
        ] {
            check(duration != Some(Duration::ZERO), name, "0 s, but it must be longer than nothing".to_owned());
        }
        self.retry.problems("retry", spell, &mut check);
        if let Some(policy) = &self.start_up {
            policy.problems("start_up", spell, &mut check);
        }
        problems.extend(self.adaptive.iter().flat_map(|adaptive| adaptive.problems(min, spell)));
        problems
    }
}

impl Settings {
    /// The maximum that the pool starts with.
    pub(crate) fn first_size(&self) -> u32 {
        self.adaptive.as_ref().map_or(self.max_size, |adaptive| adaptive.nearest(self.max_size))
    }

    /// The setting that says so.
    pub(crate) fn first_size_from(&self) -> &'static str {
        match self.first_size() {
            size if size < self.max_size => "adaptive.ceiling",
            size if size > self.max_size => "adaptive.floor",
            _ => "max_size",
        }
    }

    pub(crate) fn set_start_up(&mut self, policy: RetryPolicy) {
        self.start_up = Some(policy);
    }

    /// What holds until the first connection has been opened.
    pub(crate) fn start_up(&self) -> RetryPolicy {
        self.start_up.clone().unwrap_or_else(|| self.retry.clone().give_up(None))
    }
}

impl RetryPolicy {
    fn problems(&self, policy: &str, spell: Spell<'_>, check: &mut impl FnMut(bool, &str, String)) {
        let field = |name: &str| format!("{policy}.{name}");
        for (name, duration) in [
            ("initial_delay", Some(self.initial_delay)),
            ("max_delay", Some(self.max_delay)),
            ("give_up", self.give_up),
        ] {
            let problem = "0 s, but it must be longer than nothing".to_owned();
            check(duration != Some(Duration::ZERO), &field(name), problem);
        }
        let Self { initial_delay, max_delay, multiplier, jitter, .. } = *self;
        check(
            // A longest pause of nothing is told of above.
            initial_delay <= max_delay || max_delay.is_zero(),
            &field("initial_delay"),
            format!("{initial_delay:?}, which is longer than {} {max_delay:?}", spell(&field("max_delay"))),
        );
        check(
            multiplier.is_finite() && multiplier >= 1.0,
            &field("multiplier"),
            format!("{}, but it must be a number of at least 1", in_brief(multiplier)),
        );
        let problem = format!("{}, but it must be between 0 and 1", in_brief(jitter));
        check((0.0..=1.0).contains(&jitter), &field("jitter"), problem);
    }
}

/// A number as messages have it, which is not to be hundreds of digits long.
pub(crate) fn in_brief(number: f64) -> String {
    if number == 0.0 || (1e-6..1e16).contains(&number.abs()) { number.to_string() } else { format!("{number:?}") }
}

/// A number in 0..1 that looks random and depends on its two arguments alone (the finalizer of SplitMix64), so that
/// a pool with a fixed seed behaves the same again.
pub(crate) fn scatter(seed: u64, n: u64) -> f64 {
    let mut x = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once_each_with_field_and_value() {
        let settings = Settings {
            max_size: 0,
            min_idle: 3,
            connection_timeout: Duration::ZERO,
            max_lifetime: Some(Duration::ZERO),
            max_uses: Some(0),
            max_connecting: 0,
            retry: RetryPolicy::default().jitter(1.5).multiplier(f64::NAN),
            ..Settings::default()
        };
        let problems = settings.problems();
        for part in [
            "max_size is 0",
            "min_idle is 3",
            "connection_timeout is 0",
            "max_lifetime is 0",
            "max_uses is 0",
            "max_connecting is 0",
            "retry.jitter is 1.5",
            "retry.multiplier is NaN",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
        assert_eq!(problems.len(), 8);
        assert!(Settings::default().problems().is_empty());
    }

    #[test]
    fn pauses_grow_up_to_the_cap_and_never_beyond() {
        let policy = RetryPolicy::default().multiplier(2.0);
        let pauses: Vec<_> = (1..8).map(|n| policy.delay(n, 0.0).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.delay(u32::MAX, 0.999).as_millis(), 500);
        let endless = RetryPolicy::default().initial_delay(Duration::MAX).max_delay(Duration::MAX).jitter(0.0);
        assert_eq!(endless.delay(1, 0.0), Duration::MAX, "and no overflow");
        for n in 0..1000 {
            assert!((0.0..1.0).contains(&scatter(7, n)));
        }
    }

    #[test]
    fn with_the_defaults_a_pause_is_a_small_part_of_the_outage_and_attempts_are_few() {
        let policy = RetryPolicy::default();
        let (mut passed, mut attempts) = (0.0, 0);
        for failures in 1..1000 {
            let longest = policy.delay(failures, 0.0).as_secs_f64();
            assert!(longest <= 0.05 + 0.07 * passed && longest <= 1.0, "{longest} s after {passed} s");
            attempts += u32::from(passed < 10.0);
            passed += policy.delay(failures, scatter(1, failures.into())).as_secs_f64();
        }
        assert!(attempts <= 100, "{attempts} in the first ten seconds");
    }
}
