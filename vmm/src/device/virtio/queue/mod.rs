//! Virtqueues: `virtio_queue`'s split rings, with every rule that a driver can break checked, and every loop bounded.

mod chain;
mod setup;
mod virtqueue;

#[cfg(test)]
mod queue_test;

use std::sync::Arc;

pub use chain::{Buffers, Chain};
pub(super) use setup::QueueRegisters;
pub use setup::SetupError;
pub use virtqueue::Virtqueue;

use super::transport::Interrupt;

/// Why a device cannot go on before it is reset: nearly always a rule that its driver has broken.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A ring cannot be read or written, or its index has jumped.
    #[error("a ring makes no sense")]
    Ring(#[source] virtio_queue::Error),
    /// A chain of descriptors is not one.
    #[error("the chain at descriptor {head} {problem}")]
    Chain {
        /// Its first descriptor.
        head: u16,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No fault of the driver's: the host's way of doing I/O has failed altogether.
    #[error("the host refuses to do any input or output")]
    Engine(#[source] std::io::Error),
    /// A buffer could not be accessed although it was checked: never seen.
    #[error("a buffer cannot be accessed")]
    Buffer(#[source] vm_memory::GuestMemoryError),
}

/// The queues of a device that its driver uses.
#[derive(Debug)]
pub struct Queues {
    /// By number; `None` for one that the driver has not set up, or has given up.
    queues: Vec<Option<Virtqueue>>,
    interrupt: Arc<Interrupt>,
}

impl Queues {
    /// `count` queues that the driver does not use.
    pub(super) fn unused(count: usize, interrupt: Arc<Interrupt>) -> Self {
        Self { queues: (0..count).map(|_| None).collect(), interrupt }
    }

    /// How many there are, in use or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// Queue number `queue`, if the driver uses it.
    pub fn get_mut(&mut self, queue: usize) -> Option<&mut Virtqueue> {
        self.queues.get_mut(queue)?.as_mut()
    }

    /// How the driver is told what it was not waiting for.
    #[must_use]
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    pub(super) fn get(&self, queue: usize) -> Option<&Virtqueue> {
        self.queues.get(queue)?.as_ref()
    }

    pub(super) fn set(&mut self, queue: usize, to: Option<Virtqueue>) {
        self.queues[queue] = to;
    }

    pub(super) fn clear(&mut self) {
        self.queues.fill_with(|| None);
    }
}
