//! HTTP/1.1 on one connection: a request is read, an answer is written. The heads are taken apart by the crate httparse.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use percent_encoding::percent_decode_str;

const LONGEST_HEAD: usize = 16 * 1024;
/// What Firestore allows for a document.
const LONGEST_BODY: usize = 1024 * 1024;
const MOST_HEADERS: usize = 64;

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

    /// The parameters behind the question mark, decoded, in the order in which they stand there.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decoded(k), decoded(v))).collect()
    }
}

/// Without its percent signs. What is not UTF-8 afterwards is shown as such and matches nothing.
pub(crate) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| "\u{fffd}".to_owned(), Cow::into_owned)
}

/// Always JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl ToString) -> Self {
        Self { status, body: body.to_string() }
    }

    /// To what is not understood well enough to be anybody's request.
    fn refusal(status: u16, message: &str) -> Self {
        Self::new(status, serde_json::json!({ "code": status, "details": message }))
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    /// Read and not yet used.
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Waits for the first byte of a request; `false` when none comes in this time, or ever.
    pub(crate) fn wait(&mut self, keep_alive: Duration) -> io::Result<bool> {
        if !self.buffer.is_empty() {
            return Ok(true);
        }
        self.stream.set_read_timeout(Some(keep_alive))?;
        match self.read_on() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Reads the rest of a request, or says why it is refused.
    pub(crate) fn request(&mut self, patience: Duration) -> io::Result<Result<Request, Answer>> {
        self.stream.set_read_timeout(Some(patience))?;
        let (mut request, length) = loop {
            match self.head() {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(Some(head)) => break head,
                Ok(None) if self.buffer.len() > LONGEST_HEAD => return Ok(Err(too_long())),
                Ok(None) => self.read_on()?,
            }
        };
        if length > LONGEST_BODY {
            return Ok(Err(Answer::refusal(413, "the body of the request is too long")));
        }
        if request.header("expect").is_some_and(|what| what.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while self.buffer.len() < length {
            self.read_on()?;
        }
        request.body = self.buffer.drain(..length).collect();
        Ok(Ok(request))
    }

    /// Takes the head off the buffer, with the length of the body, if it is there as a whole.
    fn head(&mut self) -> Result<Option<(Request, usize)>, Answer> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let end = match parsed.parse(&self.buffer) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(end)) if end > LONGEST_HEAD => return Err(too_long()),
            Ok(httparse::Status::Complete(end)) => end,
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Answer::refusal(431, "the request has too many headers"));
            }
            Err(error) => return Err(Answer::refusal(400, &format!("not an HTTP request: {error}"))),
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
            return Err(Answer::refusal(501, "bodies in chunks are not understood here; send a Content-Length"));
        }
        let length = body_length(&request)?;
        self.buffer.drain(..end);
        Ok(Some((request, length)))
    }

    fn read_on(&mut self) -> io::Result<()> {
        let mut chunk = [0; 8 * 1024];
        let read = self.stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend(chunk.iter().take(read));
        Ok(())
    }

    /// In one piece, so that no half of it waits for the other one to be acknowledged.
    pub(crate) fn answer(&mut self, answer: &Answer, keep: bool) -> io::Result<()> {
        let (status, length) = (answer.status, answer.body.len());
        let closing = if keep { "" } else { "Connection: close\r\n" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{closing}\r\n",
            reason(status)
        );
        self.stream.write_all((head + &answer.body).as_bytes())
    }
}

fn too_long() -> Answer {
    Answer::refusal(431, "the head of the request is too long")
}

/// Several lengths that differ are an attack on whoever stands between, and must not be taken for one.
fn body_length(request: &Request) -> Result<usize, Answer> {
    let mut lengths = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some((_, first)) = lengths.next() else { return Ok(0) };
    let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || lengths.any(|(_, other)| other != first) {
        return Err(Answer::refusal(400, "the request has no clear Content-Length"));
    }
    // More digits than a length has are a length that is too long.
    Ok(first.parse().unwrap_or(usize::MAX))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        _ => "",
    }
}
