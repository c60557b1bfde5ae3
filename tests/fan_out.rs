//! Fan-out: each row for itself, in order, and nobody waits longer than the deadline.

mod support;

use millpond::{ErrorKind, FanOut, FanOutError, Manager, Pool, Pools, RecoveryAction, fan_out, fan_out_scoped};
use rusqlite::Connection;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Folder, Gate, LONG, Lab, Refused, Scripted, assert_healthy, eventually};

/// Short enough for a test, and long enough that what does not hang is done by then on any machine.
const SOON: Duration = Duration::from_secs(2);

fn shard(lab: &Arc<Lab>, max_size: u32) -> Pool<Scripted> {
    Pool::builder(lab.manager())
        .max_size(max_size)
        .connection_timeout(LONG)
        .build_lazy()
        .expect("the settings are good")
}

type Shards = Vec<(usize, Pool<Scripted>)>;

fn shards<const N: usize>() -> ([Arc<Lab>; N], Shards) {
    let labs = [(); N].map(|()| Lab::new());
    let pools = labs.iter().map(|lab| shard(lab, 1)).enumerate().collect();
    (labs, pools)
}

/// Who has a result, who has none, and why.
fn outcomes<R: Debug, E: Debug>(rows: &FanOut<usize, R, E>) -> Vec<String> {
    let outcome = |result: &Result<R, FanOutError<E>>| match result {
        Ok(result) => format!("{result:?}"),
        Err(FanOutError::Connection(error)) => format!("{:?}", error.kind()),
        Err(error) => format!("{error:?}"),
    };
    rows.rows().iter().map(|row| format!("{} {}", row.key, outcome(&row.result))).collect()
}

fn nobody_has<M: Manager>(pools: &[(usize, Pool<M>)]) {
    eventually("every connection is back", || pools.iter().all(|(_, pool)| pool.stats().in_use == 0));
}

#[test]
fn rows_come_in_order_each_with_its_own_result_or_error() {
    let (labs, pools) = shards::<5>();
    labs[1].refuse.store(true, SeqCst);
    labs[1].permanent.store(true, SeqCst);
    let rows = fan_out(pools.clone(), 3, LONG, |n, conn| match n {
        2 => Err(Refused(7)),
        3 => std::panic::resume_unwind(Box::new("token=s3cr3t")),
        n => Ok(format!("{n} on connection {}", conn.number)),
    });
    assert_eq!(
        outcomes(&rows),
        [
            r#"0 "0 on connection 1""#,
            "1 Connect",
            "2 Failed(Refused(7))",
            r#"3 Panicked("token=***")"#,
            r#"4 "4 on connection 1""#
        ]
    );
    let keys: Vec<_> = rows.errors().map(|(key, _)| *key).collect();
    assert_eq!((keys, rows.ok().count(), rows.is_complete()), (vec![1, 2, 3], 2, false));
    let error = rows.all().expect_err("the first one");
    assert!(matches!(&error, FanOutError::Connection(error) if error.kind() == ErrorKind::Connect));
    let cause = std::error::Error::source(&error).expect("the manager's own");
    assert!(cause.is::<Refused>(), "{cause}");
    nobody_has(&pools);
    eventually("a connection over which the closure panicked is closed", || labs[3].dropped.load(SeqCst) == 1);
    pools.iter().filter(|(n, _)| *n != 1).for_each(|(_, pool)| assert_healthy(pool));
}

#[test]
fn a_shard_that_hangs_costs_its_own_row_and_the_caller_returns_at_the_deadline() {
    let (_labs, pools) = shards::<6>();
    let gate = Gate::new();
    let hangs = gate.clone();
    // The gate opens after the return: who waited for the hanging row would never get there.
    let rows = fan_out(pools.clone(), 2, SOON, move |n, _| {
        if *n == 1 {
            hangs.pass();
        }
        Ok::<_, Refused>(*n)
    });
    assert_eq!(outcomes(&rows), ["0 0", "1 Deadline { began: true }", "2 2", "3 3", "4 4", "5 5"]);
    let took: Vec<_> = rows.rows().iter().map(|row| row.took).collect();
    assert!(took[1] > took[0] && took[1] >= SOON / 2, "{took:?}");
    assert_eq!((pools[1].1.stats().in_use, gate.waiting()), (1, 1), "its thread goes on");
    let label = pools[1].1.holders()[0].label().map(str::to_owned);
    assert!(label.as_deref().is_some_and(|label| label.starts_with("fan_out at tests/fan_out.rs:")), "{label:?}");
    gate.open();
    nobody_has(&pools);
}

