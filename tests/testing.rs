//! The test kit, by tests that users would write, and by what it must notice.

mod support;

use millpond::sqlite::{ErrorKind as SqliteErrorKind, SqliteManager, SqlitePool};
use millpond::testing::{
    Act, Call, Gate, HandClock, Refused, Sandbox, Script, assert_lends_all, assert_returned, eventually, rolled_back,
    settle, tick, violations,
};
use millpond::{CloseReason, ErrorKind, Maintenance, Nested, Pool, PooledConnection, Validation};
use rusqlite::Connection;
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;
use support::{Folder, LONG};

const SECOND: Duration = Duration::from_secs(1);

/// What a closure panics with.
fn panic_of(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|&text| text.into())).expect("a text")
}

#[test]
fn a_script_fails_hangs_panics_and_breaks_each_call_and_the_pool_lends_all_again() {
    let script = Script::new();
    let pool = Pool::builder(script.manager()).max_size(3).validation(Validation::Always).build().expect("it connects");

    script.next(Call::Connect, Act::fail(|| Refused::new("too many connections").permanent()));
    pool.refresh();
    let error = pool.get_timeout(LONG).expect_err("the server says no for good");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("too many connections"));

    script.next(Call::Connect, Act::panic("out of cheese"));
    let panics = pool.stats().panics;
    eventually("somebody meets the panic", || {
        drop(pool.get_timeout(LONG));
        pool.stats().panics > panics
    });

    let gate = Gate::new();
    script.next(Call::IsValid, Act::hang(&gate));
    drop(pool.get().expect("one that is not checked, or checked later"));
    settle_with(&pool, &gate);

    script.next(Call::Reset, Act::fail(|| Refused::new("unclean")));
    drop(pool.get().expect("a connection"));
    eventually("what could not be cleaned is closed", || pool.stats().closed.by(CloseReason::ResetFailed) == 1);
    script.next(Call::HasBroken, Act::fail(|| Refused::new("gone")));
    drop(pool.get().expect("a connection"));
    eventually("what is broken is closed", || pool.stats().closed.by(CloseReason::Broken) == 1);
    script.next(Call::Close, Act::panic("cannot close"));
    drop(pool.get().map(PooledConnection::discard));

    script.clear();
    settle(&pool);
    assert_returned(&pool);
    assert_lends_all(&pool);
    assert!(script.most_live() <= 3, "never more than the maximum: {}", script.most_live());
    pool.close_and_wait(LONG).expect("all are closed");
    assert_eq!(script.live(), 0);
}

/// Lets a check that hangs go on, and everything come to rest.
fn settle_with<M: millpond::Manager>(pool: &Pool<M>, gate: &Gate) {
    gate.open();
    settle(pool);
}

#[test]
fn what_comes_next_comes_once_and_in_order_and_before_what_is_always() {
    let script = Script::new();
    script.set(Call::Connect, Act::fail(|| Refused::new("always")));
    script.next(Call::Connect, Act::fail(|| Refused::new("first")));
    script.next(Call::Connect, Act::succeed());
    use millpond::Manager as _;
    let manager = script.manager();
    let says =
        || manager.connect().map_or_else(|error| error.to_string(), |conn| format!("connection {}", conn.number()));
    assert_eq!([says(), says(), says(), says()], ["first", "connection 1", "always", "always"]);
    script.clear();
    assert_eq!((says(), script.calls(Call::Connect), script.live()), ("connection 2".into(), 5, 2));
}

#[test]
fn a_server_that_cuts_its_connections_costs_who_has_one_in_hand_and_nobody_else() {
    let script = Script::new();
    let pool = Pool::builder(script.manager())
        .max_size(2)
        .maintenance(Maintenance::Manual)
        .validation(Validation::Always)
        .clock(HandClock::new())
        .build()
        .expect("it connects");
    let mut held = pool.get().expect("idle");
    assert_eq!((held.number(), held.request(), held.request()), (1, Ok(1), Ok(2)));
    script.cut_all();
    assert!(held.request().is_err());
    drop(held);
    assert_eq!(pool.stats().closed.by(CloseReason::Broken), 1);
    assert_eq!(pool.get().expect("another").request(), Ok(1));
    // One that lies idle is found by its check.
    let clock = HandClock::new();
    let pool = Pool::builder(script.manager())
        .max_size(1)
        .maintenance(Maintenance::Manual)
        .clock(clock.clone())
        .build()
        .expect("it connects");
    script.cut_all();
    clock.advance(SECOND);
    assert_eq!(pool.get().expect("another").request(), Ok(1));
    assert_eq!(pool.stats().check_failures, 1);
}

