//! What can be read and written, and what is refused.

use crate::process::Server;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn an_entry_that_is_written_is_on_the_page_and_in_the_json() {
    let server = Server::start(&[]);
    let written = server.write("Ada", "the first one");
    assert_eq!((written.status, written.header("location")), (303, Some("/entries/1")));
    assert_eq!(server.write("Grace", "the second one").header("location"), Some("/entries/2"));
    assert_eq!(server.write("Ada", "Grüße, 世界").header("location"), Some("/entries/3"));

    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Entries: 3. Guests: 2."), "{page:?}");
    let place = |text| page.body.find(text).unwrap_or_else(|| panic!("{text} in {page:?}"));
    assert!(place("Grüße, 世界") < place("the first one"), "the latest comes first");
    assert!(server.get("/entries/2").body.contains("the second one"));
    assert!(!server.get("/?before=2").body.contains("the second one"));

    let all = server.get("/api/entries").json();
    assert_eq!((&all["total"], &all["guests"]), (&json!(3), &json!(2)));
    let one = server.get("/api/entries?limit=1&before=3").json();
    assert_eq!(one["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["entries"][0]["text"], "the second one");
}

#[test]
fn what_guests_write_is_text_and_never_markup() {
    let server = Server::start(&[]);
    let evil = r#"<script>alert("1")</script> & 'more' <img src=x onerror=alert(2)>"#;
    assert_eq!(server.write(r#""><b>Ada"#, evil).status, 303);
    for path in ["/", "/entries/1"] {
        let page = server.get(path).body;
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; "), "{page}");
    }
    assert_eq!(server.get("/api/entries").json()["entries"][0]["text"], evil);
    // Nor where it is refused and shown for that.
    let refused = server.get("/?before=%3Cscript%3E");
    assert!(refused.body.contains("&lt;script&gt;") && !refused.body.contains("<script"), "{refused:?}");
    let policy = server.get("/").header("content-security-policy").expect("there is one").to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe") && !policy.contains("script-src"));
}

#[test]
fn bad_input_names_the_field_and_the_value_and_writes_nothing() {
    let server = Server::start(&[]);
    let form = "application/x-www-form-urlencoded";
    let long = "x".repeat(1001);
    let texts = [
        ("name=Ada", 400, "text cannot be &quot;&quot;: it is missing"),
        ("name=+%20&text=a", 400, "name cannot be &quot;  &quot;: it is empty"),
        ("name=a&name=Bob&text=a", 400, "name cannot be &quot;Bob&quot;: it was given twice"),
        ("name=Ada&text=a%00b", 400, "text cannot be &quot;a\\0b&quot;: it has the control character"),
        (&format!("name={}&text=a", "y".repeat(41)), 400, "…&quot;: it has 41 characters, and 40 are allowed"),
        (&format!("name=Ada&text={long}"), 400, "…&quot;: it has 1001 characters, and 1000 are allowed"),
    ];
    for (body, status, why) in texts {
        let answer = server.send("/entries", form, body).expect("an answer");
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.body.contains(why), "{why} in {answer:?}");
    }
    let wrong = server.send("/entries", "application/json", "{}").expect("an answer");
    assert_eq!(wrong.status, 415);
    assert!(wrong.body.contains("Content-Type cannot be &quot;application/json&quot;"), "{wrong:?}");
    // More than is read: the answer comes all the same.
    let huge = server.send("/entries", form, &"z".repeat(500_000)).expect("an answer");
    assert_eq!((huge.status, huge.header("connection")), (413, Some("close")), "{huge:?}");

    for (path, why) in [
        ("/api/entries?limit=0", r#"limit cannot be "0": it must be a number from 1 to 100"#),
        ("/api/entries?limit=ten", r#"limit cannot be "ten""#),
        ("/api/entries?before=-1", r#"before cannot be "-1""#),
    ] {
        let answer = server.get(path);
        let problem = answer.json();
        assert_eq!((answer.status, &problem["status"]), (400, &json!(400)), "{path}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(why)), "{problem}");
    }
    assert_eq!(server.get("/entries/abc").status, 400);
    assert_eq!(server.get("/api/entries").json()["total"], 0);
    assert_eq!(server.pool("-writer")["checkouts"], 0, "a bad request is refused before it gets a connection");
}

#[test]
fn an_unknown_path_is_a_404_and_another_method_a_405_that_says_what_is_allowed() {
    let server = Server::start(&[]);
    for path in ["/nothing", "/entries/17", "/api", "/api/entries/", "/health/x", "//", "/%2e%2e/etc/passwd"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    for path in ["/", "/entries/1", "/api/entries", "/health", "/metrics", "/pools.json", "/status"] {
        let answer = server.send(path, "text/plain", "").expect("an answer");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    let answer = server.get("/entries");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));

    assert_eq!(server.write("Ada", "the first one").status, 303);
    assert_eq!((server.get("/entries/1").status, server.get("/entries//entries/1").status), (200, 400));

    let head = server.agent.head(format!("{}/", server.url)).call().expect("an answer");
    assert!(head.headers()["content-length"] != "0", "{head:?}");
    // The next answer on the same connection begins where it should.
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_request_without_its_host_or_with_two_is_refused() {
    let server = Server::start(&[]);
    for (head, status) in [
        ("HTTP/1.1\r\nHost: localhost", "200"),
        ("HTTP/1.1", "400"),
        ("HTTP/1.1\r\nHost: localhost\r\nhost: localhost", "400"),
        ("HTTP/1.0", "200"),
        ("HTTP/1.0\r\nHost: a\r\nHost: b", "400"),
    ] {
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).expect("it listens");
        write!(stream, "GET / {head}\r\nConnection: close\r\n\r\n").expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and the end");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
        assert!(status == "200" || answer.contains(" headers `Host`, and not one"), "{answer}");
    }
}
