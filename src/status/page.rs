//! The status page: one HTML page that shows what the JSON of [`Status`](super::Status) says, live.

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What to send as the header `Content-Security-Policy` with the [page]: it may run its own script and no other, use its own
/// style, and ask the server that it came from, and nobody else. Nobody can put it into a frame. Script and style are named by
/// their hashes, so a proxy that changes the page (a "minifier") stops it.
///
/// # Examples
///
/// ```
/// use millpond::status::CONTENT_SECURITY_POLICY;
///
/// assert!(CONTENT_SECURITY_POLICY.starts_with("default-src 'none'; script-src 'sha256-"));
/// assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
/// ```
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    script-src 'sha256-Jd6RDTXARNRd6f9Jv3xht4K0ECfVVb+GJju21FzFaK0='; \
    style-src 'sha256-0ZMlao9yG0TdpYf/gzmq48dplvt1oWmJzpWGwjXDSUI='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page that shows pools while they work: one HTML text with all that it needs in it. It asks for `json_url` each second,
/// where the application answers with [`Status::to_json`](super::Status::to_json).
///
/// `json_url` is that of the JSON as the browser sees it, absolute (`/admin/pools.json`) or relative to the page
/// (`pools.json`), on the same host and port. It is escaped, and the page does not depend on anything else: make it once.
///
/// It is for operators. On it are names of source files and threads, labels, and texts of errors, without
/// [passwords](crate#guarantees) but with all else that a driver tells: put both URLs behind the authentication of the
/// application. The page sends the cookies and credentials of its own host along.
///
/// # Mounting it
///
/// Any server will do: two URLs, each with a content type and `Cache-Control: no-store`, and for the page the header
/// `Content-Security-Policy` with [`CONTENT_SECURITY_POLICY`]. Without that one it works, too, but has no second line of defence.
///
/// ```
/// use millpond::{Pool, status::{self, Status}};
/// use std::io::{BufRead, BufReader, Write};
/// use std::net::TcpListener;
///
/// let orders = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").build()?;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?; // the server that the application has anyway
/// # let address = listener.local_addr()?;
/// # let browser = std::thread::spawn(move || {
/// #     let get = |path| ureq::get(format!("http://{address}{path}")).call().expect("an answer");
/// #     let mut page = get("/pools");
/// #     assert_eq!(page.headers()["content-security-policy"], status::CONTENT_SECURITY_POLICY);
/// #     assert!(page.body_mut().read_to_string().expect("text").contains(r#"data-json="/pools.json""#));
/// #     assert!(get("/pools.json").body_mut().read_to_string().expect("text").contains(r#""pool":"orders""#));
/// # });
/// for stream in listener.incoming() {
///     let mut stream = stream?;
///     let request = BufReader::new(&stream).lines().next().unwrap_or(Ok(String::new()))?;
///     let (kind, body) = match request.split(' ').nth(1) {
///         Some("/pools") => ("text/html; charset=utf-8", status::page("/pools.json")),
///         Some("/pools.json") => ("application/json", Status::of([&orders]).to_json()),
///         _ => continue,
///     };
///     write!(
///         stream,
///         "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
///          Content-Security-Policy: {}\r\nConnection: close\r\n\r\n{body}",
///         body.len(),
///         status::CONTENT_SECURITY_POLICY,
///     )?;
/// #   if kind == "application/json" {
/// #       break;
/// #   }
/// }
/// # browser.join().expect("both are answered");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Examples
///
/// ```
/// let page = millpond::status::page("/pools.json?of=\"orders\"&more");
/// assert!(page.contains(r#"data-json="/pools.json?of=&quot;orders&quot;&amp;more""#));
/// ```
#[must_use]
pub fn page(json_url: &str) -> String {
    // What is put in comes last, or what stands in it could be taken for a place of the template.
    HTML.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT).replace("{{json_url}}", &escaped(json_url))
}

/// For an attribute in double quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_url_leaves_its_attribute() {
        let page = page(r#""><script>alert(1)</script>{{style}}"#);
        assert!(page.contains(r#"data-json="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;{{style}}">"#));
        assert_eq!(page.matches("<script>").count(), 1);
    }

    #[test]
    fn the_page_is_one_text_that_names_no_other_place() {
        let page = page("/pools.json");
        // The names of two vocabularies, which nobody asks for.
        let page = page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xhtml", "");
        for word in ["http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "eval(", "console."] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
