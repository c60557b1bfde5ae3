//! Settings for the places where a program runs.

use super::PoolConfig;
use super::value::Value;
use crate::Error;

/// A setting, its values in development, staging and production, and the reason.
type Row = (&'static str, [&'static str; 3], &'static str);

/// The presets, as `docs/configuration.md` shows them. What is left open is the builder's default.
const TABLE: [Row; 10] = [
    (
        "max_size",
        ["4", "", ""],
        "small at one's desk, so that what borrows too much is found there; elsewhere it is a sum (`millpond::sizing`)",
    ),
    (
        "min_idle",
        ["0", "1", "1"],
        "the first caller after a quiet time does not wait for a handshake; at one's desk it may. No more, so that it goes with every `max_size`",
    ),
    (
        "connection_timeout",
        ["2s", "5s", "5s"],
        "as long as a restart of the server takes; at one's desk somebody looks at the screen",
    ),
    (
        "max_lifetime",
        ["30m", "30m", "30m"],
        "moves load to servers that are new, and ends what has grown in a session; below the time-outs of servers and proxies",
    ),
    (
        "idle_timeout",
        ["1m", "10m", "10m"],
        "what is idle at one's desk is in the way of migrations and of dropping the database; elsewhere opening costs more than keeping",
    ),
    (
        "keepalive",
        ["2m", "2m", "2m"],
        "below the idle time-outs of load balancers and NAT gateways, which begin at 4 min",
    ),
    (
        "max_waiting",
        ["none", "256", "256"],
        "more than usual servers have threads: what is beyond is a fault that must not queue. Staging is to be refused what production is",
    ),
    (
        "when_down",
        ["fail_fast", "wait", "wait"],
        "a server that nobody has started is told of at once; one that restarts is waited for",
    ),
    (
        "nested",
        ["deny", "warn", "warn"],
        "who borrows twice learns it before it can deadlock; in production it may work nearly always, so it is told and allowed",
    ),
    (
        "leak_threshold",
        ["5s", "10s", "1m"],
        "much longer than a connection should be held, and in production than the slowest report usually takes",
    ),
];

impl PoolConfig {
    /// For a programmer's own machine: what goes wrong is to be seen early.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{ErrorKind, Pool, pool_config::PoolConfig};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).config(&PoolConfig::development()).build()?;
    /// let outer = pool.get()?;
    /// assert_eq!(pool.get().unwrap_err().kind(), ErrorKind::Deadlock);
    /// # drop(outer);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn development() -> Self {
        preset(0)
    }

    /// For tests before production: behaves as production, and is quicker to warn.
    #[must_use]
    pub fn staging() -> Self {
        preset(1)
    }

    /// For production. It says nothing about `max_size`, which depends on the program, the server and the number of
    /// processes.
    #[must_use]
    pub fn production() -> Self {
        preset(2)
    }

    /// The preset of that name, also in short: `dev`, `development`, `staging`, `stage`, `prod`, `production`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::pool_config::PoolConfig;
    ///
    /// let place = std::env::var("APP_ENV").unwrap_or_else(|_| "development".to_owned());
    /// let config = PoolConfig::preset(&place)?;
    /// # assert_eq!(config, PoolConfig::development());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn preset(name: &str) -> Result<Self, Error> {
        match name.trim().to_ascii_lowercase().as_str() {
            "development" | "dev" => Ok(Self::development()),
            "staging" | "stage" => Ok(Self::staging()),
            "production" | "prod" => Ok(Self::production()),
            _ => {
                let name = Value::Text(name.to_owned());
                Err(Error::config(&[format!("preset is {name}, but it must be development, staging or production")]))
            }
        }
    }
}

fn preset(place: usize) -> PoolConfig {
    let mut config = PoolConfig::default();
    for (name, slot) in config.slots() {
        let row = TABLE.iter().find(|(row, ..)| *row == name);
        let Some(text) = row.and_then(|(_, values, _)| values.get(place)).filter(|text| !text.is_empty()) else {
            continue;
        };
        slot.read(&Value::Text((*text).to_owned())).expect("a test reads all presets");
    }
    config
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_in_each_preset() {
        for (place, config) in
            [PoolConfig::development(), PoolConfig::staging(), PoolConfig::production()].into_iter().enumerate()
        {
            let given: Vec<_> = config.written().into_iter().map(|(name, _)| name).collect();
            for (name, values, _) in TABLE {
                assert_eq!(given.contains(&name), values.get(place).is_some_and(|text| !text.is_empty()), "{name}");
            }
            config.validate().expect("a pool can be built");
            assert_eq!(config.lint(), []);
        }
    }

    #[test]
    fn the_documentation_shows_the_presets_as_they_are() {
        let mut table =
            "| setting | development | staging | production | because |\n|---|---|---|---|---|\n".to_owned();
        for (name, values, reason) in TABLE {
            let [development, staging, production] = values.map(|text| match text {
                "" => "–".to_owned(),
                text => format!("`{text}`"),
            });
            table.push_str(&format!("| `{name}` | {development} | {staging} | {production} | {reason} |\n"));
        }
        let page = include_str!("../../docs/configuration.md");
        assert!(page.contains(&table), "docs/configuration.md is to have\n\n{table}");
    }
}
