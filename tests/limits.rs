//! What the operating system refuses or takes away: threads, descriptors, time. Each in a process of its own: this program,
//! started once more.

#![allow(clippy::print_stdout, reason = "a test without a harness tells by itself")]

#[cfg(all(target_os = "linux", feature = "r2d2"))]
#[path = "support/nothing.rs"]
mod nothing;

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: not Linux");
}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use log::{LevelFilter, Log, Metadata, Record};
    use millpond::event::{Closed, EventHandler};
    use millpond::{ErrorKind, Pool, PooledConnection, RetryPolicy};
    use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
    use std::error::Error as _;
    use std::fs;
    use std::io::{self, BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread;
    use std::time::{Duration, Instant};

    const SCENE: &str = "MILLPOND_LIMITS_SCENE";
    const LONG: Duration = Duration::from_secs(60);
    const NOBODY: u32 = 65534;

    pub(super) fn main() {
        match std::env::var(SCENE).as_deref() {
            Ok("descriptors") => descriptors(),
            Ok("threads") => threads(),
            Ok("standstill") => standstill(),
            Ok(other) => panic!("no scene {other:?}"),
            Err(_) => {
                run("descriptors", &mut Command::new(own_path()));
                run_as_nobody();
                run_and_stop();
            }
        }
    }

    fn own_path() -> std::path::PathBuf {
        std::env::current_exe().expect("a program has a path")
    }

    fn run(scene: &str, command: &mut Command) {
        let status = command.env(SCENE, scene).status().expect("this program can be started");
        assert!(status.success(), "{scene}: {status}");
        println!("{scene}: ok");
    }

    /// Changes how much of something this process may have, for as long as it is not dropped.
    struct Limited(Resource, Rlimit);

    impl Limited {
        fn to(resource: Resource, current: u64) -> Self {
            let before = getrlimit(resource);
            setrlimit(resource, Rlimit { current: Some(current), maximum: before.maximum }).expect("less is allowed");
            Self(resource, before)
        }
    }

    impl Drop for Limited {
        fn drop(&mut self) {
            setrlimit(self.0, self.1).expect("it is what it was");
        }
    }

    fn quick() -> RetryPolicy {
        RetryPolicy::default().initial_delay(Duration::from_millis(5)).max_delay(Duration::from_millis(20))
    }

    /// No more descriptors: the error says so, and when there are some again everything works.
    fn descriptors() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        // The backlog is enough: nothing is sent.
        let pool = Pool::builder(move || TcpStream::connect(address)).max_size(4).retry(quick()).build();
        let pool = pool.expect("there are descriptors");
        let held = pool.get().expect("idle");
        // All below are in use.
        let limit = Limited::to(Resource::Nofile, 3);
        let error = pool.get_timeout(Duration::from_millis(200)).expect_err("there are no descriptors");
        assert_eq!(error.kind(), ErrorKind::Connect);
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.and_then(io::Error::raw_os_error), Some(rustix::io::Errno::MFILE.raw_os_error()), "{cause:?}");
        drop(limit);
        drop(pool.get_timeout(LONG).expect("there are descriptors again"));
        drop(held);
        assert_eq!(pool.get_many(4).expect("there is room").len(), 4);
        pool.close_and_wait(LONG).expect("nothing is left");
    }

    /// Threads are limited by user, and root is not limited at all, so another user runs this.
    fn run_as_nobody() {
        if fs::metadata("/proc/self").expect("it exists").uid() != 0 {
            run("threads", &mut Command::new(own_path()));
            return;
        }
        // Where that user can read it.
        let copy = std::env::temp_dir().join(format!("millpond-limits-{}", std::process::id()));
        fs::copy(own_path(), &copy).expect("there is room for a copy");
        let result = std::panic::catch_unwind(|| {
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("it is ours");
            run("threads", Command::new(&copy).uid(NOBODY).current_dir("/"));
        });
        fs::remove_file(&copy).expect("it is ours");
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }

    /// No more threads: an error with the cause, at build and later, and never a panic.
    fn threads() {
        let own_threads = || fs::read_dir("/proc/self/task").expect("a process has threads").count();
        let open = || Ok::<_, io::Error>(());
        let limit = Limited::to(Resource::Nproc, 0);
        let error = Pool::builder(open).build().expect_err("no thread can be had for the upkeep");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("cannot start its upkeep thread"), "{error}");
        assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()));
        #[cfg(feature = "r2d2")]
        through_r2d2();
        drop(limit);

        let pool = Pool::builder(open).max_size(3).retry(quick()).build().expect("there are threads again");
        let held = pool.get().expect("idle");
        // The helper that opened it waits for more work, and leaves after some seconds.
        while own_threads() > 2 {
            thread::sleep(Duration::from_millis(10));
        }
        let limit = Limited::to(Resource::Nproc, 0);
        let error = pool.get_timeout(Duration::from_millis(200)).expect_err("no thread can be had to open one");
        assert_eq!(error.kind(), ErrorKind::Connect);
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::WouldBlock), "{cause:?}");
        assert_eq!(pool.stats().panics, 0);
        // What is there is lent, and closing does without threads.
        drop(held);
        let again = pool.get().expect("idle");
        PooledConnection::discard(again);
        assert_eq!((pool.stats().size, pool.stats().closed.total()), (0, 1), "closed on the spot");
        drop(limit);
        drop(pool.get_timeout(LONG).expect("there are threads again"));
        assert_eq!(pool.get_many(3).expect("there is room").len(), 3);
        pool.close_and_wait(LONG).expect("nothing is left");
    }

    /// What is no time-out is not called one.
    #[cfg(feature = "r2d2")]
    fn through_r2d2() {
        let error = millpond::r2d2::Pool::new(crate::nothing::Nothing).expect_err("no thread can be had");
        assert!(error.to_string().contains("cannot start its upkeep thread"), "{error}");
    }

    /// Stops the process of the scene while everything in its pool comes due, and lets it go on.
    fn run_and_stop() {
        let mut child = Command::new(own_path())
            .env(SCENE, "standstill")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        assert_eq!(lines.next().expect("it is ready").expect("it is text"), "ready");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::STOP).expect("it is ours");
        thread::sleep(2 * LIFETIME);
        kill_process(pid, Signal::CONT).expect("it is ours");
        writeln!(child.stdin.take().expect("it is piped"), "go on").expect("it listens");
        let status = child.wait().expect("it is ours");
        assert!(status.success(), "standstill: {status}");
        println!("standstill: ok");
    }

    const LIFETIME: Duration = Duration::from_secs(3);
    const SIZE: u32 = 20;

    /// When each connection was closed.
    struct Ends;

    static ENDS: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

    impl EventHandler for Ends {
        #[allow(clippy::disallowed_methods, reason = "it is the real time that passes here")]
        fn closed(&self, _: &str, _: &Closed<'_>) {
            ENDS.lock().expect("no panic").push(Instant::now());
        }
    }

    struct Lines;

    static STOOD: AtomicU32 = AtomicU32::new(0);

    impl Log for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            STOOD.fetch_add(u32::from(record.args().to_string().contains("stood still")), SeqCst);
        }
        fn flush(&self) {}
    }

    fn standstill() {
        log::set_logger(&Lines).expect("nobody else logs here");
        log::set_max_level(LevelFilter::Info);
        static CHECKS: AtomicU32 = AtomicU32::new(0);
        let manager = millpond::FnManager::new(|| Ok::<_, io::Error>(())).check(|()| {
            CHECKS.fetch_add(1, SeqCst);
            Ok(())
        });
        let pool = Pool::builder(manager)
            .max_size(SIZE)
            .min_idle(SIZE)
            .max_lifetime(Some(LIFETIME))
            .idle_timeout(Some(LIFETIME))
            .connection_timeout(LONG)
            .event_handler(Ends)
            .build()
            .expect("it connects");
        // A stop is noticed by a keeper that sleeps; it has yet to hear what it is to wake up for.
        thread::sleep(LIFETIME / 3);
        println!("ready");
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).expect("the parent writes");
        // Some may have been replaced by now; each of the others has been checked.
        let all = pool.get_many(SIZE as usize).expect("checked ones and new ones");
        let old = all.iter().filter(|conn| PooledConnection::id(conn) <= u64::from(SIZE)).count();
        assert!(CHECKS.load(SeqCst) as usize >= old, "nothing is lent unchecked after such a time");
        drop(all);
        while STOOD.load(SeqCst) == 0 || ENDS.lock().expect("no panic").len() < SIZE as usize {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(STOOD.load(SeqCst), 1, "told once");
        let ends = ENDS.lock().expect("no panic").clone();
        // Under load it takes longer, never shorter: half of the lifetime, in which twenty are replaced one by one.
        let spread = ends.last().expect("twenty").duration_since(*ends.first().expect("twenty"));
        assert!(spread > LIFETIME / 4, "all were closed within {spread:?}");
        assert_eq!(pool.stats().timeouts, 0);
    }
}
