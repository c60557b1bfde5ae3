//! One ceiling over several pools.

mod support;

use millpond::testing::HandClock;
use millpond::{Breaker, Budget, CloseReason, Error, ErrorKind, Fairness, Maintenance, Pool, WarmUp, WhenDown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Gate, Lab, Scripted, eventually, settle};

const SOON: Duration = Duration::from_secs(30);

/// A pool over the lab, which counts the connections of all pools over it.
fn pool(lab: &Arc<Lab>, budget: &Budget, max_size: u32) -> Pool<Scripted> {
    let builder = Pool::builder(lab.manager()).max_size(max_size).connection_timeout(SOON).budget(budget);
    builder.build_lazy().expect("good settings")
}

#[test]
fn an_idle_connection_of_one_pool_is_given_up_for_a_waiter_of_another() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let (first, second) = (pool(&lab, &budget, 2), pool(&lab, &budget, 2));
    drop(first.get_many(2)?);
    let conn = second.get()?;
    assert_eq!((first.stats().size, second.stats().size), (1, 1));
    assert_eq!(first.stats().closed.by(CloseReason::Budget), 1);
    assert_eq!((budget.stats().given_up, budget.stats().peak), (1, 2));
    drop(conn);
    assert_eq!(lab.most_live.load(SeqCst), 2);
    Ok(())
}

#[test]
fn what_has_been_idle_for_longest_goes_first() -> Result<(), Error> {
    let (lab, budget, clock) = (Lab::new(), Budget::new(3), HandClock::new());
    let pools: Vec<_> = (0..4)
        .map(|_| Pool::builder(lab.manager()).budget(&budget).clock(clock.clone()).build_lazy())
        .collect::<Result<_, _>>()?;
    for n in [1, 0, 2] {
        drop(pools[n].get()?);
        clock.advance(Duration::from_secs(1));
    }
    drop(pools[3].get()?);
    let sizes: Vec<_> = pools.iter().map(|pool| pool.stats().size).collect();
    assert_eq!(sizes, [1, 0, 1, 1]);
    Ok(())
}

#[test]
fn a_pool_whose_callers_have_everything_gives_a_returned_connection_to_another_one_all_the_same() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let (greedy, modest) = (pool(&lab, &budget, 10), pool(&lab, &budget, 10));
    let held = greedy.get_many(2)?;
    thread::scope(|scope| {
        // Two more callers of the greedy pool, who were there first.
        let more: Vec<_> = (0..2).map(|_| scope.spawn(|| greedy.get().map(drop))).collect();
        eventually("both wait", || greedy.stats().waiting == 2);
        let one = scope.spawn(|| modest.get());
        eventually("a third one waits, in the other pool", || budget.stats().pools_waiting == 2);
        let mut held = held.into_iter();
        drop(held.next());
        let conn = one.join().expect("no panic").expect("the returned one was given up for it");
        assert_eq!((greedy.stats().waiting, greedy.stats().closed.by(CloseReason::Budget)), (2, 1));
        drop(held);
        more.into_iter().for_each(|caller| caller.join().expect("no panic").expect("the other one served both"));
        drop(conn);
    });
    assert_eq!(lab.most_live.load(SeqCst), 2);
    Ok(())
}

#[test]
fn pools_that_are_all_busy_come_to_have_the_same() {
    let (lab, budget) = (Lab::new(), Budget::new(6));
    let pools: Vec<_> = (0..3).map(|_| pool(&lab, &budget, 6)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // So many callers in each that all of them always wait.
        for pool in &pools {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        pool.with(|conn| conn.exclusively(thread::yield_now)).expect("in turn");
                    }
                });
            }
        }
        eventually("two each", || pools.iter().all(|pool| pool.stats().size == 2));
        done.store(true, SeqCst);
    });
    assert!(budget.stats().peak <= 6);
    assert!(lab.most_live.load(SeqCst) <= 6);
}

