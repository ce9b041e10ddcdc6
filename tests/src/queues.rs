//! Virtqueues as an image has them: how far the guest and the device were at the instant of the snapshot.

use std::fs::File;
use std::os::unix::fs::FileExt;

use snapshot_format::state::{MemoryState, VirtqueueState};

use crate::image::Image;
use crate::state::State;

/// The four indices of a queue. Each counts from the queue's setting up, modulo 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Requests that the guest has made available.
    pub made: u16,
    /// Requests that the device has taken.
    pub taken: u16,
    /// Answers that the device has given.
    pub answered: u16,
    /// Answers that the guest has looked at, if it says so (`used_event` of VIRTIO_F_EVENT_IDX).
    pub seen: u16,
}

impl Progress {
    /// Requests whose answer the guest is still waiting for.
    pub fn outstanding(&self) -> u16 {
        self.made.wrapping_sub(self.seen)
    }

    /// Requests that no device has seen.
    pub fn untaken(&self) -> u16 {
        self.made.wrapping_sub(self.taken)
    }

    /// Answers that the guest has not seen.
    pub fn unseen(&self) -> u16 {
        self.answered.wrapping_sub(self.seen)
    }
}

/// Of a queue in use, from its state and the image's memory.
#[track_caller]
pub fn progress(image: &Image, queue: &VirtqueueState) -> Progress {
    assert!(queue.ready, "the guest does not use this queue: {queue:?}");
    let memory: MemoryState = State::of(image).value("memory");
    let file = File::open(image.memory()).expect("an image has a memory");
    let word = |address: u64| {
        let region = memory.regions.iter().rfind(|region| region.guest_base <= address);
        let region = region.expect("a ring lies in memory");
        let mut word = [0; 2];
        file.read_exact_at(&mut word, region.file_offset + (address - region.guest_base))
            .expect("the memory file is whole");
        u16::from_le_bytes(word)
    };
    assert_eq!(word(queue.used_ring + 2), queue.next_used, "the ring tells of other answers than the device");
    Progress {
        made: word(queue.avail_ring + 2),
        taken: queue.next_avail,
        answered: queue.next_used,
        seen: word(queue.avail_ring + 4 + 2 * u64::from(queue.size)),
    }
}
