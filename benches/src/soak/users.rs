//! The users: most are good ones.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use millpond::{Error, ErrorKind, PooledConnection};

use super::session::{Session, Sessions};
use super::tally::Late;
use super::{FORGOTTEN, Ground, IO};

const R: Ordering = Ordering::Relaxed;

type Guard = PooledConnection<Sessions>;

/// One user, until the soak is over.
pub fn run(ground: &Ground, mut rng: Rng) {
    while !ground.stopped() {
        act(ground, &mut rng);
    }
}

/// Waits like a user, but for nothing and without a pool: how late the machine is by itself.
pub fn wait_beside(ground: &Ground, mut rng: Rng) {
    while !ground.stopped() {
        let (begun, span) = (Instant::now(), Duration::from_millis(rng.u64(2..50)));
        // Nobody unparks this thread, but it may wake for no reason.
        while begun.elapsed() < span {
            thread::park_timeout(span.saturating_sub(begun.elapsed()));
        }
        ground.tally.machine.record(begun.elapsed() - span);
    }
}

fn act(ground: &Ground, rng: &mut Rng) {
    let tally = &ground.tally;
    match rng.u32(0..2000) {
        0..1000 => plain(ground, rng, |_, _| {}),
        1000..1300 => {
            let word = rng.u64(..);
            timed(ground, &tally.late, IO, || ground.pool.with(|session| ask(ground, session, word)));
        }
        1300..1440 => {
            if let Some(mut guard) = ground.pool.try_get() {
                ask(ground, &mut guard, rng.u64(..));
            }
        }
        1440..1520 => {
            tally.count("users: several at once");
            let several = rng.usize(2..4);
            if let Some(mut guards) = timed(ground, &tally.late_several, IO, || ground.pool.get_many(several)) {
                guards.iter_mut().for_each(|guard| ask(ground, guard, rng.u64(..)));
            }
        }
        1520..1580 => {
            tally.count("users: discard");
            plain(ground, rng, |guard, _| guard.take().into_iter().for_each(PooledConnection::discard));
        }
        1580..1640 => {
            tally.count("users: mark broken");
            plain(ground, rng, |guard, _| guard.iter_mut().for_each(PooledConnection::mark_broken));
        }
        1640..1680 => {
            tally.count("users: take out");
            plain(ground, rng, |guard, rng| take_out(ground, guard.take(), rng));
        }
        1680..1740 => {
            tally.count("users: panic");
            let holding = AssertUnwindSafe(|| plain(ground, rng, |_, _| resume_unwind(Box::new("a bug of a user"))));
            // It panics only if it got a connection.
            drop(catch_unwind(holding));
        }
        1740..1800 => {
            tally.count("users: leave MULTI behind");
            plain(ground, rng, |guard, _| {
                if let Some(session) = guard {
                    drop(redis::cmd("MULTI").exec(&mut session.connection));
                }
            });
        }
        1800..1850 => plain(ground, rng, |guard, rng| {
            if let Some(guard) = guard {
                PooledConnection::set_label(guard, "a long one");
            }
            thread::sleep(Duration::from_millis(rng.u64(20..150)));
        }),
        1850..1900 => drop(ground.pool.get_timeout(Duration::ZERO)),
        1900 if tally.forgotten.load(R) < FORGOTTEN.into() => plain(ground, rng, |guard, _| {
            // Somebody else may have come first.
            let first = tally.forgotten.fetch_update(R, R, |n| (n < FORGOTTEN.into()).then_some(n + 1));
            if let (Ok(_), Some(guard)) = (first, guard.take()) {
                tally.count("users: leak a guard");
                mem::forget(guard);
            }
        }),
        _ => thread::sleep(Duration::from_millis(rng.u64(1..20))),
    }
}

/// A checkout with a deadline of its own, a round trip, `then`, and the return.
fn plain(ground: &Ground, rng: &mut Rng, then: impl FnOnce(&mut Option<Guard>, &mut Rng)) {
    let timeout = Duration::from_millis(rng.u64(2..400));
    if let Some(mut guard) = timed(ground, &ground.tally.late, timeout, || ground.pool.get_timeout(timeout)) {
        ask(ground, &mut guard, rng.u64(..));
        if rng.u32(0..10) < 3 {
            thread::sleep(Duration::from_micros(rng.u64(50..2000)));
        }
        then(&mut Some(guard), rng);
    }
}

fn take_out(ground: &Ground, guard: Option<Guard>, rng: &mut Rng) {
    if let Some(mut guard) = guard {
        // Before its place is free, or there would seem to be one too many.
        guard.detach();
        let mut session = PooledConnection::into_inner(guard);
        ask(ground, &mut session, rng.u64(..));
        thread::sleep(Duration::from_millis(rng.u64(0..20)));
    }
}

fn ask(ground: &Ground, session: &mut Session, word: u64) {
    match session.echo(word) {
        Ok(Ok(())) => drop(ground.tally.good.fetch_add(1, R)),
        Ok(Err(reply)) => ground.broken(format!("a dirty connection was lent: it answers {reply:?}")),
        Err(_) => drop(ground.tally.cut.fetch_add(1, R)),
    }
}

/// Looks at the deadline and at the error. What runs after the checkout in `work`, as in `with`, has no deadline: only
/// failures are timed.
fn timed<T>(ground: &Ground, late: &Late, timeout: Duration, work: impl FnOnce() -> Result<T, Error>) -> Option<T> {
    let begun = Instant::now();
    match work() {
        Ok(value) => Some(value),
        Err(error) => {
            let took = begun.elapsed();
            if error.kind() == ErrorKind::Paused {
                // As a program that is told to come back later, and not at once.
                thread::sleep(Duration::from_millis(5));
            }
            if error.is_timeout() {
                late.record(took.saturating_sub(timeout));
                if took < timeout {
                    ground.broken(format!("timed out {:?} early: {error}", timeout - took));
                }
            }
            ground.tally.count_failure(error.kind());
            if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Config | ErrorKind::Overloaded) {
                ground.broken(format!("an error that cannot be: {error}"));
            }
            None
        }
    }
}
