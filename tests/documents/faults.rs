//! What goes wrong between clients and a server.

use crate::client::pool::insist;
use crate::client::{ClientError, Documents};
use crate::contest::AIRPORTS;
use crate::support::{LONG, assert_healthy, eventually};
use crate::{firestore, scenes, with_jfk};
use millpond::{ErrorKind, Validation};
use serde_json::json;
use std::error::Error as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn who_waits_in_vain_for_a_client_learns_who_holds_them() {
    let site = with_jfk();
    let pool = site.clients(&firestore()).max_size(2).build().expect("it answers");
    let error = scenes::slow_server(&site, &pool, Duration::from_millis(50)).expect("the scene plays");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let text = error.to_string();
    assert!(text.contains(r#"from "documents" (max 2: 2 in use, 0 idle, 0 opening; 1 waiting)"#), "{text}");
    for part in ["reader-0", "reader-1", "(report 0)", "(report 1)", "scenes.rs:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_healthy(&pool);
}

#[test]
fn a_connection_that_the_server_has_closed_is_noticed_and_replaced() {
    let site = with_jfk();
    let pool = site.clients(&firestore()).max_size(2).validation(Validation::Never).build().expect("it answers");
    drop(pool.get_many(2).expect("two clients"));
    let accepted = site.server.census().accepted;
    let (closed, jfk) = scenes::idle_connections_close(&site, &pool).expect("an answer");
    assert_eq!((closed, &jfk["city"]), (2, &json!("New York")));
    assert_eq!(site.server.census().accepted, accepted + 1);
    // The server hears of an end a moment later than the client.
    eventually("one is open", || site.server.census().open == 1);
    assert_healthy(&pool);
}

#[test]
fn no_read_fails_while_the_server_closes_connections_all_the_time() {
    let site = with_jfk();
    let pool = site.clients(&firestore()).max_size(4).connection_timeout(LONG).build().expect("it answers");
    let (told, answers) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..8 {
            let (told, pool) = (told.clone(), &pool);
            scope.spawn(move || {
                for _ in 0..50 {
                    insist(pool, |client| client.get(AIRPORTS, "JFK")).expect("an answer");
                    told.send(()).expect("somebody counts");
                }
            });
        }
        drop(told);
        while answers.iter().take(10).count() == 10 {
            site.server.close_idle();
        }
    });
    assert!(site.server.census().accepted > 10, "{:?}", site.server.census());
    assert_healthy(&pool);
}

#[test]
fn no_read_fails_while_the_server_stops_and_comes_back() {
    let mut site = with_jfk();
    let pool = site.clients(&firestore()).max_size(4).build().expect("it answers");
    let returned = scenes::server_returns(&mut site, &pool, 8, 3).expect("the scene plays");
    assert!(returned.failed.is_empty() && returned.answered >= 200, "{returned:?}");
    assert_healthy(&pool);
}

#[test]
fn a_pool_outlives_a_server_that_is_away() {
    let mut site = with_jfk();
    let pool = site.clients(&firestore()).max_size(2).validation(Validation::Never).build().expect("it answers");
    drop(pool.get_many(2).expect("two clients"));
    site.server.stop();
    // One that is lent unchecked meets a closed door, and is not lent again.
    for _ in 0..2 {
        let error = pool.get().expect("a client that was idle").get(AIRPORTS, "JFK").expect_err("nobody is there");
        assert!(error.is_no_answer() && error.to_string().starts_with("no answer to GET /v1/projects/"), "{error}");
    }
    let error = pool.get_timeout(Duration::from_millis(50)).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<ClientError>()).expect("the client's own error");
    assert!(cause.is_no_answer(), "{cause}");
    site.reopen().expect("its port is free");
    let jfk = insist(&pool, |client| client.get(AIRPORTS, "JFK")).expect("it is back");
    assert_eq!(jfk["city"], "New York");
    assert_healthy(&pool);
}
