use vm_memory::Bytes;

use super::super::page_tricks::{Advice, advise};
use super::*;

/// A huge page of ours can be one of the guest's only where both begin at the same bytes, whatever the length.
#[test]
fn anonymous_memory_lies_as_the_guest_sees_it() {
    for (base, len) in [
        (0, 16 << 20),
        (0, (16 << 20) + PAGE),
        (1 << 32, (6 << 20) + 3 * PAGE),
        (5 * PAGE, 4 << 20),
        (0, HUGE),
    ] {
        let region = RamRegion::anonymous(GuestAddress(base as u64), len).unwrap();
        assert_eq!(region.host_address() % HUGE, base % HUGE, "{base:#x} {len:#x}");
        assert_eq!(region.len(), len as u64);
        // All of it is there.
        region.write_slice(&[1], MemoryRegionAddress(len as u64 - 1)).unwrap();
        region.write_slice(&[1], MemoryRegionAddress(0)).unwrap();
        assert!(region.get_slice(MemoryRegionAddress(0), len + 1).is_err());
    }
    assert!(RamRegion::anonymous(GuestAddress(0), usize::MAX - HUGE).is_err());
}

/// The bytes that are asked for, and no others.
#[test]
fn what_asks_for_huge_pages_may_have_them_split_again() {
    let region = RamRegion::anonymous(GuestAddress(0), 4 * HUGE).unwrap();
    region.ask_for_huge_pages(&(HUGE..3 * HUGE));
    region.ask_for_huge_pages(&(0..usize::MAX));
    region.write_slice(&[1], MemoryRegionAddress(HUGE as u64)).unwrap();
    let map = PageMap::open().unwrap();
    let own = || {
        let data = map.private(region.host_address(), 4 * HUGE).unwrap().data;
        assert_eq!(data.len(), 1, "{data:?}");
        data[0].clone()
    };
    // A host may have none, and then this is a small page.
    if own() != (HUGE..2 * HUGE) {
        return assert_eq!(own().start, HUGE);
    }
    assert!(advise(&region, &(HUGE..HUGE + PAGE), Advice::Cold));
    // Linux 6.12 gives back what is zero; before, nothing changes.
    assert!(own() == (HUGE..2 * HUGE) || own() == (HUGE..HUGE + PAGE), "{:?}", own());
}
