//! Where guest memory lies in the `memory` file, and its checksums. Section `memory`.

use crate::codec::prelude::*;

/// The page index. Plain numbers, as they were read: [`crate::pages::MemoryIndex`] is the same, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct MemoryState {
    /// The regions of guest RAM, in ascending order both of guest address and of file offset; at most 8.
    pub regions: Vec<MemoryRegionState>,
    /// Length of the `memory` file in bytes, a multiple of 4096.
    pub file_len: u64,
    /// How many pages of the file have a byte that is not zero.
    pub data_pages: u64,
    /// One checksum for each 2 MiB of the file, 0 for one that is all zero.
    pub chunk_sums: Words,
}

/// One contiguous region of guest RAM, contiguous in the file too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct MemoryRegionState {
    /// Guest-physical address of its first byte, a multiple of 4096.
    pub guest_base: u64,
    /// Length in bytes, a multiple of 4096, not 0.
    pub len: u64,
    /// Where its first byte lies in the `memory` file, a multiple of 4096.
    pub file_offset: u64,
}
