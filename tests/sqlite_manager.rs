//! One SQLite database opened, set up, cleaned and closed by its manager, in real files.

mod support;

use millpond::sqlite::{JournalMode, OnReturn, SqliteManager, Synchronous, abort};
use millpond::{CloseReason, Pool, PooledConnection, Validation};
use rusqlite::Connection;
use std::error::Error as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Folder, Gate, assert_healthy, eventually};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, name TEXT)";

fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).expect("a good query")
}

fn text(conn: &Connection, sql: &str) -> String {
    conn.query_row(sql, [], |row| row.get(0)).expect("a good query")
}

/// What building a pool over this fails with.
fn refusal(manager: SqliteManager) -> (millpond::Error, String) {
    let error = Pool::builder(manager).build().expect_err("it cannot be opened");
    assert!(!error.is_timeout(), "nobody waits for what will not change: {error}");
    let own = error.source().expect("the cause is told").to_string();
    (error, own)
}

// ---- opening ----

#[test]
fn every_connection_is_set_up_as_documented() {
    let folder = Folder::new();
    let pool = Pool::builder(SqliteManager::file(folder.file("app.db"))).max_size(3).build().expect("it opens");
    for conn in pool.get_many(3).expect("three") {
        let settings = ["busy_timeout", "synchronous", "foreign_keys", "journal_size_limit"];
        let values = settings.map(|name| number(&conn, &format!("PRAGMA {name}")));
        assert_eq!(values, [5000, 1, 1, 64 << 20]);
        assert_eq!(text(&conn, "PRAGMA journal_mode"), "wal");
    }
}

#[test]
fn every_setting_can_be_changed() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db"))
        .journal_mode(JournalMode::Truncate)
        .synchronous(Synchronous::Full)
        .foreign_keys(false)
        .busy_timeout(Duration::from_millis(250))
        .journal_size_limit(None)
        .statement_cache(64)
        .pragma("page_size", 8192)
        .pragma("cache_size", 1)
        .pragma("CACHE_SIZE", -2000)
        .pragma("temp_store", "memory");
    let pool = Pool::builder(manager).build().expect("it opens");
    let conn = pool.get().expect("it is idle");
    let settings =
        ["busy_timeout", "synchronous", "foreign_keys", "journal_size_limit", "page_size", "cache_size", "temp_store"];
    let values = settings.map(|name| number(&conn, &format!("PRAGMA {name}")));
    assert_eq!(values, [250, 2, 0, -1, 8192, -2000, 2]);
    assert_eq!(text(&conn, "PRAGMA journal_mode"), "truncate");
}

#[test]
fn many_connections_race_for_many_new_files_and_none_meets_a_lock() {
    let folder = Folder::new();
    for file in 0..20 {
        let path = folder.file(&format!("{file}.db"));
        // Two pools, as two processes would be: their first connections do not know of each other.
        let pools = [(); 2].map(|()| {
            let manager = SqliteManager::file(&path).on_first_connect(|conn| conn.execute_batch(SCHEMA));
            Pool::builder(manager).max_size(4).max_connecting(4).build_lazy().expect("good settings")
        });
        thread::scope(|scope| {
            for pool in pools.iter().cycle().take(8) {
                scope.spawn(|| {
                    let conn = pool.get().expect("no lock is in the way");
                    conn.execute("INSERT INTO item (name) VALUES ('x')", []).expect("nor here");
                });
            }
        });
        assert_eq!(number(&pools[0].get().expect("it is idle"), "SELECT count(*) FROM item"), 8);
        assert!(pools.iter().all(|pool| pool.stats().connect_failures == 0));
    }
}

#[test]
fn the_first_connection_is_prepared_once_and_no_other_opens_before() {
    let folder = Folder::new();
    let (calls, gate) = (Arc::new(AtomicU32::new(0)), Gate::new());
    let manager = {
        let (calls, gate) = (Arc::clone(&calls), gate.clone());
        SqliteManager::file(folder.file("app.db")).on_first_connect(move |conn| {
            calls.fetch_add(1, SeqCst);
            gate.pass();
            conn.execute_batch(SCHEMA)
        })
    };
    let opened = Arc::new(AtomicU32::new(0));
    let pool = {
        let opened = Arc::clone(&opened);
        Pool::builder(manager)
            .max_size(4)
            .min_idle(4)
            .on_open(move |_| {
                opened.fetch_add(1, SeqCst);
                Ok(())
            })
            .build_lazy()
            .expect("good settings")
    };
    pool.maintain();
    eventually("four are being opened", || pool.stats().connecting == 4 && gate.waiting() == 1);
    assert_eq!((opened.load(SeqCst), calls.load(SeqCst)), (0, 1));
    gate.open();
    eventually("all are open", || pool.stats().idle == 4);
    pool.refresh();
    eventually("all are new", || pool.stats().closed.by(CloseReason::Refresh) == 4 && pool.stats().idle == 4);
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(number(&pool.get().expect("it is idle"), "SELECT count(*) FROM item"), 0);
}

