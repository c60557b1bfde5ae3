//! The models of several pools that share a budget.

use super::*;
use millpond::Budget;

/// So many pools under one ceiling, which the lab watches, too.
fn pools(lab: &Arc<Lab>, clock: &HandClock, budget: &Budget, count: usize) -> Vec<TestPool> {
    let strict = thread_rng().gen_bool(0.3);
    let build = |_| {
        let builder = lab.builder(clock, some_size()).budget(budget);
        build(if strict { builder.fairness(Fairness::Strict) } else { builder })
    };
    let pools = (0..count).map(build).collect();
    // Of all pools together, where the lab's builder has taken it for that of one.
    lab.limit.store(budget.stats().limit, SeqCst);
    pools
}

/// What must hold when the callers have gone: nobody is in line, the places are those of the connections there are, and each
/// pool can have all that it may.
fn assert_shared(pools: Vec<TestPool>, budget: &Budget, lab: &Arc<Lab>) {
    lab.well();
    while pools.iter().any(|pool| pool.stats().connecting > 0) {
        thread::yield_now();
    }
    let stats = budget.stats();
    assert_eq!(stats.pools_waiting, 0, "{stats:?}");
    assert!(stats.peak <= stats.limit, "{stats:?}");
    for pool in &pools {
        let count = pool.stats().max_size.min(stats.limit);
        drop(pool.get_many(count as usize).expect("what the others have idle is given up"));
    }
    for pool in pools {
        assert_gone_alone(pool);
    }
    // A place goes back a moment after its pool has seen the end of the connection.
    while budget.stats().taken > 0 {
        thread::yield_now();
    }
    assert_eq!(budget.stats().pools, 0);
    assert_eq!(lab.live.load(SeqCst), 0, "a connection is left over");
}

/// As [`assert_gone`], of one pool of several.
fn assert_gone_alone(pool: TestPool) {
    pool.close_and_wait(FOR_EVER).expect("all connections are closed in the end");
    while pool.stats().connecting > 0 {
        thread::yield_now();
    }
    assert_eq!(pool.stats().opened, pool.stats().closed.total());
}

#[test]
fn callers_of_pools_that_share_a_budget_are_all_served() {
    explore("a budget", |lab| {
        let (clock, budget) = (HandClock::new(), Budget::new(some_size()));
        let pools = pools(lab, &clock, &budget, thread_rng().gen_range(2..=3));
        let callers = (0..thread_rng().gen_range(4..=6))
            .map(|n| {
                let pool = pools[n % pools.len()].clone();
                thread::spawn(move || (0..2).for_each(|_| borrow(&pool)))
            })
            .collect();
        join(callers);
        assert_shared(pools, &budget, lab);
    });
}

#[test]
fn a_budget_forgets_nobody_when_callers_give_up_connections_break_and_pools_close() {
    explore("a budget and its troubles", |lab| {
        let (clock, budget) = (HandClock::new(), Budget::new(thread_rng().gen_range(1..=2)));
        let pools = pools(lab, &clock, &budget, 3);
        let closing = pools[2].clone();
        let callers = (0..6)
            .map(|n| {
                let (pool, clock) = (pools[n % 3].clone(), clock.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        // Who waits for ever must be served, unless its pool is the one that is closed.
                        let timeout = if n < 2 { FOR_EVER } else { micros(thread_rng().gen_range(0..20)) };
                        match pool.get_timeout(timeout) {
                            Ok(conn) if thread_rng().gen_bool(0.2) => PooledConnection::discard(conn),
                            Ok(conn) => conn.exclusively(),
                            Err(error) => assert!(n >= 2, "{error}"),
                        }
                        clock.advance(micros(3));
                    }
                })
            })
            .collect::<Vec<_>>();
        let closer = thread::spawn(move || {
            switch();
            closing.close();
        });
        with_keeper(None, &clock, micros(3), callers);
        closer.join().expect("closing does not panic");
        assert_shared(pools.into_iter().take(2).collect(), &budget, lab);
    });
}
