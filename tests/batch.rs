//! The batch helper: what is read, what is done once and only once, what errors cost, and how a batch ends.

mod support;

use millpond::batch::{Batch, BatchError, End, Lender, Report};
use millpond::sqlite::{SqliteManager, SqlitePool, abort};
use millpond::{ErrorKind, Pool};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{Conn, Folder, Gate, LONG, Lab, Scripted, assert_healthy, eventually};

#[derive(Debug, PartialEq, Eq)]
struct Bad(u64);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is bad", self.0)
    }
}

impl std::error::Error for Bad {}

fn pool(max_size: u32) -> (Arc<Lab>, Pool<Scripted>) {
    let lab = Lab::new();
    let builder = Pool::builder(lab.manager()).max_size(max_size).connection_timeout(LONG);
    let pool = builder.build_lazy().expect("the settings are good");
    (lab, pool)
}

/// A database as far as transactions go: what a connection writes counts when it commits.
#[derive(Default)]
struct Books {
    committed: Mutex<Vec<u64>>,
    /// By the number of the connection.
    open: Mutex<HashMap<u32, Vec<u64>>>,
    commits: AtomicU32,
    rollbacks: AtomicU32,
    runs: Mutex<HashMap<u64, u32>>,
    refuse_begin: AtomicBool,
    refuse_commit: AtomicBool,
}

impl Books {
    fn begin(&self, conn: &Conn) -> Result<(), Bad> {
        if self.refuse_begin.load(SeqCst) {
            return Err(Bad(1000));
        }
        let before = self.open.lock().expect("no panic").insert(conn.number, Vec::new());
        assert!(before.is_none(), "a transaction was left open on connection {}", conn.number);
        Ok(())
    }

    fn commit(&self, conn: &Conn) -> Result<(), Bad> {
        if self.refuse_commit.load(SeqCst) {
            return Err(Bad(2000));
        }
        let written = self.open.lock().expect("no panic").remove(&conn.number).expect("it was begun");
        self.commits.fetch_add(1, SeqCst);
        self.committed.lock().expect("no panic").extend(written);
        Ok(())
    }

    fn roll_back(&self, conn: &Conn) -> Result<(), Bad> {
        self.open.lock().expect("no panic").remove(&conn.number).expect("it was begun");
        self.rollbacks.fetch_add(1, SeqCst);
        Ok(())
    }

    fn write(&self, conn: &Conn, item: u64) {
        *self.runs.lock().expect("no panic").entry(item).or_default() += 1;
        conn.exclusively(|| {
            self.open.lock().expect("no panic").get_mut(&conn.number).expect("it was begun").push(item);
        });
    }

    fn committed(&self) -> Vec<u64> {
        let mut all = self.committed.lock().expect("no panic").clone();
        all.sort_unstable();
        all
    }

    fn most_runs(&self) -> u32 {
        self.runs.lock().expect("no panic").values().copied().max().unwrap_or(0)
    }
}

/// Opens a gate when it is dropped, so that no thread waits for ever behind a test that fails.
struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

type Over<'a> = Batch<'a, Lender<'a, Scripted>, Bad>;

/// A batch with transactions in these books.
fn booked<'a>(pool: &'a Pool<Scripted>, books: &'a Books) -> Over<'a> {
    Batch::new(pool).transactions(|conn| books.begin(conn), |conn| books.commit(conn), |conn| books.roll_back(conn))
}

fn failed<T>(report: &Report<T, Bad>) -> Vec<(u64, String)> {
    report.failures.iter().map(|failure| (failure.index, failure.error.to_string())).collect()
}

fn counts<T, E>(report: &Report<T, E>) -> [u64; 4] {
    let counts = &report.counts;
    assert_eq!((counts.in_flight(), counts.read), (0, counts.done + counts.failed + counts.left));
    [counts.read, counts.done, counts.failed, counts.left]
}

#[test]
fn no_more_items_are_read_ahead_than_was_said_and_all_of_these_are() {
    let (_lab, pool) = pool(2);
    let gate = Gate::default();
    let (read, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let batch = scope.spawn(|| {
            // Neither the iterator nor the sink can be sent to another thread.
            let here = Rc::new(Cell::new(0_u64));
            let items = (0..100_u64).inspect(|_| {
                let ahead = read.fetch_add(1, SeqCst) + 1 - ended.load(SeqCst);
                here.set(here.get().max(ahead));
            });
            let work = |_: &mut Conn, _: &u64| {
                gate.pass();
                Ok::<_, Bad>(())
            };
            let report = Batch::new(&pool).chunk(3).read_ahead(13).for_each(items, work, |_| {
                ended.fetch_add(1, SeqCst);
            });
            (counts(&report), here.get())
        });
        let _opens = Opens(&gate);
        eventually("two workers are at the gate, and the queue is full", || {
            gate.waiting() == 2 && read.load(SeqCst) == 12
        });
        gate.open();
        let (counts, most) = batch.join().expect("no panic");
        assert_eq!(counts, [100, 100, 0, 0]);
        assert!(most <= 13, "{most} were read ahead");
    });
    assert_healthy(&pool);
}