#[test]
fn the_error_of_a_migration_is_everybodys_and_the_next_one_who_asks_tries_again() {
    let folder = Folder::new();
    let broken = Arc::new(AtomicU32::new(1));
    let manager = {
        let broken = Arc::clone(&broken);
        SqliteManager::file(folder.file("app.db")).on_first_connect(move |conn| {
            conn.execute_batch(if broken.load(SeqCst) > 0 { "CREATE TABLE (" } else { SCHEMA })
        })
    };
    let pool = Pool::builder(manager).max_size(4).build_lazy().expect("good settings");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let error = pool.get_timeout(support::LONG).expect_err("it cannot be migrated");
                let own = error.source().and_then(|own| own.downcast_ref::<rusqlite::Error>()).expect("SQLite's own");
                assert!(own.to_string().contains("on_first_connect failed: near \"(\""), "{own}");
            });
        }
    });
    broken.store(0, SeqCst);
    // After the pause that follows a failure.
    eventually("it is migrated", || pool.get().is_ok());
    assert_eq!(number(&pool.get().expect("it is idle"), "SELECT count(*) FROM item"), 0);
    assert_healthy(&pool);
}

#[test]
fn a_migration_that_gives_up_or_leaves_a_transaction_open_is_an_error_and_one_that_panics_too() {
    let folder = Folder::new();
    let manager = |name: &str| SqliteManager::file(folder.file(name));
    let (_, own) = refusal(manager("a.db").on_first_connect(|_| Err(abort("version 17 is too new"))));
    assert!(own.ends_with("on_first_connect failed: version 17 is too new"), "{own}");
    let (_, own) = refusal(manager("b.db").on_first_connect(|conn| conn.execute_batch("BEGIN; CREATE TABLE t (n)")));
    assert!(own.ends_with("on_first_connect failed: it has left a transaction open"), "{own}");
    let pool = Pool::builder(manager("c.db").on_first_connect(|_| std::panic::resume_unwind(Box::new("no"))))
        .connection_timeout(Duration::from_millis(50))
        .build_lazy()
        .expect("good settings");
    assert!(pool.get().is_err());
    assert!(pool.stats().panics > 0);
}

#[test]
fn a_database_in_memory_is_shared_by_the_pool_and_outlives_its_connections() {
    let (one, other) = (SqliteManager::memory(), SqliteManager::memory());
    let pool =
        Pool::builder(one.on_first_connect(|conn| conn.execute_batch(SCHEMA))).max_size(4).build().expect("it opens");
    let both = pool.get_many(2).expect("two");
    both[0].execute("INSERT INTO item (name) VALUES ('x')", []).expect("one row");
    assert_eq!(number(&both[1], "SELECT count(*) FROM item"), 1);
    for conn in both {
        PooledConnection::discard(conn);
    }
    eventually("no connection is open", || pool.stats().size == 0);
    assert_eq!(number(&pool.get().expect("a new one"), "SELECT count(*) FROM item"), 1);

    let elsewhere = Pool::new(other).expect("it opens");
    assert_eq!(number(&elsewhere.get().expect("it is idle"), "SELECT count(*) FROM sqlite_schema"), 0);
}

#[test]
fn connections_to_a_database_in_memory_wait_for_each_other() {
    let pool = Pool::builder(SqliteManager::memory()).max_size(2).build().expect("it opens");
    let both = pool.get_many(2).expect("two");
    let [holder, waiter] = <[_; 2]>::try_from(both).expect("two");
    holder.execute_batch("CREATE TABLE t (n); BEGIN IMMEDIATE").expect("nobody is in the way");
    thread::scope(|scope| {
        let waiting = scope.spawn(move || waiter.execute("INSERT INTO t VALUES (1)", []));
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished(), "it does not fail at once");
        holder.execute_batch("COMMIT").expect("it is open");
        assert_eq!(waiting.join().expect("no panic").expect("the lock came free"), 1);
    });
}

