//! How the server ends.

use crate::process::{Server, soon};
use std::net::TcpStream;
use std::thread;

/// Waits until the writer is at work, or waits for somebody else's lock.
fn until_somebody_writes(server: &Server) {
    soon("somebody writes", || server.pool("-writer").get("in_use").is_some_and(|n| n == 1));
}

/// What is in the book, and what the guests are said to have written.
fn rows(server: &Server) -> (u32, u32) {
    let totals = "SELECT (SELECT count(*) FROM entry), (SELECT coalesce(sum(entries), 0) FROM guest)";
    let conn = server.database();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a sound file");
    assert_eq!(sound, "ok");
    conn.query_row(totals, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("the tables are there")
}

#[test]
fn what_is_under_way_is_finished_and_whoever_is_new_is_turned_away() {
    let mut server = Server::start(&["--deadline", "60s", "--grace", "60s"]);
    assert_eq!(server.write("Ada", "before").status, 303);
    let lock = server.lock();
    thread::scope(|scope| {
        // One works, and the others wait for its connection: they were there before the end began.
        let under_way: Vec<_> = (0..3).map(|_| scope.spawn(|| server.write("Ada", "under way"))).collect();
        soon("all of them are there", || server.pool("-writer").get("waiting").is_some_and(|n| n == 2));
        server.signal();
        soon("newcomers are turned away", || {
            let answer = server.get("/");
            answer.status == 503 && {
                assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
                assert!(
                    answer.header("retry-after").is_some() && answer.body.contains("the server is ending"),
                    "{answer:?}"
                );
                true
            }
        });
        assert_eq!(server.get("/health").status, 503, "a load balancer is to send nobody any more");
        assert_eq!(server.get("/status").status, 200, "operators can watch it end");
        assert_eq!(server.write("Ada", "too late").status, 503);
        drop(lock);
        for one in under_way {
            assert_eq!(one.join().expect("no panic").status, 303);
        }
    });
    let ended = server.end();
    assert_eq!(ended.code(), Some(0), "{}", server.logged());
    let said = server.said();
    for part in ["The server is closed. ", "entries written   ", "turned away (503)", "303: 4", "guest-book-writer"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(TcpStream::connect(server.url.trim_start_matches("http://")).is_err());
    assert_eq!(rows(&server), (4, 4));
}

#[test]
fn the_file_holds_exactly_what_was_acknowledged() {
    let mut server = Server::start(&[]);
    let acknowledged: u32 = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let server = &server;
                scope.spawn(move || {
                    let name = format!("guest {client}");
                    // Until it is turned away, or finds nobody.
                    (0..)
                        .take_while(|n| server.try_write(&name, &format!("{n}")).is_ok_and(|got| got.status == 303))
                        .count()
                })
            })
            .collect();
        soon("they write", || server.pool("-writer")["checkouts"].as_u64() > Some(100));
        server.signal();
        clients.into_iter().map(|client| client.join().expect("no panic") as u32).sum()
    });
    assert_eq!(server.end().code(), Some(0), "{}", server.logged());
    assert_eq!(rows(&server), (acknowledged, acknowledged));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["--deadline", "60s", "--grace", "60s"]);
    let lock = server.lock();
    thread::scope(|scope| {
        let under_way = scope.spawn(|| server.try_write("Ada", "never answered"));
        until_somebody_writes(&server);
        server.signal();
        soon("it is about to end", || server.logged().contains("another Ctrl-C ends at once"));
        server.signal();
        assert!(under_way.join().expect("no panic").is_err(), "what was under way is not answered");
    });
    assert_eq!(server.end().code(), Some(130));
    assert!(server.logged().contains("ended at once"), "{}", server.logged());
    drop(lock);
    assert_eq!(rows(&server), (0, 0));
}

#[test]
fn what_does_not_end_in_time_is_told_of() {
    let mut server = Server::start(&["--deadline", "60s", "--grace", "200ms"]);
    let lock = server.lock();
    thread::scope(|scope| {
        let under_way = scope.spawn(|| server.try_write("Ada", "never answered"));
        until_somebody_writes(&server);
        server.signal();
        assert!(under_way.join().expect("no panic").is_err());
    });
    assert_eq!(server.end().code(), Some(1));
    let logged = server.logged();
    assert!(logged.contains("1 requests were not finished within 200ms"), "{logged}");
    // Who still holds what, with its thread and its line.
    assert!(
        logged.contains(r#"the pool "guest-book-writer" is closed, but"#) && logged.contains("scope.rs:"),
        "{logged}"
    );
    drop(lock);
    assert_eq!(rows(&server), (0, 0));
}
