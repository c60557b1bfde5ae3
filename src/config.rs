//! Settings: their types, their defaults, and what cannot be.

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

/// How long to pause between failed attempts to connect.
///
/// The pause before attempt *n* is `initial_delay` × `multiplier`^(n-1), at most `max_delay`, and then shortened by
/// a random share up to `jitter`, so that many processes do not come back in step.
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
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(1),
            multiplier: 2.0,
            jitter: 0.5,
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

    /// How much longer each pause is than the one before; 2 by default.
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

    /// The pause after `failures` failures in a row; `random` is in 0..1.
    pub(crate) fn delay(&self, failures: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_delay.as_secs_f64() * self.multiplier.powi(exponent);
        let capped = grown.min(self.max_delay.as_secs_f64());
        Duration::from_secs_f64(capped * (1.0 - self.jitter * random))
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
    pub(crate) validation: Validation,
    pub(crate) fairness: Fairness,
    pub(crate) max_waiting: Option<u32>,
    pub(crate) max_connecting: u32,
    pub(crate) retry: RetryPolicy,
    pub(crate) use_times: bool,
    /// The r2d2 module checks on the caller's thread, as r2d2 does.
    pub(crate) check_on_caller: bool,
    /// The r2d2 module lets `idle_timeout` go below `min_idle` and opens new connections instead, as r2d2 does.
    pub(crate) replace_idle: bool,
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
            validation: Validation::default(),
            fairness: Fairness::default(),
            max_waiting: None,
            max_connecting: 4,
            retry: RetryPolicy::default(),
            use_times: false,
            check_on_caller: false,
            replace_idle: false,
        }
    }
}

impl Settings {
    /// Every setting that cannot be, naming field and value.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |good: bool, problem: String| {
            if !good {
                problems.push(problem);
            }
        };
        let (max, min) = (self.max_size, self.min_idle);
        check(max > 0, "max_size is 0, but a pool needs room for one connection".to_owned());
        check(max <= LARGEST, format!("max_size is {max}, but {LARGEST} is the most"));
        check(min <= max, format!("min_idle is {min}, which is more than max_size {max}"));
        check(self.max_connecting > 0, "max_connecting is 0, so nothing could ever be opened".to_owned());
        check(self.max_uses != Some(0), "max_uses is 0, so nothing could ever be lent".to_owned());
        for (name, duration) in [
            ("connection_timeout", Some(self.connection_timeout)),
            ("max_lifetime", self.max_lifetime),
            ("idle_timeout", self.idle_timeout),
            ("retry.initial_delay", Some(self.retry.initial_delay)),
            ("retry.max_delay", Some(self.retry.max_delay)),
        ] {
            check(duration != Some(Duration::ZERO), format!("{name} is 0 s, but it must be longer than nothing"));
        }
        let RetryPolicy { initial_delay, max_delay, multiplier, jitter } = self.retry;
        check(
            initial_delay <= max_delay,
            format!("retry.initial_delay is {initial_delay:?}, which is longer than retry.max_delay {max_delay:?}"),
        );
        check(
            multiplier.is_finite() && multiplier >= 1.0,
            format!("retry.multiplier is {multiplier}, but it must be a number of at least 1"),
        );
        check((0.0..=1.0).contains(&jitter), format!("retry.jitter is {jitter}, but it must be between 0 and 1"));
        problems
    }
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
        let policy = RetryPolicy::default();
        let pauses: Vec<_> = (1..8).map(|n| policy.delay(n, 0.0).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.delay(u32::MAX, 0.999).as_millis(), 500);
        for n in 0..1000 {
            assert!((0.0..1.0).contains(&scatter(7, n)));
        }
    }
}
