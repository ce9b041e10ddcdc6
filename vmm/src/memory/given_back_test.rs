use std::io::Write;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{RamRegion, ram_at};
use crate::sys::pagemap;

const MIB: usize = 1 << 20;

fn byte(ram: &GuestRam, at: u64) -> u8 {
    ram.read_obj(GuestAddress(at)).unwrap()
}

/// Two regions with a hole between them, a byte of 1 at the start of every page.
fn written() -> GuestRam {
    let ram = ram_at(&[(GuestAddress(0), 2 * MIB), (GuestAddress(4 << 20), MIB)]);
    for page in (0..2 * MIB as u64).chain(4 << 20..5 << 20).step_by(4096) {
        ram.write_obj(1_u8, GuestAddress(page)).unwrap();
    }
    ram
}

#[test]
fn only_whole_pages_of_ram_go() {
    let ram = written();
    assert_eq!(give_back(&ram, 0x1001..0x4fff).unwrap(), 0x2000);
    assert_eq!([0x1000, 0x2000, 0x3000, 0x4000].map(|at| byte(&ram, at)), [1, 0, 0, 1]);
    // The hole, and what lies beyond memory.
    assert_eq!(give_back(&ram, 0x1f_f000..0x40_1000).unwrap(), 0x2000);
    assert_eq!([0x1f_e000, 0x1f_f000, 0x40_0000, 0x40_1000].map(|at| byte(&ram, at)), [1, 0, 0, 1]);
    for nothing in [0x20_0000..0x40_0000, 0x50_0000..u64::MAX, u64::MAX - 1..u64::MAX, 0x3000..0x3000] {
        assert_eq!(give_back(&ram, nothing.clone()).unwrap(), 0, "{nothing:x?}");
    }
}

#[test]
fn what_is_reserved_stays() {
    let ram = written();
    assert_eq!(give_back(&ram, 0..u64::MAX).unwrap(), (2 * MIB + MIB) as u64 - (KERNEL_START - LOW_RAM_END));
    for reserved in (LOW_RAM_END..KERNEL_START).step_by(4096) {
        assert_eq!(byte(&ram, reserved), 1, "{reserved:#x}");
    }
    assert_eq!([0, 0x9_f000, 0x10_0000, 0x1f_f000, 0x4f_f000].map(|at| byte(&ram, at)), [0; 5]);
}

/// Of a restored guest's memory, what is given back is zero and not what the image says; what is written after that
/// counts as the guest's own.
#[test]
fn a_page_of_an_image_turns_zero() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; 2 * MIB]).unwrap();
    let region = RamRegion::private_file(GuestAddress(0), &file, 0, 2 * MIB).unwrap();
    let ram = GuestRam::from_regions(vec![region]).unwrap();
    let region = ram.iter().next().unwrap();
    ram.write_obj(8_u8, GuestAddress(0x1000)).unwrap();
    for _ in 0..2 {
        assert_eq!(give_back(&ram, 0x1000..0x3000).unwrap(), 0x2000);
        assert_eq!([0, 0x1000, 0x2000, 0x3000].map(|at| byte(&ram, at)), [7, 0, 0, 7]);
        assert_eq!(region.taken_back(), [Range { start: 0x1000, end: 0x3000 }]);
        ram.write_obj(9_u8, GuestAddress(0x2000)).unwrap();
        let own = pagemap::private_pages(region.host_address(), 2 * MIB).unwrap();
        assert_eq!(own, [Range { start: 0x2000, end: 0x3000 }]);
    }
    assert_eq!(give_back(&ram, 0x3000..0x4000).unwrap(), 0x1000);
    assert_eq!(region.taken_back(), [Range { start: 0x1000, end: 0x4000 }]);
    assert_eq!(byte(&ram, 0x2000), 9, "a neighbour keeps what it was given since");
}

/// More pieces than a process can have mappings for: what does not fit goes back all the same, to what the image says.
#[test]
fn pieces_without_number_go_back() {
    const PIECES: usize = 9000;
    let file = tempfile::tempfile().unwrap();
    let len = 2 * PIECES * 4096;
    file.set_len(len as u64).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7], len as u64 - 8192).unwrap();
    let region = RamRegion::private_file(GuestAddress(8 << 20), &file, 0, len).unwrap();
    let ram = GuestRam::from_regions(vec![region]).unwrap();
    let region = ram.iter().next().unwrap();
    let map = pagemap::PageMap::open().unwrap();
    for piece in (0..PIECES as u64).map(|number| (8 << 20) + number * 8192) {
        ram.write_obj(8_u8, GuestAddress(piece)).unwrap();
        assert_eq!(give_back(&ram, piece..piece + 4096).unwrap(), 4096);
    }
    assert!(region.taken_back().len() < PIECES, "there is a limit");
    assert!(map.private(region.host_address(), len).unwrap().is_empty(), "and no page is left");
    assert_eq!([byte(&ram, 8 << 20), byte(&ram, (8 << 20) + len as u64 - 8192)], [0, 7]);
}
