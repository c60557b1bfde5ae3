//! One writer and many readers over one SQLite file.

mod support;

use millpond::sqlite::{Error, ErrorKind, SqliteManager, SqlitePool, abort};
use millpond::{CloseReason, Fairness, PooledConnection};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Folder, LONG, eventually};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, n INTEGER)";
const ENDLESS: &str = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i) SELECT max(n) FROM i";
const SHORT: Duration = Duration::from_millis(30);

fn manager(path: &Path) -> SqliteManager {
    SqliteManager::file(path).on_first_connect(|conn| conn.execute_batch(SCHEMA))
}

fn pool(folder: &Folder) -> SqlitePool {
    SqlitePool::builder(manager(&folder.file("app.db"))).readers(4).build().expect("it opens")
}

fn number(conn: &Connection, sql: &str) -> rusqlite::Result<i64> {
    conn.query_row(sql, [], |row| row.get(0))
}

fn count(conn: &Connection) -> rusqlite::Result<i64> {
    number(conn, "SELECT count(*) FROM item")
}

fn insert(conn: &Connection) -> rusqlite::Result<usize> {
    conn.execute("INSERT INTO item (n) VALUES (1)", [])
}

/// Whether every connection is at home.
fn at_rest(pool: &SqlitePool) -> bool {
    let stats = pool.stats();
    stats.writer.in_use == 0 && stats.readers.in_use == 0
}

// ---- together ----

#[test]
fn many_threads_write_and_read_and_nobody_meets_a_lock() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..25 {
                    // Reads before it writes: on connections of their own most of these would fail.
                    pool.write_transaction(|conn| {
                        let seen = count(conn)?;
                        conn.execute("INSERT INTO item (n) VALUES (?1)", [seen])
                    })
                    .expect("its turn comes");
                    written.fetch_add(1, SeqCst);
                }
            });
            scope.spawn(|| {
                for _ in 0..25 {
                    let before = written.load(SeqCst);
                    let (first, second) = pool
                        .transaction(|conn| {
                            Ok((count(conn)?, number(conn, "SELECT coalesce(max(n), -1) + 1 FROM item")?))
                        })
                        .expect("readers wait for nobody");
                    assert_eq!(first, second, "both statements see the same state");
                    assert!(u64::try_from(first).expect("a count") >= before, "what was committed is there");
                }
            });
        }
    });
    assert_eq!(pool.read(count).expect("it is idle"), 400);
    assert_eq!(pool.read(|conn| number(conn, "SELECT count(DISTINCT n) FROM item")).expect("it is idle"), 400);
    assert!(at_rest(&pool));
    assert_eq!(pool.stats().writer.opened, 1);
}

#[test]
fn writers_are_served_in_the_order_of_their_coming() {
    let folder = Folder::new();
    let pool = SqlitePool::builder(manager(&folder.file("app.db")))
        .configure_writer(|writer| writer.fairness(Fairness::Strict))
        .build()
        .expect("it opens");
    let order = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let first = pool.writer().expect("it is idle");
        for turn in 0..8 {
            let (pool, order) = (&pool, &order);
            scope.spawn(move || {
                pool.write(|conn| {
                    order.lock().expect("no panic").push(turn);
                    insert(conn)
                })
                .expect("its turn comes")
            });
            eventually("it waits", || pool.stats().writer.waiting == turn + 1);
        }
        drop(first);
    });
    assert_eq!(*order.lock().expect("no panic"), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn readers_do_not_wait_for_a_writer_nor_the_writer_for_them() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let snapshot = pool.reader().expect("it is idle");
    snapshot.execute_batch("BEGIN").expect("a good statement");
    assert_eq!(count(&snapshot).expect("a good query"), 0);
    pool.write_transaction(|conn| {
        insert(conn)?;
        thread::scope(|scope| {
            // On another thread, because this one reads what it has written.
            let reader = scope.spawn(|| pool.read(count).expect("it waits for nobody"));
            assert_eq!(reader.join().expect("no panic"), 0);
        });
        Ok(())
    })
    .expect("it waits for nobody");
    assert_eq!(count(&snapshot).expect("a good query"), 0, "it sees the state that it began with");
    drop(snapshot);
    assert_eq!(pool.read(count).expect("it is idle"), 1);
}

