//! The server: threads that answer requests over keep-alive connections, and a count of those connections.

mod census;
#[path = "../../support/http.rs"]
#[allow(dead_code, reason = "the example of a server uses more of it")]
pub(crate) mod http;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use census::Book;
pub(crate) use census::Census;
use http::{Answer, Refusal, Request, Wire};
use serde_json::json;

/// How long a client may take for a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// What Firestore allows for a document.
const LONGEST_BODY: usize = 1024 * 1024;

/// What is done with a request. Runs on the thread of its connection.
pub(crate) type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// What a server allows, and how fast it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// After how long without a request a connection is closed.
    pub(crate) keep_alive: Duration,
    /// The most connections. One more is accepted and closed without a word, as by a server that is full.
    pub(crate) most: usize,
    /// What each request takes beyond its own work, as if the server was some way off.
    pub(crate) delay: Duration,
}

impl Default for Manners {
    fn default() -> Self {
        Self { keep_alive: Duration::from_secs(75), most: usize::MAX, delay: Duration::ZERO }
    }
}

/// An HTTP/1.1 server on the loopback; stops when it is dropped.
///
/// Each connection has a thread. Requests have to say their length: a body in chunks is refused (501), and so is one of
/// more than a mebibyte (413). There is no TLS and no HTTP/2.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    doorman: Option<thread::JoinHandle<()>>,
}

struct Shared {
    manners: Manners,
    handler: Arc<Handler>,
    book: Book,
}

impl Server {
    /// Listens on a free port of the loopback.
    ///
    /// It is one below those that the kernel takes for outgoing connections, because a server that comes back to its port
    /// must not find it taken, and a client that knocks meanwhile can even be connected to itself.
    pub(crate) fn start(manners: Manners, handler: Arc<Handler>) -> io::Result<Self> {
        let random = RandomState::new();
        let mut ports = (0..1_000_u32).map(|attempt| 10_240 + (random.hash_one(attempt) % 20_000) as u16);
        let listener = ports.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let none = || io::Error::new(io::ErrorKind::AddrInUse, "of a thousand ports none was free");
        Self::listen(listener.ok_or_else(none)?, manners, handler)
    }

    /// Listens where another one has stopped.
    pub(crate) fn start_at(address: SocketAddr, manners: Manners, handler: Arc<Handler>) -> io::Result<Self> {
        Self::listen(TcpListener::bind(address)?, manners, handler)
    }

    fn listen(listener: TcpListener, manners: Manners, handler: Arc<Handler>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { manners, handler, book: Book::default() });
        let its = Arc::clone(&shared);
        let doorman = thread::Builder::new().name("doorman".to_owned()).spawn(move || its.admit(&listener))?;
        Ok(Self { address, shared, doorman: Some(doorman) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn census(&self) -> Census {
        self.shared.book.census()
    }

    /// From now on requests are read, and not answered until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.shared.book.set_held(true);
    }

    pub(crate) fn release(&self) {
        self.shared.book.set_held(false);
    }

    /// Closes the connections on which no request is under way, as a server does to save them. One whose answer is just
    /// going out is closed behind it, by its own thread.
    pub(crate) fn close_idle(&self) {
        self.shared.book.close_idle();
    }

    /// Closes everything, and waits until that is done.
    pub(crate) fn stop(&mut self) {
        let Some(doorman) = self.doorman.take() else { return };
        self.shared.book.stop();
        // It waits in `accept`, which nothing but a visitor ends.
        drop(TcpStream::connect(self.address));
        drop(doorman.join());
        self.shared.book.close_all();
        self.shared.book.wait_until_empty();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn admit(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.book.is_stopped() {
                return;
            }
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely: they come back, but not by asking in a loop.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            let Some(guest) = self.book.enter(&stream, self.manners.most) else { continue };
            let its = Arc::clone(self);
            let serve = move || {
                // Whatever the handler does, the connection is crossed out.
                let _entry = Entry { book: &its.book, guest };
                // An error here is a client that went away or fell silent, and it will not hear of it.
                drop(its.serve(stream, guest));
            };
            if thread::Builder::new().name(format!("guest-{guest}")).spawn(serve).is_err() {
                self.book.gone(guest);
            }
        }
    }

    fn serve(&self, stream: TcpStream, guest: u64) -> io::Result<()> {
        let mut wire = Wire::new(stream, LONGEST_BODY, PATIENCE)?;
        while wire.wait(self.manners.keep_alive)? {
            self.book.begin(guest);
            let (answer, keep) = match wire.request(PATIENCE)? {
                Ok(request) => (self.handle(&request), request.keep_alive),
                // Where the next request would begin is not known.
                Err(Refusal { status, message }) => {
                    (Answer::json(status, json!({ "code": status, "details": message })), false)
                }
            };
            let keep = self.book.end(guest) && keep;
            wire.answer(&answer, keep, false)?;
            if !self.book.answered(guest) || !keep {
                break;
            }
        }
        Ok(())
    }

    fn handle(&self, request: &Request) -> Answer {
        self.book.wait_while_held();
        if !self.manners.delay.is_zero() {
            thread::sleep(self.manners.delay);
        }
        (self.handler)(request)
    }
}

struct Entry<'a> {
    book: &'a Book,
    guest: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.book.gone(self.guest);
    }
}
