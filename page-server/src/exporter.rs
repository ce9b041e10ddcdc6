//! The metrics on a Unix socket, over HTTP/1.1: one request a connection, whatever its path.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::socket::Socket;
use crate::stats::Metrics;
use crate::sys::signals;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of a request.
const MAX_REQUEST: usize = 8 << 10;

/// Answers on a thread of its own, for as long as the process lives. One client at a time: there is one Prometheus.
///
/// # Errors
/// The thread could not be started.
pub fn start(socket: Socket, metrics: Metrics) -> io::Result<Exporter> {
    socket.listener().set_nonblocking(false)?;
    let listener = socket.listener().try_clone()?;
    thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        signals::block_all();
        for client in listener.incoming() {
            match client.and_then(|client| answer(client, &metrics)) {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, "nobody was told the metrics");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    })?;
    Ok(Exporter { _socket: socket })
}

/// Keeps the socket's file there.
#[derive(Debug)]
pub struct Exporter {
    _socket: Socket,
}

fn answer(mut client: UnixStream, metrics: &Metrics) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let (status, body) = match request(&mut client)? {
        true => ("200 OK", metrics.text()),
        false => ("400 Bad Request", b"GET the metrics by HTTP/1.1\n".to_vec()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(&body)
}

/// Whether what comes is a GET.
fn request(client: &mut UnixStream) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    // Byte by byte it must not take longer either: others wait.
    while bytes.len() < MAX_REQUEST && Instant::now() < deadline {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(false);
        }
        bytes.extend_from_slice(&buffer[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&bytes) {
            Ok(httparse::Status::Complete(_)) => return Ok(parsed.method == Some("GET")),
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}
