//! Pools by key: made once, kept while somebody uses them, parted with in order, replaced where they do not work.

mod support;

use log::{Level, LevelFilter, Log, Metadata, Record};
use millpond::health::{HealthLevel, WarningKind};
use millpond::testing::HandClock;
use millpond::{Error, ErrorKind, IncidentKind, Pool, Pools, RecoveryAction, UrlKey, WarmUp};
use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;
use support::{Gate, LONG, Lab, Refused, Scripted, assert_healthy, eventually};

/// Pools over one lab, and a count of how often each was made.
struct House {
    lab: Arc<Lab>,
    made: Mutex<HashMap<&'static str, u32>>,
    /// Callers of the provider pass this first.
    gates: Mutex<HashMap<&'static str, Gate>>,
    fails: AtomicBool,
    panics: AtomicBool,
}

type Keyed = Pools<&'static str, Scripted>;

impl House {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            lab: Lab::new(),
            made: Mutex::default(),
            gates: Mutex::default(),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }

    fn provider(self: &Arc<Self>) -> impl Fn(&&'static str) -> Result<Pool<Scripted>, Error> + Send + Sync + 'static {
        let house = Arc::clone(self);
        move |key| house.make(key)
    }

    fn make(&self, key: &'static str) -> Result<Pool<Scripted>, Error> {
        *self.made.lock().expect("no panic under this lock").entry(key).or_default() += 1;
        let gate = self.gates.lock().expect("no panic under this lock").get(key).cloned();
        if let Some(gate) = gate {
            gate.pass();
        }
        if self.panics.load(SeqCst) {
            std::panic::resume_unwind(Box::new("no such tenant, password=s3cr3t"));
        }
        let max = if self.fails.load(SeqCst) { 0 } else { 2 };
        Pool::builder(self.lab.manager()).name(key).max_size(max).connection_timeout(LONG).build_lazy()
    }

    fn gate(&self, key: &'static str) -> Gate {
        let gate = Gate::new();
        self.gates.lock().expect("no panic under this lock").insert(key, gate.clone());
        gate
    }

    fn made(&self, key: &'static str) -> u32 {
        self.made.lock().expect("no panic under this lock").get(key).copied().unwrap_or(0)
    }
}

fn sorted(pools: &Keyed) -> Vec<&'static str> {
    let mut keys = pools.keys();
    keys.sort_unstable();
    keys
}

#[test]
fn a_stampede_makes_one_pool_and_holds_up_no_other_key() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let gate = house.gate("busy");
    thread::scope(|scope| {
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(|| pools.with(&"busy", |conn| conn.number))).collect();
        eventually("one makes it and all others wait", || {
            let stats = pools.stats();
            (stats.making, stats.awaiting) == (1, 15)
        });
        pools.with(&"quiet", |_| ()).expect("nobody waits for another key");
        gate.open();
        for caller in callers {
            caller.join().expect("no panic").expect("the pool is there now");
        }
    });
    assert_eq!((house.made("busy"), house.made("quiet"), pools.len()), (1, 1, 2));
    assert_healthy(&pools.pool(&"busy")?);
    Ok(())
}

#[test]
fn who_waited_for_a_failed_attempt_gets_its_error_and_the_next_one_tries_again() {
    for panics in [false, true] {
        let house = House::new();
        let pools = Pools::new(house.provider());
        let gate = house.gate("acme");
        house.fails.store(!panics, SeqCst);
        house.panics.store(panics, SeqCst);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| pools.pool(&"acme"))).collect();
            eventually("three wait", || pools.stats().awaiting == 3);
            gate.open();
            for caller in callers {
                let error = caller.join().expect("no panic").expect_err("the provider failed");
                if panics {
                    assert_eq!(error.kind(), ErrorKind::Connect);
                    assert!(
                        error.to_string().contains(r#""acme""#) && error.to_string().contains("panicked"),
                        "{error}"
                    );
                    let cause = error.source().expect("the panic").to_string();
                    assert!(cause.contains("no such tenant") && !cause.contains("s3cr3t"), "{cause}");
                } else {
                    assert_eq!(error.kind(), ErrorKind::Config);
                    assert!(error.to_string().contains("max_size is 0"));
                }
            }
        });
        assert_eq!((house.made("acme"), pools.len(), pools.stats().provider_failures), (1, 0, 1));
        house.fails.store(false, SeqCst);
        house.panics.store(false, SeqCst);
        pools.with(&"acme", |_| ()).expect("it is asked again");
        assert_eq!(house.made("acme"), 2);
    }
}

