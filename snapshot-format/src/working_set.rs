//! The part `working-set`: which pages a restored guest touched first, in which order, and which of them it wrote.
//!
//! Owns the bytes, as PARTS.md has them, and their checks. Who records a set and who delivers by it are others'
//! business. A set is a hint: an image without one, or with one that is damaged or of a later version, restores all
//! the same, so every error here is of the set alone.

use std::io;

use crate::dir;
use crate::error::ErrorKind;
use crate::header::{CHECKSUM_BYTES, checksum, u16_at, u32_at, u64_at};
use crate::pages::PageCount;

#[cfg(test)]
#[path = "working_set_test.rs"]
mod working_set_test;

/// First bytes of every working set.
pub const MAGIC: [u8; 8] = *b"REKINSET";

/// The version that this build writes, and the only one it reads.
pub const VERSION: u16 = 1;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 48;

/// Length of a run in bytes.
pub const RUN_BYTES: usize = 16;

/// The most runs of a set. A recorder that has more joins neighbours or stops.
pub const MAX_RUNS: usize = 1 << 20;

/// The longest working set in bytes.
pub const MAX_BYTES: u64 = (HEADER_BYTES + MAX_RUNS * RUN_BYTES + CHECKSUM_BYTES) as u64;

/// The flag of a run whose pages were written.
const WRITTEN: u32 = 1;

/// Why a working set is refused or cannot be read. Never a reason to refuse its image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The magic is not there.
    #[error("not a working set: it does not begin with the magic of one")]
    NotAWorkingSet,
    /// It is longer than any working set may be.
    #[error("the working set is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is shorter than the smallest working set.
    #[error("the working set is truncated: {len} bytes, at least {min} expected")]
    Truncated {
        /// Bytes there are.
        len: usize,
        /// Bytes that any working set has.
        min: usize,
    },
    /// The checksum does not match.
    #[error("the working set is damaged: checksum {computed:#018x}, the file says {stored:#018x}")]
    Checksum {
        /// CRC64 at the end of the file.
        stored: u64,
        /// CRC64 of what is there.
        computed: u64,
    },
    /// It is of another version.
    #[error("the working set is of version {found}, this build reads {VERSION}")]
    Version {
        /// The version.
        found: u16,
    },
    /// A reserved field or an unknown flag is set.
    #[error("the working set is damaged: a reserved field is set")]
    Reserved,
    /// It was recorded from another image.
    #[error("the working set is of another image")]
    OtherImage,
    /// More runs than any working set may have.
    #[error("{count} runs in the working set, at most {MAX_RUNS} are possible")]
    TooManyRuns {
        /// How many.
        count: u64,
    },
    /// The length is not that of so many runs.
    #[error("the working set is damaged: {actual} bytes long, {count} runs take another length")]
    Length {
        /// Bytes there are.
        actual: usize,
        /// Runs according to the header.
        count: u64,
    },
    /// A run is empty or reaches beyond the memory file.
    #[error("run {run} of the working set is empty or beyond the end of memory")]
    Run {
        /// Its number, counted from 0.
        run: usize,
    },
    /// Two runs share a page.
    #[error("page {page} is in the working set twice")]
    Twice {
        /// The page of the memory file.
        page: u64,
    },
    /// The header states another number of pages.
    #[error("the working set is damaged: its runs have {actual} pages, its header says {stated}")]
    Pages {
        /// According to the header.
        stated: u64,
        /// In fact.
        actual: u64,
    },
    /// The part cannot be opened.
    #[error("cannot open the working set")]
    Part(#[source] dir::Error),
    /// The part cannot be read.
    #[error("cannot read the working set")]
    Read(#[source] io::Error),
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Part(error) => error.kind(),
            Self::Read(_) => ErrorKind::Io,
            Self::NotAWorkingSet
            | Self::TooLarge
            | Self::Truncated { .. }
            | Self::Checksum { .. }
            | Self::Reserved
            | Self::OtherImage
            | Self::TooManyRuns { .. }
            | Self::Length { .. }
            | Self::Run { .. }
            | Self::Twice { .. }
            | Self::Pages { .. } => ErrorKind::Damaged,
        }
    }
}

/// Pages that lie one behind the other in the memory file, and were first touched at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the first page in the memory file.
    pub first: u64,
    /// How many pages.
    pub pages: u64,
    /// Whether the guest wrote them, and not only read.
    pub written: bool,
}

/// A working set, checked: no run is empty or beyond the memory file, and no page is in two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkingSet {
    image_id: [u8; 16],
    /// In the order of first touch.
    runs: Vec<Run>,
    /// Of all runs.
    pages: u64,
}

