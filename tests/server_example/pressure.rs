//! More requests than connections, and more clients than places.

use crate::process::{Answer, Server, soon};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

/// Tells clients to stop when it is dropped.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn an_exhausted_pool_is_a_503_that_names_it_while_operators_and_readers_are_answered() {
    let server = Server::start(&["--deadline", "1s"]);
    let lock = server.lock();
    let enough = AtomicBool::new(false);
    let refused: Vec<Answer> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !enough.load(SeqCst) {
                        answers.push(server.write("Ada", "in vain"));
                    }
                    answers
                })
            })
            .collect();
        // Also where something below fails, or the clients would go on for ever.
        let enough = Enough(&enough);
        // The oldest waits for between nothing and a second, over and over.
        soon("the server says that it is down", || server.get("/health").status == 503);
        assert_eq!(server.get("/metrics").status, 200);
        assert_eq!(server.get("/status").status, 200);
        assert_eq!(server.pool("-writer")["in_use"], 1);
        assert_eq!(server.get("/api/entries").json()["total"], 0, "readers go on");
        drop(enough);
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    assert!(refused.len() >= 4);
    refused.iter().for_each(|answer| answer.assert_names("guest-book-writer"));
    // One waits for the lock, and the others for the connection that it has.
    for answer in &refused {
        let reasons = [
            "all connections were in use until the deadline",
            "another program has locked",
            "longer than the deadline",
        ];
        assert!(reasons.iter().any(|reason| answer.body.contains(reason)), "{answer:?}");
    }

    drop(lock);
    assert_eq!(server.write("Ada", "at last").status, 303);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/api/entries").json()["total"], 1, "who was refused has not written");
}

#[test]
fn whoever_is_too_many_is_told_at_once_and_the_others_are_served() {
    let server = Server::start(&["--waiting", "4", "--deadline", "60s"]);
    let lock = server.lock();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for client in 0..32 {
            let (tell, server) = (tell.clone(), &server);
            scope.spawn(move || tell.send(server.write("Ada", &format!("{client}"))).expect("the test waits"));
        }
        // One has the connection, four wait; the others have their answers although nothing has come free.
        for _ in 0..27 {
            let answer = told.recv().expect("an answer");
            answer.assert_names("guest-book-writer");
            assert!(answer.body.contains("too many requests wait for a connection already"), "{answer:?}");
        }
        let writer = server.pool("-writer");
        assert_eq!((&writer["in_use"], &writer["waiting"], &writer["overloads"]), (&json!(1), &json!(4), &json!(27)));
        drop(lock);
        for _ in 0..5 {
            assert_eq!(told.recv().expect("an answer").status, 303);
        }
    });
    assert_eq!(server.get("/api/entries").json()["total"], 5);
}

#[test]
fn every_request_of_two_hundred_clients_is_answered() {
    let server = Server::start(&["--readers", "2", "--waiting", "16"]);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|client| {
                let server = &server;
                scope.spawn(move || {
                    let one = |n| match n % 5 {
                        0 => server.write(&format!("guest {client}"), "a word"),
                        1 => server.get("/api/entries"),
                        _ => server.get("/"),
                    };
                    (client..client + 10).map(|n| one(n).status).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("none is reset, and none hangs")).collect()
    });
    let count = |status| statuses.iter().filter(|its| **its == status).count();
    assert_eq!(count(200) + count(303) + count(503), 2000);
    assert!(count(200) > 0 && count(303) > 0);
    assert_eq!(server.get("/api/entries").json()["total"], count(303));
    let conn = server.database();
    let rows: u32 = conn.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).expect("a number");
    assert_eq!(rows as usize, count(303), "what was acknowledged, and nothing else");
}

/// A client that says what it likes.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    // Whoever is asked to leave is left; the others get all of the page in the first pieces.
    while !answer.contains("</html>") && !answer.ends_with('}') {
        let mut piece = [0; 64 * 1024];
        match stream.read(&mut piece).expect("an answer") {
            0 => break,
            n => answer.push_str(&String::from_utf8_lossy(piece.get(..n).expect("no more than there is room for"))),
        }
    }
    answer
}

#[test]
fn a_server_that_was_suspended_goes_on_with_its_clients_where_they_were() {
    let server = Server::start(&[]);
    let mut client = TcpStream::connect(server.url.trim_start_matches("http://")).expect("it listens");
    assert!(ask(&mut client, "/health").starts_with("HTTP/1.1 200 "));
    // Between two requests, and within one; its thread may not have begun to read when it is stopped for the first time.
    (0..20).for_each(|_| server.interrupt());
    client.write_all(b"GET /health HTTP/1.1\r\n").expect("the server reads");
    (0..20).for_each(|_| server.interrupt());
    client.write_all(b"Host: localhost\r\n\r\n").expect("the server reads");
    let mut first = [0; 13];
    client.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200 ");
}

#[test]
fn of_too_many_clients_some_places_are_left_for_operators() {
    let server = Server::start(&["--connections", "2"]);
    let address = server.url.trim_start_matches("http://");
    let connect = || TcpStream::connect(address).expect("it listens");
    let mut clients = [connect(), connect()];
    for client in &mut clients {
        assert!(ask(client, "/").starts_with("HTTP/1.1 200 "));
    }
    let turned_away = ask(&mut connect(), "/");
    assert!(turned_away.starts_with("HTTP/1.1 503 "), "{turned_away}");
    assert!(
        turned_away.contains("Retry-After: 1\r\n") && turned_away.contains("Connection: close\r\n"),
        "{turned_away}"
    );
    assert!(turned_away.contains("as many clients are connected as may be"), "{turned_away}");
    assert!(ask(&mut connect(), "/health").starts_with("HTTP/1.1 200 "));
    let [first, second] = clients;
    drop((first, second));
    soon("there is room again", || ask(&mut connect(), "/").starts_with("HTTP/1.1 200 "));
}
