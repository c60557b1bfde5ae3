//! millpond's own manager and pool for Redis, against a real `redis-server`.

use std::{
    collections::HashSet,
    error::Error as _,
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use millpond::{
    Builder, CloseReason, ErrorKind, Manager, Pool, PooledConnection, Validation,
    redis::{Check, Error, OnReturn, RedisConnection, RedisManager, RedisPool},
};
use millpond_drivers::{PATIENCE, Redis, SHORT, assert_whole, fill};
use redis::{Client, Commands, Connection, ConnectionLike, RedisError, RedisResult, Script, cmd};

fn manager(redis: &Redis) -> RedisManager {
    RedisManager::new(redis.url()).expect("it is a URL")
}

fn builder(manager: RedisManager) -> Builder<RedisManager> {
    Pool::builder(manager).connection_timeout(PATIENCE)
}

/// A pool of one connection: the next user gets what the last one left. Cleaning has all the time it needs: a connection
/// that is cleaned is not to be replaced because the machine is busy.
fn single(manager: RedisManager) -> RedisPool {
    builder(manager.reset_timeout(PATIENCE)).max_size(1).build().expect("the server is up").into()
}

fn answers(connection: &mut RedisConnection) {
    let pong: RedisResult<String> = cmd("PING").query(connection);
    assert_eq!(pong, Ok("PONG".to_owned()));
}

fn observer(redis: &Redis) -> Connection {
    Client::open(redis.url()).and_then(|client| client.get_connection()).expect("the server answers")
}

fn run(connection: &mut impl ConnectionLike, words: &str) -> RedisResult<redis::Value> {
    let mut words = words.split(' ');
    cmd(words.next().expect("one word")).arg(words.collect::<Vec<_>>()).query(connection)
}

fn number(connection: &mut RedisConnection) -> u64 {
    cmd("CLIENT").arg("ID").query(connection).expect("it answers")
}

/// What the server knows of the session.
fn session(connection: &mut RedisConnection) -> String {
    cmd("CLIENT").arg("INFO").query(connection).expect("it answers")
}

/// How often the server was sent a command, over all.
fn calls(observer: &mut Connection, command: &str) -> u64 {
    let stats: String = cmd("INFO").arg("commandstats").query(observer).expect("it answers");
    let line = format!("cmdstat_{command}:calls=");
    let calls = stats.lines().find_map(|text| text.strip_prefix(line.as_str())?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// Waits until so many connections have been closed for a reason: that is done by another thread.
fn closed(pool: &RedisPool, reason: CloseReason, count: u64) {
    let asked = Instant::now();
    while pool.stats().closed.by(reason) < count {
        assert!(asked.elapsed() < PATIENCE, "{count} are not closed as {reason:?}: {:?}", pool.stats().closed);
        thread::yield_now();
    }
    assert_eq!(pool.stats().closed.by(reason), count, "{reason:?}");
}

fn cause(error: &millpond::Error) -> &RedisError {
    error.source().and_then(|cause| cause.downcast_ref()).unwrap_or_else(|| panic!("the driver's error: {error:?}"))
}

#[test]
fn one_call_gets_sets_pipes_and_runs_scripts() {
    let Some(redis) = Redis::shared() else { return };
    let pool: RedisPool = builder(manager(redis)).max_size(4).build().expect("the server is up").into();
    thread::scope(|scope| {
        for worker in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..50 {
                    let key = format!("calls:{worker}");
                    pool.set(&key, n).expect("it is written");
                    assert_eq!(pool.get_value::<i64>(&key).expect("it is there"), n);
                    let pipe = redis::pipe().atomic().incr(&key, 1).get(&key).clone();
                    assert_eq!(pool.pipeline::<(i64, i64)>(&pipe).expect("both are done"), (n + 1, n + 1));
                    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
                    let sum: i64 = pool.script(script.key(&key).arg(10)).expect("it runs");
                    assert_eq!(sum, n + 11);
                }
            });
        }
    });
    pool.set_for("calls:brief", "x", Duration::from_secs(100)).expect("it is written");
    let left: i64 = pool.query(cmd("PTTL").arg("calls:brief")).expect("it answers");
    assert!((1..=100_000).contains(&left), "{left}");
    let error = pool.set_for("calls:never", "x", Duration::ZERO).expect_err("no time at all");
    assert!(matches!(&error, Error::Redis(error) if error.to_string().contains("expire")), "{error}");
    assert_eq!(pool.get_value::<Option<String>>("calls:never").expect("it answers"), None);
    assert_whole(&pool, answers);
}

#[test]
fn each_database_has_a_pool_of_its_own() {
    let Some(redis) = Redis::shared() else { return };
    let url = |db: u32| format!("redis://127.0.0.1:{}/{db}", redis.port());
    let [three, four] = [3, 4].map(|db| single(RedisManager::new(url(db)).expect("it is a URL")));
    three.set("where", "three").expect("it is written");
    four.set("where", "four").expect("it is written");
    assert_eq!(three.get_value::<String>("where").expect("it is there"), "three");
    assert_eq!((three.manager().database(), three.get().expect("it is idle").get_db()), (3, 3));
    // A `SELECT` ends with the lease.
    three.run(|conn| run(conn, "SELECT 4")).expect("it answers");
    assert_eq!(three.get_value::<String>("where").expect("it is there"), "three");
    assert_eq!(three.stats().opened, 1);
}

