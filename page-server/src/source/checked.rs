//! What stands in front of memory that has checksums: no byte leaves that is not what was saved, however often it is read.

use std::sync::{Arc, OnceLock};

use snapshot_format::MemoryIndex;
use snapshot_format::pages::{CHUNK_BYTES, CHUNK_PAGES, PAGE_BYTES, is_zero, page_sum};

use super::turns::Turns;
use super::{Error, PageSource};

#[cfg(test)]
#[path = "checked_test.rs"]
mod checked_test;

/// A source whose chunks of 2 MiB are read whole and compared with their sums when they are first used.
///
/// From then on there is a sum for each of its pages (8 bytes for 4096), and the source below is read for what is asked
/// for and nothing else, and every page that leaves is compared with its sum. So nothing depends on whether the source
/// notices that its bytes change, and one that was only touched goes on being served.
#[derive(Debug)]
pub struct Checked<S> {
    inner: S,
    /// What messages call it.
    what: String,
    index: Arc<MemoryIndex>,
    /// One for each chunk; set once it was found good.
    chunks: Box<[OnceLock<Known>]>,
    /// Each chunk is read by one at a time.
    turns: Turns,
}

/// The most chunks that [`PageSource::zeros`] looks at in a call.
const LOOK_AHEAD: u64 = 32;

/// What was learnt of a chunk.
#[derive(Debug)]
enum Known {
    /// There is nothing in it.
    Zero,
    /// Its pages.
    Pages(Box<Pages>),
}

/// The pages of a chunk that was found good.
#[derive(Debug)]
struct Pages {
    /// A bit for each; those that are set are zero. A sum of 0 alone does not say that.
    zero: [u64; (CHUNK_PAGES / 64) as usize],
    /// [`page_sum`] of each.
    sums: [u64; CHUNK_PAGES as usize],
}

impl Known {
    /// What `chunk`, whose first page is page `first` of the file, is, and its sum.
    fn of(first: u64, chunk: &[u8]) -> (Self, u64) {
        let mut pages =
            Box::new(Pages { zero: [0; (CHUNK_PAGES / 64) as usize], sums: [0; CHUNK_PAGES as usize] });
        let (mut all, mut sum) = (true, 0_u64);
        for (page, bytes) in chunk.as_chunks::<{ PAGE_BYTES as usize }>().0.iter().enumerate() {
            if is_zero(bytes) {
                pages.zero[page / 64] |= 1 << (page % 64);
                continue;
            }
            all = false;
            pages.sums[page] = page_sum(first + page as u64, bytes);
            sum = sum.wrapping_add(pages.sums[page]);
        }
        (if all { Self::Zero } else { Self::Pages(pages) }, sum)
    }

    fn is_zero(&self, page: u64) -> bool {
        match self {
            Self::Zero => true,
            Self::Pages(pages) => pages.zero[(page / 64) as usize] >> (page % 64) & 1 == 1,
        }
    }

    fn sum(&self, page: u64) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Pages(pages) => pages.sums[page as usize],
        }
    }
}

impl<S: PageSource> Checked<S> {
    /// `inner`, which messages call `what`, as `index` describes it.
    ///
    /// # Errors
    /// It has another length.
    pub fn new(inner: S, index: Arc<MemoryIndex>, what: String) -> Result<Self, Error> {
        if let Err(error) = index.check_len(inner.len()) {
            return Err(Error::Damaged { what, offset: 0, how: error.to_string() });
        }
        let chunks = index.chunk_sums().iter().map(|_| OnceLock::new()).collect();
        Ok(Self { inner, what, index, chunks, turns: Turns::default() })
    }

    /// The first byte behind chunk `chunk`.
    fn end(&self, chunk: u64) -> u64 {
        ((chunk + 1) * CHUNK_BYTES).min(self.inner.len())
    }

