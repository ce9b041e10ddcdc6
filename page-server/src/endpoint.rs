//! A socket and what is served there; and one that is given up, whose last connections are still to be taken.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::image::Served;
use crate::socket::Socket;

#[cfg(test)]
#[path = "endpoint_test.rs"]
mod endpoint_test;

/// Images, as they are when a VM connects.
pub(crate) type Images = Arc<Vec<Arc<Served>>>;

/// A listening socket, and the images of which each VM that connects there is served one.
#[derive(Debug)]
pub struct Endpoint {
    socket: Socket,
    images: Images,
}

impl Endpoint {
    /// Serves `images` on `socket`.
    #[must_use]
    pub fn new(socket: Socket, images: Vec<Arc<Served>>) -> Self {
        Self { socket, images: Arc::new(images) }
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// What is served there.
    #[must_use]
    pub fn images(&self) -> &[Arc<Served>] {
        &self.images
    }

    /// Serves other images from here on. VMs that are served already keep theirs.
    pub fn serve(&mut self, images: Vec<Arc<Served>>) {
        self.images = Arc::new(images);
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        self.socket.listener()
    }

    pub(crate) fn shared_images(&self) -> &Images {
        &self.images
    }

    /// Takes no connection from here on, and gives the path up to whoever wants it. VMs that have connected already, and
    /// perhaps have handed their memory over, are still to be served: one of another make would wait for ever. Those that
    /// wait at a service manager's socket, which stays, are the next server's. Takes no descriptor: a server at its limit
    /// drains as any other.
    pub(crate) fn retire(self) -> Option<Retired> {
        let Self { socket, images } = self;
        if socket.is_passed() {
            return None;
        }
        // The file first, so that whoever comes now finds no socket, or the next server's.
        let listener = socket.into_listener();
        // unix_stream_connect refuses from here on, and unix_accept still gives what is in the queue.
        if let Err(errno) = shutdown(&listener, Shutdown::Read) {
            tracing::warn!(%errno, "a socket that is given up still takes connections");
        }
        Some(Retired { listener, images })
    }
}

/// A socket that nobody can connect to any more, with those who had connected before.
#[derive(Debug)]
pub(crate) struct Retired {
    listener: UnixListener,
    images: Images,
}

impl Retired {
    /// The next of them, if there is one left.
    ///
    /// # Errors
    /// The system lacks a descriptor, or memory, which says nothing of the queue: accept4(2) looks for the descriptor first.
    pub(crate) fn next(&self) -> io::Result<Option<(UnixStream, Images)>> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(Some((stream, Arc::clone(&self.images)))),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return Err(error),
                    // EAGAIN or EINVAL: the queue is empty.
                    _ => return Ok(None),
                },
            }
        }
    }
}
