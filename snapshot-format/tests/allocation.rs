//! Hostile lengths: what a decoder may be made to allocate.

use snapshot_format::testing::{oracle, reseal, samples};
use snapshot_format::{MemoryIndex, StateReader};

/// Lengths that a container's own bound allows, and ones that it does not.
const LENGTHS: [u64; 5] = [0x4000, 1 << 19, 1 << 20, 10_485_760 / 16, u64::MAX];

/// Reading a whole file may allocate a small multiple of the file, and the 16 KiB that a `String` reserves.
fn allowed(file: &[u8]) -> u64 {
    4 * file.len() as u64 + (16 << 10)
}

/// Every eight bytes of the file, at any alignment, are taken for a length once and replaced by a hostile one.
#[test]
fn no_length_anywhere_makes_the_reader_allocate_more_than_a_multiple_of_the_file() {
    let good = samples::state_file().expect("the sample fits");
    let mut most = 0;
    for length in LENGTHS {
        for at in 0..good.len() - 16 {
            let mut file = good.clone();
            file[at..at + 8].copy_from_slice(&length.to_le_bytes());
            reseal::checksum_of(&mut file);
            let used = allocation_counter::measure(|| drop(oracle::rewrite(&file)));
            most = most.max(used.bytes_max);
            assert!(used.bytes_max <= allowed(&file), "{length:#x} at {at}: {} bytes", used.bytes_max);
        }
    }
    // The measurement measures: an intact file needs memory too.
    let used = allocation_counter::measure(|| drop(oracle::rewrite(&good)));
    assert!(used.bytes_max > good.len() as u64 && used.bytes_max <= most);
}

#[test]
fn listing_an_image_allocates_for_its_table_only() {
    let file = samples::state_file().expect("the sample fits");
    let used = allocation_counter::measure(|| drop(StateReader::parse(&file)));
    assert!(used.bytes_max < 4096, "{} bytes", used.bytes_max);
}

#[test]
fn checking_an_index_allocates_no_more_than_the_index() {
    let state = samples::memory_index().to_state();
    let used = allocation_counter::measure(|| drop(MemoryIndex::try_from(state.clone())));
    assert!(used.bytes_max < 1024, "{} bytes", used.bytes_max);
}

/// A count that the length contradicts is found out before room is made for it.
#[test]
fn parts_that_lie_about_their_counts_allocate_nothing_for_them() {
    let (set, pack) = (samples::working_set().encode(), samples::pack_index().encode());
    for count in [17_u64, 1 << 20, 1 << 24, u64::MAX] {
        for (good, at) in [(&set, 32), (&pack, 32), (&pack, 40)] {
            // Memory is counted in pages.
            let value = if at == 32 && good == &pack { count.saturating_mul(4096) & !4095 } else { count };
            let mut file = good.clone();
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            reseal::checksum_of(&mut file);
            let used = allocation_counter::measure(|| {
                assert!(oracle::check_working_set(&file).is_none());
                assert!(oracle::check_pack(&file).is_none());
            });
            assert!(used.bytes_max < 1024, "{count:#x} at {at}: {} bytes", used.bytes_max);
        }
    }
}
