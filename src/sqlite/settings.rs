//! What a database is opened with.

use rusqlite::Connection;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How SQLite keeps a half-done transaction from harming the file (`PRAGMA journal_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalMode {
    /// A write-ahead log: readers do not wait for the writer, nor the writer for them. The default. It needs shared memory
    /// between the processes that use the file, so not a network's file system.
    #[default]
    Wal,
    /// A rollback journal that is deleted with every transaction: SQLite's own default. A writer waits for all readers.
    Delete,
    /// A rollback journal that is cut to nothing.
    Truncate,
    /// A rollback journal that is overwritten.
    Persist,
    /// Whatever the file has.
    Keep,
}

/// When SQLite waits for the disk (`PRAGMA synchronous`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Synchronous {
    /// Never: after a loss of power the file may be damaged. For what can be made anew.
    Off,
    /// At checkpoints. With a write-ahead log the file stays whole, and a loss of power (not of the process) may cost the
    /// last transactions. The default, as Rails and Litestream have it.
    #[default]
    Normal,
    /// At each transaction: what is committed stays. SQLite's own default.
    Full,
    /// As `Full`, and the folder too.
    Extra,
}

/// What is looked at when a connection comes back. An open transaction is rolled back in any case, which costs a few
/// nanoseconds where there is none; and a connection with a statement that was left unfinished is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnReturn {
    /// Nothing else.
    RollBack,
    /// Whether its borrower has attached a database, made something temporary or changed a setting of the session (`PRAGMA
    /// query_only`, `foreign_keys` and so on): such a connection is closed, and another one opened when it is needed (30 to
    /// 50 µs). The default. It is noticed when SQLite prepares such a statement, so it costs nothing as long as nobody does,
    /// and a microsecond a return while a connection with such changes is open.
    ///
    /// Not noticed: what is set through functions of rusqlite (functions, collations, hooks, limits, `set_db_config`,
    /// extensions), and all of it once somebody sets an authorizer. Who does that
    /// [discards](crate::PooledConnection::discard) the connection. What [`Builder::on_open`](crate::Builder::on_open) changes
    /// belongs to every connection and is no change: what the thread does that opened the connection does not count. In a
    /// pool [without threads](crate::Maintenance::Manual) that is the first borrower, whose changes are not noticed.
    #[default]
    Detect,
}

impl JournalMode {
    pub(super) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Wal => Some("wal"),
            Self::Delete => Some("delete"),
            Self::Truncate => Some("truncate"),
            Self::Persist => Some("persist"),
            Self::Keep => None,
        }
    }
}

impl Synchronous {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Normal => "normal",
            Self::Full => "full",
            Self::Extra => "extra",
        }
    }
}

/// A user's function over a new connection.
pub(super) type Hook = Arc<dyn Fn(&mut Connection) -> rusqlite::Result<()> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) journal_mode: JournalMode,
    pub(super) synchronous: Synchronous,
    pub(super) foreign_keys: bool,
    pub(super) busy_timeout: Duration,
    pub(super) journal_size_limit: Option<u64>,
    pub(super) statement_cache: Option<usize>,
    pub(super) must_exist: bool,
    pub(super) pragmas: Vec<Pragma>,
    pub(super) on_connect: Option<Hook>,
    pub(super) on_first_connect: Option<Hook>,
    pub(super) on_return: OnReturn,
    pub(super) optimize_on_close: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            journal_mode: JournalMode::default(),
            synchronous: Synchronous::default(),
            foreign_keys: true,
            busy_timeout: Duration::from_secs(5),
            journal_size_limit: Some(64 << 20),
            statement_cache: None,
            must_exist: false,
            pragmas: Vec::new(),
            on_connect: None,
            on_first_connect: None,
            on_return: OnReturn::default(),
            optimize_on_close: true,
        }
    }
}

/// A setting of a connection, beside those that have a function of their own.
#[derive(Clone)]
pub(super) struct Pragma {
    pub(super) name: String,
    pub(super) value: String,
}

/// When a setting is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Without the key nothing can be read.
    Key,
    /// What shapes a new file, before the journal mode writes it.
    Shape,
    /// After everything else.
    Rest,
}

impl Pragma {
    pub(super) fn turn(&self) -> Turn {
        let name = self.name.to_ascii_lowercase();
        match name.as_str() {
            _ if self.is_secret() || name.starts_with("cipher") => Turn::Key,
            "page_size" | "encoding" | "auto_vacuum" | "locking_mode" => Turn::Shape,
            _ => Turn::Rest,
        }
    }

    pub(super) fn is_secret(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        ["key", "hexkey", "rekey", "hexrekey", "textkey", "textrekey"].contains(&name.as_str())
    }

    pub(super) fn is_name(&self) -> bool {
        !self.name.is_empty() && self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// A number as it is, anything else as a text.
    pub(super) fn sql(&self) -> String {
        // SQLite would read a key like `+123` as a number, and lose the sign.
        let value = if !self.is_secret() && self.value.parse::<f64>().is_ok_and(f64::is_finite) {
            self.value.clone()
        } else {
            format!("'{}'", self.value.replace('\'', "''"))
        };
        format!("PRAGMA {} = {value}", self.name)
    }
}

/// As a person would write it; the value of a key is nobody's business.
impl fmt::Display for Pragma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_secret() { write!(f, "{} = ***", self.name) } else { write!(f, "{} = {}", self.name, self.value) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pragmas: Vec<_> = self.pragmas.iter().map(ToString::to_string).collect();
        f.debug_struct("Settings")
            .field("journal_mode", &self.journal_mode)
            .field("synchronous", &self.synchronous)
            .field("foreign_keys", &self.foreign_keys)
            .field("busy_timeout", &self.busy_timeout)
            .field("journal_size_limit", &self.journal_size_limit)
            .field("pragmas", &pragmas)
            .field("on_return", &self.on_return)
            .field("optimize_on_close", &self.optimize_on_close)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pragma(name: &str, value: &str) -> Pragma {
        Pragma { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_value_is_a_number_or_a_quoted_text_and_never_more_sql() {
        assert_eq!(pragma("cache_size", "-64000").sql(), "PRAGMA cache_size = -64000");
        assert_eq!(pragma("temp_store", "memory").sql(), "PRAGMA temp_store = 'memory'");
        assert_eq!(pragma("key", "it's; DROP").sql(), "PRAGMA key = 'it''s; DROP'");
        assert_eq!(pragma("x", "inf").sql(), "PRAGMA x = 'inf'");
        assert_eq!(pragma("key", "+17").sql(), "PRAGMA key = '+17'");
        assert!(!pragma("a; DROP", "1").is_name() && !pragma("", "1").is_name());
    }

    #[test]
    fn a_key_comes_first_and_is_never_shown() {
        let mut all = [pragma("cache_size", "1"), pragma("page_size", "8192"), pragma("KEY", "s3cret")];
        all.sort_by_key(Pragma::turn);
        let names: Vec<_> = all.iter().map(|pragma| pragma.name.as_str()).collect();
        assert_eq!(names, ["KEY", "page_size", "cache_size"]);
        let settings = Settings { pragmas: all.to_vec(), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
    }
}
