//! Several pools as one: who serves, who is left out, and how it comes back.

mod support;

use millpond::balance::{Balance, Balanced, BalancedBuilder};
use millpond::testing::HandClock;
use millpond::{Breaker, Builder, Error, ErrorKind, Maintenance, Manager, Nested, Pool, RetryPolicy, Validation};
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Gate, LONG, Lab, Named, Refused, Scripted, eventually};

fn named(name: &'static str, max_size: u32) -> Pool<Named> {
    Pool::builder(Named(name)).name(name).max_size(max_size).build().expect("it opens")
}

/// `a`, `b` and `c` with these weights.
fn three(policy: Balance, weights: [u32; 3]) -> Balanced<Named> {
    let [a, b, c] = weights;
    Balanced::builder()
        .policy(policy)
        .weighted("a", named("a", 4), a)
        .weighted("b", named("b", 4), b)
        .weighted("c", named("c", 4), c)
        .build()
        .expect("good settings")
}

fn served(balanced: &Balanced<Named>, turns: usize) -> String {
    (0..turns).map(|_| balanced.with(|name| *name).expect("one is idle")).collect()
}

fn count(served: &str) -> [usize; 3] {
    ["a", "b", "c"].map(|name| served.matches(name).count())
}

/// A pool over a scripted server that says what it is told.
fn scripted(lab: &Arc<Lab>, name: &str) -> Builder<Scripted> {
    Pool::builder(lab.manager()).name(name).max_size(4)
}

fn pair(policy: Balance, a: Builder<Scripted>, b: Builder<Scripted>) -> BalancedBuilder<Scripted> {
    let open = |builder: Builder<Scripted>| builder.build_lazy().expect("good settings");
    Balanced::builder().name("pair").policy(policy).member("a", open(a)).member("b", open(b))
}

fn checkouts(balanced: &Balanced<Scripted>, member: &str) -> u64 {
    balanced.pool(member).expect("there is one").stats().checkouts
}

fn away(balanced: &Balanced<Scripted>, member: &str) -> bool {
    balanced.members().iter().any(|status| status.name == member && status.away)
}

#[test]
fn members_serve_one_after_the_other() {
    assert_eq!(served(&three(Balance::RoundRobin, [1, 1, 1]), 7), "abcabca");
    assert_eq!(served(&three(Balance::RoundRobin, [7, 0, 1]), 4), "acac", "weights only say who is drained");
}

#[test]
fn with_weights_every_round_is_dealt_out_exactly() -> Result<(), Error> {
    let balanced = three(Balance::Weighted, [5, 2, 1]);
    for _ in 0..3 {
        assert_eq!(count(&served(&balanced, 8)), [5, 2, 1]);
    }
    // From another start, and with others' turns in between, a round is a round.
    served(&balanced, 3);
    assert_eq!(count(&served(&balanced, 8)), [5, 2, 1]);
    balanced.set_weight("a", 0)?;
    assert_eq!(count(&served(&balanced, 9)), [0, 6, 3], "those that are left, in proportion");
    balanced.set_weight("a", 1)?;
    balanced.set_weight("c", 0)?;
    assert_eq!(count(&served(&balanced, 9)), [3, 6, 0]);
    Ok(())
}

#[test]
fn eight_threads_together_have_exactly_the_same_rounds() {
    // With room for all eight nobody is passed over.
    let balanced = Balanced::builder()
        .policy(Balance::Weighted)
        .weighted("a", named("a", 8), 5)
        .weighted("b", named("b", 8), 2)
        .weighted("c", named("c", 8), 1)
        .build()
        .expect("good settings");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| served(&balanced, 100));
        }
    });
    let lent = |name| balanced.pool(name).expect("there is one").stats().checkouts;
    assert_eq!(["a", "b", "c"].map(lent), [500, 200, 100]);
}