#[test]
fn a_file_with_marks_of_a_uri_in_its_name_is_a_file_and_a_uri_has_its_parameters() {
    let folder = Folder::new();
    let odd = folder.file("file:a?mode=ro#b.db");
    let pool = Pool::new(SqliteManager::file(&odd)).expect("it is a file name like others");
    pool.get().expect("it is idle").execute_batch(SCHEMA).expect("it can be written to");
    assert!(odd.is_file());

    let plain = folder.file("plain.db");
    drop(Pool::new(SqliteManager::file(&plain)).expect("it is made"));
    let uri = format!("file:{}?mode=ro", plain.display());
    let (_, own) = refusal(SqliteManager::uri(&uri));
    assert!(own.contains("write-protected") && !own.contains("mode=ro"), "{own}");
    let pool = Pool::new(SqliteManager::uri(uri).read_only()).expect("it may be read");
    assert!(pool.get().expect("it is idle").execute_batch(SCHEMA).is_err());
}

// ---- returning ----

#[test]
fn an_open_transaction_is_rolled_back_and_the_connection_kept() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db")).on_first_connect(|conn| conn.execute_batch(SCHEMA));
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    pool.with(|conn| conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO item (name) VALUES ('x')"))
        .expect("it is idle")
        .expect("good statements");
    let conn = pool.get().expect("it is idle");
    assert!(conn.is_autocommit());
    assert_eq!((PooledConnection::id(&conn), number(&conn, "SELECT count(*) FROM item")), (1, 0));
}

/// What a session may be left with, and how one sees it.
const STATES: [(&str, &str, &str); 6] = [
    ("query_only", "PRAGMA query_only = 1", "PRAGMA query_only"),
    ("foreign_keys", "pragma FOREIGN_KEYS(0)", "SELECT NOT foreign_keys FROM pragma_foreign_keys"),
    ("cache_size", "PRAGMA cache_size = 17", "SELECT cache_size = 17 FROM pragma_cache_size"),
    ("ATTACH", "ATTACH ':memory:' AS other", "SELECT count(*) FROM pragma_database_list WHERE name = 'other'"),
    ("temporary table", "CREATE TEMP TABLE t (n)", "SELECT count(*) FROM temp.sqlite_schema"),
    ("temporary view", "CREATE TEMP VIEW v AS SELECT 1", "SELECT count(*) FROM temp.sqlite_schema"),
];

#[test]
fn what_a_rollback_does_not_undo_reaches_nobody_and_leaks_where_it_is_not_looked_for() {
    for (state, make, look) in STATES {
        for (on_return, leaks) in [(OnReturn::Detect, 0), (OnReturn::RollBack, 1)] {
            let folder = Folder::new();
            let manager = SqliteManager::file(folder.file("app.db")).on_return(on_return);
            let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
            pool.with(|conn| conn.execute_batch(make)).expect("it is idle").expect("a good statement");
            let conn = pool.get().expect("it is idle, or a new one");
            assert_eq!(number(&conn, look), leaks, "{state} with {on_return:?}");
            let replaced = pool.stats().closed.by(CloseReason::ResetFailed);
            assert_eq!(replaced, u64::from(leaks == 0), "{state} with {on_return:?}");
        }
    }
}

#[test]
fn what_is_prepared_in_a_cache_is_seen_too_and_questions_are_no_changes() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db")).on_first_connect(|conn| conn.execute_batch(SCHEMA));
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    for _ in 0..3 {
        let conn = pool.get().expect("it is idle");
        for question in ["query_only", "database_list", "table_info(item)", "foreign_key_check(item)", "wal_checkpoint"]
        {
            let mut asked = conn.prepare_cached(&format!("PRAGMA {question}")).expect("a good pragma");
            let _row = asked.query([]).expect("it answers").next().expect("a row, or none");
        }
        conn.execute_batch("PRAGMA optimize").expect("a good statement");
    }
    assert_eq!(pool.stats().opened, 1);
    for _ in 0..2 {
        let conn = pool.get().expect("there is room");
        conn.prepare_cached("PRAGMA query_only = 1").expect("good").query([]).expect("good").next().expect("no row");
    }
    eventually("both are closed", || pool.stats().closed.by(CloseReason::ResetFailed) == 2);
    assert_healthy(&pool);
}

