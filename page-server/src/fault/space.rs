//! What a session knows of its guest's memory: where each region lies, and what has become of its pages.
//!
//! A page is *missing*, *there* or *removed*. What is written here is a memory aid: the kernel alone knows, and a fault
//! is an order whatever this says.

#[cfg(test)]
#[path = "space_test.rs"]
mod space_test;

use std::ops::Range;

use snapshot_format::handoff::Mapping;
use snapshot_format::pages::PAGE_BYTES;

/// What is remembered together: 2 MiB.
const CHUNK: u64 = 2 << 20;
const WORDS: usize = (CHUNK / PAGE_BYTES / 64) as usize;

/// What is known of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not delivered yet: its bytes are the source's.
    Missing,
    /// Delivered.
    There,
    /// Given back to the kernel, so that it is zero when it is asked for.
    Removed,
    /// Not the session's any more.
    Gone,
}

/// Some pages' kinds, two bits for each.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    low: [u64; WORDS],
    high: [u64; WORDS],
}

/// One region.
#[derive(Debug)]
struct Region {
    mapping: Mapping,
    /// Made as something becomes known; the guest's, and so a hostile VMM's, faults pay for them.
    chunks: Vec<Option<Box<Chunk>>>,
}

/// All regions of one guest.
#[derive(Debug)]
pub(crate) struct Space {
    /// By rising address.
    regions: Vec<Region>,
}

/// A place in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    region: usize,
    /// Of the page's first byte, from the start of the region.
    at: u64,
}

impl Space {
    /// Regions that were checked: see [`snapshot_format::handoff::Handshake`].
    pub(crate) fn new(mappings: &[Mapping]) -> Self {
        let region = |mapping: &Mapping| Region {
            mapping: *mapping,
            chunks: vec![None; usize::try_from(mapping.len.div_ceil(CHUNK)).unwrap_or(0)],
        };
        let mut regions: Vec<Region> = mappings.iter().map(region).collect();
        regions.sort_unstable_by_key(|region| region.mapping.address);
        Self { regions }
    }

    /// The page at `address`.
    pub(crate) fn find(&self, address: u64) -> Option<Spot> {
        let region =
            self.regions.partition_point(|region| region.mapping.address <= address).checked_sub(1)?;
        let Mapping { address: start, len, page_bytes, .. } = self.regions[region].mapping;
        let at = address - start;
        (at < len).then_some(Spot { region, at: at - at % page_bytes })
    }

    /// The page whose bytes are at `offset` of the memory file.
    pub(crate) fn find_offset(&self, offset: u64) -> Option<Spot> {
        let inside = |region: &Region| {
            (region.mapping.offset..region.mapping.offset + region.mapping.len).contains(&offset)
        };
        let region = self.regions.iter().position(inside)?;
        let Mapping { offset: start, page_bytes, .. } = self.regions[region].mapping;
        let at = offset - start;
        Some(Spot { region, at: at - at % page_bytes })
    }

    /// Where a page is in the VMM, where in the memory file, and how long it is.
    pub(crate) fn place(&self, spot: Spot) -> (u64, u64, u64) {
        let Mapping { address, offset, page_bytes, .. } = self.regions[spot.region].mapping;
        (address + spot.at, offset + spot.at, page_bytes)
    }

    /// The first address behind the region that a page lies in.
    pub(crate) fn end(&self, spot: Spot) -> u64 {
        let Mapping { address, len, .. } = self.regions[spot.region].mapping;
        address + len
    }

    pub(crate) fn kind(&self, spot: Spot) -> Kind {
        self.regions[spot.region].kind(spot.at)
    }

    /// The pages around `spot` that are of its kind, within `window` (addresses), as bytes of its region.
    pub(crate) fn alike(&self, spot: Spot, window: &Range<u64>) -> Stretch {
        let region = &self.regions[spot.region];
        let Mapping { address, len, page_bytes, .. } = region.mapping;
        let kind = region.kind(spot.at);
        let low = window
            .start
            .saturating_sub(address)
            .checked_next_multiple_of(page_bytes)
            .unwrap_or(spot.at)
            .min(spot.at);
        let high = window.end.saturating_sub(address).min(len);
        let mut start = spot.at;
        while start > low && region.kind(start - page_bytes) == kind {
            start -= page_bytes;
        }
        let mut end = spot.at + page_bytes;
        while end + page_bytes <= high && region.kind(end) == kind {
            end += page_bytes;
        }
        Stretch { region: spot.region, bytes: start..end }
    }

    /// The first missing page from `spot` on, within `len` bytes of its region.
    pub(crate) fn next_missing(&self, spot: Spot, len: u64) -> Option<Spot> {
        let region = &self.regions[spot.region];
        let end = spot.at.saturating_add(len).min(region.mapping.len);
        let mut at = spot.at;
        while at < end {
            if region.kind(at) == Kind::Missing {
                return Some(Spot { region: spot.region, at });
            }
            at += region.mapping.page_bytes;
        }
        None
    }

    /// Remembers what has become of `len` bytes from `address` on; what of it is in no region is passed over.
    pub(crate) fn set(&mut self, addresses: Range<u64>, kind: Kind) {
        for region in &mut self.regions {
            let Mapping { address, len, page_bytes, .. } = region.mapping;
            let start =
                addresses.start.saturating_sub(address).checked_next_multiple_of(page_bytes).unwrap_or(len);
            let end = addresses.end.saturating_sub(address).min(len);
            for at in (start..end).step_by(page_bytes as usize) {
                region.set(at, kind);
            }
        }
    }

    /// The same for one page.
    pub(crate) fn set_one(&mut self, spot: Spot, kind: Kind) {
        self.regions[spot.region].set(spot.at, kind);
    }

    /// Every region, as addresses.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &Mapping> {
        self.regions.iter().map(|region| &region.mapping)
    }
}

/// Bytes of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    region: usize,
    bytes: Range<u64>,
}

impl Stretch {
    /// Where it begins in the VMM and in the memory file, and how long it is.
    pub(crate) fn place(&self, space: &Space) -> (u64, u64, u64) {
        let Mapping { address, offset, .. } = space.regions[self.region].mapping;
        (address + self.bytes.start, offset + self.bytes.start, self.bytes.end - self.bytes.start)
    }
}

impl Region {
    fn kind(&self, at: u64) -> Kind {
        let Some(chunk) = self.chunks.get((at / CHUNK) as usize).and_then(Option::as_ref) else {
            return Kind::Missing;
        };
        let (word, bit) = bit(at);
        match (chunk.high[word] >> bit & 1, chunk.low[word] >> bit & 1) {
            (0, 0) => Kind::Missing,
            (0, _) => Kind::There,
            (_, 0) => Kind::Removed,
            (_, _) => Kind::Gone,
        }
    }

    fn set(&mut self, at: u64, kind: Kind) {
        let Some(chunk) = self.chunks.get_mut((at / CHUNK) as usize) else { return };
        let chunk = chunk.get_or_insert_default();
        let (word, bit) = bit(at);
        let (high, low) = match kind {
            Kind::Missing => (0, 0),
            Kind::There => (0, 1),
            Kind::Removed => (1, 0),
            Kind::Gone => (1, 1),
        };
        chunk.high[word] = chunk.high[word] & !(1 << bit) | high << bit;
        chunk.low[word] = chunk.low[word] & !(1 << bit) | low << bit;
    }
}

fn bit(at: u64) -> (usize, u64) {
    let page = at % CHUNK / PAGE_BYTES;
    ((page / 64) as usize, page % 64)
}
