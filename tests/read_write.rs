//! One pool to write and others to read; and pools by their roles.

mod support;

use millpond::read_write::ReadWrite;
use millpond::testing::HandClock;
use millpond::{Balanced, Error, ErrorKind, Manager, Pool, PooledConnection, Roles};
use rusqlite::{Connection, OpenFlags};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;
use support::{Folder, LONG, Lab, Named, Scripted, eventually};

const SECOND: Duration = Duration::from_secs(1);

fn named(name: &'static str) -> Pool<Named> {
    Pool::builder(Named(name)).name(name).max_size(2).build().expect("it opens")
}

fn reads(db: &ReadWrite<Named>) -> &'static str {
    db.with_read(|name| *name).expect("somebody is there")
}

#[test]
fn writes_go_to_the_writer_and_reads_to_the_readers() -> Result<(), Error> {
    let readers = Balanced::builder().member("a", named("a")).member("b", named("b")).build()?;
    let db = ReadWrite::new(named("primary"), readers);
    assert_eq!([reads(&db), reads(&db), reads(&db)], ["a", "b", "a"]);
    assert_eq!((**db.write()?, db.with_write(|name| *name)?), ("primary", "primary"));
    assert_eq!(reads(&db), "b", "nobody asked for sticky reads");
    let names: Vec<_> = db.health().into_iter().map(|health| health.pool).collect();
    assert_eq!(names, ["a", "b", "primary"]);
    Ok(())
}

#[test]
fn a_single_reader_is_waited_for_as_its_pool_says() -> Result<(), Error> {
    let short = Duration::from_millis(20);
    let replica = Pool::builder(Named("replica")).max_size(1).connection_timeout(short).build()?;
    let held = replica.get()?;
    let (db, roles) = (ReadWrite::new(named("primary"), replica.clone()), Roles::builder().role("r", replica).build()?);
    for error in
        [db.read().map(drop).expect_err("it is held"), roles.role("r")?.get().map(drop).expect_err("it is held")]
    {
        assert!(error.is_timeout() && !error.to_string().contains("timed out after 5"), "{error}");
    }
    drop(held);
    Ok(())
}

#[test]
fn after_a_write_this_thread_reads_what_it_has_written() -> Result<(), Error> {
    let clock = HandClock::new();
    let db = ReadWrite::new(named("primary"), named("replica")).sticky_reads(2 * SECOND).clock(clock.clone());
    assert_eq!(reads(&db), "replica");
    let writing = db.write()?;
    assert_eq!(reads(&db), "primary", "also while it writes");
    clock.advance(5 * SECOND);
    assert_eq!(reads(&db), "replica", "a write that takes longer than that is still to come");
    drop(writing);
    clock.advance(SECOND);
    assert_eq!(reads(&db), "primary", "counted from its end");
    assert!(db.is_sticky());
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(reads(&db), "replica", "another thread has written nothing"));
    });
    clock.advance(SECOND);
    assert_eq!(reads(&db), "replica");
    let handles = [db.clone(), db];
    handles[0].with_write(|_| ())?;
    assert_eq!(reads(&handles[1]), "primary", "clones are one and the same");
    let other = ReadWrite::new(named("primary"), named("replica")).sticky_reads(2 * SECOND).clock(clock);
    assert_eq!(reads(&other), "replica", "another database was not written to");
    Ok(())
}

#[test]
fn what_is_done_with_the_guard_of_a_write_counts_as_its_end() -> Result<(), Error> {
    let clock = HandClock::new();
    let db = ReadWrite::new(named("primary"), named("replica")).sticky_reads(SECOND).clock(clock.clone());
    let mut writing = db.write_timeout(LONG)?;
    *writing = {
        let mut guard = db.write()?;
        PooledConnection::set_label(&mut guard, "import");
        millpond::read_write::Writing::into_pooled(guard)
    };
    assert_eq!(db.writer().holders().len(), 1, "the one that was there before went home");
    **writing = "renamed";
    clock.advance(2 * SECOND);
    PooledConnection::discard(millpond::read_write::Writing::into_pooled(writing));
    assert_eq!(reads(&db), "primary");
    clock.advance(2 * SECOND);
    let unwound = catch_unwind(AssertUnwindSafe(|| db.with_write(|_| resume_unwind(Box::new("in the middle")))));
    assert!(unwound.is_err());
    assert_eq!(reads(&db), "primary", "who knows what was written");
    Ok(())
}

#[test]
fn a_sticky_read_whose_writer_is_away_fails_rather_than_read_what_is_old() -> Result<(), Error> {
    let primary = named("primary");
    let db = ReadWrite::new(primary.clone(), named("replica")).sticky_reads(LONG);
    db.with_write(|_| ())?;
    primary.close();
    assert_eq!(db.read().expect_err("it has written").kind(), ErrorKind::Closed);
    Ok(())
}

fn scripted(lab: &Arc<Lab>, name: &str) -> Pool<Scripted> {
    Pool::builder(lab.manager()).name(name).max_size(1).build_lazy().expect("good settings")
}

#[test]
fn when_no_reader_is_left_reads_go_to_the_writer_until_one_is_back() -> Result<(), Error> {
    let (primary, replica) = (Lab::new(), Lab::new());
    let db = ReadWrite::new(scripted(&primary, "primary"), scripted(&replica, "replica"));
    replica.refuse.store(true, SeqCst);
    for _ in 0..3 {
        drop(db.read_timeout(LONG)?);
    }
    assert_eq!((db.writer().stats().checkouts, replica.attempts.load(SeqCst) > 0), (3, true));
    replica.refuse.store(false, SeqCst);
    eventually("the reader reads", || {
        drop(db.read_timeout(LONG).expect("somebody is there"));
        db.readers().pool("replica").is_some_and(|pool| pool.stats().checkouts > 0)
    });
    let written = db.writer().stats().checkouts;
    drop(db.read()?);
    assert_eq!(db.writer().stats().checkouts, written);
    Ok(())
}