#[test]
fn a_reader_cannot_write_wherever_the_database_is() {
    let folder = Folder::new();
    let memory = SqliteManager::memory().on_first_connect(|conn| conn.execute_batch(SCHEMA));
    for pool in [pool(&folder), SqlitePool::new(memory).expect("it opens")] {
        let error = pool.read(insert).expect_err("readers only read");
        assert_eq!(error.kind(), ErrorKind::Statement);
        assert!(error.to_string().contains("readonly"), "{error}");
        assert_eq!(pool.read(count).expect("it is idle"), 0);
    }
}

#[test]
fn a_database_in_memory_is_one_for_the_writer_and_all_readers() {
    let memory = SqliteManager::memory().on_first_connect(|conn| conn.execute_batch(SCHEMA));
    let pool = SqlitePool::builder(memory).readers(4).build().expect("it opens");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    pool.write_transaction(insert).expect("its turn comes");
                    assert!(pool.read(count).expect("it waits") > 0);
                }
            });
        }
    });
    assert_eq!(pool.read(count).expect("it is idle"), 200);
}

// ---- transactions ----

#[test]
fn a_closure_that_fails_is_undone_and_its_own_error_comes_out() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let error = pool
        .write_transaction(|conn| {
            insert(conn)?;
            Err::<(), _>(abort(std::io::Error::other("out of stock")))
        })
        .expect_err("it gave up");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Aborted, "out of stock"));
    assert!(error.downcast_ref::<std::io::Error>().is_some());
    let error = pool.write_transaction(|conn| {
        insert(conn)?;
        conn.execute("INSERT INTO nowhere VALUES (1)", [])
    });
    assert_eq!(error.expect_err("no such table").kind(), ErrorKind::Statement);
    assert_eq!(pool.read(count).expect("it is idle"), 0);
    assert_eq!(pool.stats().writer.opened, 1, "and the connection is good");
}

#[test]
fn a_closure_that_panics_is_undone_and_its_connection_not_lent_again() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        pool.write_transaction(|conn| {
            insert(conn)?;
            resume_unwind(Box::new("in the middle")) as rusqlite::Result<()>
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(pool.write_transaction(count).expect("a new writer"), 0);
    assert_eq!(pool.stats().writer.closed.by(CloseReason::Panicked), 1);
    assert!(at_rest(&pool));
}

#[test]
fn a_closure_that_ends_the_transaction_itself_is_told_so() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let error = pool.write_transaction(|conn| conn.execute_batch("COMMIT")).expect_err("there is nothing to commit");
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    assert_eq!(pool.write_transaction(insert).expect("the connection is good"), 1);
}