/// A state that a session may be left in: how to make it, whether it is there, and whether it takes more than commands about
/// transactions to undo it.
struct State {
    name: &'static str,
    make: fn(&mut RedisConnection),
    there: fn(&mut RedisConnection) -> bool,
    needs_reset: bool,
}

/// Not even `RESET` undoes this one.
const LASTING: &str = "CLIENT NO-EVICT";

fn states() -> Vec<State> {
    fn make(connection: &mut RedisConnection, words: &str) {
        run(connection, words).expect("it answers");
    }
    fn subscribed(connection: &mut RedisConnection) -> bool {
        !session(connection).contains(" sub=0 psub=0 ")
    }
    vec![
        State {
            name: "MULTI",
            make: |connection| make(connection, "MULTI"),
            there: |connection| run(connection, "GET leak").is_ok_and(|reply| format!("{reply:?}").contains("QUEUED")),
            needs_reset: false,
        },
        State {
            name: "WATCH",
            make: |connection| make(connection, "WATCH leak"),
            there: |connection| {
                make(connection, "SET leak 1");
                let done: Option<(String,)> = redis::pipe().atomic().ping().query(connection).expect("it answers");
                done.is_none()
            },
            needs_reset: false,
        },
        State {
            name: "SELECT",
            make: |connection| make(connection, "SELECT 7"),
            there: |connection| session(connection).contains(" db=7 "),
            needs_reset: false,
        },
        State {
            name: "SUBSCRIBE",
            make: |connection| {
                // Over the driver's own connection, and with a message that nobody reads.
                let connection = connection.raw();
                connection.send_packed_command(&cmd("SUBSCRIBE").arg("leak").get_packed_command()).expect("it is sent");
                connection.recv_response().expect("it answers");
            },
            there: |connection| run(connection, "CLIENT INFO").is_err() || subscribed(connection),
            needs_reset: true,
        },
        State {
            name: "as_pubsub",
            make: |connection| connection.as_pubsub().psubscribe("leak*").expect("it answers"),
            there: subscribed,
            needs_reset: true,
        },
        State {
            name: "CLIENT REPLY OFF",
            make: |connection| {
                let silence = cmd("CLIENT").arg("REPLY").arg("OFF").get_packed_command();
                connection.raw().send_packed_command(&silence).expect("it is sent");
            },
            there: |connection| {
                connection.set_read_timeout(Some(SHORT)).expect("it is a time");
                run(connection, "PING").is_err()
            },
            needs_reset: true,
        },
        State {
            name: "CLIENT SETNAME",
            make: |connection| make(connection, "CLIENT SETNAME leak"),
            there: |connection| session(connection).contains(" name=leak "),
            needs_reset: true,
        },
        State {
            name: LASTING,
            make: |connection| make(connection, "CLIENT NO-EVICT ON"),
            there: |connection| {
                let session = session(connection);
                let flags = session.split(' ').find_map(|field| field.strip_prefix("flags="));
                flags.expect("every server tells").contains('e')
            },
            needs_reset: true,
        },
        State {
            name: "CLIENT TRACKING",
            make: |connection| {
                // In RESP2 the messages go to another connection, here to itself.
                let id = number(connection);
                make(connection, &format!("CLIENT TRACKING ON REDIRECT {id}"));
            },
            there: |connection| session(connection).contains(" flags=t"),
            needs_reset: true,
        },
        State {
            name: "AUTH",
            make: |connection| make(connection, "AUTH other other"),
            there: |connection| session(connection).contains(" user=other "),
            needs_reset: true,
        },
        State {
            name: "HELLO",
            make: |connection| {
                let other = if session(connection).contains(" resp=3") { 2 } else { 3 };
                make(connection, &format!("HELLO {other}"));
            },
            there: |connection| {
                let wanted = if connection.get_db() == 2 { " resp=3" } else { " resp=2" };
                // Servers before 7.0 do not tell.
                let session = session(connection);
                session.contains(" resp=") && !session.contains(wanted)
            },
            needs_reset: true,
        },
    ]
}

