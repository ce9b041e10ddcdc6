//! The host's programs around a socket device: some call the guest, one serves a port of the host's and sends back what it
//! gets.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::vsock::{Host, Vsock};
use crate::config::GuestCid;

/// The guest's, and the port of the host's that is served.
pub(in super::super) const CID: u32 = 3;
pub(in super::super) const SERVED: u32 = 1;
/// What host programs say: the guest's port and something for it; half of that; what makes no sense.
const CALLS: [&[u8]; 3] = [b"CONNECT 1024\nhello", b"CONNECT ", b"GET /\n"];
/// Bytes that the server takes at a time.
const PIECE: usize = 4096;

/// The programs, and the directory of their sockets, which goes with them.
pub(in super::super) struct Far {
    directory: PathBuf,
    server: UnixListener,
    /// The guest's connections to it.
    served: RefCell<Vec<UnixStream>>,
    callers: RefCell<Vec<UnixStream>>,
}

impl Far {
    pub(in super::super) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("rekindle-far-{}-{number}", std::process::id()));
        fs::create_dir(&directory).expect("the directory for temporary files can be written");
        let server = UnixListener::bind(directory.join(format!("vsock_{SERVED}"))).expect("it is empty");
        server.set_nonblocking(true).expect("it is a socket");
        Self { directory, server, served: RefCell::default(), callers: RefCell::default() }
    }

    /// A device among them.
    pub(in super::super) fn device(&self) -> Vsock {
        let host = Host::listen(&self.directory.join("vsock")).expect("nobody listens there");
        Vsock::new(GuestCid::new(CID).expect("it is a guest's"), host, None).expect("descriptors")
    }

    /// All who have called before hang up, and others call.
    pub(super) fn call(&self) {
        let calls = CALLS.iter().map(|said| {
            let mut stream = UnixStream::connect(self.directory.join("vsock")).expect("the device listens");
            stream.set_nonblocking(true).expect("it is a socket");
            stream.write_all(said).expect("there is room in a new socket");
            stream
        });
        *self.callers.borrow_mut() = calls.collect();
    }

    /// The server's turn.
    pub(in super::super) fn turn(&self) {
        let mut served = self.served.borrow_mut();
        while let Ok((stream, _)) = self.server.accept() {
            stream.set_nonblocking(true).expect("it is a socket");
            served.push(stream);
        }
        served.retain_mut(|stream| {
            let mut piece = [0; PIECE];
            match stream.read(&mut piece) {
                // What the guest does not take is lost.
                Ok(len @ 1..) => stream.write(&piece[..len]).is_ok(),
                Ok(0) => false,
                Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // Left behind, it is in nobody's way.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
