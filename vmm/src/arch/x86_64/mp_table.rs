//! The MP table (Intel MultiProcessor Specification 1.4): processors and interrupts for kernels without ACPI, which
//! find virtio-mmio devices by their command line. A kernel that reads the MADT does not look here.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::gsi;
use crate::memory::GuestRam;
use crate::memory::layout;

#[cfg(test)]
#[path = "mp_table_test.rs"]
mod mp_table_test;

/// MP specification 1.4, as both headers say it.
const REVISION: u8 = 4;
/// Bytes of the floating pointer structure (4.1).
const POINTER_LEN: usize = 16;
/// Bytes of the configuration table's header (4.2).
const HEADER_LEN: usize = 44;
/// What the LAPICs and the IOAPIC of KVM say of their versions.
const LAPIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
/// The only bus. All interrupts are described as its, because then a kernel numbers them by their pins and takes them for
/// edge-triggered and active high, as they are.
const ISA: u8 = 0;
/// Where the second 8259 is connected: no device has it.
const CASCADE: u8 = 2;

/// Types of interrupts (4.3.4).
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Every processor, as the target of a local interrupt.
const ALL: u8 = 0xFF;

/// Writes the table of a machine with `cpus` vCPUs, whose APIC ids are 0, 1, 2 and so on, and the pointer before it by
/// which kernels find it.
///
/// # Errors
/// Guest memory ends before [`layout::MP_TABLE`].
pub fn write(memory: &GuestRam, cpus: u32) -> Result<(), GuestMemoryError> {
    let table = table(cpus);
    debug_assert!(POINTER_LEN + table.len() <= (layout::GENERATION_ID - layout::MP_TABLE) as usize);
    let at = layout::MP_TABLE + POINTER_LEN as u64;
    memory.write_slice(&[pointer(at as u32).as_slice(), &table].concat(), GuestAddress(layout::MP_TABLE))
}

/// The floating pointer structure: a table follows, and the 8259s are connected to LINT0 (no IMCR).
fn pointer(table: u32) -> [u8; POINTER_LEN] {
    let [t0, t1, t2, t3] = table.to_le_bytes();
    let mut pointer = [b'_', b'M', b'P', b'_', t0, t1, t2, t3, 1, REVISION, 0, 0, 0, 0, 0, 0];
    pointer[10] = balance(&pointer);
    pointer
}

fn table(cpus: u32) -> Vec<u8> {
    // Ids are unique among all APICs here.
    let (cpus, ioapic) = (cpus as u8, cpus as u8);
    let mut entries: Vec<Vec<u8>> = (0..cpus).map(processor).collect();
    entries.push([&[1, ISA][..], b"ISA   "].concat());
    entries.push([&[2, ioapic, IOAPIC_VERSION, 1][..], &(layout::IOAPIC as u32).to_le_bytes()].concat());
    let pins = (0..gsi::COUNT as u8).filter(|pin| *pin != CASCADE);
    entries.extend(pins.map(|pin| vec![3, INT, 0, 0, ISA, pin, ioapic, pin]));
    entries.push(vec![4, EXT_INT, 0, 0, ISA, 0, 0, 0]);
    entries.push(vec![4, NMI, 0, 0, ISA, 0, ALL, 1]);

    let len = HEADER_LEN + entries.iter().map(Vec::len).sum::<usize>();
    let mut table = b"PCMP".to_vec();
    table.extend((len as u16).to_le_bytes());
    table.extend([REVISION, 0]);
    table.extend(b"REKINDLEREKINDLE    ");
    // No table of the maker's own.
    table.extend([0; 6]);
    table.extend((entries.len() as u16).to_le_bytes());
    table.extend((layout::LAPIC as u32).to_le_bytes());
    // No extended table.
    table.extend([0; 4]);
    table.extend(entries.concat());
    table[7] = balance(&table);
    table
}

/// A processor (4.3.1), in use; the first one boots. What CPUID says of it is left to CPUID.
fn processor(id: u8) -> Vec<u8> {
    let flags = if id == 0 { 0b11 } else { 0b01 };
    [&[0, id, LAPIC_VERSION, flags][..], &[0; 16]].concat()
}

/// What brings the sum of all bytes to 0.
fn balance(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)).wrapping_neg()
}
