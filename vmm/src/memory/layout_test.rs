use super::*;

const GIB: u64 = 1 << 30;

#[test]
fn ram_up_to_the_hole_is_one_region() {
    for bytes in [MIN_RAM, 256 << 20, 3 * GIB] {
        let layout = RamLayout::new(bytes).unwrap();
        assert_eq!(layout.regions(), [RamRegion { base: 0, len: bytes }]);
        assert_eq!(layout.low_end(), bytes);
    }
}

#[test]
fn ram_past_the_hole_goes_on_at_4_gib_and_none_is_lost() {
    for bytes in [3 * GIB + PAGE_SIZE, 4 * GIB, MAX_RAM] {
        let regions = RamLayout::new(bytes).unwrap().regions();
        assert_eq!(regions[0], RamRegion { base: 0, len: 3 * GIB });
        assert_eq!(regions[1], RamRegion { base: 4 * GIB, len: bytes - 3 * GIB });
        assert_eq!(regions.len(), 2);
    }
    assert_eq!(RamLayout::new(MAX_RAM).unwrap().regions()[1].end(), 1 << 40);
}

#[test]
fn odd_amounts_are_refused() {
    for bytes in [0, MIN_RAM - PAGE_SIZE, MAX_RAM + PAGE_SIZE, !(PAGE_SIZE - 1)] {
        assert_eq!(RamLayout::new(bytes), Err(Error::OutOfRange { bytes }));
    }
    for bytes in [1, MIN_RAM + 1, u64::MAX] {
        assert_eq!(RamLayout::new(bytes), Err(Error::Unaligned { bytes }));
    }
}

/// Everything that is written for a booting guest has its own place, and all of it is RAM of the smallest
/// guest.
#[test]
fn boot_data_does_not_overlap() {
    let places = [
        (GDT, 0x100),
        (PVH_START_INFO, PAGE_SIZE),
        (ZERO_PAGE, PAGE_SIZE),
        (PAGE_TABLES, PAGE_TABLES_END - PAGE_TABLES),
        (CMDLINE, CMDLINE_MAX),
        (ACPI_START, ACPI_END - ACPI_START),
        (MP_TABLE, PAGE_SIZE),
        (GENERATION_ID, PAGE_SIZE),
        (VMCLOCK, PAGE_SIZE),
        (KERNEL_START, 1),
    ];
    for pair in places.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
    }
    const { assert!(KERNEL_START < MIN_RAM) };
}

#[test]
fn devices_lie_in_the_hole() {
    for (base, len) in [
        (VIRTIO_MMIO_START, PAGE_SIZE),
        (IOAPIC, PAGE_SIZE),
        (LAPIC, PAGE_SIZE),
        (KVM_IDENTITY_MAP, PAGE_SIZE),
        (KVM_TSS, 3 * PAGE_SIZE),
    ] {
        assert!(base >= MMIO_HOLE_START && base + len <= MMIO_HOLE_END, "{base:#x}");
    }
    assert_eq!(KVM_IDENTITY_MAP + PAGE_SIZE, KVM_TSS);
}
