//! The port of the host's that the machine serves itself: the guest says that it is ready by connecting there.
//!
//! An image that was taken while the guest waits for the answer would have every clone wait in vain, and its program
//! fail. So the guest is let go on until it knows: until it says or closes something, which it does only then, or a
//! moment after its kernel has answered a question behind the answer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::connection::PATIENCE;
use super::packet::op;

/// From when the guest's kernel knows that it is connected until its program has surely heard of it.
const MOMENT: Duration = Duration::from_millis(50);

/// The port.
#[derive(Debug)]
pub(super) struct Ready {
    port: u32,
    said: Arc<EventFd>,
    /// When the guest is ready at the latest, once it has asked for the connection and until it was told on.
    due: Option<Instant>,
}

impl Ready {
    pub(super) fn new(port: u32) -> io::Result<Self> {
        let said = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self { port, said: Arc::new(said), due: None })
    }

    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Written when the guest is ready.
    pub(super) fn said(&self) -> &Arc<EventFd> {
        &self.said
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A packet of the guest's to the port.
    pub(super) fn hear(&mut self, op: u16, now: Instant) {
        let wait = match op {
            // A driver that answers no question is not waited for for ever.
            op::REQUEST => PATIENCE,
            op::CREDIT_UPDATE => MOMENT,
            _ => Duration::ZERO,
        };
        let due = now + wait;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        self.look(now);
    }

    /// Says that the guest is ready if it is time.
    pub(super) fn look(&mut self, now: Instant) {
        if self.due.take_if(|due| *due <= now).is_some() {
            // Fails only if it was said 2^64 - 2 times.
            let _ = self.said.write(1);
        }
    }
}
