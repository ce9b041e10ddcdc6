//! One client's connection: read a request, ask the machine, write the reply, again until the client is done.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::http::{Error, Wire};
use super::mailbox::Asker;
use super::route::{self, FaultBody};
use super::{Fault, Postbox, Reply, print_chain};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Between two requests.
    pub(super) idle: Duration,
    /// For one request to arrive from its first byte on, and for one reply to be taken.
    pub(super) message: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(10), message: Duration::from_secs(2) }
    }
}

/// Serves one client until it closes, breaks the protocol, is silent for too long, or `closing` is set.
pub(super) fn serve(stream: &Arc<UnixStream>, postbox: &Postbox, limits: Limits, closing: &AtomicBool) {
    let mut wire = Wire::new(stream);
    loop {
        let (reply, keep_alive) = match wire.read_request(limits.idle, limits.message) {
            Ok(None) => return,
            Ok(Some(incoming)) => {
                let reply = route::parse(&incoming.spelled)
                    .and_then(|request| postbox.ask(request, Asker::at(stream), closing));
                (reply, incoming.keep_alive)
            }
            Err(Error::Io(error)) => {
                tracing::debug!(%error, "a control connection failed");
                return;
            }
            // Where the next message would begin is no longer known.
            Err(error) => (Err(Fault::of(&error)), false),
        };
        let keep_alive = keep_alive && !closing.load(Ordering::Acquire);
        if let Err(error) = write(&mut wire, reply, keep_alive, limits.message) {
            tracing::debug!(error = print_chain(&error), "a control client did not take its reply");
            return;
        }
        if !keep_alive {
            return;
        }
    }
}

fn write(wire: &mut Wire<'_>, reply: Reply, keep_alive: bool, limit: Duration) -> Result<(), Error> {
    match reply {
        Ok(answer) => wire.write_reply(Ok(route::spell_answer(&answer).as_deref()), keep_alive, limit),
        Err(Fault { message, exit_code }) => {
            let body = route::bytes(&FaultBody { fault_message: message });
            wire.write_reply(Err((&body, exit_code)), keep_alive, limit)
        }
    }
}