#[test]
fn a_hanging_connect_costs_its_caller_no_more_than_its_time_out() {
    let script = Script::new();
    let (gate, clock) = (Gate::new(), HandClock::new());
    script.set(Call::Connect, Act::hang(&gate));
    let pool = Pool::builder(script.manager()).max_size(1).clock(clock.clone()).build_lazy().expect("good settings");
    thread::scope(|scope| {
        let caller = scope.spawn(|| pool.get_timeout(SECOND).map(drop).map_err(|error| error.kind()));
        gate.wait_for(1);
        assert_eq!(script.under_way(Call::Connect), 1);
        eventually("the caller waits", || pool.stats().waiting == 1);
        clock.advance(SECOND);
        assert!(caller.join().expect("no panic").is_err());
    });
    gate.open();
    assert_lends_all(&pool);
    assert_eq!(script.calls(Call::Connect), 1, "what came too late was kept");
}

#[test]
fn a_script_around_a_real_manager_changes_only_what_it_says() {
    let (script, manager) = Script::around(SqliteManager::memory());
    let pool = Pool::builder(manager).max_size(2).build().expect("it opens");
    let answer = || pool.get().expect("a connection").query_row("SELECT 17", [], |row| row.get::<_, i64>(0));
    assert_eq!(answer(), Ok(17));
    script.next(Call::Reset, Act::fail(|| rusqlite::Error::InvalidQuery));
    assert_eq!(answer(), Ok(17));
    eventually("it is closed", || pool.stats().closed.by(CloseReason::ResetFailed) == 1);
    assert_eq!(answer(), Ok(17));
    assert_lends_all(&pool);
    pool.close_and_wait(LONG).expect("all are closed");
    assert_eq!((script.live(), script.calls(Call::Close)), (0, script.calls(Call::Connect)));
}

#[test]
fn time_passes_in_steps_that_a_test_takes() {
    let (script, clock) = (Script::new(), HandClock::new());
    for maintenance in [Maintenance::Manual, Maintenance::Background] {
        let pool = Pool::builder(script.manager())
            .min_idle(1)
            .max_size(3)
            .idle_timeout(Some(10 * SECOND))
            .max_lifetime(Some(60 * SECOND))
            .maintenance(maintenance)
            .clock(clock.clone())
            .build()
            .expect("it connects");
        drop(pool.get_many(3).expect("three"));
        tick(&clock, &pool, 9 * SECOND);
        assert_eq!(pool.stats().size, 3);
        tick(&clock, &pool, SECOND);
        assert_eq!((pool.stats().size, pool.stats().closed.by(CloseReason::IdleTimeout)), (1, 2));
        tick(&clock, &pool, 50 * SECOND);
        assert_eq!(pool.stats().closed.by(CloseReason::Lifetime), 1);
        // With helpers, the successor of the old one and what refills may both be there for a while.
        assert!(pool.stats().idle >= 1, "the minimum is kept");
    }
}

#[test]
fn what_is_held_is_told_with_its_place() {
    let pool = Pool::new(Script::new().manager()).expect("it connects");
    let mut held = pool.get().expect("a connection");
    PooledConnection::set_label(&mut held, "a report");
    let text = panic_of(|| assert_returned(&pool));
    assert!(
        text.contains("1 connections of") && text.contains("tests/testing.rs:") && text.contains("a report"),
        "{text}"
    );
    drop(held);
    assert_returned(&pool);
}

#[test]
fn a_pool_that_does_not_lend_its_maximum_is_found_out() {
    let pool =
        Pool::builder(Script::new().manager()).max_size(2).connection_timeout(SECOND).build().expect("it connects");
    let mut stats = pool.stats();
    assert_eq!(violations(&stats), [""; 0]);
    stats.idle += 1;
    assert_eq!(violations(&stats), ["2 idle + 0 in use is not 1 open"]);
    stats.idle -= 1;
    stats.opened += 1;
    assert_eq!(violations(&stats), ["2 opened - 0 closed is not 1 open"]);

    // One that refuses nested checkouts, with a clock that stands still, is as good as any.
    let builder = Pool::builder(Script::new().manager()).max_size(3).nested(Nested::Deny).clock(HandClock::new());
    assert_lends_all(&builder.build().expect("it connects"));

    let script = Script::new();
    let pool = Pool::builder(script.manager()).max_size(2).build().expect("it connects");
    script.set(Call::Connect, Act::fail(|| Refused::new("no more than one").permanent()));
    let text = panic_of(|| assert_lends_all(&pool));
    assert!(text.starts_with("the 2. of 2 connections is not lent: ") && text.contains("no more than one"), "{text}");
}

fn guests() -> (Folder, impl Fn() -> rusqlite::Result<Connection> + Clone + Send + Sync) {
    let folder = Folder::new();
    let path = folder.file("guests.db");
    let open = move || Connection::open(&path);
    open().and_then(|conn| conn.execute_batch("CREATE TABLE guest (name TEXT)")).expect("a new file");
    (folder, open)
}

fn sandbox(
    open: impl Fn() -> rusqlite::Result<Connection> + Send + Sync + 'static,
) -> Sandbox<Connection, rusqlite::Error> {
    let begin = |conn: &mut Connection| conn.execute_batch("BEGIN; SAVEPOINT sandbox");
    let undo = |conn: &mut Connection| conn.execute_batch("ROLLBACK TO sandbox; ROLLBACK");
    Sandbox::new(open, begin, undo)
}

