//! Frames to the guest.

use std::collections::VecDeque;

use super::features::feature;
use super::tap::Received;
use super::{HEADER, Net, RX};
use crate::device::virtio::rate::RateLimit;
use crate::device::virtio::{Broken, Chain, Queues, Virtqueue};
use crate::memory::GuestRam;

/// The most frames in one go: then the guest's are looked after.
const BATCH: usize = 64;
/// An Ethernet header with a VLAN tag.
const ETHERNET: u32 = 18;
/// The longest packet that is still to be cut into segments.
const LONGEST: u32 = 65535;
/// The most pieces of memory that the kernel fills at once: see [`crate::sys::vectored::receive`].
const MOST_PIECES: usize = 1023;
/// Where the header says over how many chains a frame goes.
const NUM_BUFFERS: u32 = 10;

/// The receiving side.
#[derive(Debug)]
pub(super) struct Receiver {
    // Guest-visible state.
    pub limit: RateLimit,
    // Transient.
    /// Chains that were taken and are not answered: room for the next frame. Given back when the machine rests.
    held: VecDeque<Chain>,
    /// Bytes that a frame may need.
    wanted: u32,
    /// Whether one frame may go over several chains.
    mergeable: bool,
    /// Whether the driver was seen to make `wanted` bytes available. If so it is waited for when it has fewer to offer;
    /// a driver that never has gets what fits.
    is_generous: bool,
    /// Whether the next thing to happen is a frame.
    pub awaits_tap: bool,
}

impl Receiver {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            held: VecDeque::new(),
            wanted: 0,
            mergeable: false,
            is_generous: false,
            awaits_tap: false,
        }
    }

    /// A driver with these features is ready.
    pub(super) fn begin(&mut self, features: u64, mtu: u16) {
        let packet = match features & (feature::GUEST_TSO4 | feature::GUEST_TSO6) {
            0 => mtu.into(),
            _ => LONGEST,
        };
        self.wanted = HEADER + ETHERNET + packet;
        self.mergeable = features & feature::MRG_RXBUF != 0;
        self.is_generous = false;
    }

    /// The driver has reset the device.
    pub(super) fn forget(&mut self) {
        self.held.clear();
        self.awaits_tap = false;
    }

    pub(super) fn acknowledge(&self) {
        self.limit.acknowledge();
    }

    /// The machine is coming to rest: what was taken is not taken.
    pub(super) fn rest(&mut self, queues: &mut Queues) {
        if let Some(queue) = queues.get_mut(RX) {
            queue.give_back(self.held.len() as u16);
        }
        self.held.clear();
        self.awaits_tap = false;
        self.limit.rest();
    }

    /// Takes chains until a frame may be received. If not, the driver rings when it has more.
    fn make_room(&mut self, queue: &mut Virtqueue) -> Result<bool, Broken> {
        loop {
            while !self.has_room() {
                let Some(chain) = queue.take()? else { break };
                let broken = |problem| Broken::Chain { head: chain.head(), problem };
                if chain.writable.len() < HEADER {
                    return Err(broken("has no room for a header"));
                }
                if self.held.len() >= usize::from(queue.size()) {
                    return Err(broken("is available although the whole queue is in use"));
                }
                self.held.push_back(chain);
            }
            self.is_generous |= self.room() >= self.wanted;
            let is_ready = self.has_room() || !self.is_generous && !self.held.is_empty();
            if is_ready || queue.is_to_rest() || !queue.listen()? {
                return Ok(is_ready && !queue.is_to_rest());
            }
        }
    }

    /// Whether what is held takes any frame, or cannot become more.
    fn has_room(&self) -> bool {
        let pieces: usize = self.held.iter().map(|chain| chain.writable.count()).sum();
        let is_full = !self.mergeable || self.room() >= self.wanted || pieces >= MOST_PIECES;
        !self.held.is_empty() && is_full
    }

    fn room(&self) -> u32 {
        self.held.iter().map(|chain| chain.writable.len()).fold(0, u32::saturating_add)
    }

    /// A frame of `len` bytes with its header is in the chains: gives as many as it needs to the driver.
    fn deliver(&mut self, len: u32, queue: &mut Virtqueue) -> Result<(), Broken> {
        let mut answers = Vec::new();
        let mut rest = len;
        // A frame that is longer than what is held does not come this far.
        for chain in &self.held {
            let written = rest.min(chain.writable.len());
            answers.push((chain.head(), written));
            rest -= written;
            if rest == 0 {
                break;
            }
        }
        if let Some(first) = self.held.front() {
            let count = answers.len() as u16;
            first.writable.write(queue.memory(), NUM_BUFFERS, &count.to_le_bytes())?;
        }
        self.held.drain(..answers.len());
        self.limit.spend((len - HEADER).into());
        queue.answer_all(&answers)
    }

    fn slices<'memory>(
        &self,
        memory: &'memory GuestRam,
    ) -> Result<Vec<vm_memory::VolatileSlice<'memory>>, Broken> {
        let mut slices = Vec::new();
        for chain in &self.held {
            slices.extend(chain.writable.slices(memory, 0..chain.writable.len())?);
        }
        Ok(slices)
    }
}

impl Net {
    /// Receives as long as there are frames, room and tokens, within bounds.
    pub(super) fn receive(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        self.rx.awaits_tap = false;
        if self.is_lost {
            return Ok(());
        }
        let Some(queue) = queues.get_mut(RX) else { return Ok(()) };
        queue.silence()?;
        for _ in 0..BATCH {
            if !self.rx.limit.may_begin() || !self.rx.make_room(queue)? {
                return Ok(());
            }
            let received = self.tap.receive(&self.rx.slices(queue.memory())?);
            match received {
                Received::Frame(len) => self.rx.deliver(len, queue)?,
                Received::Useless => self.tap.count_loss(),
                Received::Nothing => break,
                Received::Lost(error) => {
                    self.lose(queues, &error);
                    return Ok(());
                }
            }
        }
        self.rx.awaits_tap = true;
        Ok(())
    }
}