#[test]
fn the_least_busy_serves_relative_to_its_size() -> Result<(), Error> {
    let balanced = Balanced::builder()
        .policy(Balance::LeastBusy)
        .member("large", named("large", 8))
        .member("small", named("small", 2))
        .build()?;
    let mut held: Vec<_> = (0..10).map(|_| balanced.get()).collect::<Result<_, _>>()?;
    // At each step the next one went to the smaller part in use, so both filled up together.
    let small = |n: usize| held.iter().take(n).filter(|conn| ***conn == "small").count();
    assert_eq!((small(2), small(5), small(10)), (1, 1, 2));
    assert!((1..=2).contains(&small(6)), "{}", small(6));
    held.clear();
    // Without load they take turns.
    let free: Vec<_> = (0..4).map(|_| balanced.with(|name| *name)).collect::<Result<_, _>>()?;
    assert_eq!(free.iter().filter(|&&name| name == "small").count(), 2);
    Ok(())
}

#[test]
fn a_full_member_is_passed_over_while_another_has_a_connection_or_room() -> Result<(), Error> {
    let balanced = Balanced::builder().member("a", named("a", 1)).member("b", named("b", 2)).build()?;
    let held = balanced.get()?;
    assert_eq!(*held, "a");
    let rest = [balanced.get()?, balanced.get()?];
    assert!(rest.iter().all(|conn| **conn == "b"), "one was idle, one had to be opened");
    // Now all are full.
    let error = balanced.get_timeout(Duration::from_millis(30)).expect_err("nothing comes back");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Exhausted, true));
    assert_eq!(error.holders().len(), error.stats().expect("of the one where it waited").in_use as usize);
    let text = error.to_string();
    assert!(text.starts_with(r#"no member of "balanced" has a connection: "a": "#), "{text}");
    assert!(text.contains("timed out after") && text.contains("was not asked, because the time was over"), "{text}");
    assert!(balanced.members().iter().all(|member| !member.away), "nobody is left out for being busy");
    assert!(balanced.try_get().is_none());
    drop(held);
    assert_eq!(*balanced.try_get().expect("one came back"), "a");
    Ok(())
}

#[test]
fn a_standby_is_not_there_for_what_is_too_much_for_the_first() -> Result<(), Error> {
    let balanced =
        Balanced::builder().policy(Balance::Failover).member("a", named("a", 1)).member("b", named("b", 1)).build()?;
    let held = balanced.get()?;
    assert_eq!(*held, "a");
    let error = balanced.get_timeout(Duration::from_millis(20)).expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(balanced.pool("b").expect("there is one").stats().checkouts, 0);
    Ok(())
}

#[test]
fn a_member_whose_server_refuses_costs_nobody_an_error_and_comes_back_by_itself() -> Result<(), Error> {
    for policy in [Balance::RoundRobin, Balance::Weighted, Balance::LeastBusy, Balance::Failover] {
        let (lab_a, lab_b) = (Lab::new(), Lab::new());
        let balanced = pair(policy, scripted(&lab_a, "a"), scripted(&lab_b, "b")).build()?;
        lab_a.refuse.store(true, SeqCst);
        for _ in 0..6 {
            drop(balanced.get_timeout(LONG)?);
        }
        assert!(away(&balanced, "a") && !away(&balanced, "b"), "{policy:?}");
        assert_eq!((checkouts(&balanced, "a"), checkouts(&balanced, "b")), (0, 6), "{policy:?}");
        assert_eq!(
            balanced.pool("a").expect("there is one").stats().waits,
            1,
            "only the first one met it ({policy:?})"
        );
        lab_a.refuse.store(false, SeqCst);
        // Its pool finds out; callers only look.
        eventually("it serves again", || {
            drop(balanced.get_timeout(LONG).expect("the other one is there"));
            checkouts(&balanced, "a") > 0
        });
        assert!(!away(&balanced, "a"));
        assert_eq!(lab_b.attempts.load(SeqCst), 1, "{policy:?}");
    }
    Ok(())
}

#[test]
fn the_return_of_the_first_ends_the_standbys_turn() -> Result<(), Error> {
    let (lab_a, lab_b) = (Lab::new(), Lab::new());
    let balanced = pair(Balance::Failover, scripted(&lab_a, "a"), scripted(&lab_b, "b")).build()?;
    drop(balanced.get()?);
    assert_eq!((checkouts(&balanced, "a"), checkouts(&balanced, "b")), (1, 0));
    lab_a.refuse.store(true, SeqCst);
    balanced.pool("a").expect("there is one").refresh();
    drop(balanced.get_timeout(LONG)?);
    assert_eq!(checkouts(&balanced, "b"), 1);
    lab_a.refuse.store(false, SeqCst);
    eventually("the first one serves", || {
        drop(balanced.get_timeout(LONG).expect("one is there"));
        !away(&balanced, "a")
    });
    let standby = checkouts(&balanced, "b");
    for _ in 0..10 {
        drop(balanced.get()?);
    }
    assert_eq!(checkouts(&balanced, "b"), standby);
    Ok(())
}

#[test]
fn who_waits_when_the_server_goes_moves_on_and_who_has_only_this_pool_waits_on() -> Result<(), Error> {
    let (lab_a, lab_b) = (Lab::new(), Lab::new());
    let gate = Lab::gate(&lab_a.connect_gate);
    let balanced = pair(Balance::Failover, scripted(&lab_a, "a"), scripted(&lab_b, "b")).build()?;
    let alone = balanced.pool("a").expect("there is one").clone();
    thread::scope(|scope| {
        let patient = scope.spawn(|| alone.get_timeout(LONG).map(drop));
        let movers: Vec<_> = (0..4).map(|_| scope.spawn(|| balanced.get_timeout(LONG).map(drop))).collect();
        eventually("all wait", || alone.stats().waiting == 5);
        lab_a.refuse.store(true, SeqCst);
        gate.open();
        for mover in movers {
            mover.join().expect("no panic").expect("the other one is there");
        }
        assert_eq!(checkouts(&balanced, "b"), 4);
        assert_eq!(alone.stats().waiting, 1, "its pool is set to wait");
        lab_a.refuse.store(false, SeqCst);
        patient.join().expect("no panic").expect("the server is back");
    });
    assert_eq!(alone.stats().timeouts, 0);
    Ok(())
}

#[test]
fn a_server_that_does_not_answer_costs_a_caller_its_share_of_the_time() -> Result<(), Error> {
    let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
    let gate = Lab::gate(&lab_a.connect_gate);
    let on_clock = |lab, name| scripted(lab, name).clock(clock.clone());
    let balanced =
        pair(Balance::Failover, on_clock(&lab_a, "a"), on_clock(&lab_b, "b")).clock(clock.clone()).build()?;
    let hung = balanced.pool("a").expect("there is one").clone();
    thread::scope(|scope| {
        let caller = scope.spawn(|| balanced.get_timeout(Duration::from_secs(10)).map(drop));
        eventually("it waits", || hung.stats().waiting == 1 && gate.waiting() > 0);
        clock.advance(Duration::from_millis(4_900));
        assert_eq!(hung.stats().waiting, 1, "not before half of its time is over");
        clock.advance(Duration::from_millis(200));
        caller.join().expect("no panic").expect("the other one is there");
    });
    assert!(away(&balanced, "a"));
    assert_eq!(hung.stats().breaker, Breaker::Closed, "nothing has failed yet");
    drop(balanced.get()?);
    assert_eq!((hung.stats().waits, checkouts(&balanced, "b")), (1, 2), "nobody else is held up");
    clock.advance(Duration::from_secs(1));
    gate.open();
    eventually("it has answered, and is the first again", || {
        drop(balanced.get().expect("one is there"));
        checkouts(&balanced, "a") > 0
    });
    Ok(())
}

#[test]
fn a_caller_in_a_hurry_has_nobody_left_out() -> Result<(), Error> {
    for policy in [Balance::RoundRobin, Balance::Failover] {
        let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
        let on_clock = |lab, name| scripted(lab, name).clock(clock.clone());
        let balanced = pair(policy, on_clock(&lab_a, "a"), on_clock(&lab_b, "b")).clock(clock.clone()).build()?;
        let gates = [Lab::gate(&lab_a.connect_gate), Lab::gate(&lab_b.connect_gate)];
        thread::scope(|scope| {
            let hurried = scope.spawn(|| balanced.get_timeout(Duration::from_millis(40)).map(drop));
            for (name, gate) in ["a", "b"].into_iter().zip(&gates) {
                let pool = balanced.pool(name).expect("there is one");
                let waits = || pool.stats().waiting == 1 && gate.waiting() == 1;
                eventually("it waits for its share", waits);
                clock.advance(Duration::from_millis(20));
            }
            let error = hurried.join().expect("no panic").expect_err("neither has answered yet");
            assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true), "{error}");
        });
        assert!(!away(&balanced, "a") && !away(&balanced, "b"), "{policy:?}: 40 ms say nothing about a server");
        gates.iter().for_each(|gate| gate.open());
        eventually("the first one is open", || balanced.pool("a").is_some_and(|pool| pool.stats().idle == 1));
        drop((balanced.get()?, balanced.get()?));
        assert!(checkouts(&balanced, "a") > 0, "{policy:?}");
    }
    Ok(())
}