#[test]
fn nothing_that_a_session_was_left_with_reaches_the_next_user() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    for user in ["app on >s3cr3t ~* &* +@all", "other on >other ~* &* +@all"] {
        run(&mut observer, &format!("ACL SETUSER {user}")).expect("it answers");
    }
    let port = redis.port();
    let urls = [
        format!("redis://127.0.0.1:{port}/1"),
        format!("redis://app:s3cr3t@127.0.0.1:{port}/1"),
        format!("redis://app:s3cr3t@127.0.0.1:{port}/2?protocol=resp3"),
    ];
    for (url, state) in urls.iter().flat_map(|url| states().into_iter().map(move |state| (url, state))) {
        for how in [OnReturn::Reset, OnReturn::Unwatch, OnReturn::Close, OnReturn::Nothing] {
            let pool = single(RedisManager::new(url).expect("it is a URL").on_return(how));
            let mut connection = pool.get().expect("it is idle");
            let before = PooledConnection::id(&connection);
            (state.make)(&mut connection);
            assert!(connection.needs_reset(), "{}", state.name);
            drop(connection);
            let mut connection = pool.get().expect("it came back, or another one did");
            let same = PooledConnection::id(&connection) == before;
            let text = format!("{} with {how:?} over {url}", state.name);
            let is_there = (state.there)(&mut connection);
            match how {
                // The other ways are there to show what they do not do.
                OnReturn::Nothing => {
                    let harmless = state.name == "as_pubsub" || state.name == "HELLO";
                    assert!(same && (is_there || harmless), "the test makes no state: {text}");
                    continue;
                }
                OnReturn::Reset => {
                    assert!(!is_there && same != (state.name == LASTING), "{text}: cleaned, not replaced");
                }
                OnReturn::Unwatch => assert!(!is_there && same != state.needs_reset, "{text}"),
                _ => assert!(!is_there && !same, "{text}"),
            }
            drop(connection);
            let session = pool.run(|connection| Ok(session(connection))).expect("it answers");
            let db = format!(" db={} ", pool.manager().database());
            assert!(session.contains(&db), "{text}: {session}");
            let user = if url.contains("app") { " user=app " } else { " user=default " };
            assert!(session.contains(user), "{text}: {session}");
            assert_whole(&pool, answers);
        }
    }
}

#[test]
fn a_message_that_came_before_the_reset_does_not_reach_the_next_user() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis));
    let mut connection = pool.get().expect("it is idle");
    let subscribe = cmd("SUBSCRIBE").arg("early").get_packed_command();
    connection.raw().send_packed_command(&subscribe).expect("it is sent");
    connection.raw().recv_response().expect("it is confirmed");
    let heard: u32 = observer(redis).publish("early", "message").expect("it answers");
    assert_eq!(heard, 1);
    drop(connection);
    assert_whole(&pool, answers);
    closed(&pool, CloseReason::ResetFailed, 1);
}

#[test]
fn a_reply_that_was_not_read_is_nobody_elses() {
    let Some(redis) = Redis::start() else { return };
    for db in [0, 3] {
        let url = format!("redis://127.0.0.1:{}/{db}", redis.port());
        let leave: [fn(&mut RedisConnection); 4] = [
            // Looks like the beginning of what cleaning is answered.
            |connection| cmd("RESET").set_no_response(true).exec(connection).expect("it is sent"),
            |connection| connection.raw().send_packed_command(&cmd("RESET").get_packed_command()).expect("it is sent"),
            |connection| cmd("INCR").arg("mine").set_no_response(true).exec(connection).expect("it is sent"),
            // Looks as if the server did not know how to clean.
            |connection| cmd("NONSENSE").arg("RESET").set_no_response(true).exec(connection).expect("it is sent"),
        ];
        for (nth, leave) in leave.into_iter().enumerate() {
            let pool = single(RedisManager::new(&url).expect("it is a URL"));
            pool.set("mine", "my value").expect("it is written");
            pool.set("other", "other value").expect("it is written");
            leave(&mut pool.get().expect("it is idle"));
            assert_eq!(pool.get_value::<String>("mine").expect("it is there"), "my value", "{nth} of {db}");
            assert_eq!(pool.get_value::<String>("other").expect("it is there"), "other value", "{nth} of {db}");
            closed(&pool, CloseReason::ResetFailed, 1);
            // RESET is still believed in.
            let opened = pool.stats().opened;
            for _ in 0..3 {
                pool.run(|connection| run(connection, "CLIENT SETNAME leak")).expect("it answers");
            }
            assert_eq!(pool.stats().opened, opened, "{nth} of {db}: cleaned, not replaced");
        }
    }
}

#[test]
fn replies_that_are_fewer_or_more_than_the_requests_end_the_connection() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis));
    pool.set("few:mine", "my value").expect("it is written");
    let packed = redis::pipe().get("few:mine").get("few:other").get_packed_pipeline();
    let ask: [fn(&mut RedisConnection, &[u8]) -> bool; 4] = [
        |connection, packed| connection.req_packed_commands(packed, 0, 1).is_ok(),
        |connection, packed| connection.req_packed_command(packed).is_ok(),
        |connection, packed| {
            connection.set_read_timeout(Some(SHORT)).expect("it is a time");
            connection.req_packed_commands(packed, 0, 3).is_err()
        },
        |connection, packed| {
            let _ = connection.raw();
            connection.req_packed_commands(packed, 1, 0).is_ok()
        },
    ];
    for (nth, ask) in (1..).zip(ask) {
        let mut connection = pool.get().expect("it is idle");
        assert!(ask(&mut connection, &packed), "{nth}");
        cmd("PING").exec(&mut connection).expect_err("nobody knows whose reply is next");
        drop(connection);
        closed(&pool, CloseReason::Broken, nth);
        assert_eq!(pool.get_value::<String>("few:mine").expect("it is there"), "my value");
    }
    let mut connection = pool.get().expect("it is idle");
    assert_eq!(connection.req_packed_commands(&packed, 0, 2).map(|replies| replies.len()), Ok(2));
    answers(&mut connection);
}

