//! The metrics on a Unix socket or a TCP port, over HTTP/1.1: one request a connection, whatever its path.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(test)]
#[path = "exporter_test.rs"]
mod exporter_test;

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
    answer_all(metrics, move || listener.accept().map(|(client, _)| client))?;
    Ok(Exporter { _socket: socket })
}

/// The same on a TCP port, to whoever can reach `address`: that is not asked who he is. Gives the address, with the port that
/// the system has chosen if that was left to it.
///
/// # Errors
/// The address is not to be had, or the thread could not be started.
pub fn listen(address: SocketAddr, metrics: Metrics) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    answer_all(metrics, move || listener.accept().map(|(client, _)| client))?;
    Ok(address)
}

fn answer_all<C: Client>(
    metrics: Metrics,
    accept: impl Fn() -> io::Result<C> + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        signals::block_all();
        loop {
            match accept().and_then(|client| answer(client, &metrics)) {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, "nobody was told the metrics");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    })?;
    Ok(())
}

/// Keeps the socket's file there.
#[derive(Debug)]
pub struct Exporter {
    _socket: Socket,
}

/// Whoever asks.
trait Client: Read + Write {
    /// Bounds how long it may take, to say something and to hear something.
    fn bound(&self, limit: Duration) -> io::Result<()>;
}

impl Client for UnixStream {
    fn bound(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl Client for TcpStream {
    fn bound(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

fn answer(mut client: impl Client, metrics: &Metrics) -> io::Result<()> {
    client.bound(PATIENCE)?;
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
fn request(client: &mut impl Read) -> io::Result<bool> {
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
