//! What is written down about a budget, and what follows from it: pure, and all of it under one lock.
//!
//! Pools that have callers waiting and no place to open a connection for them stand *in line*. What comes free goes to the
//! one in line that has least; a pool that has more than it needs is *called*, and gives one connection up.

use super::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

/// Why a pool gives a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// It was called: it has more than another one that waits.
    Called,
    /// It has no use for it just now.
    Idle,
}

/// How a pool stands with its budget.
#[derive(Debug, Default)]
struct Standing {
    member: Option<Weak<dyn Member>>,
    /// Places that it has.
    held: u32,
    /// How many of them it is to give up as soon as it can.
    called: u32,
    /// How many of them are being given up: their connections are on their way to be closed.
    leaving: u32,
    /// When it was last given a place, as a number that counts up.
    granted: u64,
    /// Since when it stands in line, as such a number.
    in_line: Option<u64>,
    closed: bool,
}

impl Standing {
    /// Places that it will still have when it has given up what it is to.
    const fn staying(&self) -> u32 {
        self.held.saturating_sub(self.called + self.leaving)
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    limit: u32,
    /// Places that are out.
    taken: u32,
    peak: u32,
    /// Places that pools were called to give up, some time.
    called: u32,
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
            called: 0,
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
            if for_waiters {
                self.get_in_line(pool);
            }
            return false;
        }
        self.clock += 1;
        self.taken += 1;
        // After that, or fewer would seem to be needed for a moment.
        self.leave_line(pool);
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
            // What it no longer has it cannot give up.
            let void = (standing.called + standing.leaving).saturating_sub(standing.held).min(standing.called);
            standing.called -= void;
            self.called -= void;
            if standing.held == 0 {
                self.holders.remove(&pool);
            }
        }
        self.void_calls();
        self.forget_if_done(pool);
    }

    fn forget_if_done(&mut self, pool: u64) {
        if self.pools.get(&pool).is_some_and(|standing| standing.closed && standing.held == 0) {
            self.pools.remove(&pool);
        }
    }

    fn get_in_line(&mut self, pool: u64) {
        self.clock += 1;
        if let Some(standing) = self.pools.get_mut(&pool)
            && standing.in_line.is_none()
        {
            standing.in_line = Some(self.clock);
            self.line.insert(pool);
            self.tell_again();
        }
    }

    /// Nobody waits in that pool, or nothing can be opened for them now.
    pub(super) fn leave_line(&mut self, pool: u64) {
        if self.line.remove(&pool) {
            if let Some(standing) = self.pools.get_mut(&pool) {
                standing.in_line = None;
            }
            self.void_calls();
        }
    }

    /// Those in line whose turn it is when so many places are free: who has least, and of these who was served longest ago.
    fn first_in_line(&self, places: u32) -> Vec<u64> {
        let rank = |&pool: &u64| {
            let standing = self.pools.get(&pool)?;
            Some((standing.held, standing.granted, standing.in_line, pool))
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

    /// How many places are to come free: one for each pool in line, and what is beyond the limit.
    fn needed(&self) -> u32 {
        (self.line.len() as u32 + self.taken).saturating_sub(self.limit)
    }

    /// Whether more are needed than are about to come free. What was only called for does not count: nobody knows when that
    /// comes, and what lies idle can be had now.
    fn is_short(&self) -> bool {
        self.needed() > self.leaving
    }

    /// Whether more are needed than will come free in the end.
    fn must_call(&self) -> bool {
        self.needed() > self.leaving + self.called
    }

    /// Takes calls back that are not needed any more, first of those who have least.
    fn void_calls(&mut self) {
        while self.called > 0 && self.leaving + self.called > self.needed() {
            let called = self.holders.iter().filter_map(|pool| Some((pool, self.pools.get(pool)?)));
            let called = called.filter(|(_, standing)| standing.called > 0);
            let least = called.min_by_key(|(_, standing)| standing.staying()).map(|(pool, _)| *pool);
            let Some(standing) = least.and_then(|pool| self.pools.get_mut(&pool)) else { break };
            standing.called -= 1;
            self.called -= 1;
        }
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

    /// Calls a pool to give one up, for the one that is first in line, or because there are too many: the pool that has most,
    /// and of these the one that has had its last one for longest. Nobody is called for a pool that would then have more than
    /// the one that was called, except for one that has none at all: those take turns.
    pub(super) fn call(&mut self) -> Option<Arc<dyn Member>> {
        if !self.must_call() {
            return None;
        }
        let too_many = self.taken > self.limit + self.leaving + self.called;
        let asking = self.first_in_line(1).first().copied();
        let has = asking.and_then(|pool| self.pools.get(&pool)).map_or(0, |standing| standing.held);
        let others = self.holders.iter().filter(|pool| too_many || Some(**pool) != asking);
        let others = others.filter_map(|pool| Some((*pool, self.pools.get(pool)?)));
        let ranked = others.map(|(pool, standing)| (standing.staying(), std::cmp::Reverse(standing.granted), pool));
        let (most, _, pool) = ranked.max()?;
        if most == 0 || !(too_many || has == 0 || most > has + 1) {
            return None;
        }
        self.pools.get_mut(&pool)?.called += 1;
        self.called += 1;
        self.member(pool)
    }

    /// Whether the pool is to give up a connection that it has at hand. `free`: it has no use for it. `used`: it has been
    /// used since it was opened, or pools that take turns would take new ones from each other before anybody has had them.
    pub(super) fn gives_up(&mut self, pool: u64, free: bool, used: bool) -> Option<Call> {
        let short = self.is_short();
        let standing = self.pools.get_mut(&pool)?;
        let call = if standing.called > 0 && (free || used) {
            standing.called -= 1;
            self.called -= 1;
            Call::Called
        } else if free && short && standing.staying() > 0 {
            Call::Idle
        } else {
            return None;
        };
        standing.leaving += 1;
        self.leaving += 1;
        // It comes in the place of what another one was called for.
        self.void_calls();
        Some(call)
    }

    /// Somebody else took the connection that was to be given up.
    pub(super) fn keeps(&mut self, pool: u64, call: Call) {
        if let Some(standing) = self.pools.get_mut(&pool) {
            standing.leaving -= 1;
            self.leaving -= 1;
            if call == Call::Called {
                standing.called += 1;
                self.called += 1;
            }
        }
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
        fn idle_for(&self) -> Option<u32> {
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
            assert!(ledger.call().is_some());
            assert!(ledger.call().is_none(), "one is enough for one that waits");
            assert_eq!(ledger.gives_up(1, false, false), None, "it has not been used yet");
            assert_eq!(ledger.gives_up(1, false, true), Some(Call::Called));
            assert_eq!(ledger.gives_up(1, false, true), None);
            ledger.release(1, true);
            assert!(!ledger.take(1, true), "what came free is for the one that has less");
            assert!(ledger.take(2, true));
            ledger.leave_line(1);
        }
        assert_eq!(held(&ledger), [5, 5]);
        assert!(!ledger.take(2, true));
        assert!(ledger.call().is_none(), "or they would take it from each other for ever");
    }

    #[test]
    fn pools_without_any_take_turns_with_those_that_have_one() {
        let (mut ledger, _members) = ledger(1, 3);
        assert!(ledger.take(1, true));
        let mut served = Vec::new();
        let mut holder = 1;
        for _ in 0..9 {
            (1..=3).for_each(|pool| assert!(!ledger.take(pool, true)));
            assert!(ledger.call().is_some());
            assert_eq!(ledger.gives_up(holder, false, true), Some(Call::Called));
            ledger.release(holder, true);
            holder = (1..=3).find(|&pool| ledger.take(pool, true)).expect("somebody's turn");
            served.push(holder);
        }
        assert_eq!(served, [2, 3, 1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn what_lies_idle_is_given_up_without_a_call_and_no_more_than_is_needed() {
        let (mut ledger, _members) = ledger(3, 2);
        assert!((0..3).all(|_| ledger.take(1, false)));
        assert_eq!(ledger.gives_up(1, true, false), None, "nobody waits");
        assert!(!ledger.take(2, true));
        assert_eq!(ledger.untold().len(), 1);
        assert_eq!(ledger.untold().len(), 0, "once");
        assert_eq!(ledger.gives_up(1, true, false), Some(Call::Idle));
        assert_eq!(ledger.gives_up(1, true, false), None);
        ledger.keeps(1, Call::Idle);
        assert_eq!(ledger.gives_up(1, true, false), Some(Call::Idle), "the other one was taken by somebody");
    }

    #[test]
    fn a_call_for_somebody_who_has_gone_is_void() {
        let (mut ledger, _members) = ledger(2, 2);
        assert!((0..2).all(|_| ledger.take(1, true)));
        assert!(!ledger.take(2, true));
        assert!(ledger.call().is_some());
        ledger.leave_line(2);
        assert_eq!(ledger.gives_up(1, false, true), None);
        assert!(!ledger.is_contended());
        assert_eq!(ledger.called, 0);
    }

    #[test]
    fn a_call_is_no_reason_to_leave_idle_what_another_one_has() {
        let (mut ledger, _members) = ledger(2, 3);
        assert!(ledger.take(1, true) && ledger.take(2, true));
        assert!(!ledger.take(3, true));
        assert!(ledger.call().is_some(), "the first pool, which has had its place for longest");
        // It needs another one itself, and its callers hold what they have until they get it.
        ledger.leave_line(3);
        assert!(!ledger.take(1, true));
        assert_eq!(ledger.called, 0);
        assert!(!ledger.take(3, true));
        assert!(ledger.call().is_some());
        assert_eq!(ledger.gives_up(2, true, true), Some(Call::Idle));
        assert_eq!(ledger.gives_up(2, true, true), None, "it has no more");
    }

    #[test]
    fn with_a_smaller_limit_those_who_have_most_are_called() {
        let (mut ledger, _members) = ledger(6, 2);
        assert!((0..4).all(|_| ledger.take(1, true)));
        assert!((0..2).all(|_| ledger.take(2, true)));
        ledger.resize(2);
        let calls = std::iter::from_fn(|| ledger.call()).count();
        assert_eq!(calls, 4);
        assert_eq!(ledger.pools.values().map(Standing::staying).collect::<Vec<_>>(), [1, 1]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u64, bool),
        Release(u64),
        LeaveLine(u64),
        Call,
        GiveUp(u64, bool, bool, bool),
        Resize(u32),
        Close(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let pool = 1..=4_u64;
        prop_oneof![
            8 => (pool.clone(), any::<bool>()).prop_map(|(pool, waiters)| Step::Take(pool, waiters)),
            4 => pool.clone().prop_map(Step::Release),
            2 => pool.clone().prop_map(Step::LeaveLine),
            4 => Just(Step::Call),
            4 => (pool.clone(), any::<bool>(), any::<bool>(), any::<bool>())
                .prop_map(|(pool, free, used, keeps)| Step::GiveUp(pool, free, used, keeps)),
            1 => (1..8_u32).prop_map(Step::Resize),
            1 => pool.prop_map(Step::Close),
        ]
    }

    proptest! {
        /// Whatever happens, the columns add up, nothing is granted beyond the limit, and no more is called than is there.
        #[test]
        fn the_columns_add_up(limit in 1..8_u32, steps in prop::collection::vec(step(), 1..200)) {
            let (mut ledger, _members) = ledger(limit, 4);
            // Connections that each pool has and gives up.
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
                    Step::Call => {
                        let short = ledger.must_call();
                        prop_assert!(ledger.call().is_none() || short);
                    }
                    Step::GiveUp(pool, free, used, keeps) => {
                        let gone = leaving.get(&pool).copied().unwrap_or(0);
                        let has_more = ledger.pools.get(&pool).is_some_and(|one| one.held > gone);
                        if has_more && let Some(call) = ledger.gives_up(pool, free, used) {
                            if keeps {
                                ledger.keeps(pool, call);
                            } else {
                                leaving.insert(pool, gone + 1);
                            }
                        }
                    }
                    Step::Resize(limit) => ledger.resize(limit),
                    Step::Close(pool) => ledger.close(pool),
                    Step::Take(..) => {}
                }
                let standings = || ledger.pools.values();
                prop_assert_eq!(ledger.taken, standings().map(|one| one.held).sum::<u32>());
                prop_assert_eq!(ledger.called, standings().map(|one| one.called).sum::<u32>());
                prop_assert_eq!(ledger.leaving, standings().map(|one| one.leaving).sum::<u32>());
                prop_assert_eq!(ledger.line.len(), standings().filter(|one| one.in_line.is_some()).count());
                prop_assert_eq!(ledger.holders.len(), standings().filter(|one| one.held > 0).count());
                prop_assert_eq!(ledger.open as usize, standings().filter(|one| !one.closed).count());
                prop_assert!(standings().all(|one| one.called + one.leaving <= one.held));
                prop_assert!(standings().all(|one| !(one.closed && one.held == 0)));
            }
        }
    }
}
