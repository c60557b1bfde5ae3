//! A server that exists only in this process, its manager, and recorders for what the pool reports.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::r2d2::{self, ManageConnection};

/// How long a test waits for what must happen. Only a failing test ever waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `holds`, because r2d2 offers nothing to wait on for its state.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "still not so: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The fake server's complaint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Complaint(pub(crate) &'static str);

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Complaint {}

/// A connection: a number, something to scribble on, and a report when it goes.
pub(crate) struct Conn {
    pub(crate) number: usize,
    pub(crate) note: String,
    gone: Sender<usize>,
    live: Arc<AtomicUsize>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn#{}", self.number)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
        // A test that does not watch closings has dropped its receiver.
        let _unwatched = self.gone.send(self.number);
    }
}

type Connect = dyn Fn(usize) -> Result<(), Complaint> + Send + Sync;
type Check = dyn Fn(&mut Conn) -> Result<(), Complaint> + Send + Sync;
type Broken = dyn Fn(&mut Conn) -> bool + Send + Sync;

/// The manager. What is not scripted succeeds.
pub(crate) struct Fake {
    connect: Box<Connect>,
    check: Box<Check>,
    broken: Box<Broken>,
    gone: Sender<usize>,
    pub(crate) seen: Seen,
}

/// What the server saw; outlives the manager.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    attempts: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
    live: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Seen {
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    pub(crate) fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// The most connections that were ever alive together.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::watched().0
    }

    /// Also gives the channel on which every closed connection sends its number.
    pub(crate) fn watched() -> (Self, Receiver<usize>) {
        let (gone, watch) = mpsc::channel();
        let manager = Self {
            connect: Box::new(|_| Ok(())),
            check: Box::new(|_| Ok(())),
            broken: Box::new(|_| false),
            gone,
            seen: Seen::default(),
        };
        (manager, watch)
    }

    /// `f` sees the attempt's number, counted from 0.
    pub(crate) fn connecting(mut self, f: impl Fn(usize) -> Result<(), Complaint> + Send + Sync + 'static) -> Self {
        self.connect = Box::new(f);
        self
    }

    /// Each attempt waits until the door is open, and succeeds.
    pub(crate) fn connecting_behind(self, door: &Door) -> Self {
        let door = door.clone();
        self.connecting(move |_| {
            door.pass();
            Ok(())
        })
    }

    pub(crate) fn checking(mut self, f: impl Fn(&mut Conn) -> Result<(), Complaint> + Send + Sync + 'static) -> Self {
        self.check = Box::new(f);
        self
    }

    pub(crate) fn breaking(mut self, f: impl Fn(&mut Conn) -> bool + Send + Sync + 'static) -> Self {
        self.broken = Box::new(f);
        self
    }
}

impl ManageConnection for Fake {
    type Connection = Conn;
    type Error = Complaint;

    fn connect(&self) -> Result<Conn, Complaint> {
        let number = self.seen.attempts.fetch_add(1, Ordering::SeqCst);
        (self.connect)(number)?;
        let live = self.seen.live.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most.fetch_max(live, Ordering::SeqCst);
        Ok(Conn { number, note: String::new(), gone: self.gone.clone(), live: Arc::clone(&self.seen.live) })
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Complaint> {
        self.seen.checks.fetch_add(1, Ordering::SeqCst);
        (self.check)(conn)
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        (self.broken)(conn)
    }
}

/// A door that starts shut; whoever passes waits until it is opened, then it stays open.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<AtomicBool>);

impl Door {
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn pass(&self) {
        eventually("the door is open", || self.0.load(Ordering::SeqCst));
    }
}

/// What an event handler was told, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Acquire(u64),
    Release(u64),
    Checkout(u64),
    Checkin(u64),
    Timeout(Duration),
}

/// Sends every event to the test.
#[derive(Debug)]
pub(crate) struct Reporter(Sender<Told>);

impl Reporter {
    pub(crate) fn new() -> (Box<Self>, Receiver<Told>) {
        let (send, receive) = mpsc::channel();
        (Box::new(Self(send)), receive)
    }

    fn tell(&self, told: Told) {
        // The test may be over before the pool is gone.
        let _over = self.0.send(told);
    }
}

impl r2d2::HandleEvent for Reporter {
    fn handle_acquire(&self, event: r2d2::event::AcquireEvent) {
        self.tell(Told::Acquire(event.connection_id()));
    }

    fn handle_release(&self, event: r2d2::event::ReleaseEvent) {
        self.tell(Told::Release(event.connection_id()));
    }

    fn handle_checkout(&self, event: r2d2::event::CheckoutEvent) {
        self.tell(Told::Checkout(event.connection_id()));
    }

    fn handle_checkin(&self, event: r2d2::event::CheckinEvent) {
        self.tell(Told::Checkin(event.connection_id()));
    }

    fn handle_timeout(&self, event: r2d2::event::TimeoutEvent) {
        self.tell(Told::Timeout(event.timeout()));
    }
}

/// Sends every error, with its type, to the test.
#[derive(Debug)]
pub(crate) struct Errors(Sender<Complaint>);

impl Errors {
    pub(crate) fn new() -> (Box<Self>, Receiver<Complaint>) {
        let (send, receive) = mpsc::channel();
        (Box::new(Self(send)), receive)
    }
}

impl r2d2::HandleError<Complaint> for Errors {
    fn handle_error(&self, error: Complaint) {
        let _over = self.0.send(error);
    }
}