#[test]
fn work_within_work_shares_the_connection_and_can_fail_alone() {
    let folder = Folder::new();
    let pool = pool(&folder);
    pool.write_transaction(|conn| {
        insert(conn)?;
        // All of these go by the pool, as code does that was passed nothing.
        assert_eq!(pool.read(count)?, 1, "it sees what was written");
        assert_eq!(pool.transaction(count)?, 1);
        pool.write(insert)?;
        let alone = pool.write_transaction(|conn| {
            insert(conn)?;
            pool.write_transaction(insert)?;
            Err::<(), _>(abort("no"))
        });
        assert_eq!(alone.expect_err("it gave up").kind(), ErrorKind::Aborted);
        assert_eq!(count(conn)?, 2);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            pool.write_transaction(|conn| {
                insert(conn)?;
                resume_unwind(Box::new("in the middle")) as rusqlite::Result<()>
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(count(conn)?, 2);
        Ok(())
    })
    .expect("the outer one succeeds");
    assert_eq!(pool.read(count).expect("it is idle"), 2);
    let stats = pool.stats();
    assert_eq!((stats.writer.checkouts, stats.readers.checkouts), (1, 1));
}

#[test]
fn reading_within_reading_needs_no_second_reader_and_writing_within_reading_takes_the_writer() {
    let folder = Folder::new();
    let pool = SqlitePool::builder(manager(&folder.file("app.db"))).readers(1).build().expect("it opens");
    pool.transaction(|conn| {
        assert_eq!(count(conn)?, 0);
        pool.write(insert)?;
        assert_eq!(pool.read(count)?, 0, "the same reader, in the same state");
        assert_eq!(pool.transaction(count)?, 0);
        Ok(())
    })
    .expect("one reader is enough");
    assert_eq!(pool.read(count).expect("it is idle"), 1);
}

#[test]
fn two_pools_on_one_thread_do_not_take_each_others_connections() {
    let (here, there) = (Folder::new(), Folder::new());
    let (here, there) = (pool(&here), pool(&there));
    here.write_transaction(|conn| {
        insert(conn)?;
        there.write_transaction(|conn| {
            insert(conn)?;
            insert(conn)
        })?;
        assert_eq!(there.read(count)?, 2);
        assert_eq!(here.read(count)?, 1);
        Ok(())
    })
    .expect("both succeed");
}

#[test]
fn who_holds_the_writer_by_a_guard_is_told_at_once_that_waiting_would_not_end() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let guard = pool.writer().expect("it is idle");
    let error = pool.write(insert).expect_err("this thread has it");
    assert_eq!(error.pool_error().map(millpond::Error::kind), Some(millpond::ErrorKind::Deadlock));
    assert!(!error.is_timeout());
    drop(guard);
    assert_eq!(pool.write(insert).expect("it is idle"), 1);
}

// ---- other processes ----

#[test]
fn a_writer_of_another_process_is_waited_for() {
    let folder = Folder::new();
    let pool = pool(&folder);
    // Another connection is as good as another process: SQLite knows no difference.
    let other = Connection::open(folder.file("app.db")).expect("it is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody is in the way");
    thread::scope(|scope| {
        let writing = scope.spawn(|| pool.write_transaction(insert));
        eventually("it has the writer", || pool.stats().writer.in_use == 1);
        other.execute_batch("COMMIT").expect("it is open");
        assert_eq!(writing.join().expect("no panic").expect("the lock came free"), 1);
    });
}

#[test]
fn a_lock_that_stays_is_an_error_after_the_busy_timeout_and_says_what_it_is() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let pool = SqlitePool::new(manager(&path).busy_timeout(SHORT)).expect("it opens");
    let other = Connection::open(&path).expect("it is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody is in the way");
    let called = AtomicBool::new(false);
    let error = pool
        .write_transaction(|conn| {
            called.store(true, SeqCst);
            insert(conn)
        })
        .expect_err("the lock stays");
    assert!(error.is_busy() && !called.load(SeqCst), "{error}");
    assert_eq!(pool.read(count).expect("readers do not mind"), 0);
    other.execute_batch("COMMIT").expect("it is open");
    assert_eq!(pool.write_transaction(insert).expect("the lock is free"), 1);
}

#[test]
fn a_commit_that_readers_of_another_process_hold_up_is_tried_again() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let journal = manager(&path).journal_mode(millpond::sqlite::JournalMode::Delete);
    let pool = SqlitePool::new(journal).expect("it opens");
    let other = Connection::open(&path).expect("it is there");
    other.execute_batch("BEGIN").expect("a good statement");
    assert_eq!(count(&other).expect("a good query"), 0);
    thread::scope(|scope| {
        let writing = scope.spawn(|| pool.write_transaction(insert));
        eventually("it has the writer", || pool.stats().writer.in_use == 1);
        other.execute_batch("COMMIT").expect("it is open");
        assert_eq!(writing.join().expect("no panic").expect("the reader is gone"), 1);
    });
}

// ---- deadlines ----

type Way<'a> = Box<dyn Fn() -> Result<i64, Error> + 'a>;

fn endless(conn: &Connection) -> rusqlite::Result<i64> {
    number(conn, ENDLESS)
}

#[test]
fn what_takes_too_long_is_interrupted_and_the_connection_stays_good() {
    let folder = Folder::new();
    let pool = SqlitePool::builder(manager(&folder.file("app.db"))).readers(1).build().expect("it opens");
    let ways: [(&str, Way<'_>); 4] = [
        ("read", Box::new(|| pool.read_timeout(SHORT, endless))),
        ("transaction", Box::new(|| pool.transaction_timeout(SHORT, endless))),
        ("write", Box::new(|| pool.write_timeout(SHORT, endless))),
        (
            "write_transaction",
            Box::new(|| pool.write_transaction_timeout(SHORT, |conn| insert(conn).and_then(|_| endless(conn)))),
        ),
    ];
    for (name, way) in &ways {
        let error = way().expect_err("it never ends by itself");
        assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Deadline, true), "{name}: {error}");
        assert!(error.to_string().starts_with("interrupted after 30"), "{error}");
        assert_eq!(pool.read(count).expect("it is idle"), 0, "{name} has left nothing");
    }
    let stats = pool.stats();
    assert_eq!((stats.writer.opened, stats.readers.opened), (1, 1), "nothing was closed for it");
}

