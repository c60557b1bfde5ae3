//! A server as an application has one, with two URLs: the status page and its JSON.

use millpond::status::{CONTENT_SECURITY_POLICY, page};
use parking_lot::{Condvar, Mutex};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Answer,
    /// Closes each connection without a word.
    HangUp,
    /// Takes each request for the JSON and never answers.
    Hang,
    /// Says 500.
    Fail,
}

type Json = Box<dyn Fn() -> String + Send>;

struct Shared {
    json: Mutex<Json>,
    does: Mutex<Does>,
    changed: Condvar,
    /// The paths that were asked for.
    asked: Mutex<Vec<String>>,
    hanging: AtomicU32,
    ended: AtomicBool,
}

pub(crate) struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    pub(crate) fn new(json: impl Fn() -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            json: Mutex::new(Box::new(json)),
            does: Mutex::new(Does::Answer),
            changed: Condvar::new(),
            asked: Mutex::default(),
            hanging: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if served.ended.load(SeqCst) {
                    break;
                }
                let served = Arc::clone(&served);
                // A browser opens connections ahead of time, and says nothing on them.
                thread::spawn(move || served.answer(stream));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/pools", self.address)
    }

    pub(crate) fn does(&self, what: Does) {
        *self.shared.does.lock() = what;
        self.shared.changed.notify_all();
    }

    pub(crate) fn says(&self, json: impl Fn() -> String + Send + 'static) {
        *self.shared.json.lock() = Box::new(json);
    }

    /// What was asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().clone()
    }

    /// How many requests wait for an answer that does not come.
    pub(crate) fn hanging(&self) -> u32 {
        self.shared.hanging.load(SeqCst)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.does(Does::HangUp);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn does(&self) -> Does {
        *self.does.lock()
    }

    /// Until something else is to be done, or everybody has left long ago.
    fn hang(&self) {
        self.hanging.fetch_add(1, SeqCst);
        let mut does = self.does.lock();
        self.changed.wait_while_for(&mut does, |does| *does == Does::Hang, Duration::from_secs(60));
        drop(does);
        self.hanging.fetch_sub(1, SeqCst);
    }

    fn answer(&self, mut stream: TcpStream) {
        drop(stream.set_read_timeout(Some(Duration::from_secs(30))));
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let Some(path) = lines.next().and_then(|request| request.split(' ').nth(1).map(str::to_owned)) else {
            return;
        };
        // A connection that is closed with something unread in it is reset, and the answer with it.
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        self.asked.lock().push(path.clone());
        if self.does() == Does::Hang && path == "/pools.json" {
            self.hang();
        }
        let (status, kind, body) = match (self.does(), path.as_str()) {
            (Does::HangUp, _) => return,
            (Does::Fail, _) => ("500 Internal Server Error", "text/plain", "no".to_owned()),
            (_, "/pools") => ("200 OK", "text/html; charset=utf-8", page("/pools.json")),
            (_, "/pools.json") => ("200 OK", "application/json", self.json.lock()()),
            _ => ("404 Not Found", "text/plain", "no such thing".to_owned()),
        };
        // Stricter than what is recommended: text that became elements anywhere would be an error.
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {CONTENT_SECURITY_POLICY}; require-trusted-types-for 'script'\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        // A browser that has left needs no answer.
        drop(stream.write_all((head + &body).as_bytes()));
    }
}