#[test]
fn a_user_who_may_not_undo_what_was_left_has_the_connection_closed() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    run(&mut observer, "ACL SETUSER app on >app ~* +@all -discard").expect("it answers");
    let url = format!("redis://app:app@127.0.0.1:{}", redis.port());
    let pool = single(RedisManager::new(url).expect("it is a URL").on_return(OnReturn::Unwatch));
    pool.run(|connection| run(connection, "MULTI")).expect("it answers");
    assert_eq!(pool.get_value::<Option<String>>("k").expect("it is in no transaction"), None);
    closed(&pool, CloseReason::ResetFailed, 1);
    assert_whole(&pool, answers);
}

#[test]
fn a_return_costs_a_round_trip_only_when_something_was_left_behind() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool = single(manager(&redis));
    pool.set("k", 1).expect("it is written");
    pool.pipeline::<()>(redis::pipe().atomic().incr("k", 1).ignore().get("k").ignore()).expect("both are done");
    pool.script::<()>(&Script::new("return 1").prepare_invoke()).expect("it runs");
    let before = calls(&mut observer, "reset");
    for _ in 0..10 {
        pool.set("k", 1).expect("it is written");
        pool.pipeline::<()>(redis::pipe().atomic().incr("k", 1).ignore().get("k").ignore()).expect("both are done");
        pool.script::<()>(&Script::new("return 1").prepare_invoke()).expect("it runs");
        // Watches, and ends it.
        let sum: i64 = pool
            .run(|connection| {
                redis::transaction(connection, &["k"], |connection, pipe| {
                    let now: i64 = connection.get("k")?;
                    let done: Option<(i64,)> = pipe.incr("k", now).query(connection)?;
                    Ok(done.map(|(sum,)| sum))
                })
            })
            .expect("nobody else writes");
        assert_eq!(sum, 4);
        // Refused commands leave nothing either.
        pool.query::<()>(cmd("HGET").arg("k").arg("f")).expect_err("it is no hash");
    }
    assert_eq!(calls(&mut observer, "reset"), before, "nothing was left behind");
    pool.query::<()>(cmd("WATCH").arg("k")).expect("it answers");
    assert_eq!(calls(&mut observer, "reset"), before + 1);
    // Half a transaction: the server has refused one of its commands, so the end of it is looked at more closely.
    pool.pipeline::<()>(redis::pipe().atomic().cmd("NONSENSE")).expect_err("there is no such command");
    assert_eq!(calls(&mut observer, "reset"), before + 2);
    assert_eq!(pool.stats().opened, 1);
}

#[test]
fn a_transaction_that_is_refused_says_which_command_was_the_cause() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis));
    let error = pool
        .pipeline::<()>(redis::pipe().atomic().cmd("SET").arg("k").arg(1).cmd("NONSENSE").arg(2))
        .expect_err("there is no such command");
    let Error::Redis(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), redis::ErrorKind::Server(redis::ServerErrorKind::ExecAbort));
    assert!(error.to_string().contains("Index 1, error") && error.to_string().contains("NONSENSE"), "{error}");
    assert_whole(&pool, answers);
}

#[test]
fn a_select_within_a_script_ends_with_the_script() {
    // What the list of harmless commands relies on.
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis).on_return(OnReturn::Nothing));
    let script = Script::new("redis.setresp(3); redis.call('SELECT', 5); return redis.call('SET', 'k', 'v')");
    pool.script::<()>(&script.prepare_invoke()).expect("it runs");
    let session = pool.run(|connection| Ok(session(connection))).expect("it answers");
    assert!(session.contains(" db=0 "), "{session}");
}

#[test]
fn a_server_that_does_not_know_reset_is_asked_once() {
    let Some(redis) = Redis::without_reset() else { return };
    let url = format!("redis://127.0.0.1:{}/1", redis.port());
    let pool = single(RedisManager::new(url).expect("it is a URL"));
    let mut observer = observer(&redis);
    pool.run(|connection| run(connection, "SELECT 5")).expect("it answers");
    let refused = refusals(&mut observer);
    for words in ["SELECT 5", "WATCH k", "MULTI"] {
        for _ in 0..5 {
            pool.run(|connection| run(connection, words)).expect("it answers");
            // Elsewhere it would not be there, and in a transaction it would be queued.
            pool.set("k", words).expect("it is written");
        }
    }
    assert_eq!(pool.stats().opened, 1, "cleaned, not replaced");
    assert_eq!(refusals(&mut observer), refused, "it has refused once, and was not asked again");
    run(&mut observer, "SELECT 5").expect("it answers");
    assert_eq!(observer.exists("k"), Ok(false));
    // What only RESET would undo is closed, and not kept.
    pool.run(|connection| run(connection, "CLIENT SETNAME leak")).expect("it answers");
    closed(&pool, CloseReason::ResetFailed, 1);
    assert_whole(&pool, answers);
}

