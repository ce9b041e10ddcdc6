//! Sockets between the guest and the host (virtio 1.2, 5.10), without a kernel module on the host: connections end in
//! Unix sockets, as in [`Host`]. Streams only.
//!
//! A snapshot does not stop the connections of a guest that goes on. A guest that is restored has lost its own, because
//! the host programs at their other ends are not part of the image: it is told so before anybody can connect again
//! (`reset.rs`), and whatever listens in it goes on listening.

mod connection;
mod host;
mod muxer;
mod packet;
mod ready;
mod reset;
mod saved;
mod timer;

#[cfg(test)]
mod mock;
#[cfg(test)]
mod saved_test;
#[cfg(test)]
mod vsock_test;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use vmm_sys_util::eventfd::EventFd;

pub use host::{Error, Host};
pub use saved::{SECTION, Wiring};

use super::{Broken, ConfigSpace, Queues, VirtioDevice};
use crate::config::{GuestCid, VsockPort};
use muxer::{Muxer, Reset};
use packet::HEADER;
use ready::Ready;
use reset::TransportReset;

/// The device ID.
const ID: u32 = 19;
/// Packets for the guest, packets from the guest, events.
const QUEUES: [u16; 3] = [256, 256, 64];
const RX: usize = 0;
const TX: usize = 1;
const EVENTS: usize = 2;
/// Packets in one direction before those in the other, and the sockets, are looked at.
const BATCH: usize = 64;

/// The device.
#[derive(Debug)]
pub struct Vsock {
    // Connections, with what is left of them in the guest.
    muxer: Muxer,
    // Guest-visible state: none but the guest's CID, which is configuration.
    config: Arc<ConfigSpace>,
    /// What a guest has to hear before anything else. Every guest that is restored has, so it is not saved.
    reset: TransportReset,
}

impl Vsock {
    /// A device for a guest that has no connections. `ready` is a port of the host's that the machine serves itself:
    /// the guest says that it is ready by connecting there.
    ///
    /// # Errors
    /// The process may open no more descriptors.
    pub fn new(cid: GuestCid, host: Host, ready: Option<VsockPort>) -> Result<Self, Error> {
        let ready = ready.map(|port| Ready::new(port.get())).transpose().map_err(Error::SetUp)?;
        Self::with(cid, host, ready, VecDeque::new(), TransportReset::Done)
    }

    /// Written when the guest connects to the port by which it says that it is ready.
    #[must_use]
    pub fn said_ready(&self) -> Option<Arc<EventFd>> {
        self.muxer.ready().map(|ready| Arc::clone(ready.said()))
    }

    fn with(
        cid: GuestCid,
        host: Host,
        ready: Option<Ready>,
        resets: VecDeque<Reset>,
        reset: TransportReset,
    ) -> Result<Self, Error> {
        let muxer = Muxer::new(cid.get(), host, ready, resets)?;
        // `struct virtio_vsock_config` (5.10.4).
        let config = Arc::new(ConfigSpace::new(u64::from(cid.get()).to_le_bytes().to_vec(), 0..0));
        Ok(Self { muxer, config, reset })
    }

    /// Does all that can be done now: until nobody has anything for anybody who would take it, or the worker is to come
    /// to rest.
    fn serve(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        loop {
            let now = Instant::now();
            self.reset.advance(queues.get_mut(EVENTS), now)?;
            let is_open = self.reset.is_done();
            let mut has_more = self.muxer.hear(is_open, now);
            if let Some(until) = self.reset.until() {
                self.muxer.wake_at(until, now);
            }
            if is_open {
                has_more |= self.take(queues, now)?;
                has_more |= self.give(queues, now)?;
            }
            if !has_more || queues.get_mut(RX).is_none_or(|queue| queue.is_to_rest()) {
                return Ok(());
            }
        }
    }

    /// Takes a batch of packets from the guest. Whether anything was done or can be done.
    fn take(&mut self, queues: &mut Queues, now: Instant) -> Result<bool, Broken> {
        let Some(queue) = queues.get_mut(TX) else { return Ok(false) };
        queue.silence()?;
        for done in 0..BATCH {
            // A guest that takes no answers is not listened to.
            if !self.muxer.has_room() {
                return Ok(done > 0);
            }
            let Some(chain) = queue.take()? else { return Ok(queue.listen()? || done > 0) };
            self.muxer.take(&chain, queue.memory(), now)?;
            queue.answer(chain.head(), 0)?;
        }
        Ok(true)
    }

    /// Gives a batch of packets to the guest. Whether anything was done or can be done.
    fn give(&mut self, queues: &mut Queues, now: Instant) -> Result<bool, Broken> {
        let Some(queue) = queues.get_mut(RX) else { return Ok(false) };
        queue.silence()?;
        for done in 0..BATCH {
            if !self.muxer.has_packet() {
                return Ok(done > 0);
            }
            let Some(chain) = queue.take()? else { return Ok(queue.listen()? || done > 0) };
            if chain.writable.len() <= HEADER {
                return Err(Broken::Chain { head: chain.head(), problem: "has no room for a packet" });
            }
            match self.muxer.next(&chain, queue.memory(), now)? {
                Some(len) => queue.answer(chain.head(), len)?,
                None => queue.give_back(1),
            }
        }
        Ok(true)
    }
}

impl VirtioDevice for Vsock {
    fn id(&self) -> u32 {
        ID
    }

    fn label(&self) -> String {
        "the vsock device".to_owned()
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &QUEUES
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn activate(&mut self, _driver_features: u64) {}

    fn reset(&mut self) {
        self.muxer.forget();
        self.reset = TransportReset::Done;
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.muxer.epoll()]
    }

    fn queue_ready(&mut self, _queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        self.serve(queues)
    }

    fn source_ready(&mut self, _source: usize, queues: &mut Queues) -> Result<(), Broken> {
        self.serve(queues)
    }

    fn drain(&mut self, _queues: &mut Queues) -> Result<(), Broken> {
        // No packet is half way: what was taken from a queue is in a socket or a connection, and what was received from
        // a socket is in the guest.
        Ok(())
    }
}