#[test]
fn more_busy_pools_than_connections_take_turns() {
    for fairness in [Fairness::default(), Fairness::Strict] {
        let (lab, budget) = (Lab::new(), Budget::new(2));
        let build =
            || Pool::builder(lab.manager()).budget(&budget).fairness(fairness).connection_timeout(SOON).build_lazy();
        let pools: Vec<_> = (0..5).map(|_| build().expect("good settings")).collect();
        let served: Vec<_> = pools.iter().map(|_| AtomicU32::new(0)).collect();
        thread::scope(|scope| {
            for (pool, served) in pools.iter().zip(&served) {
                for _ in 0..3 {
                    scope.spawn(move || {
                        for _ in 0..20 {
                            pool.with(|conn| conn.exclusively(|| ())).expect("in turn");
                            served.fetch_add(1, SeqCst);
                        }
                    });
                }
            }
        });
        assert!(served.iter().all(|served| served.load(SeqCst) == 60));
        pools.iter().for_each(settle);
        assert!(lab.most_live.load(SeqCst) <= 2, "{}", lab.most_live.load(SeqCst));
        let stats = budget.stats();
        assert_eq!((stats.pools_waiting, stats.peak), (0, 2));
        assert_eq!(stats.taken, pools.iter().map(|pool| pool.stats().size).sum::<u32>());
    }
}

#[test]
fn the_ceiling_holds_while_connections_break_pools_close_and_callers_give_up() {
    let (lab, budget) = (Lab::new(), Budget::new(4));
    let pools: Vec<_> = (0..6).map(|_| pool(&lab, &budget, 4)).collect();
    thread::scope(|scope| {
        for (n, pool) in pools.iter().enumerate() {
            for m in 0..3 {
                scope.spawn(move || {
                    for round in 0..40 {
                        let patience = if (round + m) % 3 == 0 { Duration::from_micros(50) } else { SOON };
                        match pool.get_timeout(patience) {
                            Ok(conn) if round % 7 == n => millpond::PooledConnection::discard(conn),
                            Ok(conn) => conn.exclusively(|| ()),
                            Err(error) if error.kind() == ErrorKind::Closed => return,
                            Err(error) => assert!(patience < SOON, "{error}"),
                        }
                        if n == 5 && round == 20 {
                            pool.close();
                        }
                    }
                });
            }
        }
    });
    assert!(lab.most_live.load(SeqCst) <= 4, "{}", lab.most_live.load(SeqCst));
    assert!(budget.stats().peak <= 4);
    eventually("the books agree", || {
        let stats = budget.stats();
        stats.pools == 5 && stats.pools_waiting == 0 && stats.taken == lab.live.load(SeqCst)
    });
    for pool in &pools[..5] {
        drop(pool.get_many(4).expect("each could have all of it"));
    }
}

#[test]
fn a_caller_who_waited_in_vain_is_told_of_the_budget() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(1));
    let (first, second) = (pool(&lab, &budget, 4), pool(&lab, &budget, 4));
    let held = first.get()?;
    let error = second.get_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("; the budget of 1 connections that it shares is used up"), "{error}");
    assert_eq!(budget.stats().pools_waiting, 0, "who has gone is not waited for");
    drop(held);
    assert_eq!(first.stats().idle, 1, "and nothing is given up for it");
    Ok(())
}

#[test]
fn a_minimum_gives_way_to_a_waiter_and_takes_nothing_from_anybody() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(3));
    let first = Pool::builder(lab.manager()).min_idle(2).budget(&budget).build()?;
    eventually("the minimum is there", || first.stats().idle == 2);
    let second = pool(&lab, &budget, 3);
    let held = second.get_many(3)?;
    assert_eq!((first.stats().size, second.stats().size), (0, 3));
    first.maintain();
    assert_eq!((first.stats().size, first.stats().connecting), (0, 0), "there is nothing free");
    drop(held);
    first.maintain();
    assert_eq!(second.stats().size, 3, "what the other one has idle is not taken for a minimum");
    Ok(())
}

#[test]
fn a_pool_can_be_built_while_others_have_all_of_the_budget_idle() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let first = pool(&lab, &budget, 2);
    drop(first.get_many(2)?);
    let second = Pool::builder(lab.manager()).budget(&budget).connection_timeout(SOON).build()?;
    assert_eq!((first.stats().size, second.stats().size), (1, 1));
    // More than one is only taken where it is free.
    let plan = WarmUp::blocking(2).within(Duration::from_millis(50));
    let third = Pool::builder(lab.manager()).budget(&budget).connection_timeout(SOON).warm_up(plan).build()?;
    assert_eq!(third.stats().size, 1);
    Ok(())
}

#[test]
fn pools_without_threads_share_a_budget() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let build =
        || Pool::builder(lab.manager()).budget(&budget).maintenance(Maintenance::Manual).connection_timeout(SOON);
    let (first, second) = (build().build_lazy()?, build().build_lazy()?);
    drop(first.get_many(2)?);
    let held = second.get_many(2)?;
    assert_eq!((first.stats().size, second.stats().size), (0, 2));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| first.get().map(drop));
        eventually("it waits", || first.stats().waiting == 1);
        drop(held);
        waiter.join().expect("no panic")
    })?;
    assert_eq!(lab.most_live.load(SeqCst), 2);
    Ok(())
}

