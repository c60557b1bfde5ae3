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

mod budget;
mod one_pool;

use crate::budget::Account;
use crate::clock::{Clock, Moment};
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
    if matches!(threads, Pools) {
        // Every lock and every word is one; with three pools there are more than the thousand that loom allows.
        builder.max_branches = 5_000;
    }
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
        rack.close_ends(slot, reason);
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
