//! What one thread can do with a pool, in any order, with any outcome of each callback: the maximum holds at each moment, and in the
//! end the pool lends all of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millpond::testing::{Act, Call, HandClock, Refused, Script, assert_lends_all, assert_returned, settle, violations};
use millpond::{Fairness, Maintenance, Pool, PooledConnection, Validation, WhenDown};
use std::time::Duration;

const CALLS: [Call; 5] = [Call::Connect, Call::IsValid, Call::HasBroken, Call::Reset, Call::Close];

fuzz_target!(|data: &[u8]| {
    let [setting, operations @ ..] = data else { return };
    let (script, clock) = (Script::new(), HandClock::new());
    let max = u32::from(setting & 3) + 1;
    let mut builder = Pool::builder(script.manager())
        .max_size(max)
        .min_idle(u32::from(setting >> 2 & 1))
        .max_lifetime(Some(Duration::from_secs(60)))
        .idle_timeout(Some(Duration::from_secs(20)))
        .keepalive(Some(Duration::from_secs(15)))
        .maintenance(Maintenance::Manual)
        .clock(clock.clone());
    if setting & 8 != 0 {
        builder = builder.validation(Validation::Always);
    }
    if setting & 16 != 0 {
        builder = builder.when_down(WhenDown::FailFast);
    }
    if setting & 32 != 0 {
        builder = builder.max_uses(Some(3));
    }
    if setting & 64 != 0 {
        builder = builder.fairness(Fairness::Strict);
    }
    let pool = builder.build_lazy().expect("good settings");
    let mut held = Vec::new();
    // After a resize to less, what is there may stay until it comes back, and no more than that.
    let (mut limit, mut allowed) = (max, max);
    for &byte in operations.iter().take(200) {
        let (operation, argument) = (byte >> 4, byte & 15);
        match operation {
            // A time-out of zero: on a clock that stands still no other one would ever come.
            0..=3 => held.extend(pool.get_timeout(Duration::ZERO)),
            4 => held.extend(pool.try_get()),
            5 | 6 if !held.is_empty() => drop(held.swap_remove(usize::from(argument) % held.len())),
            7 if !held.is_empty() => PooledConnection::discard(held.swap_remove(usize::from(argument) % held.len())),
            8 if !held.is_empty() => {
                let at = usize::from(argument) % held.len();
                PooledConnection::mark_broken(&mut held[at]);
            }
            9 => script.next(CALLS[usize::from(argument) % 5], Act::fail(|| Refused::new("no"))),
            10 => script.next(CALLS[usize::from(argument) % 5], Act::panic("no")),
            11 => clock.advance(Duration::from_secs(1 << (argument % 8))),
            12 => pool.maintain(),
            13 => script.cut_all(),
            14 => {
                limit = u32::from(argument % 4) + 1;
                allowed = limit.max(script.live());
                pool.resize(limit).expect("1 to 4");
            }
            15 => pool.refresh(),
            _ => {}
        }
        assert!(script.live() <= allowed, "{} live, {allowed} allowed", script.live());
        allowed = limit.max(script.live());
        assert_eq!(pool.stats().in_use as usize, held.len());
    }
    held.clear();
    script.clear();
    clock.advance(Duration::from_secs(120));
    settle(&pool);
    assert_returned(&pool);
    assert_lends_all(&pool);
    assert_eq!(violations(&pool.stats()), Vec::<String>::new());
    pool.close_and_wait(Duration::from_secs(10)).expect("nothing is left");
    assert_eq!(script.live(), 0);
});
