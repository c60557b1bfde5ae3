//! Models of the book and the shelf for loom: every interleaving of two threads, and of three or four with at most three
//! or two preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p millpond --release --lib model -- --nocapture`
//!
//! `LOOM_MAX_PREEMPTIONS` sets another bound; `scripts/loom-long` takes 3 for all. Each model prints how many executions
//! it took.
//!
//! The code under test is the code that runs; what is modelled is what surrounds it: a connection is a [`Token`], a
//! borrower is a closure, and a deadline is a clock that another thread moves. The loop of [`borrow`] is the loop
//! of `Core::wait_in_queue` without judging and telling; the whole of that is in the random schedules of
//! `tests/shuttle/`.

use crate::budget::{Account, Budget, Member};
use crate::clock::{Clock, HandClock, Moment};
use crate::error::Error;
use crate::event::CloseReason;
use crate::pool::rack::{Limits, Permit, Rack, Unwanted};
use crate::pool::shelf::{Mark, Put};
use crate::pool::waiters::{Waiter, Woken, Word};
use crate::sync::AtomicU32;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A connection. Two borrowers at once would find the flag raised.
#[derive(Debug)]
struct Token {
    permit: Permit<Token>,
    used: AtomicBool,
    /// Written by each borrower without any ordering of its own, and compared with `uses`, which the checker does not
    /// see: who reads an older value got the connection without what its previous borrower did to it.
    written: AtomicU32,
    uses: AtomicU64,
}

type Shelved = Arc<Rack<Token>>;

/// How many threads a model has, the main one included.
#[derive(Clone, Copy)]
enum Threads {
    Two,
    Three,
    Four,
    /// So many pools with a thread each: all they do is done under one lock more.
    Pools,
}
use Threads::{Four, Pools, Three, Two};

/// Runs a model and says how many executions it took.
fn check(name: &str, threads: Threads, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    // Every lock and every word is one; with three pools there are more than the thousand that loom allows.
    builder.max_branches = 5_000;
    builder.preemption_bound = match threads {
        Two => None,
        Three => Some(builder.preemption_bound.unwrap_or(3)),
        Four | Pools => Some(builder.preemption_bound.unwrap_or(2)),
    };
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let bound = builder.preemption_bound.map_or("complete".to_owned(), |n| format!("at most {n} preemptions"));
    println!("{name}: {} executions ({bound})", executions.load(Ordering::Relaxed));
}

fn rack(max_size: u32, patience: Option<Duration>) -> Shelved {
    rack_with(max_size, patience, None)
}

fn rack_with(max_size: u32, patience: Option<Duration>, account: Option<Account>) -> Shelved {
    Arc::new(Rack::new(
        1,
        Limits {
            max_size,
            min_idle: 0,
            max_connecting: 4,
            max_waiting: None,
            patience,
            fail_fast: false,
            start_up: Duration::MAX,
            give_up: Duration::MAX,
        },
        account,
    ))
}

/// Hand over to the oldest waiter at once, or never before an hour has passed, or strictly.
const QUEUES: [Option<Duration>; 3] = [Some(Duration::ZERO), Some(Duration::from_secs(3600)), None];

const NOW: Moment = Moment::ZERO;

fn open(rack: &Shelved, mut permit: Permit<Token>) -> Box<Token> {
    let (_, pending) = rack.opened(&mut permit, true, NOW);
    drop(pending);
    Box::new(Token { permit, used: AtomicBool::new(false), written: AtomicU32::new(0), uses: AtomicU64::new(0) })
}

/// A pool with `count` connections on the shelf.
fn stocked(max_size: u32, count: u32, patience: Option<Duration>) -> Shelved {
    let rack = rack(max_size, patience);
    let tokens: Vec<_> = (0..count).map(|_| open(&rack, rack.try_reserve().expect("there is room"))).collect();
    for token in tokens {
        put(&rack, token);
    }
    rack
}

fn put(rack: &Shelved, token: Box<Token>) {
    let slot = token.permit.slot();
    match rack.shelf.put(slot, token, Mark::idle(0)) {
        Put::Done => {}
        other => part_with(rack, rack.settle(other, slot, Mark::idle(0), NOW)),
    }
}

/// Closes what is not wanted.
fn part_with(rack: &Shelved, Unwanted { entries, reason }: Unwanted<Token>) {
    close_all(rack, entries, reason);
}

fn close_all(rack: &Shelved, tokens: Vec<Box<Token>>, reason: CloseReason) {
    for token in tokens {
        let slot = u64::from(token.permit.slot());
        rack.close_begins(slot, token.permit, NOW, reason);
        rack.close_ends(slot);
    }
}

fn take(rack: &Shelved) -> Option<Box<Token>> {
    rack.shelf.take_first(0, u32::MAX).map(|(_, taken)| {
        taken.slot.set_mark(Mark::lent(1, 0));
        taken.entry
    })
}