#[test]
fn work_that_ends_in_time_is_not_touched() {
    let folder = Folder::new();
    let pool = pool(&folder);
    for _ in 0..100 {
        assert_eq!(pool.write_transaction_timeout(LONG, insert).expect("it ends in time"), 1);
    }
    assert_eq!(pool.read_timeout(LONG, count).expect("it ends in time"), 100);
    // Afterwards locks are waited for as before.
    assert_eq!(pool.write(|conn| number(conn, "PRAGMA busy_timeout")).expect("it is idle"), 5000);
}

#[test]
fn many_statements_are_interrupted_as_one_is() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let error = pool
        .write_timeout(SHORT, |conn| {
            // Each is short; an interrupt between two of them would be missed.
            loop {
                insert(conn)?;
            }
            #[allow(unreachable_code, reason = "it tells the type")]
            Ok(())
        })
        .expect_err("it never ends by itself");
    assert_eq!(error.kind(), ErrorKind::Deadline);
}

#[test]
fn the_time_for_the_work_covers_waiting_for_a_connection_and_for_a_lock() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let pool = pool(&folder);
    let guard = pool.writer().expect("it is idle");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.write_timeout(SHORT, insert));
        let error = waiting.join().expect("no panic").expect_err("another thread has the writer");
        assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Pool, true));
    });
    drop(guard);

    let other = Connection::open(&path).expect("it is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody is in the way");
    let error = pool.write_transaction_timeout(SHORT, insert).expect_err("the lock stays");
    assert_eq!((error.kind(), error.is_timeout(), error.is_busy()), (ErrorKind::Deadline, true, true), "{error}");
    other.execute_batch("COMMIT").expect("it is open");
    assert_eq!(pool.write_transaction(insert).expect("and later all is as before"), 1);
}

#[test]
fn a_deadline_within_a_transaction_undoes_what_it_must_and_says_so_to_the_outer_one() {
    let folder = Folder::new();
    let pool = pool(&folder);
    // Reading that is interrupted costs its own work alone.
    pool.write_transaction(|conn| {
        insert(conn)?;
        let error = pool.read_timeout(SHORT, endless).expect_err("it never ends by itself");
        assert_eq!(error.kind(), ErrorKind::Deadline);
        Ok(())
    })
    .expect("the outer one goes on");
    assert_eq!(pool.read(count).expect("it is idle"), 1);
    // A statement that was writing takes the whole transaction with it.
    let error = pool
        .write_transaction(|conn| {
            insert(conn)?;
            let writing = format!("INSERT INTO item (n) {ENDLESS}");
            let inner = pool.write_timeout(SHORT, |conn| conn.execute(&writing, []));
            assert_eq!(inner.expect_err("it never ends by itself").kind(), ErrorKind::Deadline);
            Ok(())
        })
        .expect_err("SQLite has rolled back");
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    assert_eq!(pool.read(count).expect("it is idle"), 1);
}

// ---- the pool itself ----

#[test]
fn a_database_that_cannot_be_opened_is_told_of_when_the_pool_is_built() {
    let folder = Folder::new();
    let error = SqlitePool::open(folder.path()).expect_err("it is a folder");
    assert_eq!(error.kind(), ErrorKind::Open);
    assert!(error.to_string().ends_with("it is a folder"), "{error}");
    let failing = SqliteManager::file(folder.file("app.db")).on_first_connect(|_| Err(abort("too new")));
    let error = SqlitePool::new(failing).expect_err("it cannot be migrated");
    assert!(error.to_string().ends_with("on_first_connect failed: too new"), "{error}");
    let error = SqlitePool::builder(manager(&folder.file("b.db"))).readers(0).build().expect_err("none is too few");
    assert_eq!(error.pool_error().map(millpond::Error::kind), Some(millpond::ErrorKind::Config));
}

