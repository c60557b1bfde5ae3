//! Values as they are written: what a setting takes, and how it is written again.

use crate::config::in_brief;
use crate::redact::redact;
use crate::{Fairness, Maintenance, Nested, Validation, WhenDown};
use std::fmt;
use std::time::Duration;

use super::WarmUpMode;

/// More of a value than this is not repeated in an error.
const SHOWN: usize = 60;
/// Words for "this is switched off".
const NONE: [&str; 3] = ["none", "off", "never"];

/// What stands in a file or in the environment.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(i128),
    Real(f64),
    Truth(bool),
    /// Something else, which no setting takes, in words.
    Other(&'static str),
}

impl Value {
    /// The value of a setting whose name ends in a unit: digits, perhaps with a decimal point, and nothing else.
    pub(super) fn in_unit(&self, unit: &str) -> Option<Self> {
        let number = match self {
            Self::Text(text) => text.trim().to_owned(),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Truth(_) | Self::Other(_) => return None,
        };
        let duration = plain_seconds(&number)?;
        let duration = if unit == "ms" { duration / 1000 } else { duration };
        Some(duration.show())
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.trim().is_empty())
    }
}

/// As errors repeat it: without secrets, and not at length.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Something that was meant for the client: none of it is a setting of a pool.
            Self::Text(text) if text.contains("://") => f.write_str("a URL"),
            Self::Text(text) if text.contains('@') => f.write_str("text with an @, which is not shown"),
            Self::Text(text) if text.chars().count() > SHOWN => {
                let begin: String = redact(text).chars().take(SHOWN).collect();
                write!(f, "{begin:?}…")
            }
            Self::Text(text) => write!(f, "{:?}", redact(text)),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Real(number) => f.write_str(&in_brief(*number)),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// What a setting may be.
pub(super) trait Setting: Sized + Clone {
    /// In words, after "it must be".
    const EXPECTED: &'static str;
    fn read(value: &Value) -> Option<Self>;
    fn show(&self) -> Value;
    /// Whether the name may end in a unit.
    fn is_time() -> bool {
        false
    }
}

/// A setting that may have been given or not, of whatever type.
pub(super) trait Slot {
    fn read(&mut self, value: &Value) -> Result<(), &'static str>;
    fn show(&self) -> Option<Value>;
    fn is_time(&self) -> bool;
}

impl<T: Setting> Slot for Option<T> {
    fn read(&mut self, value: &Value) -> Result<(), &'static str> {
        *self = Some(T::read(value).ok_or(T::EXPECTED)?);
        Ok(())
    }

    fn show(&self) -> Option<Value> {
        self.as_ref().map(T::show)
    }

    fn is_time(&self) -> bool {
        T::is_time()
    }
}

fn whole<T: TryFrom<i128> + std::str::FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::Whole(number) => T::try_from(*number).ok(),
        Value::Text(text) if is_digits(text.trim()) => text.trim().parse().ok(),
        _ => None,
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "a whole number up to 4294967295";

    fn read(value: &Value) -> Option<Self> {
        whole(value)
    }

    fn show(&self) -> Value {
        Value::Whole((*self).into())
    }
}

impl Setting for Option<u32> {
    const EXPECTED: &'static str = "a whole number up to 4294967295, or none";

    fn read(value: &Value) -> Option<Self> {
        or_none(value, whole)
    }

    fn show(&self) -> Value {
        self.as_ref().map_or_else(none, Setting::show)
    }
}

impl Setting for Option<u64> {
    const EXPECTED: &'static str = "a whole number, or none";

    fn read(value: &Value) -> Option<Self> {
        or_none(value, whole)
    }

    fn show(&self) -> Value {
        // A number that files cannot hold (TOML ends at 2^63) is written as text, which is read as well.
        self.map_or_else(none, |number| match i64::try_from(number) {
            Ok(number) => Value::Whole(number.into()),
            Err(_) => Value::Text(number.to_string()),
        })
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Real(number) => Some(*number),
            Value::Whole(number) => Some(*number as Self),
            Value::Text(text) if is_plain(text.trim()) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Real(*self)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false (or yes, no, on, off, 1, 0)";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Truth(truth) => Some(*truth),
            Value::Whole(1) => Some(true),
            Value::Whole(0) => Some(false),
            Value::Text(text) => match word(text).as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Truth(*self)
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "text";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(redact(text).into_owned()),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Text(redact(self).into_owned())
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a duration such as 30s, 500ms or 1h 30m, or a number of seconds";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Whole(seconds) => u64::try_from(*seconds).ok().map(Self::from_secs),
            Value::Real(seconds) => Self::try_from_secs_f64(*seconds).ok(),
            Value::Text(text) => plain_seconds(text.trim()).or_else(|| humantime::parse_duration(text).ok()),
            _ => None,
        }
    }

    fn show(&self) -> Value {
        Value::Text(humantime::format_duration(*self).to_string())
    }

    fn is_time() -> bool {
        true
    }
}

