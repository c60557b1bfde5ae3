//! What callers see while a server accepts and never answers.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use millpond::{ErrorKind, Manager, Pool};

use crate::PATIENCE;

/// The deadline of callers who are to meet it. What a test asserts is that they
/// come back while the fault lasts, and not how soon: the machine may be busy.
pub const SHORT: Duration = Duration::from_millis(400);

/// Asks `pool` for connections on 16 threads with the deadline [`SHORT`], and
/// returns what they failed with. All of them must be back before `release`, which
/// ends the fault: that is how the test knows that no caller waits for the server.
///
/// A seventeenth thread waits as long without a pool, which shows how late this
/// machine is at present; the callers may be three times as late in all.
///
/// # Panics
///
/// If a caller is late, or not back at all, or got a connection.
pub fn while_it_hangs<M: Manager>(pool: &Pool<M>, release: impl FnOnce()) -> Vec<ErrorKind> {
    const CALLERS: usize = 16;
    let (sender, results) = mpsc::channel();
    let (kept, silence) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let plain = scope.spawn(move || timed(|| silence.recv_timeout(SHORT)).1);
        for _ in 0..CALLERS {
            let sender = sender.clone();
            scope.spawn(move || {
                let (result, took) = timed(|| pool.get_timeout(SHORT));
                let kind = result.map(drop).map_err(|error| error.kind());
                // Nobody listens once the test has failed for another caller.
                let _ = sender.send((kind, took));
            });
        }
        let results: Vec<_> = (0..CALLERS).map(|_| results.recv_timeout(PATIENCE)).collect();
        // Before anything can panic, or the scope would wait for the hanging ones.
        release();
        let plain = plain.join().expect("it only waits");
        drop(kept);
        let kind = |(kind, took): (Result<(), ErrorKind>, Duration)| {
            assert!(took < plain * 3, "{took:?}, and {plain:?} without a pool");
            kind.expect_err("nothing can be had")
        };
        results.into_iter().map(|result| kind(result.expect("back while the server hangs"))).collect()
    })
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}
