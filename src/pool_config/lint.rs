//! What is legal and unwise.

use super::PoolConfig;
use super::rules::{Rule, Seen, rules};
use crate::config::Settings;
use crate::{Builder, Manager, WarmUp};
use std::fmt;

/// A setting, or several together, that a pool can have and better had not. Prints as one line for a log.
///
/// # Examples
///
/// ```
/// use millpond::pool_config::PoolConfig;
/// use std::time::Duration;
///
/// let mut config = PoolConfig::production();
/// config.max_lifetime = Some(Some(Duration::from_secs(20)));
/// let lints = config.lint();
/// assert_eq!(lints.iter().map(|lint| lint.code).collect::<Vec<_>>(), ["lifetime-short", "leak-threshold-after-lifetime"]);
/// let line = lints[0].to_string();
/// assert!(line.starts_with("max_lifetime is 20s: "), "{line}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lint {
    /// A name that does not change, to pass over what is meant.
    pub code: &'static str,
    /// The settings that it is about.
    pub fields: &'static [&'static str],
    /// The rule, in Markdown.
    pub when: &'static str,
    /// What was found: the settings with their values.
    pub found: String,
    /// What they lead to.
    pub why: &'static str,
    /// What to set instead.
    pub instead: &'static str,
    /// Whose rule it is, or whose figures it rests on.
    pub source: &'static str,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, found, why, instead, .. } = self;
        write!(f, "{found}: {why}; {instead} [{code}]")
    }
}

impl PoolConfig {
    /// What is legal and unwise, where the builder has its defaults for what is not given. The defaults and the presets have
    /// none. What cannot be at all is told by [`validate`](Self::validate).
    #[must_use]
    pub fn lint(&self) -> Vec<Lint> {
        let (mut settings, mut warm_up) = (Settings::default(), None);
        self.apply(&mut settings, &mut warm_up);
        lint(&settings, warm_up.as_ref(), true)
    }
}

impl<M: Manager> Builder<M> {
    /// What is legal and unwise. Rules about what servers and networks do are left out where the manager has nothing to
    /// check ([`Manager::can_validate`]), as over files.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{Pool, RetryPolicy};
    ///
    /// let builder = Pool::builder(|| Ok::<_, std::io::Error>(())).retry(RetryPolicy::default().jitter(0.0));
    /// for lint in builder.lint() {
    ///     eprintln!("{lint}"); // or log::warn!
    /// }
    /// assert_eq!(builder.lint()[0].code, "retry-in-step");
    /// # let pool = builder.build()?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn lint(&self) -> Vec<Lint> {
        lint(&self.settings, self.warm_up.as_ref(), self.manager.can_validate())
    }
}

fn lint(settings: &Settings, warm_up: Option<&WarmUp>, checked: bool) -> Vec<Lint> {
    let seen = Seen { settings, start_up: &settings.start_up(), warm_up, checked, usual: &Settings::default() };
    let meets = |rule: &Rule| {
        let Rule { code, fields, when, why, instead, source, meets } = *rule;
        Some(Lint { code, fields, when, found: meets(&seen)?, why, instead, source })
    };
    rules().filter_map(meets).collect()
}
