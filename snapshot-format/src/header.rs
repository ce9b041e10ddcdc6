//! The first bytes of a `state` file: what it is, and how long.
//!
//! Owns the header's layout and its checks, and the checksum at the file's end. Knows nothing of what sections mean.
//!
//! One number is the format version. It changes only if the container itself does: the header, the table or the
//! checksum. Everything else that grows is a section, and each section has a version of its own, so a minor number
//! here would be a second way of saying what the sections say already. Three things stay as they are in every format
//! version, so that any build can tell a newer image from a damaged one: the magic, the version behind it, and the
//! CRC64 of everything before the last eight bytes in those eight bytes.

use crate::error::Error;

#[cfg(test)]
#[path = "header_test.rs"]
mod header_test;

/// First bytes of every `state` file.
pub const MAGIC: [u8; 8] = *b"REKINDLE";

/// The version of the container that this build writes, and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 32;

/// Length of the checksum at the end of the file.
pub const CHECKSUM_BYTES: usize = 8;

/// The largest `state` file in bytes: read and written. 32 vCPUs and a terabyte of memory need about 5 MiB.
pub const MAX_STATE_BYTES: u64 = 64 << 20;

/// Whose machine state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Architecture {
    /// AMD64 and Intel 64.
    X86_64 = 1,
}

impl Architecture {
    /// The usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
        }
    }
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the container.
    pub format_version: u16,
    /// Whose machine state it is.
    pub architecture: Architecture,
    /// How many sections the table lists.
    pub sections: u32,
    /// Length of the whole file in bytes, the checksum included.
    pub file_len: u64,
}

impl Header {
    /// Reads the header of a whole `state` file after checking its checksum and length.
    ///
    /// The order of the checks is what makes the errors true: a flipped bit in the version is damage and not a newer
    /// version, so the checksum comes before the fields.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        if !file.starts_with(&MAGIC) {
            // A cut through the magic itself is still recognisable; an empty file is nothing.
            let cut = !file.is_empty() && MAGIC.starts_with(file);
            return Err(if cut { truncated(file) } else { Error::NotAnImage });
        }
        if file.len() as u64 > MAX_STATE_BYTES {
            return Err(Error::TooLarge { max: MAX_STATE_BYTES });
        }
        if file.len() < HEADER_BYTES + CHECKSUM_BYTES {
            return Err(truncated(file));
        }
        check_sum(file)?;
        let format_version = u16_at(file, 8);
        if format_version != FORMAT_VERSION {
            return Err(Error::FormatVersion { found: format_version, supported: FORMAT_VERSION });
        }
        let architecture = match u16_at(file, 10) {
            1 => Architecture::X86_64,
            found => return Err(Error::Architecture { found }),
        };
        let file_len = u64_at(file, 16);
        if file_len != file.len() as u64 {
            return Err(Error::Length { stated: file_len, actual: file.len() as u64 });
        }
        if u64_at(file, 24) != 0 {
            return Err(Error::Reserved);
        }
        Ok(Self { format_version, architecture, sections: u32_at(file, 12), file_len })
    }

    /// The header's bytes.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.format_version.to_le_bytes());
        bytes[10..12].copy_from_slice(&(self.architecture as u16).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sections.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file_len.to_le_bytes());
        bytes
    }
}

/// The checksum that belongs at the end of a file whose other bytes are `covered`: CRC-64/Jones as FORMAT.md
/// defines it.
pub(crate) fn checksum(covered: &[u8]) -> u64 {
    crc64::crc64(0, covered)
}

fn check_sum(file: &[u8]) -> Result<(), Error> {
    let Some((covered, stored)) = file.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(truncated(file));
    };
    let (stored, computed) = (u64::from_le_bytes(*stored), checksum(covered));
    if stored == computed { Ok(()) } else { Err(Error::Checksum { stored, computed }) }
}

fn truncated(file: &[u8]) -> Error {
    Error::Truncated { len: file.len(), min: HEADER_BYTES + CHECKSUM_BYTES }
}

// Little-endian fields. Call only with `at` inside of what was checked to be there.

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the caller checked that the field is there")
}
