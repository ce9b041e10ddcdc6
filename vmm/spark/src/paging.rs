//! The page tables past the first GiB, which `cpu.s` maps: the rest of RAM, the interrupt controllers, virtio's registers.

use crate::apic;
use crate::boot::Ram;
use crate::memory::{self, PAGE};
use crate::virtio;

const GIB: u64 = 1 << 30;
const LARGE_PAGE: u64 = 2 << 20;
const ENTRIES: u64 = 512;

/// Present, writable, user.
const TABLE: u64 = 0x7;
/// The same, as a 2 MiB page.
const LARGE: u64 = 0x87;
/// The same, neither cached nor written back late.
const LARGE_DEVICE: u64 = LARGE | 0x18;

unsafe extern "C" {
    static PDPT: u8;
    static SPARK_END: u8;
}

/// Maps all of `ram` and the devices. New tables go behind spark itself; returns where they end.
///
/// Nothing is flushed: no entry is changed that was present before.
pub fn map(ram: &Ram) -> u64 {
    let mut end = (&raw const SPARK_END).addr() as u64;
    for range in ram.ranges() {
        for gib in range.start / GIB..range.end.div_ceil(GIB) {
            if memory::read::<u64>(directory_of(gib)) != 0 {
                continue;
            }
            // Whole GiBs: what is not RAM in them is never touched.
            for entry in 0..ENTRIES {
                store(end + entry * 8, (gib * GIB + entry * LARGE_PAGE) | LARGE);
            }
            store(directory_of(gib), end | TABLE);
            end += PAGE;
        }
    }
    for entry in 0..ENTRIES {
        store(end + entry * 8, 0);
    }
    for device in [virtio::REGISTERS, apic::IOAPIC, apic::LAPIC] {
        store(end + device % GIB / LARGE_PAGE * 8, (device / LARGE_PAGE * LARGE_PAGE) | LARGE_DEVICE);
    }
    store(directory_of(apic::LAPIC / GIB), end | TABLE);
    end + PAGE
}

/// Where the PDPT says which page directory maps the GiB number `gib`. Written when that directory is complete.
fn directory_of(gib: u64) -> u64 {
    (&raw const PDPT).addr() as u64 + gib * 8
}

fn store(address: u64, entry: u64) {
    // SAFETY: only `map` calls this, for the PDPT, which only the processor reads, and for pages behind spark's end
    // that nobody uses yet.
    unsafe { memory::write_volatile(address, entry) }
}
