//! The harness itself: servers end with the test process, and the proxy does
//! what its modes say.

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use millpond_drivers::{MariaDb, Mode, PATIENCE, PgBouncer, Postgres, Proxy, Redis, Server};

/// Set in the process that is to die while it holds servers.
const ROLE: &str = "MILLPOND_HARNESS_ROLE";

fn answers(server: &Server) -> bool {
    TcpStream::connect(server.addr()).is_ok()
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is dead; who should collect it is not our concern.
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn killed_and_restarted(server: &Server) {
    let first = server.pid().expect("it runs");
    assert!(runs(first));
    server.kill();
    assert!(!runs(first) && server.pid().is_none());
    assert!(!answers(server));
    server.restart();
    assert!(answers(server));
    let second = server.pid().expect("it runs again");
    assert_ne!(first, second);
}

#[test]
fn redis_is_killed_and_comes_back_on_its_port() {
    let Some(redis) = Redis::start() else { return };
    killed_and_restarted(&redis);
    let pid = redis.pid().expect("it runs");
    drop(redis);
    assert!(!runs(pid));
}

#[test]
fn postgres_and_pgbouncer_are_killed_and_come_back_on_their_ports() {
    let Some(postgres) = Postgres::start() else { return };
    let mut client = connect(&postgres.url());
    let row = client.query_one("SELECT pg_backend_pid()", &[]);
    let backend = row.expect("a fresh connection answers").get::<_, i32>(0);
    let backend = u32::try_from(backend).expect("a process id");
    assert!(runs(backend));
    killed_and_restarted(&postgres);
    assert!(!runs(backend), "backends go with their postmaster");
    connect(&postgres.url());
    let Some(bouncer) = PgBouncer::start(&postgres) else { return };
    killed_and_restarted(&bouncer);
    connect(&bouncer.url());
}

fn connect(url: &str) -> postgres::Client {
    postgres::Client::connect(url, postgres::NoTls).expect("the server answers")
}

#[test]
fn mariadb_is_killed_and_comes_back_on_its_port() {
    let Some(mariadb) = MariaDb::start() else { return };
    killed_and_restarted(&mariadb);
    let mut client = mysql::Conn::new(mariadb.url().as_str()).expect("the server answers");
    client.ping().expect("a fresh connection answers");
}

#[test]
fn a_suspended_server_accepts_and_does_not_answer() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = TcpStream::connect(redis.addr()).expect("it listens");
    redis.stop();
    stream.write_all(b"PING\r\n").expect("the kernel takes it");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
    let mut answer = [0; 5];
    let error = stream.read_exact(&mut answer).expect_err("it is suspended");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(answers(&redis), "the kernel accepts for it");
    redis.cont();
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.read_exact(&mut answer).expect("it goes on where it stopped");
    assert_eq!(&answer, b"+PONG");
}

/// The process under test of the next one: holds servers and waits to be killed.
#[test]
fn helper_that_holds_a_server_until_it_is_killed() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    let held = Redis::start();
    let shared = Redis::shared();
    let pids = held.as_ref().and_then(|held| held.pid()).zip(shared.and_then(|s| s.pid()));
    let (first, second) = pids.expect("the parent has seen that redis is there");
    let line = format!("pids {first} {second}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("the parent reads it");
    thread::sleep(PATIENCE);
}

