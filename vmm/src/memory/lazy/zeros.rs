//! Which parts of delivered memory nobody has to deliver: stretches of zeros, which the kernel gives sooner.

use std::ops::Range;
use std::sync::Arc;

use snapshot_format::handoff::MAX_ZEROS;
use snapshot_format::pages::pack::{Coding, FRAME_BYTES, PackIndex};
use snapshot_format::pages::{CHUNK_BYTES, Region};

use crate::memory::Image;

#[cfg(test)]
#[path = "zeros_test.rs"]
mod zeros_test;

/// The most stretches that are kept out of the delivering: each splits a mapping, of which a process has few.
const MOST: usize = 512;

/// What of the memory that a server delivers is on this machine as well.
#[derive(Debug)]
pub enum Here {
    /// The image's file.
    File(Arc<Image>),
    /// What its pack says of its frames.
    Pack(PackIndex),
    /// Nothing.
    Nothing,
}

impl Here {
    pub(in crate::memory) fn into_image(self) -> Option<Arc<Image>> {
        match self {
            Self::File(image) => Some(image),
            Self::Pack(_) | Self::Nothing => None,
        }
    }

    /// How many bytes of the memory file from `offset` on are known to be zero.
    fn zeros(&self, offset: u64) -> u64 {
        match self {
            Self::File(image) => image.zeros(offset),
            Self::Pack(index) => {
                let mut frames = offset / FRAME_BYTES..index.frames();
                let data = frames.find(|number| index.frame(*number).coding != Coding::Zero);
                data.map_or(index.file_pages().bytes(), |number| number * FRAME_BYTES).saturating_sub(offset)
            }
            Self::Nothing => 0,
        }
    }
}

/// Which bytes of each region are zeros that nobody has to deliver, in whole chunks; the longest stretches first if there are
/// too many.
///
/// The chunks' sums only say where to look: a guest can make up pages whose sums cancel out, and would see zeros in their
/// place. So a chunk is left out only if the file has a hole there, or the pack nothing but frames of zeros. Where neither is
/// here all of memory is delivered: the server knows where its source has zeros.
pub(in crate::memory) fn zeros(
    placement: &[Region],
    chunk_sums: &[u64],
    here: &Here,
) -> Vec<Vec<Range<usize>>> {
    let mut found: Vec<(usize, Range<usize>)> = Vec::new();
    for (number, region) in placement.iter().enumerate() {
        let start = region.offset().get();
        for stretch in without_sums(region, chunk_sums) {
            for zeros in known(&stretch, here) {
                found.push((number, (zeros.start - start) as usize..(zeros.end - start) as usize));
            }
        }
    }
    found.sort_by_key(|(_, range)| std::cmp::Reverse(range.len()));
    found.truncate(MOST);
    let mut zeros = vec![Vec::new(); placement.len()];
    found.into_iter().for_each(|(number, range)| zeros[number].push(range));
    zeros
}

/// What may be zeros, and is not known to be, because the memory is not here: a server that has it may say so.
#[derive(Debug, Default)]
pub(in crate::memory) struct Unproven {
    /// Of each region: the parts that lie in chunks whose sum is 0, as bytes of the memory file.
    stretches: Vec<Vec<Range<u64>>>,
    /// How many stretches a server may still name, and how many may come of them: the sums divide them further.
    room: (usize, usize),
}

impl Unproven {
    pub(in crate::memory) fn new(placement: &[Region], chunk_sums: &[u64], here: &Here) -> Self {
        let Here::Nothing = here else { return Self::default() };
        let stretches = placement.iter().map(|region| without_sums(region, chunk_sums)).collect();
        Self { stretches, room: (MAX_ZEROS, MOST) }
    }

    /// Whether there is anything to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.stretches.iter().all(Vec::is_empty)
    }

    /// Which bytes of each region are zero, if a server is right that these stretches of the memory file are, each an offset
    /// and a length: whole chunks of them only, and where the sum says so as well. What lies nowhere is ignored.
    pub(super) fn told(&mut self, placement: &[Region], told: &[[u64; 2]]) -> Vec<Vec<Range<usize>>> {
        let mut zeros = vec![Vec::new(); placement.len()];
        let told = &told[..told.len().min(self.room.0)];
        self.room.0 -= told.len();
        for &[offset, len] in told {
            let Some(start) = offset.checked_next_multiple_of(CHUNK_BYTES) else { continue };
            let end = offset.saturating_add(len);
            for ((region, stretches), zeros) in placement.iter().zip(&self.stretches).zip(&mut zeros) {
                let first = region.offset().get();
                for stretch in stretches {
                    // A stretch that ends within a chunk ends with its region.
                    let end = if end >= stretch.end { stretch.end } else { end - end % CHUNK_BYTES };
                    let start = start.max(stretch.start);
                    if start < end && self.room.1 > 0 {
                        self.room.1 -= 1;
                        zeros.push((start - first) as usize..(end - first) as usize);
                    }
                }
            }
        }
        zeros
    }
}

/// The parts of a region, as bytes of the memory file, that lie in chunks whose sum is 0.
fn without_sums(region: &Region, chunk_sums: &[u64]) -> Vec<Range<u64>> {
    let (start, end) = (region.offset().get(), region.file_end());
    let mut found: Vec<Range<u64>> = Vec::new();
    for chunk in start / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES) {
        if chunk_sums.get(chunk as usize).is_none_or(|sum| *sum != 0) {
            continue;
        }
        let from = (chunk * CHUNK_BYTES).max(start);
        let until = ((chunk + 1) * CHUNK_BYTES).min(end);
        match found.last_mut() {
            Some(last) if last.end == from => last.end = until,
            _ => found.push(from..until),
        }
    }
    found
}

/// The chunks of `stretch` that are known to be zero: one look for each piece of data in it, of which there hardly is one.
fn known(stretch: &Range<u64>, here: &Here) -> Vec<Range<u64>> {
    let (mut at, mut known) = (stretch.start, Vec::new());
    while at < stretch.end {
        let data = at.saturating_add(here.zeros(at)).min(stretch.end);
        let whole = if data == stretch.end { data } else { data - data % CHUNK_BYTES };
        if at < whole {
            known.push(at..whole);
        }
        at = (data / CHUNK_BYTES + 1) * CHUNK_BYTES;
    }
    known
}
