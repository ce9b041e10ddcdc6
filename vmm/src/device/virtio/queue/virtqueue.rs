//! One queue in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_queue::{Queue, QueueOwnedT, QueueT};

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
