//! HTTP/1.1 on one connection: a request is read, an answer is written. The heads are taken apart by the crate httparse.
//!
//! Requests have to say their length: a body in chunks is refused. There is no TLS and no HTTP/2.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

const LONGEST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// How long a client that is to go may take to do so, and how much it may still say meanwhile.
const FAREWELL: (Duration, usize) = (Duration::from_secs(1), 1024 * 1024);

pub(crate) struct Request {
    pub(crate) method: String,
    /// As it was sent: path and query, percent-encoded.
    target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the client wants to send more over this connection.
    pub(crate) keep_alive: bool,
}

impl Request {
    /// The value of a header whose name is compared without case; the first, if there are several.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Still encoded, so that a slash within a part is told from one between parts.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What is behind the question mark, still encoded.
    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The parameters behind the question mark, decoded, in the order in which they stand there.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let pairs = self.query().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decoded(k), decoded(v))).collect()
    }
}

/// Without its percent signs. What is not UTF-8 afterwards is shown as such and matches nothing.
pub(crate) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| "\u{fffd}".to_owned(), Cow::into_owned)
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without those about length and connection, which the wire knows.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("Content-Type", kind.to_owned())], body: body.into() }
    }

    pub(crate) fn json(status: u16, body: impl ToString) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

/// Why something is not understood well enough to be anybody's request.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    longest_body: usize,
    /// For taking an answer.
    patience: Duration,
    /// Read and not yet used.
    buffer: Vec<u8>,
}

impl Wire {
    /// A client that does not take its answer is given up after `patience`.
    pub(crate) fn new(stream: TcpStream, longest_body: usize, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, longest_body, patience, buffer: Vec::new() })
    }

    /// Waits for the first byte of a request; `false` when none comes in this time, or ever.
    pub(crate) fn wait(&mut self, keep_alive: Duration) -> io::Result<bool> {
        if !self.buffer.is_empty() {
            return Ok(true);
        }
        match self.read_until(Instant::now() + keep_alive) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Reads the rest of a request, or says why it is refused. All of it has to be there within `patience`: one that comes
    /// byte by byte would hold its thread for ever.
    pub(crate) fn request(&mut self, patience: Duration) -> io::Result<Result<Request, Refusal>> {
        let until = Instant::now() + patience;
        let (mut request, length) = loop {
            match self.head() {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(Some(head)) => break head,
                Ok(None) if self.buffer.len() > LONGEST_HEAD => return Ok(Err(too_long())),
                Ok(None) => self.read_until(until)?,
            }
        };
        if length > self.longest_body {
            let most = self.longest_body;
            return Ok(Err(Refusal::new(413, format!("the body of the request is longer than {most} bytes"))));
        }
        if request.header("expect").is_some_and(|what| what.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while self.buffer.len() < length {
            self.read_until(until)?;
        }
        request.body = self.buffer.drain(..length).collect();
        Ok(Ok(request))
    }

    /// Takes the head off the buffer, with the length of the body, if it is there as a whole.
    fn head(&mut self) -> Result<Option<(Request, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let end = match parsed.parse(&self.buffer) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(end)) if end > LONGEST_HEAD => return Err(too_long()),
            Ok(httparse::Status::Complete(end)) => end,
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::new(431, "the request has too many headers"));
            }
            Err(error) => return Err(Refusal::new(400, format!("not an HTTP request: {error}"))),
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
        let request = Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers,
            body: Vec::new(),
            keep_alive: parsed.version == Some(1),
        };
        let closes = request.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
        let request = Request { keep_alive: request.keep_alive && !closes, ..request };
        if request.header("transfer-encoding").is_some() {
            return Err(Refusal::new(501, "bodies in chunks are not understood here; send a Content-Length"));
        }
        let length = body_length(&request)?;
        // RFC 9112, 3.2: who stands between may have gone by the other one.
        let hosts = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count();
        if hosts > 1 || (hosts == 0 && parsed.version == Some(1)) {
            return Err(Refusal::new(400, format!("the request has {hosts} headers `Host`, and not one")));
        }
        self.buffer.drain(..end);
        Ok(Some((request, length)))
    }

    fn read_until(&mut self, until: Instant) -> io::Result<()> {
        let mut chunk = [0; 8 * 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.buffer.extend(chunk.iter().take(read));
                    return Ok(());
                }
                // A process that was stopped and goes on, say: a system call with a time-out is not begun again by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// In one piece, so that no half of it waits for the other one to be acknowledged. A question about the head alone
    /// (`HEAD`) is answered without the body.
    pub(crate) fn answer(&mut self, answer: &Answer, keep: bool, head_only: bool) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            // What a client has sent may be in a value, and no line of it is to be a header of its own.
            let value = value.replace(['\r', '\n'], " ");
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let closing = if keep { "" } else { "Connection: close\r\n" };
        let _ = write!(text, "Content-Length: {}\r\n{closing}\r\n", answer.body.len());
        if !head_only {
            text.push_str(&answer.body);
        }
        // For all of it: one that takes a few bytes now and then is no better than one that takes none.
        let until = Instant::now() + self.patience;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes the connection after the last answer. A system that closes one on which something has come in that nobody has
    /// read resets it, and the client may lose the answer; so what comes is read for a moment.
    pub(crate) fn finish(mut self) {
        let (time, bytes) = FAREWELL;
        let until = Instant::now() + time;
        let mut read = 0;
        let mut more = self.stream.shutdown(Shutdown::Write).is_ok();
        while more && read < bytes && Instant::now() < until {
            self.buffer.clear();
            more = self.read_until(until).is_ok();
            read += self.buffer.len();
        }
    }
}

fn too_long() -> Refusal {
    Refusal::new(431, "the head of the request is too long")
}

/// Several lengths that differ are an attack on whoever stands between, and must not be taken for one.
fn body_length(request: &Request) -> Result<usize, Refusal> {
    let mut lengths = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some((_, first)) = lengths.next() else { return Ok(0) };
    let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || lengths.any(|(_, other)| other != first) {
        return Err(Refusal::new(400, "the request has no clear Content-Length"));
    }
    // More digits than a length has are a length that is too long.
    Ok(first.parse().unwrap_or(usize::MAX))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}
