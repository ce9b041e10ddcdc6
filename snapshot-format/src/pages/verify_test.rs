use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::ErrorKind;
use crate::testing::samples;

const HALF: u64 = 5 << 20;

/// 10 MiB of guest RAM in two regions of 5 MiB, so that chunk 2 of the file holds the end of one and the start of the
/// other; pages 0, 700, 1400 and 2559 have data.
fn image() -> (File, MemoryIndex) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * HALF).unwrap();
    let mut sums = ChunkSums::new(PageCount::from_bytes(2 * HALF).unwrap());
    for page in [0_u64, 700, 1400, 2559] {
        let bytes = [page as u8 | 1; 4096];
        assert!(sums.add(page, &bytes).unwrap());
        file.write_all_at(&bytes, page * 4096).unwrap();
    }
    let region = |guest, offset| {
        let pages = PageCount::from_bytes(HALF).unwrap();
        Region::new(Gpa::new(guest).unwrap(), pages, FileOffset::new(offset).unwrap()).unwrap()
    };
    (file, MemoryIndex::new(vec![region(0, 0), region(4 << 30, HALF)], sums).unwrap())
}

fn damage(page: u64, bytes: &[u8]) -> Error {
    let (file, index) = image();
    file.write_all_at(bytes, page * 4096).unwrap();
    let error = verify(&file, &index).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    error
}

#[test]
fn an_intact_file_is_verified() {
    let (file, index) = image();
    verify(&file, &index).unwrap();
    // Whether a zero page is a hole or was written makes no difference.
    file.write_all_at(&vec![0; 1 << 20], 3 << 20).unwrap();
    verify(&file, &index).unwrap();
}

#[test]
fn the_first_damaged_chunk_is_named_by_guest_address() {
    assert!(damage(0, b"x").to_string().starts_with("guest memory 0x0..0x200000 is damaged (chunk 0 "));
    // In a hole, at the end of a page, in the last page.
    let Error::Chunk { chunk: 1, guest, stated, .. } = damage(900, &[0; 4096].map(|_| 1)) else { panic!() };
    assert_eq!(guest.to_string(), "0x200000..0x400000");
    assert_ne!(stated, 0);
    let message = damage(1400, &[0; 4096]).to_string();
    assert!(
        message.starts_with("guest memory 0x400000..0x500000, 0x100000000..0x100100000 is damaged (chunk 2 ")
    );
    let Error::Chunk { chunk: 3, stated: 0, .. } = damage(1600, b"x") else { panic!() };
    let Error::Chunk { chunk: 4, .. } = damage(2559, b"x") else { panic!() };
    // Two: the first is named.
    let (file, index) = image();
    file.write_all_at(b"x", 2559 * 4096).unwrap();
    file.write_all_at(b"x", 701 * 4096).unwrap();
    assert!(matches!(verify(&file, &index), Err(Error::Chunk { chunk: 1, .. })));
}

#[test]
fn another_length_is_refused_before_anything_is_read() {
    let (file, index) = image();
    for len in [0, 2 * HALF - 1, 2 * HALF + 4096] {
        file.set_len(len).unwrap();
        assert!(matches!(verify(&file, &index), Err(Error::FileLength { actual, .. }) if actual == len));
    }
}

#[test]
fn a_wrong_number_of_data_pages_is_found() {
    let (file, index) = image();
    let mut state = index.to_state();
    state.data_pages += 1;
    let index = MemoryIndex::try_from(state).unwrap();
    assert!(matches!(verify(&file, &index), Err(Error::DataPageCount { stated: 5, actual: 4 })));
}

#[test]
fn a_gap_between_regions_is_covered_too() {
    let mut state = samples::memory_index().to_state();
    state.regions[1].file_offset = CHUNK_BYTES + 4096;
    state.file_len = CHUNK_BYTES + 4096 + state.regions[1].len;
    state.regions[1].len = 4096;
    state.regions[0].len = 4096;
    state.chunk_sums.0 = vec![0; 2];
    state.data_pages = 0;
    let index = MemoryIndex::try_from(state).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(index.file_pages().bytes()).unwrap();
    verify(&file, &index).unwrap();
    file.write_all_at(b"hidden", 64 << 10).unwrap();
    assert!(matches!(verify(&file, &index), Err(Error::Chunk { chunk: 0, .. })));
}

#[test]
fn a_terabyte_of_holes_takes_no_time() {
    let pages = PageCount::from_bytes(MAX_MEMORY_BYTES).unwrap();
    let region = Region::new(Gpa::new(0).unwrap(), pages, FileOffset::new(0).unwrap()).unwrap();
    let index = MemoryIndex::new(vec![region], ChunkSums::new(pages)).unwrap();
    let file = tempfile::tempfile().unwrap();
    // A file system that has no such large files has nothing to show here either.
    if file.set_len(MAX_MEMORY_BYTES).is_ok() {
        verify(&file, &index).unwrap();
    }
}

#[test]
fn sums_that_were_made_in_another_way_are_compared_chunk_by_chunk() {
    let index = samples::memory_index();
    let sums = |change: fn(&mut Vec<u8>)| {
        let mut bytes = samples::memory_file();
        change(&mut bytes);
        let mut sums = ChunkSums::new(PageCount::from_bytes(bytes.len() as u64).unwrap());
        for (page, bytes) in (0..).zip(bytes.as_chunks::<4096>().0) {
            sums.add(page, bytes).unwrap();
        }
        sums
    };
    check_sums(&index, sums(|_| ())).unwrap();
    let refused = check_sums(&index, sums(|bytes| bytes[4096] = 1)).unwrap_err();
    assert!(matches!(refused, Error::Chunk { chunk: 0, .. }), "{refused}");
    let refused = check_sums(&index, sums(|bytes| bytes.truncate(4096))).unwrap_err();
    assert!(matches!(refused, Error::FileLength { .. }), "{refused}");
    let mut state = index.to_state();
    state.data_pages -= 1;
    let refused = check_sums(&MemoryIndex::try_from(state).unwrap(), sums(|_| ())).unwrap_err();
    assert!(matches!(refused, Error::DataPageCount { .. }), "{refused}");
}