#[test]
fn by_default_two_chunks_for_each_worker_are_read_and_there_is_a_worker_for_each_connection() {
    let (lab, pool) = pool(3);
    let gate = Gate::default();
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let batch = scope.spawn(|| {
            let items = (0..).take_while(|n| *n < 500_u64).inspect(|_| {
                read.fetch_add(1, SeqCst);
            });
            Batch::new(&pool).chunk(5).run(items, |_, _| {
                gate.pass();
                Ok::<_, Bad>(())
            })
        });
        let _opens = Opens(&gate);
        eventually("the queue is full", || gate.waiting() == 3 && read.load(SeqCst) == 30);
        assert_eq!(pool.stats().in_use, 3);
        let labels: Vec<_> = pool.holders().iter().map(|lease| lease.label().map(str::to_owned)).collect();
        assert!(
            labels.iter().flatten().filter(|text| text.starts_with("batch at tests/batch.rs:")).count() == 3,
            "{labels:?}"
        );
        gate.open();
        assert_eq!(counts(&batch.join().expect("no panic")), [500, 500, 0, 0]);
    });
    assert!(lab.most_live.load(SeqCst) <= 3);
    assert_healthy(&pool);
}

#[test]
fn one_worker_uses_one_connection_and_keeps_the_order() {
    let (lab, pool) = pool(4);
    let seen = Mutex::new(Vec::new());
    let report = Batch::new(&pool).workers(1).chunk(4).run(0..50_u64, |conn, item| {
        assert_eq!(thread::current().name(), Some("millpond-batch"));
        seen.lock().expect("no panic").push((conn.number, *item));
        Ok::<_, Bad>(())
    });
    assert!(report.is_complete(), "{report}");
    let expected: Vec<_> = (0..50).map(|item| (1, item)).collect();
    assert_eq!(seen.into_inner().expect("no panic"), expected);
    assert_eq!((lab.attempts.load(SeqCst), pool.stats().checkouts), (1, 13), "a checkout for each chunk");
    assert_healthy(&pool);
}

#[test]
fn more_workers_than_connections_wait_for_their_turns() {
    let (lab, pool) = pool(2);
    let report = Batch::new(&pool).workers(16).run(0..200_u64, |conn, _| conn.exclusively(|| Ok::<_, Bad>(())));
    assert_eq!(counts(&report), [200, 200, 0, 0]);
    assert!(lab.most_live.load(SeqCst) <= 2);
    assert_healthy(&pool);
}

#[test]
fn workers_wait_for_each_other_beyond_the_deadline_and_the_limit_of_the_pool() {
    let short = Duration::from_millis(5);
    let builder = Pool::builder(Lab::new().manager()).max_size(1).connection_timeout(short).max_waiting(Some(1));
    let pool = builder.build().expect("it connects");
    let report = Batch::new(&pool).workers(6).run(0..12_u64, |_, item| {
        if *item == 0 {
            // So long does a caller outside wait in vain, and longer than the deadline of the others.
            assert!(pool.get_timeout(20 * short).is_err());
        }
        Ok::<_, Bad>(())
    });
    assert!(report.is_complete(), "{report}");
    assert_eq!((pool.stats().overloads, pool.stats().timeouts), (0, 1), "the one caller outside");

    let shop = SqlitePool::builder(SqliteManager::memory()).connection_timeout(short).build().expect("it opens");
    let report = Batch::sqlite(&shop).workers(6).run(0..12_u64, |_, item| {
        if *item == 0 {
            assert!(shop.writers().get_timeout(20 * short).is_err());
        }
        Ok::<_, rusqlite::Error>(())
    });
    assert!(report.is_complete(), "{report}");
}

#[test]
fn a_dead_connection_costs_no_item_where_nothing_was_begun_on_it() {
    let ((lab, pool), books) = (pool(1), Books::default());
    let dead = AtomicBool::new(true);
    let begin = |conn: &mut Conn| if dead.swap(false, SeqCst) { Err(Bad(3000)) } else { books.begin(conn) };
    let batch = Batch::new(&pool).transactions(begin, |conn| books.commit(conn), |conn| books.roll_back(conn));
    let report = batch.chunk(4).run(0..8, |conn, item| {
        books.write(conn, *item);
        Ok::<_, Bad>(())
    });
    assert!(report.is_complete(), "{report}");
    assert_eq!((books.committed(), lab.attempts.load(SeqCst)), ((0..8).collect(), 2));
    assert_healthy(&pool);
}

