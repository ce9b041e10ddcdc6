//! The entropy device (virtio 1.2, 5.4): the host's random numbers for the guest.
//!
//! The device keeps none, but a driver does: Linux asks for its next 64 bytes as soon as the last ones are used up
//! (`request_entropy` of `virtio-rng.c`), the device answers at once, and the hwrng core keeps what is left of 64 more
//! (`rng_buffer` of `hw_random/core.c`). Both lie in the guest's memory when a snapshot is taken, so every clone reads
//! the same bytes first. The device cannot take back what it has answered: the buffer is the driver's again (virtio 1.2,
//! 2.7.8). A clone has to discard them, as the README says; what else a guest has drawn ahead is in `vmm/README.md`.

mod saved;

#[cfg(test)]
mod rng_test;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};

use super::{Broken, Buffers, ConfigSpace, Queues, VirtioDevice};
use crate::memory::GuestRam;

pub use saved::SECTION;

/// The device ID.
const ID: u32 = 4;
/// One queue, for requests.
const QUEUES: [u16; 1] = [64];
/// The most bytes that one request is given. A driver gets fewer than it asked for then, which it has to expect.
const MOST: u32 = 64 << 10;

/// The device.
#[derive(Debug)]
pub struct Rng {
    // Guest-visible state: none.
    config: Arc<ConfigSpace>,
}

impl Default for Rng {
    fn default() -> Self {
        Self { config: Arc::new(ConfigSpace::new(Vec::new(), 0..0)) }
    }
}

impl VirtioDevice for Rng {
    fn id(&self) -> u32 {
        ID
    }

    fn label(&self) -> String {
        "the entropy device".to_owned()
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

    fn reset(&mut self) {}

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn queue_ready(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        let Some(queue) = queues.get_mut(queue) else { return Ok(()) };
        queue.serve(|chain, memory| fill(&chain.writable, memory))
    }

    fn source_ready(&mut self, _source: usize, _queues: &mut Queues) -> Result<(), Broken> {
        Ok(())
    }

    fn drain(&mut self, _queues: &mut Queues) -> Result<(), Broken> {
        Ok(())
    }
}

/// Fills as much of the buffers as one request is given, and says how much.
fn fill(buffers: &Buffers, memory: &GuestRam) -> Result<u32, Broken> {
    let wanted = buffers.len().min(MOST);
    let mut random = [0; 256];
    let mut filled = 0;
    while filled < wanted {
        let piece = &mut random[..(wanted - filled).min(256) as usize];
        // Up to 256 bytes come all at once or not at all (getrandom(2)).
        if let Err(error) = getrandom(&mut *piece, GetRandomFlags::empty()) {
            tracing::error!(%error, "the host has no random numbers for the guest");
            break;
        }
        filled += buffers.write(memory, filled, piece)? as u32;
    }
    Ok(filled)
}