/// How many commands the server did not know or did not run, over all.
fn refusals(observer: &mut Connection) -> u64 {
    let stats: String = cmd("INFO").arg("errorstats").query(observer).expect("it answers");
    let count = stats.lines().find_map(|line| line.strip_prefix("errorstat_ERR:count=")?.parse().ok());
    count.expect("RESET was refused")
}

#[test]
fn nobody_waits_behind_a_reply_that_did_not_come_in_time() {
    let Some(redis) = Redis::shared() else { return };
    let manager = manager(redis).read_timeout(Some(SHORT)).reset_timeout(SHORT);
    let pool: RedisPool = builder(manager).max_size(1).build().expect("the server is up").into();
    // Without end: who waited behind this reply would wait for ever.
    let forever = cmd("BLPOP").arg("nothing").arg(0).clone();
    let error = pool.query::<()>(&forever).expect_err("nothing comes");
    assert!(error.is_timeout(), "{error}");
    closed(&pool, CloseReason::Broken, 1);
    pool.with(answers).expect("another connection");

    // The same where the borrower used the driver's own connection, which nobody sees: the reset finds out.
    let mut connection = pool.get().expect("it is idle");
    let error = forever.exec(connection.raw()).expect_err("nothing comes");
    assert!(error.is_timeout() && connection.is_open(), "the driver does not mind");
    drop(connection);
    closed(&pool, CloseReason::ResetFailed, 1);
    pool.with(answers).expect("another connection");

    // And in a pipeline, after which not even its own user may go on: the replies would be another command's.
    let mut connection = pool.get().expect("it is idle");
    let mut pipe = redis::pipe();
    pipe.add_command(forever).cmd("ECHO").arg("late");
    assert!(pipe.exec(&mut connection).expect_err("nothing comes").is_timeout());
    let error = cmd("PING").exec(&mut connection).expect_err("it is not used any more");
    assert!(error.is_connection_dropped() && !connection.is_open(), "{error}");
    drop(connection);
    closed(&pool, CloseReason::Broken, 2);
    assert_whole(&pool, answers);
}

#[test]
fn a_late_reply_is_not_mistaken_for_another_by_who_goes_on() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis).read_timeout(Some(SHORT)));
    let mut connection = pool.get().expect("it is idle");
    let error = cmd("BLPOP").arg("late").arg(0).exec(&mut connection).expect_err("nothing comes");
    assert!(error.is_timeout());
    let _: () = observer(redis).rpush("late", "reply").expect("it answers");
    answers(&mut connection);
    drop(connection);
    closed(&pool, CloseReason::Broken, 1);
}

#[test]
fn a_pipeline_to_a_server_that_hangs_waits_once_and_not_for_each_reply() {
    let Some(redis) = Redis::start() else { return };
    let pool = single(manager(&redis).read_timeout(Some(SHORT)));
    let mut pipe = redis::pipe();
    for _ in 0..50 {
        pipe.cmd("PING").ignore();
    }
    redis.stop();
    let begun = Instant::now();
    let error = pool.pipeline::<()>(&pipe).expect_err("it hangs");
    let took = begun.elapsed();
    redis.cont();
    assert!(error.is_timeout(), "{error}");
    // redis-rs alone waits 50 times.
    assert!(took < 25 * SHORT, "{took:?}");
    assert_whole(&pool, answers);
}

#[test]
fn connecting_to_a_server_that_hangs_waits_once_and_not_for_each_reply() {
    let Some(redis) = Redis::start() else { return };
    let url = format!("redis://:s3cr3t@127.0.0.1:{}/1", redis.port());
    let manager = RedisManager::new(url.as_str()).expect("it is a URL").connect_timeout(Some(SHORT));
    let driver = Client::open(url).expect("it is a URL");
    redis.stop();
    let begun = Instant::now();
    let error = manager.connect().map(drop).expect_err("it hangs");
    let took = begun.elapsed();
    let begun = Instant::now();
    driver.get_connection_with_timeout(SHORT).map(drop).expect_err("it hangs");
    let alone = begun.elapsed();
    redis.cont();
    assert!(error.is_timeout(), "{error}");
    println!("{took:?}, and the driver by itself {alone:?}");
    assert!(2 * took < alone, "{took:?}, and the driver by itself {alone:?}");
}

#[test]
fn time_outs_of_one_borrower_are_not_the_next_ones() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis));
    let mut connection = pool.get().expect("it is idle");
    let id = PooledConnection::id(&connection);
    connection.set_read_timeout(Some(Duration::from_millis(1))).expect("it is a time");
    connection.set_write_timeout(Some(Duration::from_millis(1))).expect("it is a time");
    drop(connection);
    let mut connection = pool.get().expect("it came back");
    assert_eq!(PooledConnection::id(&connection), id);
    // Longer than the last one's time, much shorter than one's own.
    let nothing: Option<(String, String)> =
        cmd("BLPOP").arg("nothing").arg(0.1).query(&mut connection).expect("in time");
    assert_eq!(nothing, None);
    assert!(connection.set_read_timeout(Some(Duration::ZERO)).is_err(), "an error and no panic");
}

/// Makes a replica of the server: of one that is not there, so that it stays alone.
fn demote(observer: &mut Connection) {
    run(observer, "REPLICAOF 127.0.0.1 1").expect("it answers");
}