#[test]
fn readers_that_are_busy_are_waited_for() -> Result<(), Error> {
    let db = ReadWrite::new(named("primary"), named("replica"));
    let held = [db.read()?, db.read()?];
    let error = db.read_timeout(Duration::from_millis(20)).expect_err("both are held");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(db.writer().stats().checkouts, 0);
    drop(held);
    Ok(())
}

#[test]
fn without_the_fallback_the_writer_is_left_alone() -> Result<(), Error> {
    let (primary, replica) = (Lab::new(), Lab::new());
    let db = ReadWrite::new(scripted(&primary, "primary"), scripted(&replica, "replica")).fallback_to_writer(false);
    replica.refuse.store(true, SeqCst);
    assert_eq!(db.read_timeout(Duration::from_millis(20)).expect_err("it refuses").kind(), ErrorKind::Connect);
    assert_eq!(primary.attempts.load(SeqCst), 0);
    Ok(())
}

#[test]
fn when_the_writer_is_away_as_well_the_error_names_all() -> Result<(), Error> {
    let (primary, a, b) = (Lab::new(), Lab::new(), Lab::new());
    let readers =
        Balanced::builder().name("replicas").member("a", scripted(&a, "a")).member("b", scripted(&b, "b")).build()?;
    let db = ReadWrite::new(scripted(&primary, "primary"), readers);
    [&primary, &a, &b].iter().for_each(|lab| lab.refuse.store(true, SeqCst));
    let error = db.read_timeout(Duration::from_millis(60)).expect_err("all refuse");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Connect, true));
    let text = error.to_string();
    assert!(text.starts_with(r#"no member of "replicas" has a connection: "a": "#), "{text}");
    assert!(text.contains(r#"; the writer "primary": timed out after "#), "{text}");
    Ok(())
}

#[test]
fn one_writer_and_eight_readers_share_a_sqlite_file() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Folder::new();
    let path = folder.file("app.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    type Opener = Box<dyn Manager<Connection = Connection, Error = rusqlite::Error>>;
    let open = |may_write: bool| {
        let path = path.clone();
        let connect = move || {
            let flags = if may_write { OpenFlags::default() } else { flags };
            Connection::open_with_flags(&path, flags)
        };
        Box::new(millpond::FnManager::new(connect)) as Opener
    };
    let writer = Pool::builder(open(true)).name("writer").max_size(1).build()?;
    writer.get()?.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE visit (thread INTEGER, n INTEGER)")?;
    let readers = Pool::builder(open(false)).name("readers").max_size(4).build()?;
    let db = ReadWrite::new(writer, readers).sticky_reads(LONG);
    assert!(db.with_read(|conn| conn.execute_batch("DELETE FROM visit"))?.is_err(), "a reader cannot write");
    thread::scope(|scope| {
        for thread in 0..8 {
            let db = &db;
            scope.spawn(move || {
                for n in 0..20 {
                    let insert = "INSERT INTO visit VALUES (?1, ?2)";
                    let rows = db.with_write(|conn| conn.execute(insert, [thread, n])).expect("in turn");
                    assert_eq!(rows.expect("nobody else writes"), 1);
                    let count = "SELECT count(*) FROM visit WHERE thread = ?1";
                    let seen = db.with_read(|conn| conn.query_row(count, [thread], |row| row.get::<_, i64>(0)));
                    assert_eq!(seen.expect("in turn").expect("it can be read"), n + 1, "its own writes");
                }
            });
        }
    });
    // This thread has not written through it, so it reads with a reader.
    let before = db.readers().pool("readers").expect("called as its pool").stats().checkouts;
    let all: i64 = db.with_read(|conn| conn.query_row("SELECT count(*) FROM visit", [], |row| row.get(0)))??;
    let after = db.readers().pool("readers").expect("called as its pool").stats().checkouts;
    assert_eq!((all, after - before), (160, 1));
    db.writer().close_and_wait(LONG)?;
    Ok(())
}

#[test]
fn roles_and_their_other_names_lead_to_the_same_pools() -> Result<(), Error> {
    let replica = named("replica");
    let roles = Roles::builder()
        .role("primary", named("primary"))
        .role("replica", replica.clone())
        .role("search", replica)
        .alias("reporting", "replica")
        .default_role("reporting")
        .build()?;
    assert_eq!(roles.role("reporting")?.with(|name| *name)?, "replica");
    assert_eq!(roles.default_role().with(|name| *name)?, "replica");
    assert_eq!(roles.names().collect::<Vec<_>>(), ["primary", "replica", "search", "reporting"]);
    assert_eq!(roles.health().pools().len(), 2, "one pool has two roles");
    let error = roles.role("Primary").expect_err("names are what they are");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Config, false));
    Ok(())
}

#[test]
fn all_that_is_wrong_with_roles_is_said_at_once() {
    let error = Roles::builder()
        .role("a", named("a"))
        .role("a", named("b"))
        .alias("a", "a")
        .alias("c", "d")
        .default_role("e")
        .build()
        .expect_err("little is right");
    assert_eq!(
        error.to_string(),
        "unusable settings: the name \"a\" is given twice; the name \"a\" is given twice; the alias \"c\" is for \"d\", \
         which is no role; default_role is \"e\", which is no role"
    );
    assert!(Roles::<Named>::builder().build().is_err());
}
