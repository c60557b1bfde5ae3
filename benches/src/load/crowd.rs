//! Clients that come back as soon as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::client::Client;
use super::outcome::{Kind, Outcome};

/// After a 503 a client comes back after so many milliseconds: sooner than it is asked to.
const BACK_AFTER: std::ops::Range<u64> = 50..150;

/// Of a hundred requests so many are for the JSON, and so many write. The others are for the page.
pub const MIX: (u32, u32) = (15, 10);

/// Each client is a thread with one connection: a closed loop, so one that waits for its answer asks for nothing else.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Outcome>>,
    begun: Instant,
}

impl Crowd {
    pub fn gather(address: SocketAddr, clients: u32) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let clients = (0..clients).map(|number| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || visit(address, number, &stop, &answered))
        });
        let clients = clients.collect();
        Self { stop, answered, clients, begun }
    }

    /// Answers until now.
    pub fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// Waits until each client has its last answer.
    pub fn dissolve(self) -> Outcome {
        self.stop.store(true, Relaxed);
        let mut all = Outcome::default();
        for client in self.clients {
            all.add(client.join().expect("a client does not panic"));
        }
        all.seconds = self.begun.elapsed().as_secs_f64();
        all
    }
}

fn visit(address: SocketAddr, number: u32, stop: &AtomicBool, answered: &AtomicU64) -> Outcome {
    let mut rng = Rng::with_seed(number.into());
    let mut client = Client::new(address);
    let mut outcome = Outcome::default();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (page, api) = (get("/"), get("/api/entries?limit=5"));
    let form = format!("name=client+{number}&text=a+word+that+nobody+needs");
    let write = format!(
        "POST /entries HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    while !stop.load(Relaxed) {
        let (kind, request) = match rng.u32(..100) {
            n if n < MIX.0 => (Kind::Api, &api),
            n if n < MIX.0 + MIX.1 => (Kind::Write, &write),
            _ => (Kind::Page, &page),
        };
        let asked = Instant::now();
        match client.ask(request) {
            Ok(status) => {
                outcome.answered(kind, status, asked.elapsed());
                answered.fetch_add(1, Relaxed);
                if status == 503 {
                    thread::sleep(Duration::from_millis(rng.u64(BACK_AFTER)));
                }
            }
            Err(error) => {
                outcome.failed(error.kind().to_string());
                thread::sleep(Duration::from_millis(rng.u64(BACK_AFTER)));
            }
        }
    }
    outcome
}
