//! Any bytes as section `memory`: no panic, no index that makes no sense, and no file that upsets its verification.

#![no_main]

use libfuzzer_sys::fuzz_target;
use snapshot_format::pages::verify;
use snapshot_format::testing::oracle;

fuzz_target!(|bytes: &[u8]| {
    let Some(index) = oracle::check_index(bytes) else { return };
    // A file of holes that is as long as the index says. Few indexes are so indifferent that it fits them.
    let Ok(file) = tempfile::tempfile() else { return };
    if file.set_len(index.file_pages().bytes()).is_ok() {
        let holes = index.data_pages() == 0 && index.chunk_sums().iter().all(|&sum| sum == 0);
        assert_eq!(verify(&file, &index).is_ok(), holes);
    }
});