#[test]
fn connections_that_are_yet_to_be_opened_are_not_waited_for_as_if_they_were_in_use() -> Result<(), Error> {
    for policy in [Balance::Failover, Balance::RoundRobin, Balance::LeastBusy] {
        let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
        let gate = Lab::gate(&lab_a.connect_gate);
        let on_clock = |lab, name| scripted(lab, name).max_size(1).clock(clock.clone());
        let balanced = pair(policy, on_clock(&lab_a, "a"), on_clock(&lab_b, "b")).clock(clock.clone()).build()?;
        let [hung, good] = ["a", "b"].map(|name| balanced.pool(name).expect("there is one").clone());
        let held = good.get()?;
        thread::scope(|scope| {
            let first = scope.spawn(|| hung.get_timeout(Duration::from_secs(2)).map(drop));
            eventually("its only place is taken", || gate.waiting() == 1 && hung.stats().waiting == 1);
            let caller = |_| scope.spawn(|| balanced.get_timeout(Duration::from_secs(10)).map(drop));
            let callers: Vec<_> = (0..4).map(caller).collect();
            let all_wait = || hung.stats().waiting + good.stats().waiting == 5;
            eventually("all wait", all_wait);
            drop(held);
            // Those who were sent to the one that does not answer are at the other one after half of their time.
            clock.advance(Duration::from_millis(5_100));
            first.join().expect("no panic").expect_err("it has only that one");
            for caller in callers {
                caller.join().expect("no panic").unwrap_or_else(|error| panic!("{policy:?}: {error}"));
            }
        });
        gate.open();
    }
    Ok(())
}

