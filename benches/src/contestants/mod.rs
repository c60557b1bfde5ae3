//! The pools that are compared, one file each, behind one small trait.

mod bb8;
mod deadpool;
mod lockfree;
mod millpond;
mod opool;
mod plain;
mod r2d2;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the pools lend: as little as a connection can be, and written to at every use so that the
/// optimiser keeps every checkout.
#[derive(Debug)]
pub struct Conn {
    pub id: u64,
    pub uses: u64,
}

impl Conn {
    pub fn touch(&mut self) {
        self.uses = self.uses.wrapping_add(1);
        black_box(self);
    }
}

/// Numbers connections. A manager of every pool wraps one; it never fails.
#[derive(Debug, Default)]
pub struct Factory {
    made: AtomicU64,
}

impl Factory {
    pub fn make(&self) -> Conn {
        Conn { id: self.made.fetch_add(1, Ordering::Relaxed), uses: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub size: u32,
    /// How long a checkout may wait; `None` is the pool's own default (deadpool's is for ever).
    pub timeout: Option<Duration>,
}

impl Setting {
    pub fn of_size(size: u32) -> Self {
        Self { size, timeout: None }
    }
}

/// What a pool must be able to do here. `visit` is generic so that the loops below are compiled for each pool, with
/// nothing between the loop and the pool.
trait Lender: Send + Sync {
    /// One checkout, the closure, one return. False when the wait ended in a time-out.
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool;

    /// Takes one connection and keeps it.
    fn hold(&self) -> impl Sized;

    /// What a thread must have around it while it uses the pool.
    fn enter(&self) -> impl Sized {}
}

/// How long a borrower keeps the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold {
    None,
    Spin(Duration),
    Sleep(Duration),
}

impl Hold {
    fn pass(self) {
        match self {
            Self::None => {}
            Self::Spin(time) => {
                let begin = Instant::now();
                while begin.elapsed() < time {
                    std::hint::spin_loop();
                }
            }
            Self::Sleep(time) => std::thread::sleep(time),
        }
    }
}

/// What one thread got in one round.
#[derive(Debug, Default)]
pub struct Served {
    pub checkouts: u64,
    pub timeouts: u64,
    /// Nanoseconds from asking to having, of every timed checkout.
    pub waits: Vec<u64>,
    /// Nanoseconds that connections were really held in those checkouts: a sleep is longer than asked for.
    pub held: u64,
}

/// A pool under test, whatever its type.
pub trait Contestant: Send + Sync {
    /// `times` checkouts, nothing else.
    fn burst(&self, times: u64);

    /// Checkouts until told to stop; the number of those that were finished before.
    fn until(&self, stop: &AtomicBool) -> u64;

    /// Checkouts with a hold, until told to stop; the wait of every `sample`-th is timed.
    fn serve(&self, hold: Hold, sample: u64, stop: &AtomicBool) -> Served;

    /// Runs `meanwhile` while `count` connections are out.
    fn lend(&self, count: usize, meanwhile: &mut dyn FnMut());

    /// Opens `count` connections and gives them back.
    fn open(&self, count: u32) {
        self.lend(count as usize, &mut || {});
    }
}

/// Looking at the stop flag costs little, but more than nothing beside a checkout of ten nanoseconds.
const BATCH: u64 = 32;

impl<L: Lender> Contestant for L {
    fn burst(&self, times: u64) {
        let _entered = self.enter();
        for _ in 0..times {
            self.visit(Conn::touch);
        }
    }

    fn until(&self, stop: &AtomicBool) -> u64 {
        let _entered = self.enter();
        let mut done = 0;
        loop {
            for _ in 0..BATCH {
                self.visit(Conn::touch);
            }
            if stop.load(Ordering::Relaxed) {
                return done;
            }
            done += BATCH;
        }
    }

    fn serve(&self, hold: Hold, sample: u64, stop: &AtomicBool) -> Served {
        let _entered = self.enter();
        let mut served = Served::default();
        let mut asked_times = 0;
        while !stop.load(Ordering::Relaxed) {
            let asked = (asked_times % sample == 0).then(Instant::now);
            asked_times += 1;
            let Served { waits, held, .. } = &mut served;
            let lent = self.visit(|conn| {
                conn.touch();
                let Some(asked) = asked else {
                    return hold.pass();
                };
                let got = Instant::now();
                waits.push((got - asked).as_nanos() as u64);
                if hold != Hold::None {
                    hold.pass();
                    *held += got.elapsed().as_nanos() as u64;
                }
            });
            // What ends after the stop is nobody's throughput, but its wait was a wait.
            if !stop.load(Ordering::Relaxed) {
                served.checkouts += u64::from(lent);
                served.timeouts += u64::from(!lent);
            }
        }
        served
    }

    fn lend(&self, count: usize, meanwhile: &mut dyn FnMut()) {
        let _entered = self.enter();
        let held: Vec<_> = (0..count).map(|_| self.hold()).collect();
        meanwhile();
        drop(held);
    }
}

/// The contestants by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Millpond,
    MillpondWith,
    MillpondStrict,
    R2d2,
    R2d2Unchecked,
    Bb8,
    Deadpool,
    Opool,
    Lockfree,
    Plain,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Millpond,
        Self::MillpondWith,
        Self::MillpondStrict,
        Self::R2d2,
        Self::R2d2Unchecked,
        Self::Bb8,
        Self::Deadpool,
        Self::Opool,
        Self::Lockfree,
        Self::Plain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Millpond => "millpond",
            Self::MillpondWith => "millpond with",
            Self::MillpondStrict => "millpond strict",
            Self::R2d2 => "r2d2",
            Self::R2d2Unchecked => "r2d2 unchecked",
            Self::Bb8 => "bb8",
            Self::Deadpool => "deadpool",
            Self::Opool => "opool",
            Self::Lockfree => "lockfree",
            Self::Plain => "mutex+condvar",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// A pool with no connection opened yet.
    pub fn lazy(self, setting: Setting) -> Box<dyn Contestant> {
        self.build(setting, Some(0))
    }

    /// A pool with all its connections open and idle.
    pub fn full(self, setting: Setting) -> Box<dyn Contestant> {
        let pool = self.build(setting, None);
        pool.open(setting.size);
        pool
    }

    /// `min_idle` is for r2d2 alone, which opens all its connections at once unless told otherwise.
    fn build(self, setting: Setting, min_idle: Option<u32>) -> Box<dyn Contestant> {
        match self {
            Self::Millpond => Box::new(millpond::Get::new(setting, false)),
            Self::MillpondWith => Box::new(millpond::With::new(setting)),
            Self::MillpondStrict => Box::new(millpond::Get::new(setting, true)),
            Self::R2d2 => Box::new(r2d2::R2d2::new(setting, min_idle, true)),
            Self::R2d2Unchecked => Box::new(r2d2::R2d2::new(setting, min_idle, false)),
            Self::Bb8 => Box::new(bb8::Bb8::new(setting)),
            Self::Deadpool => Box::new(deadpool::Deadpool::new(setting)),
            Self::Opool => Box::new(opool::Opool::new(setting)),
            Self::Lockfree => Box::new(lockfree::Lockfree::new()),
            Self::Plain => Box::new(plain::Plain::new(setting)),
        }
    }
}
