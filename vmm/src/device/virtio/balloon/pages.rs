//! The pages that a driver gives back, by number or by address.

use std::io;

use super::super::{Broken, Buffers};
use crate::memory::layout::PAGE_SIZE;
use crate::memory::{GuestRam, give_back};

/// The most page numbers that are looked at in one request: a machine that is to come to rest waits for one. Linux sends 256
/// at a time. What is beyond stays with the guest.
const MOST: u32 = 1 << 16;
/// Bytes of a page number.
const NUMBER: u32 = 4;

/// Takes the pages whose numbers the driver has put into the balloon (virtio 1.2, 5.5.6), neighbours together. Says
/// how many bytes that were.
pub(super) fn numbered(buffers: &Buffers, memory: &GuestRam) -> Result<io::Result<u64>, Broken> {
    let count = (buffers.len() / NUMBER).min(MOST);
    let mut bytes = vec![0; (count * NUMBER) as usize];
    buffers.read(memory, 0, &mut bytes)?;
    let mut numbers: Vec<u64> =
        bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number).into()).collect();
    numbers.sort_unstable();
    let neighbours = numbers.chunk_by(|one, next| next - one <= 1);
    Ok(neighbours
        .map(|run| give_back(memory, run[0] * PAGE_SIZE..(run[run.len() - 1] + 1) * PAGE_SIZE))
        .sum())
}

/// Takes the blocks that are a request's buffers (5.5.6.7). Says how many bytes that were.
pub(super) fn named(buffers: &Buffers, memory: &GuestRam) -> io::Result<u64> {
    buffers
        .parts(0..u32::MAX)
        .map(|(gpa, len)| give_back(memory, gpa.0..gpa.0.saturating_add(len as u64)))
        .sum()
}