#[test]
fn what_a_hook_sets_on_every_connection_is_no_change() {
    let folder = Folder::new();
    let attached = folder.file("archive.db").display().to_string();
    let pool = Pool::builder(SqliteManager::file(folder.file("app.db")))
        .max_size(2)
        .on_open(move |conn: &mut Connection| {
            conn.execute("ATTACH ?1 AS archive", [&attached])?;
            conn.execute_batch("PRAGMA recursive_triggers = 1")
        })
        .build()
        .expect("it opens");
    for _ in 0..3 {
        let conn = pool.get().expect("it is idle");
        assert_eq!(number(&conn, "SELECT count(*) FROM pragma_database_list WHERE name = 'archive'"), 1);
    }
    assert_eq!(pool.stats().opened, 1);
}

#[test]
fn a_connection_with_an_unfinished_statement_is_not_lent_again() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db"))
        .on_first_connect(|conn| conn.execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (1), (2)"));
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    pool.with(|conn| {
        let mut statement = conn.prepare("SELECT n FROM t").expect("a good query");
        let mut rows = statement.query([]).expect("a good query");
        assert!(rows.next().expect("it works").is_some());
        // Neither is ended, as when a program forgets a future or a box of them.
        std::mem::forget(rows);
        std::mem::forget(statement);
    })
    .expect("it is idle");
    assert_eq!(PooledConnection::id(&pool.get().expect("a new one")), 2);
    assert_eq!(pool.stats().closed.by(CloseReason::ResetFailed), 1);
}

#[test]
fn what_panicked_in_a_transaction_is_not_lent_again_and_is_undone() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db")).on_first_connect(|conn| conn.execute_batch(SCHEMA));
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    let unwound = thread::scope(|scope| {
        let user = scope.spawn(|| {
            let conn = pool.get().expect("it is idle");
            conn.execute_batch("BEGIN IMMEDIATE; INSERT INTO item (name) VALUES ('x')").expect("good statements");
            std::panic::resume_unwind(Box::new("in the middle"));
        });
        user.join()
    });
    assert!(unwound.is_err());
    let conn = pool.get().expect("a new one");
    assert_eq!((PooledConnection::id(&conn), number(&conn, "SELECT count(*) FROM item")), (2, 0));
}

#[test]
fn nothing_is_checked_because_a_check_would_find_nothing_out() {
    let folder = Folder::new();
    let clock = millpond::testing::HandClock::new();
    let pool = Pool::builder(SqliteManager::file(folder.file("app.db")))
        .validation(Validation::Always)
        .keepalive(Some(Duration::from_secs(1)))
        .clock(clock.clone())
        .build()
        .expect("it opens");
    clock.advance(Duration::from_secs(60));
    pool.maintain();
    // A connection that needed a check would not be lent without waiting.
    assert!(pool.try_get().is_some());
}

// ---- closing ----

#[test]
fn closing_leaves_the_database_alone_in_its_folder_with_current_statistics() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let fill = "CREATE TABLE t (n INTEGER, m INTEGER); CREATE INDEX t_n ON t (n);
                WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 2000)
                INSERT INTO t SELECT n % 10, n FROM i";
    for (optimize, statistics) in [(false, 0), (true, 1)] {
        drop(fs::remove_file(&path));
        let pool = Pool::new(SqliteManager::file(&path).optimize_on_close(optimize)).expect("it opens");
        pool.with(|conn| {
            conn.execute_batch(fill).expect("good statements");
            number(conn, "SELECT count(*) FROM t WHERE n = 5")
        })
        .expect("it is idle");
        assert!(folder.files().contains(&"app.db-wal".to_owned()));
        pool.close_and_wait(support::LONG).expect("nobody holds any");
        assert_eq!(folder.files(), ["app.db"]);
        let conn = Connection::open(&path).expect("it is there");
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'";
        assert_eq!(number(&conn, tables), statistics, "optimize: {optimize}");
    }
}

// ---- bad input ----

