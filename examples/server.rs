//! A guest book on the web: a threaded HTTP server over a SQLite file, to be copied as the start of a service.
//!
//! ```text
//! cargo run --release --example server -- --port 8080
//! ```
//!
//! It prints what to open in the browser. `--help` lists what can be set; `RUST_LOG=debug` shows each request.
//!
//! - **One connection a request.** `scope` is the one place where a request gets its connection, with a transaction and a
//!   deadline around all of its work; what is called from there asks the pool and gets that same one. It goes home before the
//!   answer is sent, so a client that reads slowly keeps nobody waiting.
//! - **One queue, and it has an end.** Each client has a thread, and waits for a connection in the pool's own queue: in turn,
//!   up to the deadline, and no more than `--waiting` of them. Whoever is too many is told so at once, with a 503 that names
//!   the pool and says when to come back.
//! - **Operators are always answered.** `/health`, `/metrics`, `/pools.json` and `/status` borrow nothing and wait for nobody,
//!   and sixteen connections are kept free for them when there are too many clients. (A port of their own would be safer still.)
//! - **It ends in good order.** At the first Ctrl-C, or SIGTERM, what is under way is finished, whoever is new gets a 503, the
//!   pool is closed, and a report is printed. At the second one it ends at once.
//!
//! HTTP is read with the crate httparse, in `support/http.rs`. tiny_http was looked at and left: it does not send
//! `Connection: close` for a program, gives no access to sockets, so that a client which reads slowly holds a worker for ever,
//! and accepts nobody any more after the first failure to do so. TLS, log-ins and what else a service faces the world with are
//! left to a proxy in front, which is also to keep strangers from the four paths for operators.
#![allow(clippy::print_stdout, reason = "it says where it is, and prints a report at the end")]
#![allow(clippy::disallowed_methods, reason = "it times itself; only the library has a clock of its own")]

#[path = "server/failure.rs"]
mod failure;
#[path = "server/flags.rs"]
mod flags;
#[path = "server/guest_book.rs"]
mod guest_book;
#[path = "support/http.rs"]
#[allow(dead_code, reason = "the example of document stores uses more of it")]
mod http;
#[path = "server/listener.rs"]
mod listener;
#[path = "server/operations.rs"]
mod operations;
#[path = "server/pages.rs"]
mod pages;
#[path = "server/report.rs"]
mod report;
#[path = "server/routes.rs"]
mod routes;
#[path = "server/scope.rs"]
mod scope;
#[path = "server/signals.rs"]
mod signals;
#[path = "server/site.rs"]
mod site;
#[path = "server/tally.rs"]
mod tally;
#[path = "server/watch.rs"]
mod watch;
#[path = "server/work.rs"]
mod work;

use clap::Parser;
use flags::Flags;
use guest_book::GuestBook;
use millpond::Status;
use site::Site;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Any error, from any of the libraries in play.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Time enough to close files, also where all of the time for finishing is used up.
const LAST_MOMENT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let flags = Flags::parse();
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    serve(&flags).unwrap_or_else(|error| {
        eprintln!("server: {error}");
        ExitCode::FAILURE
    })
}

fn serve(flags: &Flags) -> Result<ExitCode, Fault> {
    // First of all: a signal that comes while the rest begins is not lost.
    let stop = signals::listen()?;
    let book = GuestBook::open(flags)?;
    let address = flags.address();
    let socket = TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let address = socket.local_addr()?;
    let site = Arc::new(Site::new(book, flags.deadline));
    listener::listen(socket, Arc::clone(&site), flags.connections)?;
    report::welcome(address, flags);

    let began = Instant::now();
    let signal = stop.recv().map_err(|_| "nobody listens for signals any more");
    signal?;
    log::info!("ending: what is under way has {:.0?} to finish; another Ctrl-C ends at once", flags.grace);
    let until = Instant::now() + flags.grace;
    let unfinished = site.work().close(until);
    // Before the pool is closed, after which it would say little more than that.
    let pools = Status::of([site.pool()]);
    // Says who still holds a connection, where somebody does. Closing those that nobody holds takes a moment in any case.
    let closed = site.pool().close_and_wait(until.saturating_duration_since(Instant::now()).max(LAST_MOMENT));
    report::farewell(site.tally(), began.elapsed(), &pools);
    if unfinished > 0 {
        log::error!("{unfinished} requests were not finished within {:.0?}", flags.grace);
    }
    if let Err(error) = &closed {
        log::error!("{error}");
    }
    Ok(if unfinished == 0 && closed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
