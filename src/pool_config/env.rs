//! Settings from the environment.

use super::PoolConfig;
use super::gather::{Given, gather};
use super::value::Value;
use crate::Error;
use std::ffi::OsStr;

impl PoolConfig {
    /// The settings in the environment of the process: `DB_POOL_MAX_SIZE`, `DB_POOL_RETRY_MAX_DELAY` and so on, where the
    /// prefix is `DB_POOL`. What is not there is not given.
    ///
    /// Everything that begins with the prefix and an underscore must be a setting, or is an error; so let the prefix be the
    /// pool's own. (A service called `db-pool` makes Kubernetes set `DB_POOL_SERVICE_HOST` and more: take another prefix, or
    /// `enableServiceLinks: false`.) Upper and lower case are the same. An empty value is an error: it is what is left
    /// where something was to be filled in and was not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong, each with its variable and value. The
    /// value of a variable that is no setting is not repeated, since it may be a password.
    pub fn from_env(prefix: &str) -> Result<Self, Error> {
        Self::from_vars(prefix, std::env::vars_os())
    }

    /// The same from variables of the caller's: a file of them, a part of the environment, a test.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::pool_config::PoolConfig;
    ///
    /// let config = PoolConfig::from_vars("DB_POOL", [("DB_POOL_MAX_LIFETIME", "none"), ("PATH", "/bin")])?;
    /// assert_eq!(config.max_lifetime, Some(None));
    ///
    /// let wrong = [("DB_POOL_MAX_SIZE", "0"), ("DB_POOL_KEEPALIVE", "often"), ("DB_POOL_URL", "redis://:s3cr3t@db")];
    /// let error = PoolConfig::from_vars("DB_POOL", wrong).unwrap_err().to_string();
    /// assert!(error.contains("DB_POOL_MAX_SIZE is 0"), "{error}");
    /// assert!(error.contains(r#"DB_POOL_KEEPALIVE is "often", but it must be a duration"#), "{error}");
    /// assert!(error.contains("DB_POOL_URL is not a setting") && !error.contains("s3cr3t"), "{error}");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn from_vars<K, V>(prefix: &str, vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let prefix = prefix.trim_end_matches('_');
        if prefix.is_empty() {
            // Each variable of the process would be a setting or an error.
            return Err(Error::config(&["prefix is empty, but it must say which variables are the pool's".to_owned()]));
        }
        let given = vars.into_iter().filter_map(|(key, value)| {
            let spelled = key.as_ref().to_string_lossy().into_owned();
            let key = under(prefix, &spelled)?.to_ascii_lowercase();
            let value = match value.as_ref().to_str() {
                Some(text) => Value::Text(text.to_owned()),
                None => Value::Other("text that is not UTF-8"),
            };
            Some(Given { spelled, key, value })
        });
        let spell = |name: &str| format!("{prefix}_{}", name.replace('.', "_").to_ascii_uppercase());
        gather(given, &spell).map_err(|problems| Error::config(&problems))
    }
}

/// What follows the prefix and an underscore.
fn under<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    let begin = key.get(..prefix.len())?;
    let rest = key.get(prefix.len()..)?;
    begin.eq_ignore_ascii_case(prefix).then_some(rest)?.strip_prefix('_')
}
