//! A connection and what is known of it, and the one place that judges whether it may live.

use crate::clock::Moment;
use crate::config::Validation;
use crate::event::CloseReason;
use crate::extensions::{Beside, Extensions};
use crate::pool::rack::Permit;
use std::time::Duration;

/// A pooled connection. On a cache line of its own, because its borrower writes to it at every checkout; it is
/// never moved while it lives, only its box is.
///
/// `H` leads home: the pool that the connection belongs to.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Entry<C: Send + 'static, H: Send + 'static> {
    pub(crate) connection: C,
    pub(crate) home: H,
    pub(crate) permit: Permit<Self>,
    pub(crate) id: u64,
    pub(crate) born: Moment,
    pub(crate) dies: Moment,
    /// While it is lent: since when. While it is not: when it came back.
    pub(crate) used: Moment,
    /// When it was opened, or last passed a check.
    pub(crate) checked: Moment,
    pub(crate) uses: u64,
    /// How many times the pool had been refreshed when it was opened.
    pub(crate) generation: u32,
    /// The rules that it was last judged by.
    pub(crate) edition: u32,
    /// It dies when it does because of a refresh that takes its time.
    pub(crate) renewing: bool,
    /// It has not been lent since it was opened or checked.
    pub(crate) vouched: bool,
    pub(crate) broken: bool,
    pub(crate) labelled: bool,
    pub(crate) extensions: Beside,
}

/// What the verdict goes by. When rules change, their edition goes up, and a connection of an older edition is not lent by
/// the fast path before it has been judged by the new ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) validation: Validation,
    pub(crate) max_uses: u64,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) keepalive: Option<Duration>,
    /// Earlier generations are retired.
    pub(crate) oldest: u32,
    /// Earlier generations are retired one after the other.
    pub(crate) renewal: Option<Renewal>,
    /// What has not worked since then is checked before it is lent.
    pub(crate) suspect: Moment,
    /// The process stood still and went on then. What came due meanwhile is in no hurry.
    pub(crate) thawed: Moment,
    /// The edition with which planned deaths last became void.
    pub(crate) replanned: u32,
}

/// A refresh that takes its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    pub(crate) before: u32,
    pub(crate) from: Moment,
    pub(crate) until: Moment,
}

impl Rules {
    /// The renewal, if it concerns connections of this generation.
    pub(crate) fn renewal_of(&self, generation: u32) -> Option<Renewal> {
        self.renewal.filter(|renewal| generation < renewal.before)
    }
}

/// On which occasion a connection is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It was taken from the shelf to be lent.
    Checkout,
    /// It was handed over by somebody else to be lent.
    HandOver,
    /// It has come back.
    Checkin,
    /// It lies on the shelf, and there are more idle ones than there must be, or not.
    Sweep { above_minimum: bool },
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Validate,
    Retire(CloseReason),
}

/// A check that is this young counts for whoever comes first after it: the waiter whom it was made for needs time to
/// wake up. Without it, [`Validation::Always`] and an `IfIdleFor` of next to nothing would check for ever.
const JUST_NOW: Duration = Duration::from_millis(100);

/// The same for [`Validation::IfIdleFor`] of less than this; a longer limit speaks for itself.
const JUST_BEFORE: Duration = Duration::from_millis(10);

