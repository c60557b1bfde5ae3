//! What the server is started with.

use crate::process::Server;
use crate::support::built_example;
use std::net::TcpListener;
use std::process::{Command, Output};

fn run(flags: &[&str]) -> Output {
    Command::new(built_example("server")).args(flags).output().expect("it is built")
}

#[test]
fn a_bad_flag_is_named_with_its_value() {
    for (flag, value) in [
        ("--readers", "0"),
        ("--readers", "many"),
        ("--port", "65536"),
        ("--deadline", "0s"),
        ("--deadline", "soon"),
        ("--grace", "1000days"),
        ("--connections", "0"),
        ("--host", "example"),
    ] {
        let output = run(&[flag, value]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("invalid value '{value}' for '{flag} <")), "{said}");
    }
}

#[test]
fn what_cannot_be_had_is_told_in_a_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let server = Server::start(&[]);
    let file = server.database().path().expect("it has a file").to_owned();
    let output = run(&["--port", &address.port().to_string(), "--database", &file]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("server: cannot listen on {address}: ")), "{said}");

    let output = run(&["--port", "0", "--database", "/nowhere/at/all/book.db"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/nowhere/at/all/book.db"), "{said}");
}
