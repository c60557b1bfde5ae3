//! The server, and how many connections it has.

use crate::airports::Atlas;
use crate::client::{Documents, KeepAlive, Wanted};
use crate::contest::{self, Outcome, Scale};
use crate::server::Manners;
use crate::site::{Opener, Site};
use crate::store::Stores;
use crate::support::{LONG, assert_healthy, eventually};
use crate::{credentials, firestore, one, open_site, raw, surreal};
use millpond::Validation;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

#[test]
fn what_is_no_request_is_refused_and_the_server_goes_on() {
    let site = open_site(Manners::default());
    let status = |request: &[u8]| raw(&site, request).split(' ').nth(1).map(str::to_owned).unwrap_or_default();
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n"), "400");
    assert_eq!(status(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"), "400");
    assert_eq!(status(b"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "400");
    assert_eq!(status(b"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na"), "400");
    assert_eq!(status(b"POST /sql HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "501");
    assert_eq!(status(b"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n"), "413");
    assert_eq!(status(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000)).as_bytes()), "431");
    assert_eq!(status(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)).as_bytes()), "431");
    assert_eq!(
        status(b"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"),
        "",
        "nobody is there to hear"
    );
    assert_eq!(status(b"GET /health HTTP/1.1\r\n\r\n"), "400");
    assert_eq!(status(b"GET /health HTTP/1.0\r\n\r\n"), "200");
    eventually("all have left", || site.server.census().open == 0);
    one(&site, &surreal()).ping().expect("it goes on");
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    let site = open_site(Manners::default());
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answers = raw(&site, (request("/health") + &request("/one") + &request("/two")).as_bytes());
    let at = |part: &str| answers.find(part).unwrap_or_else(|| panic!("no {part} in {answers}"));
    assert!(at("200 OK") < at("nothing is at /one") && at("nothing is at /one") < at("nothing is at /two"));
    assert_eq!((site.server.census().accepted, site.server.census().requests), (1, 3));
}

#[test]
fn the_server_keeps_a_connection_alive_and_closes_it_when_its_time_has_come() {
    let site = open_site(Manners { keep_alive: Duration::from_millis(20), ..Manners::default() });
    let mut client = one(&site, &firestore());
    // It may close one before the request is there, on a machine that is busy with other things.
    eventually("it answers", || client.ping().is_ok());
    eventually("it has closed the connection", || site.server.census().open == 0);
    let site = open_site(Manners::default());
    let mut client = one(&site, &firestore());
    for _ in 0..50 {
        client.ping().expect("it answers");
    }
    assert_eq!(site.server.census().accepted, 1, "fifty requests, one connection");
}

#[test]
fn a_pool_of_clients_never_has_more_connections_open_than_clients() {
    let site = open_site(Manners::default());
    let pool = site.clients(&firestore()).max_size(4).connection_timeout(LONG).validation(Validation::Never);
    let pool = pool.build().expect("it answers");
    drop(pool.get_many(4).expect("four clients"));
    site.server.hold();
    let before = site.server.census().requests;
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| pool.get().expect("a client").ping().expect("an answer"));
        }
        eventually("four ask and twelve wait", || {
            site.server.census().requests == before + 4 && pool.stats().waiting == 12
        });
        let census = site.server.census();
        site.server.release();
        assert_eq!((census.open, census.most_open), (4, 4));
    });
    let census = site.server.census();
    assert_eq!((census.most_open, census.accepted, census.requests), (4, 4, before + 16));
    assert_healthy(&pool);
}

#[test]
fn one_shared_agent_opens_a_connection_for_each_request_at_once() {
    let site = open_site(Manners::default());
    let agent = KeepAlive { connections: 3, idle: Duration::from_secs(15) }.agent();
    site.server.hold();
    thread::scope(|scope| {
        for _ in 0..16 {
            let (agent, base) = (agent.clone(), site.base());
            scope.spawn(move || firestore()(&base, agent).expect("good settings").ping().expect("an answer"));
        }
        eventually("sixteen ask", || site.server.census().requests == 16);
        let open = site.server.census().open;
        site.server.release();
        assert_eq!(open, 16);
    });
}

#[test]
fn every_way_to_send_the_requests_gets_right_answers_and_only_the_pool_keeps_to_its_bound() {
    contest_holds("Firestore", &firestore());
    contest_holds("SurrealDB", &surreal());
}

fn contest_holds<D: Documents>(title: &str, open: &impl Opener<D>) {
    let atlas = Atlas::read().expect("the data of the examples");
    let stores = Arc::new(Stores::new(&credentials()));
    let site = Site::open(Manners::default(), &stores).expect("a free port");
    let mut client = one(&site, open);
    contest::load(&mut client, &atlas).expect("it takes all airports");
    let scale = Scale { threads: 8, rounds: 2, requests: 5, clients: 2, manners: Manners::default() };
    let outcomes = contest::run(title, open, &stores, &atlas, scale).expect("servers that start");
    for Outcome { name, census, tally, .. } in &outcomes {
        assert_eq!((tally.errors, tally.answers.len()), (0, 80), "{title}, {name}: {:?}", tally.first_error);
        let visits = client.find(&contest::visits(name), &Wanted::default()).expect("a good query");
        assert_eq!(visits.len() as u64, tally.puts, "{title}, {name}: what was put is there, and nothing else");
        assert!(tally.puts > 0 && census.requests >= 80);
    }
    let pooled = outcomes.last().expect("three entrants");
    assert_eq!((pooled.name.as_str(), pooled.bound), ("pool of 2", Some(2)));
    assert!(pooled.census.most_open <= 2 && pooled.census.accepted <= 2, "{:?}", pooled.census);

    // A server that admits no more than the pool has: the pool meets no refusal.
    let crowd = Scale { manners: Manners { most: 2, ..Manners::default() }, ..scale };
    let outcomes = contest::run(title, open, &stores, &atlas, crowd).expect("servers that start");
    let pooled = outcomes.last().expect("three entrants");
    assert_eq!((pooled.tally.errors, pooled.census.refused), (0, 0), "{:?}", pooled.tally.first_error);
}
