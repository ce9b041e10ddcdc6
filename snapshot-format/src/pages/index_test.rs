use super::*;
use crate::ErrorKind;
use crate::codec::Words;
use crate::state::{MemoryRegionState, MemoryState};
use crate::testing::samples;

fn good() -> MemoryState {
    samples::memory_index().to_state()
}

fn refused(change: impl FnOnce(&mut MemoryState)) -> Error {
    let mut state = good();
    change(&mut state);
    let error = MemoryIndex::try_from(state).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    error
}

#[test]
fn the_sample_goes_through_its_saved_form() {
    let index = samples::memory_index();
    assert_eq!(MemoryIndex::try_from(index.to_state()).unwrap(), index);
    assert_eq!((index.guest_bytes(), index.data_pages()), (samples::MEMORY_BYTES, 4));
    assert_eq!(index.chunk_sums().len(), 1);
    index.check_len(samples::MEMORY_BYTES).unwrap();
    for len in [0, samples::MEMORY_BYTES - 1, samples::MEMORY_BYTES + 1, u64::MAX] {
        assert!(matches!(index.check_len(len), Err(Error::FileLength { .. })));
    }
}

#[test]
fn everything_is_a_whole_number_of_pages() {
    assert!(matches!(refused(|s| s.regions[0].guest_base = 1), Error::Unaligned { value: 1, .. }));
    assert!(matches!(refused(|s| s.regions[0].len -= 1), Error::Unaligned { .. }));
    assert!(matches!(refused(|s| s.regions[1].file_offset += 512), Error::Unaligned { .. }));
    assert!(matches!(refused(|s| s.file_len += 2048), Error::Unaligned { .. }));
}

#[test]
fn nothing_wraps_and_everything_is_bounded() {
    let last_page = u64::MAX - (PAGE_BYTES - 1);
    assert!(matches!(refused(|s| s.regions[1].guest_base = last_page), Error::GuestAddress { .. }));
    assert!(matches!(refused(|s| s.regions[1].guest_base = MAX_GUEST_ADDRESS), Error::GuestAddress { .. }));
    assert!(matches!(refused(|s| s.regions[1].len = last_page), Error::FileBound { .. }));
    assert!(matches!(refused(|s| s.regions[1].file_offset = last_page), Error::FileBound { .. }));
    assert!(matches!(refused(|s| s.regions[1].file_offset = MAX_MEMORY_BYTES), Error::FileBound { .. }));
    assert!(matches!(refused(|s| s.file_len = last_page), Error::FileBound { .. }));
}

#[test]
fn regions_are_ordered_apart_and_within_the_file() {
    assert!(matches!(refused(|s| s.regions.swap(0, 1)), Error::Overlap { guest: 0 }));
    assert!(matches!(refused(|s| s.regions[1].guest_base = PAGE_BYTES), Error::Overlap { .. }));
    assert!(matches!(refused(|s| s.regions[1].file_offset -= PAGE_BYTES), Error::Overlap { .. }));
    assert!(matches!(refused(|s| s.regions[1].len += PAGE_BYTES), Error::OutsideFile { .. }));
    assert!(matches!(refused(|s| s.file_len -= PAGE_BYTES), Error::OutsideFile { .. }));
    assert!(matches!(refused(|s| s.regions[0].len = 0), Error::EmptyRegion { guest: 0 }));
    assert!(matches!(refused(|s| s.regions.clear()), Error::RegionCount { count: 0 }));
    let many = |n: u64| MemoryRegionState { guest_base: n * 4096, len: 4096, file_offset: n * 4096 };
    assert!(matches!(refused(|s| s.regions = (0..9).map(many).collect()), Error::RegionCount { count: 9 }));
    // Eight regions, and holes between regions, are fine.
    let apart = |n: u64| MemoryRegionState { guest_base: n << 30, len: 4096, file_offset: n * 8192 };
    let state = MemoryState { regions: (0..8).map(apart).collect(), ..good() };
    assert_eq!(MemoryIndex::try_from(state).unwrap().regions().len(), 8);
}

#[test]
fn counts_fit_the_file() {
    assert!(matches!(refused(|s| s.chunk_sums.0.push(0)), Error::SumCount { found: 2, expected: 1 }));
    assert!(matches!(refused(|s| s.chunk_sums.0.clear()), Error::SumCount { found: 0, expected: 1 }));
    assert!(matches!(refused(|s| s.data_pages = 17), Error::DataPages { found: 17, pages: 16 }));
    let len = CHUNK_BYTES + PAGE_BYTES;
    let longer = MemoryState { file_len: len, chunk_sums: Words(vec![0; 2]), ..good() };
    assert_eq!(MemoryIndex::try_from(longer).unwrap().file_pages().bytes(), len);
}

#[test]
fn sums_depend_on_content_and_place_and_not_on_order() {
    let pages: Vec<[u8; 4096]> = (0..4_u8).map(|n| [n; 4096]).collect();
    assert_eq!(page_sum(9, &pages[0]), 0);
    assert_ne!(page_sum(1, &pages[1]), page_sum(2, &pages[1]));
    let whole = chunk_sum(512, pages.as_flattened());
    assert_eq!(whole, (1..4).fold(0, |sum: u64, n| sum.wrapping_add(page_sum(512 + n, &pages[n as usize]))));
    let swapped = [pages[0], pages[2], pages[1], pages[3]];
    assert_ne!(whole, chunk_sum(512, swapped.as_flattened()));

    let count = PageCount::from_bytes(3 * CHUNK_BYTES).unwrap();
    let (mut backwards, mut other) = (ChunkSums::new(count), ChunkSums::new(count));
    assert!(backwards.add(515, &pages[3]).unwrap());
    assert!(!backwards.add(512, &pages[0]).unwrap());
    assert!(other.add(514, &pages[2]).unwrap());
    assert!(other.add(513, &pages[1]).unwrap());
    backwards.merge(&other).unwrap();
    assert!(matches!(backwards.add(3 * 512, &pages[1]), Err(Error::FileBound { .. })));
    assert!(backwards.merge(&ChunkSums::new(PageCount::from_bytes(4096).unwrap())).is_err());
    assert_eq!(backwards.into_parts(), (count, 3, vec![0, whole, 0]));
}

#[test]
fn a_sum_is_the_one_of_format_md() {
    // XXH3-64 of one page of ones with seed 7, computed with the reference implementation (xxHash 0.8.4).
    assert_eq!(page_sum(7, &[1; 4096]), REFERENCE);
    assert_eq!(chunk_sum(7, &[1; 4096]), REFERENCE);
}

const REFERENCE: u64 = 0x0926_6074_bdf6_fc09;

#[test]
fn a_last_piece_counts_as_if_zeros_filled_it() {
    let mut page = [0; 4096];
    page[..5].copy_from_slice(b"piece");
    assert_eq!(chunk_sum(3, b"piece"), page_sum(3, &page));
}
