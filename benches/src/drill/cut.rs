//! Idle connections that are cut while nobody looks.

use std::thread;
use std::time::{Duration, Instant};

use millpond_drivers::Proxy;

use super::pair::{Counted, KINDS, Kind};
use super::servers::{Database, Redis};
use super::{Amount, Score};

const SIZE: u32 = 50;
const TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than millpond lends a connection without a check.
const IDLE: Duration = Duration::from_millis(700);

/// What the next callers met, one after another.
struct Met {
    longest: Duration,
    all: Duration,
    failed: u64,
    dead: u64,
}

/// The server closes them.
pub(super) fn by_server<D: Database>(command: &str) -> Score {
    let score = Score::of(format!("{SIZE} idle connections cut, {} {command}", D::NAME));
    match D::start() {
        Some(database) => {
            let port = database.server().port();
            told(score, KINDS.map(|kind| cut::<D>(kind, port, || database.close_all())))
        }
        None => score.skipped(D::PROGRAM),
    }
}

/// A reset comes from between the pool and the server.
pub(super) fn on_the_way() -> Score {
    let score = Score::of(format!("{SIZE} idle connections cut, RST from a proxy"));
    let Some(redis) = Redis::start() else { return score.skipped(Redis::PROGRAM) };
    let proxy = Proxy::to(redis.addr());
    told(score, KINDS.map(|kind| cut::<Redis>(kind, proxy.port(), || proxy.reset_all())))
}

fn cut<D: Database>(kind: Kind, port: u16, fault: impl FnOnce()) -> Met {
    let (manager, tally) = Counted::new(D::manager(port));
    let pool = kind.full_pool(manager, SIZE);
    thread::sleep(IDLE);
    fault();
    let before = pool.waits();
    let calls = (0..SIZE).map(|_| {
        let begun = Instant::now();
        let good = pool.get(TIMEOUT).is_some_and(|mut conn| D::ping(&mut conn));
        (begun.elapsed(), good)
    });
    let calls: Vec<_> = calls.collect();
    // r2d2 checks on the caller's thread, one connection after another. A caller of millpond asks for one check and
    // waits, so each that waited counts for one; what fails besides is checked on other threads, and nobody waits for it.
    let dead = match (pool.waits(), before) {
        (Some(after), Some(before)) => after - before,
        _ => tally.failed_checks(),
    };
    Met {
        longest: calls.iter().map(|(took, _)| *took).max().unwrap_or_default(),
        all: calls.iter().map(|(took, _)| *took).sum(),
        failed: calls.iter().filter(|(_, good)| !good).count() as u64,
        dead,
    }
}

fn told(mut score: Score, [own, its]: [Met; 2]) -> Score {
    let both = |value: fn(&Met) -> Amount| [value(&own), value(&its)];
    score.at_most("failed checks that callers waited for", Amount::count(1), both(|met| Amount::count(met.dead)));
    score.at_most("failed calls of the next 50", Amount::count(0), both(|met| Amount::count(met.failed)));
    score.tell("the longest of them", both(|met| Amount::Time(met.longest)));
    score.tell("all of them", both(|met| Amount::Time(met.all)));
    score
}