#[test]
fn what_waits_for_its_connection_when_the_batch_is_stopped_is_not_begun() {
    let ((_lab, pool), stop, gate) = (pool(1), AtomicBool::new(false), Gate::new());
    let _open = Opens(&gate);
    let prepared = AtomicU64::new(0);
    thread::scope(|scope| {
        let batch = scope.spawn(|| {
            let prepare = |item: &u64| Ok::<_, Bad>(*item + prepared.fetch_add(1, SeqCst));
            let work = |_: &mut Conn, _: &u64, _: &u64| {
                gate.pass();
                Ok(())
            };
            Batch::new(&pool).workers(3).stop_flag(&stop).run_prepared(0..3, prepare, work, drop)
        });
        eventually("one works, and two wait for its connection", || gate.waiting() == 1 && prepared.load(SeqCst) == 3);
        stop.store(true, SeqCst);
        gate.open();
        let report = batch.join().expect("no panic");
        assert_eq!((counts(&report), matches!(report.end, End::Stopped)), ([3, 1, 0, 2], true));
    });
}

#[test]
fn a_note_that_fails_is_an_error_also_where_it_settles_nothing_but_failures() {
    let ((_lab, pool), books) = (pool(1), Books::default());
    let batch = booked(&pool, &books).go_on().on_commit(|_, span| {
        assert!(!span.items.is_empty());
        if span.failed.is_empty() { Ok(()) } else { Err(Bad(4000)) }
    });
    let report = batch.run(0..3, |conn, item| {
        if *item == 1 {
            return Err(Bad(1));
        }
        books.write(conn, *item);
        Ok(())
    });
    assert_eq!(counts(&report), [3, 2, 1, 0]);
    assert_eq!(failed(&report), [(1, "on_commit: 4000 is bad".to_owned())]);
}

#[test]
fn what_was_to_be_left_out_by_a_transaction_that_ends_the_batch_is_left_where_commits_are_told() {
    // What ends it: an item that is prepared, or worked on, or the commit. Before that, 0 fails in preparing, and others at work.
    for (ends, noted, expected) in [
        ("prepare", true, vec![3]),
        ("prepare", false, vec![0, 3]),
        ("work", true, vec![1]),
        ("work", false, vec![0, 1, 3]),
        ("commit", true, vec![1]),
        ("commit", false, vec![0, 1, 2]),
    ] {
        let ((_lab, pool), books, runs) = (pool(1), Books::default(), AtomicU32::new(0));
        books.refuse_commit.store(ends == "commit", SeqCst);
        let judge = |error: &BatchError<Bad>| matches!(error, BatchError::Failed(Bad(n)) if *n < 100);
        let mut batch = booked(&pool, &books).chunk(4).go_on_if(judge);
        if noted {
            batch = batch.on_commit(|_, _| Ok::<_, Bad>(()));
        }
        let mut told = Vec::new();
        let report = batch.run_prepared(
            0..4,
            |item| match item {
                0 => Err(Bad(0)),
                3 if ends == "prepare" => Err(Bad(103)),
                _ => Ok(()),
            },
            |conn, item, ()| {
                books.write(conn, *item);
                match item {
                    3 if ends == "work" => Err(Bad(3)),
                    1 if ends == "work" && runs.fetch_add(1, SeqCst) == 1 => Err(Bad(101)),
                    2 if ends == "commit" => Err(Bad(2)),
                    _ => Ok(()),
                }
            },
            |outcome| told.push(outcome.index),
        );
        assert_eq!((told, report.counts.done), (expected, 0), "{ends}, {noted}");
        assert!(matches!(report.end, End::Failed), "{report}");
    }
}

#[test]
fn a_batch_that_goes_on_tells_each_error_with_its_item() {
    let (_lab, pool) = pool(4);
    let report = Batch::new(&pool).go_on().run((0..40_u64).map(|n| format!("item {n}")), |_, item| {
        let n = item[5..].parse().expect("a number");
        if n % 10 == 7 { Err(Bad(n)) } else { Ok(()) }
    });
    assert_eq!(counts(&report), [40, 36, 4, 0]);
    assert!(matches!(report.end, End::Complete) && !report.is_complete());
    let items: Vec<_> = report.failures.iter().map(|failure| (failure.index, failure.item.as_str())).collect();
    assert_eq!(items, [(7, "item 7"), (17, "item 17"), (27, "item 27"), (37, "item 37")]);
    assert!(matches!(report.failures[0].error, BatchError::Failed(Bad(7))));
    assert_healthy(&pool);
}

#[test]
fn the_first_error_ends_a_batch_and_undoes_its_own_transaction_only() {
    let (_lab, pool) = pool(1);
    let books = Books::default();
    let report = booked(&pool, &books).chunk(10).run(0..1000_u64, |conn, item| {
        books.write(conn, *item);
        if *item == 25 { Err(Bad(25)) } else { Ok(()) }
    });
    assert_eq!(books.committed(), (0..20).collect::<Vec<_>>());
    let [read, done, bad, left] = counts(&report);
    assert_eq!((done, bad), (20, 1));
    assert!((30..=50).contains(&read) && left == read - 21, "two chunks are read ahead: {report}");
    assert!(matches!(report.end, End::Failed));
    assert_eq!(failed(&report), [(25, "25 is bad".to_owned())]);
    assert_healthy(&pool);
}

