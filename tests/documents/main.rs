//! The example of document stores over HTTP: its server, its clients and its scenes, with real connections on the loopback.

#![allow(clippy::disallowed_methods, reason = "the example times itself")]

#[path = "../../examples/support/airports.rs"]
#[allow(dead_code, reason = "the example's; the quick start uses more of it")]
mod airports;
#[path = "../../examples/documents/client/mod.rs"]
mod client;
#[path = "../../examples/documents/contest.rs"]
#[allow(dead_code, reason = "the example prints all of it")]
mod contest;
#[path = "../../examples/documents/scenes.rs"]
mod scenes;
#[path = "../../examples/documents/server/mod.rs"]
#[allow(dead_code, reason = "the example's")]
mod server;
#[path = "../../examples/documents/site.rs"]
mod site;
#[path = "../../examples/documents/store/mod.rs"]
mod store;
#[path = "../support/mod.rs"]
mod support;

mod connections;
mod faults;
mod settings;
mod shapes;
mod stores;

use client::firestore::Firestore;
use client::surreal::Surreal;
use client::{Documents, Fields, KeepAlive};
use contest::AIRPORTS;
use serde_json::{Value as Json, json};
use server::Manners;
use site::{Opener, Site};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use store::{Credentials, Stores};
use support::{LONG, eventually};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// In every secret that the tests use.
const SENTINEL: &str = "s3nt1nel";

fn credentials() -> Credentials {
    let secret = |which| format!("{which}-{SENTINEL}");
    Credentials { token: secret("token"), user: "root".to_owned(), password: secret("password") }
}

fn open_site(manners: Manners) -> Site {
    Site::open(manners, &Arc::new(Stores::new(&credentials()))).expect("a free port")
}

fn firestore() -> impl Opener<Firestore> {
    site::firestore(&credentials())
}

fn surreal() -> impl Opener<Surreal> {
    site::surreal(&credentials())
}

fn one<D>(site: &Site, open: &impl Opener<D>) -> D {
    open(&site.base(), KeepAlive::ONE.agent()).expect("good settings")
}

fn fields(json: &Json) -> Fields {
    json.as_object().expect("an object").clone()
}

/// A site where Firestore has one airport.
fn with_jfk() -> Site {
    let site = open_site(Manners::default());
    one(&site, &firestore()).put(AIRPORTS, "JFK", &fields(&json!({ "city": "New York" }))).expect("it is written");
    eventually("that client has left", || site.server.census().open == 0);
    site
}

/// What a server sends for these bytes until it closes the connection.
fn raw(site: &Site, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.server.address()).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("not zero");
    // Fails where the server has refused the beginning already.
    stream.write_all(request).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8(answer).expect("the server writes UTF-8")
}

/// Sends a request with the right credentials of both stores, as far as it names none; returns status and body.
fn ask(site: &Site, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Json) {
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("root:password-{SENTINEL}"));
    let known = if path == "/sql" { format!("Basic {basic}") } else { format!("Bearer token-{SENTINEL}") };
    let named = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let authorization = if named { String::new() } else { format!("Authorization: {known}\r\n") };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n");
    let answer = raw(site, format!("{head}{authorization}{headers}\r\n{body}").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}
