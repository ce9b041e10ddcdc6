//! The balloon (virtio 1.2, 5.5), of which spark has the statistics only: it says how much of its memory is free, once,
//! and gives none of it.

use super::area::{Area, put};
use super::queue::{self, Part};
use super::transport::Transport;

const ID: u32 = 5;
/// A feature, and its queue.
const STATS_VQ: u64 = 1 << 1;
const STATS: u32 = 2;

/// Tags of statistics: free memory, all memory.
const FREE: u16 = 4;
const TOTAL: u16 = 5;
/// Bytes of a statistic: a tag of two, a value of eight.
const ENTRY: u64 = 10;

static DATA: Area<4096> = Area::new();
static RINGS: Area<{ queue::BYTES }> = Area::new();

/// Resets the balloon, and says that `free` bytes of `total` are free. The device keeps the buffer until it wants newer
/// numbers, which it never gets.
pub fn tell(free: u64, total: u64) -> Result<(), &'static str> {
    let device = Transport::find(ID).ok_or("no balloon")?;
    let features = device.negotiate(STATS_VQ)?;
    let mut stats = device.queue(STATS, RINGS.address(), features)?;
    device.go()?;
    let mut at = DATA.address();
    for (tag, value) in [(FREE, free), (TOTAL, total)] {
        put(at, tag);
        for part in 0..4 {
            put(at + 2 + 2 * part, (value >> (16 * part)) as u16);
        }
        at += ENTRY;
    }
    let parts = [Part { address: DATA.address(), len: 2 * ENTRY as u32, answer: false }];
    stats.offer(&parts, false).ok_or("no room in the queue")?;
    stats.notify();
    Ok(())
}
