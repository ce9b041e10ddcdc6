//! Making altered bytes of a `state` file pass the checks that come first.
//!
//! A test of a structural check that does not do this tests the checksum and nothing else.

use crate::header::{CHECKSUM_BYTES, HEADER_BYTES, checksum};

/// Puts the right checksum into the last eight bytes. Leaves a file too short for one alone.
pub fn checksum_of(file: &mut [u8]) {
    if let Some((covered, stored)) = file.split_last_chunk_mut::<CHECKSUM_BYTES>() {
        *stored = checksum(covered).to_le_bytes();
    }
}

/// Puts the file's length into the header, and then the right checksum. Leaves a file too short for a header alone.
pub fn length_and_checksum_of(file: &mut [u8]) {
    if file.len() >= HEADER_BYTES + CHECKSUM_BYTES {
        let len = file.len() as u64;
        file[16..24].copy_from_slice(&len.to_le_bytes());
        checksum_of(file);
    }
}