#[test]
fn no_server_outlives_a_test_process_that_is_killed() {
    if Redis::start().is_none() {
        return;
    }
    let mut child = Command::new(env::current_exe().expect("it runs"))
        .args(["--exact", "helper_that_holds_a_server_until_it_is_killed", "--nocapture"])
        .env(ROLE, "child")
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs again");
    let mut output = child.stdout.take().expect("it was asked for");
    let mut text = String::new();
    let mut byte = [0];
    let pids = loop {
        output.read_exact(&mut byte).expect("it prints its servers' numbers");
        text.push(char::from(byte[0]));
        if let Some((_, line)) = text.split_once("pids ")
            && let Some(numbers) = line.strip_suffix('\n')
        {
            break numbers.split(' ').map(|n| n.parse().expect("a number")).collect::<Vec<u32>>();
        }
    };
    assert!(pids.iter().all(|&pid| runs(pid)));
    child.kill().expect("it sleeps");
    child.wait().expect("it is ours");
    let killed = Instant::now();
    while pids.iter().any(|&pid| runs(pid)) {
        assert!(killed.elapsed() < PATIENCE, "a server outlived its test");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process under test of the next one: runs where there is no `redis-server`.
#[test]
fn helper_that_finds_no_server() {
    if env::var_os(ROLE).is_some() {
        assert!(Redis::start().is_none());
    }
}

#[test]
fn a_server_that_is_not_installed_is_skipped_aloud_or_required() {
    let run = |required| {
        Command::new(env::current_exe().expect("it runs"))
            .args(["--exact", "helper_that_finds_no_server"])
            .env(ROLE, "child")
            .env("PATH", "/nowhere")
            .env("MILLPOND_REQUIRE_SERVERS", required)
            .output()
            .expect("this program runs again")
    };
    let skipped = run("0");
    assert!(skipped.status.success());
    let text = String::from_utf8_lossy(&skipped.stderr).into_owned();
    assert!(text.lines().any(|line| line == "skipped: no redis-server"), "{text}");
    assert!(!run("1").status.success(), "what is required must be there");
}

/// A server that sends everything back.
fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let addr = listener.local_addr().expect("a bound socket has one");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    addr
}

fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"x")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

fn through(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

#[test]
fn the_proxy_passes_delays_and_counts() {
    let proxy = Proxy::to(echo());
    let mut stream = through(&proxy);
    assert_eq!(ask(&mut stream).expect("it passes"), b'x');
    let delay = Duration::from_millis(40);
    proxy.set(Mode::Delay(delay));
    let asked = Instant::now();
    assert_eq!(ask(&mut stream).expect("it passes"), b'x');
    assert!(asked.elapsed() >= delay * 2, "once in each direction");
    proxy.set(Mode::Pass);
    ask(&mut through(&proxy)).expect("it passes");
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn the_proxy_refuses_new_connections_and_keeps_its_port() {
    let proxy = Proxy::to(echo());
    let mut open = through(&proxy);
    ask(&mut open).expect("it passes");
    for _ in 0..20 {
        proxy.set(Mode::Refuse);
        let error = TcpStream::connect(("127.0.0.1", proxy.port())).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        ask(&mut open).expect("an open connection goes on");
        proxy.set(Mode::Pass);
        ask(&mut through(&proxy)).expect("it passes again");
    }
    assert_eq!(proxy.accepted(), 21);
}

#[test]
fn the_proxy_resets_open_and_new_connections() {
    let proxy = Proxy::to(echo());
    let mut open = through(&proxy);
    ask(&mut open).expect("it passes");
    proxy.set(Mode::Reset);
    let error = open.read(&mut [0]).expect_err("a reset is not an end of file");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // The reset may come before the system call that connects has returned.
    let new = TcpStream::connect(("127.0.0.1", proxy.port()));
    let error = new.and_then(|mut new| new.read(&mut [0])).expect_err("reset at once");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.open(), 0);
}

#[test]
fn the_black_hole_answers_nobody_and_forgets_nothing() {
    let proxy = Proxy::to(echo());
    let mut open = through(&proxy);
    ask(&mut open).expect("it passes");
    proxy.set(Mode::BlackHole);
    let mut new = through(&proxy);
    for stream in [&mut open, &mut new] {
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
        let error = ask(stream).expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    let (sender, answers) = mpsc::channel();
    for mut stream in [open, new] {
        let sender = sender.clone();
        thread::spawn(move || {
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            let mut byte = [0];
            sender.send(stream.read_exact(&mut byte).map(|()| byte[0])).expect("it is awaited");
        });
    }
    proxy.set(Mode::Pass);
    for _ in 0..2 {
        let answer = answers.recv_timeout(PATIENCE).expect("what was held arrives");
        assert_eq!(answer.expect("and nothing was lost"), b'x');
    }
}
