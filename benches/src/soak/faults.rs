//! What goes wrong: one thread is bad to the server and to the line, another one turns the pool's own knobs.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use millpond::WarmUp;
use millpond_drivers::Mode;
use redis::RedisResult;

use super::tally::Late;
use super::{Ground, MOST, lock};

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Killed, and back after this long.
    Kill(Duration),
    /// Suspended for so long.
    Stop(Duration),
    /// Every connection ends with RST.
    Cut,
    /// The server ends every connection, with FIN.
    KillClients,
    BlackHole(Duration),
    Refuse(Duration),
    /// Connections are reset, new ones as well.
    Reset(Duration),
    /// Each piece is late by the second.
    Slow(Duration, Duration),
}

impl Fault {
    fn draw(rng: &mut Rng) -> Self {
        let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(rng.u64(range));
        let (short, long, piece) = (millis(50..1200), millis(50..3000), millis(1..30));
        match rng.u32(0..8) {
            0 => Self::Kill(long),
            1 => Self::Stop(short),
            2 => Self::Cut,
            3 => Self::KillClients,
            4 => Self::BlackHole(short),
            5 => Self::Refuse(long),
            6 => Self::Reset(short),
            _ => Self::Slow(long, piece),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "fault: server killed, restarted",
            Self::Stop(_) => "fault: server suspended",
            Self::Cut => "fault: connections cut (RST)",
            Self::KillClients => "fault: CLIENT KILL (FIN)",
            Self::BlackHole(_) => "fault: black hole",
            Self::Refuse(_) => "fault: refused",
            Self::Reset(_) => "fault: new ones reset too",
            Self::Slow(..) => "fault: slow line",
        }
    }

    /// Begins, waits and ends.
    fn run(self, ground: &Ground) {
        let on_line = |mode: Mode, span: Duration| {
            ground.proxy.set(mode);
            thread::sleep(span);
            ground.proxy.set(Mode::Pass);
        };
        match self {
            Self::Kill(span) => {
                ground.redis.kill();
                thread::sleep(span);
                ground.redis.restart();
            }
            Self::Stop(span) => {
                ground.redis.stop();
                thread::sleep(span);
                ground.redis.cont();
            }
            Self::Cut => ground.proxy.reset_all(),
            // The watcher's connection goes as well; it opens another one.
            Self::KillClients => drop(kill_clients(ground)),
            Self::BlackHole(span) => on_line(Mode::BlackHole, span),
            Self::Refuse(span) => on_line(Mode::Refuse, span),
            Self::Reset(span) => on_line(Mode::Reset, span),
            Self::Slow(span, piece) => on_line(Mode::Delay(piece), span),
        }
    }
}

/// Faults of the server and the line, one after another, with pauses.
pub fn run(ground: &Ground, mut rng: Rng, back: &Late) {
    while !ground.stopped() {
        let fault = Fault::draw(&mut rng);
        // Now and then long enough for the server's list to be looked at in peace.
        let pause = Duration::from_millis(if rng.u32(0..5) == 0 { 4000 } else { rng.u64(100..2000) });
        ground.tally.count(fault.name());
        *lock(&ground.calm) = None;
        fault.run(ground);
        *lock(&ground.calm) = Some(Instant::now());
        if let Some(took) = first_good(ground) {
            back.record(took);
        }
        nap(ground, pause);
    }
}

/// How long it takes until somebody has a good round trip again.
fn first_good(ground: &Ground) -> Option<Duration> {
    let good = || ground.tally.good.load(Ordering::Relaxed);
    let (begun, before) = (Instant::now(), good());
    while good() == before && !ground.stopped() {
        if begun.elapsed() > Duration::from_secs(20) {
            ground.broken(format!("nobody was served for 20 s after a fault: {:?}", ground.pool));
            return None;
        }
        if lock(&ground.paused).is_some() {
            // Whoever paused the pool will say when it goes on.
            return None;
        }
        thread::sleep(Duration::from_micros(500));
    }
    Some(begun.elapsed())
}

fn kill_clients(ground: &Ground) -> RedisResult<()> {
    let mut admin = ground.observer()?;
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut admin)
}

/// Resizes, refreshes, pauses and resumes, changes times, warms up.
pub fn turn_knobs(ground: &Ground, mut rng: Rng) {
    let pool = &ground.pool;
    while !ground.stopped() {
        let (what, size, span) = (rng.u32(0..9), rng.u32(MOST / 2..=MOST), Duration::from_millis(rng.u64(20..300)));
        match what {
            0 | 1 => {
                ground.tally.count("knob: resize");
                pool.resize(size).expect("a good size");
            }
            2 => {
                ground.tally.count("knob: refresh");
                pool.refresh();
            }
            3 => {
                ground.tally.count("knob: refresh bit by bit");
                pool.refresh_over(10 * span);
            }
            4 => {
                ground.tally.count("knob: new times");
                pool.set_max_lifetime(Some(10 * span)).expect("more than nothing");
                pool.set_idle_timeout(Some(5 * span)).expect("more than nothing");
                pool.set_keepalive(Some(3 * span)).expect("more than nothing");
            }
            5 => {
                ground.tally.count("knob: warm-up");
                // The maximum may be less by the time it is asked for.
                drop(pool.warm_up(WarmUp::background(MOST / 2).batch(2).pause(span / 10)));
            }
            _ => {
                ground.tally.count("knob: pause, resume");
                *lock(&ground.paused) = Some(Instant::now());
                if rng.bool() {
                    pool.pause();
                } else {
                    pool.pause_and_reject();
                }
                thread::sleep(span);
                pool.resume();
                *lock(&ground.paused) = None;
            }
        }
        nap(ground, Duration::from_millis(rng.u64(50..1500)));
    }
}

/// Sleeps, but not on when the soak is over.
fn nap(ground: &Ground, span: Duration) {
    let begun = Instant::now();
    while !ground.stopped() && begun.elapsed() < span {
        thread::sleep(Duration::from_millis(20).min(span));
    }
}
