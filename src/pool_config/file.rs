//! Settings from and to files, through serde.

use super::PoolConfig;
use super::gather::{Given, gather};
use super::value::Value;
use crate::Error;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// From formats that say what their values are, such as TOML, JSON and YAML. All that is wrong is in one error, each with
/// its key.
impl<'de> Deserialize<'de> for PoolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = deserializer.deserialize_map(Table)?;
        let given = entries.into_iter().flat_map(|(key, entry)| match entry {
            Entry::Table(inner) if GROUPS.contains(&key.as_str()) => {
                let within = inner.into_iter().map(|(inner, entry)| (format!("{key}.{inner}"), entry.value()));
                within.collect::<Vec<_>>()
            }
            entry => vec![(key, entry.value())],
        });
        let given = given.map(|(key, value)| Given { spelled: key.clone(), key, value });
        gather(given, &str::to_owned).map_err(|problems| de::Error::custom(Error::config(&problems)))
    }
}

/// What is given, and nothing else; in a name no password.
impl Serialize for PoolConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = self.written();
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in written.iter().filter(|(name, _)| !name.contains('.')) {
            map.serialize_entry(name, value)?;
        }
        for group in GROUPS {
            let within = Group { group, written: &written };
            if within.entries().next().is_some() {
                map.serialize_entry(group, &within)?;
            }
        }
        map.end()
    }
}

/// Settings that are tables of their own.
const GROUPS: [&str; 4] = ["retry", "start_up", "warm_up", "adaptive"];

struct Group<'a> {
    group: &'a str,
    written: &'a [(&'static str, Value)],
}

impl<'a> Group<'a> {
    fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let group = self.group;
        self.written.iter().filter_map(move |(name, value)| {
            let rest = name.strip_prefix(group)?.strip_prefix('.')?;
            Some((rest, value))
        })
    }
}

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Other(what) => serializer.serialize_str(what),
            // No setting is written as a number beyond these.
            Self::Whole(number) => serializer.serialize_i64(i64::try_from(*number).unwrap_or(i64::MAX)),
            Self::Real(number) => serializer.serialize_f64(*number),
            Self::Truth(truth) => serializer.serialize_bool(*truth),
        }
    }
}

/// What stands in a file. What is wrong with it is said later, together with everything else.
enum Entry {
    Value(Value),
    Table(Vec<(String, Self)>),
}

impl Entry {
    fn value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Table(_) => Value::Other("a table"),
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting of a pool")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Entry, E> {
        Ok(Entry::Value(Value::Truth(truth)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Entry, E> {
        Ok(Entry::Value(Value::Whole(number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Entry, E> {
        Ok(Entry::Value(Value::Whole(number.into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Entry, E> {
        Ok(Entry::Value(Value::Real(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry::Value(Value::Text(text.to_owned())))
    }

    /// "No limit" to some and "not given" to others.
    fn visit_unit<E: de::Error>(self) -> Result<Entry, E> {
        Ok(Entry::Value(Value::Other("null (leave it out, or say \"none\")")))
    }

    fn visit_none<E: de::Error>(self) -> Result<Entry, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry::Value(Value::Other("a list")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        Table.visit_map(map).map(Entry::Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Vec<(String, Entry)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with the settings of a pool")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}
