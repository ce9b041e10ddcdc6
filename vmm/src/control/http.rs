//! HTTP/1.1 messages on a Unix stream, bounded in size and in time. Knows nothing of what they mean.
//!
//! A message is a head, parsed by `httparse`, and a body of exactly `Content-Length` bytes. `Transfer-Encoding` is
//! refused: two ways to frame a body are one too many for a peer that is not trusted.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use httparse::{Header, Status};

use super::route::Spelled;

/// Bytes that the head of a message may have.
pub(super) const HEAD_LIMIT: usize = 8 * 1024;
/// Bytes that the body of a message may have; Firecracker's limit.
pub(super) const BODY_LIMIT: usize = 51_200;
/// The header that carries the exit code of a fault, so that its JSON stays what clients of Firecracker know.
const EXIT_CODE: &str = "Rekindle-Exit-Code";

const MAX_HEADERS: usize = 32;
const CHUNK: usize = 4096;

/// What is wrong with a message, or with the stream that it came on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the message head is longer than {HEAD_LIMIT} bytes")]
    HeadTooLong,
    #[error("the message body has {length} bytes, more than the {BODY_LIMIT} allowed")]
    BodyTooLong { length: String },
    #[error("the message is not HTTP/1.1")]
    Syntax(#[source] httparse::Error),
    #[error("the header `Content-Length` is not one number")]
    Length,
    #[error("the header `Transfer-Encoding` is not supported, send `Content-Length`")]
    TransferEncoding,
    #[error("the message did not arrive in full in time")]
    Late,
    #[error("the peer closed the connection in the middle of a message")]
    CutShort,
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

/// A request and how its sender wants the connection kept.
#[derive(Debug)]
pub(super) struct IncomingRequest {
    pub(super) spelled: Spelled,
    pub(super) keep_alive: bool,
}

/// A reply as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IncomingReply {
    pub(super) status: u16,
    /// From the header of a fault.
    pub(super) exit_code: Option<u8>,
    pub(super) body: Vec<u8>,
}

/// One end of a connection. What arrives behind a message is kept for the next one.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    stream: &'a UnixStream,
    received: Vec<u8>,
}

