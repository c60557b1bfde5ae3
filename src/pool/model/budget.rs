//! Several pools that share a budget.

use super::{
    NOW, Pools, QUEUES, Shelved, at_rest, borrow, borrow_for_ever, check, close_all, open, part_with, put, rack_with,
    take, use_it,
};
use crate::budget::{Budget, Member};
use crate::clock::Clock;
use crate::error::Error;
use crate::event::CloseReason;
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// A pool that shares a budget with others.
struct Sharer {
    rack: Shelved,
}

impl Member for Sharer {
    fn place_is_free(&self) -> bool {
        self.rack.invite()
    }
    fn shed(&self) {
        part_with(&self.rack, self.rack.shed(NOW));
    }
    fn has_to_be_told(&self) -> Option<u32> {
        Some(0)
    }
}

/// So many pools with a budget of `limit`, and the first has taken and shelved all of it.
fn sharers(limit: u32, pools: usize, patience: Option<Duration>) -> (Budget, Vec<Arc<Sharer>>) {
    let budget = Budget::new(limit);
    let sharers = (0..pools).map(|_| {
        let account = budget.open_account();
        let rack = rack_with(2, patience, Some(account.clone()));
        let sharer = Arc::new(Sharer { rack });
        let member: Arc<dyn Member> = Arc::clone(&sharer) as _;
        account.enlist(Arc::downgrade(&member));
        sharer
    });
    let sharers: Vec<_> = sharers.collect();
    if let Some(first) = sharers.first() {
        let rack = &first.rack;
        let tokens: Vec<_> = (0..limit).map(|_| open(rack, rack.try_reserve().expect("there is room"))).collect();
        tokens.into_iter().for_each(|token| put(rack, token));
    }
    (budget, sharers)
}

/// What must hold when all is quiet: the budget was never exceeded, nobody is in line, and what is taken lies on shelves.
fn shared_at_rest(budget: &Budget, sharers: &[Arc<Sharer>]) {
    let stats = budget.stats();
    assert!(stats.peak <= stats.limit, "{stats:?}");
    assert_eq!(stats.pools_waiting, 0, "{stats:?}");
    let shelved: u32 = sharers.iter().map(|sharer| sharer.rack.shelf.idle()).sum();
    assert_eq!(stats.taken, shelved, "{stats:?}");
    for sharer in sharers {
        at_rest(&sharer.rack, sharer.rack.shelf.idle());
    }
}

#[test]
fn model_a_budget_gives_what_one_pool_returns_to_the_waiter_of_another() {
    for patience in QUEUES {
        check("a return in one pool, a waiter in another, a budget of one", Pools, move || {
            let (budget, sharers) = sharers(1, 2, patience);
            let token = take(&sharers[0].rack).expect("it lies there");
            let waiter = {
                let rack = Arc::clone(&sharers[1].rack);
                thread::spawn(move || {
                    let token = borrow_for_ever(&rack, patience.is_none());
                    use_it(&token);
                    put(&rack, token);
                })
            };
            use_it(&token);
            put(&sharers[0].rack, token);
            waiter.join().expect("no panic");
            shared_at_rest(&budget, &sharers);
        });
    }
}

#[test]
fn model_two_pools_that_take_turns_are_both_served() {
    check("a borrower in each of two pools, a budget of one", Pools, || {
        let (budget, sharers) = sharers(1, 2, QUEUES[1]);
        let borrower = |index: usize| {
            let rack = Arc::clone(&sharers[index].rack);
            move || {
                let token = borrow_for_ever(&rack, false);
                use_it(&token);
                put(&rack, token);
            }
        };
        let other = thread::spawn(borrower(1));
        borrower(0)();
        other.join().expect("no panic");
        shared_at_rest(&budget, &sharers);
    });
}

#[test]
fn model_a_place_of_a_budget_is_not_lost_to_a_waiter_that_gives_up() {
    let with_the_impatient_in = |name: &str, pools: usize, place: usize| {
        check(name, Pools, move || {
            let (budget, sharers) = sharers(1, pools, QUEUES[1]);
            let token = take(&sharers[0].rack).expect("it lies there");
            let impatient = {
                let rack = Arc::clone(&sharers[place].rack);
                thread::spawn(move || {
                    // Its deadline has passed when it begins to wait.
                    if let Some(token) = borrow(&rack, &Clock::System, NOW, false).expect("nobody closes it") {
                        put(&rack, token);
                    }
                })
            };
            let waiter = {
                let rack = Arc::clone(&sharers[pools - 1].rack);
                thread::spawn(move || put(&rack, borrow_for_ever(&rack, false)))
            };
            put(&sharers[0].rack, token);
            impatient.join().expect("no panic");
            waiter.join().expect("no panic");
            shared_at_rest(&budget, &sharers);
        });
    };
    with_the_impatient_in("a return, a waiter that gives up in a second pool, and one in a third", 3, 1);
    with_the_impatient_in("a return and a waiter that gives up in one pool, and one in another", 2, 0);
}

#[test]
fn model_a_budget_gets_back_what_a_closed_pool_had() {
    check("a close, and a waiter in another pool, a budget of one", Pools, || {
        let (budget, sharers) = sharers(1, 2, QUEUES[1]);
        let waiter = {
            let rack = Arc::clone(&sharers[1].rack);
            thread::spawn(move || put(&rack, borrow_for_ever(&rack, false)))
        };
        let rack = &sharers[0].rack;
        close_all(rack, rack.close(&Error::closed(&Arc::from("model"))).1, CloseReason::PoolClosed);
        waiter.join().expect("no panic");
        shared_at_rest(&budget, &sharers);
    });
}