#[test]
fn an_item_that_fails_is_left_out_of_its_transaction_and_it_alone() {
    let (_lab, pool) = pool(1);
    let books = Books::default();
    let spans = Mutex::new(Vec::new());
    let bad = [0, 13, 14, 29];
    let report = booked(&pool, &books)
        .chunk(10)
        .go_on()
        .on_commit(|_, span| {
            spans.lock().expect("no panic").push((span.items.clone(), span.failed.clone()));
            Ok::<_, Bad>(())
        })
        .run(0..35_u64, |conn, item| {
            books.write(conn, *item);
            if bad.contains(item) { Err(Bad(*item)) } else { Ok(()) }
        });
    assert_eq!(books.committed(), (0..35).filter(|item| !bad.contains(item)).collect::<Vec<_>>());
    assert_eq!(counts(&report), [35, 31, 4, 0]);
    assert_eq!(report.failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), bad);
    let told = spans.into_inner().expect("no panic");
    let expected = [
        (0..1, vec![0]),
        (1..10, vec![]),
        (10..14, vec![13]),
        (14..15, vec![14]),
        (15..20, vec![]),
        (20..30, vec![29]),
        (30..35, vec![]),
    ];
    assert_eq!(told, expected);
    assert_eq!(books.most_runs(), 2, "the good ones before a bad one, and no others, run again");
    assert_healthy(&pool);
}

#[test]
fn a_batch_goes_on_after_the_errors_that_a_function_names_and_up_to_a_number() {
    let (_lab, pool) = pool(1);
    let work = |_: &mut Conn, item: &u64| if item.is_multiple_of(3) { Err(Bad(*item)) } else { Ok(()) };
    let small = |error: &BatchError<Bad>| matches!(error, BatchError::Failed(Bad(n)) if *n < 10);
    let report = Batch::new(&pool).go_on_if(small).run(0..100_u64, work);
    assert_eq!(failed(&report).last(), Some(&(12, "12 is bad".to_owned())));
    let report = Batch::new(&pool).stop_after(3).run(0..100_u64, work);
    assert_eq!(failed(&report).iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 3, 6]);
    assert!(matches!(report.end, End::Failed));
    let report = Batch::new(&pool).go_on_if(|_| panic!("the judge")).run(0..100_u64, work);
    assert_eq!((report.counts.failed, report.counts.done), (1, 0), "who panics has not allowed it");
    assert_healthy(&pool);
}

#[test]
fn a_panic_costs_its_item_and_its_connection_and_no_thread() {
    for transactional in [false, true] {
        let (lab, pool) = pool(2);
        let books = Books::default();
        let batch = if transactional { booked(&pool, &books) } else { Batch::new(&pool) };
        let report = batch.chunk(10).go_on().run(0..200_u64, |conn, item| {
            if transactional {
                books.write(conn, *item);
            }
            if *item % 50 == 49 {
                resume_unwind(Box::new("password=hunter2 in a panic"));
            }
            Ok(())
        });
        assert_eq!(counts(&report), [200, 196, 4, 0], "{report}");
        assert_eq!(failed(&report)[3], (199, "panicked: password=*** in a panic".to_owned()));
        eventually("each of its connections is closed", || lab.dropped.load(SeqCst) == 4);
        if transactional {
            assert_eq!(books.committed(), (0..200).filter(|item| item % 50 != 49).collect::<Vec<_>>());
        }
        assert_healthy(&pool);
    }
}

#[test]
fn transactions_that_cannot_be_begun_committed_or_noted_are_errors_of_all_their_items() {
    for (step, begin, commit, note) in
        [("begin", true, false, false), ("commit", false, true, false), ("on_commit", false, false, true)]
    {
        let (_lab, pool) = pool(1);
        let books = Books::default();
        let spoil = |on| {
            books.refuse_begin.store(begin && on, SeqCst);
            books.refuse_commit.store(commit && on, SeqCst);
        };
        let report = booked(&pool, &books)
            .chunk(4)
            .go_on()
            .on_commit(|_, span| if note && span.items.start == 4 { Err(Bad(3000)) } else { Ok(()) })
            .run_prepared(
                0..12_u64,
                // The second chunk is the bad one, and nothing of it is begun when it is prepared.
                |item| {
                    spoil(*item / 4 == 1);
                    Ok(())
                },
                |conn, item, ()| {
                    books.write(conn, *item);
                    Ok(())
                },
                |outcome| {
                    let bad = outcome.index / 4 == 1;
                    match outcome.result {
                        Ok(()) => assert!(!bad, "item {}", outcome.index),
                        Err(BatchError::Transaction(error)) => assert!(bad && error.step() == step, "{error}"),
                        Err(error) => panic!("{error}"),
                    }
                },
            );
        assert_eq!(counts(&report), [12, 8, 4, 0], "{step}");
        assert_eq!(books.committed(), [0, 1, 2, 3, 8, 9, 10, 11], "{step}");
        assert_healthy(&pool);
    }
}

