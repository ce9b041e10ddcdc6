use std::collections::BTreeMap;

use acpi_tables::aml::{self, Name};

use super::*;
use crate::memory::ram_at;

type Memory = GuestRam;

fn memory() -> Memory {
    ram_at(&[(GuestAddress(0), layout::MIN_RAM as usize)])
}

fn bytes(memory: &Memory, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A table at `at`, its length and checksum checked.
fn table_at(memory: &Memory, at: u64) -> Vec<u8> {
    let len = u32_at(&bytes(memory, at, 8), 4) as usize;
    assert!(at >= layout::ACPI_START && at + len as u64 <= layout::ACPI_END, "{at:#x}+{len:#x}");
    bytes(memory, at, len)
}

/// Follows the pointers as a kernel does: RSDP, XSDT, every table in it, and what the FADT points to.
fn tables(cpus: u32, devices: &[Device<'_>]) -> BTreeMap<String, Vec<u8>> {
    let memory = memory();
    let rsdp = write(&memory, cpus, devices).unwrap();
    let rsdp = bytes(&memory, rsdp, 36);
    assert_eq!((&rsdp[..8], rsdp[15]), (&b"RSD PTR "[..], 2));
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
    let xsdt = table_at(&memory, u64_at(&rsdp, 24));
    let mut found: Vec<_> = xsdt[36..].chunks(8).map(|entry| table_at(&memory, u64_at(entry, 0))).collect();
    let fadt = found.iter().find(|table| table.starts_with(b"FACP")).unwrap();
    let (dsdt, facs) = (table_at(&memory, u64_at(fadt, 140)), table_at(&memory, u32_at(fadt, 36).into()));
    assert!(facs.starts_with(b"FACS") && facs.len() == 64 && u32_at(fadt, 36).is_multiple_of(64));
    found.extend([xsdt, dsdt]);
    for table in &found {
        assert_eq!(sum(table), 0, "{}", String::from_utf8_lossy(&table[..4]));
    }
    found.into_iter().map(|table| (String::from_utf8(table[..4].to_vec()).unwrap(), table)).collect()
}

#[test]
fn every_table_is_found_and_sums_to_zero() {
    for cpus in [1, 2, MAX_CPUS] {
        let names: Vec<_> = tables(cpus, &[]).into_keys().collect();
        assert_eq!(names, ["APIC", "DSDT", "FACP", "XSDT"]);
    }
}

#[test]
fn the_fadt_describes_a_pc_without_a_power_management_timer() {
    let fadt = &tables(1, &[])["FACP"];
    let u16_at = |at: usize| u16::from_le_bytes(fadt[at..at + 2].try_into().unwrap());
    assert_eq!((u16_at(46), u32_at(fadt, 48), fadt[52], fadt[53]), (9, 0, 0, 0)); // SCI, SMI_CMD, enable, disable
    assert_eq!((u32_at(fadt, 56), fadt[88]), (0x600, 4)); // PM1a_EVT
    assert_eq!((u32_at(fadt, 64), fadt[89]), (0x604, 2)); // PM1a_CNT
    assert_eq!((u32_at(fadt, 76), fadt[91], u64_at(fadt, 208 + 4)), (0, 0, 0)); // PM_TMR
    assert_eq!(u32_at(fadt, 40), u64_at(fadt, 140) as u32); // both DSDT addresses
    assert_eq!(u64_at(fadt, 132), 0); // X_FIRMWARE_CTRL
    assert_eq!(u16_at(109), 0b111); // IAPC_BOOT_ARCH
    let flags = u32_at(fadt, 112);
    assert_ne!(flags & 1 << 10, 0, "RESET_REG_SUP");
    assert_eq!(flags & 1 << 20, 0, "HW_REDUCED_ACPI");
    assert_eq!((fadt[116], fadt[117], u64_at(fadt, 120), fadt[128]), (1, 8, 0x60C, 1)); // RESET_REG, its value
    assert_eq!((u64_at(fadt, 148 + 4), u64_at(fadt, 172 + 4)), (0x600, 0x604)); // X_PM1a_EVT, X_PM1a_CNT
}

#[test]
fn the_madt_has_every_cpu_and_one_override() {
    for cpus in [1, 2, 32] {
        let madt = &tables(cpus, &[])["APIC"];
        assert_eq!((u32_at(madt, 36), u32_at(madt, 40)), (0xFEE0_0000, 1));
        let mut structures = Vec::new();
        let mut rest = &madt[44..];
        while let [kind, len, ..] = *rest {
            structures.push((kind, &rest[2..usize::from(len)]));
            rest = &rest[usize::from(len)..];
        }
        let of = |kind: u8| structures.iter().filter(move |s| s.0 == kind).map(|s| s.1).collect::<Vec<_>>();
        let lapics: Vec<_> = (0..cpus as u8).map(|id| vec![id, id, 1, 0, 0, 0]).collect();
        assert_eq!(of(0), lapics);
        assert_eq!(of(1), [[0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0]]);
        assert_eq!(of(2), [[0, 9, 9, 0, 0, 0, 0xD, 0]]);
        assert_eq!(of(4), [[0xFF, 0, 0, 1]]);
    }
}

fn contains(table: &[u8], what: &[u8]) -> bool {
    table.windows(what.len()).any(|window| window == what)
}

#[test]
fn the_dsdt_has_a_processor_for_every_cpu() {
    let dsdt = &tables(32, &[])["DSDT"];
    for uid in 0..32 {
        assert!(contains(dsdt, format!("C{uid:03}").as_bytes()));
    }
    assert!(!contains(dsdt, b"C032"));
    assert!(contains(dsdt, b"_S5_\x12\x07\x04\x0A\x05\x00\x00\x00"));
    assert!(contains(dsdt, b"QEMU0001\0"));
}

#[test]
fn later_devices_are_described_too() {
    let id = Name::new("_HID".into(), &"LNRO0005");
    let device = aml::Device::new("VR00".into(), vec![&id]);
    let without = tables(1, &[])["DSDT"].len();
    let dsdt = &tables(1, &[&device])["DSDT"];
    assert!(contains(dsdt, b"VR00") && contains(dsdt, b"LNRO0005\0"));
    assert!(dsdt.len() > without);
}

#[test]
fn too_many_or_no_cpus_are_refused() {
    for cpus in [0, 33, u32::MAX] {
        assert!(matches!(write(&memory(), cpus, &[]), Err(Error::Cpus { cpus: said }) if said == cpus));
    }
}

#[test]
fn tables_that_do_not_fit_are_refused_before_anything_is_written() {
    let long = Name::new("LONG".into(), &"x".repeat(0x2_0000));
    let memory = memory();
    assert!(matches!(write(&memory, 1, &[&long]), Err(Error::TooLong { .. })));
    assert_eq!(bytes(&memory, layout::ACPI_START, 64), [0; 64]);
}
