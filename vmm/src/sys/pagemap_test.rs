use std::io::Write;

use vm_memory::{Bytes, GuestAddress, MemoryRegionAddress};

use super::super::ram::RamRegion;
use super::*;

const PAGES: usize = 64;

fn both_ways(region: &RamRegion) -> [Vec<Range<usize>>; 2] {
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let (start, len) = (region.host_address(), PAGES * PAGE);
    let by_reading = read(&pagemap, Kind::Private, start, len).unwrap();
    [private_pages(start, len).unwrap(), by_reading]
}

#[test]
fn anonymous_memory_reports_the_pages_that_were_written() {
    let region = RamRegion::anonymous(GuestAddress(0), PAGES * PAGE).unwrap();
    for page in [3u64, 4, 63] {
        region.write_slice(&[1], MemoryRegionAddress(page * PAGE as u64 + 5)).unwrap();
    }
    for found in both_ways(&region) {
        assert_eq!(found, [3 * PAGE..5 * PAGE, 63 * PAGE..64 * PAGE]);
    }
}

#[test]
fn a_page_that_was_only_read_is_not_reported_by_the_scan() {
    let region = RamRegion::anonymous(GuestAddress(0), PAGES * PAGE).unwrap();
    let mut byte = [0];
    region.read_slice(&mut byte, MemoryRegionAddress(7 * PAGE as u64)).unwrap();
    region.write_slice(&[0], MemoryRegionAddress(9 * PAGE as u64)).unwrap();
    let found = private_pages(region.host_address(), PAGES * PAGE).unwrap();
    assert!(found.contains(&(9 * PAGE..10 * PAGE)), "{found:?}");
    assert_eq!(byte, [0]);
}

#[test]
fn a_private_file_mapping_reports_only_the_copies() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; PAGES * PAGE]).unwrap();
    let region = RamRegion::private_file(GuestAddress(0), &file, 0, PAGES * PAGE).unwrap();
    let mut all = vec![0; PAGES * PAGE];
    region.read_slice(&mut all, MemoryRegionAddress(0)).unwrap();
    region.write_slice(&[8], MemoryRegionAddress(10 * PAGE as u64)).unwrap();
    for found in both_ways(&region) {
        assert_eq!((found.len(), &found[0]), (1, &(10 * PAGE..11 * PAGE)));
    }
    assert_eq!(file.metadata().unwrap().len(), (PAGES * PAGE) as u64);
    let mut on_disk = [0];
    file.read_exact_at(&mut on_disk, 10 * PAGE as u64).unwrap();
    assert_eq!(on_disk, [7]);
}

#[test]
fn more_runs_than_one_call_returns_are_all_found() {
    let region = RamRegion::anonymous(GuestAddress(0), 2048 * PAGE).unwrap();
    for page in (0..2048u64).step_by(2) {
        region.write_slice(&[1], MemoryRegionAddress(page * PAGE as u64)).unwrap();
    }
    let found = private_pages(region.host_address(), 2048 * PAGE).unwrap();
    assert_eq!(found.len(), 1024);
    assert!(found.iter().enumerate().all(|(i, run)| *run == (2 * i * PAGE..(2 * i + 1) * PAGE)));
}

#[test]
fn what_is_there_and_what_is_missing_add_up() {
    let region = RamRegion::anonymous(GuestAddress(0), PAGES * PAGE).unwrap();
    for page in [0u64, 1, 5] {
        region.write_slice(&[1], MemoryRegionAddress(page * PAGE as u64)).unwrap();
    }
    // Only read: the shared zero page is there, too.
    region.read_slice(&mut [0], MemoryRegionAddress(2 * PAGE as u64)).unwrap();
    let map = PageMap::open().unwrap();
    let (start, len) = (region.host_address(), PAGES * PAGE);
    assert_eq!(map.present(start, len).unwrap(), [0..3 * PAGE, 5 * PAGE..6 * PAGE]);
    for missing in [map.find(Kind::Missing, start, len), read(&map.0, Kind::Missing, start, len)] {
        assert_eq!(missing.unwrap(), [3 * PAGE..5 * PAGE, 6 * PAGE..PAGES * PAGE]);
    }
    assert_eq!(map.first_missing(start + PAGE, len - PAGE).unwrap(), Some(2 * PAGE..4 * PAGE));
    assert_eq!(map.first_missing(start, 3 * PAGE).unwrap(), None);
}
