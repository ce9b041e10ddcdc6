//! Any bytes as a `state` file: no panic, and whatever is accepted is written back bit for bit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use snapshot_format::StateReader;
use snapshot_format::testing::{oracle, reseal};

fuzz_target!(|bytes: &[u8]| {
    // As it is: almost always refused by its checksum, whose check must stand any length.
    let _ = StateReader::parse(bytes);
    // Sealed, so that the fuzzer gets behind the checksum.
    let mut file = bytes.to_vec();
    reseal::length_and_checksum_of(&mut file);
    if let Ok(rewritten) = oracle::rewrite(&file) {
        assert_eq!(rewritten, file);
    }
});