#[test]
fn waiting_for_another_ones_making_ends_at_the_deadline() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::builder(house.provider()).creation_timeout(Duration::from_millis(20)).build()?;
    let gate = house.gate("acme");
    thread::scope(|scope| {
        let maker = scope.spawn(|| pools.pool(&"acme"));
        eventually("it is being made", || pools.stats().making == 1);
        let errors = [pools.pool(&"acme").err(), pools.get_timeout(&"acme", Duration::from_millis(10)).err()];
        gate.open();
        maker.join().expect("no panic").expect("it was not disturbed");
        for error in errors {
            let error = error.expect("it was not there in time");
            assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
            assert!(error.to_string().contains(r#"the pool of "acme", which another thread is making"#), "{error}");
        }
        assert_eq!(pools.stats().awaiting, 0);
    });
    Ok(())
}

#[test]
fn a_provider_that_needs_its_own_pool_gets_an_error() {
    let slot = Arc::new(Mutex::new(None::<Keyed>));
    let pools = Pools::new({
        let slot = Arc::clone(&slot);
        let house = House::new();
        move |key: &&'static str| {
            let pools = slot.lock().expect("no panic").clone().expect("set below");
            pools.with(if *key == "chain" { &"self" } else { key }, |_| ())?;
            house.make(key)
        }
    });
    *slot.lock().expect("no panic") = Some(pools.clone());
    for key in ["self", "chain"] {
        let error = pools.pool(&key).expect_err("it goes in a circle");
        assert_eq!(error.kind(), ErrorKind::Deadlock);
        assert!(error.to_string().contains(r#"the pool of "self" is needed to make itself"#), "{error}");
    }
    *slot.lock().expect("no panic") = None;
}

#[test]
fn two_providers_that_need_each_others_pools_get_an_error() {
    let slot = Arc::new(Mutex::new(None::<Keyed>));
    let both = Arc::new(Barrier::new(2));
    let first = Arc::new(AtomicBool::new(true));
    let pools = Pools::new({
        let (slot, both) = (Arc::clone(&slot), Arc::clone(&both));
        let house = House::new();
        move |key: &&'static str| {
            if first.load(SeqCst) {
                both.wait();
                first.store(false, SeqCst);
            }
            let pools = slot.lock().expect("no panic").clone().expect("set below");
            let other = if *key == "one" { "other" } else { "one" };
            // Whoever comes second is refused, and makes its pool without the other one.
            match pools.pool(&other) {
                Err(error) if error.kind() != ErrorKind::Deadlock => Err(error),
                _ => house.make(key),
            }
        }
    });
    *slot.lock().expect("no panic") = Some(pools.clone());
    thread::scope(|scope| {
        for key in ["one", "other"] {
            let pools = &pools;
            scope.spawn(move || pools.with(&key, |_| ()).expect("one of them does without"));
        }
    });
    assert_eq!(sorted(&pools), ["one", "other"]);
    *slot.lock().expect("no panic") = None;
}

#[test]
fn each_pool_has_the_settings_that_its_provider_gives_it() -> Result<(), Error> {
    let pools = Pools::new(|size: &u32| {
        let open = || Ok::<_, io::Error>(());
        Pool::builder(open).name(format!("size-{size}")).max_size(*size).build_lazy()
    });
    assert_eq!((pools.pool(&1)?.stats().max_size, pools.pool(&7)?.stats().max_size), (1, 7));
    assert_eq!((pools.pool(&7)?.name(), pools.stats().max_size), ("size-7", 8));
    let held = pools.get(&1)?;
    let error = pools.get_timeout(&1, Duration::from_millis(10)).expect_err("its only one is borrowed");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.holders()[0].location().expect("where").file().ends_with("keyed.rs"), "the caller's line is told");
    drop(held);
    Ok(())
}

