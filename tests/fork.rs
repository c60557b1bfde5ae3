//! A child that is forked off a process with a pool: it is told so, uses no connection of its parent's, and can have a pool
//! of its own. A program of its own, because a fork copies one thread only.

#![allow(clippy::print_stdout, reason = "a test without a harness tells by itself")]

#[cfg(all(unix, feature = "r2d2"))]
#[path = "support/nothing.rs"]
mod nothing;

#[cfg(not(unix))]
fn main() {
    println!("skipped: no fork");
}

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(unix)]
mod unix {
    use fork::Fork;
    use millpond::sqlite::{SqliteManager, SqlitePool};
    use millpond::{ErrorKind, Pool, PooledConnection, Validation};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::exit;
    use std::thread;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    /// Says goodbye to the server when it is dropped, as drivers do.
    struct Polite(TcpStream);

    impl Drop for Polite {
        fn drop(&mut self) {
            drop(self.0.write_all(b"Q"));
        }
    }

    /// Answers each byte with itself, until it is told to quit or the peer is gone; says which.
    fn serve(mut stream: TcpStream) -> bool {
        let mut byte = [0];
        loop {
            match stream.read(&mut byte) {
                Ok(1) if byte == *b"Q" => return true,
                Ok(1) => drop(stream.write_all(&byte)),
                _ => return false,
            }
        }
    }

    fn echo(conn: &mut Polite, byte: u8) -> bool {
        let mut answer = [0];
        conn.0.write_all(&[byte]).is_ok() && conn.0.read_exact(&mut answer).is_ok() && answer == [byte]
    }

    pub(super) fn main() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let server = thread::spawn(move || {
            let serving: Vec<_> = (0..3)
                .map(|_| {
                    let (stream, _) = listener.accept().expect("somebody connects");
                    thread::spawn(move || serve(stream))
                })
                .collect();
            serving.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
        });
        let open = move || TcpStream::connect(address).map(Polite);
        let pool = Pool::builder(open).max_size(2).validation(Validation::Never).build().expect("it answers");
        let mut held = pool.get().expect("idle");
        drop(pool.get().expect("there is room"));
        assert!(echo(&mut held, b'a'));

        // One without a connection goes altogether in the child, with all that it owns.
        let lazy = Pool::builder(open).build_lazy().expect("good settings");
        // What the test prints is not to be printed twice.
        std::io::stdout().flush().expect("a terminal or a pipe");
        match fork::fork().expect("there is room for a child") {
            Fork::Child => child(&pool, lazy, held, open),
            Fork::Parent(child) => {
                let status = fork::waitpid(child).expect("it is ours");
                assert_eq!(status, 0, "the child's wait status");
            }
        }

        // The parent is unaffected: nobody has said goodbye in its name, and nobody has read its answers.
        assert!(echo(&mut held, b'b'));
        drop(held);
        let mut both = pool.get_many(2).expect("idle");
        assert!(both.iter_mut().all(|conn| echo(conn, b'c')));
        assert_eq!(pool.stats().opened, 2);
        drop(both);
        pool.close_and_wait(LONG).expect("nothing is left");
        let goodbyes = server.join().expect("no panic");
        assert_eq!(goodbyes, [true, true, true], "two of the parent's and one of the child's own");
        println!("a forked child uses no connection of its parent's: ok");
        within_work();
        println!("nor one that its parent works with at the moment: ok");
        #[cfg(feature = "r2d2")]
        of_r2d2();
    }

    /// What a thread works with lies ready for nested work; the child has a copy of that too.
    fn within_work() {
        let pool = SqlitePool::new(SqliteManager::memory()).expect("it opens");
        let bound = Pool::new(|| Ok::<_, std::io::Error>(())).expect("it opens");
        let _binding = bound.bind().expect("it is idle");
        std::io::stdout().flush().expect("a terminal or a pipe");
        pool.write_timeout(LONG, |conn| {
            conn.execute_batch("CREATE TABLE t (n)")?;
            match fork::fork().expect("there is room for a child") {
                Fork::Child => {
                    let refused = |error: Option<ErrorKind>| error == Some(ErrorKind::Forked);
                    let error =
                        pool.write(|conn| conn.execute("INSERT INTO t VALUES (1)", [])).expect_err("the parent's");
                    let own = refused(error.pool_error().map(millpond::Error::kind));
                    let binding = refused(bound.with(|()| ()).err().map(|error| error.kind()));
                    drop(pool.clone());
                    exit(i32::from(!(own && binding)));
                }
                Fork::Parent(child) => {
                    assert_eq!(fork::waitpid(child).expect("it is ours"), 0, "the child's wait status");
                }
            }
            conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
        })
        .map(|rows| assert_eq!(rows, 0))
        .expect("the parent is unaffected");
    }

    /// What r2d2 has no words for is told in millpond's, and at once.
    #[cfg(feature = "r2d2")]
    fn of_r2d2() {
        use crate::nothing::Nothing;
        use millpond::r2d2::{self, HandleEvent, event::TimeoutEvent};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

        #[derive(Debug)]
        struct Late(Arc<AtomicBool>);

        impl HandleEvent for Late {
            fn handle_timeout(&self, _: TimeoutEvent) {
                self.0.store(true, SeqCst);
            }
        }

        let late = Arc::new(AtomicBool::new(false));
        let pool = r2d2::Pool::builder().max_size(1).event_handler(Box::new(Late(Arc::clone(&late))));
        let pool = pool.build(Nothing).expect("it opens");
        std::io::stdout().flush().expect("a terminal or a pipe");
        match fork::fork().expect("there is room for a child") {
            Fork::Child => {
                let error = pool.get_timeout(LONG).err().map(|error| error.to_string()).unwrap_or_default();
                exit(i32::from(!error.contains("build a pool after the fork") || late.load(SeqCst)));
            }
            Fork::Parent(child) => {
                assert_eq!(fork::waitpid(child).expect("it is ours"), 0, "the child's wait status");
            }
        }
        drop(pool.get().expect("the parent is unaffected"));
        println!("and is told so through r2d2's interface: ok");
    }

    type Guard<F> = PooledConnection<millpond::FnManager<F, Polite, std::io::Error>>;

    type Lender<F> = Pool<millpond::FnManager<F, Polite, std::io::Error>>;

    fn child<F>(pool: &Lender<F>, lazy: Lender<F>, held: Guard<F>, open: F) -> !
    where
        F: Fn() -> std::io::Result<Polite> + Send + Sync + 'static,
    {
        // A failed assertion must not run on in the parent's code.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for result in [
                pool.get().map(drop),
                pool.get_timeout(LONG).map(drop),
                pool.get_many(1).map(drop),
                pool.with(|_| ()),
                pool.wait_ready(LONG),
                pool.close_and_wait(LONG),
            ] {
                let error = result.expect_err("it is the parent's");
                assert_eq!(error.kind(), ErrorKind::Forked);
                assert!(error.to_string().contains("build a pool after the fork"), "{error}");
            }
            assert!(pool.try_get().is_none());
            pool.maintain();
            pool.refresh();
            pool.resize(1).expect("harmless");
            pool.close();
            drop(held);
            drop(pool.clone());
            // A pool of its own, with threads of its own.
            let own = Pool::builder(open).max_size(1).build().expect("it answers");
            drop(lazy);
            assert!(echo(&mut own.get().expect("idle"), b'd'));
            own.close_and_wait(LONG).expect("nothing is left");
        }));
        // Not an end by return: destructors of the parent's pool would run here.
        exit(i32::from(outcome.is_err()));
    }
}