#[test]
fn a_connection_on_which_a_commit_fails_is_lent_to_nobody_else() {
    let (lab, pool) = pool(1);
    let books = Books::default();
    books.refuse_commit.store(true, SeqCst);
    let report = booked(&pool, &books).go_on().run(0..3_u64, |conn, item| {
        books.write(conn, *item);
        Ok(())
    });
    assert_eq!(failed(&report)[0].1, "commit: 2000 is bad");
    assert_eq!(counts(&report), [3, 0, 3, 0]);
    eventually("they are closed", || lab.dropped.load(SeqCst) == 3);
}

#[test]
fn a_pool_that_is_closed_ends_the_batch_with_an_error_and_with_its_report() {
    let (_lab, pool) = pool(2);
    let books = Books::default();
    let report = booked(&pool, &books).chunk(5).go_on().run(0..1_000_000_u64, |conn, item| {
        books.write(conn, *item);
        if *item == 100 {
            pool.close();
        }
        Ok(())
    });
    let End::Pool(error) = &report.end else { panic!("{report}") };
    assert_eq!(error.kind(), ErrorKind::Closed);
    let [read, done, bad, _] = counts(&report);
    assert!(done >= 100 && read < 200, "{report}");
    assert_eq!(done, books.committed().len() as u64, "what was in work is committed");
    assert!((5..=10).contains(&bad), "the chunks that had no connection: {report}");
    let connection =
        |error: &BatchError<Bad>| matches!(error, BatchError::Connection(error) if error.kind() == ErrorKind::Closed);
    assert!(report.failures.iter().all(|failure| connection(&failure.error)));
}

#[test]
fn a_server_that_refuses_ends_the_batch_even_if_it_goes_on_after_errors() {
    let (lab, pool) = pool(2);
    lab.refuse.store(true, SeqCst);
    lab.permanent.store(true, SeqCst);
    let report = Batch::new(&pool).go_on().run(0..1_000_000_u64, |_, _| Ok::<_, Bad>(()));
    assert!(matches!(&report.end, End::Pool(error) if error.kind() == ErrorKind::Connect), "{report}");
    assert!(report.counts.read <= 6 && report.counts.done == 0, "{report}");
    let cause = std::error::Error::source(&report.failures[0].error).map(|cause| cause.is::<support::Refused>());
    assert_eq!(cause, Some(true), "the manager's own error");
}

#[test]
fn a_flag_ends_an_endless_batch_and_what_is_in_work_is_committed() {
    let (_lab, pool) = pool(3);
    let books = Books::default();
    let (stop, gate, begun) = (AtomicBool::new(false), Gate::default(), Mutex::new(BTreeSet::new()));
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let batch = scope.spawn(|| {
            let items = (0_u64..).inspect(|_| {
                read.fetch_add(1, SeqCst);
            });
            booked(&pool, &books).chunk(4).stop_flag(&stop).run(items, |conn, item| {
                begun.lock().expect("no panic").insert(*item / 4);
                if *item >= 40 {
                    gate.pass();
                }
                books.write(conn, *item);
                Ok(())
            })
        });
        let _opens = Opens(&gate);
        eventually("three chunks are in work", || gate.waiting() == 3 && read.load(SeqCst) == 64);
        stop.store(true, SeqCst);
        gate.open();
        let report = batch.join().expect("no panic");
        assert!(matches!(report.end, End::Stopped), "{report}");
        assert_eq!(counts(&report), [64, 52, 0, 12], "six chunks were read, and three of them begun");
    });
    assert_eq!(books.committed(), (0..52).collect::<Vec<_>>());
    assert_eq!(begun.into_inner().expect("no panic").len(), 13, "no chunk was begun after the flag was raised");
    assert_healthy(&pool);
}

#[test]
fn a_chunk_with_an_error_is_finished_after_a_stop_wherever_the_error_is() {
    for bad in [0, 1] {
        let ((_lab, pool), books, stop) = (pool(1), Books::default(), AtomicBool::new(false));
        let raise = |_: &BatchError<Bad>| {
            stop.store(true, SeqCst);
            true
        };
        let report = booked(&pool, &books).chunk(2).stop_flag(&stop).go_on_if(raise).run(0..2, |conn, item| {
            books.write(conn, *item);
            if *item == bad { Err(Bad(bad)) } else { Ok(()) }
        });
        assert_eq!(counts(&report), [2, 1, 1, 0], "{report}");
        assert_eq!((failed(&report), books.committed()), (vec![(bad, format!("{bad} is bad"))], vec![1 - bad]));
    }
}

#[test]
fn a_flag_that_is_up_already_lets_nothing_begin() {
    let (lab, pool) = pool(1);
    let report = Batch::new(&pool).stop_flag(&AtomicBool::new(true)).run(0_u64.., |_, _| Ok::<_, Bad>(()));
    assert_eq!(counts(&report), [0; 4]);
    assert!(matches!(report.end, End::Stopped));
    assert_eq!(lab.attempts.load(SeqCst), 0);
}