#[test]
fn both_halves_carry_the_name_of_the_file_or_the_one_that_they_are_given() {
    let folder = Folder::new();
    let names = |pool: &SqlitePool| [pool.readers().name().to_owned(), pool.writers().name().to_owned()];
    assert_eq!(names(&pool(&folder)), ["app.db-readers", "app.db-writer"]);
    let named = SqlitePool::builder(manager(&folder.file("app.db"))).name("orders").build().expect("it opens");
    assert_eq!(names(&named), ["orders-readers", "orders-writer"]);
}

#[test]
fn after_closing_nothing_is_left_but_the_file() {
    let folder = Folder::new();
    let pool = pool(&folder);
    pool.write(insert).expect("it is idle");
    pool.read_timeout(LONG, count).expect("it is idle");
    pool.close_and_wait(LONG).expect("nobody holds any");
    assert_eq!(folder.files(), ["app.db"]);
    let error = pool.read(count).expect_err("it is closed");
    assert_eq!(error.pool_error().map(millpond::Error::kind), Some(millpond::ErrorKind::Closed));
    assert_eq!(open_files(folder.path()), 0);
}

#[test]
fn closing_says_who_still_holds_what_and_goes_on_when_it_is_back() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let held = pool.reader().expect("it is idle");
    let error = pool.close_and_wait(SHORT).expect_err("a reader is out");
    assert_eq!(error.holders().len(), 1);
    assert!(pool.write(insert).is_err());
    drop(held);
    pool.close_and_wait(LONG).expect("all are back");
    assert_eq!(open_files(folder.path()), 0);
}

/// How many files in a folder this process has open, where the system tells.
fn open_files(folder: &Path) -> usize {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return 0 };
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

#[test]
fn guards_give_what_closures_cannot() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Folder::new();
    let pool = pool(&folder);
    let mut writer = pool.writer()?;
    let change = writer.transaction()?;
    insert(&change)?;
    change.commit()?;
    PooledConnection::set_label(&mut writer, "import");
    assert_eq!(pool.writers().holders()[0].label(), Some("import"));
    drop(writer);
    assert_eq!(count(&*pool.reader()?)?, 1);
    Ok(())
}

// ---- what goes wrong in between ----

#[test]
fn nested_work_that_fails_while_a_statement_is_running_is_undone() {
    let folder = Folder::new();
    let pool = pool(&folder);
    pool.write(|conn| conn.execute_batch("INSERT INTO item (n) VALUES (1), (2), (3)")).expect("it is idle");
    pool.write_transaction(|conn| {
        let mut statement = conn.prepare("SELECT n FROM item")?;
        let mut rows = statement.query([])?;
        assert!(rows.next()?.is_some());
        let inner = pool.write_transaction_timeout(SHORT, |conn| insert(conn).and_then(|_| endless(conn)));
        assert_eq!(inner.expect_err("it never ends by itself").kind(), ErrorKind::Deadline);
        // And the outer statement, which has no deadline, goes on.
        assert!(rows.next()?.is_some());
        Ok(())
    })
    .expect("the outer one succeeds");
    assert_eq!(pool.read(count).expect("it is idle"), 3);
}

#[test]
fn after_sqlite_has_rolled_back_by_itself_the_rest_of_the_closure_changes_nothing() {
    let folder = Folder::new();
    let pool = pool(&folder);
    pool.write(|conn| conn.execute_batch("CREATE TABLE once (n INTEGER PRIMARY KEY); INSERT INTO once VALUES (1)"))
        .expect("it is idle");
    let error = pool
        .write_transaction(|conn| {
            insert(conn)?;
            conn.execute("INSERT OR ROLLBACK INTO once VALUES (1)", []).expect_err("it is there");
            // All of this would be committed, each for itself.
            insert(conn).expect_err("the transaction is gone");
            assert_eq!(pool.write(insert).expect_err("here too").kind(), ErrorKind::RolledBack);
            assert_eq!(pool.write_transaction(insert).expect_err("here too").kind(), ErrorKind::RolledBack);
            Ok(())
        })
        .expect_err("nothing is left of it");
    assert_eq!(error.kind(), ErrorKind::RolledBack);
    assert_eq!(pool.read(count).expect("it is idle"), 0);
    assert_eq!(pool.write_transaction(insert).expect("and later all is as before"), 1);
}