#[test]
fn those_who_wait_at_a_member_that_leaves_move_on() -> Result<(), Error> {
    let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
    let gate = Lab::gate(&lab_a.connect_gate);
    let on_clock = |lab, name| scripted(lab, name).clock(clock.clone());
    let balanced =
        pair(Balance::Failover, on_clock(&lab_a, "a"), on_clock(&lab_b, "b")).clock(clock.clone()).build()?;
    let hung = balanced.pool("a").expect("there is one").clone();
    thread::scope(|scope| {
        let patient: Vec<_> = (0..3).map(|_| scope.spawn(|| balanced.get_timeout(LONG).map(drop))).collect();
        let alone = scope.spawn(|| hung.get_timeout(LONG).map(drop));
        eventually("they wait", || hung.stats().waiting == 4);
        let hurried = scope.spawn(|| balanced.get_timeout(Duration::from_secs(4)).map(drop));
        eventually("so does one with less time", || hung.stats().waiting == 5);
        clock.advance(Duration::from_millis(2_100));
        hurried.join().expect("no panic").expect("the other one is there");
        for caller in patient {
            caller.join().expect("no panic").expect("and for them, long before their share is over");
        }
        assert_eq!(hung.stats().waiting, 1, "who has nowhere else to go waits on");
        gate.open();
        alone.join().expect("no panic").expect("it has answered");
    });
    Ok(())
}