impl Setting for Option<Duration> {
    const EXPECTED: &'static str = "a duration such as 30s, 500ms or 1h 30m, a number of seconds, or none";

    fn read(value: &Value) -> Option<Self> {
        or_none(value, Duration::read)
    }

    fn show(&self) -> Value {
        self.as_ref().map_or_else(none, Setting::show)
    }

    fn is_time() -> bool {
        true
    }
}

impl Setting for Validation {
    const EXPECTED: &'static str = "always, never, or for how long a connection has been idle, such as 500ms";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) if word(text) == "always" => Some(Self::Always),
            _ => Some(or_none(value, some_time)?.map_or(Self::Never, Self::IfIdleFor)),
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::Always | Self::IfIdleFor(Duration::ZERO) => Value::Text("always".to_owned()),
            Self::IfIdleFor(time) => time.show(),
            Self::Never => Value::Text("never".to_owned()),
        }
    }
}

impl Setting for Fairness {
    const EXPECTED: &'static str = "strict, or how long the oldest waits before it comes first, such as 1ms";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) if word(text) == "strict" => Some(Self::Strict),
            _ => some_time(value).map(Self::Bounded),
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::Strict | Self::Bounded(Duration::ZERO) => Value::Text("strict".to_owned()),
            Self::Bounded(time) => time.show(),
        }
    }
}

const WHEN_DOWN: [(&str, WhenDown); 2] = [("wait", WhenDown::Wait), ("fail_fast", WhenDown::FailFast)];
const NESTED: [(&str, Nested); 3] = [("allow", Nested::Allow), ("warn", Nested::Warn), ("deny", Nested::Deny)];
const MAINTENANCE: [(&str, Maintenance); 2] =
    [("background", Maintenance::Background), ("manual", Maintenance::Manual)];
const MODES: [(&str, WarmUpMode); 3] =
    [("lazy", WarmUpMode::Lazy), ("background", WarmUpMode::Background), ("blocking", WarmUpMode::Blocking)];

impl Setting for WhenDown {
    const EXPECTED: &'static str = "wait or fail_fast";

    fn read(value: &Value) -> Option<Self> {
        choose(value, &WHEN_DOWN)
    }

    fn show(&self) -> Value {
        chosen(self, &WHEN_DOWN)
    }
}

impl Setting for Nested {
    const EXPECTED: &'static str = "allow, warn or deny";

    fn read(value: &Value) -> Option<Self> {
        choose(value, &NESTED)
    }

    fn show(&self) -> Value {
        chosen(self, &NESTED)
    }
}

impl Setting for Maintenance {
    const EXPECTED: &'static str = "background or manual";

    fn read(value: &Value) -> Option<Self> {
        choose(value, &MAINTENANCE)
    }

    fn show(&self) -> Value {
        chosen(self, &MAINTENANCE)
    }
}

impl Setting for WarmUpMode {
    const EXPECTED: &'static str = "lazy, background or blocking";

    fn read(value: &Value) -> Option<Self> {
        choose(value, &MODES)
    }

    fn show(&self) -> Value {
        chosen(self, &MODES)
    }
}

/// Without what people vary: case, and what they put between words.
fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace(['_', '-', ' '], "")
}

fn or_none<T>(value: &Value, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    match value {
        Value::Text(text) if NONE.contains(&word(text).as_str()) => Some(None),
        _ => read(value).map(Some),
    }
}

fn none() -> Value {
    Value::Text("none".to_owned())
}

fn choose<T: Clone>(value: &Value, words: &[(&str, T)]) -> Option<T> {
    let Value::Text(text) = value else { return None };
    words.iter().find(|(name, _)| word(name) == word(text)).map(|(_, choice)| choice.clone())
}

fn chosen<T: PartialEq>(choice: &T, words: &[(&str, T)]) -> Value {
    let name = words.iter().find(|(_, other)| other == choice).map_or("", |(name, _)| name);
    Value::Text(name.to_owned())
}