#[test]
fn any_other_error_than_that_of_a_closed_pool_is_told_and_not_tried_again() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let pool = pools.pool(&"acme")?;
    pool.pause_and_reject();
    let errors =
        [pools.get(&"acme").map(drop), pools.with(&"acme", |_| ()), pools.get_timeout(&"acme", LONG).map(drop)];
    assert!(
        errors.iter().all(|error| error.as_ref().is_err_and(|error| error.kind() == ErrorKind::Paused)),
        "{errors:?}"
    );
    let sent_away = pool.incidents().into_iter().filter(|incident| incident.kind == IncidentKind::TurnedAway);
    assert_eq!(sent_away.map(|incident| incident.count).sum::<u64>(), 3, "once each");
    assert_eq!(house.made("acme"), 1);
    Ok(())
}

#[test]
fn a_pool_that_was_closed_by_hand_is_replaced_for_the_next_one_to_ask() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let old = pools.pool(&"acme")?;
    drop(old.get()?);
    old.close();
    drop(pools.get(&"acme")?);
    pools.with(&"acme", |_| ())?;
    drop(pools.get_timeout(&"acme", LONG)?);
    assert_eq!((house.made("acme"), pools.len()), (2, 1));
    assert_eq!(old.get().expect_err("it stays closed").kind(), ErrorKind::Closed);
    let stats = pools.stats();
    assert_eq!((stats.opened, stats.checkouts, stats.created), (2, 4, 2), "what the old one counted is kept");
    Ok(())
}

#[test]
fn the_least_recently_used_goes_first() -> Result<(), Error> {
    let (house, clock) = (House::new(), HandClock::new());
    let pools = Pools::builder(house.provider()).max_pools(3).clock(clock.clone()).build()?;
    for key in ["a", "b", "c", "a", "c", "b"] {
        clock.advance(Duration::from_millis(1));
        pools.with(&key, |_| ())?;
    }
    // By use: a, c, b.
    for (new, left) in [("d", ["b", "c", "d"]), ("e", ["b", "d", "e"]), ("f", ["d", "e", "f"])] {
        clock.advance(Duration::from_millis(1));
        pools.with(&new, |_| ())?;
        assert_eq!(sorted(&pools), left);
    }
    clock.advance(Duration::from_millis(1));
    drop(pools.pool(&"d")?); // a use between two evictions counts
    pools.with(&"a", |_| ())?;
    assert_eq!(sorted(&pools), ["a", "d", "f"]);
    assert_eq!((pools.stats().evicted, house.made("a")), (4, 2));
    eventually("evicted pools close their connections", || house.lab.live.load(SeqCst) == 3);
    let stats = pools.stats();
    assert_eq!((stats.created, stats.checkouts, stats.opened, stats.closed, stats.size), (7, 10, 7, 4, 3));
    Ok(())
}

#[test]
fn what_somebody_uses_is_never_evicted() -> Result<(), Error> {
    let (house, clock) = (House::new(), HandClock::new());
    let pools = Pools::builder(house.provider())
        .max_pools(1)
        .idle_timeout(Some(Duration::from_secs(60)))
        .clock(clock.clone())
        .build()?;
    let conn = pools.get(&"connection")?;
    clock.advance(Duration::from_secs(1));
    let handle = pools.pool(&"handle")?;
    clock.advance(Duration::from_secs(1));
    let all_of_it = [pools.get(&"waited for")?, pools.get(&"waited for")?];
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pools.get(&"waited for").map(drop));
        eventually("somebody waits", || pools.stats().waiting == 1);
        clock.advance(Duration::from_secs(3600));
        pools.with(&"another", |_| ()).expect("it is made");
        assert_eq!(pools.evict_idle(), 1, "one was just used and is not in use, the others are in use");
        assert_eq!(sorted(&pools), ["connection", "handle", "waited for"]);
        drop(all_of_it);
        waiter.join().expect("no panic").expect("no eviction has closed the pool");
    });
    drop(conn);
    assert_eq!((pools.evict_idle(), sorted(&pools)), (2, vec!["handle"]));
    drop(handle.get()?);
    drop(handle);
    assert_eq!(pools.evict_idle(), 1);
    assert_eq!(house.made.lock().expect("no panic").values().sum::<u32>(), 4, "none was made twice");
    Ok(())
}

