//! A manager that does what a test tells it, and keeps accounts of it.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its own part")]

mod example;
pub mod folder;

pub use example::built_example;
pub use folder::Folder;

pub use millpond::testing::{Gate, assert_lends_all as assert_healthy, eventually, settle};
use millpond::{Fault, Manager, Pool};
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub u32);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused (attempt {})", self.0)
    }
}

impl std::error::Error for Refused {}

/// Connections to it are its name.
pub struct Named(pub &'static str);

impl Manager for Named {
    type Connection = &'static str;
    type Error = Infallible;

    fn connect(&self) -> Result<&'static str, Infallible> {
        Ok(self.0)
    }
    fn is_valid(&self, _: &mut &'static str) -> Result<(), Infallible> {
        Ok(())
    }
}

/// What the manager is to do, and what it has done.
#[derive(Default)]
pub struct Lab {
    pub attempts: AtomicU32,
    /// Attempts that are under way.
    pub connecting: AtomicU32,
    /// For each attempt how many were under way then, itself included, and how many connections were open.
    pub at_once: Mutex<Vec<(u32, u32)>>,
    pub live: AtomicU32,
    pub most_live: AtomicU32,
    pub dropped: AtomicU32,
    pub checks: AtomicU32,
    pub resets: AtomicU32,
    pub refuse: AtomicBool,
    pub permanent: AtomicBool,
    pub invalid: AtomicBool,
    /// Connections with smaller numbers fail their check.
    pub dead_below: AtomicU32,
    pub broken: AtomicBool,
    pub unclean: AtomicBool,
    /// The callback that panics.
    pub panics: Mutex<Option<&'static str>>,
    pub connect_gate: Mutex<Option<Gate>>,
    pub check_gate: Mutex<Option<Gate>>,
    pub drop_gate: Mutex<Option<Gate>>,
}

impl Lab {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn set_panics(&self, callback: Option<&'static str>) {
        *self.panics.lock().expect("no panic under this lock") = callback;
    }

    fn maybe_panic(&self, callback: &'static str) {
        let panics = *self.panics.lock().expect("no panic under this lock");
        if panics == Some(callback) {
            // Not `panic!`, whose message on the terminal would drown everything else ten thousand times over.
            std::panic::resume_unwind(Box::new(format!("scripted panic in {callback}")));
        }
    }

    pub fn gate(slot: &Mutex<Option<Gate>>) -> Gate {
        let gate = Gate::new();
        *slot.lock().expect("no panic under this lock") = Some(gate.clone());
        gate
    }

    fn pass(slot: &Mutex<Option<Gate>>) {
        let gate = slot.lock().expect("no panic under this lock").clone();
        if let Some(gate) = gate {
            gate.pass();
        }
    }

    pub fn manager(self: &Arc<Self>) -> Scripted {
        Scripted(Arc::clone(self))
    }
}

pub struct Scripted(pub Arc<Lab>);

pub struct Conn {
    pub number: u32,
    lab: Arc<Lab>,
    /// Set while somebody uses it: two users at once would be the worst defect of all.
    pub used: AtomicBool,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({})", self.number)
    }
}

impl Conn {
    /// Uses the connection and asserts that nobody else does.
    pub fn exclusively<R>(&self, f: impl FnOnce() -> R) -> R {
        assert!(!self.used.swap(true, SeqCst), "two borrowers of one connection");
        let result = f();
        assert!(self.used.swap(false, SeqCst), "two borrowers of one connection");
        result
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        Lab::pass(&self.lab.drop_gate);
        self.lab.live.fetch_sub(1, SeqCst);
        self.lab.dropped.fetch_add(1, SeqCst);
        self.lab.maybe_panic("drop");
    }
}

/// Counts down at the end, whatever that is.
struct UnderWay<'a>(&'a AtomicU32, u32);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Manager for Scripted {
    type Connection = Conn;
    type Error = Refused;

    fn connect(&self) -> Result<Conn, Refused> {
        let number = self.0.attempts.fetch_add(1, SeqCst) + 1;
        let under_way = UnderWay(&self.0.connecting, self.0.connecting.fetch_add(1, SeqCst) + 1);
        self.0.at_once.lock().expect("no panic under this lock").push((under_way.1, self.0.live.load(SeqCst)));
        Lab::pass(&self.0.connect_gate);
        self.0.maybe_panic("connect");
        if self.0.refuse.load(SeqCst) {
            return Err(Refused(number));
        }
        let live = self.0.live.fetch_add(1, SeqCst) + 1;
        self.0.most_live.fetch_max(live, SeqCst);
        Ok(Conn { number, lab: Arc::clone(&self.0), used: AtomicBool::new(false) })
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Refused> {
        let number = self.0.checks.fetch_add(1, SeqCst) + 1;
        Lab::pass(&self.0.check_gate);
        self.0.maybe_panic("is_valid");
        let dead = self.0.invalid.load(SeqCst) || conn.number < self.0.dead_below.load(SeqCst);
        if dead { Err(Refused(number)) } else { Ok(()) }
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        self.0.maybe_panic("has_broken");
        self.0.broken.load(SeqCst)
    }

    fn reset(&self, _: &mut Conn) -> Result<(), Refused> {
        let number = self.0.resets.fetch_add(1, SeqCst) + 1;
        self.0.maybe_panic("reset");
        if self.0.unclean.load(SeqCst) { Err(Refused(number)) } else { Ok(()) }
    }

    fn close(&self, connection: Conn) {
        self.0.maybe_panic("close");
        drop(connection);
    }

    fn classify(&self, _: &Refused) -> Fault {
        self.0.maybe_panic("classify");
        if self.0.permanent.load(SeqCst) { Fault::Permanent } else { Fault::Transient }
    }
}

/// Long enough that only a defect reaches it, on any machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until nothing is being opened, checked or closed, without the upkeep that is due.
pub fn come_to_rest<M: Manager>(pool: &Pool<M>) {
    eventually("everything under way has ended", || {
        let stats = pool.stats();
        stats.connecting == 0 && stats.checking == 0 && stats.size == stats.idle + stats.in_use
    });
}