fn count(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM guest", [], |row| row.get(0)).expect("a number")
}

#[test]
fn what_is_done_in_a_sandbox_is_seen_by_all_its_threads_and_by_nobody_afterwards() {
    let (_folder, open) = guests();
    let test = sandbox(open.clone());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| test.pool().with(|conn| conn.execute("INSERT INTO guest VALUES ('x')", [])));
        }
    });
    assert_eq!(test.pool().with(|conn| count(conn)).expect("a connection"), 4);
    assert_eq!(count(&open().expect("it opens")), 0, "nobody outside sees it");
    test.roll_back().expect("all is undone");
    assert_eq!(count(&open().expect("it opens")), 0);
}

#[test]
fn a_sandbox_is_rolled_back_by_a_panic_too_and_says_so_when_it_was_committed() {
    let (_folder, open) = guests();
    let inner = open.clone();
    let text = panic_of(move || {
        let test = sandbox(inner);
        let conn = test.pool().get().expect("a connection");
        conn.execute("INSERT INTO guest VALUES ('x')", []).expect("a row");
        drop(conn);
        panic!("the test fails");
    });
    assert_eq!((text.as_str(), count(&open().expect("it opens"))), ("the test fails", 0));

    let inner = open.clone();
    let text = panic_of(move || {
        let test = sandbox(inner);
        test.pool().get().expect("a connection").execute_batch("COMMIT").expect("it commits");
    });
    assert!(text.contains("could not be rolled back: no such savepoint: sandbox"), "{text}");

    // Not of those that panic already: that would end the process.
    let inner = open;
    let text = panic_of(move || {
        let test = sandbox(inner);
        let _held = test.pool().get().expect("a connection");
        panic!("with a connection in its hands");
    });
    assert_eq!(text, "with a connection in its hands");
}

#[test]
fn a_sandbox_that_was_not_rolled_back_never_says_that_it_was() {
    let open = || Ok::<_, std::io::Error>(());
    let test = Sandbox::new(open, |()| Ok(()), |()| std::panic::resume_unwind(Box::new("unwrapped")));
    drop(test.pool().get().expect("a connection"));
    assert!(test.roll_back().expect_err("it panicked").to_string().contains("not rolled back"));

    let test = Sandbox::new(open, |()| Ok(()), |()| Ok(()));
    let () = PooledConnection::into_inner(test.pool().get().expect("a connection"));
    assert!(test.roll_back().expect_err("it is gone").to_string().contains("not rolled back"));
}

#[test]
fn a_connection_whose_transaction_cannot_be_begun_is_closed_by_its_manager() {
    let script = Script::new();
    let test = Sandbox::new(script.manager(), |_| Err(Refused::new("read-only").permanent()), |_| Ok(()));
    let error = test.pool().get_timeout(LONG).expect_err("it cannot be begun");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("read-only"));
    assert_eq!((script.calls(Call::Connect), script.calls(Call::Close), script.live()), (1, 1, 0));
    test.roll_back().expect("there is nothing to roll back");
}

#[test]
fn a_sandbox_whose_connection_was_replaced_says_what_was_lost() {
    let (_folder, open) = guests();
    let test = sandbox(open);
    PooledConnection::discard(test.pool().get().expect("a connection"));
    drop(test.pool().get().expect("another one"));
    let error = test.roll_back().expect_err("what was done before is lost");
    assert!(error.to_string().contains("opened 2 times"), "{error}");
}

#[test]
fn what_a_test_writes_with_a_sqlite_pool_is_undone_reads_and_transactions_within_included() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file("shop.db"))
        .on_first_connect(|conn| conn.execute_batch("CREATE TABLE guest (name TEXT)"));
    let shop = SqlitePool::new(manager).expect("it opens");
    let add = || shop.write_transaction(|conn| conn.execute("INSERT INTO guest VALUES ('x')", []));
    let seen = || shop.read(|conn| Ok(count(conn))).expect("a number");

    let result = rolled_back(&shop, || {
        add().expect("a row");
        add().expect("a row");
        seen()
    });
    assert_eq!((result.expect("it was undone"), seen()), (2, 0));

    let text = panic_of(|| {
        drop(rolled_back(&shop, || {
            add().expect("a row");
            panic!("the test fails");
        }));
    });
    assert_eq!((text.as_str(), seen()), ("the test fails", 0));

    // One that commits by itself is found out.
    let error =
        rolled_back(&shop, || shop.write(|conn| conn.execute_batch("COMMIT; BEGIN"))).expect_err("it has left traces");
    assert_eq!(error.kind(), SqliteErrorKind::Statement);
    assert!(error.to_string().contains("no such savepoint"), "{error}");
    assert_eq!(seen(), 0);
    assert_eq!(rolled_back(&shop, seen).expect("the writer is there again"), 0);
}