#[test]
fn pools_that_are_idle_for_long_go_in_passing() -> Result<(), Error> {
    let (house, clock) = (House::new(), HandClock::new());
    let pools =
        Pools::builder(house.provider()).idle_timeout(Some(Duration::from_secs(60))).clock(clock.clone()).build()?;
    for key in ["a", "b", "c"] {
        pools.with(&key, |_| ())?;
    }
    clock.advance(Duration::from_secs(40));
    pools.with(&"b", |_| ())?;
    assert_eq!((pools.len(), pools.is_empty()), (3, false));
    clock.advance(Duration::from_secs(40));
    pools.with(&"b", |_| ())?;
    assert_eq!((sorted(&pools), pools.stats().evicted), (vec!["b"], 2));
    clock.advance(Duration::from_secs(61));
    assert_eq!((pools.evict_idle(), pools.is_empty()), (1, true));
    Ok(())
}

#[test]
fn a_crowd_of_idle_pools_goes_bit_by_bit() -> Result<(), Error> {
    let clock = HandClock::new();
    let provider = |_: &u32| Pool::builder(|| Ok::<_, io::Error>(())).build_lazy();
    let pools = Pools::builder(provider).idle_timeout(Some(Duration::from_secs(60))).clock(clock.clone()).build()?;
    for key in 0..100 {
        drop(pools.pool(&key)?);
    }
    clock.advance(Duration::from_secs(61));
    let mut left = vec![pools.len()];
    while pools.len() > 1 {
        drop(pools.pool(&7)?);
        left.push(pools.len());
    }
    assert!(left.windows(2).all(|pair| pair[0] - pair[1] <= 16) && left.len() < 10, "{left:?}");
    assert!(pools.contains(&7) && !pools.contains(&8));
    Ok(())
}

#[test]
fn more_pools_than_wanted_go_as_soon_as_they_are_not_in_use() -> Result<(), Error> {
    let (house, clock) = (House::new(), HandClock::new());
    let pools = Pools::builder(house.provider()).max_pools(1).idle_timeout(None).clock(clock.clone()).build()?;
    let held = [pools.get(&"a")?, pools.get(&"b")?, pools.get(&"c")?];
    assert_eq!(pools.len(), 3);
    drop(held);
    clock.advance(Duration::from_secs(1));
    pools.with(&"a", |_| ())?;
    assert_eq!(sorted(&pools), ["a"]);
    Ok(())
}

/// The guarantee that matters most: between the moment that a handle is had and the moment that it is dropped, the pool is
/// open, and it is the only one of its key.
#[test]
fn under_eviction_nobody_meets_a_closed_pool_or_a_second_one() {
    const KEYS: usize = 12;
    let held: Arc<[AtomicU32; KEYS]> = Arc::default();
    let pools = Pools::builder({
        let held = Arc::clone(&held);
        move |key: &usize| {
            assert_eq!(held[*key].load(SeqCst), 0, "a second pool is made for {key}");
            Pool::builder(|| Ok::<_, io::Error>(())).max_size(2).connection_timeout(LONG).build_lazy()
        }
    })
    .max_pools(3)
    .idle_timeout(Some(Duration::from_nanos(1)))
    .build()
    .expect("the settings are good");
    thread::scope(|scope| {
        for seed in 0..4_usize {
            let (pools, held) = (&pools, &held);
            scope.spawn(move || {
                for n in 0..2_000 {
                    let key = (seed * 7 + n * (seed + 1)) % KEYS;
                    match n % 4 {
                        0 => {
                            let pool = pools.pool(&key).expect("it can be made");
                            held[key].fetch_add(1, SeqCst);
                            pool.with(|()| ()).expect("it is open");
                            held[key].fetch_sub(1, SeqCst);
                        }
                        1 => {
                            let conn = pools.get(&key).expect("it can be had");
                            held[key].fetch_add(1, SeqCst);
                            thread::yield_now();
                            held[key].fetch_sub(1, SeqCst);
                            drop(conn);
                        }
                        2 => pools.with(&key, |()| ()).expect("it can be had"),
                        _ => {
                            pools.evict_idle();
                        }
                    }
                }
            });
        }
    });
    let stats = pools.stats();
    assert!(stats.evicted > 100 && stats.provider_failures == 0, "{stats:?}");
    assert_eq!(stats.created, stats.evicted + stats.pools as u64);
    assert_eq!((stats.in_use, stats.waiting, stats.timeouts), (0, 0, 0));
    pools.evict_idle();
    assert!(pools.len() <= 3);
}