#[test]
fn as_many_dead_shards_as_the_limit_spoil_their_own_rows_only() {
    for scoped in [false, true] {
        let (_labs, pools) = shards::<16>();
        // Two pools have no connection to give, and in a third one the closure hangs.
        let held = [0, 1].map(|n: usize| pools[n].1.get().expect("one is there"));
        let gate = Gate::new();
        let hangs = gate.clone();
        let work = move |n: &usize, _: &mut _| {
            if *n == 2 {
                hangs.pass();
            }
            Ok::<_, Refused>(*n)
        };
        let rows = if scoped {
            thread::scope(|scope| {
                scope.spawn(|| {
                    eventually("all others are done", || {
                        pools[3..].iter().all(|(_, pool)| pool.stats().checkouts == 1)
                    });
                    gate.open();
                });
                fan_out_scoped(pools.clone(), 2, SOON, work)
            })
        } else {
            fan_out(pools.clone(), 2, SOON, work)
        };
        let good: Vec<_> = rows.ok().map(|(n, _)| *n).filter(|n| *n > 2).collect();
        assert_eq!(good, (3..16).collect::<Vec<_>>(), "{rows}");
        assert!(rows.rows()[..2].iter().all(|row| row.result.is_err()), "{rows}");
        gate.open();
        drop(held);
        nobody_has(&pools);
    }
}

#[test]
fn after_a_complete_fan_out_nobody_else_has_what_its_closure_captured() {
    let (_labs, pools) = shards::<4>();
    for _ in 0..200 {
        let sum = Arc::new(AtomicU32::new(0));
        let summed = Arc::clone(&sum);
        let rows = fan_out(pools.clone(), 4, LONG, move |n, _| {
            summed.fetch_add(*n as u32, SeqCst);
            Ok::<_, Refused>(())
        });
        assert!(rows.is_complete());
        let sum = Arc::into_inner(sum).expect("the threads have let go of it");
        assert_eq!(sum.into_inner(), 6);
    }
}

#[test]
fn rows_that_have_not_begun_at_the_deadline_never_do() {
    let (_labs, pools) = shards::<4>();
    let begun = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&begun);
    let rows = fan_out(pools, 1, Duration::ZERO, move |_, _| {
        count.fetch_add(1, SeqCst);
        Ok::<_, Refused>(())
    });
    assert_eq!(outcomes(&rows), ["0", "1", "2", "3"].map(|n| format!("{n} Deadline {{ began: false }}")));
    assert!(rows.rows().iter().all(|row| row.took.is_zero()));
    eventually("the threads have ended", || Arc::strong_count(&begun) == 1);
    assert_eq!(begun.load(SeqCst), 0);
}

#[test]
fn there_are_never_more_at_once_than_the_limit() {
    let (_labs, pools) = shards::<12>();
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let three = Arc::new(std::sync::Barrier::new(3));
    let (counted, largest, meet) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&three));
    let rows = fan_out(pools, 3, LONG, move |_, _| {
        largest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        meet.wait(); // and not fewer either
        counted.fetch_sub(1, SeqCst);
        Ok::<_, Refused>(thread::current().name().map(str::to_owned))
    });
    assert_eq!(most.load(SeqCst), 3);
    assert!(rows.ok().all(|(_, name)| name.as_deref() == Some("millpond-fan-out")));
    assert_eq!(rows.all().expect("all were done").len(), 12);
}

#[test]
fn a_row_whose_pool_has_no_connection_says_why_at_the_deadline() {
    let (_labs, pools) = shards::<2>();
    let held = pools[0].1.get().expect("one is there");
    let rows = fan_out(pools.clone(), 2, Duration::from_millis(300), |_, _| Ok::<_, Refused>(()));
    match &rows.rows()[0].result {
        Err(FanOutError::Connection(error)) => {
            assert_eq!((error.kind(), error.holders().len()), (ErrorKind::Exhausted, 1));
        }
        // A machine that is busy enough to lose the hundredth of a second that is left for this.
        other => assert!(matches!(other, Err(FanOutError::Deadline { began: true })), "{other:?}"),
    }
    assert!(rows.rows()[1].result.is_ok());
    drop(held);
    nobody_has(&pools);
}

#[test]
fn a_scoped_fan_out_borrows_and_waits_for_what_has_begun() {
    let (_labs, pools) = shards::<4>();
    let done = AtomicU32::new(0);
    let gate = Gate::default();
    let rows = thread::scope(|scope| {
        scope.spawn(|| {
            eventually("all rows hang, each beside the one before it", || gate.waiting() == 4);
            thread::sleep(SOON); // the deadline passes
            gate.open();
        });
        fan_out_scoped(pools.clone(), 1, SOON, |n, _| {
            gate.pass();
            done.fetch_add(1, SeqCst);
            Ok::<_, Refused>(*n)
        })
    });
    assert_eq!((outcomes(&rows), done.load(SeqCst)), (["0 0", "1 1", "2 2", "3 3"].map(str::to_owned).to_vec(), 4));
    nobody_has(&pools);
}

#[test]
fn a_limit_of_nothing_is_an_error_of_each_row_and_no_rows_are_no_rows() {
    let (labs, pools) = shards::<2>();
    for rows in [
        fan_out(pools.clone(), 0, LONG, |_, _| Ok::<_, Refused>(())),
        fan_out_scoped(pools.clone(), 0, LONG, |_, _| Ok::<_, Refused>(())),
    ] {
        assert_eq!(outcomes(&rows), ["0 Config", "1 Config"]);
        assert!(rows.to_string().contains("limit is 0"), "{rows}");
    }
    assert_eq!(labs[0].attempts.load(SeqCst), 0);
    let none = fan_out(Vec::<(usize, Pool<Scripted>)>::new(), 3, LONG, |_, _| Ok::<_, Refused>(()));
    assert!(none.is_complete() && none.rows().is_empty());
    let late = fan_out(pools, 2, Duration::ZERO, |_, _| Ok::<_, Refused>(()));
    assert_eq!(late.ok().count(), 0);
}