impl<C: Send + 'static, H: Send + 'static> Entry<C, H> {
    /// The only place where age, use count, generation, idle time and the need of a check are judged.
    pub(crate) fn verdict(&self, now: Moment, rules: &Rules, occasion: Occasion) -> Verdict {
        if self.generation < rules.oldest {
            return Verdict::Retire(CloseReason::Refresh);
        }
        // Before the planned death, which may have to wait for a successor: one that is to spare needs none.
        let idle = now.since(self.used.max(rules.thawed));
        let to_spare = matches!(occasion, Occasion::Sweep { above_minimum: true });
        if to_spare && rules.idle_timeout.is_some_and(|timeout| idle >= timeout) {
            return Verdict::Retire(CloseReason::IdleTimeout);
        }
        if now >= self.dies && self.must_die(now, rules, occasion) {
            let renewed = rules.renewal_of(self.generation).is_some();
            return Verdict::Retire(if renewed { CloseReason::Refresh } else { CloseReason::Lifetime });
        }
        if self.uses >= rules.max_uses {
            return Verdict::Retire(CloseReason::MaxUses);
        }
        match occasion {
            Occasion::Checkin => Verdict::Keep,
            Occasion::Sweep { .. } => {
                if rules.keepalive.is_some_and(|every| now.since(self.proven()) >= every) {
                    Verdict::Validate
                } else {
                    Verdict::Keep
                }
            }
            Occasion::Checkout | Occasion::HandOver => {
                let proven = match rules.validation {
                    Validation::Never => true,
                    _ if self.proven() < rules.suspect => false,
                    Validation::Always => self.vouched && now.since(self.checked) < JUST_NOW,
                    Validation::IfIdleFor(limit) if self.vouched => now.since(self.checked) < limit.max(JUST_BEFORE),
                    Validation::IfIdleFor(limit) => now.since(self.proven()) < limit,
                };
                if proven { Verdict::Keep } else { Verdict::Validate }
            }
        }
    }

    /// A shortcut for the fast paths: where it says yes, the verdict would be `Keep`, apart from the need of a check,
    /// which the slot's word has answered by then.
    #[inline]
    pub(crate) fn in_its_prime(&self, now: Moment, edition: u32, max_uses: u64) -> bool {
        self.edition == edition && now < self.dies && self.uses < max_uses
    }

    /// The planned death leaves time to open a replacement first; a borrower who comes within that time is served.
    #[cold]
    fn must_die(&self, now: Moment, rules: &Rules, occasion: Occasion) -> bool {
        match occasion {
            Occasion::Checkin | Occasion::Sweep { .. } => true,
            Occasion::Checkout | Occasion::HandOver => now >= self.expires(rules),
        }
    }

    /// When it last worked, as far as is known.
    pub(crate) fn proven(&self) -> Moment {
        self.used.max(self.checked)
    }

    /// When it must be gone: at the end of the lifetime, or of a refresh. What came due while the process stood still is
    /// replaced as if it had just been planned to die: all at once would be a storm.
    pub(crate) fn expires(&self, rules: &Rules) -> Moment {
        let lifetime = rules.max_lifetime.map_or(Moment::NEVER, |lifetime| self.born.after(lifetime));
        let renewal = rules.renewal_of(self.generation).map_or(Moment::NEVER, |renewal| renewal.until);
        let end = lifetime.min(renewal);
        if end <= rules.thawed { Moment::NEVER } else { end }
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        self.extensions.get()
    }

    pub(crate) fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions.get_mut()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::pool::rack::{Limits, Rack};
    use std::sync::Arc;

    /// What each connection costs is said in the documents: three lines would be a third more.
    #[test]
    fn an_entry_of_a_small_connection_takes_two_cache_lines() {
        assert_eq!(size_of::<Entry<[u64; 2], Arc<()>>>(), 128);
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.after(Duration::from_secs(seconds))
    }

    /// One that was opened at 0 and is planned to die at 50.
    fn entry() -> Entry<(), ()> {
        let Settings { max_size, min_idle, max_connecting, max_waiting, .. } = Settings::default();
        let rack = Arc::new(Rack::new(
            1,
            Limits {
                max_size,
                min_idle,
                max_connecting,
                max_waiting,
                patience: None,
                fail_fast: false,
                start_up: Duration::MAX,
                give_up: Duration::MAX,
            },
            None,
        ));
        Entry {
            connection: (),
            home: (),
            permit: rack.try_reserve().expect("the rack is empty"),
            id: 1,
            born: at(0),
            dies: at(50),
            used: at(0),
            checked: at(0),
            uses: 0,
            generation: 1,
            edition: 1,
            renewing: false,
            vouched: false,
            broken: false,
            labelled: false,
            extensions: Beside::default(),
        }
    }

