//! The `memory` file and its index: where guest memory lies in it, and whether it is still what was written.
//!
//! Owns the units (pages, chunks), the checked types of the layout, the checksums and their verification. Knows
//! nothing of mappings, faults or KVM, and never writes to the file.
//!
//! ```text
//!   guest-physical                         file `memory`
//!   0         +----------------+  --->  0  +----------------+  region 0: guest, pages, offset
//!             | low RAM        |           | low RAM        |
//!   low end   +----------------+           +----------------+
//!             (hole below 4 GiB)      ---> | high RAM       |  region 1: guest, pages, offset
//!   4 GiB     +----------------+  --/      +----------------+  file_len
//!             | high RAM       |
//!             +----------------+           zero pages are holes; a chunk is 2 MiB of the file
//! ```

mod digest;
mod error;
mod extents;
mod index;
mod layout;
pub mod pack;
mod sums;
mod verify;
mod write;

#[cfg(test)]
mod index_test;
#[cfg(test)]
mod verify_test;

pub use digest::digest;
pub use error::Error;
pub use extents::data_extents;
pub(crate) use extents::next_extent;
pub use index::MemoryIndex;
pub use layout::{FileOffset, Gpa, PageCount, Region};
pub use pack::PackIndex;
pub use sums::{ChunkSums, chunk_sum, is_zero, page_sum};
pub use verify::{GuestRanges, check_sums, verify};
pub use write::runs_to_write;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// Bytes of the file that one checksum covers; the last chunk may be shorter.
pub const CHUNK_BYTES: u64 = 2 << 20;

/// Pages of a chunk.
pub const CHUNK_PAGES: u64 = CHUNK_BYTES / PAGE_BYTES;

/// The most regions that guest RAM may be in. Today it is one or two: below and above the hole under 4 GiB.
pub const MAX_REGIONS: usize = 8;

/// The longest `memory` file in bytes: 1 TiB.
pub const MAX_MEMORY_BYTES: u64 = 1 << 40;

/// The end of the guest-physical addresses that any x86 has (52 bits: AMD APM vol. 2, 5.3).
pub const MAX_GUEST_ADDRESS: u64 = 1 << 52;
