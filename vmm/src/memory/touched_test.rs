use std::io::Write;
use std::sync::Arc;

use snapshot_format::MemoryIndex;
use snapshot_format::pages::{ChunkSums, FileOffset, Gpa, PageCount};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{Image, Memory};
use crate::sys::page_tricks::{Advice, Merging, advise};

fn memory() -> Memory {
    let pages = PageCount::from_bytes(256 * PAGE_BYTES).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let mut sums = ChunkSums::new(pages);
    for page in 0..256 {
        sums.add(page, &[1; PAGE]).unwrap();
        file.write_all(&[1; PAGE]).unwrap();
    }
    let region = Region::new(Gpa::new(0).unwrap(), pages, FileOffset::new(0).unwrap()).unwrap();
    let index = MemoryIndex::new(vec![region], sums).unwrap();
    Memory::private_file(&Arc::new(Image::new(file, index))).unwrap()
}

#[test]
fn pages_are_told_in_the_order_of_their_first_touch_and_by_what_was_done() {
    let memory = memory();
    let mut touched = memory.watch_touches().unwrap();
    let read = |page: u64| memory.ram().read_obj::<u8>(GuestAddress(page * PAGE_BYTES)).unwrap();
    let write = |page: u64| memory.ram().write_obj(2_u8, GuestAddress(page * PAGE_BYTES)).unwrap();
    read(100);
    write(101);
    touched.look().unwrap();
    write(7);
    read(8);
    write(100);
    touched.look().unwrap();
    let run = |first, written| Run { first, pages: 1, written };
    let runs = touched.runs().unwrap();
    // Kernels before 6.7 map neighbours along, and are told of by a warning.
    if touched._one_by_one.is_some() {
        assert_eq!(runs, [Run { first: 100, pages: 2, written: true }, run(7, true), run(8, false)]);
    } else {
        assert!(runs.contains(&Run { first: 100, pages: 2, written: true }), "{runs:?}");
    }
}

#[test]
fn a_watch_ends_when_it_is_told_or_in_time() {
    let memory = memory();
    let mut touched = memory.watch_touches().unwrap();
    let start = Instant::now();
    touched.watch(start + Duration::from_secs(60), |_| true).unwrap();
    touched
        .watch(start + Duration::from_millis(20), |pause| {
            std::thread::sleep(pause);
            false
        })
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20) && start.elapsed() < Duration::from_secs(5));
}

/// KSM puts the kernel's zero page where a guest has written zeros, which is no sign that it has only read.
#[test]
fn a_page_that_was_zeroed_and_merged_was_written() {
    let memory = memory();
    let mut touched = memory.watch_touches().unwrap();
    memory.ram().write_slice(&[0; PAGE], GuestAddress(7 * PAGE_BYTES)).unwrap();
    touched.look().unwrap();
    let region = memory.region(0).unwrap();
    // Without KSM nothing happens to the page.
    if let Some(merging) = Merging::start() {
        assert!(advise(region, &(0..256 * PAGE), Advice::Mergeable));
        merging.pass();
    }
    let runs = touched.runs().unwrap();
    assert!(runs.contains(&Run { first: 7, pages: 1, written: true }), "{runs:?}");
}