#[test]
fn who_waited_for_a_connection_that_others_got_waits_on_at_the_first_one() -> Result<(), Error> {
    let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
    let gate = Lab::gate(&lab_a.connect_gate);
    let on_clock = |lab, name| scripted(lab, name).max_size(1).clock(clock.clone());
    let balanced =
        pair(Balance::Failover, on_clock(&lab_a, "a"), on_clock(&lab_b, "b")).clock(clock.clone()).build()?;
    let first = balanced.pool("a").expect("there is one").clone();
    thread::scope(|scope| {
        let holder = scope.spawn(|| first.get_timeout(LONG));
        eventually("it is being opened", || gate.waiting() == 1 && first.stats().waiting == 1);
        let caller = scope.spawn(|| balanced.get_timeout(Duration::from_secs(10)).map(drop));
        eventually("somebody else waits for it, too", || first.stats().waiting == 2);
        gate.open();
        let held = holder.join().expect("no panic").expect("it has answered");
        let waits = first.stats().waits;
        clock.advance(Duration::from_millis(5_100));
        eventually("it queues there again", || first.stats().waits > waits && first.stats().waiting == 1);
        drop(held);
        caller.join().expect("no panic").expect("it came back");
    });
    assert_eq!(checkouts(&balanced, "b"), 0, "the standby is not there for that");
    Ok(())
}

#[test]
fn a_check_that_hangs_has_the_member_left_out_until_something_works_there() -> Result<(), Error> {
    let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
    let on_clock = |lab, name| scripted(lab, name).validation(Validation::Always).clock(clock.clone());
    let balanced = pair(Balance::Failover, on_clock(&lab_a, "a").max_size(1), on_clock(&lab_b, "b"))
        .clock(clock.clone())
        .build()?;
    drop(balanced.get()?);
    clock.advance(Duration::from_secs(1));
    let gate = Lab::gate(&lab_a.check_gate);
    thread::scope(|scope| {
        let caller = scope.spawn(|| balanced.get_timeout(Duration::from_secs(10)).map(drop));
        eventually("its check hangs", || gate.waiting() == 1);
        eventually("it waits", || balanced.pool("a").is_some_and(|pool| pool.stats().waiting == 1));
        clock.advance(Duration::from_millis(5_100));
        caller.join().expect("no panic").expect("the other one is there");
    });
    assert!(away(&balanced, "a"));
    drop(balanced.get()?);
    assert!(away(&balanced, "a"));
    gate.open();
    eventually("the check has passed, and that is enough", || {
        drop(balanced.get().expect("one is there"));
        !away(&balanced, "a")
    });
    Ok(())
}

#[test]
fn a_pool_that_has_given_up_goes_on_trying_as_long_as_callers_come() -> Result<(), Error> {
    let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
    let on_clock = |lab, name| {
        let policy = RetryPolicy::default().give_up(Some(Duration::from_secs(1)));
        scripted(lab, name).retry(policy.clone()).start_up(policy).clock(clock.clone())
    };
    let balanced = pair(Balance::Failover, on_clock(&lab_a, "a"), on_clock(&lab_b, "b")).build()?;
    lab_a.refuse.store(true, SeqCst);
    drop(balanced.get()?);
    let alone = balanced.pool("a").expect("there is one");
    for _ in 0..50 {
        clock.advance(Duration::from_millis(100));
        alone.maintain();
        eventually("the attempt has ended", || alone.stats().connecting == 0);
    }
    let attempts = lab_a.attempts.load(SeqCst);
    clock.advance(LONG);
    alone.maintain();
    assert_eq!(lab_a.attempts.load(SeqCst), attempts, "it has given up");
    lab_a.refuse.store(false, SeqCst);
    eventually("callers of the others have it try again", || {
        drop(balanced.get().expect("the other one is there"));
        checkouts(&balanced, "a") > 0
    });
    Ok(())
}

