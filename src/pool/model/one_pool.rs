//! What one pool's threads do to each other.

use super::{
    Four, NOW, QUEUES, Three, Two, at_rest, borrow, borrow_as, borrow_for_ever, check, close_all, put, rack, stocked,
    take, use_it,
};
use crate::clock::{Clock, HandClock, Moment};
use crate::error::Error;
use crate::event::CloseReason;
use crate::pool::waiters::Waiter;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
        close_all(&rack, rack.close(&Error::closed(&Arc::from("model"))).1, CloseReason::PoolClosed);
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
            rack.fail_waiters(&Error::closed(&Arc::from("model")), false);
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
                thread::spawn(move || {
                    close_all(&rack, rack.close(&Error::closed(&Arc::from("model"))).1, CloseReason::PoolClosed)
                })
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