#[test]
fn a_transaction_that_a_closure_begins_and_forgets_is_an_error_and_reaches_nobody() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let forgetful = |conn: &Connection| conn.execute_batch("BEGIN; INSERT INTO item (n) VALUES (1)");
    let error = pool.write(forgetful).expect_err("it would be lost");
    assert_eq!((error.kind(), error.to_string().contains("left a transaction open")), (ErrorKind::RolledBack, true));
    // Nested: what follows outside is committed.
    pool.write(|conn| {
        pool.write(forgetful).expect_err("it would be lost");
        insert(conn)
    })
    .expect("it is no part of that");
    assert_eq!(pool.read(count).expect("it is idle"), 1);
}

#[test]
fn an_error_of_nested_work_comes_out_as_what_it_was() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let error = pool.write_transaction_timeout(SHORT, |_| Ok(pool.read(endless)?)).expect_err("it never ends");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Deadline, true));
    let error = pool.write(|_| Ok(pool.read_timeout(SHORT, endless)?)).expect_err("it never ends");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    let error = pool.write_transaction(|_| {
        pool.write_transaction(|conn| conn.execute("INSERT INTO nowhere VALUES (1)", []).map_err(abort))?;
        Ok(())
    });
    let error = error.expect_err("no such table");
    assert!(error.downcast_ref::<rusqlite::Error>().is_some(), "{error:?}");
}

#[test]
fn everything_within_keeps_the_deadline_also_on_another_connection_and_at_a_lock() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    // Whoever forgot the deadline would wait for an hour.
    let hour = Duration::from_secs(3600);
    let pool =
        SqlitePool::builder(manager(&path).busy_timeout(hour)).connection_timeout(hour).build().expect("it opens");
    let error = pool.read_timeout(SHORT, |_| Ok(pool.write(endless)?)).expect_err("it never ends by itself");
    assert_eq!(error.kind(), ErrorKind::Deadline);

    let other = Connection::open(&path).expect("it is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody is in the way");
    let ways: [&dyn Fn() -> Result<usize, Error>; 3] = [
        &|| pool.write_timeout(SHORT, |_| Ok(pool.write_transaction(insert)?)),
        &|| {
            pool.write_timeout(SHORT, |conn| {
                drop(pool.write_transaction_timeout(SHORT / 10, insert));
                insert(conn)
            })
        },
        &|| pool.write(|_| Ok(pool.write_timeout(SHORT, insert)?)),
    ];
    for way in ways {
        let error = way().expect_err("the lock stays");
        assert!(error.is_timeout(), "{error:?}");
    }
    other.execute_batch("COMMIT").expect("it is open");
    assert_eq!(pool.write_transaction(insert).expect("the lock is free"), 1);
    assert_eq!(pool.write(|conn| number(conn, "PRAGMA busy_timeout")).expect("it is idle"), 3_600_000);
}

#[test]
fn work_that_is_late_is_not_committed() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let error = pool
        .write_transaction_timeout(SHORT, |conn| {
            let inserted = insert(conn)?;
            thread::sleep(SHORT);
            Ok(inserted)
        })
        .expect_err("the time is over");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(pool.read(count).expect("it is idle"), 0);
}

#[test]
fn without_a_log_writing_within_reading_is_refused_at_once() {
    let folder = Folder::new();
    let journal = manager(&folder.file("app.db")).journal_mode(millpond::sqlite::JournalMode::Delete);
    let memory = SqliteManager::memory().on_first_connect(|conn| conn.execute_batch(SCHEMA));
    for pool in [SqlitePool::new(journal).expect("it opens"), SqlitePool::new(memory).expect("it opens")] {
        let error = pool.transaction(|conn| {
            count(conn)?;
            Ok(pool.write(insert)?)
        });
        let error = error.expect_err("it would wait for itself");
        assert_eq!(error.pool_error().map(millpond::Error::kind), Some(millpond::ErrorKind::Deadlock));
        // Reading that has ended is in nobody's way.
        pool.read(|conn| {
            count(conn)?;
            Ok(pool.write(insert)?)
        })
        .expect("it has ended");
    }
}

#[test]
fn a_statement_of_ones_own_that_is_still_running_is_not_waited_for() {
    let folder = Folder::new();
    let hour = Duration::from_secs(3600);
    let pool = SqlitePool::new(manager(&folder.file("app.db")).busy_timeout(hour)).expect("it opens");
    let error = pool.write(|conn| {
        let mut statement = conn.prepare("INSERT INTO item (n) VALUES (1), (2) RETURNING id")?;
        let mut rows = statement.query([])?;
        rows.next()?;
        Ok(pool.write_transaction(insert)?)
    });
    // Whoever takes it for somebody else's lock waits for an hour.
    assert!(error.is_err());
}