#[test]
fn a_closed_pool_gives_its_share_back() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let (first, second) = (pool(&lab, &budget, 2), pool(&lab, &budget, 2));
    let held = first.get_many(2)?;
    first.close();
    assert_eq!(budget.stats().pools, 1);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| second.get_many(2).map(|both| both.len()));
        eventually("it waits", || second.stats().waiting == 1);
        drop(held);
        assert_eq!(waiter.join().expect("no panic").expect("both came free"), 2);
    });
    drop(first);
    assert_eq!((budget.stats().pools, budget.stats().taken), (1, 2));
    Ok(())
}

#[test]
fn a_pool_whose_server_is_away_or_that_is_paused_holds_up_no_other() -> Result<(), Error> {
    let (away, lab, budget) = (Lab::new(), Lab::new(), Budget::new(1));
    away.refuse.store(true, SeqCst);
    let (dead, paused, good) = (pool(&away, &budget, 1), pool(&lab, &budget, 1), pool(&lab, &budget, 1));
    paused.pause();
    thread::scope(|scope| {
        let unlucky = [scope.spawn(|| dead.get().map(drop)), scope.spawn(|| paused.get().map(drop))];
        eventually("the server is found to be away", || dead.stats().breaker != Breaker::Closed);
        eventually("a caller waits for the end of the pause", || paused.stats().waiting == 1);
        for _ in 0..20 {
            drop(good.get().expect("nothing is wrong here"));
        }
        away.refuse.store(false, SeqCst);
        paused.resume();
        unlucky.into_iter().for_each(|caller| caller.join().expect("no panic").expect("it is well again"));
    });
    assert_eq!(budget.stats().peak, 1);
    Ok(())
}

/// Sends those away who wait, also when an assertion fails: their clock stands still.
struct Closing<'a>(&'a Pool<Scripted>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[test]
fn a_pool_that_may_not_try_to_connect_yet_stands_in_no_line() -> Result<(), Error> {
    let (away, lab, budget, clock) = (Lab::new(), Lab::new(), Budget::new(2), HandClock::new());
    let gate = Lab::gate(&away.connect_gate);
    let dead = Pool::builder(away.manager()).max_size(2).budget(&budget).clock(clock).build_lazy()?;
    let good = pool(&lab, &budget, 2);
    let held = good.get()?;
    thread::scope(|scope| {
        let unlucky = [(); 2].map(|()| scope.spawn(|| dead.get_timeout(SOON).map(drop)));
        let closing = Closing(&dead);
        eventually("one connects and one is in line", || gate.waiting() == 1 && budget.stats().pools_waiting == 1);
        away.refuse.store(true, SeqCst);
        gate.open();
        // Its clock stands still, so the next attempt does not come.
        eventually("both have been told", || dead.stats().connect_failures == 1 && budget.stats().pools_waiting == 0);
        drop(held);
        assert_eq!((dead.stats().waiting, good.stats().size, budget.stats().given_up), (2, 1, 0));
        drop(closing);
        unlucky.into_iter().for_each(|caller| assert!(caller.join().expect("no panic").is_err()));
    });
    Ok(())
}

#[test]
fn a_panic_while_connecting_costs_the_budget_nothing() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(1));
    let (first, second) = (pool(&lab, &budget, 1), pool(&lab, &budget, 1));
    lab.set_panics(Some("connect"));
    assert!(first.get_timeout(Duration::from_millis(100)).is_err());
    lab.set_panics(None);
    drop(second.get()?);
    drop(first.get()?);
    assert_eq!((budget.stats().taken, budget.stats().peak), (1, 1));
    Ok(())
}

