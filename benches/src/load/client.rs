//! A client of HTTP/1.1 that does as little as it can, because it shares its cores with the server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any deadline of the server: a request without an answer is an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection, kept as long as the server keeps it, and opened anew after that.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Sends a request and reads all of its answer; returns the status.
    pub fn ask(&mut self, request: &str) -> io::Result<u16> {
        let answer = self.exchange(request);
        match &answer {
            Ok((_, true)) => {}
            _ => self.stream = None,
        }
        answer.map(|(status, _)| status)
    }

    fn exchange(&mut self, request: &str) -> io::Result<(u16, bool)> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                none.insert(stream)
            }
        };
        stream.write_all(request.as_bytes())?;
        self.buffer.clear();
        let mut whole = None;
        while whole.is_none_or(|(_, _, end)| self.buffer.len() < end) {
            let mut piece = [0; 16 * 1024];
            let read = stream.read(&mut piece)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend(piece.iter().take(read));
            if whole.is_none() {
                whole = head(&self.buffer)?;
            }
        }
        whole.map(|(status, keep, _)| (status, keep)).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The status, whether the connection is kept, and where the body ends; none while some of the head is missing.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, bool, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(begin) = parsed else { return Ok(None) };
    let header = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length = header("content-length").and_then(|header| str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let keep = !header("connection").is_some_and(|header| header.value.eq_ignore_ascii_case(b"close"));
    match (response.code, length) {
        (Some(status), Some(length)) => Ok(Some((status, keep, begin + length))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
