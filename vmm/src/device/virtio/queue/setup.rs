//! A queue as the driver sets it up: its registers, and what must hold of them before the device looks at the rings.

use snapshot_format::state::VirtqueueState;
use virtio_queue::{Queue, QueueState, QueueT};

use crate::memory::GuestRam;

/// Why the driver's settings for a queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The size is no power of two or larger than offered, or an address is not aligned.
    #[error("its size or the alignment of a ring is wrong")]
    Shape(#[source] virtio_queue::Error),
    /// A ring does not lie in guest memory.
    #[error("a ring lies outside of guest memory")]
    Outside,
}

/// What the driver writes of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueRegisters {
    /// The size that is offered. Not 0, and a power of two.
    pub max_size: u16,
    /// `QueueNum`; 0 for what does not fit in 16 bits and is as wrong.
    pub size: u16,
    /// `QueueReady`.
    pub ready: bool,
    pub desc_table: u64,
    pub avail_ring: u64,
    pub used_ring: u64,
}

impl QueueRegisters {
    pub(crate) fn new(max_size: u16) -> Self {
        Self { max_size, size: max_size, ready: false, desc_table: 0, avail_ring: 0, used_ring: 0 }
    }

    /// The queue that they describe, at these indices.
    pub(crate) fn queue(
        &self,
        memory: &GuestRam,
        event_idx: bool,
        (next_avail, next_used): (u16, u16),
    ) -> Result<Queue, SetupError> {
        let Self { max_size, size, ready: _, desc_table, avail_ring, used_ring } = *self;
        let state = QueueState {
            max_size,
            next_avail,
            next_used,
            event_idx_enabled: event_idx,
            size,
            ready: true,
            desc_table,
            avail_ring,
            used_ring,
        };
        let queue = Queue::try_from(state).map_err(SetupError::Shape)?;
        // A ring at address 0 means "none" to the library.
        if avail_ring == 0 || !queue.is_valid(memory) {
            return Err(SetupError::Outside);
        }
        Ok(queue)
    }

    /// For an image, with the indices of the queue if it is in use.
    pub(crate) fn save(&self, queue: Option<(u16, u16)>) -> VirtqueueState {
        let Self { max_size, size, ready, desc_table, avail_ring, used_ring } = *self;
        let (next_avail, next_used) = queue.unwrap_or_default();
        VirtqueueState { max_size, size, ready, desc_table, avail_ring, used_ring, next_avail, next_used }
    }

    /// From an image, with the indices.
    pub(crate) fn restore(saved: &VirtqueueState) -> (Self, (u16, u16)) {
        let VirtqueueState {
            max_size,
            size,
            ready,
            desc_table,
            avail_ring,
            used_ring,
            next_avail,
            next_used,
        } = *saved;
        (Self { max_size, size, ready, desc_table, avail_ring, used_ring }, (next_avail, next_used))
    }
}