    const RULES: Rules = Rules {
        validation: Validation::Never,
        max_uses: 2,
        max_lifetime: Some(Duration::from_secs(60)),
        idle_timeout: None,
        keepalive: None,
        oldest: 1,
        renewal: None,
        suspect: Moment::ZERO,
        thawed: Moment::ZERO,
        replanned: 0,
    };

    #[test]
    fn what_is_in_its_prime_is_never_retired_and_what_is_retired_is_not_in_its_prime() {
        let (mut entry, rules) = (entry(), RULES);
        let mut kept = 0;
        for (seconds, uses, edition) in
            [40, 50, 55, 60, 70].into_iter().flat_map(|s| (0..4).flat_map(move |u| (0..3).map(move |e| (s, u, e))))
        {
            (entry.uses, entry.used) = (uses, at(seconds));
            let prime = entry.in_its_prime(at(seconds), edition, rules.max_uses);
            for occasion in [Occasion::Checkout, Occasion::HandOver, Occasion::Checkin] {
                let verdict = entry.verdict(at(seconds), &rules, occasion);
                assert!(!prime || verdict == Verdict::Keep, "{verdict:?} at {seconds} s, {uses} uses, {occasion:?}");
                kept += u32::from(prime);
            }
        }
        assert_eq!(kept, 3 * 2, "before its planned death, judged by these rules, with uses left");
    }

    #[test]
    fn a_check_is_needed_from_the_limit_on_and_not_before() {
        let limit = Duration::from_secs(30);
        let mut entry = entry();
        for (validation, vouched, limit) in [
            (Validation::IfIdleFor(limit), false, limit),
            (Validation::IfIdleFor(limit), true, limit),
            (Validation::IfIdleFor(Duration::ZERO), true, JUST_BEFORE),
            (Validation::Always, true, JUST_NOW),
        ] {
            entry.vouched = vouched;
            let rules = Rules { validation, ..RULES };
            let verdict = |since| entry.verdict(at(0).after(since), &rules, Occasion::Checkout);
            assert_eq!(verdict(limit - Duration::from_nanos(1)), Verdict::Keep, "{validation:?}");
            assert_eq!(verdict(limit), Verdict::Validate, "{validation:?}");
        }
        let rules = Rules { keepalive: Some(limit), ..RULES };
        let verdict = |since| entry.verdict(at(0).after(since), &rules, Occasion::Sweep { above_minimum: false });
        assert_eq!(verdict(limit - Duration::from_nanos(1)), Verdict::Keep);
        assert_eq!(verdict(limit), Verdict::Validate);
        let rules = Rules { validation: Validation::IfIdleFor(limit), suspect: at(1), ..RULES };
        assert_eq!(entry.verdict(at(1), &rules, Occasion::Checkout), Verdict::Validate, "it has not worked since");
        let rules = Rules { suspect: at(0), ..rules };
        assert_eq!(entry.verdict(at(1), &rules, Occasion::Checkout), Verdict::Keep);
    }

    #[test]
    fn one_that_is_to_spare_goes_for_its_idle_time_although_its_death_waits_for_a_successor() {
        let (entry, rules) = (entry(), Rules { idle_timeout: Some(Duration::from_secs(30)), ..RULES });
        let verdict = |seconds, above_minimum| entry.verdict(at(seconds), &rules, Occasion::Sweep { above_minimum });
        for seconds in [29, 30, 49, 50, 70] {
            let idle = seconds >= 30;
            let spared = if seconds < 50 { Verdict::Keep } else { Verdict::Retire(CloseReason::Lifetime) };
            let spare = if idle { Verdict::Retire(CloseReason::IdleTimeout) } else { spared };
            assert_eq!((verdict(seconds, true), verdict(seconds, false)), (spare, spared), "{seconds} s");
        }
    }
}