#[test]
fn a_sink_that_panics_ends_the_batch_after_what_is_in_work_and_leaves_the_pool_whole() {
    let (_lab, pool) = pool(1);
    let (gate, read, begun) = (Gate::default(), AtomicU32::new(0), AtomicU32::new(0));
    // The sink is dropped when the batch has been told to end.
    let opens = Opens(&gate);
    let items = (0..1000_u64).inspect(|_| {
        read.fetch_add(1, SeqCst);
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let work = |_: &mut Conn, item: &u64| {
            begun.fetch_add(1, SeqCst);
            match item {
                0 => eventually("all that may be is read", || read.load(SeqCst) == 6),
                _ => gate.pass(),
            }
            Ok::<_, Bad>(())
        };
        Batch::new(&pool).read_ahead(6).for_each(items, work, move |_| {
            let _opens = &opens;
            resume_unwind(Box::new("the sink"))
        })
    }));
    assert_eq!(panicked.err().and_then(|payload| payload.downcast_ref().copied()), Some("the sink"));
    assert!(begun.load(SeqCst) <= 2, "what was read and not begun is not begun: {begun:?}");
    assert_healthy(&pool);
}

#[test]
fn an_iterator_that_panics_ends_the_batch_after_what_is_in_work() {
    let (_lab, pool) = pool(2);
    let items = (0..100_u64).inspect(|item| assert!(*item < 50, "the iterator"));
    let panicked = catch_unwind(AssertUnwindSafe(|| Batch::new(&pool).run(items, |_, _| Ok::<_, Bad>(()))));
    assert!(panicked.is_err());
    assert_healthy(&pool);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("the bomb"));
    }
}

/// Panics when it is dropped, with another one of its kind.
struct Nest(u32);

impl Drop for Nest {
    fn drop(&mut self) {
        if let Some(less) = self.0.checked_sub(1) {
            resume_unwind(Box::new(Self(less)));
        }
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_is_a_panic_like_others() {
    let (_lab, pool) = pool(1);
    let work = |_: &mut Conn, item: &u64| if *item == 1 { Err(Bad(1)) } else { Ok(()) };
    let judge = |_: &BatchError<Bad>| resume_unwind(Box::new(Nest(3)));
    let report = Batch::new(&pool).chunk(4).go_on_if(judge).run(0..4, work);
    assert_eq!((counts(&report), failed(&report)), ([4, 1, 1, 2], vec![(1, "1 is bad".to_owned())]));

    let work = |_: &mut Conn, item: &u64| if *item == 1 { resume_unwind(Box::new(Nest(3))) } else { Ok::<_, Bad>(()) };
    let report = Batch::new(&pool).chunk(4).go_on().run(0..4, work);
    let told = vec![(1, "panicked: a value that is not text".to_owned())];
    assert_eq!((counts(&report), failed(&report)), ([4, 3, 1, 0], told));
    assert_healthy(&pool);
}

#[test]
fn a_destructor_that_panics_on_a_worker_is_the_callers_panic_and_nobody_waits_for_ever() {
    let (_lab, pool) = pool(1);
    let books = Books::default();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        // The result of the first item is dropped when the second one has the transaction rolled back.
        booked(&pool, &books).chunk(2).go_on().run(0..1000_u64, |conn, item| {
            books.write(conn, *item);
            if *item == 1 { Err(Bad(1)) } else { Ok((*item == 0).then_some(Bomb)) }
        })
    }));
    assert!(panicked.is_err());
    assert!(books.committed().is_empty(), "it was rolled back, and nothing more was begun");
    assert_healthy(&pool);
}

#[test]
fn what_is_prepared_is_prepared_once_without_a_connection_and_its_errors_cost_no_transaction() {
    let (_lab, pool) = pool(2);
    let books = Books::default();
    let prepared = Mutex::new(Vec::new());
    let mut bad = Vec::new();
    let report = booked(&pool, &books).workers(1).chunk(5).go_on().run_prepared(
        0..20_u64,
        |item| {
            assert_eq!(pool.stats().in_use, 0, "no connection is held");
            prepared.lock().expect("no panic").push(*item);
            match item {
                3 => Err(Bad(3)),
                7 => resume_unwind(Box::new("seven")),
                item => Ok(item * 2),
            }
        },
        |conn, item, twice| {
            assert_eq!(*twice, item * 2);
            books.write(conn, *item);
            if *item == 12 { Err(Bad(12)) } else { Ok(()) }
        },
        |outcome| bad.extend(outcome.result.err().map(|error| (outcome.item, error.to_string()))),
    );
    assert_eq!(counts(&report), [20, 17, 3, 0]);
    assert_eq!(prepared.into_inner().expect("no panic"), (0..20).collect::<Vec<_>>());
    assert_eq!(bad, [(3, "3 is bad".to_owned()), (7, "panicked: seven".to_owned()), (12, "12 is bad".to_owned())]);
    assert_eq!(books.rollbacks.load(SeqCst), 1, "that of 12");
    assert_healthy(&pool);
}