#[test]
fn when_nobody_is_left_all_are_asked_all_the_same_and_the_error_names_them() -> Result<(), Error> {
    let (lab_a, lab_b, clock) = (Lab::new(), Lab::new(), HandClock::new());
    let on_clock = |lab, name| scripted(lab, name).clock(clock.clone());
    let balanced = pair(Balance::RoundRobin, on_clock(&lab_a, "pool-of-a"), on_clock(&lab_b, "pool-of-b"));
    let balanced = balanced.clock(clock.clone()).build()?;
    lab_a.refuse.store(true, SeqCst);
    lab_b.refuse.store(true, SeqCst);
    for _ in 0..2 {
        thread::scope(|scope| {
            let caller = scope.spawn(|| balanced.get_timeout(Duration::from_secs(40)).map(drop));
            for name in ["a", "b"] {
                let pool = balanced.pool(name).expect("there is one");
                eventually("it waits there for its share", || pool.stats().waiting == 1 && away(&balanced, "b"));
                clock.advance(Duration::from_secs(20));
            }
            let error = caller.join().expect("no panic").expect_err("both refuse");
            assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
            assert!(error.source().is_some_and(|cause| cause.is::<Refused>()), "{error}");
            let text = error.to_string();
            assert!(
                text.starts_with(r#"no member of "pair" has a connection: "a": timed out after 20.00 s"#),
                "{text}"
            );
            assert!(
                text.contains(r#"; "b": timed out after 20.00 s"#) && text.ends_with("; connecting fails"),
                "{text}"
            );
        });
        assert!(away(&balanced, "a") && away(&balanced, "b"));
    }
    Ok(())
}

#[test]
fn who_waits_when_nobody_is_left_is_served_when_a_server_comes_back() -> Result<(), Error> {
    let (lab_a, lab_b) = (Lab::new(), Lab::new());
    let balanced = pair(Balance::RoundRobin, scripted(&lab_a, "a"), scripted(&lab_b, "b")).build()?;
    lab_a.refuse.store(true, SeqCst);
    lab_b.refuse.store(true, SeqCst);
    thread::scope(|scope| {
        let caller = scope.spawn(|| balanced.get_timeout(LONG).map(drop));
        eventually("both have failed, and it waits", || {
            let waits = |name| balanced.pool(name).is_some_and(|pool| pool.stats().waiting > 0);
            away(&balanced, "a") && away(&balanced, "b") && (waits("a") || waits("b"))
        });
        lab_a.refuse.store(false, SeqCst);
        lab_b.refuse.store(false, SeqCst);
        caller.join().expect("no panic").expect("one is back");
    });
    Ok(())
}

#[test]
fn members_that_fail_fast_end_it_at_once() -> Result<(), Error> {
    let (lab_a, lab_b) = (Lab::new(), Lab::new());
    lab_a.refuse.store(true, SeqCst);
    lab_b.refuse.store(true, SeqCst);
    lab_a.permanent.store(true, SeqCst);
    lab_b.permanent.store(true, SeqCst);
    let balanced = pair(Balance::RoundRobin, scripted(&lab_a, "a"), scripted(&lab_b, "b")).build()?;
    let error = balanced.get_timeout(Duration::MAX).expect_err("trying again does not help");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, false));
    Ok(())
}

#[test]
fn one_member_alone_behaves_and_complains_as_its_pool_does() -> Result<(), Error> {
    let lab = Lab::new();
    let balanced = Balanced::from(scripted(&lab, "orders").build()?);
    assert_eq!((balanced.name(), balanced.members().len()), ("orders", 1));
    lab.refuse.store(true, SeqCst);
    balanced.pool("orders").expect("called as its pool").refresh();
    let error = balanced.get_timeout(Duration::from_millis(30)).expect_err("it refuses");
    assert!(error.to_string().starts_with("timed out after ") && error.is_timeout(), "{error}");
    thread::scope(|scope| {
        let caller = scope.spawn(|| balanced.get_timeout(LONG).map(drop));
        eventually("it waits", || balanced.pool("orders").is_some_and(|pool| pool.stats().waiting == 1));
        lab.refuse.store(false, SeqCst);
        caller.join().expect("no panic").expect("it is back");
    });
    Ok(())
}

#[test]
fn one_member_alone_waits_for_as_long_as_its_pool_says() -> Result<(), Error> {
    let pool = named("a", 1);
    let balanced = Balanced::from(pool.clone());
    let held = pool.get()?;
    pool.set_connection_timeout(Duration::from_millis(20))?;
    let error = balanced.get().expect_err("it is held");
    assert!(error.is_timeout() && !error.to_string().starts_with("timed out after 5"), "{error}");
    drop(held);
    Ok(())
}

