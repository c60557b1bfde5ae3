//! Whose turn it is.
//!
//! A count of turns, shares, and one multiplication: no table and no lock, so that shares may change at any time, and one
//! that is zero for a while (its member is away) leaves the others in proportion.

use std::sync::atomic::{AtomicU64, Ordering};

/// The largest weight of a member: shares of a thousandth are fine enough, and sums stay within 32 bits.
pub(super) const LARGEST_WEIGHT: u32 = 1_000;
/// The most members, for the same reason.
pub(super) const MOST_MEMBERS: usize = 1_000;

/// Counts turns, and deals them out by shares.
///
/// Over each full round (as many turns as the shares add up to) everybody gets exactly its share. Within a round, turns go
/// round in steps of about the golden section, which spreads them: at no time is anybody more than a few turns ahead of or
/// behind its share.
#[derive(Debug, Default)]
pub(super) struct Turns {
    // Relaxed, as below: nobody concludes from a turn about other memory.
    next: AtomicU64,
    /// The sum of the shares and the step that belongs to it, in 32 bits each.
    step: AtomicU64,
}

impl Turns {
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Who has this turn; `None` if nobody has a share.
    pub(super) fn spread(&self, turn: u64, shares: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        let sum: u32 = shares.clone().sum();
        let place = turn.checked_rem(sum.into())?;
        at(place * self.step_for(sum) % u64::from(sum), shares)
    }

    fn step_for(&self, sum: u32) -> u64 {
        let known = self.step.load(Ordering::Relaxed);
        if known >> 32 == u64::from(sum) {
            return known & u64::from(u32::MAX);
        }
        let step = step(sum.into());
        self.step.store(u64::from(sum) << 32 | step, Ordering::Relaxed);
        step
    }
}

/// Who has this turn if those with a share take turns one after the other.
pub(super) fn in_order(turn: u64, shares: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let ones = shares.map(|share| share.min(1));
    let sum: u32 = ones.clone().sum();
    at(turn.checked_rem(sum.into())?, ones)
}

/// In whose share the place lies.
fn at(mut place: u64, shares: impl Iterator<Item = u32>) -> Option<usize> {
    shares.enumerate().find_map(|(index, share)| {
        let share = u64::from(share);
        if place < share {
            return Some(index);
        }
        place -= share;
        None
    })
}

/// The first number from the golden section of `sum` on that has no factor in common with it, so that its multiples come by
/// every place once a round.
fn step(sum: u64) -> u64 {
    let golden = (sum * 618 / 1_000).max(1);
    (golden..=sum).find(|&step| common_factor(step, sum) == 1).unwrap_or(1)
}

fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn round(shares: &[u32], turns: u64) -> Vec<usize> {
        let dealt = Turns::default();
        (0..turns).filter_map(|turn| dealt.spread(turn, shares.iter().copied())).collect()
    }

    #[test]
    fn everybody_has_exactly_its_share_of_every_full_round() {
        for shares in [&[1][..], &[5, 1, 1], &[2, 4], &[0, 3, 0, 1], &[1000, 1, 999], &[7, 7, 7], &[50, 30, 20]] {
            let sum: u32 = shares.iter().sum();
            let turns = round(shares, 3 * u64::from(sum));
            for from in [0, sum as usize / 3, 2 * sum as usize] {
                let turns = &turns[from..from + sum as usize];
                for (index, &share) in shares.iter().enumerate() {
                    let had = turns.iter().filter(|&&who| who == index).count();
                    assert_eq!(had, share as usize, "{index} of {shares:?} from {from}");
                }
            }
        }
        assert_eq!(round(&[0, 0], 5), [0; 0]);
        assert_eq!(round(&[], 5), [0; 0]);
    }

    #[test]
    fn nobody_is_ever_far_ahead_of_its_share() {
        let mut worst = 0.0_f64;
        for n in 1..200_u32 {
            let shares = [n % 60 + 1, n * 7 % 60 + 1, n * 13 % 60 + 1, n * 29 % 60];
            let sum: u32 = shares.iter().sum();
            let turns = round(&shares, 2 * u64::from(sum));
            for (index, &share) in shares.iter().enumerate() {
                let mut had = 0.0;
                for (turn, &who) in turns.iter().enumerate() {
                    had += f64::from(u8::from(who == index));
                    let due = f64::from(share) * (turn + 1) as f64 / f64::from(sum);
                    worst = worst.max((had - due).abs());
                }
            }
        }
        assert!(worst < 4.0, "{worst}");
    }

    #[test]
    fn those_with_a_share_take_turns_in_order() {
        let turns: Vec<_> = (0..6).filter_map(|turn| in_order(turn, [3, 0, 1, 9].into_iter())).collect();
        assert_eq!(turns, [0, 2, 3, 0, 2, 3]);
        assert_eq!(in_order(4, [0].into_iter()), None);
    }
}