#[test]
fn a_pool_that_works_is_left_as_it_is_by_recover() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let made = pools.recover(&"acme", LONG);
    assert_eq!((made.action, made.is_healthy(), made.found.is_none()), (RecoveryAction::Created, true, true));
    assert_eq!(house.lab.checks.load(SeqCst), 1, "a connection that was just opened is checked all the same");
    let works = pools.recover(&"acme", LONG);
    assert_eq!(
        (works.action, works.is_healthy(), works.to_string()),
        (RecoveryAction::Nothing, true, "it works".into())
    );
    let all = [pools.get(&"acme")?, pools.get(&"acme")?];
    let busy = pools.recover(&"acme", Duration::from_millis(40));
    assert_eq!((busy.action, busy.is_healthy()), (RecoveryAction::LeftAlone, false));
    assert_eq!(busy.found.expect("why").kind(), ErrorKind::Exhausted);
    drop(all);
    assert_eq!(house.made("acme"), 1);
    Ok(())
}

#[test]
fn a_pool_that_does_not_work_is_replaced_and_who_waits_in_it_goes_on() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let old = pools.pool(&"acme")?;
    let mut held = vec![pools.get(&"acme")?];
    house.lab.dead_below.store(3, SeqCst); // the one that is held, and the next one
    drop(pools.get(&"acme")?);
    let replaced = pools.recover(&"acme", LONG);
    assert_eq!((replaced.action, replaced.is_healthy()), (RecoveryAction::Replaced, true), "{replaced}");
    let found = replaced.found.as_ref().expect("what was wrong");
    assert_eq!(found.kind(), ErrorKind::Validate);
    assert!(found.source().is_some_and(|cause| cause.is::<Refused>()));
    assert!(replaced.to_string().contains("it was replaced, and the new one works"), "{replaced}");
    assert_eq!((house.made("acme"), pools.len()), (2, 1));
    assert_eq!(old.get().expect_err("it is closed").kind(), ErrorKind::Closed);
    held.clear();
    eventually("the old connections go when they come back", || house.lab.live.load(SeqCst) == 1);

    // Somebody waits in a pool that is replaced meanwhile.
    house.lab.dead_below.store(u32::MAX, SeqCst);
    let all = [pools.get(&"acme")?, pools.get(&"acme")?];
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| pools.with(&"acme", |_| ())),
            scope.spawn(|| pools.get(&"acme").map(drop)),
            scope.spawn(|| pools.get_timeout(&"acme", LONG).map(drop)),
        ];
        eventually("they wait", || pools.stats().waiting == 3);
        pools.pool(&"acme").expect("it is there").close();
        for waiter in waiters {
            waiter.join().expect("no panic").expect("there is a new pool");
        }
    });
    drop(all);
    Ok(())
}

#[test]
fn what_recover_cannot_mend_it_tells() {
    let house = House::new();
    let pools = Pools::new(house.provider());
    pools.with(&"acme", |_| ()).expect("it works");
    house.lab.invalid.store(true, SeqCst);
    house.fails.store(true, SeqCst);
    let stuck = pools.recover(&"acme", LONG);
    assert_eq!((stuck.action, stuck.is_healthy()), (RecoveryAction::ProviderFailed, false));
    assert!(pools.contains(&"acme"), "the old one is better than none");
    house.fails.store(false, SeqCst);
    let broken = pools.recover_with(&"acme", LONG, |_| Err(Refused(7)));
    assert_eq!((broken.action, broken.is_healthy()), (RecoveryAction::Replaced, false));
    assert!(broken.to_string().contains("refused (attempt 7)"), "{broken}");
    let panicked = pools.recover_with(&"acme", LONG, |_| -> Result<(), Refused> {
        std::panic::resume_unwind(Box::new("token=s3cr3t"))
    });
    assert!(panicked.to_string().contains("the test panicked: token=***"), "{panicked}");
    let gate = Gate::new();
    let hangs = gate.clone();
    let late = pools.recover_with(&"acme", Duration::from_millis(60), move |_| {
        hangs.pass();
        Ok::<_, Refused>(())
    });
    let remaining = late.remaining.expect("nobody knows whether it works");
    assert_eq!((remaining.kind(), remaining.is_timeout()), (ErrorKind::Validate, true));
    gate.open();
}

/// Keeps warnings.
struct Listener(Mutex<Vec<String>>);

