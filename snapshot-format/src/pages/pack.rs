//! The index of a `memory-pack`: where each 64 KiB of guest memory lies in the file, and whether it is what was written.
//!
//! Owns the bytes of header and index, as PARTS.md has them, and their checks. What turns 64 KiB into fewer bytes and
//! back is the business of whoever reads frames; nothing here knows it.
//!
//! ```text
//!   0        64           64+12n     72+12n                                   pack_len
//!   +--------+------------+----------+---------+---------+-- … --+------------+
//!   | header | entries    | checksum | frame 0 | frame 1 |       | frame n-1  |
//!   +--------+------------+----------+---------+---------+-- … --+------------+
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{MAX_MEMORY_BYTES, PageCount};
use crate::error::ErrorKind;
use crate::header::{CHECKSUM_BYTES, checksum, u16_at, u32_at, u64_at};
use twox_hash::XxHash3_64;

#[cfg(test)]
#[path = "pack_test.rs"]
mod pack_test;

/// First bytes of every pack.
pub const MAGIC: [u8; 8] = *b"REKNPACK";

/// The version that this build writes, and the only one it reads.
pub const VERSION: u16 = 1;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 64;

/// Length of an entry of the index in bytes.
pub const ENTRY_BYTES: usize = 12;

/// Bytes of memory in a frame; the last one may have fewer.
pub const FRAME_BYTES: u64 = 64 << 10;

/// How many entries share a stored offset in memory.
const GROUP: usize = 64;

/// Why a pack is refused, or a frame of it does not match its index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The magic is not there.
    #[error("not a pack: it does not begin with the magic of one")]
    NotAPack,
    /// It ends within its header or its index.
    #[error("the pack is truncated: {len} bytes, at least {min} expected")]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Bytes that there should be.
        min: u64,
    },
    /// The checksum over header and index does not match.
    #[error("the pack's index is damaged: checksum {computed:#018x}, the file says {stored:#018x}")]
    Checksum {
        /// CRC64 behind the index.
        stored: u64,
        /// CRC64 of what is there.
        computed: u64,
    },
    /// It is of another version.
    #[error("the pack is of version {found}, this build reads {VERSION}")]
    Version {
        /// The version.
        found: u16,
    },
    /// A reserved field is set.
    #[error("the pack is damaged: a reserved field is set")]
    Reserved,
    /// It is of another image.
    #[error("the pack is of another image")]
    OtherImage,
    /// The memory in it has a length that no memory file has, or not the one it should have.
    #[error("the pack is of {len} bytes of memory, which no memory file has or not this one")]
    MemoryLength {
        /// The length.
        len: u64,
    },
    /// The number of frames does not fit the length of memory.
    #[error("{found} frames in the pack, memory of this length has {expected}")]
    FrameCount {
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// A frame is longer than what is in it.
    #[error("frame {frame} of the pack has {len} bytes, more than the memory in it")]
    FrameLength {
        /// Its number.
        frame: u64,
        /// Its length.
        len: u32,
    },
    /// A frame without bytes has a checksum.
    #[error("frame {frame} of the pack is empty and has a checksum")]
    EmptySum {
        /// Its number.
        frame: u64,
    },
    /// The file is not as long as header and index say.
    #[error("the pack is {actual} bytes long, its index says {stated}")]
    FileLength {
        /// According to header or index.
        stated: u64,
        /// In fact.
        actual: u64,
    },
    /// A frame's bytes are not those that were written.
    #[error("frame {frame} of the pack is damaged: checksum {computed:#018x}, the index says {stated:#018x}")]
    Frame {
        /// Its number.
        frame: u64,
        /// According to the index.
        stated: u64,
        /// In fact.
        computed: u64,
    },
    /// The file cannot be read.
    #[error("cannot read the pack at offset {offset:#x}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Read { .. } => ErrorKind::Io,
            _ => ErrorKind::Damaged,
        }
    }
}

/// How the memory of a frame is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// All of it is zero; the frame has no bytes.
    Zero,
    /// As it is.
    Raw,
    /// As one Zstandard frame.
    Zstd,
}

