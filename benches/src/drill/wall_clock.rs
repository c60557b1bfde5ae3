//! The wall clock jumps by an hour, forwards and back. libfaketime fakes it for a process; the monotonic clock goes on.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use millpond_drivers::TempDir;

use super::child::{Answer, Child, hear, report};
use super::{KINDS, Kind, Row, span};

pub(super) const ROLE: &str = "wall-clock";

const SIZE: u32 = 8;
/// Far longer than the scene, far shorter than the jump.
const LIFETIME: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_millis(200);
const FAULT: &str = "wall clock jumps by +1 h and -1 h";

/// Lets the clock of one process with each pool jump.
pub(super) fn rows() -> Vec<Row> {
    let Some(library) = library() else {
        eprintln!("skipped: no libfaketime");
        return vec![Row::new(FAULT, "", "", ["skipped", "skipped"].map(str::to_owned))];
    };
    let answers = thread::scope(|scope| {
        let threads = KINDS.map(|kind| {
            let library = &library;
            scope.spawn(move || jump(kind, library))
        });
        threads.map(|thread| thread.join().expect("the scene does not panic").unwrap_or_default())
    });
    let of = |value: &dyn Fn(&Answer) -> String| [value(&answers[0]), value(&answers[1])];
    let micros = |answer: &Answer, key| span(Duration::from_secs_f64(answer.number(key).max(0.0) / 1e6));
    vec![
        Row::new(FAULT, "seen by the process", "2 jumps", of(&|a| a.text("jumps"))),
        Row::new("", "connections retired", "0", of(&|a| a.text("closed"))),
        Row::new("", "failed calls", "0", of(&|a| a.text("failed"))),
        Row::new("", "time-outs early by, worst", "0 ns", of(&|a| micros(a, "early"))),
        Row::new("", "time-outs late by, worst", "", of(&|a| micros(a, "late"))),
    ]
}

/// Debian puts it below the directory of the architecture, others into `lib` or `lib64`.
fn library() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from).into();
    folders.extend(fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path())));
    folders.into_iter().map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file())
}

fn jump(kind: Kind, library: &PathBuf) -> Option<Answer> {
    let dir = TempDir::new("clock");
    let now = dir.path().join("now");
    let set = |offset: &str| fs::write(&now, offset).expect("the directory is ours");
    set("+0");
    let mut child = Child::start(ROLE, kind, &[], |command| {
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &now);
        // Without it the file is read every ten seconds.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    let child = child.as_mut().expect("it is this program");
    child.answer()?;
    for offset in ["+0", "+3600", "-3600"] {
        set(offset);
        thread::sleep(Duration::from_secs(2));
    }
    child.tell("report");
    child.answer()
}

#[derive(Debug, Default)]
struct Counting(Arc<AtomicU64>);

struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl r2d2::ManageConnection for Counting {
    type Connection = Counted;
    type Error = Infallible;

    fn connect(&self) -> Result<Counted, Infallible> {
        Ok(Counted(Arc::clone(&self.0)))
    }
    fn is_valid(&self, _: &mut Counted) -> Result<(), Infallible> {
        Ok(())
    }
    fn has_broken(&self, _: &mut Counted) -> bool {
        false
    }
}

#[derive(Clone)]
enum Pool {
    Millpond(millpond::Pool<millpond::R2d2<Counting>>),
    R2d2(r2d2::Pool<Counting>),
}

/// A guard of either pool, held for its drop.
enum Lent {
    Millpond { _conn: millpond::PooledConnection<millpond::R2d2<Counting>> },
    R2d2 { _conn: r2d2::PooledConnection<Counting> },
}

impl Pool {
    fn new(kind: Kind, size: u32, closed: &Arc<AtomicU64>) -> Self {
        let (manager, limit) = (Counting(Arc::clone(closed)), Some(LIFETIME));
        match kind {
            Kind::Millpond => {
                let builder = millpond::Pool::builder(manager).max_size(size).min_idle(size);
                let pool = builder.max_lifetime(limit).idle_timeout(limit).build();
                Self::Millpond(pool.expect("connecting cannot fail"))
            }
            Kind::R2d2 => {
                let builder = r2d2::Pool::builder().max_size(size).max_lifetime(limit).idle_timeout(limit);
                Self::R2d2(builder.build(manager).expect("connecting cannot fail"))
            }
        }
    }

    fn get(&self, timeout: Duration) -> Option<Lent> {
        match self {
            Self::Millpond(pool) => Some(Lent::Millpond { _conn: pool.get_timeout(timeout).ok()? }),
            Self::R2d2(pool) => Some(Lent::R2d2 { _conn: pool.get_timeout(timeout).ok()? }),
        }
    }
}

/// The process whose clock jumps.
pub(super) fn child(kind: Kind) {
    let closed = Arc::default();
    let pool = Pool::new(kind, SIZE, &closed);
    let taken = Pool::new(kind, 1, &closed);
    let held = taken.get(DEADLINE);
    let (done, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    report(&[("ready", &true)]);
    let (jumps, early, late) = thread::scope(|scope| {
        let jumps = scope.spawn(|| count_jumps(&done));
        let deadlines = scope.spawn(|| keep_deadlines(&taken, &done));
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    failed.fetch_add(u64::from(pool.get(DEADLINE).is_none()), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        hear();
        done.store(true, Ordering::Relaxed);
        let (early, late) = deadlines.join().expect("it only waits");
        (jumps.join().expect("it only looks"), early, late)
    });
    let (closed, failed) = (closed.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    report(&[
        ("jumps", &jumps),
        ("closed", &closed),
        ("failed", &failed),
        ("early", &early.as_micros()),
        ("late", &late.as_micros()),
    ]);
    drop(held);
}

/// Proves that there was a fault: how often the two clocks parted by more than a minute.
fn count_jumps(done: &AtomicBool) -> u32 {
    let (wall, steady) = (SystemTime::now(), Instant::now());
    let drift = || {
        let now = SystemTime::now();
        let passed = now.duration_since(wall).map_or_else(|error| -error.duration().as_secs_f64(), |d| d.as_secs_f64());
        passed - steady.elapsed().as_secs_f64()
    };
    let (mut jumps, mut before) = (0, drift());
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        let now = drift();
        jumps += u32::from((now - before).abs() > 60.0);
        before = now;
    }
    jumps
}

/// Waits in vain over and over: by how much the earliest came too early, and the latest too late.
fn keep_deadlines(taken: &Pool, done: &AtomicBool) -> (Duration, Duration) {
    let (mut early, mut late) = (Duration::ZERO, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let got = taken.get(DEADLINE);
        let took = begun.elapsed();
        assert!(got.is_none(), "the only connection is held");
        early = early.max(DEADLINE.saturating_sub(took));
        late = late.max(took.saturating_sub(DEADLINE));
    }
    (early, late)
}