fn promote(observer: &mut Connection) {
    run(observer, "REPLICAOF NO ONE").expect("it answers");
}

/// The server's numbers of the pool's connections.
fn clients(observer: &mut Connection) -> HashSet<u64> {
    let mine: u64 = cmd("CLIENT").arg("ID").query(observer).expect("it answers");
    let list: String = cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal").query(observer).expect("it answers");
    let numbers = list.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok());
    numbers.filter(|&number| number != mine).collect()
}

#[test]
fn after_one_write_met_a_demoted_server_nobody_gets_a_connection_of_before() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool: RedisPool = builder(manager(&redis)).max_size(4).build().expect("the server is up").into();
    fill(&pool);
    let mut held = pool.get().expect("it is idle");
    demote(&mut observer);
    assert_eq!(pool.get_value::<Option<String>>("k").expect("a replica can be read"), None);
    let error = pool.set("k", 1).expect_err("a replica cannot be written");
    assert!(matches!(&error, Error::Redis(error) if error.code() == Some("READONLY")), "{error}");
    promote(&mut observer);
    let last = (1..=4).max().expect("four");
    for _ in 0..8 {
        let connection = pool.get().expect("others are opened");
        assert!(PooledConnection::id(&connection) > last, "one of before");
    }
    // One that was out meanwhile is closed when it comes back, though nothing went wrong on it.
    let old = number(&mut held);
    drop(held);
    pool.set("k", 1).expect("it is written");
    assert_whole(&pool, answers);
    let asked = Instant::now();
    while clients(&mut observer).contains(&old) {
        assert!(asked.elapsed() < PATIENCE, "it is not closed");
        thread::yield_now();
    }
    assert_eq!(pool.stats().closed.total(), 4);
}

#[test]
fn what_is_bound_after_a_demotion_is_none_of_before() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool: RedisPool = builder(manager(&redis)).max_size(2).build().expect("the server is up").into();
    fill(&pool);
    let before = clients(&mut observer);
    demote(&mut observer);
    pool.set("k", 1).expect_err("a replica cannot be written");
    promote(&mut observer);
    let bound = pool.bind().expect("another is opened");
    let number = bound.with(number).expect("nobody else has it");
    assert!(!before.contains(&number), "{number} is one of {before:?}");
}

#[test]
fn a_scripts_own_error_is_no_demotion() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis));
    let script = Script::new("return redis.error_reply('READONLY mine')");
    pool.script::<()>(&script.prepare_invoke()).expect_err("it says so");
    pool.with(answers).expect("it is idle");
    assert_eq!(pool.stats().opened, 1);
}

#[test]
fn without_the_pool_of_its_own_the_check_finds_the_connections_of_before() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool = builder(manager(&redis)).max_size(4).validation(Validation::Always);
    let pool = pool.build().expect("the server is up");
    fill(&pool);
    demote(&mut observer);
    let refused: RedisResult<()> = pool.with(|connection| connection.set("k", 1)).expect("it is idle");
    assert_eq!(refused.expect_err("it is a replica").code(), Some("READONLY"));
    promote(&mut observer);
    for _ in 0..8 {
        let connection = pool.get().expect("others are opened");
        assert!(PooledConnection::id(&connection) > 4, "one of before");
    }
    assert_whole(&pool, answers);
}

#[test]
fn who_goes_on_writing_to_a_replica_does_not_make_the_pool_reconnect_each_time() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool: RedisPool = builder(manager(&redis)).max_size(4).build().expect("the server is up").into();
    fill(&pool);
    demote(&mut observer);
    let begun = Instant::now();
    for _ in 0..500 {
        // In a transaction, too, the refusal is seen.
        pool.pipeline::<()>(redis::pipe().atomic().incr("k", 1).ignore()).expect_err("it is a replica");
    }
    let opened = pool.stats().opened;
    let most = 4 * (2 + begun.elapsed().as_secs());
    println!("500 refused writes, {opened} connections opened");
    assert!(opened > 4, "nobody has noticed");
    assert!(opened <= most, "{opened} connections for 500 refused writes");
    promote(&mut observer);
    pool.set("k", 1).expect("it is written");
}

#[test]
fn a_pool_of_primaries_has_no_connection_to_a_replica() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let pool = builder(manager(&redis).check(Check::Primary)).max_size(4).validation(Validation::Always);
    let pool: RedisPool = pool.build().expect("it is a primary").into();
    fill(&pool);
    demote(&mut observer);
    let error = pool.get_timeout(SHORT).map(drop).expect_err("nobody has written anything, and yet");
    assert_eq!(cause(&error).kind(), redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly), "{error:?}");
    promote(&mut observer);
    pool.set("k", 1).expect("it is a primary again");
    assert_whole(&pool, answers);
}

#[test]
fn a_pool_of_replicas_takes_a_refused_write_for_a_mistake() {
    let Some(redis) = Redis::start() else { return };
    demote(&mut observer(&redis));
    let pool = single(manager(&redis).replica(true));
    for _ in 0..3 {
        pool.set("k", 1).expect_err("it is a replica");
    }
    assert_eq!(pool.stats().opened, 1);
    assert_whole(&pool, answers);
}