#[test]
fn a_million_failures_are_counted_and_a_few_of_them_kept() {
    let (_lab, pool) = pool(2);
    let report =
        Batch::new(&pool).chunk(1000).go_on().keep_failures(3).run(0..100_000_u64, |_, n| Err::<(), _>(Bad(*n)));
    assert_eq!((report.counts.failed, report.failures.len()), (100_000, 3));
}

#[test]
fn progress_is_told_on_the_calling_thread_while_it_waits_and_at_the_end() {
    let (_lab, pool) = pool(1);
    let times = AtomicU32::new(0);
    let mut told = Vec::new();
    let here = thread::current().id();
    let report = Batch::new(&pool)
        .progress(Duration::from_millis(1), |counts| {
            assert_eq!(thread::current().id(), here);
            told.push(*counts);
            times.fetch_add(1, SeqCst);
        })
        .run(0..3_u64, |_, _| {
            // Nothing ends before: it is told while it waits.
            eventually("it is told three times", || times.load(SeqCst) >= 3);
            Ok::<_, Bad>(())
        });
    assert!(told[..3].iter().all(|counts| counts.done == 0 && counts.in_flight() == counts.read));
    let last = told.last().expect("some");
    assert_eq!((last.read, last.done, last.elapsed), (3, 3, report.counts.elapsed));
    assert!(report.is_complete() && last.rate() > 0.0 && told.is_sorted_by_key(|counts| counts.elapsed), "{report}");
}

