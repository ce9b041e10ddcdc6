//! What the guest says of its memory (virtio 1.2, 5.5.6.4).

use super::super::{Broken, Buffers};
use crate::memory::GuestRam;

/// Bytes of one statistic: a tag of two, a value of eight.
const ENTRY: usize = 10;
/// More than there are tags; what follows is passed over.
const MOST: usize = 32;

/// Bytes, or counts of events since the guest's boot; `None` where the guest does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes swapped in.
    pub swap_in: Option<u64>,
    /// Bytes swapped out.
    pub swap_out: Option<u64>,
    /// Page faults that waited for a disk.
    pub major_faults: Option<u64>,
    /// Page faults that did not.
    pub minor_faults: Option<u64>,
    /// Bytes that nobody uses for anything.
    pub free: Option<u64>,
    /// Bytes that there are.
    pub total: Option<u64>,
    /// Bytes that programs could have without swapping.
    pub available: Option<u64>,
    /// Bytes of disk caches.
    pub disk_caches: Option<u64>,
}

impl Stats {
    /// Reads the driver's buffer. Unknown tags are passed over; of a repeated one the last counts.
    pub(super) fn read(buffers: &Buffers, memory: &GuestRam) -> Result<Self, Broken> {
        let mut bytes = [0; ENTRY * MOST];
        let len = buffers.read(memory, 0, &mut bytes)?;
        let mut stats = Self::default();
        for entry in bytes[..len].as_chunks::<ENTRY>().0 {
            let [a, b, value @ ..] = *entry;
            let field = match u16::from_le_bytes([a, b]) {
                0 => &mut stats.swap_in,
                1 => &mut stats.swap_out,
                2 => &mut stats.major_faults,
                3 => &mut stats.minor_faults,
                4 => &mut stats.free,
                5 => &mut stats.total,
                6 => &mut stats.available,
                7 => &mut stats.disk_caches,
                _ => continue,
            };
            *field = Some(u64::from_le_bytes(value));
        }
        Ok(stats)
    }
}