#[test]
fn connections_that_the_server_killed_are_replaced() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    let kill = "CLIENT KILL TYPE normal SKIPME yes";
    let pool = builder(manager(&redis)).max_size(4).validation(Validation::Always);
    let pool: RedisPool = pool.build().expect("the server is up").into();
    fill(&pool);
    run(&mut observer, kill).expect("it answers");
    pool.set("k", 1).expect("the check has found them");
    let mut connection = pool.get().expect("it is idle");
    run(&mut observer, kill).expect("it answers");
    let error = cmd("PING").exec(&mut connection).expect_err("it was killed");
    assert!(error.is_connection_dropped(), "{error}");
    drop(connection);
    closed(&pool, CloseReason::Broken, 1);
    assert_whole(&pool, answers);
}

#[test]
fn who_logs_out_does_not_log_out_the_next_one() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    run(&mut observer, "ACL SETUSER app on >s3cr3t ~* +@all").expect("it answers");
    run(&mut observer, "CONFIG SET requirepass s3cr3t").expect("it answers");
    let url = format!("redis://app:s3cr3t@127.0.0.1:{}", redis.port());
    let pool = single(RedisManager::new(url).expect("it is a URL"));
    pool.run(|connection| run(connection, "RESET")).expect("it answers");
    let session = pool.run(|connection| Ok(session(connection))).expect("it answers");
    assert!(session.contains(" user=app "), "{session}");
    assert_eq!(pool.stats().opened, 1, "cleaned, not replaced");
}

#[test]
fn what_will_not_work_however_often_it_is_tried_fails_at_once_and_names_no_secret() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    run(&mut observer, "ACL SETUSER mute on >s3cr3t ~* +@all -ping").expect("it answers");
    run(&mut observer, "CONFIG SET requirepass right").expect("it answers");
    let at = format!("127.0.0.1:{}", redis.port());
    for (url, said) in [
        (format!("redis://:s3cr3t@{at}"), "WRONGPASS"),
        (format!("redis://nobody:s3cr3t@{at}"), "WRONGPASS"),
        (format!("redis://:s3cr3t@{at}?protocol=resp3"), "WRONGPASS"),
        (format!("redis://{at}"), "NOAUTH"),
        (format!("redis://{at}/3"), "NOAUTH"),
        (format!("redis://{at}?protocol=resp3"), "NOAUTH"),
        (format!("redis://:right@{at}/99"), "99: DB index is out of range"),
        (format!("redis://:right@{at}/99?protocol=resp3"), "99: DB index is out of range"),
        (format!("redis://mute:s3cr3t@{at}"), "no permissions"),
    ] {
        let manager = RedisManager::new(&url).expect("it is a URL");
        let mut shown = format!("{manager:?}");
        let pool = builder(manager).name(&url).max_size(2).build_lazy().expect("nothing is opened");
        let begun = Instant::now();
        let error = pool.get().map(drop).expect_err("the server refuses");
        assert!(begun.elapsed() < PATIENCE / 2, "{url}: it was tried until the end");
        assert_eq!(error.kind(), ErrorKind::Connect, "{url}");
        assert!(cause(&error).to_string().contains(said), "{url}: {}", cause(&error));
        let error = Error::from(error);
        shown += &format!("{pool:?} {error} {error:?} {}", error.source().expect("the driver's error"));
        assert!(!shown.contains("s3cr3t") && !shown.contains("right"), "{shown}");
    }
    // What was refused may be allowed later, and the pool lives on.
    let pool = builder(RedisManager::new(format!("redis://{at}")).expect("it is a URL")).max_size(2);
    let pool = pool.build_lazy().expect("nothing is opened");
    pool.get().map(drop).expect_err("it wants a password");
    cmd("AUTH").arg("right").exec(&mut observer).expect("it answers");
    cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec(&mut observer).expect("it answers");
    let asked = Instant::now();
    while pool.get().is_err() {
        assert!(asked.elapsed() < PATIENCE, "it is never tried again");
    }
    assert_whole(&pool, answers);
}

#[test]
fn a_login_without_need_is_refused_by_the_server_and_told() {
    let Some(redis) = Redis::shared() else { return };
    let url = format!("redis://:s3cr3t@127.0.0.1:{}", redis.port());
    let error = RedisPool::new(url).expect_err("the server has no password");
    let Error::Pool(error) = error else { panic!("{error:?}") };
    assert!(cause(&error).to_string().contains("without any password"), "{}", cause(&error));
}

/// Something that listens and is no Redis server, until it is told to be one.
struct Liar {
    port: u16,
    honest: Arc<AtomicBool>,
}

