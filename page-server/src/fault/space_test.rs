use super::*;

const PAGE: u64 = PAGE_BYTES;
const BASE: u64 = 0x7000_0000_0000;

/// The higher region first, as a VMM may say it: 4 MiB whose bytes come second, and 1 MiB.
fn space() -> Space {
    Space::new(&[
        Mapping { address: BASE + (1 << 30), len: 1 << 20, offset: 0, page_bytes: PAGE },
        Mapping { address: BASE, len: 4 << 20, offset: 1 << 20, page_bytes: PAGE },
    ])
}

fn around(space: &Space, address: u64, window: Range<u64>) -> (u64, u64, u64) {
    space.alike(space.find(address).unwrap(), &window).place(space)
}

#[test]
fn addresses_and_offsets_meet() {
    let space = space();
    let spot = space.find(BASE + 5 * PAGE + 7).unwrap();
    assert_eq!(space.place(spot), (BASE + 5 * PAGE, (1 << 20) + 5 * PAGE, PAGE));
    assert_eq!(space.find_offset((1 << 20) + 5 * PAGE), Some(spot));
    assert_eq!(space.place(space.find(BASE + (1 << 30)).unwrap()).1, 0);
    for nowhere in [0, BASE - 1, BASE + (4 << 20), BASE + (1 << 30) + (1 << 20), u64::MAX] {
        assert_eq!(space.find(nowhere), None, "{nowhere:#x}");
    }
    assert_eq!(space.find_offset(5 << 20), None);
}

#[test]
fn every_kind_is_remembered_page_by_page() {
    let mut space = space();
    for (page, kind) in
        [Kind::There, Kind::Removed, Kind::Gone, Kind::Missing].into_iter().cycle().take(1024).enumerate()
    {
        let at = BASE + page as u64 * PAGE;
        space.set(at..at + PAGE, kind);
    }
    for (page, kind) in
        [Kind::There, Kind::Removed, Kind::Gone, Kind::Missing].into_iter().cycle().take(1024).enumerate()
    {
        assert_eq!(space.kind(space.find(BASE + page as u64 * PAGE).unwrap()), kind);
    }
    space.set(0..u64::MAX, Kind::Missing);
    assert_eq!(space.kind(space.find(BASE).unwrap()), Kind::Missing);
}

#[test]
fn a_stretch_ends_where_the_window_the_region_or_the_kind_does() {
    let mut space = space();
    space.set(BASE + 2 * PAGE..BASE + 3 * PAGE, Kind::There);
    space.set(BASE + 9 * PAGE..BASE + 10 * PAGE, Kind::Removed);
    let all = 0..u64::MAX;
    assert_eq!(
        around(&space, BASE + 5 * PAGE, all.clone()),
        (BASE + 3 * PAGE, (1 << 20) + 3 * PAGE, 6 * PAGE)
    );
    assert_eq!(around(&space, BASE, all.clone()), (BASE, 1 << 20, 2 * PAGE));
    assert_eq!(around(&space, BASE + (1 << 30) + PAGE, all), (BASE + (1 << 30), 0, 1 << 20));
    let window = BASE + 4 * PAGE..BASE + 6 * PAGE;
    assert_eq!(around(&space, BASE + 5 * PAGE, window), (BASE + 4 * PAGE, (1 << 20) + 4 * PAGE, 2 * PAGE));
    // A window that ends within the page is at least the page.
    let within = BASE + 5 * PAGE..BASE + 5 * PAGE + 1;
    assert_eq!(around(&space, BASE + 5 * PAGE, within).2 / PAGE, 1);
}

#[test]
fn the_next_missing_page_is_found() {
    let mut space = space();
    space.set(BASE..BASE + 700 * PAGE, Kind::There);
    let first = space.find(BASE).unwrap();
    assert_eq!(space.next_missing(first, u64::MAX), space.find(BASE + 700 * PAGE));
    assert_eq!(space.next_missing(first, 700 * PAGE), None);
}

#[test]
fn huge_pages_are_whole() {
    let huge = 2 << 20;
    let mut space = Space::new(&[Mapping { address: BASE, len: 4 * huge, offset: 0, page_bytes: huge }]);
    let spot = space.find(BASE + huge + 4096).unwrap();
    assert_eq!(space.place(spot), (BASE + huge, huge, huge));
    // A part of a page is no page.
    space.set(BASE + 1..BASE + huge + 1, Kind::There);
    assert_eq!(space.kind(space.find(BASE).unwrap()), Kind::Missing);
    space.set(BASE..BASE + huge, Kind::There);
    assert_eq!(space.kind(space.find(BASE + 4096).unwrap()), Kind::There);
    let window = BASE + huge..BASE + huge + 65536;
    assert_eq!(space.alike(spot, &window).place(&space), (BASE + huge, huge, huge));
}
