//! Accepts clients, each of which has a thread, and bounds how many there are.

use crate::http::{Refusal, Wire};
use crate::site::Site;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What a form with the longest name and text has, each character encoded, and some more.
const LONGEST_BODY: usize = 16 * 1024;
/// How long a client may take to send a request, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may lie idle: longer than the 60 s of most proxies, so that it is they who close it. A server that does
/// so may meet the next request under way.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The same on a connection on which nothing was asked yet: who connects and says nothing is not to hold a place for long.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// So many connections beside those of clients are for operators: whatever else is asked on them is a 503.
const RESERVED: usize = 16;

/// How many clients are connected.
struct Places {
    taken: Mutex<usize>,
    left: Condvar,
    most: usize,
}

/// A client's place, free again when it is dropped.
struct Place {
    places: Arc<Places>,
    /// It is one of those for operators.
    reserved: bool,
}

/// Accepts clients on a thread of its own until the process ends.
pub(crate) fn listen(socket: TcpListener, site: Arc<Site>, most: u32) -> io::Result<()> {
    let places = Arc::new(Places { taken: Mutex::new(0), left: Condvar::new(), most: most as usize });
    thread::Builder::new().name("accept".to_owned()).spawn(move || accept(&socket, &site, &places))?;
    Ok(())
}

fn accept(socket: &TcpListener, site: &Arc<Site>, places: &Arc<Places>) {
    for client in 1_u64.. {
        // Who comes while even these are taken waits in the system's queue, which has a bound of its own.
        places.wait_for_one();
        let stream = match socket.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: they come back, but not by asking in a loop.
                log::warn!("cannot accept a client: {error}");
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let (site, place) = (Arc::clone(site), places.take());
        let serve = move || {
            // An error is a client that went away or fell silent, and will not hear of it.
            if let Err(error) = serve(&site, stream, place.reserved) {
                log::debug!("client {client}: {error}");
            }
            drop(place);
        };
        if let Err(error) = thread::Builder::new().name(format!("client-{client}")).spawn(serve) {
            log::warn!("no thread for a client: {error}");
        }
    }
}

/// Answers one request after the other, until the client leaves, or is asked to.
fn serve(site: &Site, stream: TcpStream, reserved: bool) -> io::Result<()> {
    let mut wire = Wire::new(stream, LONGEST_BODY, PATIENCE)?;
    let mut patience = FIRST_WORD;
    while wire.wait(patience)? {
        patience = KEEP_ALIVE;
        let began = Instant::now();
        let (answered, keep, head_only) = match wire.request(PATIENCE)? {
            Ok(request) => {
                let answered = site.answer(&request, reserved);
                log::debug!("{} {}: {}", request.method, request.path(), answered.answer.status);
                let keep = request.keep_alive && !reserved && !site.work().is_closed();
                (answered, keep, request.method == "HEAD")
            }
            // Where the next request would begin is not known.
            Err(Refusal { status, message }) => (site.refuse(status, message), false, false),
        };
        let sent = wire.answer(&answered.answer, keep, head_only);
        site.tally().record(answered.kind, answered.answer.status, began.elapsed());
        drop(answered);
        sent?;
        if !keep {
            wire.finish();
            break;
        }
    }
    Ok(())
}

impl Places {
    /// Waits until not even those for operators are all taken.
    fn wait_for_one(&self) {
        self.left.wait_while(&mut self.taken.lock(), |taken| *taken >= self.most + RESERVED);
    }

    fn take(self: &Arc<Self>) -> Place {
        let mut taken = self.taken.lock();
        *taken += 1;
        let reserved = *taken > self.most;
        drop(taken);
        Place { places: Arc::clone(self), reserved }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.places.taken.lock() -= 1;
        self.places.left.notify_one();
    }
}
