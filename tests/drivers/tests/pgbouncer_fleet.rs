//! Ten processes with pools of twenty connections each, before a PostgreSQL that takes eight: through a PgBouncer that
//! pools by transaction all of them get their work done, nobody is stuck, and no error reaches a caller.
//!
//! Each process is this program, started once more.

#![allow(clippy::print_stdout, reason = "a test without a harness tells by itself")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use millpond::{Pool, R2d2, Validation, reset, scaling::Fleet};
use millpond_drivers::{PgBouncer, Postgres};
use postgres::{
    Client, Error, GenericClient, NoTls,
    types::{ToSql, Type},
};
use r2d2_postgres::PostgresConnectionManager;

type FleetPool = Pool<R2d2<PostgresConnectionManager<NoTls>>>;

const PROCESSES: u32 = 10;
const THREADS: u32 = 20;
/// What each thread writes: half of it as single statements, half in transactions of two.
const ROWS: i32 = 20;
/// What the server takes, and how much of that is left to others.
const SERVER_LIMIT: u32 = 8;
const RESERVED: u32 = 3;

const URL: &str = "MILLPOND_FLEET_URL";
const NUMBER: &str = "MILLPOND_FLEET_NUMBER";

fn main() {
    match (env::var(URL), env::var(NUMBER)) {
        (Ok(url), Ok(number)) => work(&url, number.parse().expect("the parent has written it")),
        _ => ten_processes_of_twenty_connections_share_five(),
    }
}

fn fleet() -> Fleet {
    Fleet::new(PROCESSES, SERVER_LIMIT).reserved(RESERVED).threads_per_process(THREADS).rolling(0)
}

fn ten_processes_of_twenty_connections_share_five() {
    let error = fleet().plan().expect_err("without a pooler there is no room for them");
    assert!(error.to_string().contains("PgBouncer"), "{error}");
    let plan = fleet().pgbouncer(1).plan().expect("with one there is");
    let settings = plan.pgbouncer().expect("it was asked for");
    let five = SERVER_LIMIT - RESERVED;
    assert_eq!((plan.max_size(), settings.default_pool_size()), (THREADS, five));

    let Some(postgres) = Postgres::start_with(&format!("max_connections = {SERVER_LIMIT}")) else { return };
    let Some(bouncer) = PgBouncer::start_with(&postgres, &settings.to_string()) else { return };
    let mut observer = Client::connect(&postgres.url(), NoTls).expect("the server answers");
    observer.batch_execute("CREATE TABLE work (process INT, thread INT, row INT)").expect("it is a new table");

    // All are there, with all their threads, before the first begins.
    let mut workers: Vec<_> = (0..PROCESSES).map(|number| Worker::start(&bouncer.url(), number)).collect();
    workers.iter_mut().for_each(|worker| assert_eq!(worker.hear(), "ready"));
    workers.iter_mut().for_each(|worker| worker.tell("begin"));
    let told: Vec<_> = workers.iter_mut().map(Worker::hear).collect();
    let most = told.iter().map(|line| {
        let (most, failures) = line.split_once(' ').expect("two numbers");
        assert_eq!(failures, "0", "no error reaches a caller");
        most.parse::<i64>().expect("a number")
    });
    let most = most.max().expect("ten of them");
    // While they still hold their pools, full as those are.
    let count = "SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let now: i64 = observer.query_one(count, &[]).expect("it answers").get(0);
    assert!(now <= i64::from(five) && most <= i64::from(five), "{now} and {most} server connections of {five}");
    workers.into_iter().for_each(Worker::end);

    let row = observer.query_one("SELECT count(*), count(DISTINCT (process, thread, row)) FROM work", &[]);
    let row = row.expect("it answers");
    let all = i64::from(PROCESSES) * i64::from(THREADS) * i64::from(ROWS);
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (all, all), "each row once");
    println!("{PROCESSES} processes of {THREADS} threads over {five} server connections: {all} rows, most {most}: ok");
}

/// One of the processes. Ends when its input ends, so that it does not outlive this one.
struct Worker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Worker {
    fn start(url: &str, number: u32) -> Self {
        let mut child = Command::new(env::current_exe().expect("a program has a path"))
            .envs([(URL, url), (NUMBER, &number.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it is text");
        assert!(!line.is_empty(), "it has ended: {:?}", self.child.wait());
        line.trim().to_owned()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().expect("it is piped"), "{word}").expect("it listens");
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "{status}");
    }
}

/// What a process of the fleet does. Says `ready`, waits for a word, does its work, says the largest number of server
/// connections that it has seen and the number of its errors, and stays until its input ends.
fn work(url: &str, number: i32) {
    let plan = fleet().pgbouncer(1).plan().expect("the parent has made the same one");
    let manager = PostgresConnectionManager::new(url.parse().expect("it is a URL"), NoTls);
    // The recipe of docs/scaling.md; the time is for two cores that two hundred threads share.
    let pool = plan
        .apply(Pool::builder(manager))
        .connection_timeout(Duration::from_secs(60))
        .validation(Validation::IfIdleFor(Duration::from_secs(60)))
        .idle_timeout(Some(Duration::from_secs(240)))
        .on_return(reset::postgres::rollback)
        .build()
        .expect("PgBouncer is up");
    drop(pool.get_many(THREADS as usize).expect("each thread can have one"));
    println!("ready");
    assert!(parent_says_a_word());

    let pool = &pool;
    let results: Vec<_> = thread::scope(|scope| {
        let start = |thread| scope.spawn(move || write(pool, number, thread));
        let threads: Vec<_> = (0..THREADS as i32).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let failures = results.iter().filter(|result| result.is_err()).count();
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("process {number}: {error}");
    }
    println!("{} {failures}", results.iter().flatten().max().unwrap_or(&0));
    assert!(!parent_says_a_word(), "the end of the input is the end of this");
}

/// Waits for a line of the input, or for its end.
fn parent_says_a_word() -> bool {
    std::io::stdin().read_line(&mut String::new()).expect("it is text") > 0
}

/// Writes the rows of one thread; returns how many server connections there were in the middle of it.
fn write(pool: &FleetPool, process: i32, thread: i32) -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
    // One of them is the parent's own.
    let others = "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let mut seen = 0;
    for row in 0..ROWS / 2 {
        let mut client = pool.get()?;
        insert(&mut *client, [process, thread, row])?;
        let mut transaction = client.transaction()?;
        insert(&mut transaction, [process, thread, row + ROWS / 2])?;
        if row == ROWS / 4 {
            seen = transaction.query_typed_one(others, &[])?.get(0);
        }
        transaction.commit()?;
    }
    Ok(seen)
}

/// By a statement without a name: a prepared one would be on another server connection when it is executed.
fn insert(client: &mut impl GenericClient, row: [i32; 3]) -> Result<(), Error> {
    let [process, thread, row] = row.each_ref().map(|value| (value as &(dyn ToSql + Sync), Type::INT4));
    client.query_typed("INSERT INTO work VALUES ($1, $2, $3)", &[process, thread, row]).map(drop)
}
