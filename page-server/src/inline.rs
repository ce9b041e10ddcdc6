//! A VM that serves itself: a session on a thread of the VMM's own process, over a socket pair.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::image::Served;
use crate::session::{self, End, Options, Session};
use crate::stats::Metrics;
use crate::sys::signals;

/// Serves the VM at the other end of `socket` from `image`, until that end is closed.
///
/// What goes wrong is said over the socket, as by any server. The thread takes no signals.
///
/// # Errors
/// The thread could not be started.
pub fn serve(socket: UnixStream, image: Arc<Served>, options: Options) -> io::Result<JoinHandle<()>> {
    let stats = Metrics::new().map_err(io::Error::other)?.of_session("0", "");
    thread::Builder::new().name("pages".to_owned()).spawn(move || {
        signals::block_all();
        let received = match session::receive(socket, options.handshake) {
            Ok(received) => received,
            // Whoever made the pair went away before it said anything.
            Err(error) => {
                tracing::debug!(error = %session::chain(&error), "no pages are asked for");
                return;
            }
        };
        match Session::new(received, &[image], &options, stats) {
            Ok(mut session) => {
                session.serves_itself();
                if let End::Lost(error) = session.run(None::<&UnixStream>) {
                    tracing::debug!(error = %session::chain(&error), "a page is lost");
                }
            }
            Err(error) => tracing::debug!(error = %session::chain(&error), "no pages are to be had"),
        }
    })
}
