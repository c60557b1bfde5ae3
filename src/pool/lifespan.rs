//! When connections are to die: apart from each other, and never later than asked.

use crate::clock::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// At most this share of the pool dies in any second, whoever was born with whom.
const SHARE_A_SECOND: f64 = 0.15;

/// The largest part of the lifetime that is taken off. A hundred connections with ten seconds to live are then 55 ms
/// apart: 18 in a second.
const SPREAD: f64 = 0.55;

/// The golden ratio, less one.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// The planned deaths of a pool's connections.
///
/// A random tenth of the lifetime, as HikariCP and psycopg take off, still lets a pool of a hundred connections
/// with a lifetime of ten seconds die within one second. So each death also keeps a distance from the others; it is
/// moved forward for that, by at most [`SPREAD`] of the lifetime.
#[derive(Debug, Default)]
pub(crate) struct Deaths(BTreeSet<Moment>);

impl Deaths {
    /// Chooses when a connection born now is to die. `random` is in 0..1.
    pub(crate) fn plan(&mut self, born: Moment, lifetime: Duration, size: u32, random: f64) -> Moment {
        let latest = born.after(lifetime);
        if latest == Moment::NEVER {
            return latest;
        }
        let gap = gap(lifetime, size);
        let earliest = latest.before(lifetime.mul_f64(SPREAD));
        let mut death = latest.before(lifetime.mul_f64(random * 0.1));
        // Forward in time from the wish: the nearest planned death that is too close decides where to look next.
        while death > earliest {
            let near = death.before(gap)..death.after(gap);
            let Some(other) = self.0.range(near).find(|other| other.after(gap) > death) else { break };
            death = other.before(gap);
        }
        if death <= earliest {
            death = self.widest_gap(earliest, latest);
        }
        self.0.insert(death);
        death
    }

    /// Chooses when a connection is to be renewed that could live until `natural`: each has its own part of the time, by
    /// its number, so that those of neighbouring numbers go far from each other (multiples of the golden ratio).
    pub(crate) fn renew(&mut self, from: Moment, until: Moment, number: u64, natural: Moment) -> Moment {
        let part = (number as f64 * GOLDEN).fract();
        let mut death = from.after(until.since(from).mul_f64(part)).min(natural);
        while !self.0.insert(death) {
            death = death.after(Duration::from_nanos(1));
        }
        death
    }

    /// Where it is loneliest: the others came at random, so their distances add up to more than there is room for.
    fn widest_gap(&self, earliest: Moment, latest: Moment) -> Moment {
        let mut from = earliest;
        let mut widest = (Duration::ZERO, latest);
        for &to in self.0.range(earliest..=latest).chain([&latest]) {
            widest = widest.max((to.since(from), from.after(to.since(from) / 2)));
            from = to;
        }
        widest.1
    }

    pub(crate) fn any_until(&self, now: Moment) -> bool {
        self.0.first().is_some_and(|&death| death <= now)
    }

    pub(crate) fn first_after(&self, now: Moment) -> Option<Moment> {
        self.0.range(now.after(Duration::from_nanos(1))..).next().copied()
    }

    /// Forgets a death, because the connection has been closed.
    pub(crate) fn forget(&mut self, death: Moment) {
        self.0.remove(&death);
    }
}

fn gap(lifetime: Duration, size: u32) -> Duration {
    let size = f64::from(size.max(1));
    let wanted = 1.0 / (SHARE_A_SECOND * size);
    // All of them must fit into the part of the lifetime that may be taken off.
    let possible = lifetime.as_secs_f64() * SPREAD / size;
    Duration::from_secs_f64(wanted.min(possible).min(1.0))
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::scatter;

    #[test]
    fn a_hundred_born_together_never_die_by_more_than_a_fifth_in_a_second() {
        let born = Moment::ZERO.after(Duration::from_secs(100));
        let lifetime = Duration::from_secs(10);
        let mut deaths = Deaths::default();
        let mut planned: Vec<_> =
            (0..100).map(|n| deaths.plan(born, lifetime, 100, scatter(3, n)).since(born).as_secs_f64()).collect();
        planned.sort_by(f64::total_cmp);
        assert!(planned.iter().all(|&at| (4.5..=10.0).contains(&at)), "{planned:?}");
        for (first, &from) in planned.iter().enumerate() {
            let within = planned.iter().skip(first).take_while(|&&at| at < from + 1.0).count();
            assert!(within <= 20, "{within} die within a second of {from}");
        }
    }

    #[test]
    fn where_there_is_room_it_is_as_drawn_or_a_second_before_the_next_one() {
        let at = |seconds| Moment::ZERO.after(Duration::from_secs(seconds));
        let mut deaths = Deaths::default();
        let mut plan = |random| deaths.plan(at(10), Duration::from_secs(100), 2, random);
        assert_eq!((plan(0.0), plan(0.1)), (at(110), at(109)), "a second apart is enough");
        assert_eq!(plan(0.05), at(108));
    }

    #[test]
    fn where_there_is_no_room_left_it_is_the_middle_of_the_widest_gap() {
        let at = |seconds| Moment::ZERO.after(Duration::from_secs(seconds));
        let mut deaths = Deaths::default();
        deaths.0.extend([at(50), at(51), at(57), at(59), at(99)]);
        assert_eq!(deaths.widest_gap(at(50), at(60)), at(54), "in the middle between 51 and 57");
        assert_eq!(deaths.widest_gap(at(60), at(70)), at(65), "nobody dies there");
    }

    #[test]
    fn a_renewal_is_spread_over_its_time() {
        let from = Moment::ZERO.after(Duration::from_secs(100));
        let until = from.after(Duration::from_secs(10));
        let mut deaths = Deaths::default();
        let mut planned: Vec<_> = (7..27).map(|n| deaths.renew(from, until, n, Moment::NEVER).since(from)).collect();
        planned.sort();
        for (n, at) in planned.iter().enumerate() {
            let evenly = 10.0 * n as f64 / 20.0;
            assert!((at.as_secs_f64() - evenly).abs() < 1.0, "the {n}th at {at:?}, evenly {evenly} s");
        }
        let soon = from.after(Duration::from_millis(1));
        assert!(deaths.renew(from, until, 3, soon) <= soon, "not later than without");
    }

    #[test]
    fn one_alone_lives_at_least_nine_tenths_and_never_longer_than_asked() {
        for n in 0..1000 {
            let born = Moment::ZERO.after(Duration::from_secs(5));
            let age = Deaths::default().plan(born, Duration::from_secs(60), 10, scatter(1, n)).since(born);
            assert!(age > Duration::from_secs(54) && age <= Duration::from_secs(60), "{age:?}");
        }
        let never = Deaths::default().plan(Moment::ZERO, Duration::MAX, 10, 0.5);
        assert_eq!(never, Moment::NEVER);
    }
}