#[test]
fn a_path_that_leads_nowhere_is_an_error_that_names_it_and_says_why() {
    let folder = Folder::new();
    let file = folder.file("a file");
    fs::write(&file, "").expect("there is room");
    let missing = folder.file("missing.db");
    for (manager, why) in [
        (SqliteManager::file(folder.path()), "it is a folder"),
        (SqliteManager::file(folder.file("no/such/app.db")), "its folder does not exist"),
        (SqliteManager::file(file.join("app.db")), "its folder is a file"),
        (SqliteManager::file(&missing).must_exist(true), "it does not exist"),
        (SqliteManager::file(&missing).read_only(), "it does not exist"),
        (SqliteManager::file(":memory:"), "SqliteManager::memory() is one for all"),
        (SqliteManager::file(""), "SqliteManager::memory() is one for all"),
    ] {
        let name = manager.database().to_owned();
        let (error, own) = refusal(manager);
        assert_eq!(error.kind(), millpond::ErrorKind::Connect);
        assert!(own.starts_with(&format!("cannot open the database {name:?}: ")) && own.contains(why), "{own}");
    }
    assert!(!missing.exists(), "what must exist is not made");
}

#[test]
fn what_is_no_database_is_an_error_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("letter.db");
    let letter = "Dear Sir or Madam, ".repeat(100);
    fs::write(&path, &letter).expect("there is room");
    let (_, own) = refusal(SqliteManager::file(&path));
    assert!(own.contains("letter.db") && own.contains("file is not a database"), "{own}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), letter);
}

#[test]
fn a_corrupt_file_is_an_error_of_whoever_meets_it_and_the_pool_lives_on() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let conn = Connection::open(&path).expect("it is made");
    conn.execute_batch(
        "PRAGMA page_size = 512; CREATE TABLE good (n); CREATE TABLE bad (n); INSERT INTO good VALUES (1)",
    )
    .expect("good statements");
    let page = number(&conn, "SELECT rootpage FROM sqlite_schema WHERE name = 'bad'");
    drop(conn);
    let mut bytes = fs::read(&path).expect("it is there");
    let at = (usize::try_from(page).expect("a small number") - 1) * 512;
    bytes[at..at + 512].fill(0xAA);
    fs::write(&path, bytes).expect("there is room");

    let pool = Pool::builder(SqliteManager::file(&path)).max_size(1).build().expect("its head is good");
    let malformed = pool.with(|conn| conn.execute("INSERT INTO bad VALUES (1)", [])).expect("it is idle");
    assert!(malformed.expect_err("the page is none").to_string().contains("malformed"));
    assert_eq!(number(&pool.get().expect("it is idle"), "SELECT count(*) FROM good"), 1);
    assert_healthy(&pool);
}

#[test]
fn a_pragma_that_is_none_is_an_error_that_names_it_and_a_key_is_never_told() {
    let folder = Folder::new();
    let manager = || SqliteManager::file(folder.file("app.db"));
    let (_, own) = refusal(manager().pragma("cache size", 1));
    assert!(own.ends_with(r#""cache size" is not the name of a pragma"#), "{own}");
    let (_, own) = refusal(manager().pragma("cache_size; DROP TABLE x", 1));
    assert!(own.contains("is not the name of a pragma"), "{own}");
    // Every connection would set it, also while others work.
    let (_, own) = refusal(manager().pragma("Journal_Mode", "wal"));
    assert!(own.ends_with("journal_mode() sets the journal mode, once, and no pragma does"), "{own}");
    let secret = manager().pragma("key", "sesame-17").pragma("page_size", "many words");
    assert!(!format!("{secret:?}").contains("sesame"), "{secret:?}");
}

#[test]
fn once_the_obstacle_is_gone_the_same_pool_works() {
    let folder = Folder::new();
    let place = folder.file("later");
    let pool =
        Pool::builder(SqliteManager::file(place.join("app.db"))).max_size(2).build_lazy().expect("good settings");
    assert!(pool.get().is_err());
    fs::create_dir(&place).expect("there is room");
    // After the pause that follows a failure.
    eventually("it can be made now", || pool.get().is_ok());
    pool.get().expect("it is idle").execute_batch(SCHEMA).expect("and written to");
    assert_healthy(&pool);
}

/// Whether to go on: nothing is forbidden to root, so a test that root runs is run again by nobody.
#[cfg(unix)]
fn as_nobody(test: &str) -> bool {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let this = std::env::current_exe().expect("it runs");
    match Command::new(this).args(["--exact", test]).current_dir("/").uid(65534).gid(65534).output() {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout)),
        // The folder of the build is root's alone.
        Err(error) => eprintln!("skipped: nobody cannot run this: {error}"),
    }
    false
}

