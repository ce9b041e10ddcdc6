//! Guest memory to the `memory` file: the pages the guest may change while it is at rest, the rest afterwards.
//!
//! Pages that were never touched are not read, and zero pages are not written: both are holes of the sparse file.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use snapshot_format::MemoryIndex;
use snapshot_format::pages::{
    CHUNK_BYTES, ChunkSums, PAGE_BYTES, PageCount, Region, data_extents, runs_to_write,
};
use vm_memory::{Bytes, MemoryRegionAddress};

use super::{Cancelled, Error, Haste, Summary};
use crate::lifecycle::Quiesced;
use crate::memory::{Image, Memory, OwnRun, RamRegion};

const PAGE: usize = PAGE_BYTES as usize;

/// How much is read and checked at a time: small enough to stay in the second-level cache between the two.
const PIECE: usize = 256 << 10;

/// How much is written at a time: a chunk of the file, which may have to be written as one piece ([`runs_to_write`]). But
/// while a guest waits, [`PIECE`]: a huge page may have to be made first, and a host that has lent its free memory to
/// others takes milliseconds for each.
const CHUNK: usize = CHUNK_BYTES as usize;

/// Where the pages go, and whether they are still wanted.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// The image, for messages.
    pub(super) out: &'a Path,
    pub(super) cancelled: Cancelled<'a>,
}

impl Target<'_> {
    /// An error once nobody wants the image any more.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if (self.cancelled)() { Err(Error::Cancelled { path: self.out.to_owned() }) } else { Ok(()) }
    }

    fn write_failed(&self) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = self.out.to_owned();
        move |source| Error::WriteMemory { path, source }
    }
}

/// A `memory` file in the making.
#[derive(Debug)]
pub(super) struct Copied {
    file: File,
    placement: Vec<Region>,
    sums: ChunkSums,
    /// How much is written at a time: [`CHUNK`] or [`PIECE`].
    unit: usize,
    /// Bytes of the file that came from the guest's own pages, zero or not, or that the guest has given back; in order
    /// from [`copy_own`]'s end on, page-aligned.
    own: Vec<Range<u64>>,
    /// The image that the other pages come from.
    base: Option<Arc<Image>>,
}

/// Copies every page that the guest may change from here on.
pub(super) fn copy_own(
    memory: &Memory,
    at_rest: &Quiesced<'_>,
    file: File,
    haste: Haste,
    target: Target<'_>,
) -> Result<Copied, Error> {
    check_base(memory.base())?;
    let placement = memory.placement().to_vec();
    let bytes = placement.last().map_or(0, Region::file_end);
    let pages = PageCount::from_bytes(bytes).map_err(Error::Index)?;
    file.set_len(bytes).map_err(target.write_failed())?;

    let mut copied = Copied {
        file,
        placement,
        sums: ChunkSums::new(pages),
        unit: match haste {
            Haste::GuestWaits => PIECE,
            Haste::NobodyWaits => CHUNK,
        },
        own: Vec::new(),
        base: memory.base().cloned(),
    };
    let mut buffer = vec![0; CHUNK];
    let own = memory.own_pages(at_rest, &|| !(target.cancelled)()).map_err(Error::Memory)?;
    target.go_on()?;
    let kept = memory.keep(at_rest).map_err(Error::Memory)?;
    for run in &own.data {
        copied.copy_run(memory, run, &mut buffer, target)?;
    }
    drop(kept);
    // What is zero by now, or was given back, is nothing that the guest shares with its image any more.
    for run in own.zeros.iter().chain(&memory.given_back(at_rest)) {
        copied.settle(run);
    }
    copied.own = united(std::mem::take(&mut copied.own));
    copied.unit = CHUNK;
    Ok(copied)
}

impl Copied {
    fn copy_run(
        &mut self,
        memory: &Memory,
        run: &OwnRun,
        buffer: &mut [u8],
        target: Target<'_>,
    ) -> Result<(), Error> {
        let OwnRun { region: index, bytes } = run;
        let (Some(ram), Some(place)) = (memory.region(*index), self.placement.get(*index).copied()) else {
            return Ok(());
        };
        let offset = place.offset().get();
        let in_file = offset + bytes.start as u64..offset + bytes.end as u64;
        let read = |from: u64, piece: &mut [u8]| read_guest(ram, &place, (from - offset) as usize, piece);
        self.copy(in_file, read, buffer, target)?;
        self.settle(run);
        Ok(())
    }

    /// Nothing of a run is to be taken from the image below, if there is one.
    fn settle(&mut self, OwnRun { region, bytes }: &OwnRun) {
        if let (Some(place), Some(_)) = (self.placement.get(*region), &self.base) {
            let start = place.offset().get();
            self.own.push(start + bytes.start as u64..start + bytes.end as u64);
        }
    }

