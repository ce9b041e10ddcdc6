//! The files `disk-ID` and their index: which sectors of a disk a guest had written over its base, and whether the file
//! is still what was written.
//!
//! Sector n of the disk is the file's bytes from 512n on, if it is among the index's runs; else it is the base's. A
//! hole within a run reads as zeros, as the guest has made it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::codec::Words;
use crate::error::ErrorKind;
use crate::pages::{self, PAGE_BYTES, next_extent, page_sum};
use crate::state::OverlayState;

#[cfg(test)]
#[path = "overlay_test.rs"]
mod overlay_test;

/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = 512;

/// The most runs of sectors that an index holds.
pub const MAX_RUNS: usize = Words::MAX / 2;

/// Bytes that are read at a time: whole pages.
const PIECE: usize = 256 << 10;

/// The name of the file of disk `id`.
#[must_use]
pub fn part_name(id: &str) -> String {
    format!("disk-{id}")
}

/// Why an index is refused, or a file does not match it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The length is no whole number of sectors, or none.
    #[error("{len} bytes are no whole number of 512-byte sectors, or none")]
    Length {
        /// The length.
        len: u64,
    },
    /// A run is empty, reaches beyond the disk, or does not lie behind the one before it.
    #[error("run {run} of written sectors is empty, out of order or beyond the disk's end")]
    Run {
        /// Its number, counted from 0.
        run: usize,
    },
    /// The file is not as long as the index says.
    #[error("it has {actual} bytes, its index says {stated}")]
    FileLength {
        /// What the index says.
        stated: u64,
        /// What it has.
        actual: u64,
    },
    /// The bytes are not those that were written.
    #[error("its checksum is {computed:#018x}, its index says {stated:#018x}")]
    Sum {
        /// What the index says.
        stated: u64,
        /// What the bytes give.
        computed: u64,
    },
    /// The number of pages with data is not what it was.
    #[error("it has {actual} pages of data, its index says {stated}")]
    DataPages {
        /// What the index says.
        stated: u64,
        /// What it has.
        actual: u64,
    },
    /// It cannot be read.
    #[error("cannot read it at {offset:#x}")]
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
            Self::Read { .. } => ErrorKind::Io,
            Self::Length { .. }
            | Self::Run { .. }
            | Self::FileLength { .. }
            | Self::Sum { .. }
            | Self::DataPages { .. } => ErrorKind::Damaged,
        }
    }
}

/// What an image says of one `disk-ID`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayIndex {
    /// Bytes of the disk and of the file.
    len: u64,
    /// Sectors, in order, with others in between.
    runs: Vec<Range<u64>>,
    sum: OverlaySum,
}

/// The checksum of a `disk-ID` file while it is being written or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlaySum {
    sum: u64,
    data_pages: u64,
}

impl OverlaySum {
    /// Takes page `page` of the file into account and says whether it has data, and so must be written. Pages may come
    /// in any order, each once; a page that never comes is a hole. A last piece that is no whole page is filled with
    /// zeros.
    pub fn add(&mut self, page: u64, bytes: &[u8; PAGE_BYTES as usize]) -> bool {
        let has_data = bytes.iter().any(|byte| *byte != 0);
        if has_data {
            self.sum = self.sum.wrapping_add(page_sum(page, bytes));
            self.data_pages += 1;
        }
        has_data
    }

    /// Takes pages into account whose sum was found before, and that are none of those that this one has.
    pub fn join(&mut self, others: Self) {
        let Self { sum, data_pages } = others;
        self.sum = self.sum.wrapping_add(sum);
        self.data_pages += data_pages;
    }
}

impl OverlayIndex {
    /// An index of these runs, in sectors.
    ///
    /// # Errors
    /// They do not lie one behind the other, with others in between, on a disk of `len` bytes.
    pub fn new(len: u64, runs: Vec<Range<u64>>, sum: OverlaySum) -> Result<Self, Error> {
        if len == 0 || !len.is_multiple_of(SECTOR_BYTES) {
            return Err(Error::Length { len });
        }
        let mut free = 0;
        for (number, run) in runs.iter().enumerate() {
            if run.is_empty() || run.start < free || run.end > len / SECTOR_BYTES {
                return Err(Error::Run { run: number });
            }
            free = run.end + 1;
        }
        Ok(Self { len, runs, sum })
    }

    /// Bytes of the disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.len
    }

    /// The written sectors.
    #[must_use]
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// Bytes of the file that are data, in whole pages.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.sum.data_pages * PAGE_BYTES
    }

    /// The saved type.
    #[must_use]
    pub fn to_state(&self) -> OverlayState {
        let Self { len, runs, sum: OverlaySum { sum, data_pages } } = self;
        let words = runs.iter().flat_map(|run| [run.start, run.end - run.start]);
        OverlayState { len: *len, runs: Words(words.collect()), data_pages: *data_pages, sum: *sum }
    }

    /// Whether `file` has the length it should have.
    ///
    /// # Errors
    /// It has another.
    pub fn check_len(&self, file: &File) -> Result<(), Error> {
        let actual = file.metadata().map_err(|source| Error::Read { offset: 0, source })?.len();
        if actual == self.len { Ok(()) } else { Err(Error::FileLength { stated: self.len, actual }) }
    }

    /// Reads all data of `file` and compares it with the index. Leaves the offset of the open file anywhere.
    ///
    /// # Errors
    /// It differs, or cannot be read.
    pub fn verify(&self, file: &File) -> Result<(), Error> {
        self.check_len(file)?;
        let mut found = OverlaySum::default();
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while let Some(extent) = next_extent(file, at, self.len).map_err(unreadable)? {
            at = extent.start;
            while at < extent.end {
                let piece = ((extent.end - at) as usize).min(PIECE);
                let pages = piece.next_multiple_of(PAGE_BYTES as usize);
                buffer[piece..pages].fill(0);
                file.read_exact_at(&mut buffer[..piece], at)
                    .map_err(|source| Error::Read { offset: at, source })?;
                let (whole, _) = buffer[..pages].as_chunks::<{ PAGE_BYTES as usize }>();
                for (page, bytes) in (at / PAGE_BYTES..).zip(whole) {
                    found.add(page, bytes);
                }
                at += piece as u64;
            }
        }
        let stated = self.sum;
        if stated.data_pages != found.data_pages {
            return Err(Error::DataPages { stated: stated.data_pages, actual: found.data_pages });
        }
        if stated.sum != found.sum {
            return Err(Error::Sum { stated: stated.sum, computed: found.sum });
        }
        Ok(())
    }
}

fn unreadable(error: pages::Error) -> Error {
    match error {
        pages::Error::Read { offset, source } => Error::Read { offset, source },
        other => Error::Read { offset: 0, source: io::Error::other(other) },
    }
}

impl TryFrom<OverlayState> for OverlayIndex {
    type Error = Error;

    fn try_from(state: OverlayState) -> Result<Self, Error> {
        let OverlayState { len, runs: Words(words), data_pages, sum } = state;
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::Run { run: pairs.len() });
        }
        let run = |(number, [start, count]): (usize, &[u64; 2])| {
            let end = start.checked_add(*count).ok_or(Error::Run { run: number })?;
            Ok(*start..end)
        };
        let runs = pairs.iter().enumerate().map(run).collect::<Result<_, Error>>()?;
        Self::new(len, runs, OverlaySum { sum, data_pages })
    }
}