impl Liar {
    fn saying(words: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let honest = Arc::new(AtomicBool::new(false));
        let when = Arc::clone(&honest);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let when = Arc::clone(&when);
                thread::spawn(move || {
                    let mut request = [0; 1024];
                    while stream.read(&mut request).is_ok_and(|n| n > 0) {
                        // Greetings of this pool are `CLIENT SETINFO` and `PING`, later checks `PING` alone.
                        let greeting = String::from_utf8_lossy(&request).contains("SETINFO");
                        request.fill(0);
                        let answer: &[u8] = match (when.load(SeqCst), greeting) {
                            (false, _) => words,
                            (true, true) => b"+OK\r\n+PONG\r\n",
                            (true, false) => b"+PONG\r\n",
                        };
                        if answer.is_empty() || stream.write_all(answer).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, honest }
    }
}

#[test]
fn a_server_that_answers_nonsense_is_an_error_and_the_pool_lives_on() {
    for words in [
        &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>"[..],
        b"220 mail.example ESMTP\r\n",
        b"\x16\x03\x01\x00\x2e\x01",
        b"\0\0\0\0\0\0\0\0",
        b"+OK\r\n+QUEUED\r\n",
        b"+OK\r\n:1\r\n",
        b"+OK\r\n*1\r\n*1\r\n*1\r\n+PONG\r\n",
        b"$99999999999999999999\r\n",
        b"*-7\r\n",
        b"-\r\n-\r\n",
        b">2\r\n+message\r\n+x\r\n",
        b"",
    ] {
        let liar = Liar::saying(words);
        let what = String::from_utf8_lossy(words);
        for protocol in ["resp2", "resp3"] {
            let url = format!("redis://127.0.0.1:{}?protocol={protocol}", liar.port);
            let manager = RedisManager::new(url).expect("it is a URL").connect_timeout(Some(SHORT / 8));
            let pool = builder(manager).max_size(2).build_lazy().expect("nothing is opened");
            let error = (0..7)
                .find_map(|n| {
                    Some(pool.get_timeout(SHORT / 4 * 2_u32.pow(n)).map(drop).expect_err(&what))
                        .filter(|e| e.source().is_some())
                })
                .expect("what it says is told");
            assert_eq!(error.kind(), ErrorKind::Connect, "{what:?}");
            println!("{what:?}: {}", cause(&error));
            if protocol == "resp2" {
                liar.honest.store(true, SeqCst);
                assert_whole(&pool, answers);
                liar.honest.store(false, SeqCst);
            }
        }
    }
}

#[test]
fn a_busy_server_is_waited_for() {
    let Some(redis) = Redis::start() else { return };
    let mut observer = observer(&redis);
    run(&mut observer, "CONFIG SET maxclients 2").expect("it answers");
    let other = self::observer(&redis);
    let pool = builder(manager(&redis)).max_size(2).build_lazy().expect("nothing is opened");
    let error = pool.get_timeout(5 * SHORT).map(drop).expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::Connect);
    // It says so and hangs up.
    assert!(cause(&error).to_string().contains("max number of clients"), "{}", cause(&error));
    drop(other);
    pool.get_timeout(PATIENCE).map(drop).expect("one has left");
}

#[test]
fn a_server_that_takes_nobody_from_here_says_so_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // As Redis in protected mode: before it has read anything, and then it hangs up.
            drop(stream.write_all(b"-DENIED Redis is running in protected mode\r\n"));
        }
    });
    let manager = RedisManager::new(format!("redis://127.0.0.1:{port}")).expect("it is a URL");
    let pool = builder(manager).build_lazy().expect("nothing is opened");
    let begun = Instant::now();
    let error = pool.get().map(drop).expect_err("it takes nobody");
    assert!(begun.elapsed() < PATIENCE / 2, "it was tried until the end");
    assert_eq!(cause(&error).code(), Some("DENIED"), "{}", cause(&error));
}

#[test]
fn messages_without_end_do_not_hold_up_a_return() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the pool comes");
        let mut request = [0; 1024];
        for answer in [&b"+OK\r\n+PONG\r\n"[..], b"+OK\r\n"] {
            let _ = stream.read(&mut request).expect("it asks");
            stream.write_all(answer).expect("it listens");
        }
        // The rest are pushes and no replies, until it hangs up.
        while stream.write_all(b">2\r\n+message\r\n+x\r\n").is_ok() {}
    });
    let manager = RedisManager::new(format!("redis://127.0.0.1:{port}")).expect("it is a URL");
    let pool: RedisPool = builder(manager.reset_timeout(SHORT)).max_size(1).build().expect("it answers").into();
    let (done, returned) = std::sync::mpsc::channel();
    let user = pool.clone();
    thread::spawn(move || {
        user.run(|connection| run(connection, "WATCH k")).expect("it answers");
        done.send(()).expect("the test waits");
    });
    returned.recv_timeout(PATIENCE).expect("it came back");
    closed(&pool, CloseReason::ResetFailed, 1);
    server.join().expect("it hung up");
}

#[test]
fn a_panic_inside_of_a_transaction_reaches_nobody() {
    let Some(redis) = Redis::shared() else { return };
    let pool = single(manager(redis));
    let panicked = thread::scope(|scope| {
        let user = scope.spawn(|| {
            pool.run::<()>(|connection| {
                run(connection, "MULTI")?;
                std::panic::resume_unwind(Box::new("a bug in the user's code"))
            })
        });
        user.join().is_err()
    });
    assert!(panicked);
    closed(&pool, CloseReason::Panicked, 1);
    assert_whole(&pool, answers);
}