/// What the headers say of the message's frame.
#[derive(Debug, Default)]
struct Frame {
    head: usize,
    body: Option<usize>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    exit_code: Option<u8>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(stream: &'a UnixStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// The next request; `None` when the peer closed the connection, or was silent for `idle`, between two.
    /// From its first byte on a request may take `limit`.
    pub(super) fn read_request(
        &mut self,
        idle: Duration,
        limit: Duration,
    ) -> Result<Option<IncomingRequest>, Error> {
        if self.received.is_empty() {
            match self.receive(Some(Instant::now() + idle)) {
                Ok(0) | Err(Error::Late) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        let deadline = Some(Instant::now() + limit);
        let (frame, (method, path, version)) = self.read_head(deadline, parse_request_head)?;
        if frame.expects_continue && self.received.len() < frame.head + frame.body.unwrap_or(0) {
            self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", limit)?;
        }
        let body = self.read_body(&frame, deadline)?;
        let keep_alive = !frame.close && (version == 1 || frame.keep_alive);
        Ok(Some(IncomingRequest { spelled: Spelled { method, path, body }, keep_alive }))
    }

    /// The reply to a request; waits for ever without a deadline.
    pub(super) fn read_reply(&mut self, deadline: Option<Instant>) -> Result<IncomingReply, Error> {
        let (frame, status) = self.read_head(deadline, parse_reply_head)?;
        let body = self.read_body(&frame, deadline)?;
        Ok(IncomingReply { status, exit_code: frame.exit_code, body })
    }

    /// Sends a request.
    pub(super) fn write_request(&mut self, spelled: &Spelled, limit: Duration) -> Result<(), Error> {
        let Spelled { method, path, body } = spelled;
        let mut message = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        message.extend_from_slice(body);
        self.write_all(&message, limit)
    }

    /// Sends a reply; `None` for a body is the 204 that has none.
    pub(super) fn write_reply(
        &mut self,
        body: Result<Option<&[u8]>, (&[u8], u8)>,
        keep_alive: bool,
        limit: Duration,
    ) -> Result<(), Error> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let (status, extra, body) = match body {
            Ok(None) => ("204 No Content", String::new(), None),
            Ok(Some(body)) => ("200 OK", String::new(), Some(body)),
            Err((body, code)) => ("400 Bad Request", format!("{EXIT_CODE}: {code}\r\n"), Some(body)),
        };
        let mut message =
            format!("HTTP/1.1 {status}\r\nServer: rekindle\r\nConnection: {connection}\r\n{extra}");
        if let Some(body) = body {
            message
                .push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        message.push_str("\r\n");
        let mut message = message.into_bytes();
        message.extend_from_slice(body.unwrap_or_default());
        self.write_all(&message, limit)
    }

    /// Receives until `parse` finds a whole head.
    fn read_head<T>(
        &mut self,
        deadline: Option<Instant>,
        parse: impl Fn(&[u8]) -> Result<Option<(Frame, T)>, Error>,
    ) -> Result<(Frame, T), Error> {
        loop {
            // Bytes past the limit can belong to the body or to the next message, and to this head only by breach.
            let window = &self.received[..self.received.len().min(HEAD_LIMIT)];
            if let Some(found) = parse(window)? {
                return Ok(found);
            }
            if self.received.len() >= HEAD_LIMIT {
                return Err(Error::HeadTooLong);
            }
            if self.receive(deadline)? == 0 {
                return Err(Error::CutShort);
            }
        }
    }

    /// Receives the body behind the head, and removes both from what was received.
    fn read_body(&mut self, frame: &Frame, deadline: Option<Instant>) -> Result<Vec<u8>, Error> {
        let end = frame.head + frame.body.unwrap_or(0);
        while self.received.len() < end {
            if self.receive(deadline)? == 0 {
                return Err(Error::CutShort);
            }
        }
        let rest = self.received.split_off(end);
        let message = std::mem::replace(&mut self.received, rest);
        Ok(message[frame.head..].to_vec())
    }

    /// Receives some bytes, at most [`CHUNK`]; 0 at the end of the stream.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<usize, Error> {
        let mut chunk = [0; CHUNK];
        loop {
            self.stream.set_read_timeout(remaining(deadline)?).map_err(Error::Io)?;
            match (&mut &*self.stream).read(&mut chunk) {
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    fn write_all(&mut self, mut message: &[u8], limit: Duration) -> Result<(), Error> {
        let deadline = Some(Instant::now() + limit);
        while !message.is_empty() {
            self.stream.set_write_timeout(remaining(deadline)?).map_err(Error::Io)?;
            match (&mut &*self.stream).write(message) {
                Ok(0) => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                Ok(n) => message = &message[n..],
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(())
    }
}

/// Whether to look at the clock and go on: a time-out of the socket's own, or a signal.
fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The time left; the socket option takes no zero.
fn remaining(deadline: Option<Instant>) -> Result<Option<Duration>, Error> {
    let Some(deadline) = deadline else { return Ok(None) };
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(Error::Late),
        left => Ok(Some(left.max(Duration::from_millis(1)))),
    }
}

type RequestLine = (String, String, u8);

fn parse_request_head(received: &[u8]) -> Result<Option<(Frame, RequestLine)>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Status::Complete(head) = request.parse(received).map_err(Error::Syntax)? else { return Ok(None) };
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Error::Syntax(httparse::Error::Token));
    };
    let line = (method.to_owned(), path.to_owned(), version);
    Ok(Some((Frame::of(head, request.headers)?, line)))
}

fn parse_reply_head(received: &[u8]) -> Result<Option<(Frame, u16)>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut reply = httparse::Response::new(&mut headers);
    let Status::Complete(head) = reply.parse(received).map_err(Error::Syntax)? else { return Ok(None) };
    let status = reply.code.ok_or(Error::Syntax(httparse::Error::Status))?;
    Ok(Some((Frame::of(head, reply.headers)?, status)))
}

impl Frame {
    fn of(head: usize, headers: &[Header<'_>]) -> Result<Self, Error> {
        let mut frame = Self { head, ..Self::default() };
        for Header { name, value } in headers {
            let has = |token: &str| {
                value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
            };
            if name.eq_ignore_ascii_case("content-length") {
                let length = content_length(value)?;
                if frame.body.is_some_and(|before| before != length) {
                    return Err(Error::Length);
                }
                frame.body = Some(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Error::TransferEncoding);
            } else if name.eq_ignore_ascii_case("connection") {
                frame.close |= has("close");
                frame.keep_alive |= has("keep-alive");
            } else if name.eq_ignore_ascii_case("expect") {
                frame.expects_continue = has("100-continue");
            } else if name.eq_ignore_ascii_case(EXIT_CODE) {
                frame.exit_code = str::from_utf8(value).ok().and_then(|v| v.trim().parse().ok());
            }
        }
        Ok(frame)
    }
}

fn content_length(value: &[u8]) -> Result<usize, Error> {
    let text = str::from_utf8(value).map_err(|_| Error::Length)?.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Length);
    }
    // What does not fit into a usize is too long as well.
    match text.parse::<usize>() {
        Ok(length) if length <= BODY_LIMIT => Ok(length),
        _ => Err(Error::BodyTooLong { length: text.to_owned() }),
    }
}