/// Where a frame is and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub number: u64,
    /// Where it is in the pack.
    pub offset: u64,
    /// How many bytes it has there.
    pub len: usize,
    /// How many bytes of memory it has: [`FRAME_BYTES`], or fewer in the last.
    pub memory_bytes: usize,
    /// How it is kept.
    pub coding: Coding,
    sum: u64,
}

impl Frame {
    /// Whether `bytes` are those that were written.
    ///
    /// # Errors
    /// They are not.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Error> {
        let computed = Entry::of(self.number, bytes).sum;
        if bytes.len() == self.len && computed == self.sum {
            Ok(())
        } else {
            Err(Error::Frame { frame: self.number, stated: self.sum, computed })
        }
    }
}

/// What the index says of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    len: u32,
    sum: u64,
}

impl Entry {
    /// The entry of frame `number`, which `bytes` are written as: none if its memory is all zero.
    ///
    /// # Panics
    /// There are more bytes than any frame has.
    #[must_use]
    pub fn of(number: u64, bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        let len = u32::try_from(bytes.len()).expect("a frame has at most 64 KiB");
        Self { len, sum: XxHash3_64::oneshot_with_seed(number, bytes) }
    }
}

/// The index of a pack, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    image_id: [u8; 16],
    file_pages: PageCount,
    entries: Vec<Entry>,
    /// The offset of every [`GROUP`]th frame.
    offsets: Vec<u64>,
    pack_len: u64,
}

/// How many frames memory of so many pages has.
#[must_use]
pub fn frame_count(file_pages: PageCount) -> u64 {
    file_pages.bytes().div_ceil(FRAME_BYTES)
}

/// Where the first frame is in a pack of memory of so many pages.
#[must_use]
pub fn frames_start(file_pages: PageCount) -> u64 {
    // No more than 2^24 frames.
    (HEADER_BYTES + CHECKSUM_BYTES) as u64 + frame_count(file_pages) * ENTRY_BYTES as u64
}

/// How many bytes of memory frame `number` has.
fn memory_bytes(file_pages: PageCount, number: u64) -> u64 {
    FRAME_BYTES.min(file_pages.bytes() - number * FRAME_BYTES)
}

impl PackIndex {
    /// The index of a pack of image `image_id`, whose memory file has `file_pages`, with one entry for each frame.
    ///
    /// # Errors
    /// Too many or too few, or one that no frame has.
    pub fn new(image_id: [u8; 16], file_pages: PageCount, entries: Vec<Entry>) -> Result<Self, Error> {
        let (found, expected) = (entries.len() as u64, frame_count(file_pages));
        if found != expected {
            return Err(Error::FrameCount { found, expected });
        }
        let mut offsets = Vec::with_capacity(entries.len().div_ceil(GROUP));
        let mut offset = frames_start(file_pages);
        for (number, Entry { len, sum }) in (0..).zip(&entries) {
            if u64::from(*len) > memory_bytes(file_pages, number) {
                return Err(Error::FrameLength { frame: number, len: *len });
            }
            if *len == 0 && *sum != 0 {
                return Err(Error::EmptySum { frame: number });
            }
            if number.is_multiple_of(GROUP as u64) {
                offsets.push(offset);
            }
            // At most 2^24 frames of 2^16 bytes.
            offset += u64::from(*len);
        }
        Ok(Self { image_id, file_pages, entries, offsets, pack_len: offset })
    }

    /// Reads and checks header and index of `pack`, and its length; nothing of its frames.
    ///
    /// # Errors
    /// It is no pack, damaged, or cannot be read.
    pub fn read(pack: &File) -> Result<Self, Error> {
        let failed = |offset| move |source| Error::Read { offset, source };
        let pack_len = pack.metadata().map_err(failed(0))?.len();
        let mut header = [0; HEADER_BYTES];
        let there = pack_len.min(HEADER_BYTES as u64) as usize;
        pack.read_exact_at(&mut header[..there], 0).map_err(failed(0))?;
        // A header that lies about the length of the index is found out before anything is allocated for one.
        let (file_pages, _) = check_header(&header[..there])?;
        let start = frames_start(file_pages);
        if pack_len < start {
            return Err(Error::Truncated { len: pack_len, min: start });
        }
        let mut bytes = vec![0; start as usize];
        pack.read_exact_at(&mut bytes, 0).map_err(failed(0))?;
        Self::parse(&bytes, pack_len)
    }