impl WorkingSet {
    /// The working set of the image `image_id`, whose memory file has `file_pages`; `runs` in the order of first touch.
    ///
    /// # Errors
    /// Too many runs; one that is empty or beyond the file; a page that is in two of them.
    pub fn new(image_id: [u8; 16], runs: Vec<Run>, file_pages: PageCount) -> Result<Self, Error> {
        if runs.len() > MAX_RUNS {
            return Err(Error::TooManyRuns { count: runs.len() as u64 });
        }
        for (number, run) in runs.iter().enumerate() {
            let end = run.first.checked_add(run.pages);
            if run.pages == 0 || end.is_none_or(|end| end > file_pages.get()) {
                return Err(Error::Run { run: number });
            }
        }
        let mut ascending: Vec<(u64, u64)> = runs.iter().map(|run| (run.first, run.pages)).collect();
        ascending.sort_unstable();
        if let Some(pair) = ascending.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            return Err(Error::Twice { page: pair[1].0 });
        }
        // Does not wrap: the runs are disjoint pages of one file.
        let pages = runs.iter().map(|run| run.pages).sum();
        Ok(Self { image_id, runs, pages })
    }

    /// The working set that `bytes` hold, of the image `image_id` with a memory file of `file_pages`.
    ///
    /// The order of the checks is that of `state`: magic, length, checksum, version, and then what the fields say. So
    /// a flipped bit is never a later version. Allocates nothing before the number of runs fits the length.
    ///
    /// # Errors
    /// They hold none, or one of another image.
    pub fn parse(bytes: &[u8], image_id: [u8; 16], file_pages: PageCount) -> Result<Self, Error> {
        if !bytes.starts_with(&MAGIC) {
            return Err(Error::NotAWorkingSet);
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge);
        }
        let truncated = Error::Truncated { len: bytes.len(), min: HEADER_BYTES + CHECKSUM_BYTES };
        if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES {
            return Err(truncated);
        }
        let (covered, stored) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(truncated)?;
        let (stored, computed) = (u64::from_le_bytes(*stored), checksum(covered));
        if stored != computed {
            return Err(Error::Checksum { stored, computed });
        }
        let version = u16_at(covered, 8);
        if version != VERSION {
            return Err(Error::Version { found: version });
        }
        if covered[10..16].iter().any(|byte| *byte != 0) {
            return Err(Error::Reserved);
        }
        let count = u64_at(covered, 32);
        if count > MAX_RUNS as u64 {
            return Err(Error::TooManyRuns { count });
        }
        let (saved, rest) = covered[HEADER_BYTES..].as_chunks::<RUN_BYTES>();
        if !rest.is_empty() || saved.len() as u64 != count {
            return Err(Error::Length { actual: bytes.len(), count });
        }
        if covered[16..32] != image_id {
            return Err(Error::OtherImage);
        }
        let runs = saved.iter().map(decode).collect::<Result<_, _>>()?;
        let set = Self::new(image_id, runs, file_pages)?;
        let stated = u64_at(covered, 40);
        if stated == set.pages { Ok(set) } else { Err(Error::Pages { stated, actual: set.pages }) }
    }

    /// The bytes of the part.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { image_id, runs, pages } = self;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + runs.len() * RUN_BYTES + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(image_id);
        bytes.extend_from_slice(&(runs.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&pages.to_le_bytes());
        for Run { first, pages, written } in runs {
            // A memory file has at most 2^28 pages.
            let pages = u32::try_from(*pages).expect("a run lies within a memory file");
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&pages.to_le_bytes());
            bytes.extend_from_slice(&(if *written { WRITTEN } else { 0 }).to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The image it belongs to, as its manifest names it.
    #[must_use]
    pub fn image_id(&self) -> [u8; 16] {
        self.image_id
    }

    /// The runs, in the order of first touch.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many pages it has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// How many of them were written.
    #[must_use]
    pub fn written_pages(&self) -> u64 {
        self.runs.iter().filter(|run| run.written).map(|run| run.pages).sum()
    }
}

fn decode(bytes: &[u8; RUN_BYTES]) -> Result<Run, Error> {
    let flags = u32_at(bytes, 12);
    if flags & !WRITTEN != 0 {
        return Err(Error::Reserved);
    }
    Ok(Run { first: u64_at(bytes, 0), pages: u32_at(bytes, 8).into(), written: flags & WRITTEN != 0 })
}
