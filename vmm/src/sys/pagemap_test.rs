use std::io::Write;

use vm_memory::{Bytes, GuestAddress, MemoryRegionAddress};

use super::super::page_tricks::protect;
use super::super::ram::RamRegion;
use super::super::uffd::{Faults, Uffd};
use super::*;

const PAGES: usize = 64;

fn both_ways(region: &RamRegion) -> [Vec<Range<usize>>; 2] {
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let (start, len) = (region.host_address(), PAGES * PAGE);
    let by_reading = read(&pagemap, Kind::Private, start, len).unwrap();
    [private_pages(start, len).unwrap().data, by_reading]
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
fn a_page_that_was_only_read_is_known_to_be_zero() {
    let region = RamRegion::anonymous(GuestAddress(0), PAGES * PAGE).unwrap();
    let mut byte = [0];
    region.read_slice(&mut byte, MemoryRegionAddress(7 * PAGE as u64)).unwrap();
    region.write_slice(&[0], MemoryRegionAddress(9 * PAGE as u64)).unwrap();
    let (start, len) = (region.host_address(), PAGES * PAGE);
    let (seven, nine) = (7 * PAGE..8 * PAGE, 9 * PAGE..10 * PAGE);
    let both = vec![seven.clone(), nine.clone()];
    let by_reading = read(&File::open("/proc/self/pagemap").unwrap(), Kind::Private, start, len).unwrap();
    assert_eq!(by_reading, both, "what cannot be told apart is taken for data");
    let found = private_pages(start, len).unwrap();
    let told_apart = Own { data: vec![nine], zeros: vec![seven] };
    assert!(found == told_apart || found == Own { data: both, zeros: Vec::new() }, "{found:?}");
}

/// Nothing but a marker is where a page was protected before it came, and a page that is protected keeps its content in
/// swap: neither is anything that the process has written.
#[test]
fn a_marker_of_write_protection_is_no_page() {
    // Kernels before 6.7 leave none.
    let Ok(uffd) = Uffd::new(Faults::DeliveredAndTracked) else { return };
    let region = RamRegion::anonymous(GuestAddress(0), PAGES * PAGE).unwrap();
    let (start, len) = (region.host_address(), PAGES * PAGE);
    region.write_slice(&[1], MemoryRegionAddress(3 * PAGE as u64)).unwrap();
    uffd.register(start, len).unwrap();
    protect(&uffd, start, len);
    let (before, at, behind) = (0..3 * PAGE, 3 * PAGE..4 * PAGE, 4 * PAGE..PAGES * PAGE);
    let map = PageMap::open().unwrap();
    assert_eq!(map.missing(start, len).unwrap(), [before.clone(), behind.clone()]);
    assert_eq!(map.present(start, len).unwrap(), vec![at.clone()]);
    assert_eq!(map.private(start, len).unwrap(), Own { data: vec![at.clone()], zeros: Vec::new() });
    assert_eq!(map.written(start, len).unwrap(), Own::default());
    assert_eq!(read(&map.0, Kind::Missing, start, len).unwrap(), [before, behind]);
    assert_eq!(read(&map.0, Kind::Private, start, len).unwrap(), [at]);
    uffd.unregister(start, len).unwrap();
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
    let found = private_pages(region.host_address(), 2048 * PAGE).unwrap().data;
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