    /// The index that `bytes` begin with, of a pack of `pack_len` bytes.
    ///
    /// Magic, then lengths as far as they say where the checksum is, checksum, version, and the rest.
    ///
    /// # Errors
    /// They begin with none, or with one that does not fit such a pack.
    pub fn parse(bytes: &[u8], pack_len: u64) -> Result<Self, Error> {
        let (file_pages, found) = check_header(bytes)?;
        let start = frames_start(file_pages) as usize;
        let Some((covered, stored)) = bytes.get(..start).and_then(|bytes| bytes.split_last_chunk()) else {
            return Err(Error::Truncated { len: bytes.len() as u64, min: start as u64 });
        };
        let (stored, computed) = (u64::from_le_bytes(*stored), checksum(covered));
        if stored != computed {
            return Err(Error::Checksum { stored, computed });
        }
        let version = u16_at(covered, 8);
        if version != VERSION {
            return Err(Error::Version { found: version });
        }
        if covered[10..16].iter().chain(&covered[56..64]).any(|byte| *byte != 0) {
            return Err(Error::Reserved);
        }
        let expected = frame_count(file_pages);
        if found != expected {
            return Err(Error::FrameCount { found, expected });
        }
        let (saved, _) = covered[HEADER_BYTES..].as_chunks::<ENTRY_BYTES>();
        let entries = saved.iter().map(|entry| Entry { len: u32_at(entry, 0), sum: u64_at(entry, 4) });
        let image_id = *covered[16..].first_chunk().expect("the header is whole");
        let index = Self::new(image_id, file_pages, entries.collect())?;
        for stated in [u64_at(covered, 48), index.pack_len] {
            if stated != pack_len {
                return Err(Error::FileLength { stated, actual: pack_len });
            }
        }
        Ok(index)
    }

    /// Header, index and checksum: what the pack begins with.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { image_id, file_pages, entries, offsets: _, pack_len } = self;
        let mut bytes = Vec::with_capacity(frames_start(*file_pages) as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(image_id);
        bytes.extend_from_slice(&file_pages.bytes().to_le_bytes());
        bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&pack_len.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        for Entry { len, sum } in entries {
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Whether the pack is of image `image_id`, whose memory file has `file_pages`.
    ///
    /// # Errors
    /// It is of another.
    pub fn check_image(&self, image_id: [u8; 16], file_pages: PageCount) -> Result<(), Error> {
        if self.image_id != image_id {
            return Err(Error::OtherImage);
        }
        if self.file_pages != file_pages {
            return Err(Error::MemoryLength { len: self.file_pages.bytes() });
        }
        Ok(())
    }

    /// Length of the memory file.
    #[must_use]
    pub fn file_pages(&self) -> PageCount {
        self.file_pages
    }

    /// Length of the pack in bytes.
    #[must_use]
    pub fn pack_len(&self) -> u64 {
        self.pack_len
    }

    /// How many frames there are.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Frame `number`. Call only with one that is there.
    #[must_use]
    pub fn frame(&self, number: u64) -> Frame {
        let at = number as usize;
        let Entry { len, sum } = self.entries[at];
        let group = at / GROUP;
        let before: u64 = self.entries[group * GROUP..at].iter().map(|entry| u64::from(entry.len)).sum();
        let memory_bytes = memory_bytes(self.file_pages, number) as usize;
        let len = len as usize;
        let coding = match len {
            0 => Coding::Zero,
            len if len == memory_bytes => Coding::Raw,
            _ => Coding::Zstd,
        };
        Frame { number, offset: self.offsets[group] + before, len, memory_bytes, coding, sum }
    }
}

/// What has to be known of the header before the index can be found: the length of memory, which is within bounds, and
/// the number of frames.
fn check_header(bytes: &[u8]) -> Result<(PageCount, u64), Error> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Error::NotAPack);
    }
    if bytes.len() < HEADER_BYTES {
        return Err(Error::Truncated { len: bytes.len() as u64, min: HEADER_BYTES as u64 });
    }
    let len = u64_at(bytes, 32);
    match PageCount::from_bytes(len) {
        Ok(pages) if len <= MAX_MEMORY_BYTES => Ok((pages, u64_at(bytes, 40))),
        _ => Err(Error::MemoryLength { len }),
    }
}