#[cfg(unix)]
#[test]
fn what_may_not_be_written_or_read_is_an_error_that_says_so() {
    use std::os::unix::fs::PermissionsExt;

    if !as_nobody("what_may_not_be_written_or_read_is_an_error_that_says_so") {
        return;
    }
    let folder = Folder::new();
    let path = folder.file("app.db");
    let allow = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is one's own");
    let pool = Pool::new(SqliteManager::file(&path)).expect("it opens");
    pool.get().expect("it is idle").execute_batch(SCHEMA).expect("it can be written to");
    pool.close_and_wait(support::LONG).expect("nobody holds any");

    allow(0o444);
    let (_, own) = refusal(SqliteManager::file(&path));
    assert!(own.ends_with("it is write-protected; open it with read_only()"), "{own}");
    let pool = Pool::new(SqliteManager::file(&path).read_only()).expect("it may be read");
    assert_eq!(number(&pool.get().expect("it is idle"), "SELECT count(*) FROM item"), 0);
    allow(0o000);
    let (_, own) = refusal(SqliteManager::file(&path).read_only());
    assert!(own.contains("app.db") && own.contains("permission denied"), "{own}");
    allow(0o644);
}

// ---- what is easily forgotten ----

#[test]
fn what_a_migration_changes_of_its_session_concerns_nobody() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db")).on_first_connect(|conn| {
        conn.execute_batch("PRAGMA foreign_keys = OFF; ATTACH ':memory:' AS other; CREATE TEMP TABLE t (n)")
    });
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    let conn = pool.get().expect("it is idle");
    assert_eq!(number(&conn, "PRAGMA foreign_keys"), 1);
    assert_eq!(number(&conn, "SELECT count(*) FROM pragma_database_list"), 1);
    assert_eq!(pool.stats().opened, 1);
}

#[test]
fn what_the_schema_needs_is_there_before_it() {
    let folder = Folder::new();
    let calls = Arc::new(AtomicU32::new(0));
    let manager = {
        let calls = Arc::clone(&calls);
        SqliteManager::file(folder.file("app.db"))
            .on_connect(move |conn| {
                calls.fetch_add(1, SeqCst);
                conn.busy_timeout(Duration::from_millis(1))?;
                conn.execute_batch("CREATE TEMP TABLE helper (n)")
            })
            .on_first_connect(|conn| conn.execute_batch("INSERT INTO temp.helper VALUES (17)"))
    };
    let pool = Pool::builder(manager).max_size(2).build().expect("it opens");
    let both = pool.get_many(2).expect("two");
    assert!(both.iter().all(|conn| number(conn, "SELECT count(*) FROM temp.helper") == 0));
    assert_eq!(calls.load(SeqCst), 3, "that of the schema among them");
}

#[test]
fn a_busy_timeout_that_somebody_changed_is_put_back_and_one_that_is_too_long_is_shortened() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("app.db")).busy_timeout(Duration::MAX);
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    pool.with(|conn| conn.busy_timeout(Duration::ZERO)).expect("it is idle").expect("a number");
    assert_eq!(number(&pool.get().expect("it is idle"), "PRAGMA busy_timeout"), i64::from(i32::MAX));
    assert_eq!(pool.stats().opened, 1);
}

#[test]
fn a_temporary_table_of_any_kind_is_a_change_and_a_vacuum_is_none() {
    let folder = Folder::new();
    let pool = Pool::builder(SqliteManager::file(folder.file("app.db"))).max_size(1).build().expect("it opens");
    let run = |sql: &str| pool.with(|conn| conn.execute_batch(sql)).expect("it is idle").expect("good statements");
    run("CREATE TABLE t (n); VACUUM");
    assert_eq!(PooledConnection::id(&pool.get().expect("it is idle")), 1);
    run("CREATE VIRTUAL TABLE temp.words USING fts5(text)");
    assert_eq!(PooledConnection::id(&pool.get().expect("a new one")), 2);
}

