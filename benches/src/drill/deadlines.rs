//! Servers that hang or are slow: callers with 100 ms, and those of another pool meanwhile.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond_drivers::{Mode, Proxy};

use super::pair::{Driver, KINDS, Kind, Pool};
use super::servers::{Database, Redis};
use super::{Amount, Score};
use crate::measure::{crowd, quantile, timed};
use crate::sections::deadlines::{CALLERS, SHORT, SIZE};

/// Longer than millpond lends a connection without a check.
const IDLE: Duration = Duration::from_millis(600);
/// What a check takes when it is slow: through a proxy that delays the question by half of it, and the answer.
const SLOW: Duration = Duration::from_millis(500);

/// What 64 callers with 100 ms met, and 20 callers of another pool with the same deadline.
struct Met {
    callers: Vec<u64>,
    neighbours: Vec<u64>,
    failed: u64,
}

/// A port that is listened on and takes no connection: connecting hangs.
struct FullPort {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl FullPort {
    fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Again, with the shortest queue there is.
        rustix::net::listen(&listener, 0)?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        // The first that is not taken at once finds the queue full.
        while let Ok(stream) = TcpStream::connect_timeout(&address, SHORT) {
            queued.push(stream);
        }
        Ok(Self { listener, _queued: queued })
    }

    fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }
}

pub(super) fn connect_hangs() -> Score {
    let score = Score::of(format!("connecting hangs, {CALLERS} callers with 100 ms"));
    let Some(redis) = Redis::start() else { return score.skipped(Redis::PROGRAM) };
    let both = KINDS.map(|kind| {
        let full = FullPort::open().expect("a port of the loopback can be had");
        let pool = kind.pool(<Redis as Database>::manager(full.port().expect("it has one")), SIZE);
        besieged(kind, &pool, &redis, || {}, |_| {})
    });
    told(score, both)
}

/// Suspended, a server keeps its connections and answers nothing: whoever checks on the caller's own thread holds up the
/// caller until it goes on.
pub(super) fn check_hangs(long: bool) -> Score {
    let away = Duration::from_secs(if long { 30 } else { 3 });
    let score = Score::of(format!("server suspended for {} s, {CALLERS} callers with 100 ms", away.as_secs()));
    let Some(redis) = Redis::start() else { return score.skipped(Redis::PROGRAM) };
    let other = Redis::start().expect("it was there a moment ago");
    let both = KINDS.map(|kind| {
        let pool = kind.full_pool(<Redis as Database>::manager(redis.port()), SIZE);
        thread::sleep(IDLE);
        let resume = |back: &AtomicUsize| {
            let begun = Instant::now();
            while back.load(Ordering::Relaxed) < CALLERS && begun.elapsed() < away {
                thread::sleep(SHORT / 10);
            }
            redis.cont();
        };
        besieged(kind, &pool, &other, || redis.stop(), resume)
    });
    told(score, both)
}

/// All callers come at once to `pool`, whose server hangs from `fault` on and at most until `over` returns, which can see
/// how many are back. Others use a pool of their own, with a server that is well.
fn besieged<M: Driver>(
    kind: Kind,
    pool: &Pool<M>,
    well: &Redis,
    fault: impl FnOnce(),
    over: impl FnOnce(&AtomicUsize) + Send,
) -> Met {
    let other = kind.pool(<Redis as Database>::manager(well.port()), SIZE);
    let back = AtomicUsize::new(0);
    fault();
    thread::scope(|scope| {
        let callers = scope.spawn(|| {
            crowd(
                CALLERS,
                || over(&back),
                || {
                    let took = timed(|| drop(pool.get(SHORT)));
                    back.fetch_add(1, Ordering::Relaxed);
                    took
                },
            )
        });
        thread::sleep(SHORT / 4);
        let mut failed = 0;
        let neighbours = (0..20).map(|_| timed(|| failed += u64::from(other.get(SHORT).is_none()))).collect();
        Met { callers: callers.join().expect("nobody panics"), neighbours, failed }
    })
}

fn told(mut score: Score, [mut own, mut its]: [Met; 2]) -> Score {
    let mut of = |q: f64| [&mut own, &mut its].map(|met| Amount::nanos(quantile(&mut met.callers, q)));
    let (median, worst) = (of(0.5), of(1.0));
    score.at_most("back after, p50", Amount::millis(101), median);
    score.at_most("back after, worst", Amount::millis(115), worst);
    score.at_most("failed of 20 calls of another pool", Amount::count(0), [own.failed, its.failed].map(Amount::count));
    let longest = [&mut own, &mut its].map(|met| Amount::nanos(quantile(&mut met.neighbours, 1.0)));
    score.tell("the longest of them", longest);
    score
}

pub(super) fn check_slow() -> Score {
    let mut score = Score::of("a check takes 500 ms, 5 callers, one connection is fresh");
    let Some(redis) = Redis::start() else { return score.skipped(Redis::PROGRAM) };
    let proxy = Proxy::to(redis.addr());
    let [own, its] = KINDS.map(|kind| {
        proxy.set(Mode::Pass);
        let pool = kind.pool(<Redis as Database>::manager(proxy.port()), 5);
        let mut all = pool.all(5);
        let fresh = all.pop();
        drop(all);
        thread::sleep(IDLE);
        proxy.set(Mode::Delay(SLOW / 2));
        drop(fresh);
        // Each keeps what it gets until all have something: nobody is served twice by the same connection.
        let served = crowd(
            5,
            || {},
            || {
                let begun = Instant::now();
                let conn = pool.get(4 * SLOW);
                (begun.elapsed(), conn)
            },
        );
        served.into_iter().map(|(took, conn)| conn.map_or(Duration::MAX, |_| took)).collect::<Vec<_>>()
    });
    let times = |of: fn(&[Duration]) -> Option<&Duration>| {
        [&own, &its].map(|served| Amount::Time(*of(served).expect("there were five")))
    };
    score.at_most("the first is served after", Amount::millis(1), times(|served| served.iter().min()));
    score.at_most("the last is served after", Amount::millis(600), times(|served| served.iter().max()));
    score
}