#[test]
fn a_lower_ceiling_takes_from_the_largest_and_a_higher_one_serves_who_waits() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(6));
    let (large, small) = (pool(&lab, &budget, 6), pool(&lab, &budget, 6));
    let (mut held, kept) = (large.get_many(4)?, small.get_many(2)?);
    budget.resize(3)?;
    assert_eq!(budget.stats().taken, 6, "nothing is taken from a borrower");
    held.truncate(1);
    eventually("three are closed", || lab.live.load(SeqCst) == 3);
    assert_eq!((large.stats().size, small.stats().size), (1, 2));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| small.get().map(drop));
        eventually("it waits", || small.stats().waiting == 1);
        budget.resize(4)?;
        waiter.join().expect("no panic")
    })?;
    drop(kept);
    let error = budget.resize(0).unwrap_err();
    assert_eq!((error.kind(), budget.stats().limit), (ErrorKind::Config, 4));
    assert!(error.to_string().contains("budget is 0"), "{error}");
    let error = budget.resize(1_048_577).unwrap_err();
    assert_eq!((error.kind(), budget.stats().limit), (ErrorKind::Config, 4));
    assert!(error.to_string().contains("budget is 1048577, but 1048576 is the most"), "{error}");
    let error = Pool::builder(lab.manager()).max_size(0).budget(&Budget::new(0)).build_lazy().unwrap_err().to_string();
    assert!(error.contains("budget is 0") && error.contains("max_size is 0"), "{error}");
    Ok(())
}

#[test]
fn callers_of_pools_without_threads_use_what_they_have_opened_before_it_is_given_up() {
    let (lab, budget) = (Lab::new(), Budget::new(1));
    let build =
        || Pool::builder(lab.manager()).budget(&budget).maintenance(Maintenance::Manual).connection_timeout(SOON);
    let pools: Vec<_> = (0..3).map(|_| build().build_lazy().expect("good settings")).collect();
    thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| (0..20).for_each(|_| pool.with(|conn| conn.exclusively(|| ())).expect("in turn")));
        }
    });
    let opened: u64 = pools.iter().map(|pool| pool.stats().opened).sum();
    assert!(opened <= 60, "{opened} opened for 60 uses");
    assert_eq!(lab.most_live.load(SeqCst), 1);
}

#[test]
fn pools_that_are_built_at_once_on_a_small_budget_are_all_built() {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    thread::scope(|scope| {
        let builders: Vec<_> = (0..6)
            .map(|_| {
                let builder = Pool::builder(lab.manager()).budget(&budget).connection_timeout(SOON);
                scope.spawn(|| builder.build().expect("its turn comes"))
            })
            .collect();
        let pools: Vec<_> = builders.into_iter().map(|builder| builder.join().expect("no panic")).collect();
        let opened: u64 = pools.iter().map(|pool| pool.stats().opened).sum();
        assert!(opened <= 12, "{opened} opened for six pools");
    });
    assert!(lab.most_live.load(SeqCst) <= 2);
}

#[test]
fn a_pool_is_built_beside_one_that_is_busy() {
    let (lab, budget, done) = (Lab::new(), Budget::new(1), AtomicBool::new(false));
    let busy = pool(&lab, &budget, 1);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    busy.with(|conn| conn.exclusively(thread::yield_now)).expect("in turn")
                }
            });
        }
        eventually("it is busy", || busy.stats().checkouts > 100);
        let built = Pool::builder(lab.manager()).budget(&budget).connection_timeout(SOON).build();
        done.store(true, SeqCst);
        built.expect("its turn comes");
    });
}

#[test]
fn what_a_paused_pool_has_idle_is_given_up_although_callers_wait_for_its_end() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(1));
    let (paused, other) = (pool(&lab, &budget, 1), pool(&lab, &budget, 1));
    drop(paused.get()?);
    paused.pause();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| paused.get().map(drop));
        eventually("it waits", || paused.stats().waiting == 1);
        drop(other.get()?);
        paused.resume();
        waiter.join().expect("no panic")
    })
}

#[test]
fn hundreds_of_pools_without_threads_give_up_at_once_what_is_too_many() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2000));
    let build = || Pool::builder(lab.manager()).budget(&budget).maintenance(Maintenance::Manual).build();
    let pools: Vec<_> = (0..2000).map(|_| build()).collect::<Result<_, _>>()?;
    budget.resize(1)?;
    assert_eq!((lab.live.load(SeqCst), budget.stats().taken), (1, 1));
    drop(pools);
    Ok(())
}

#[test]
fn a_waiter_gets_what_comes_back_first_and_not_what_somebody_keeps() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(3));
    let (slow, quick, starved) = (pool(&lab, &budget, 3), pool(&lab, &budget, 3), pool(&lab, &budget, 3));
    let (kept, held) = (slow.get_many(2)?, quick.get()?);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| starved.get().map(drop));
        eventually("it waits", || starved.stats().waiting == 1);
        let own = scope.spawn(|| quick.get().map(drop));
        eventually("the quick pool has a caller, too", || budget.stats().pools_waiting == 2);
        drop(held);
        waiter.join().expect("no panic").expect("what came back");
        own.join().expect("no panic")
    })?;
    drop(kept);
    Ok(())
}