#[test]
fn what_is_paused_closed_or_drained_is_not_asked_and_what_is_resumed_is_back_at_once() -> Result<(), Error> {
    let balanced = three(Balance::RoundRobin, [1, 1, 1]);
    let [a, b] = ["a", "b"].map(|name| balanced.pool(name).expect("there is one").clone());
    a.pause();
    b.close();
    // Nobody waits for the end of the pause.
    assert_eq!(served(&balanced, 6), "cccccc");
    assert_eq!(a.stats().waits + b.stats().waits, 1, "each was asked once, and the one that is paused not for long");
    a.resume();
    assert_eq!(count(&served(&balanced, 6)), [3, 0, 3]);
    balanced.set_weight("c", 0)?;
    assert_eq!(served(&balanced, 2), "aa");
    balanced.set_weight("a", 0)?;
    balanced.set_weight("b", 0)?;
    let error = balanced.get().expect_err("all are drained");
    assert_eq!(error.kind(), ErrorKind::Paused);
    assert!(error.to_string().ends_with(r#""a": is drained; "b": is drained; "c": is drained"#), "{error}");
    assert!(balanced.choose().is_none() && balanced.try_get().is_none());
    Ok(())
}

#[test]
fn when_all_are_paused_callers_wait_for_the_end_of_that() -> Result<(), Error> {
    let balanced = Balanced::builder().member("a", named("a", 1)).build()?;
    balanced.pool("a").expect("there is one").pause();
    assert_eq!(balanced.get_timeout(Duration::from_millis(20)).expect_err("it is paused").kind(), ErrorKind::Paused);
    thread::scope(|scope| {
        let caller = scope.spawn(|| balanced.with(|name| *name));
        let pool = balanced.pool("a").expect("there is one");
        eventually("it waits", || pool.stats().waiting == 1);
        pool.resume();
        assert_eq!(caller.join().expect("no panic").expect("it is resumed"), "a");
    });
    Ok(())
}

#[test]
fn a_closed_member_leaves_for_good_and_all_closed_is_closed() -> Result<(), Error> {
    let balanced = three(Balance::RoundRobin, [1, 1, 1]);
    for name in ["a", "b", "c"] {
        balanced.pool(name).expect("there is one").close();
    }
    assert_eq!(balanced.get_timeout(LONG).expect_err("all are closed").kind(), ErrorKind::Closed);
    Ok(())
}

#[test]
fn pools_without_threads_come_back_by_their_callers() -> Result<(), Error> {
    let (lab_a, lab_b) = (Lab::new(), Lab::new());
    let manual = |lab, name| scripted(lab, name).maintenance(Maintenance::Manual);
    let balanced = pair(Balance::Failover, manual(&lab_a, "a"), manual(&lab_b, "b")).build()?;
    lab_a.refuse.store(true, SeqCst);
    drop(balanced.get_timeout(LONG)?);
    assert_eq!((checkouts(&balanced, "a"), checkouts(&balanced, "b")), (0, 1));
    lab_a.refuse.store(false, SeqCst);
    eventually("it serves again", || {
        drop(balanced.get_timeout(LONG).expect("one is there"));
        checkouts(&balanced, "a") > 0
    });
    Ok(())
}

#[test]
fn a_pool_that_refuses_nested_checkouts_refuses_them_here_too() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = scripted(&lab, "a").nested(Nested::Deny).build()?;
    let balanced = Balanced::builder().member("a", pool).build()?;
    let held = balanced.get()?;
    assert_eq!(balanced.get().expect_err("this thread holds one").kind(), ErrorKind::Deadlock);
    drop(held);
    Ok(())
}

#[test]
fn a_checkout_names_the_callers_line() -> Result<(), Error> {
    let balanced = three(Balance::RoundRobin, [1, 0, 0]);
    let pool = balanced.pool("a").expect("there is one");
    let (first, second) = (balanced.get()?, balanced.get()?);
    let lines = [line!() - 1; 2];
    let mut at: Vec<_> = pool.holders().iter().filter_map(|lease| lease.location().map(|at| at.line())).collect();
    at.sort_unstable();
    assert_eq!(at, lines, "the one that was there, and the one that had to be opened");
    drop((first, second));
    balanced.with(|_| {
        let at = pool.holders()[0].location().map(|at| at.line());
        assert_eq!(at, Some(line!() - 2));
    })?;
    assert_eq!(balanced.try_get().map(|_| pool.holders()[0].location().map(|at| at.line())), Some(Some(line!())));
    Ok(())
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_names_are_kept_without_passwords() {
    let error = Balanced::<Named>::builder().connection_timeout(Duration::ZERO).build().expect_err("nothing is right");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "unusable settings: there is no member; connection_timeout is 0 s, but it must be longer than nothing"
    );
    let url = "redis://:s3cr3t@db:6379";
    let balanced = Balanced::builder().member(url, named("a", 1)).build().expect("good settings");
    assert!(balanced.pool(url).is_some() && balanced.set_weight(url, 0).is_ok());
    let error = balanced.set_weight("b", 1).expect_err("there is none");
    assert_eq!(error.to_string(), r#""balanced" has no member "b", but "redis://:***@db:6379""#);
    assert!(balanced.set_weight(url, 1_001).is_err());
    let all = format!("{balanced:?} {:?} {}", balanced.members(), balanced.get().expect_err("it is drained"));
    assert!(!all.contains("s3cr3t"), "{all}");
}

/// Ends the callers, also when the test fails meanwhile.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A server of which a test says whether it is there. Its connections die with it.
struct Mortal {
    up: Arc<AtomicBool>,
    /// How often it has died.
    life: Arc<AtomicU32>,
}

impl Manager for Mortal {
    type Connection = u32;
    type Error = io::Error;

    fn connect(&self) -> io::Result<u32> {
        if self.up.load(SeqCst) { Ok(self.life.load(SeqCst)) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
    fn is_valid(&self, life: &mut u32) -> io::Result<()> {
        if self.lives(*life) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
    fn has_broken(&self, life: &mut u32) -> bool {
        !self.lives(*life)
    }
}

impl Mortal {
    fn lives(&self, life: u32) -> bool {
        self.up.load(SeqCst) && self.life.load(SeqCst) == life
    }
}

#[test]
fn under_load_a_member_dies_and_returns_and_no_checkout_fails() -> Result<(), Error> {
    const ROUNDS: u32 = 5;
    let (up, life, ended) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)), AtomicBool::new(false));
    let mortal = Mortal { up: Arc::clone(&up), life: Arc::clone(&life) };
    let safe = Mortal { up: Arc::new(AtomicBool::new(true)), life: Arc::default() };
    let mortal = Pool::builder(mortal).name("mortal").max_size(4).build()?;
    let safe = Pool::builder(safe).name("safe").max_size(4).build()?;
    let balanced = Balanced::builder().member("mortal", mortal.clone()).member("safe", safe.clone()).build()?;
    let start = Gate::default();
    thread::scope(|scope| {
        let _end = End(&ended);
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.pass();
                    let mut served = 0_u32;
                    while !ended.load(SeqCst) {
                        drop(balanced.get_timeout(LONG).unwrap_or_else(|error| panic!("{error}")));
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        start.open();
        let served = |pool: &Pool<Mortal>| {
            let before = pool.stats().checkouts;
            eventually("it serves", || pool.stats().checkouts > before + 20);
        };
        for _ in 0..ROUNDS {
            served(&mortal);
            life.fetch_add(1, SeqCst);
            up.store(false, SeqCst);
            eventually("it is left out", || balanced.members()[0].away);
            served(&safe);
            let met = mortal.stats().checkouts;
            served(&safe);
            let more = mortal.stats().checkouts - met;
            assert!(more <= 8, "nobody comes to it any more, but who was on the way: {more}");
            up.store(true, SeqCst);
            eventually("it is back", || !balanced.members()[0].away);
        }
        served(&mortal);
        ended.store(true, SeqCst);
        for caller in callers {
            assert!(caller.join().expect("every checkout was good") > 0);
        }
    });
    assert_eq!(mortal.stats().timeouts + safe.stats().timeouts, 0);
    support::assert_healthy(&mortal);
    support::assert_healthy(&safe);
    Ok(())
}
