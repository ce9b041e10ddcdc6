//! Memory into a pack and back.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use snapshot_format::pages::pack::{Entry, FRAME_BYTES, frames_start};
use snapshot_format::pages::{
    CHUNK_BYTES, CHUNK_PAGES, ChunkSums, PAGE_BYTES, PackIndex, PageCount, is_zero, runs_to_write,
};

use super::Error;
use crate::source::{Encoder, PageSource};

const PAGE: usize = PAGE_BYTES as usize;

/// What packing has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of memory that are not in frames of zeros.
    pub memory_bytes: u64,
    /// Bytes of the pack.
    pub pack_bytes: u64,
}

/// Writes all of `source`, the memory of image `image_id`, to `out`, an empty file, as a pack.
///
/// # Errors
/// It cannot be read or written, or is damaged.
pub fn pack_memory(source: &dyn PageSource, image_id: [u8; 16], out: &File) -> Result<Packed, Error> {
    let pages = PageCount::from_bytes(source.len()).expect("a source has the length of a memory file");
    let mut encoder = Encoder::new().map_err(Error::Compress)?;
    let (mut entries, mut memory_bytes) = (Vec::new(), 0);
    let mut at = frames_start(pages);
    each_frame(source, |offset, memory| {
        let stored = match memory {
            None => &[],
            Some(memory) => {
                memory_bytes += memory.len() as u64;
                encoder.encode(memory).map_err(Error::Compress)?
            }
        };
        entries.push(Entry::of(offset / FRAME_BYTES, stored));
        write(out, stored, at)?;
        at += stored.len() as u64;
        Ok(())
    })?;
    let index = PackIndex::new(image_id, pages, entries).expect("there is an entry for each frame");
    write(out, &index.encode(), 0)?;
    Ok(Packed { memory_bytes, pack_bytes: index.pack_len() })
}

/// Writes all of `source` to `out`, an empty file, with holes where pages are zero, and gives the sums of what was
/// written.
///
/// # Errors
/// It cannot be read or written, or is damaged.
pub fn unpack_memory(source: &dyn PageSource, out: &File) -> Result<ChunkSums, Error> {
    let pages = PageCount::from_bytes(source.len()).expect("a source has the length of a memory file");
    let mut sums = ChunkSums::new(pages);
    out.set_len(source.len()).map_err(|source| Error::Write { offset: 0, source })?;
    // What was read of a chunk, up to its last frame with data, and which of its pages have data.
    let (mut chunk, mut data) = (vec![0; CHUNK_BYTES as usize], Vec::with_capacity(CHUNK_PAGES as usize));
    each_frame(source, |offset, memory| {
        let start = offset - offset % CHUNK_BYTES;
        let len = CHUNK_BYTES.min(source.len() - start) as usize;
        if let Some(memory) = memory {
            let at = (offset - start) as usize;
            zeros_until(at, &mut chunk, &mut data);
            chunk[at..at + memory.len()].copy_from_slice(memory);
            let (pages, _) = memory.as_chunks::<PAGE>();
            for (number, page) in (offset / PAGE_BYTES..).zip(pages) {
                data.push(sums.add(number, page).expect("within the file"));
            }
        }
        let is_last = offset + FRAME_BYTES >= start + len as u64;
        if is_last && !data.is_empty() {
            zeros_until(len, &mut chunk, &mut data);
            write_chunk(out, &chunk, &data, start)?;
            data.clear();
        }
        Ok(())
    })?;
    Ok(sums)
}

/// Adds pages of zeros to the pages of `chunk` that `data` speaks of, up to `end`.
fn zeros_until(end: usize, chunk: &mut [u8], data: &mut Vec<bool>) {
    chunk[data.len() * PAGE..end].fill(0);
    data.resize(end / PAGE, false);
}

/// Writes the pages of a chunk that `data` speaks of, less those that are to be a hole.
fn write_chunk(out: &File, chunk: &[u8], data: &[bool], offset: u64) -> Result<(), Error> {
    for Range { start, end } in runs_to_write(data) {
        write(out, &chunk[start * PAGE..end * PAGE], offset + (start * PAGE) as u64)?;
    }
    Ok(())
}

/// The checksums of all of `source`.
///
/// # Errors
/// It cannot be read, or is damaged.
pub(super) fn sums_of(source: &dyn PageSource) -> Result<ChunkSums, Error> {
    let pages = PageCount::from_bytes(source.len()).expect("a source has the length of a memory file");
    let mut sums = ChunkSums::new(pages);
    each_frame(source, |offset, memory| {
        let (bytes, _) = memory.unwrap_or_default().as_chunks::<{ PAGE_BYTES as usize }>();
        for (page, bytes) in (offset / PAGE_BYTES..).zip(bytes) {
            sums.add(page, bytes).expect("within the file");
        }
        Ok(())
    })?;
    Ok(sums)
}

/// Calls `take` for each 64 KiB with its offset and its bytes, or without if all of them are zero.
fn each_frame(
    source: &dyn PageSource,
    mut take: impl FnMut(u64, Option<&[u8]>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; FRAME_BYTES as usize];
    let mut offset = 0;
    // Up to here all is zero.
    let mut zeros_end = 0;
    while offset < source.len() {
        let len = FRAME_BYTES.min(source.len() - offset);
        if zeros_end < offset + len {
            zeros_end = offset + source.zeros(offset);
        }
        if zeros_end >= offset + len {
            take(offset, None)?;
        } else {
            let memory = &mut buffer[..len as usize];
            source.read(offset, memory).map_err(Error::Copy)?;
            let zero = is_zero(memory);
            take(offset, (!zero).then_some(memory))?;
        }
        offset += len;
    }
    Ok(())
}

fn write(out: &File, bytes: &[u8], offset: u64) -> Result<(), Error> {
    out.write_all_at(bytes, offset).map_err(|source: io::Error| Error::Write { offset, source })
}
