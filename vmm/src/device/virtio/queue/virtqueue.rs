//! One queue in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::{Broken, Chain};
use crate::device::virtio::transport::Interrupt;
use crate::memory::GuestRam;

/// One queue in use: requests out of the available ring, answers into the used ring.
#[derive(Debug)]
pub struct Virtqueue {
    queue: Queue,
    memory: GuestRam,
    interrupt: Arc<Interrupt>,
    /// Set while the worker is to come to rest: no request is begun any more.
    stop: Arc<AtomicBool>,
}

impl Virtqueue {
    pub(crate) fn new(
        queue: Queue,
        memory: GuestRam,
        interrupt: Arc<Interrupt>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { queue, memory, interrupt, stop }
    }

    /// The memory that chains lie in.
    #[must_use]
    pub fn memory(&self) -> &GuestRam {
        &self.memory
    }

    /// The next request, if there is one and it may be begun. It must be answered with [`Self::answer`], on every way
    /// that does not end in [`Broken`].
    ///
    /// # Errors
    /// The ring or the chain makes no sense.
    pub fn take(&mut self) -> Result<Option<Chain>, Broken> {
        if self.stop.load(Ordering::Acquire) {
            return Ok(None);
        }
        let chain = self.queue.iter(&self.memory).map_err(Broken::Ring)?.next();
        chain.map(|chain| Chain::read(chain, &self.memory)).transpose()
    }

    /// Gives the chain back to the driver, `written` bytes from its start on being written, and interrupts the driver
    /// if it wants that.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn answer(&mut self, head: u16, written: u32) -> Result<(), Broken> {
        self.queue.add_used(&self.memory, head, written).map_err(Broken::Ring)?;
        // Asked after every answer, so that nothing is left to be signalled when the machine comes to rest: the saved
        // index says it all.
        if self.queue.needs_notification(&self.memory).map_err(Broken::Ring)? {
            self.interrupt.used();
        }
        Ok(())
    }

    /// Gives several chains back at once, each with the number of bytes that are written from its start on: the driver
    /// sees all of them or none. Not more than the queue is long.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn answer_all(&mut self, answers: &[(u16, u32)]) -> Result<(), Broken> {
        let Some((&(head, written), before)) = answers.split_last() else { return Ok(()) };
        let old = self.queue.next_used();
        for (number, (head, written)) in (0..).zip(before) {
            // `struct virtq_used_elem` (virtio 1.2, 2.7.8), behind flags and index.
            let place = u64::from(old.wrapping_add(number) % self.queue.size());
            let at = GuestAddress(self.queue.used_ring() + 4 + 8 * place);
            let element = u64::from(*head) | u64::from(*written) << 32;
            self.memory.write_obj(element.to_le(), at).map_err(Broken::Buffer)?;
        }
        // The last one carries the index, which publishes all.
        self.queue.set_next_used(old.wrapping_add(before.len() as u16));
        self.queue.add_used(&self.memory, head, written).map_err(Broken::Ring)?;
        // The library looks at the last step of the index only, and puts a barrier before that.
        let last_is_awaited = self.queue.needs_notification(&self.memory).map_err(Broken::Ring)?;
        if last_is_awaited || self.awaits_one_since(old)? {
            self.interrupt.used();
        }
        Ok(())
    }

    /// Whether the driver wants to hear of an answer from index `old` on (2.7.10).
    fn awaits_one_since(&self, old: u16) -> Result<bool, Broken> {
        if !self.queue.event_idx_enabled() {
            return Ok(true);
        }
        let at = GuestAddress(self.queue.avail_ring() + 4 + 2 * u64::from(self.queue.size()));
        let event = u16::from_le(self.memory.read_obj(at).map_err(Broken::Buffer)?);
        let new = self.queue.next_used();
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }

    /// Leaves the last `count` chains that were taken, and not answered, as if they had not been.
    pub fn give_back(&mut self, count: u16) {
        self.queue.set_next_avail(self.queue.next_avail().wrapping_sub(count));
    }

    /// How many chains the driver can have made available at a time.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Answers every request there is, each with the number of bytes that `serve` says it has written, and leaves the
    /// queue so that the next one rings the doorbell. Ends early when the worker is to come to rest; then whoever
    /// starts it again looks into the queue.
    ///
    /// # Errors
    /// The ring or a chain makes no sense, or `serve` says so.
    pub fn serve(
        &mut self,
        mut serve: impl FnMut(&Chain, &GuestRam) -> Result<u32, Broken>,
    ) -> Result<(), Broken> {
        loop {
            self.silence()?;
            while let Some(chain) = self.take()? {
                let written = serve(&chain, &self.memory)?;
                self.answer(chain.head(), written)?;
            }
            if self.stop.load(Ordering::Acquire) || !self.listen()? {
                return Ok(());
            }
        }
    }

    /// Tells the driver that it need not ring.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn silence(&mut self) -> Result<(), Broken> {
        self.queue.disable_notification(&self.memory).map_err(Broken::Ring)
    }

    /// Asks the driver to ring for the next request. Says whether one has come before the driver could know.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn listen(&mut self) -> Result<bool, Broken> {
        self.queue.enable_notification(&self.memory).map_err(Broken::Ring)
    }

    /// How many requests the driver has made available so far, modulo 2^16.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn offered(&self) -> Result<u16, Broken> {
        let index = self.queue.avail_idx(&self.memory, Ordering::Acquire).map_err(Broken::Ring)?;
        Ok(index.0)
    }

    /// Asks the driver to ring once it has made more than `offered` requests available, however many of them wait to
    /// be taken. Says whether it has before it could know.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn listen_beyond(&mut self, offered: u16) -> Result<bool, Broken> {
        let next = self.queue.next_avail();
        // The library speaks of the next request to be taken.
        self.queue.set_next_avail(offered);
        let more = self.queue.enable_notification(&self.memory);
        self.queue.set_next_avail(next);
        more.map_err(Broken::Ring)
    }

    #[cfg(test)]
    pub(crate) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether the worker is to come to rest.
    #[must_use]
    pub fn is_to_rest(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// `next_avail` and `next_used`.
    pub(crate) fn indices(&self) -> (u16, u16) {
        (self.queue.next_avail(), self.queue.next_used())
    }
}