    /// Copies what the guest shares with the image it was restored from: the data of that image's file, less the
    /// pages that the guest had its own copies of. The image does not change, so the guest may run.
    ///
    /// # Errors
    /// It has changed its length after all: then it has lost what the guest shared with it.
    pub(super) fn copy_base(&mut self, target: Target<'_>) -> Result<(), Error> {
        let Some(base) = self.base.clone() else { return Ok(()) };
        let mut buffer = vec![0; CHUNK];
        let own = std::mem::take(&mut self.own);
        for extent in data_extents(base.file(), base.index().file_pages()).map_err(Error::Index)? {
            for shared in without(extent, &own) {
                self.copy_shared(&base, shared, &mut buffer, target)?;
            }
        }
        // Afterwards, because a file that loses its end meanwhile has no data there, which looks like zeros.
        check_base(Some(&base))
    }

    fn copy_shared(
        &mut self,
        base: &Image,
        shared: Range<u64>,
        buffer: &mut [u8],
        target: Target<'_>,
    ) -> Result<(), Error> {
        let read =
            |from: u64, piece: &mut [u8]| base.file().read_exact_at(piece, from).map_err(Error::ReadBase);
        self.copy(shared, read, buffer, target)
    }

    /// Copies bytes of the file, chunk by chunk, each read and checked in pieces.
    fn copy(
        &mut self,
        bytes: Range<u64>,
        read: impl Fn(u64, &mut [u8]) -> Result<(), Error>,
        buffer: &mut [u8],
        target: Target<'_>,
    ) -> Result<(), Error> {
        let mut at = bytes.start;
        while at < bytes.end {
            let unit = self.unit as u64;
            let end = bytes.end.min((at / unit + 1) * unit);
            let chunk = &mut buffer[..(end - at) as usize];
            let mut data = Vec::with_capacity(chunk.len() / PAGE);
            for (from, piece) in (at..end).step_by(PIECE).zip(chunk.chunks_mut(PIECE)) {
                target.go_on()?;
                read(from, piece)?;
                let (pages, _) = piece.as_chunks::<PAGE>();
                for (number, page) in (from / PAGE_BYTES..).zip(pages) {
                    data.push(self.sums.add(number, page).map_err(Error::Index)?);
                }
            }
            self.write_chunk(at, chunk, &data, target)?;
            at = end;
        }
        Ok(())
    }

    /// Writes what is to be written of a chunk, or of a part of one.
    fn write_chunk(&self, offset: u64, bytes: &[u8], data: &[bool], target: Target<'_>) -> Result<(), Error> {
        for Range { start, end } in runs_to_write(data) {
            let (run, at) = (&bytes[start * PAGE..end * PAGE], offset + (start * PAGE) as u64);
            self.file.write_all_at(run, at).map_err(target.write_failed())?;
        }
        Ok(())
    }

    /// The index of the file, once every page is in it.
    pub(super) fn finish(self) -> Result<(MemoryIndex, Summary), Error> {
        let index = MemoryIndex::new(self.placement, self.sums).map_err(Error::Index)?;
        let summary =
            Summary { guest_bytes: index.guest_bytes(), data_bytes: index.data_pages() * PAGE_BYTES };
        Ok((index, summary))
    }
}

/// A memory file that was cut off takes the guest's pages along, its own copies too (truncate(2) on what is mapped
/// privately): what is missing must not be saved as zeros.
fn check_base(base: Option<&Arc<Image>>) -> Result<(), Error> {
    base.map_or(Ok(()), |base| base.check_len()).map_err(Error::Base)
}

fn read_guest(ram: &RamRegion, place: &Region, at: usize, piece: &mut [u8]) -> Result<(), Error> {
    ram.read_slice(piece, MemoryRegionAddress(at as u64))
        .map_err(|source| Error::ReadMemory { gpa: place.guest().get() + at as u64, source })
}

/// The same ranges in order, each byte in one of them.
fn united(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut united: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => united.push(range),
        }
    }
    united
}

/// `range` without the parts that are in `taken`, which is in order and does not overlap.
fn without(range: Range<u64>, taken: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    let mut at = range.start;
    let first = taken.partition_point(|taken| taken.end <= range.start);
    for taken in taken[first..].iter().take_while(|taken| taken.start < range.end) {
        if at < taken.start {
            left.push(at..taken.start);
        }
        at = at.max(taken.end);
    }
    if at < range.end {
        left.push(at..range.end);
    }
    left
}

#[cfg(test)]
#[path = "pages_test.rs"]
mod pages_test;