static HEARD: Listener = Listener(Mutex::new(Vec::new()));

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().expect("no panic").push(record.args().to_string());
        }
    }
    fn flush(&self) {}
}

#[test]
fn warming_up_logs_what_fails_and_goes_on_with_the_rest() -> Result<(), Error> {
    log::set_logger(&HEARD).expect("no other test sets it");
    log::set_max_level(LevelFilter::Warn);
    let pools = Pools::new(|url: &UrlKey| {
        let (refused, url) = (url.as_url().contains("dead"), url.as_url().to_owned());
        if url.contains("unknown") {
            return Pool::builder(|| Ok::<_, io::Error>(()))
                .max_size(0)
                .build_lazy()
                .map(|_| unreachable!("it is refused"));
        }
        let open = move || if refused { Err(io::Error::other(format!("no route to {url}"))) } else { Ok(()) };
        Pool::builder(open).max_size(3).build_lazy()
    });
    let keys = ["redis://:s3cr3t@one", "redis://:s3cr3t@dead", "redis://:s3cr3t@unknown", "redis://two"];
    let keys: Vec<UrlKey> = keys.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    let report = pools.warm_all(keys.clone(), WarmUp::blocking(2).within(Duration::from_millis(50)));
    let warm: Vec<_> = report.ok().map(|(key, ())| key.clone()).collect();
    assert_eq!(warm, [keys[0].clone(), keys[3].clone()]);
    assert_eq!(pools.stats().idle, 4);
    let table = report.table(|()| "warm".to_owned());
    assert!(table.contains("redis://:***@dead/0") && table.contains("no route to redis://:***@"), "{table}");
    assert!(table.contains("max_size is 0") && !table.contains("s3cr3t"), "{table}");
    let heard = HEARD.0.lock().expect("no panic").join("\n");
    for part in ["is not warmed up", "redis://:***@dead/0", "no route to", "redis://:***@unknown/0"] {
        assert!(heard.contains(part), "{part}: {heard}");
    }
    assert!(!heard.contains("s3cr3t"), "{heard}");
    Ok(())
}

#[test]
fn what_is_closed_is_closed_for_good_and_says_who_holds_what() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    pools.with(&"acme", |_| ())?;
    let conn = pools.get(&"umbrella")?;
    let gate = house.gate("late");
    thread::scope(|scope| {
        let late = scope.spawn(|| pools.pool(&"late"));
        eventually("one is being made", || pools.stats().making == 1);
        let error = pools.close_all_and_wait(Duration::from_millis(30)).expect_err("one is borrowed");
        gate.open();
        assert_eq!(late.join().expect("no panic").expect_err("too late").kind(), ErrorKind::Closed);
        assert_eq!((error.kind(), error.is_timeout(), error.holders().len()), (ErrorKind::Closed, true, 1));
        assert!(error.to_string().contains(r#""umbrella""#) && !error.to_string().contains("acme"), "{error}");
    });
    drop(conn);
    eventually("all is closed", || house.lab.live.load(SeqCst) == 0);
    assert_eq!(pools.get(&"acme").expect_err("no more are made").kind(), ErrorKind::Closed);
    assert_eq!((pools.len(), pools.stats().opened, pools.stats().closed), (0, 2, 2));
    pools.close_all_and_wait(LONG)
}

#[test]
fn what_is_removed_stays_open_for_those_who_have_it() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    assert!(pools.remove(&"acme").is_none());
    pools.with(&"acme", |_| ())?;
    let old = pools.remove(&"acme").expect("it was there");
    assert!(!pools.contains(&"acme"));
    old.with(|_| ())?;
    pools.with(&"acme", |_| ())?;
    assert_eq!((house.made("acme"), pools.each().len()), (2, 1));
    pools.refresh_all();
    eventually("each pool has parted with what it had", || pools.stats().size == 0);
    assert_eq!(old.stats().size, 1);
    Ok(())
}

