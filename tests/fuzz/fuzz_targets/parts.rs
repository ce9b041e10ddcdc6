//! Any bytes as a working set and as the beginning of a pack: no panic, and nothing accepted that makes no sense. The
//! first byte says which; the checksum is made right, for a fuzzer guesses none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use snapshot_format::testing::{oracle, reseal};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, part)) = bytes.split_first() else { return };
    let mut part = part.to_vec();
    reseal::checksum_of(&mut part);
    if which & 1 == 0 {
        oracle::check_working_set(&part);
    } else {
        oracle::check_pack(&part);
    }
});
