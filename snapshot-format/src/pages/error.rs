//! Why a page index is refused, or a `memory` file does not match it.

use std::io;

use super::GuestRanges;
use super::{MAX_GUEST_ADDRESS, MAX_MEMORY_BYTES, MAX_REGIONS};
use crate::error::ErrorKind;

/// Why a page index is refused, or a `memory` file does not match it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number that must be a multiple of the page size is not.
    #[error("{what} {value:#x} is not a multiple of 4096")]
    Unaligned {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A region reaches beyond the addresses that a guest has.
    #[error("guest memory at {guest:#x} reaches beyond {MAX_GUEST_ADDRESS:#x}")]
    GuestAddress {
        /// Where it begins.
        guest: u64,
    },
    /// A file offset or length is beyond what any `memory` file has.
    #[error("{value:#x} is beyond the largest memory file, {MAX_MEMORY_BYTES:#x} bytes")]
    FileBound {
        /// The offset or length.
        value: u64,
    },
    /// A region without pages.
    #[error("the region at guest address {guest:#x} is empty")]
    EmptyRegion {
        /// Where it begins.
        guest: u64,
    },
    /// No region, or more than the format allows.
    #[error("{count} regions of guest memory, 1 to {MAX_REGIONS} are possible")]
    RegionCount {
        /// How many.
        count: usize,
    },
    /// Two regions overlap in the guest or in the file, or are out of order.
    #[error("the region at guest address {guest:#x} overlaps the one before it or is out of order")]
    Overlap {
        /// Where the second one begins.
        guest: u64,
    },
    /// A region lies outside of the file.
    #[error(
        "the region at guest address {guest:#x} ends at {end:#x} of a memory file of {file_len:#x} bytes"
    )]
    OutsideFile {
        /// Where the region begins in the guest.
        guest: u64,
        /// Where it ends in the file.
        end: u64,
        /// The file's length.
        file_len: u64,
    },
    /// The number of checksums does not fit the file's length.
    #[error("{found} chunk checksums, a memory file of this length has {expected}")]
    SumCount {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: u64,
    },
    /// More pages with data than pages.
    #[error("{found} pages with data, the memory file has {pages}")]
    DataPages {
        /// What the index says.
        found: u64,
        /// Pages of the file.
        pages: u64,
    },
    /// The file is not as long as the index says.
    #[error("the memory file is {actual} bytes long, its index says {stated}")]
    FileLength {
        /// According to the index.
        stated: u64,
        /// In fact.
        actual: u64,
    },
    /// The file could not be read.
    #[error("cannot read the memory file at offset {offset:#x}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A chunk is not what was written.
    #[error(
        "guest memory {guest} is damaged (chunk {chunk} of the memory file: checksum {computed:#018x}, the index says {stated:#018x})"
    )]
    Chunk {
        /// Number of the first chunk that differs.
        chunk: u64,
        /// The guest addresses that lie in it.
        guest: GuestRanges,
        /// According to the index.
        stated: u64,
        /// In fact.
        computed: u64,
    },
    /// Every chunk has its checksum, but the number of pages with data is another one.
    #[error("{actual} pages of the memory file have data, its index says {stated}")]
    DataPageCount {
        /// According to the index.
        stated: u64,
        /// In fact.
        actual: u64,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Io,
            _ => ErrorKind::Damaged,
        }
    }
}