#[test]
fn a_reader_in_memory_cannot_help_itself_to_writing() {
    let memory = SqliteManager::memory().on_first_connect(|conn| conn.execute_batch(SCHEMA));
    let pool = SqlitePool::new(memory).expect("it opens");
    let helps_itself = |conn: &Connection| conn.execute_batch("PRAGMA query_only = 0; INSERT INTO item (n) VALUES (1)");
    assert!(pool.read(helps_itself).is_err());
    assert_eq!(pool.read(count).expect("it is idle"), 0);
}

#[test]
fn a_transaction_on_the_writer_has_the_lock_from_the_beginning() {
    let folder = Folder::new();
    let pool = pool(&folder);
    let other = Connection::open(folder.file("app.db")).expect("it is there");
    other.busy_timeout(Duration::ZERO).expect("a number");
    pool.write(|_| {
        pool.transaction(|conn| {
            count(conn)?;
            insert(&other).expect_err("the lock is the pool's");
            Ok(pool.write_transaction(insert)?)
        })
        .map_err(Into::into)
    })
    .expect("nobody came between");
    assert_eq!(pool.read(count).expect("it is idle"), 1);
}

#[test]
fn a_thread_that_ends_may_use_the_pool_to_its_end() {
    struct Last(SqlitePool);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.write_transaction(insert).expect("the writer is idle");
        }
    }
    thread_local! { static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) } }
    let folder = Folder::new();
    let pool = pool(&folder);
    for read_before in [false, true] {
        let pool = pool.clone();
        let thread = thread::spawn(move || {
            if read_before {
                pool.read(count).expect("it is idle");
            }
            LAST.set(Some(Last(pool.clone())));
            pool.read(count).expect("it is idle");
        });
        thread.join().expect("it ends well");
    }
    assert_eq!(pool.read(count).expect("it is idle"), 2);
}

#[test]
fn however_a_pool_goes_its_log_goes_with_it() {
    for round in 0..10 {
        let folder = Folder::new();
        let pool = pool(&folder);
        pool.write(insert).expect("it is idle");
        drop([(); 4].map(|()| pool.reader().expect("there is room")));
        let late = pool.reader().expect("it is idle");
        if round % 2 == 0 {
            pool.close();
        }
        drop(pool);
        drop(late);
        eventually("the log is gone", || folder.files() == ["app.db"]);
    }
}

#[test]
fn everything_that_is_wrong_is_told_before_a_file_is_made() {
    let folder = Folder::new();
    let build = |manager: SqliteManager| {
        SqlitePool::builder(manager)
            .readers(0)
            .connection_timeout(Duration::ZERO)
            .build()
            .expect_err("bad settings")
            .to_string()
    };
    let error = build(SqliteManager::file(folder.file("app.db")).read_only());
    for wrong in ["max_size", "connection_timeout", "read_only()"] {
        assert!(error.contains(wrong), "{error}");
    }
    assert!(folder.files().is_empty());
}

#[test]
fn statistics_are_brought_up_to_date_when_asked() {
    let folder = Folder::new();
    let pool = pool(&folder);
    pool.write(|conn| {
        conn.execute_batch(
            "CREATE INDEX item_n ON item (n);
             WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 2000)
             INSERT INTO item (n) SELECT n % 10 FROM i",
        )
    })
    .expect("it is idle");
    pool.optimize().expect("it opens");
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'";
    assert_eq!(pool.read(|conn| number(conn, tables)).expect("it is idle"), 1);
    // Also of a table that has grown since, and that this connection has asked nothing of.
    let rows = "SELECT CAST(stat AS INTEGER) FROM sqlite_stat1 WHERE idx = 'item_n'";
    let before = pool.read(|conn| number(conn, rows)).expect("it is idle");
    pool.write(|conn| {
        conn.execute_batch(
            "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 100000)
             INSERT INTO item (n) SELECT n % 10 FROM i",
        )
    })
    .expect("it is idle");
    pool.optimize().expect("it opens");
    let after = pool.read(|conn| number(conn, rows)).expect("it is idle");
    assert!(after > before, "{before} and {after}");
}
