//! Credentials and addresses: bad ones, and where good ones must not show up.

use crate::client::{ClientError, Documents, KeepAlive};
use crate::server::Manners;
use crate::site::{self, Site};
use crate::store::Credentials;
use crate::support::LONG;
use crate::{SENTINEL, credentials, firestore, open_site, surreal, with_jfk};
use log::{LevelFilter, Log, Metadata, Record};
use millpond::{ErrorKind, Pool};
use std::error::Error as _;
use std::sync::Mutex;
use std::time::Duration;

#[test]
fn wrong_credentials_are_told_at_once_and_not_shown() {
    let site = open_site(Manners::default());
    let wrong =
        Credentials { token: format!("wrong-{SENTINEL}"), user: "root".to_owned(), password: SENTINEL.to_owned() };
    let errors = [
        site.clients(&site::firestore(&wrong)).connection_timeout(LONG).build().expect_err("a wrong token"),
        site.clients(&site::surreal(&wrong)).connection_timeout(LONG).build().expect_err("a wrong password"),
    ];
    for error in errors {
        assert!(error.kind() == ErrorKind::Connect && !error.is_timeout(), "nobody waits for a better answer: {error}");
        let cause =
            error.source().and_then(|cause| cause.downcast_ref::<ClientError>()).expect("the client's own error");
        assert!(matches!(cause, ClientError::Refused { status: 401, .. }), "{cause:?}");
        assert!(!format!("{error} {error:?} {cause} {cause:?}").contains(SENTINEL));
    }
}

#[test]
fn settings_that_cannot_be_sent_are_refused_without_showing_them() {
    let site = open_site(Manners::default());
    let broken = Credentials { token: format!("two\nlines-{SENTINEL}"), ..credentials() };
    let error = site.clients(&site::firestore(&broken)).build().expect_err("no header can have it");
    let cause = error.source().expect("the client's own error").to_string();
    assert_eq!(cause, "the credentials have a character that no header may have");
    assert!(!format!("{error} {error:?} {cause}").contains(SENTINEL));

    let address = format!("http://user:{SENTINEL}@127.0.0.1:1");
    let error = firestore()(&address, KeepAlive::ONE.agent()).expect_err("credentials in the address").to_string();
    assert_eq!(error, "the address of the store has an `@`: credentials do not belong there");
    for address in ["", "nowhere", "https://127.0.0.1:1", "http://", "http://a b", "/path"] {
        let error = firestore()(address, KeepAlive::ONE.agent()).expect_err("no address").to_string();
        assert_eq!(error, format!("the address of the store is not like http://host:8080: {address:?}"));
    }
}

struct Lines;

/// How many lines were heard of whom, and those that tell a secret.
static HEARD: Mutex<(usize, Vec<String>)> = Mutex::new((0, Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        let line = format!("{}: {}", record.target(), record.args());
        let mut heard = HEARD.lock().expect("nothing here panics");
        heard.0 += usize::from(record.target().starts_with("ureq"));
        if line.contains(SENTINEL) || line.contains("Basic ") {
            heard.1.push(line);
        }
    }
    fn flush(&self) {}
}

/// Hears the lines of the tests that run beside it too, which all have the same word in their secrets.
#[test]
fn no_token_or_password_reaches_a_log_line_a_debug_output_or_an_error() {
    log::set_logger(&Lines).expect("nobody else logs here");
    // The pool says nothing below that. ureq does: at `trace` it dumps the bytes that it sends, with whatever secrets are
    // among them, so its users must not log at that level.
    log::set_max_level(LevelFilter::Debug);
    let site = with_jfk();
    let mut shown = shows(&site, &site.clients(&firestore()).max_size(1).build().expect("it answers"));
    shown += &shows(&site, &site.clients(&surreal()).max_size(1).build().expect("it answers"));
    assert!(shown.contains("Http {") && shown.contains(&site.base()), "the test sees what it is to judge: {shown}");
    assert!(!shown.contains(SENTINEL) && !shown.contains("Basic "), "{shown}");
    // A copy, because who fails below must not leave the lock poisoned to those who log.
    let (lines, telling) = HEARD.lock().expect("nothing under it panics").clone();
    assert!(lines > 10, "the client logs what it does, and the test hears it");
    assert!(telling.is_empty(), "{telling:#?}");
}

/// All that can be seen of a pool and its clients, in good days and bad ones.
fn shows<M>(site: &Site, pool: &Pool<M>) -> String
where
    M: millpond::Manager<Connection: Documents + std::fmt::Debug, Error = ClientError>,
{
    let mut client = pool.get().expect("a client");
    let missing = client.get("person", "nobody").expect_err("it is missing");
    let mut shown = format!("{pool:?} {:?} {client:?} {missing} {missing:?} {:?}", *client, pool.holders());
    site.server.close_idle();
    let exhausted = pool.get_timeout(Duration::from_millis(1)).expect_err("it is borrowed");
    shown += &format!("{exhausted} {exhausted:?}");
    client.ping().expect("another connection");
    shown
}
