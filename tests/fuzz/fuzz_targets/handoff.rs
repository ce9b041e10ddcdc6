//! Any bytes as what a VMM and a page server say to each other: no panic, and nothing accepted that cannot be.

#![no_main]

use libfuzzer_sys::fuzz_target;
use snapshot_format::testing::oracle;

fuzz_target!(|bytes: &[u8]| oracle::check_handoff(bytes));