fn use_it(token: &Token) {
    assert!(!token.used.swap(true, Ordering::SeqCst), "two borrowers of one connection");
    let uses = token.uses.fetch_add(1, Ordering::SeqCst);
    assert_eq!(u64::from(token.written.load(Ordering::Relaxed)), uses, "what the previous borrower did is not seen");
    token.written.store(uses as u32 + 1, Ordering::Relaxed);
    thread::yield_now();
    token.used.store(false, Ordering::SeqCst);
}

fn look(rack: &Shelved, strict: bool) -> Option<Box<Token>> {
    if strict {
        part_with(rack, rack.look(NOW));
        None
    } else {
        take(rack)
    }
}

/// Borrows as a caller does: from the shelf, else by waiting and, where there is room, by opening.
fn borrow(rack: &Shelved, clock: &Clock, deadline: Moment, strict: bool) -> Result<Option<Box<Token>>, ()> {
    borrow_as(&Waiter::new(0, false), rack, clock, deadline, strict)
}

fn borrow_as(
    waiter: &Arc<Waiter<Token>>,
    rack: &Shelved,
    clock: &Clock,
    deadline: Moment,
    strict: bool,
) -> Result<Option<Box<Token>>, ()> {
    if (!strict || rack.shelf.alert() == 0)
        && let Some(token) = take(rack)
    {
        return Ok(Some(token));
    }
    let ticket = rack.enter(waiter, NOW).map_err(|_| ())?;
    let leave = |queued: bool| if queued { rack.withdraw(ticket, waiter) } else { Word::Wait };
    let (found, queued) = loop {
        if let Some(token) = look(rack, strict) {
            break (Ok(Some(token)), true);
        }
        for permit in rack.plan_for((ticket, waiter), NOW, false).expect("the server is there") {
            // A helper would do this; doing it here gives the same steps in the same order to fewer threads.
            put(rack, open(rack, permit));
        }
        match waiter.sleep(clock, deadline) {
            Woken::Look => rack.rest(ticket),
            Woken::Given(token) => break (Ok(Some(token)), false),
            Woken::Failed(_) => break (Err(()), false),
            Woken::TimedOut => match leave(true) {
                Word::Given(token) => break (Ok(Some(token)), false),
                Word::Failed(_) => break (Err(()), false),
                Word::Wait | Word::Look => break (Ok(None), false),
            },
        }
    };
    if let Word::Given(extra) = leave(queued) {
        put(rack, extra);
    }
    found
}

fn borrow_for_ever(rack: &Shelved, strict: bool) -> Box<Token> {
    borrow(rack, &Clock::System, Moment::NEVER, strict).expect("nobody closes it").expect("nobody gives up")
}

/// What must hold when all is quiet: so many connections lie on the shelf, and nobody is in the books.
fn at_rest(rack: &Shelved, connections: u32) {
    let numbers = rack.numbers();
    assert_eq!((numbers.waiting, numbers.opening), (0, 0));
    assert_eq!(rack.shelf.idle(), connections, "connections on the shelf");
    assert_eq!(numbers.taken, connections, "permits that are out");
    let tokens: Vec<_> = std::iter::from_fn(|| take(rack)).collect();
    assert_eq!(tokens.len() as u32, connections);
}

#[test]
fn model_one_connection_is_never_with_two_borrowers() {
    check("one connection, two borrowers", Two, || {
        let rack = stocked(1, 1, QUEUES[1]);
        let borrower = || {
            let rack = Arc::clone(&rack);
            move || {
                if let Some(token) = take(&rack) {
                    use_it(&token);
                    put(&rack, token);
                }
            }
        };
        let other = thread::spawn(borrower());
        borrower()();
        other.join().expect("no panic");
        at_rest(&rack, 1);
    });
}

