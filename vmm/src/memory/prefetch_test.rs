use std::io::Write;

use snapshot_format::pages::{FileOffset, Gpa, PageCount};
use vm_memory::GuestAddress;

use super::*;
use crate::memory::RamRegion;

const PAGE: usize = 4096;

fn run(first: u64, pages: u64, written: bool) -> Run {
    Run { first, pages, written }
}

#[test]
fn neighbours_go_together_and_long_runs_are_cut() {
    let (r, w) = (Access::Read, Access::Write);
    let page = PAGE_BYTES;
    let of = |runs: &[Run]| steps(runs);
    assert_eq!(of(&[run(0, 2, false), run(2, 1, false)]), [(0, 3 * page, r)]);
    assert_eq!(of(&[run(0, 2, false), run(2, 1, true)]), [(0, 2 * page, r), (2 * page, page, w)]);
    assert_eq!(of(&[run(5, 1, true), run(4, 1, true)]), [(5 * page, page, w), (4 * page, page, w)]);
    assert_eq!(of(&[run(0, 1025, true)]), [(0, STEP, w), (STEP, STEP, w), (2 * STEP, page, w)]);
}

/// Two regions of 512 pages each, mapped from a file.
fn mapped() -> (GuestRam, Vec<Region>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; 1024 * PAGE]).unwrap();
    let region = |base, offset: u64, pages: usize| {
        RamRegion::private_file(GuestAddress(base), &file, offset, pages * PAGE).unwrap()
    };
    let ram = GuestRam::from_regions(vec![region(0, 0, 512), region(1 << 30, 512 * 4096, 512)]).unwrap();
    let place = |at, offset| {
        let pages = PageCount::from_bytes(512 * PAGE_BYTES).unwrap();
        Region::new(Gpa::new(at).unwrap(), pages, FileOffset::new(offset).unwrap()).unwrap()
    };
    (ram, vec![place(0, 0), place(1 << 30, 512 * 4096)])
}

#[test]
fn what_was_given_back_is_not_brought_in_again() {
    let (ram, placement) = mapped();
    let region = ram.iter().next().unwrap();
    let map = PageMap::open().unwrap();
    assert!(region.take_back(100 * PAGE..110 * PAGE).unwrap());
    for (access, range) in [(Access::Write, 90..120), (Access::Read, 105..130)] {
        let bytes = range.start * PAGE_BYTES..range.end * PAGE_BYTES;
        bring_in((&ram, &map), &placement, bytes, access).unwrap();
    }
    let private = map.private(region.host_address(), 512 * PAGE).unwrap().data;
    assert_eq!(private, [90 * PAGE..100 * PAGE, 110 * PAGE..120 * PAGE]);
}

#[test]
fn a_page_that_the_guest_has_read_meanwhile_is_not_replaced_under_it() {
    let (ram, placement) = mapped();
    let region = ram.iter().next().unwrap();
    let map = PageMap::open().unwrap();
    region.populate(&(100 * PAGE..101 * PAGE), Access::Read).unwrap();
    let there = map.present(region.host_address(), 512 * PAGE).unwrap();
    bring_in((&ram, &map), &placement, 0..512 * PAGE_BYTES, Access::Write).unwrap();
    let private = map.private(region.host_address(), 512 * PAGE).unwrap().data;
    assert!(
        there.iter().all(|read| private.iter().all(|own| own.end <= read.start || read.end <= own.start))
    );
    assert!(there.iter().any(|read| read.contains(&(100 * PAGE))));
}

#[test]
fn read_pages_are_mapped_and_written_ones_copied() {
    let (ram, placement) = mapped();
    let runs = vec![run(510, 4, true), run(600, 2, false)];
    let set = WorkingSet::new([0; 16], runs, PageCount::from_bytes(1024 * PAGE_BYTES).unwrap()).unwrap();
    Prefetch::start(ram.clone(), placement, move || Some(set)).unwrap().finish();

    let map = PageMap::open().unwrap();
    let at = |number: usize| ram.iter().nth(number).unwrap().host_address();
    let copied = |number| map.private(at(number), 512 * PAGE).unwrap().data;
    assert_eq!((copied(0).len(), &copied(0)[0]), (1, &(510 * PAGE..512 * PAGE)));
    assert_eq!((copied(1).len(), &copied(1)[0]), (1, &(0..2 * PAGE)));
    let there = map.present(at(1), 512 * PAGE).unwrap();
    assert!(
        there.iter().any(|pages| pages.contains(&(88 * PAGE)) && pages.contains(&(89 * PAGE))),
        "{there:?}"
    );
}
