//! What is written down about a budget, and what follows from it: pure, and all of it under one lock.
//!
//! Pools that have callers waiting and no place to open a connection for them stand *in line*. What comes free goes to the
//! one in line that has least. Whoever brings a connection back while there is a line asks whether it is to be given up; that is
//! decided then and there, by what everybody has at that moment, and nothing is promised before.

use super::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

/// How a pool stands with its budget.
#[derive(Debug, Default)]
struct Standing {
    member: Option<Weak<dyn Member>>,
    /// Places that it has.
    held: u32,
    /// How many of them are being given up: their connections are on their way to be closed.
    leaving: u32,
    /// When it was last given a place, as a number that counts up.
    granted: u64,
    closed: bool,
}

impl Standing {
    /// Places that it will still have when it has given up what it is to.
    const fn staying(&self) -> u32 {
        self.held.saturating_sub(self.leaving)
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    limit: u32,
    /// Places that are out.
    taken: u32,
    peak: u32,
    /// Places that are about to come free: their connections are on their way to be closed.
    leaving: u32,
    line: BTreeSet<u64>,
    /// Those who have a place: never more than the limit, however many pools there are.
    holders: BTreeSet<u64>,
    given_up: u64,
    /// All who have a place know that there is a line.
    told: bool,
    clock: u64,
    next: u64,
    /// Pools that are not closed.
    open: u32,
    pools: BTreeMap<u64, Standing>,
}

/// What is in the ledger, for [`BudgetStats`](super::BudgetStats).
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) limit: u32,
    pub(super) taken: u32,
    pub(super) peak: u32,
    pub(super) pools: u32,
    pub(super) in_line: u32,
    pub(super) given_up: u64,
}