/// A time where there is a word for doing it at once: nobody who writes 0 means that.
fn some_time(value: &Value) -> Option<Duration> {
    Duration::read(value).filter(|time| !time.is_zero())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits, perhaps a decimal point and more digits. Neither signs nor exponents, which nobody means.
fn is_plain(text: &str) -> bool {
    text.split_once('.').map_or(is_digits(text), |(whole, part)| is_digits(whole) && is_digits(part))
}

/// A number of seconds.
fn plain_seconds(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) if is_digits(text) => Some(Duration::from_secs(seconds)),
        _ if is_plain(text) && text.contains('.') => Duration::try_from_secs_f64(text.parse().ok()?).ok(),
        _ => None,
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duration(text: &str) -> Option<Duration> {
        Duration::read(&Value::Text(text.to_owned()))
    }

    #[test]
    fn durations_are_what_people_write() {
        for (text, millis) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            (" 30 ", 30_000),
            ("0.5", 500),
            ("30", 30_000),
            ("0", 0),
            ("0s", 0),
            ("2min", 120_000),
            ("1 day", 86_400_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "-1", "+1", "1e3", "inf", "nan", ".5", "5.", "1.2.3", "s", "10 lightyears", "99999999999999999999"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(Duration::read(&Value::Real(0.25)), Some(Duration::from_millis(250)));
        for value in [Value::Whole(-1), Value::Real(f64::NAN), Value::Real(-0.5), Value::Real(f64::INFINITY)] {
            assert_eq!(Duration::read(&value), None, "{value}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(
            (u32::read(&text(" 5 ")), f64::read(&text("2")), f64::read(&text("0.5"))),
            (Some(5), Some(2.0), Some(0.5))
        );
        for odd in ["+5", "-5", "5.", ".5", "1e3", "inf", "NaN", "0x10", "1_000", "٣", ""] {
            let read = (u32::read(&text(odd)), Option::<u64>::read(&text(odd)), f64::read(&text(odd)));
            assert_eq!(read, (None, None, None), "{odd}");
        }
    }

    #[test]
    fn zero_is_no_word_for_always_nor_for_never() {
        for zero in [Value::Whole(0), Value::Real(0.0), Value::Text("0".to_owned()), Value::Text("0ms".to_owned())] {
            assert_eq!((Validation::read(&zero), Fairness::read(&zero)), (None, None), "{zero}");
        }
        // A program may say it, and it means what it did.
        let (validation, fairness) = (Validation::IfIdleFor(Duration::ZERO), Fairness::Bounded(Duration::ZERO));
        assert_eq!(Validation::read(&validation.show()), Some(Validation::Always));
        assert_eq!(Fairness::read(&fairness.show()), Some(Fairness::Strict));
    }

    #[test]
    fn a_unit_in_the_name_takes_a_plain_number() {
        let millis = |value: Value, unit| value.in_unit(unit).and_then(|value| Duration::read(&value));
        assert_eq!(millis(Value::Text("30".to_owned()), "s"), Some(Duration::from_secs(30)));
        assert_eq!(millis(Value::Whole(250), "ms"), Some(Duration::from_millis(250)));
        assert_eq!(millis(Value::Text("0.5".to_owned()), "s"), Some(Duration::from_millis(500)));
        for value in
            [Value::Text("30s".to_owned()), Value::Text("none".to_owned()), Value::Truth(true), Value::Whole(-1)]
        {
            assert_eq!(millis(value, "s"), None);
        }
    }

    #[test]
    fn an_error_repeats_no_secret_and_no_novel() {
        let text = |text: &str| Value::Text(text.to_owned()).to_string();
        assert_eq!(text("redis://:s3cr3t@db"), "a URL");
        assert_eq!(text("password=s3cr3t"), r#""password=***""#);
        assert_eq!(text("user:s3cr3t@host:5432/db"), "text with an @, which is not shown");
        assert_eq!(text("five\n"), r#""five\n""#);
        assert_eq!(Value::Real(1e308).to_string(), "1e308");
        assert_eq!(Value::Real(-1e-300).to_string(), "-1e-300");
        assert_eq!((Value::Real(7.0).to_string(), Value::Real(0.25).to_string()), ("7".to_owned(), "0.25".to_owned()));
        assert!(text(&"long".repeat(1000)).len() < 80);
    }

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_was_written(seconds in any::<u64>(), nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(Duration::read(&duration.show()), Some(duration));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*") {
            let value = Value::Text(text);
            drop((Duration::read(&value), Validation::read(&value), Option::<u64>::read(&value), value.to_string()));
        }
    }
}