    /// Fills `buffer`, which lies within one chunk.
    fn read_within(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let chunk = offset / CHUNK_BYTES;
        let known = &self.chunks[chunk as usize];
        if let Some(known) = known.get() {
            return self.read_known(known, offset, buffer);
        }
        let start = chunk * CHUNK_BYTES;
        if buffer.len() as u64 == self.end(chunk) - start {
            // There is room for all of it where it is wanted.
            self.inner.read(start, buffer)?;
            let _ = known.set(self.verified(chunk, buffer)?);
            return Ok(());
        }
        let mut bytes = self.turns.take(chunk);
        if let Some(known) = known.get() {
            drop(bytes);
            return self.read_known(known, offset, buffer);
        }
        bytes.resize((self.end(chunk) - start) as usize, 0);
        self.inner.read(start, &mut bytes)?;
        let verified = self.verified(chunk, &bytes)?;
        let at = (offset - start) as usize;
        buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
        // Whoever has read the whole chunk may have set it meanwhile, to the same.
        let _ = known.set(verified);
        Ok(())
    }

    /// Fills `buffer`, which lies within a chunk that was found good, with the bytes that it had then.
    fn read_known(&self, known: &Known, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.inner.read(offset, buffer)?;
        self.compare(known, offset, buffer)
    }

    /// Whether `buffer`, which lies within a chunk that was found good, has the bytes that it had then.
    fn compare(&self, known: &Known, offset: u64, buffer: &[u8]) -> Result<(), Error> {
        let first = offset / PAGE_BYTES;
        for (page, bytes) in (first..).zip(buffer.as_chunks::<{ PAGE_BYTES as usize }>().0) {
            let (stated, computed) = (known.sum(page % CHUNK_PAGES), page_sum(page, bytes));
            if stated != computed {
                let how =
                    format!("checksum {computed:#018x}, it was {stated:#018x} when its chunk was verified");
                return Err(Error::Damaged { what: self.what.clone(), offset: page * PAGE_BYTES, how });
            }
        }
        Ok(())
    }

    /// What there is to know of chunk `chunk`, if `bytes` are those that were saved.
    fn verified(&self, chunk: u64, bytes: &[u8]) -> Result<Known, Error> {
        let start = chunk * CHUNK_BYTES;
        let stated = self.index.chunk_sums()[chunk as usize];
        let (known, computed) = Known::of(start / PAGE_BYTES, bytes);
        if stated == computed {
            return Ok(known);
        }
        let how = format!("checksum {computed:#018x}, the index says {stated:#018x}");
        Err(Error::Damaged { what: self.what.clone(), offset: start, how })
    }

    /// Whether chunk `chunk`, which nobody has read yet, is known to be empty: its sum says so and the source below as
    /// well. The sum alone would not do, for a guest can make up pages whose sums cancel out.
    fn is_hole(&self, chunk: u64) -> bool {
        let start = chunk * CHUNK_BYTES;
        let hole = self.index.chunk_sums()[chunk as usize] == 0
            && self.inner.zeros(start) >= self.end(chunk) - start;
        if hole {
            let _ = self.chunks[chunk as usize].set(Known::Zero);
        }
        hole
    }
}

impl<S: PageSource> PageSource for Checked<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn zeros(&self, offset: u64) -> u64 {
        let mut at = offset;
        let last = offset / CHUNK_BYTES + LOOK_AHEAD;
        while at < self.len() && at / CHUNK_BYTES < last {
            let chunk = at / CHUNK_BYTES;
            match self.chunks[chunk as usize].get() {
                None if self.is_hole(chunk) => at = self.end(chunk),
                Some(Known::Zero) => at = self.end(chunk),
                Some(pages) if pages.is_zero(at % CHUNK_BYTES / PAGE_BYTES) => at += PAGE_BYTES,
                _ => break,
            }
        }
        at - offset
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let piece = ((CHUNK_BYTES - at % CHUNK_BYTES) as usize).min(rest.len());
            let (head, tail) = rest.split_at_mut(piece);
            self.read_within(at, head)?;
            at += piece as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Of chunks that were compared.
    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let end = (offset + buffer.len() as u64).div_ceil(CHUNK_BYTES);
        let mut chunks = offset / CHUNK_BYTES..end;
        if chunks.any(|chunk| self.chunks[chunk as usize].get().is_none())
            || !self.inner.read_now(offset, buffer)?
        {
            return Ok(false);
        }
        let (mut at, mut rest) = (offset, &*buffer);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(((CHUNK_BYTES - at % CHUNK_BYTES) as usize).min(rest.len()));
            let Some(known) = self.chunks[(at / CHUNK_BYTES) as usize].get() else { return Ok(false) };
            self.compare(known, at, head)?;
            at += head.len() as u64;
            rest = tail;
        }
        Ok(true)
    }
}
