//! The page index, checked: what [`MemoryState`] says once it has been found to make sense.

use super::{CHUNK_BYTES, ChunkSums, Error, FileOffset, Gpa, MAX_REGIONS, PageCount, Region};
use crate::codec::Words;
use crate::state::{MemoryRegionState, MemoryState};

/// Where guest memory lies in the `memory` file, and its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryIndex {
    /// 1 to 8; ascending and without overlap both in the guest and in the file; all within `file_pages`.
    regions: Vec<Region>,
    file_pages: PageCount,
    /// At most `file_pages`.
    data_pages: u64,
    /// One for each chunk of the file.
    sums: Vec<u64>,
}

impl MemoryIndex {
    /// The index of a `memory` file in which `regions` lie, and whose pages were all given to `sums`.
    pub fn new(regions: Vec<Region>, sums: ChunkSums) -> Result<Self, Error> {
        let (file_pages, data_pages, sums) = sums.into_parts();
        check(&regions, file_pages)?;
        Ok(Self { regions, file_pages, data_pages, sums })
    }

    /// The regions of guest RAM, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Length of the file.
    pub fn file_pages(&self) -> PageCount {
        self.file_pages
    }

    /// How many pages of the file have a byte that is not zero.
    pub fn data_pages(&self) -> u64 {
        self.data_pages
    }

    /// One checksum for each chunk of the file.
    pub fn chunk_sums(&self) -> &[u64] {
        &self.sums
    }

    /// Guest RAM in bytes.
    pub fn guest_bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.pages().bytes()).sum()
    }

    /// Checks what costs nothing: that a `memory` file of `len` bytes is as long as it was.
    ///
    /// A shorter one would make the guest's process die of SIGBUS where the file ends.
    pub fn check_len(&self, len: u64) -> Result<(), Error> {
        let stated = self.file_pages.bytes();
        if len == stated { Ok(()) } else { Err(Error::FileLength { stated, actual: len }) }
    }

    /// The form in which it is saved.
    pub fn to_state(&self) -> MemoryState {
        let saved = |region: &Region| MemoryRegionState {
            guest_base: region.guest().get(),
            len: region.pages().bytes(),
            file_offset: region.offset().get(),
        };
        MemoryState {
            regions: self.regions.iter().map(saved).collect(),
            file_len: self.file_pages.bytes(),
            data_pages: self.data_pages,
            chunk_sums: Words(self.sums.clone()),
        }
    }
}

impl TryFrom<MemoryState> for MemoryIndex {
    type Error = Error;

    fn try_from(state: MemoryState) -> Result<Self, Error> {
        let MemoryState { regions, file_len, data_pages, chunk_sums: Words(sums) } = state;
        if regions.len() > MAX_REGIONS {
            return Err(Error::RegionCount { count: regions.len() });
        }
        let file_pages = PageCount::from_bytes(file_len)?;
        let region = |MemoryRegionState { guest_base, len, file_offset }| {
            Region::new(Gpa::new(guest_base)?, PageCount::from_bytes(len)?, FileOffset::new(file_offset)?)
        };
        let regions = regions.into_iter().map(region).collect::<Result<Vec<_>, _>>()?;
        check(&regions, file_pages)?;
        let expected = file_len.div_ceil(CHUNK_BYTES);
        if sums.len() as u64 != expected {
            return Err(Error::SumCount { found: sums.len(), expected });
        }
        if data_pages > file_pages.get() {
            return Err(Error::DataPages { found: data_pages, pages: file_pages.get() });
        }
        Ok(Self { regions, file_pages, data_pages, sums })
    }
}

/// What holds of the regions of one file.
fn check(regions: &[Region], file_pages: PageCount) -> Result<(), Error> {
    if regions.is_empty() || regions.len() > MAX_REGIONS {
        return Err(Error::RegionCount { count: regions.len() });
    }
    for (before, region) in regions.iter().zip(&regions[1..]) {
        if region.guest().get() < before.guest_end() || region.offset().get() < before.file_end() {
            return Err(Error::Overlap { guest: region.guest().get() });
        }
    }
    // The last region has the highest end, for they ascend.
    match regions.last() {
        Some(last) if last.file_end() > file_pages.bytes() => Err(Error::OutsideFile {
            guest: last.guest().get(),
            end: last.file_end(),
            file_len: file_pages.bytes(),
        }),
        _ => Ok(()),
    }
}