#[test]
fn callers_that_gather_in_two_pools_do_not_hold_each_other_up() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let pools = [pool(&lab, &budget, 2), pool(&lab, &budget, 2)];
    thread::scope(|scope| {
        for pool in &pools {
            for _ in 0..3 {
                scope.spawn(|| (0..10).for_each(|_| drop(pool.get_many(2).expect("in turn"))));
            }
        }
    });
    budget.resize(1)?;
    let error = pools[0].get_many(2).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("its budget is 1"), "{error}");
    Ok(())
}

#[test]
fn who_does_not_wait_takes_nothing_from_others() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(1));
    let (first, second) = (pool(&lab, &budget, 1), pool(&lab, &budget, 1));
    drop(first.get()?);
    assert!(second.get_timeout(Duration::ZERO).is_err());
    assert!(second.try_get().is_none());
    assert_eq!((first.stats().idle, budget.stats().given_up), (1, 0));
    Ok(())
}

#[test]
fn pools_with_threads_and_without_do_not_share_a_budget() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(2));
    let _first = pool(&lab, &budget, 1);
    let error = Pool::builder(lab.manager()).budget(&budget).maintenance(Maintenance::Manual).build_lazy().unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("with threads and without"), "{error}");
    Ok(())
}

#[test]
fn callers_of_a_pool_that_has_all_of_the_budget_are_served_in_turn() -> Result<(), Error> {
    for by_hand in [false, true] {
        let (lab, budget) = (Lab::new(), Budget::new(2));
        let builder = Pool::builder(lab.manager()).max_size(10).connection_timeout(SOON).budget(&budget);
        let pool = if by_hand { builder.clock(HandClock::new()) } else { builder }.build_lazy()?;
        let held = pool.get_many(2)?;
        thread::scope(|scope| {
            let callers: Vec<_> = (0..30).map(|_| scope.spawn(|| pool.get().map(drop))).collect();
            eventually("all wait", || pool.stats().waiting == 30);
            drop(held);
            callers.into_iter().try_for_each(|caller| caller.join().expect("no panic"))
        })?;
        assert_eq!((lab.most_live.load(SeqCst), budget.stats().given_up), (2, 0));
    }
    Ok(())
}

#[test]
fn who_would_rather_fail_fast_does_so_when_the_budget_has_no_place_for_the_next_attempt() -> Result<(), Error> {
    let (lab, budget, clock) = (Lab::new(), Budget::new(1), HandClock::new());
    lab.refuse.store(true, SeqCst);
    let builder = Pool::builder(lab.manager()).budget(&budget).when_down(WhenDown::FailFast).clock(clock.clone());
    let dead = builder.connection_timeout(SOON).build_lazy()?;
    assert!(dead.get().is_err());
    let good = Lab::new();
    let held = pool(&good, &budget, 1).get()?;
    clock.advance(Duration::from_secs(60));
    let caller = thread::spawn(move || dead.get().map(drop));
    eventually("it is told", || caller.is_finished());
    assert_eq!(caller.join().expect("no panic").unwrap_err().kind(), ErrorKind::Connect);
    drop(held);
    Ok(())
}

#[test]
fn a_connection_that_is_slow_to_close_is_waited_for_and_then_gives_its_place_away() -> Result<(), Error> {
    let (lab, budget) = (Lab::new(), Budget::new(1));
    let (first, second) = (pool(&lab, &budget, 1), pool(&lab, &budget, 1));
    drop(first.get()?);
    let gate: Gate = Lab::gate(&lab.drop_gate);
    drop(second.get()?);
    assert_eq!(first.stats().size, 1, "it is still being closed");
    gate.open();
    eventually("it is closed", || first.stats().size == 0);
    Ok(())
}

#[test]
fn the_numbers_of_a_budget_have_stable_names() {
    let budget = Budget::new(3);
    let pool = pool(&Lab::new(), &budget, 1);
    drop(pool.get().expect("it connects"));
    let json = serde_json::to_value(budget.stats()).expect("it is JSON");
    let expected =
        serde_json::json!({"limit": 3, "taken": 1, "peak": 1, "pools": 1, "pools_waiting": 0, "given_up": 0});
    assert_eq!(json, expected);
}
