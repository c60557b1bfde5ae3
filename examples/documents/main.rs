//! Document stores over HTTP: keep-alive clients of Firestore's and SurrealDB's interfaces in a pool.
//!
//! ```text
//! cargo run --release --example documents
//! ```
//!
//! The example starts the server that it talks to, on the loopback: `store` holds small stand-ins for the two document
//! stores, which know documents, simple queries and errors in the real shapes, and nothing else. The clients, in `client`,
//! send what the real ones are to be sent, but were tried on these alone, and know no TLS.
//!
//! An agent of ureq keeps connections open for the next request, but it opens a new one whenever none is idle: as many as
//! there are requests at once. A pool of agents that keep one connection each sets a bound, lets the others wait in
//! turn and up to a deadline, says who holds the clients when that passes, and counts. A table shows both side by side.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it times itself; only the library has a clock of its own")]

#[path = "../support/airports.rs"]
#[allow(dead_code, reason = "the quick start makes a database of them")]
mod airports;
mod client;
mod contest;
mod report;
mod scenes;
mod server;
mod site;
mod store;

use std::sync::Arc;
use std::time::Duration;

use airports::Atlas;
use client::Documents;
use contest::{AIRPORTS, Scale};
use indicatif::HumanCount;
use serde_json::{Value as Json, json};
use server::Manners;
use site::{Opener, Site};
use store::{Credentials, Stores};

/// Any error, from any of the libraries in play.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A quarter as many as there are threads.
const CLIENTS: u32 = 4;

fn main() -> Result<(), Failure> {
    let atlas = Atlas::read()?;
    let credentials = Credentials {
        token: "ya29.example".to_owned(),
        user: "root".to_owned(),
        password: "correct horse battery staple".to_owned(),
    };
    let stores = Arc::new(Stores::new(&credentials));
    let mut site = Site::open(Manners::default(), &stores)?;

    tour("Firestore", &site, &site::firestore(&credentials), &atlas)?;
    tour("SurrealDB", &site, &site::surreal(&credentials), &atlas)?;
    compare("Firestore", &site::firestore(&credentials), &stores, &atlas)?;
    compare("SurrealDB", &site::surreal(&credentials), &stores, &atlas)?;

    let pool = site.clients(&site::firestore(&credentials)).max_size(2).build()?;
    println!("\nA server that does not answer, and three threads that want one of two clients. The third one gets:");
    println!("  {}", scenes::slow_server(&site, &pool, Duration::from_millis(100))?);

    let (open, jfk) = scenes::idle_connections_close(&site, &pool)?;
    println!("\nThe server closes its {open} idle connections; the next request opens one anew: {}.", Json::from(jfk));

    let returned = scenes::server_returns(&mut site, &pool, 8, 5)?;
    println!(
        "\nFive times the server stops and comes back while eight threads read: {} requests answered, {} failed.",
        HumanCount(returned.answered as u64),
        returned.failed.len(),
    );
    if let Some(first) = returned.failed.into_iter().next() {
        return Err(first.into());
    }
    let stats = pool.stats();
    println!(
        "The pool had two clients at a time, {} in all; of {} checkouts, {} had to wait and {} timed out.",
        stats.opened,
        HumanCount(stats.checkouts),
        HumanCount(stats.waits),
        stats.timeouts
    );
    println!("\nWhat a client shows of itself: {:?}", *pool.get()?);

    pool.close_and_wait(Duration::from_secs(10))?;
    println!("\nEvery answer was right, and no pool ever had more connections open than clients.");
    Ok(())
}

/// Every kind of request once.
fn tour<D: Documents>(store: &str, site: &Site, open: &impl Opener<D>, atlas: &Atlas) -> Result<(), Failure> {
    let pool = site.clients(open).max_size(CLIENTS).build()?;
    // A client is borrowed for as long as the guard is there, for one request or for many.
    contest::load(&mut *pool.get()?, atlas)?;
    println!("{store} has {} airports now, each a document.", HumanCount(atlas.airports().len() as u64));

    let mut client = pool.get()?;
    println!("  get     {}", Json::from(client.get(AIRPORTS, "JFK")?));
    println!("  query   the northernmost of Alaska: {}", contest::northernmost(&mut *client, "AK")?.join(", "));
    let note = json!({ "text": "Grüße, 世界", "seen": 1, "tags": ["new"] });
    client.put("notes", "überall 100 %", note.as_object().ok_or("a note is an object")?)?;
    let seen = json!({ "seen": 2 });
    client.update("notes", "überall 100 %", seen.as_object().ok_or("a change is an object")?)?;
    println!("  update  {}", Json::from(client.get("notes", "überall 100 %")?));
    client.delete("notes", "überall 100 %")?;
    if let Err(error) = client.get("notes", "überall 100 %") {
        println!("  error   {error}");
    }
    drop(client);
    Ok(pool.close_and_wait(Duration::from_secs(10))?)
}

/// The same requests over a shared agent, and through a pool.
fn compare<D: Documents>(
    store: &str,
    open: &impl Opener<D>,
    stores: &Arc<Stores>,
    atlas: &Atlas,
) -> Result<(), Failure> {
    let manners = Manners { delay: Duration::from_millis(1), ..Manners::default() };
    let scale = Scale { threads: 16, rounds: 3, requests: 100, clients: CLIENTS, manners };
    let outcomes = contest::run(store, open, stores, atlas, scale)?;
    let crowd = Scale { rounds: 1, requests: 50, manners: Manners { most: 8, ..manners }, ..scale };
    let crowded = contest::run(store, open, stores, atlas, crowd)?;
    report::table(store, &outcomes, &crowded, scale, crowd);
    for outcome in outcomes {
        if let Some(error) = outcome.tally.first_error {
            return Err(error);
        }
        if outcome.bound.is_some_and(|bound| outcome.census.most_open > bound as usize) {
            return Err(format!("{}: {} connections at once", outcome.name, outcome.census.most_open).into());
        }
    }
    Ok(())
}
