//! Memory into a pack and back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use snapshot_format::pages::pack::{Entry, FRAME_BYTES, frames_start};
use snapshot_format::pages::{ChunkSums, PAGE_BYTES, PackIndex, PageCount};

use super::Error;
use crate::source::{Encoder, PageSource, is_zero};

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
    each_frame(source, |offset, memory| {
        let (bytes, _) = memory.unwrap_or_default().as_chunks::<{ PAGE_BYTES as usize }>();
        // Neighbours with data are written at once.
        let mut run = 0..0;
        for (number, page) in bytes.iter().enumerate() {
            let data = sums.add(offset / PAGE_BYTES + number as u64, page).expect("within the file");
            if data && run.end == number && !run.is_empty() {
                run.end += 1;
            } else if data {
                write(out, bytes[run.clone()].as_flattened(), offset + run.start as u64 * PAGE_BYTES)?;
                run = number..number + 1;
            }
        }
        write(out, bytes[run.clone()].as_flattened(), offset + run.start as u64 * PAGE_BYTES)
    })?;
    Ok(sums)
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
