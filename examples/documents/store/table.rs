//! Documents by id, and the choice of some of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::value::{Fields, Value};

/// By id, in its order.
pub(crate) type Table = BTreeMap<String, Document>;

/// Tables by name, whatever that is made of.
pub(crate) struct Tables<K>(RwLock<BTreeMap<K, Table>>);

impl<K> Default for Tables<K> {
    fn default() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }
}

/// No panic can leave a document half written here, so the poison of the lock says nothing.
impl<K: Ord> Tables<K> {
    /// A table that is not there is an empty one.
    pub(crate) fn read<R>(&self, name: &K, act: impl FnOnce(&Table) -> R) -> R {
        act(self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).unwrap_or(&Table::new()))
    }

    pub(crate) fn write<R>(&self, name: K, act: impl FnOnce(&mut Table) -> R) -> R {
        act(self.0.write().unwrap_or_else(PoisonError::into_inner).entry(name).or_default())
    }
}

#[derive(Clone, Default)]
pub(crate) struct Document {
    pub(crate) fields: Fields,
    /// In nanoseconds since 1970, as a store tells it of a document.
    pub(crate) created: u128,
    pub(crate) updated: u128,
}

#[derive(Default)]
pub(crate) struct Query {
    /// All have to hold.
    pub(crate) filters: Vec<Filter>,
    /// Fields, and whether the largest comes first. The id decides between those that are alike.
    pub(crate) order: Vec<(String, bool)>,
    pub(crate) start: usize,
    pub(crate) limit: Option<usize>,
}

pub(crate) struct Filter {
    pub(crate) field: String,
    pub(crate) operator: Operator,
    pub(crate) value: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The field is a list that has the value in it.
    Contains,
    /// The field is there at all; the value says nothing.
    Present,
}

impl Filter {
    /// Whether a document passes. One without the field passes none, and smaller and larger are only told of values of
    /// the same kind.
    fn admits(&self, fields: &Fields) -> bool {
        let Some(value) = fields.get(&self.field) else { return false };
        let order = value.order(&self.value);
        let comparable = value.is_same_kind(&self.value);
        match self.operator {
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::Less => comparable && order.is_lt(),
            Operator::LessOrEqual => comparable && order.is_le(),
            Operator::Greater => comparable && order.is_gt(),
            Operator::GreaterOrEqual => comparable && order.is_ge(),
            Operator::Contains => {
                matches!(value, Value::Array(values) if values.iter().any(|value| value.order(&self.value).is_eq()))
            }
            Operator::Present => true,
        }
    }
}

impl Query {
    /// Those among these that are asked for, in the order that is asked for. Looks at every one.
    pub(crate) fn select<'a>(
        &self,
        among: impl Iterator<Item = (&'a String, &'a Document)>,
    ) -> Vec<(&'a String, &'a Document)> {
        let passes = |document: &Document| self.filters.iter().all(|filter| filter.admits(&document.fields));
        let mut found: Vec<_> = among.filter(|(_, document)| passes(document)).collect();
        // Stable, so that what is alike stays in the order of ids in which it came.
        found.sort_by(|(_, a), (_, b)| self.compare(&a.fields, &b.fields));
        found.into_iter().skip(self.start).take(self.limit.unwrap_or(usize::MAX)).collect()
    }

    fn compare(&self, a: &Fields, b: &Fields) -> Ordering {
        let each = self.order.iter().map(|(field, descending)| {
            let order = match (a.get(field), b.get(field)) {
                (Some(a), Some(b)) => a.order(b),
                // What is not there comes first.
                (a, b) => a.is_some().cmp(&b.is_some()),
            };
            if *descending { order.reverse() } else { order }
        });
        each.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}