#[test]
fn model_a_returner_and_a_waiter_do_not_miss_each_other() {
    for patience in QUEUES {
        check("a returner and a waiter", Two, move || {
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let waiter = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || {
                    let token = borrow_for_ever(&rack, patience.is_none());
                    use_it(&token);
                    put(&rack, token);
                })
            };
            use_it(&token);
            put(&rack, token);
            waiter.join().expect("no panic");
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_two_waiters_are_both_served_by_one_connection() {
    for patience in QUEUES {
        check("two waiters, one connection", Three, move || {
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let rack = Arc::clone(&rack);
                    thread::spawn(move || put(&rack, borrow_for_ever(&rack, patience.is_none())))
                })
                .collect();
            put(&rack, token);
            for waiter in waiters {
                waiter.join().expect("no panic");
            }
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_two_returns_serve_two_waiters() {
    for patience in QUEUES {
        check("two waiters, two connections", Four, move || {
            let rack = stocked(2, 2, patience);
            let (one, two) = (take(&rack).expect("it lies there"), take(&rack).expect("it lies there"));
            let waiter = || {
                let rack = Arc::clone(&rack);
                // It keeps what it gets, so that only a return can serve the other.
                thread::spawn(move || borrow_for_ever(&rack, patience.is_none()))
            };
            let waiters = [waiter(), waiter()];
            let returner = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || put(&rack, one))
            };
            put(&rack, two);
            returner.join().expect("no panic");
            // Both have theirs before either is put back: a return must not serve the other one.
            let tokens = waiters.map(|waiter| waiter.join().expect("no panic"));
            for token in tokens {
                put(&rack, token);
            }
            at_rest(&rack, 2);
        });
    }
}

#[test]
fn model_a_waiter_that_gives_up_swallows_nothing() {
    for patience in QUEUES {
        check("a return and a time-out", Three, move || {
            let hand = HandClock::new();
            let clock = Clock::Hand(hand.clone());
            let deadline = clock.now().after(Duration::from_secs(1));
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let waiter = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || {
                    let found = borrow(&rack, &clock, deadline, patience.is_none()).expect("nobody closes it");
                    if let Some(token) = found {
                        put(&rack, token);
                    }
                })
            };
            let timer = thread::spawn(move || hand.advance(Duration::from_secs(2)));
            put(&rack, token);
            waiter.join().expect("no panic");
            timer.join().expect("no panic");
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_a_deadline_ends_a_wait_that_nothing_else_ends() {
    for patience in QUEUES {
        check("a time-out alone", Two, move || {
            let hand = HandClock::new();
            let clock = Clock::Hand(hand.clone());
            let deadline = clock.now().after(Duration::from_secs(1));
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let waiter = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || borrow(&rack, &clock, deadline, patience.is_none()))
            };
            hand.advance(Duration::from_secs(2));
            let found = waiter.join().expect("no panic").expect("nobody closes it");
            assert!(found.is_none(), "it was borrowed all the time");
            put(&rack, token);
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_one_gives_up_and_the_other_is_served() {
    for patience in QUEUES {
        check("a return, a time-out and a waiter", Three, move || {
            let hand = HandClock::new();
            let clock = Clock::Hand(hand.clone());
            let deadline = clock.now().after(Duration::from_secs(1));
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let impatient = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || {
                    let found = borrow(&rack, &clock, deadline, patience.is_none()).expect("nobody closes it");
                    if let Some(token) = found {
                        put(&rack, token);
                    }
                })
            };
            let patient = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || put(&rack, borrow_for_ever(&rack, patience.is_none())))
            };
            put(&rack, token);
            hand.advance(Duration::from_secs(2));
            impatient.join().expect("no panic");
            patient.join().expect("no panic");
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_a_place_that_comes_free_serves_a_waiter() {
    for patience in QUEUES {
        check("a discard and a waiter", Two, move || {
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let waiter = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || put(&rack, borrow_for_ever(&rack, patience.is_none())))
            };
            drop(token);
            waiter.join().expect("no panic");
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_a_return_and_a_discard_serve_two_waiters() {
    for patience in QUEUES {
        check("a return, a discard and two waiters", Three, move || {
            let rack = stocked(2, 2, patience);
            let (one, two) = (take(&rack).expect("it lies there"), take(&rack).expect("it lies there"));
            let waiter = || {
                let rack = Arc::clone(&rack);
                thread::spawn(move || borrow_for_ever(&rack, patience.is_none()))
            };
            let waiters = [waiter(), waiter()];
            put(&rack, one);
            drop(two);
            // Both have theirs before either is put back: a return must not serve the other one.
            let tokens = waiters.map(|waiter| waiter.join().expect("no panic"));
            for token in tokens {
                put(&rack, token);
            }
            at_rest(&rack, 2);
        });
    }
}

#[test]
fn model_the_maximum_holds_whoever_plans() {
    check("two plans, one place", Two, || {
        let rack = rack(1, QUEUES[1]);
        let live = Arc::new(AtomicU64::new(0));
        let planner = || {
            let (rack, live) = (Arc::clone(&rack), Arc::clone(&live));
            move || {
                let waiter = Waiter::new(0, false);
                let ticket = rack.enter(&waiter, NOW).expect("nobody closes it");
                for permit in rack.plan(NOW) {
                    assert_eq!(live.fetch_add(1, Ordering::SeqCst), 0, "two connections where one is allowed");
                    thread::yield_now();
                    live.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
                drop(rack.withdraw(ticket, &waiter));
            }
        };
        let other = thread::spawn(planner());
        planner()();
        other.join().expect("no panic");
        at_rest(&rack, 0);
    });
}

#[test]
fn model_nothing_is_left_on_the_shelf_of_a_closed_pool() {
    check("a return and a close", Two, || {
        let rack = stocked(2, 2, QUEUES[1]);
        let token = take(&rack).expect("it lies there");
        let returner = {
            let rack = Arc::clone(&rack);
            thread::spawn(move || put(&rack, token))
        };
        close_all(&rack, rack.close(&Error::closed("model")).1, CloseReason::PoolClosed);
        returner.join().expect("no panic");
        at_rest(&rack, 0);
    });
}

#[test]
fn model_who_is_sent_to_another_pool_takes_nothing_along() {
    for patience in QUEUES {
        check("a return, and one of two waiters is sent elsewhere", Three, move || {
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let [mover, stayer] = [true, false].map(|elsewhere| {
                let rack = Arc::clone(&rack);
                thread::spawn(move || {
                    let waiter = Waiter::new(0, elsewhere);
                    match borrow_as(&waiter, &rack, &Clock::System, Moment::NEVER, patience.is_none()) {
                        Ok(found) => put(&rack, found.expect("nobody gives up")),
                        Err(()) => assert!(elsewhere, "it has nowhere to go"),
                    }
                })
            });
            put(&rack, token);
            rack.fail_waiters(&Error::closed("model"), false);
            mover.join().expect("no panic");
            stayer.join().expect("no panic");
            at_rest(&rack, 1);
        });
    }
}

#[test]
fn model_a_close_fails_every_waiter() {
    for patience in QUEUES {
        check("a return, a waiter and a close", Three, move || {
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            let waiter = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || {
                    if let Ok(found) = borrow(&rack, &Clock::System, Moment::NEVER, patience.is_none()) {
                        put(&rack, found.expect("nobody gives up"));
                    }
                })
            };
            let closer = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || close_all(&rack, rack.close(&Error::closed("model")).1, CloseReason::PoolClosed))
            };
            put(&rack, token);
            waiter.join().expect("no panic");
            closer.join().expect("no panic");
            at_rest(&rack, 0);
        });
    }
}

#[test]
fn model_growing_serves_a_waiter_and_shrinking_keeps_to_the_new_maximum() {
    check("a waiter and a larger maximum", Two, || {
        let rack = stocked(1, 1, QUEUES[1]);
        let held = take(&rack).expect("it lies there");
        let waiter = {
            let rack = Arc::clone(&rack);
            thread::spawn(move || borrow_for_ever(&rack, false))
        };
        close_all(&rack, rack.resize(2).1, CloseReason::Resize);
        let other = waiter.join().expect("no panic");
        put(&rack, held);
        put(&rack, other);
        at_rest(&rack, 2);
    });
    check("a return and a smaller maximum", Two, || {
        let rack = stocked(2, 2, QUEUES[1]);
        let token = take(&rack).expect("it lies there");
        let returner = {
            let rack = Arc::clone(&rack);
            thread::spawn(move || put(&rack, token))
        };
        close_all(&rack, rack.resize(1).1, CloseReason::Resize);
        returner.join().expect("no panic");
        at_rest(&rack, 1);
    });
}

#[test]
fn model_a_pause_ends_for_everybody() {
    for patience in QUEUES {
        check("a return and a waiter over a pause", Three, move || {
            let rack = stocked(1, 1, patience);
            let token = take(&rack).expect("it lies there");
            rack.pause(None);
            let waiter = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || put(&rack, borrow_for_ever(&rack, patience.is_none())))
            };
            let returner = {
                let rack = Arc::clone(&rack);
                thread::spawn(move || put(&rack, token))
            };
            rack.resume();
            waiter.join().expect("no panic");
            returner.join().expect("no panic");
            at_rest(&rack, 1);
        });
    }
}

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
    check("a return, a waiter that gives up in a second pool, and one in a third", Pools, || {
        let (budget, sharers) = sharers(1, 3, QUEUES[1]);
        let token = take(&sharers[0].rack).expect("it lies there");
        let impatient = {
            let rack = Arc::clone(&sharers[1].rack);
            thread::spawn(move || {
                // Its deadline has passed when it begins to wait.
                if let Some(token) = borrow(&rack, &Clock::System, NOW, false).expect("nobody closes it") {
                    put(&rack, token);
                }
            })
        };
        let waiter = {
            let rack = Arc::clone(&sharers[2].rack);
            thread::spawn(move || put(&rack, borrow_for_ever(&rack, false)))
        };
        put(&sharers[0].rack, token);
        impatient.join().expect("no panic");
        waiter.join().expect("no panic");
        shared_at_rest(&budget, &sharers);
    });
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
        close_all(rack, rack.close(&Error::closed("model")).1, CloseReason::PoolClosed);
        waiter.join().expect("no panic");
        shared_at_rest(&budget, &sharers);
    });
}