#[test]
fn the_health_of_all_is_that_of_the_pools_there_are() -> Result<(), Error> {
    let house = House::new();
    let shared = house.make("shared")?;
    let (provider, clock) = (house.provider(), HandClock::new());
    let pools = Pools::builder(move |key: &&'static str| match *key {
        "left" | "right" => Ok(shared.clone()),
        _ => provider(key),
    })
    .idle_timeout(Some(Duration::from_secs(60)))
    .clock(clock.clone())
    .build()?;
    assert_eq!((pools.health().level(), pools.health().pools().len()), (HealthLevel::Ok, 0));

    pools.with(&"acme", |_| ())?;
    pools.with(&"left", |_| ())?;
    pools.with(&"right", |_| ())?;
    let held = pools.pool(&"umbrella")?.get_many(2)?;
    let report = pools.health();
    let names: Vec<_> = report.pools().iter().map(|health| health.pool.as_str()).collect();
    assert_eq!(names, ["umbrella", "acme", "shared"], "the worst first, each once");
    let worst = report.pools().first().expect("three");
    assert_eq!(
        (report.level(), worst.warnings.first().map(|warning| warning.kind)),
        (HealthLevel::Warning, Some(WarningKind::NoneLeft))
    );
    assert_eq!((house.made("acme"), house.made("umbrella")), (1, 1), "none is made for it");

    drop(held);
    clock.advance(Duration::from_secs(61));
    drop(pools.health());
    assert_eq!(pools.evict_idle(), 2, "to look is not to use");
    assert_eq!(pools.health().pools().iter().map(|health| health.pool.as_str()).collect::<Vec<_>>(), ["shared"]);
    Ok(())
}

#[test]
fn the_numbers_of_all_have_stable_names() {
    let house = House::new();
    let pools = Pools::new(house.provider());
    pools.with(&"acme", |_| ()).expect("it connects");
    let json = serde_json::to_value(pools.stats()).expect("it is JSON");
    let keys = json.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys,
        "awaiting check_failures checking checkouts closed connect_failures connecting created evicted fast_failures \
         idle in_use making max_size opened overloads panics pools provider_failures size timeouts waiting waits"
    );
    assert_eq!((&json["pools"], &json["created"], &json["max_size"]), (&1.into(), &1.into(), &2.into()));
}

#[test]
fn a_time_out_that_is_too_short_for_a_test_condemns_no_pool() -> Result<(), Error> {
    for timeout in [Duration::ZERO, Duration::from_micros(20), Duration::from_millis(1)] {
        let house = House::new();
        let pools = Pools::new(house.provider());
        let pool = pools.pool(&"acme")?;
        let recovery = pools.recover(&"acme", timeout);
        assert!(matches!(recovery.action, RecoveryAction::LeftAlone | RecoveryAction::Nothing), "{recovery}");
        pool.with(|_| ())?;
        assert_eq!(house.made("acme"), 1);
    }
    Ok(())
}

#[test]
fn a_caller_goes_on_through_any_number_of_replaced_pools() -> Result<(), Error> {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let mut held = vec![pools.get(&"acme")?, pools.get(&"acme")?];
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| pools.with(&"acme", |_| ())),
            scope.spawn(|| pools.get(&"acme").map(drop)),
            scope.spawn(|| pools.get_timeout(&"acme", LONG).map(drop)),
        ];
        for _ in 0..3 {
            eventually("they wait", || pools.stats().waiting == 3);
            let old = pools.remove(&"acme").expect("it is there");
            // Whoever comes next finds a pool of which everything is borrowed.
            held.extend([pools.get(&"acme").expect("a new one"), pools.get(&"acme").expect("a new one")]);
            old.close();
        }
        eventually("they wait", || pools.stats().waiting == 3);
        held.clear();
        for waiter in waiters {
            waiter.join().expect("no panic").expect("nobody meets a closed pool");
        }
    });
    Ok(())
}

#[test]
fn a_provider_that_hangs_is_let_go_of() {
    let house = House::new();
    let pools = Pools::new(house.provider());
    let gate = house.gate("acme");
    thread::scope(|scope| {
        let first = scope.spawn(|| pools.pool(&"acme"));
        eventually("it hangs", || gate.waiting() == 1);
        house.gates.lock().expect("no panic").clear();
        let waiter = scope.spawn(|| pools.get_timeout(&"acme", LONG).map(drop));
        eventually("somebody waits for it", || pools.stats().awaiting == 1);
        assert!(pools.remove(&"acme").is_none());
        waiter.join().expect("no panic").expect("it has called the provider itself");
        gate.open();
        let late = first.join().expect("no panic").expect("the key's pool");
        assert!(late.stats().checkouts == 1 && pools.len() == 1, "not one of its own");
        let gate = house.gate("other");
        let hangs = scope.spawn(|| pools.pool(&"other"));
        eventually("it hangs", || gate.waiting() == 1);
        let recovery = pools.recover(&"other", Duration::from_millis(20));
        assert_eq!(recovery.action, RecoveryAction::ProviderFailed);
        house.gates.lock().expect("no panic").clear();
        pools.with(&"other", |_| ()).expect("the provider is called anew");
        gate.open();
        assert!(hangs.join().expect("no panic").is_ok());
    });
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Unspeakable;

impl std::fmt::Debug for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::panic::resume_unwind(Box::new("no name"))
    }
}