#[test]
fn settings_that_cannot_be_are_told_together_and_nothing_is_read() {
    let (_lab, pool) = pool(1);
    let items = std::iter::from_fn(|| -> Option<u64> { panic!("read") });
    let work = |_: &mut Conn, _: &u64| Ok::<_, Bad>(());
    let report = Batch::new(&pool)
        .workers(0)
        .chunk(9)
        .read_ahead(8)
        .stop_after(0)
        .on_commit(|_, _| Ok::<_, Bad>(()))
        .run(items, work);
    let End::Pool(error) = report.end else { panic!("it has none") };
    assert_eq!(error.kind(), ErrorKind::Config);
    for problem in ["workers is 0", "read_ahead is 8, less than a chunk of 9", "stop_after is 0", "no transactions"] {
        assert!(error.to_string().contains(problem), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn under_random_failures_nothing_is_lost_and_nothing_done_twice(
        chunk in 1..12_usize,
        workers in 1..4_usize,
        // For each item: 0 and 1 fail, the first time or always; 2 and 3 panic likewise; 4 fails if it is done again; the
        // others are good.
        fates in proptest::collection::vec(0..12_u8, 0..80),
        stop_after in proptest::option::of(1..6_u64),
        // The judge raises the flag when it hears of so many errors.
        stop_at in proptest::option::of(1..6_usize),
    ) {
        let (_lab, pool) = pool(2);
        let (books, stop, judged) = (Books::default(), AtomicBool::new(false), Mutex::new(Vec::new()));
        let seen: Vec<_> = fates.iter().map(|_| AtomicU32::new(0)).collect();
        let settled = Mutex::new(Vec::new());
        let judge = |error: &BatchError<Bad>| {
            let mut judged = judged.lock().expect("no panic");
            judged.push(error.to_string());
            stop.fetch_or(stop_at == Some(judged.len()), SeqCst);
            true
        };
        let batch = booked(&pool, &books).workers(workers).chunk(chunk).keep_failures(usize::MAX);
        let mut batch = batch.stop_flag(&stop).go_on_if(judge);
        if let Some(errors) = stop_after {
            batch = batch.stop_after(errors);
        }
        let report = batch
            .on_commit(|_, span| {
                settled.lock().expect("no panic").push(span.clone());
                Ok::<_, Bad>(())
            })
            .run(0..fates.len() as u64, |conn, item| {
                books.write(conn, *item);
                let before = seen[*item as usize].fetch_add(1, SeqCst);
                let first = before == 0;
                match fates[*item as usize] {
                    0 if first => Err(Bad(*item)),
                    1 => Err(Bad(*item)),
                    2 if first => resume_unwind(Box::new("once")),
                    3 => resume_unwind(Box::new("always")),
                    4 if before == 1 => Err(Bad(*item)),
                    _ => Ok(()),
                }
            });
        let [read, done, bad, left] = counts(&report);
        let committed = books.committed();
        let failures: Vec<_> = report.failures.iter().map(|failure| failure.index).collect();
        prop_assert_eq!(committed.len() as u64, done);
        prop_assert_eq!(committed.iter().collect::<BTreeSet<_>>().len(), committed.len(), "nothing twice");
        prop_assert!(committed.iter().all(|item| !failures.contains(item)));
        let fickle = fates.iter().filter(|fate| **fate == 4).count() as u32;
        prop_assert!(books.most_runs() <= 2 + fickle, "{} runs", books.most_runs());
        let (mut reported, mut judged): (Vec<_>, _) =
            (failed(&report).into_iter().map(|(_, text)| text).collect(), judged.into_inner().expect("no panic"));
        reported.sort();
        judged.sort();
        // So many end a batch, also one that is being stopped.
        let too_many = stop_after.is_some_and(|errors| judged.len() as u64 >= errors);
        if too_many {
            prop_assert!(reported.iter().all(|text| judged.contains(text)));
        } else {
            prop_assert_eq!(reported, judged, "each error that the judge has heard of is told");
        }
        if stop.into_inner() {
            prop_assert!(left == 0 || matches!(report.end, End::Stopped | End::Failed));
        } else if stop_after.is_none() {
            prop_assert_eq!((read, left), (fates.len() as u64, 0));
            // Of those that are fickle, only such as had to be done again.
            let must = (0..fates.len() as u64).filter(|item| fates[*item as usize] < 4);
            prop_assert!(must.clone().all(|item| failures.contains(&item)));
            let others = failures.iter().filter(|item| fates[**item as usize] >= 4);
            prop_assert!(others.clone().all(|item| fates[*item as usize] == 4 && seen[*item as usize].load(SeqCst) == 2));
            prop_assert_eq!(must.count() + others.count(), failures.len());
        }
        if let Some(errors) = stop_after {
            prop_assert!(bad <= errors + 2, "those in work may add some: {bad}");
        }
        // The spans, without what they leave out, are what is committed, and no two of them meet.
        let mut spans = settled.into_inner().expect("no panic");
        spans.sort_by_key(|span| span.items.start);
        prop_assert!(spans.is_sorted_by(|a, b| a.items.end <= b.items.start));
        let told: Vec<_> =
            spans.iter().flat_map(|span| span.items.clone().filter(|item| !span.failed.contains(item))).collect();
        prop_assert_eq!(told, committed);
        let left_out: BTreeSet<_> = spans.iter().flat_map(|span| span.failed.clone()).collect();
        let unnoted = failures.iter().filter(|item| !left_out.contains(item)).count();
        let most = if too_many { workers } else { 0 };
        prop_assert!(unnoted <= most, "no commit tells of {unnoted}, and each worker may have ended the batch with one");
        prop_assert_eq!(left_out.len() + unnoted, failures.len(), "all that a commit tells of are in the report");
        assert_healthy(&pool);
    }
}

#[test]
fn over_sqlite_rows_progress_and_what_was_left_out_are_committed_together() {
    let folder = Folder::new();
    let pool = SqlitePool::open(folder.file("batch.db")).expect("it opens");
    let schema =
        "CREATE TABLE n (n INTEGER PRIMARY KEY CHECK (n % 100 <> 50)); CREATE TABLE span (first, next, failed)";
    pool.write(|conn| conn.execute_batch(schema)).expect("a schema");
    let mut bad = Vec::new();
    let report = Batch::sqlite(&pool)
        .workers(4)
        .chunk(64)
        .go_on()
        .on_commit(|conn, span| {
            let row = (span.items.start as i64, span.items.end as i64, span.failed.len() as i64);
            conn.execute("INSERT INTO span VALUES (?1, ?2, ?3)", row).map(drop)
        })
        .run_prepared(
            (0..2000).map(|n| if n == 777 { "what".to_owned() } else { n.to_string() }),
            |text| text.parse::<i64>().map_err(abort),
            |conn, _, n| {
                if *n == 888 {
                    resume_unwind(Box::new("888"));
                }
                conn.execute("INSERT INTO n VALUES (?1)", [n])
            },
            |outcome| {
                if let Err(error) = outcome.result {
                    bad.push((outcome.index, outcome.item, error.to_string()));
                }
            },
        );
    assert_eq!(counts(&report), [2000, 1978, 22, 0]);
    bad.sort();
    assert_eq!(bad[0], (50, "50".to_owned(), "CHECK constraint failed: n % 100 <> 50".to_owned()));
    assert!(bad.iter().any(|(index, item, text)| (*index, &**item, &**text) == (888, "888", "panicked: 888")));
    let sums = "SELECT count(*), sum(next - first), sum(failed), (SELECT count(*) FROM n) FROM span";
    let found = pool.read(|conn| {
        conn.query_row(sums, [], |row| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
    });
    let [spans, settled, left_out, rows] = found.expect("numbers");
    assert_eq!((settled, left_out, rows), (2000, 22, 1978));
    assert!((32..=32 + 2 * 22).contains(&spans), "{spans}");
    assert_healthy(pool.readers());
    assert_healthy(pool.writers());
}

#[test]
fn a_sqlite_pool_that_is_closed_is_an_error_of_the_pool() {
    let pool = SqlitePool::new(SqliteManager::memory()).expect("it opens");
    pool.close();
    let report = Batch::sqlite(&pool).run(0..10, |conn, n| conn.execute("SELECT ?1", [n]));
    assert!(matches!(&report.end, End::Pool(error) if error.kind() == ErrorKind::Closed), "{report}");
    assert!(matches!(report.failures[0].error, BatchError::Connection(_)));
}