impl Ledger {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            taken: 0,
            peak: 0,
            leaving: 0,
            line: BTreeSet::new(),
            holders: BTreeSet::new(),
            given_up: 0,
            told: true,
            clock: 0,
            next: 0,
            open: 0,
            pools: BTreeMap::new(),
        }
    }

    pub(super) fn open(&mut self) -> u64 {
        self.next += 1;
        self.open += 1;
        self.pools.insert(self.next, Standing::default());
        self.next
    }

    pub(super) fn enlist(&mut self, pool: u64, member: Weak<dyn Member>) {
        if let Some(standing) = self.pools.get_mut(&pool) {
            standing.member = Some(member);
        }
    }

    /// The pool is closed. It is forgotten when it has given its last place back.
    pub(super) fn close(&mut self, pool: u64) {
        self.leave_line(pool);
        if let Some(standing) = self.pools.get_mut(&pool).filter(|standing| !standing.closed) {
            standing.closed = true;
            self.open -= 1;
        }
        self.forget_if_done(pool);
    }

    /// A place for the pool, if there is one and nobody is before it. For callers that wait the pool gets in line otherwise.
    pub(super) fn take(&mut self, pool: u64, for_waiters: bool) -> bool {
        let free = self.limit.saturating_sub(self.taken);
        let first = free > 0 && (self.line.is_empty() || self.first_in_line(free).contains(&pool));
        if !first {
            if for_waiters && self.line.insert(pool) {
                self.tell_again();
            }
            return false;
        }
        self.leave_line(pool);
        self.clock += 1;
        self.taken += 1;
        self.peak = self.peak.max(self.taken);
        self.holders.insert(pool);
        if let Some(standing) = self.pools.get_mut(&pool) {
            standing.held += 1;
            standing.granted = self.clock;
        }
        true
    }

    /// A place comes back, of a connection that was given up for another pool or not.
    pub(super) fn release(&mut self, pool: u64, given_up: bool) {
        self.taken -= 1;
        if let Some(standing) = self.pools.get_mut(&pool) {
            standing.held -= 1;
            if given_up {
                standing.leaving -= 1;
                self.leaving -= 1;
                self.given_up += 1;
            }
            if standing.held == 0 {
                self.holders.remove(&pool);
            }
        }
        self.forget_if_done(pool);
    }

    fn forget_if_done(&mut self, pool: u64) {
        if self.pools.get(&pool).is_some_and(|standing| standing.closed && standing.held == 0) {
            self.pools.remove(&pool);
        }
    }

    /// Nobody waits in that pool, or nothing can be opened for them now.
    pub(super) fn leave_line(&mut self, pool: u64) {
        self.line.remove(&pool);
    }

    /// Those in line whose turn it is when so many places are free: who has least, and of these who was served longest ago.
    fn first_in_line(&self, places: u32) -> Vec<u64> {
        let rank = |&pool: &u64| {
            let standing = self.pools.get(&pool)?;
            Some((standing.held, standing.granted, pool))
        };
        let mut line: Vec<_> = self.line.iter().filter_map(rank).collect();
        line.sort_unstable();
        line.into_iter().take(places as usize).map(|(.., pool)| pool).collect()
    }

    /// Those whose turn it is.
    pub(super) fn whose_turn(&self) -> Vec<Arc<dyn Member>> {
        let free = self.limit.saturating_sub(self.taken);
        if free == 0 || self.line.is_empty() {
            return Vec::new();
        }
        let turn = self.first_in_line(free);
        turn.into_iter().filter_map(|pool| self.member(pool)).collect()
    }

    fn member(&self, pool: u64) -> Option<Arc<dyn Member>> {
        self.pools.get(&pool)?.member.as_ref()?.upgrade()
    }

    /// Whether more places are needed, one for each pool in line and what is beyond the limit, than are about to come free.
    pub(super) fn is_short(&self) -> bool {
        (self.line.len() as u32 + self.taken).saturating_sub(self.limit) > self.leaving
    }

    /// Whether pools that have more than they need should say so.
    pub(super) fn is_contended(&self) -> bool {
        !self.line.is_empty() || self.taken > self.limit
    }

    /// What has been told may not be so any more.
    pub(super) fn tell_again(&mut self) {
        self.told = false;
    }

    /// Those who have to be told that there is a line, if they do not know yet.
    pub(super) fn untold(&mut self) -> Vec<Arc<dyn Member>> {
        if !self.is_short() || std::mem::replace(&mut self.told, true) {
            return Vec::new();
        }
        self.holders.iter().filter_map(|&pool| self.member(pool)).collect()
    }

    /// Whether the pool is to give up a connection that it has at hand. `free`: it has no use for it. `used`: somebody has just
    /// used it. Only those are given up over the heads of a pool's own callers, or pools that take turns would take new ones
    /// from each other before anybody has had them.
    pub(super) fn gives_up(&mut self, pool: u64, free: bool, used: bool) -> bool {
        let gives = self.is_short() && (free || used && self.has_more_than_its_share(pool));
        if let Some(standing) = self.pools.get_mut(&pool).filter(|standing| gives && standing.staying() > 0) {
            standing.leaving += 1;
            self.leaving += 1;
            return true;
        }
        false
    }

    /// Whether the pool has so much more than the one that is first in line that it has to give up what its own callers wait
    /// for, too. Not where the two would only change places, except for one that has none at all: those take turns.
    fn has_more_than_its_share(&self, pool: u64) -> bool {
        let too_many = self.taken > self.limit + self.leaving;
        let first = self.first_in_line(1).first().copied().filter(|first| *first != pool);
        let Some(has) = first.and_then(|first| self.pools.get(&first)).map(|first| first.held) else { return too_many };
        let most = self.pools.get(&pool).map_or(0, Standing::staying);
        too_many || has == 0 || most > has + 1
    }

    pub(super) fn resize(&mut self, limit: u32) {
        self.limit = limit;
        self.tell_again();
    }

    pub(super) fn totals(&self) -> Totals {
        let Self { limit, taken, peak, open: pools, given_up, .. } = *self;
        Totals { limit, taken, peak, pools, in_line: self.line.len() as u32, given_up }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Nobody;
    impl Member for Nobody {
        fn place_is_free(&self) -> bool {
            true
        }
        fn shed(&self) {}
        fn has_to_be_told(&self) -> Option<u32> {
            None
        }
    }

    /// A ledger with so many pools, whose numbers are 1, 2, 3 …
    fn ledger(limit: u32, pools: u64) -> (Ledger, Vec<Arc<dyn Member>>) {
        let mut ledger = Ledger::new(limit);
        let members: Vec<Arc<dyn Member>> = (0..pools).map(|_| Arc::new(Nobody) as _).collect();
        for member in &members {
            let pool = ledger.open();
            ledger.enlist(pool, Arc::downgrade(member));
        }
        (ledger, members)
    }

    fn held(ledger: &Ledger) -> Vec<u32> {
        ledger.pools.values().map(|standing| standing.held).collect()
    }

    #[test]
    fn one_that_waits_takes_from_the_one_that_has_most_until_both_have_the_same() {
        let (mut ledger, _members) = ledger(10, 2);
        assert!((0..10).all(|_| ledger.take(1, true)));
        for _ in 0..5 {
            assert!(!ledger.take(2, true));
            assert!(!ledger.gives_up(1, false, false), "it has not been used yet");
            assert!(ledger.gives_up(1, false, true));
            assert!(!ledger.gives_up(1, false, true), "one is enough for one that waits");
            ledger.release(1, true);
            assert!(!ledger.take(1, true), "what came free is for the one that has less");
            assert!(ledger.take(2, true));
            ledger.leave_line(1);
        }
        assert_eq!(held(&ledger), [5, 5]);
        assert!(!ledger.take(2, true));
        assert!(!ledger.gives_up(1, false, true), "or they would take it from each other for ever");
    }

    #[test]
    fn two_that_would_only_change_places_keep_what_they_have() {
        let (mut ledger, _members) = ledger(3, 2);
        assert!(ledger.take(1, true) && ledger.take(1, true) && ledger.take(2, true));
        assert!(!ledger.take(2, true));
        assert!(!ledger.gives_up(1, false, true));
    }

    #[test]
    fn pools_without_any_take_turns_with_those_that_have_one() {
        let (mut ledger, _members) = ledger(1, 3);
        assert!(ledger.take(1, true));
        let mut served = Vec::new();
        let mut holder = 1;
        for _ in 0..9 {
            (1..=3).for_each(|pool| assert!(!ledger.take(pool, true)));
            assert!(ledger.gives_up(holder, false, true));
            ledger.release(holder, true);
            holder = (1..=3).find(|&pool| ledger.take(pool, true)).expect("somebody's turn");
            served.push(holder);
        }
        assert_eq!(served, [2, 3, 1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn whoever_returns_one_first_gives_it_to_a_pool_that_has_none() {
        let (mut ledger, _members) = ledger(3, 3);
        assert!(ledger.take(1, true) && ledger.take(1, true) && ledger.take(2, true));
        assert!(!ledger.take(3, true));
        assert!(ledger.gives_up(2, false, true), "although the first one has more, and keeps it for long");
    }

    #[test]
    fn what_lies_idle_is_given_up_and_no_more_than_is_needed() {
        let (mut ledger, _members) = ledger(3, 2);
        assert!((0..3).all(|_| ledger.take(1, false)));
        assert!(!ledger.gives_up(1, true, false), "nobody waits");
        assert!(!ledger.take(2, true));
        assert_eq!(ledger.untold().len(), 1);
        assert_eq!(ledger.untold().len(), 0, "once");
        assert!(ledger.gives_up(1, true, false));
        assert!(!ledger.gives_up(1, true, false));
    }

    #[test]
    fn with_a_smaller_limit_what_comes_back_is_given_up_until_it_fits() {
        let (mut ledger, _members) = ledger(6, 2);
        assert!((0..4).all(|_| ledger.take(1, true)));
        assert!((0..2).all(|_| ledger.take(2, true)));
        ledger.resize(2);
        assert!((0..3).all(|_| ledger.gives_up(1, false, true)) && ledger.gives_up(2, false, true));
        assert!(!ledger.gives_up(1, false, true) && !ledger.gives_up(2, true, true));
        assert_eq!(ledger.pools.values().map(Standing::staying).collect::<Vec<_>>(), [1, 1]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u64, bool),
        Release(u64),
        LeaveLine(u64),
        GiveUp(u64, bool, bool),
        Resize(u32),
        Close(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let pool = 1..=4_u64;
        prop_oneof![
            8 => (pool.clone(), any::<bool>()).prop_map(|(pool, waiters)| Step::Take(pool, waiters)),
            4 => pool.clone().prop_map(Step::Release),
            2 => pool.clone().prop_map(Step::LeaveLine),
            6 => (pool.clone(), any::<bool>(), any::<bool>()).prop_map(|(pool, free, used)| Step::GiveUp(pool, free, used)),
            1 => (1..8_u32).prop_map(Step::Resize),
            1 => pool.prop_map(Step::Close),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens, the columns add up, nothing is granted beyond the limit, and nothing is given up that nobody needs.
        #[test]
        fn the_columns_add_up(limit in 1..8_u32, steps in prop::collection::vec(step(), 1..200)) {
            let (mut ledger, _members) = ledger(limit, 4);
            // Connections that each pool gives up.
            let mut leaving = BTreeMap::<u64, u32>::new();
            for step in steps {
                let before = ledger.taken;
                match step {
                    Step::Take(pool, waiters) if ledger.pools.get(&pool).is_some_and(|one| !one.closed) => {
                        let granted = ledger.take(pool, waiters);
                        prop_assert!(!granted || ledger.taken <= ledger.limit);
                        prop_assert_eq!(ledger.taken, before + u32::from(granted));
                    }
                    Step::Release(pool) => {
                        let gone = leaving.get(&pool).copied().unwrap_or(0);
                        if ledger.pools.get(&pool).is_some_and(|one| one.held > 0) {
                            ledger.release(pool, gone > 0);
                            leaving.insert(pool, gone.saturating_sub(1));
                        }
                    }
                    Step::LeaveLine(pool) => ledger.leave_line(pool),
                    Step::GiveUp(pool, free, used) => {
                        let short = ledger.is_short();
                        if ledger.gives_up(pool, free, used) {
                            prop_assert!(short);
                            *leaving.entry(pool).or_default() += 1;
                        }
                    }
                    Step::Resize(limit) => ledger.resize(limit),
                    Step::Close(pool) => ledger.close(pool),
                    Step::Take(..) => {}
                }
                let standings = || ledger.pools.values();
                prop_assert_eq!(ledger.taken, standings().map(|one| one.held).sum::<u32>());
                prop_assert_eq!(ledger.leaving, standings().map(|one| one.leaving).sum::<u32>());
                prop_assert_eq!(ledger.holders.len(), standings().filter(|one| one.held > 0).count());
                prop_assert_eq!(ledger.open as usize, standings().filter(|one| !one.closed).count());
                prop_assert!(standings().all(|one| one.leaving <= one.held));
                prop_assert!(standings().all(|one| !(one.closed && one.held == 0)));
            }
        }
    }
}