#[test]
fn a_key_whose_debug_panics_is_an_error_and_blocks_nobody() {
    let pools =
        Pools::new(|_: &Unspeakable| -> Result<Pool<Scripted>, Error> { std::panic::resume_unwind(Box::new("no")) });
    for _ in 0..2 {
        let error = pools.pool(&Unspeakable).expect_err("the provider panicked");
        assert!(error.to_string().contains("a key whose Debug panics"), "{error}");
        assert_eq!(pools.stats().making, 0);
    }
}

#[test]
fn one_pool_that_is_returned_again_is_counted_once_and_not_called_a_new_one() -> Result<(), Error> {
    let shared = House::new().make("shared")?;
    let pools = Pools::new(move |_: &u32| Ok(shared.clone()));
    pools.with(&1, |_| ())?;
    let recovery = pools.recover_with(&1, LONG, |_| Err::<(), _>(Refused(1)));
    assert_eq!(
        (recovery.action, pools.stats().checkouts),
        (RecoveryAction::LeftAlone, pools.pool(&1)?.stats().checkouts)
    );
    Ok(())
}

#[test]
fn a_pool_whose_connection_came_back_just_now_is_not_the_oldest() -> Result<(), Error> {
    let clock = HandClock::new();
    let hand = clock.clone();
    let provider = move |_: &u32| Pool::builder(|| Ok::<_, io::Error>(())).clock(hand.clone()).build_lazy();
    let pools = Pools::builder(provider)
        .max_pools(2)
        .idle_timeout(Some(Duration::from_secs(60)))
        .clock(clock.clone())
        .build()?;
    let held = pools.get(&1)?;
    clock.advance(Duration::from_secs(30));
    pools.with(&2, |_| ())?;
    clock.advance(Duration::from_secs(40));
    drop(held);
    assert_eq!(pools.evict_idle(), 0);
    pools.with(&3, |_| ())?;
    let mut keys = pools.keys();
    keys.sort_unstable();
    assert_eq!(keys, [1, 3]);
    Ok(())
}

#[test]
fn numbers_are_taken_without_keeping_pools_and_never_go_down() {
    let provider = |_: &u32| Pool::builder(|| Ok::<_, io::Error>(())).build_lazy();
    let pools = Pools::builder(provider).max_pools(10).build().expect("the settings are good");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = pools.stats();
            while !done.load(SeqCst) {
                let stats = pools.stats();
                assert!(stats.opened >= last.opened && stats.checkouts >= last.checkouts, "{last:?} {stats:?}");
                last = stats;
            }
        });
        let most = (0..2000).map(|key| {
            pools.with(&key, |()| ()).expect("it can be had");
            pools.len()
        });
        let most = most.max();
        done.store(true, SeqCst);
        assert_eq!(most, Some(10));
    });
}

static CLONES: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted(u32);

impl Clone for Counted {
    fn clone(&self) -> Self {
        CLONES.fetch_add(1, SeqCst);
        Self(self.0)
    }
}

#[test]
fn making_pools_while_too_many_are_in_use_does_not_look_over_all_of_them_each_time() -> Result<(), Error> {
    let provider = |_: &Counted| Pool::builder(|| Ok::<_, io::Error>(())).build_lazy();
    let clock = HandClock::new();
    let pools = Pools::builder(provider).max_pools(1).clock(clock.clone()).build()?;
    let held: Vec<_> = (0..500).map(|n| pools.pool(&Counted(n))).collect::<Result<_, _>>()?;
    assert!(CLONES.load(SeqCst) < 500 * 10, "{CLONES:?}");
    drop(held);
    clock.advance(Duration::from_millis(20));
    drop(pools.pool(&Counted(500))?);
    assert_eq!(pools.len(), 1);
    Ok(())
}
