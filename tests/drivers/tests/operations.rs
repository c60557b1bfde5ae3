//! What is done to a pool while it runs, against a real `redis-server` and a real SQLite file: rotating a password, a
//! primary that is demoted, and an end that leaves nothing behind.

use std::{
    fs,
    net::TcpListener,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use millpond::{CloseReason, Fault, FnManager, Pool, Validation};
use millpond_drivers::{PATIENCE, Redis, TempDir, assert_whole, fill};
use redis::{Client, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind};

fn ask(connection: &mut Connection, words: &str) -> RedisResult<redis::Value> {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(connection)
}

fn answers(connection: &mut Connection) {
    ask(connection, "PING").expect("it answers");
}

fn admin(redis: &Redis) -> Connection {
    let client = Client::open(redis.url()).expect("it is a URL");
    client.get_connection().expect("the server answers")
}

#[test]
fn after_a_password_was_rotated_every_connection_has_the_new_one() {
    let Some(redis) = Redis::start() else { return };
    let mut admin = admin(&redis);
    let rotate = |admin: &mut Connection, password: &str| {
        ask(admin, &format!("CONFIG SET requirepass {password}")).expect("it obeys");
    };
    rotate(&mut admin, "first");
    let port = redis.port();
    let password = Arc::new(Mutex::new("first"));
    let current = Arc::clone(&password);
    let open = move || {
        let password = *current.lock().expect("no panic");
        let connection = Client::open(format!("redis://:{password}@127.0.0.1:{port}/0"))?.get_connection()?;
        Ok::<_, RedisError>((password, connection))
    };
    let pool = Pool::builder(FnManager::new(open)).max_size(4).connection_timeout(PATIENCE).build();
    let pool = pool.expect("the server is up");
    // A hundred more have been lent.
    let busy = || {
        let enough = pool.stats().checkouts + 100;
        while pool.stats().checkouts < enough {
            thread::yield_now();
        }
    };
    let (stop, refreshed) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        // Callers all the time; after the rotation none of them may see the old one.
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let after = refreshed.load(SeqCst);
                    let mut connection = pool.get().expect("one comes free");
                    assert!(!after || connection.0 == "second", "lent with the old password");
                    answers(&mut connection.1);
                }
            });
        }
        busy();
        rotate(&mut admin, "second");
        *password.lock().expect("no panic") = "second";
        pool.refresh();
        refreshed.store(true, SeqCst);
        busy();
        stop.store(true, SeqCst);
    });
    assert!(pool.stats().closed.by(CloseReason::Refresh) > 0);
    assert_whole(&pool, |connection| answers(&mut connection.1));
}

#[test]
fn when_the_primary_is_demoted_no_connection_to_it_is_lent_any_more() {
    let (Some(first), Some(second)) = (Redis::start(), Redis::start()) else { return };
    let primary = Arc::new(Mutex::new(first.url()));
    let current = Arc::clone(&primary);
    let open = move || Client::open(current.lock().expect("no panic").as_str())?.get_connection();
    // A write that a replica refuses, as many proxies check for it.
    let manager = FnManager::new(open)
        .check(|connection| ask(connection, "SET millpond:check 1 EX 1").map(drop))
        .classify(|error: &RedisError| match error.kind() {
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Fault::DiscardAll,
            _ => Fault::Transient,
        });
    let pool = Pool::builder(manager).max_size(5).validation(Validation::Always).connection_timeout(PATIENCE).build();
    let pool = pool.expect("the server is up");
    fill(&pool);
    let mut admin = admin(&first);
    ask(&mut admin, &format!("REPLICAOF 127.0.0.1 {}", second.port())).expect("it obeys");
    *primary.lock().expect("no panic") = second.url();
    let mut connection = pool.get().expect("one to the new primary");
    ask(&mut connection, "SET key value").expect("it is not read-only");
    drop(connection);
    let closed = pool.stats().closed;
    assert!(closed.by(CloseReason::Invalid) <= 2, "one check told of all of them: {closed:?}");
    assert_whole(&pool, |connection| drop(ask(connection, "SET key value").expect("a primary")));
    assert_eq!(pool.stats().closed.by(CloseReason::Invalid) + pool.stats().closed.by(CloseReason::Refresh), 5);
}

/// Threads of the crate's own, and descriptors, of this process.
fn left_over() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("a process has threads");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let threads = names.filter(|name| name.starts_with("millpond")).count();
    (threads, fs::read_dir("/proc/self/fd").expect("a process has descriptors").count())
}

/// In a process of its own, because threads and descriptors are the process's: run by the test below.
#[test]
#[ignore = "run by the test below, alone in its process"]
fn closing_leaves_no_thread_no_descriptor_and_no_lock_alone() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    silent.set_nonblocking(true).expect("it is ours");
    let address = silent.local_addr().expect("it is bound");
    let folder = TempDir::new("closing");
    let path = folder.path().join("data.db");
    let (threads, descriptors) = left_over();
    for round in 0..300 {
        let file = path.clone();
        let sqlite = Pool::builder(move || {
            let connection = rusqlite::Connection::open(&file)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            Ok::<_, rusqlite::Error>(connection)
        });
        let sqlite = sqlite.max_size(3).connection_timeout(PATIENCE).build().expect("there is room");
        let sockets = Pool::builder(move || std::net::TcpStream::connect(address)).max_size(2);
        let sockets = sockets.connection_timeout(PATIENCE).build_lazy().expect("good settings");
        let mut all = sqlite.get_many(3).expect("there is room");
        all[0].execute_batch("CREATE TABLE IF NOT EXISTS t (n); INSERT INTO t VALUES (1)").expect("it writes");
        let together = Barrier::new(3);
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                together.wait();
                sqlite.get().map(drop)
            });
            let connects = scope.spawn(|| {
                together.wait();
                sockets.get().map(drop)
            });
            together.wait();
            if round % 2 == 0 {
                sockets.close();
                sqlite.close();
            } else {
                all.clear();
            }
            // Either was in time, or it is told that the pool is closed.
            for result in [waits.join().expect("no panic"), connects.join().expect("no panic")] {
                assert!(result.is_ok() || !result.expect_err("not ok").is_timeout());
            }
        });
        drop(all);
        sockets.close_and_wait(PATIENCE).expect("nothing is borrowed");
        sqlite.close_and_wait(PATIENCE).expect("nothing is borrowed");
        // Or the backlog is full one day.
        while silent.accept().is_ok() {}
        // The system lists a thread for a moment longer than others wait for it.
        let begun = std::time::Instant::now();
        while left_over() != (threads, descriptors) && begun.elapsed() < PATIENCE {
            thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(left_over(), (threads, descriptors), "after {round} rounds");
    }
    // Nobody has the file open: it can be had alone, and its log goes with the last connection. (Of several that close in the
    // same moment none may be the last.)
    let alone = rusqlite::Connection::open(&path).expect("it is there");
    alone.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT").expect("nobody else has it");
    drop(alone);
    assert!(!folder.path().join("data.db-wal").exists());
}

#[test]
fn closing_leaves_no_thread_no_descriptor_and_no_lock() {
    let own = std::env::current_exe().expect("a program has a path");
    let name = "closing_leaves_no_thread_no_descriptor_and_no_lock_alone";
    let status = std::process::Command::new(own).args([name, "--exact", "--ignored"]).status();
    assert!(status.expect("this program can be started").success());
}
