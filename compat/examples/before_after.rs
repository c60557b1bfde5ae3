//! What a program measures of its pool, whichever crate is called r2d2: `scripts/compat --measure` runs it with both.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the real clock")]
#![allow(clippy::print_stdout, reason = "it is there to print")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A manager whose connections are nothing, so that all time is the pool's.
struct Nothing(Arc<AtomicBool>);

impl r2d2::ManageConnection for Nothing {
    type Connection = ();
    type Error = Infallible;

    fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), Infallible> {
        if self.0.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

type Pool = r2d2::Pool<Nothing>;

fn pool(hangs: &Arc<AtomicBool>) -> Pool {
    r2d2::Pool::builder().max_size(8).build(Nothing(Arc::clone(hangs))).expect("nothing fails")
}

/// Nanoseconds of a checkout and a return on each of `threads`, the least of ten rounds.
fn checkout(pool: &Pool, threads: u32) -> f64 {
    const TIMES: u32 = 100_000;
    let round = || {
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..TIMES).for_each(|_| drop(pool.get().expect("one is free"))));
            }
        });
        began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    (0..10).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// How long 64 threads wait for 8 connections that each of them holds for 1 ms, with a time-out of 50 ms: the waits in order,
/// and how many failed.
fn crowd(pool: &Pool) -> (Vec<Duration>, usize) {
    let began = Instant::now();
    let work = || {
        let (mut waits, mut failed) = (Vec::new(), 0);
        while began.elapsed() < Duration::from_secs(3) {
            let asked = Instant::now();
            match pool.get_timeout(Duration::from_millis(50)) {
                Ok(_conn) => {
                    waits.push(asked.elapsed());
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => failed += 1,
            }
        }
        (waits, failed)
    };
    let all: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut waits: Vec<_> = all.iter().flat_map(|(waits, _)| waits.iter().copied()).collect();
    waits.sort_unstable();
    (waits, all.iter().map(|(_, failed)| failed).sum())
}

/// When the last of 64 callers with 100 ms is back, while checks take 1 s.
fn hanging_check(pool: &Pool, hangs: &AtomicBool) -> Duration {
    // By now the server may be gone, for all that the pool knows.
    thread::sleep(Duration::from_secs(1));
    hangs.store(true, Ordering::Relaxed);
    let ask = || {
        let asked = Instant::now();
        drop(pool.get_timeout(Duration::from_millis(100)));
        asked.elapsed()
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).max().unwrap_or_default()
    })
}

fn main() {
    let hangs = Arc::new(AtomicBool::new(false));
    let pool = pool(&hangs);
    println!("a checkout, one thread          {:>9.0} ns", checkout(&pool, 1));
    println!("a checkout, two threads         {:>9.0} ns", checkout(&pool, 2));
    let (waits, failed) = crowd(&pool);
    let part = |of: usize| waits.get(waits.len() * of / 1000).copied().unwrap_or_default().as_secs_f64() * 1e3;
    println!("64 on 8, held 1 ms: p50         {:>9.3} ms", part(500));
    println!("64 on 8, held 1 ms: p99         {:>9.3} ms", part(990));
    println!("64 on 8, held 1 ms: failed      {:>9.2} %", failed as f64 * 100.0 / (waits.len() + failed) as f64);
    println!("a check that hangs: last back   {:>9.0} ms", hanging_check(&pool, &hangs).as_secs_f64() * 1e3);
}