#[test]
fn over_keys_a_provider_that_fails_or_hangs_spoils_its_own_row_only() {
    let gate = Gate::new();
    let hangs = gate.clone();
    let pools = Pools::new(move |n: &usize| {
        match n {
            0 => hangs.pass(),
            1 => std::panic::resume_unwind(Box::new("unknown shard")),
            _ => {}
        }
        Pool::builder(|| Ok::<_, io::Error>(())).max_size(u32::from(*n != 2)).build_lazy()
    });
    let rows = pools.fan_out(0..5, 2, SOON, |n, ()| Ok::<_, Refused>(*n));
    assert_eq!(outcomes(&rows), ["0 Deadline { began: true }", "1 Connect", "2 Config", "3 3", "4 4"]);
    gate.open();
    let factor = 10;
    let rows = pools.fan_out_scoped([0, 3], 2, LONG, |n, ()| Ok::<_, Refused>(*n * factor));
    assert_eq!(outcomes(&rows), ["0 0", "3 30"]);
}

#[test]
fn the_table_has_a_line_for_each_row_and_no_secrets() {
    let keys = ["redis://:s3cr3t@one", "redis://:s3cr3t@two", "three"];
    let pool = || Pool::builder(|| Ok::<_, io::Error>(())).build_lazy().expect("the settings are good");
    let rows = fan_out(keys.map(|key| (key, pool())), 3, LONG, |key, ()| match *key {
        "three" => Ok(17),
        key => Err(format!("no route\nto {key}")),
    });
    let table = rows.table(|n| format!("{n} birds"));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[0].starts_with("key               outcome                       ") && lines[0].ends_with("took"),
        "{table}"
    );
    assert!(lines[1].starts_with("redis://:***@one  no route to redis://:***@one  "), "{table}");
    assert!(
        lines[3].starts_with("three             17 birds                      ") && lines[3].ends_with(" ms"),
        "{table}"
    );
    assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
    assert!(!table.contains("s3cr3t"));
    assert!(rows.to_string().contains("three             ok "));
}

fn create(path: &Path, birds: &[&str]) -> rusqlite::Result<()> {
    let conn = Connection::open(path)?;
    conn.execute_batch("CREATE TABLE bird (name TEXT)")?;
    birds.iter().try_for_each(|bird| conn.execute("INSERT INTO bird VALUES (?1)", [bird]).map(drop))
}

#[test]
fn of_three_sqlite_shards_a_damaged_and_a_slow_one_spoil_their_own_rows_and_the_damaged_one_is_recovered()
-> Result<(), Box<dyn std::error::Error>> {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    for (n, birds) in [["heron", "coot"], ["swan", "teal"], ["rail", "snipe"]].iter().enumerate() {
        create(&folder.file(&format!("{n}.db")), birds)?;
    }
    let (damaged, copy) = (folder.file("1.db"), folder.file("copy.db"));
    fs::copy(&damaged, &copy)?;
    let shards = Pools::new(move |n: &usize| {
        let file = path.join(format!("{n}.db"));
        Pool::builder(move || Connection::open(&file)).name(format!("shard-{n}")).max_size(1).build_lazy()
    });
    let count = |n: &usize, conn: &mut Connection| {
        if *n == 2 {
            // Longer than any deadline of this test, until it is interrupted.
            let slow = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
            return conn.query_row(slow, [], |row| row.get(0));
        }
        conn.query_row("SELECT count(*) FROM bird", [], |row| row.get::<_, i64>(0))
    };
    let stop = shards.get(&2)?.get_interrupt_handle();
    let mut bytes = fs::read(&damaged)?;
    bytes[..2048].fill(0xA5);
    fs::write(&damaged, &bytes)?;

    let rows = shards.fan_out(0..3, 3, SOON, count);
    assert_eq!(rows.ok().collect::<Vec<_>>(), [(&0, &2)]);
    let table = rows.to_string();
    assert!(table.contains("file is not a database") && table.contains("not done at the deadline"), "{table}");
    stop.interrupt();

    fs::remove_file(&damaged)?;
    fs::copy(&copy, &damaged)?;
    let test = |conn: &mut Connection| conn.query_row("SELECT count(*) FROM bird", [], |_| Ok(()));
    let recovery = shards.recover_with(&1, LONG, test);
    assert_eq!((recovery.action, recovery.is_healthy()), (RecoveryAction::Replaced, true), "{recovery}");
    assert_eq!(shards.fan_out(0..2, 3, LONG, count).all()?, [2, 2]);
    shards.close_all_and_wait(LONG)?;
    Ok(())
}
