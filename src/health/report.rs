//! Many pools, as a list and as a table.

use super::{Health, HealthLevel};
use crate::text::on_one_line;
use crate::{Manager, Pool};
use std::collections::HashSet;
use std::fmt;

/// How many pools do, the worst first, and by name among those of the same level. Collected from [`Health`]s; prints as a
/// table.
///
/// # Examples
///
/// ```
/// use millpond::{HealthReport, Pool};
///
/// let open = || Ok::<_, std::io::Error>(());
/// let pools = [Pool::builder(open).name("cache").build()?, Pool::builder(open).name("orders").max_size(1).build()?];
/// let held = pools[1].get()?;
/// let report = HealthReport::of(&pools);
/// assert_eq!(
///     report.to_string(),
///     "warning  orders  1/1 in use  0 idle  0 waiting  the only connection is in use; nobody waits\n\
///      ok       cache   0/10 in use  1 idle  0 waiting\n"
/// );
/// # drop(held);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HealthReport {
    level: HealthLevel,
    pools: Vec<Health>,
}

impl HealthReport {
    /// How these pools do. A pool that is there several times, or a clone of one, is in it once.
    #[must_use]
    pub fn of<'a, M: Manager>(pools: impl IntoIterator<Item = &'a Pool<M>>) -> Self {
        let mut seen = HashSet::new();
        pools.into_iter().filter(|pool| seen.insert(pool.number())).map(Pool::health).collect()
    }

    /// The worst level of all pools; `Ok` where there are none.
    #[must_use]
    pub fn level(&self) -> HealthLevel {
        self.level
    }

    /// The pools, the worst first.
    #[must_use]
    pub fn pools(&self) -> &[Health] {
        &self.pools
    }

    /// Itself as JSON: see the [module](crate::health).
    ///
    /// # Examples
    ///
    /// ```
    /// use millpond::{HealthReport, Pool};
    ///
    /// let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build()?;
    /// let report: HealthReport = [pool.health()].into_iter().collect();
    /// let json: serde_json::Value = serde_json::from_str(&report.to_json())?;
    /// assert_eq!((&json["level"], &json["pools"][0]["pool"]), (&"ok".into(), &"orders".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    pub fn to_json(&self) -> String {
        crate::encode::json(self)
    }
}

impl FromIterator<Health> for HealthReport {
    fn from_iter<T: IntoIterator<Item = Health>>(pools: T) -> Self {
        let mut pools: Vec<Health> = pools.into_iter().collect();
        pools.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.pool.cmp(&b.pool)));
        Self { level: pools.first().map_or(HealthLevel::Ok, |worst| worst.level), pools }
    }
}

impl IntoIterator for HealthReport {
    type Item = Health;
    type IntoIter = std::vec::IntoIter<Health>;

    fn into_iter(self) -> Self::IntoIter {
        self.pools.into_iter()
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = self.pools.iter().map(|health| health.level.as_str().len()).max().unwrap_or(0);
        let names = self.pools.iter().map(|health| on_one_line(&health.pool).chars().count()).max().unwrap_or(0);
        self.pools.iter().try_for_each(|health| {
            line(health, levels, names, f)?;
            f.write_str("\n")
        })
    }
}

pub(super) fn line(health: &Health, levels: usize, names: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Health { level, in_use, max_size, idle, waiting, .. } = health;
    let name = on_one_line(&health.pool);
    write!(f, "{level:levels$}  {name:names$}  {in_use}/{max_size} in use  {idle} idle  {waiting} waiting")?;
    let reasons: Vec<_> = health.warnings.iter().map(|warning| on_one_line(&warning.reason)).collect();
    if reasons.is_empty() { Ok(()) } else { write!(f, "  {}", reasons.join(", ")) }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::Stats;

    #[test]
    fn a_table_has_one_line_for_each_pool_whatever_it_is_called() {
        let report: HealthReport = ["b\nc\u{1b}[2J", "a"]
            .into_iter()
            .map(|name| Health::of(name, &Stats { max_size: 1, ..Stats::default() }))
            .collect();
        assert_eq!(report.to_string().lines().count(), 2);
        assert!(!report.to_string().contains('\u{1b}'));
        assert_eq!(report.pools()[0].pool, "a");
    }
}