#[test]
fn a_database_that_is_gone_is_not_made_again_without_its_schema() {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let manager = SqliteManager::file(&path).on_first_connect(|conn| conn.execute_batch(SCHEMA));
    let pool = Pool::builder(manager).max_size(1).build().expect("it opens");
    PooledConnection::discard(pool.get().expect("it is idle"));
    eventually("it is closed", || pool.stats().size == 0);
    fs::remove_file(&path).expect("it is there");
    let error = pool.get().expect_err("it is gone");
    assert!(error.source().expect("the cause").to_string().ends_with("it was there and is gone"), "{error:?}");
    assert!(!path.exists());
}

#[test]
fn a_path_is_where_it_was_when_it_was_named() {
    let manager = SqliteManager::file("relative.db");
    let here = std::env::current_dir().expect("there is one");
    assert_eq!(manager.database(), here.join("relative.db").display().to_string());
}

#[test]
fn a_uri_that_leads_into_memory_is_refused_where_each_connection_would_have_its_own() {
    let (_, own) = refusal(SqliteManager::uri("file:nothing?mode=memory").journal_mode(JournalMode::Keep));
    assert!(own.contains("SqliteManager::memory() is one for all"), "{own}");
    let (_, own) = refusal(SqliteManager::uri(":memory:").journal_mode(JournalMode::Keep));
    assert!(own.contains("SqliteManager::memory() is one for all"), "{own}");
}

#[test]
fn a_pragma_that_this_sqlite_does_not_know_is_an_error_and_so_is_a_key_without_a_cipher() {
    let folder = Folder::new();
    let manager = || SqliteManager::file(folder.file("app.db"));
    let (_, own) = refusal(manager().pragma("cache_sise", 1));
    assert!(own.ends_with("PRAGMA cache_sise = 1: this SQLite does not know it"), "{own}");
    let (_, own) = refusal(manager().pragma("key", "sesame-17"));
    assert!(own.ends_with("PRAGMA key = ***: this SQLite has no cipher, and would ignore it"), "{own}");
}

#[test]
fn a_key_is_in_no_error_wherever_it_is() {
    let folder = Folder::new();
    let uri = format!("file:{}/no/such.db?key=sesame-17", folder.path().display());
    let pool = Pool::builder(SqliteManager::uri(uri))
        .connection_timeout(Duration::from_millis(50))
        .build_lazy()
        .expect("good settings");
    let error = pool.get().expect_err("its folder does not exist");
    let cause = error.source().expect("the cause").to_string();
    assert!(cause.contains("/no/such.db") && !cause.contains("sesame"), "{cause}");
    let (_, own) = refusal(SqliteManager::file(folder.file("app.db")).pragma("key", "sesame\0seventeen"));
    assert!(!own.contains("sesame"), "{own}");
}

#[test]
fn looking_for_what_is_in_the_way_takes_no_lock_away() {
    let folder = Folder::new();
    // Longer than SQLite takes a path for, and the same file by another name.
    let (short, deep) = (folder.file("app.db"), folder.file(&"deep/".repeat(110)));
    let holder = Connection::open(&short).expect("it is made");
    holder.execute_batch("CREATE TABLE t (n); BEGIN EXCLUSIVE").expect("nobody is in the way");
    fs::create_dir_all(&deep).expect("there is room");
    fs::hard_link(&short, deep.join("same.db")).expect("the same disk");
    let pool = Pool::builder(SqliteManager::file(deep.join("same.db")))
        .connection_timeout(Duration::from_millis(50))
        .build_lazy()
        .expect("good settings");
    assert!(pool.get().is_err());
    assert!(is_locked_for_others(&short), "the lock is gone");
}

/// Asked by another process: within one, SQLite keeps its own accounts.
fn is_locked_for_others(path: &std::path::Path) -> bool {
    const ASKED: &str = "MILLPOND_TEST_IS_LOCKED";
    let this = std::env::current_exe().expect("it runs");
    let mut asking = std::process::Command::new(this);
    let asking = asking.args(["--exact", "looks_at_a_lock_for_another_process"]).env(ASKED, path);
    !asking.output().expect("it runs").status.success()
}

#[test]
fn looks_at_a_lock_for_another_process() {
    // Alone it has nothing to do.
    let Some(path) = std::env::var_os("MILLPOND_TEST_IS_LOCKED") else { return };
    let conn = Connection::open(path).expect("it is there");
    conn.busy_timeout(Duration::ZERO).expect("a number");
    conn.execute_batch("INSERT INTO t VALUES (1)").expect("nobody holds a lock");
}
