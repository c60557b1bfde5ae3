//! From keys and values, whoever has written them, to settings, with everything that is wrong.

use super::PoolConfig;
use super::value::Value;
use crate::redact::redact;
use std::collections::BTreeMap;

/// A key that stands somewhere, and its value.
pub(super) struct Given {
    /// As it is written there.
    pub(super) spelled: String,
    /// As a setting would be called in a file.
    pub(super) key: String,
    pub(super) value: Value,
}

/// Names that mean a setting elsewhere: r2d2, HikariCP, deadpool, sqlx, SQLAlchemy, Rails, diesel's examples.
const ELSEWHERE: [(&str, &str); 24] = [
    ("size", "max_size"),
    ("pool_size", "max_size"),
    ("max", "max_size"),
    ("max_connections", "max_size"),
    ("max_conns", "max_size"),
    ("max_open", "max_size"),
    ("maximum_pool_size", "max_size"),
    ("min", "min_idle"),
    ("min_size", "min_idle"),
    ("min_connections", "min_idle"),
    ("minimum_idle", "min_idle"),
    ("timeout", "connection_timeout"),
    ("pool_timeout", "connection_timeout"),
    ("wait_timeout", "connection_timeout"),
    ("acquire_timeout", "connection_timeout"),
    ("checkout_timeout", "connection_timeout"),
    ("recycle", "max_lifetime"),
    ("pool_recycle", "max_lifetime"),
    ("max_age", "max_lifetime"),
    ("keepalive_time", "keepalive"),
    ("test_on_check_out", "validation"),
    ("test_before_acquire", "validation"),
    ("pool_pre_ping", "validation"),
    ("leak_detection_threshold", "leak_threshold"),
];

/// What the name of a time may end in, and what its value is then.
const UNITS: [(&str, &str, &str); 2] = [("_secs", "s", "seconds"), ("_ms", "ms", "milliseconds")];

/// A key that is longer than this is no slip of the pen.
const LONGEST: usize = 60;

/// All settings, or all problems. `spell` makes of a setting's name what its key would be where these come from.
pub(super) fn gather(
    given: impl IntoIterator<Item = Given>,
    spell: &dyn Fn(&str) -> String,
) -> Result<PoolConfig, Vec<String>> {
    let mut config = PoolConfig::default();
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    for Given { spelled, key, value } in given {
        let key = flat(&key);
        let spelled = shown(&spelled);
        let Some((name, unit)) = find(&mut config, &key) else {
            problems.push(unknown(&mut config, &spelled, &key, spell));
            continue;
        };
        if let Some(other) = seen.insert(name, spelled.clone()) {
            problems.push(format!("{other} and {spelled} are both given, and are the same setting"));
            continue;
        }
        problems.extend(read(&mut config, name, unit, &value).err().map(|problem| format!("{spelled} is {problem}")));
    }
    // By the spelling that was found, where there is one: it may end in a unit.
    let found = |name: &str| seen.get(name).cloned().unwrap_or_else(|| spell(name));
    problems.extend(config.own_problems(&found));
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The setting that a key means, and the unit in which it is given, where the key says so.
fn find(config: &mut PoolConfig, key: &str) -> Option<(&'static str, Option<Unit>)> {
    let slots = config.slots();
    if let Some((name, _)) = slots.iter().find(|(name, _)| flat(name) == key) {
        return Some((name, None));
    }
    UNITS.into_iter().find_map(|unit| {
        let stem = key.strip_suffix(unit.0)?;
        let (name, _) = slots.iter().find(|(name, slot)| slot.is_time() && flat(name) == stem)?;
        Some((*name, Some(unit)))
    })
}

type Unit = (&'static str, &'static str, &'static str);

fn read(config: &mut PoolConfig, name: &str, unit: Option<Unit>, value: &Value) -> Result<(), String> {
    if value.is_empty() {
        return Err("empty: leave it out to have the default".to_owned());
    }
    let plain;
    let value = match unit {
        None => value,
        Some((_, unit, words)) => {
            plain = value.in_unit(unit).ok_or_else(|| format!("{value}, but it must be a plain number of {words}"))?;
            &plain
        }
    };
    let slot = config.slots().into_iter().find(|(slot, _)| *slot == name);
    match slot.map_or(Ok(()), |(_, slot)| slot.read(value)) {
        Ok(()) => Ok(()),
        Err(expected) => Err(format!("{value}, but it must be {expected}")),
    }
}

/// The value is not repeated: what is misplaced may be a password.
fn unknown(config: &mut PoolConfig, spelled: &str, key: &str, spell: &dyn Fn(&str) -> String) -> String {
    let names: Vec<_> = config.slots().into_iter().map(|(name, _)| name).collect();
    match nearest(key, &names) {
        Some(name) => format!("{spelled} is not a setting: {} is", spell(name)),
        None => format!("{spelled} is not a setting"),
    }
}

fn nearest(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let stem = UNITS.iter().find_map(|(suffix, ..)| key.strip_suffix(suffix)).unwrap_or(key);
    if let Some((_, name)) = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == stem) {
        return Some(name);
    }
    if stem.len() > LONGEST {
        return None;
    }
    // A group where one of its settings was meant.
    if let Some(name) = names.iter().find(|name| name.split_once('.').is_some_and(|(group, _)| group == stem)) {
        return Some(name);
    }
    let (distance, name) = names.iter().map(|name| (distance(stem, &flat(name)), *name)).min()?;
    (distance <= name.len() / 3).then_some(name)
}

/// How many letters are to be put in, taken out or changed to make one word of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (above, b) in row.iter_mut().skip(1).zip(to.chars()) {
            let cost = diagonal + usize::from(a != b);
            diagonal = *above;
            left = cost.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// `retry.max_delay` as `retry_max_delay`, which is all that the environment can say.
fn flat(name: &str) -> String {
    name.replace('.', "_")
}

/// A key as errors repeat it.
fn shown(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !key.is_empty() && key.len() <= 2 * LONGEST && key.chars().all(plain) {
        return key.to_owned();
    }
    let begin: String = redact(key).chars().take(LONGEST).collect();
    format!("{begin:?}")
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_number_of_slips() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("max_size", "max_size", 0),
            ("mx_sise", "max_size", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn no_two_settings_are_one_variable_and_every_name_elsewhere_means_a_setting() {
        let mut config = PoolConfig::default();
        let names: Vec<_> = config.slots().into_iter().map(|(name, _)| name).collect();
        let mut keys: Vec<_> = names.iter().map(|name| flat(name)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), names.len());
        for (elsewhere, name) in ELSEWHERE {
            assert!(names.contains(&name), "{name}");
            assert!(!keys.contains(&elsewhere.to_owned()), "{elsewhere} is a setting here");
        }
        for (suffix, ..) in UNITS {
            assert!(keys.iter().all(|key| !key.ends_with(suffix)), "{suffix}");
        }
    }
}
