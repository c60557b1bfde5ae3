//! A TCP forwarder that misbehaves on request.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use rustix::net::sockopt;

use crate::{
    PATIENCE,
    port::{free_port, loopback},
};

/// What a [`Proxy`] does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Forwards everything.
    Pass,
    /// Nobody listens: new connections are refused. Open ones go on.
    Refuse,
    /// Open connections are reset (RST), new ones as soon as they are accepted.
    Reset,
    /// Connections stay open, new ones are accepted, and no byte passes in either
    /// direction. What was sent arrives late, as after a broken route, once the
    /// mode changes to [`Pass`](Self::Pass).
    BlackHole,
    /// Forwards each piece this much later, in each direction.
    Delay(Duration),
}

/// A port of its own that forwards to a server, on threads.
///
/// The port stays the same for the life of the value. Dropping it resets all its
/// connections.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    listener: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    addr: SocketAddr,
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Whether the listener is open; follows `mode` a moment later.
    listening: bool,
    closing: bool,
    accepted: u64,
    links: Vec<Weak<Link>>,
}

/// A connection from a client and the one to the server that belongs to it.
///
/// Its two threads share the sockets rather than copies of them: a reset is sent
/// when the last reference to a socket is closed.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    ///
    /// # Panics
    ///
    /// If no port can be opened.
    pub fn to(target: SocketAddr) -> Self {
        let addr = loopback(free_port());
        let listener = listen(addr);
        let shared = Arc::new(Shared {
            addr,
            target,
            state: Mutex::new(State {
                mode: Mode::Pass,
                listening: true,
                closing: false,
                accepted: 0,
                links: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let mine = Arc::clone(&shared);
        let listener = thread::spawn(move || mine.listen(listener));
        Self { shared, listener: Some(listener) }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.shared.addr.port()
    }

    /// How many connections were accepted, in all modes, since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.state().accepted
    }

    /// How many connections are open through the proxy, held ones included.
    pub fn open(&self) -> usize {
        let state = self.shared.state();
        let live = |link: &&Weak<Link>| link.strong_count() > 0;
        state.links.iter().filter(live).count()
    }

    /// Changes what the proxy does, and returns when it does it.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state();
        state.mode = mode;
        if mode == Mode::Reset {
            state.cut();
        }
        self.shared.changed.notify_all();
        let listen = mode != Mode::Refuse;
        while state.listening != listen {
            if !listen {
                drop(state);
                self.shared.knock();
                state = self.shared.state();
            }
            // The knock may come before the listener waits, so look again soon.
            let patience = Duration::from_millis(50);
            state = match self.shared.changed.wait_timeout(state, patience) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        drop(state);
    }

    /// Resets all open connections once; the mode stays.
    pub fn reset_all(&self) {
        self.shared.state().cut();
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        state.cut();
        drop(state);
        self.shared.changed.notify_all();
        self.shared.knock();
        if let Some(listener) = self.listener.take() {
            // It ends by itself; what it panicked with has been printed.
            drop(listener.join());
        }
    }
}

impl State {
    /// Makes every open connection end with RST: nothing lingers, and both its
    /// threads wake and let go of the sockets.
    fn cut(&mut self) {
        for link in self.links.drain(..).filter_map(|link| link.upgrade()) {
            for socket in [&link.client, &link.server] {
                let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
                // Reading only: ending the writing half would send FIN first.
                drop(socket.shutdown(Shutdown::Read));
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `so` holds, without a limit.
    fn wait_while(&self, so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.state(), |state| so(state)).unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a listener that waits for a connection.
    fn knock(&self) {
        drop(TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)));
    }

    /// Accepts connections until the proxy closes. A refusing proxy has no
    /// listener: the next one takes the same port.
    fn listen(self: Arc<Self>, mut listener: TcpListener) {
        loop {
            let client = listener.accept();
            let mut state = self.state();
            if state.closing {
                return;
            }
            if state.mode == Mode::Refuse {
                // Not only closed: a process that is being started has a copy of it until it runs its program.
                let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
                drop((client, listener));
                state.listening = false;
                self.changed.notify_all();
                drop(state);
                let waiting = |state: &State| state.mode == Mode::Refuse && !state.closing;
                let closing = self.wait_while(waiting).closing;
                if closing {
                    return; // without a listener that nobody would wake
                }
                listener = listen(self.addr);
                self.state().listening = true;
                self.changed.notify_all();
            } else if let Ok((client, _)) = client {
                state.accepted += 1;
                let reset = state.mode == Mode::Reset;
                drop(state);
                if reset {
                    let _ = sockopt::set_socket_linger(&client, Some(Duration::ZERO));
                } else {
                    let shared = Arc::clone(&self);
                    thread::spawn(move || shared.serve(client));
                }
            }
        }
    }

    /// Connects to the server, as soon as the mode allows, and forwards.
    fn serve(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target) else {
            return;
        };
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        let link = Arc::new(Link { client, server });
        let mut state = self.state();
        state.links.retain(|link| link.strong_count() > 0);
        state.links.push(Arc::downgrade(&link));
        let late = state.closing || state.mode == Mode::Reset;
        if late {
            // The proxy was told to reset while this connection was on its way.
            state.cut();
        }
        drop(state);
        let (shared, other) = (Arc::clone(&self), Arc::clone(&link));
        thread::spawn(move || shared.pump(&other, &other.server, &other.client));
        self.pump(&link, &link.client, &link.server);
    }

    /// Forwards one direction until it ends.
    fn pump(&self, link: &Arc<Link>, from: &TcpStream, to: &TcpStream) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = read(from, &mut buffer);
            let held = |state: &State| state.mode == Mode::BlackHole && state.holds(link);
            let state = self.wait_while(held);
            if !state.holds(link) {
                return; // reset: the sockets close without another word
            }
            let mode = state.mode;
            drop(state);
            if let Mode::Delay(delay) = mode {
                thread::sleep(delay);
            }
            let piece = match read {
                Ok(0) | Err(_) => break,
                Ok(n) => buffer.get(..n).expect("no more was read than fits"),
            };
            let mut to = to;
            if to.write_all(piece).is_err() {
                break;
            }
        }
        // One end is gone: the other hears of it, and the other thread ends too.
        drop(to.shutdown(Shutdown::Write));
    }
}

impl State {
    /// Whether this connection has not been reset.
    fn holds(&self, link: &Arc<Link>) -> bool {
        let mine = Arc::downgrade(link);
        !self.closing && self.links.iter().any(|other| other.ptr_eq(&mine))
    }
}

/// Listens on a port that was free a moment ago: if somebody passes through it, we wait.
fn listen(addr: SocketAddr) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "the proxy has lost {addr}: {error}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn read(mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
