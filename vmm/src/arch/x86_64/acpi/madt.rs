//! MADT: the interrupt controllers (ACPI 6.5, 5.2.12).

use acpi_tables::Aml;
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;

use crate::arch::x86_64::gsi;
use crate::memory::layout;

/// ACPI 6.0's, the first with every structure that is used here and none that is missed.
const REVISION: u8 = 4;
/// The machine also has two 8259s.
const PCAT_COMPAT: u32 = 1;
/// Matches the id that KVM's IOAPIC resets to.
const IOAPIC_ID: u8 = 0;

/// Structure types.
const INTERRUPT_SOURCE_OVERRIDE: u8 = 2;
const LOCAL_APIC_NMI: u8 = 4;

/// MPS INTI flags (5.2.12.5): active high, level triggered. Without an override an ISA interrupt is edge triggered and
/// its number is its GSI.
const HIGH_LEVEL: u16 = 0b11_01;

/// `cpus` is at most 32; processor UIDs and APIC ids both count from 0.
pub(super) fn table(cpus: u32) -> Sdt {
    let mut body = Vec::new();
    body.extend((layout::LAPIC as u32).to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for id in 0..cpus as u8 {
        ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
    }
    IoApic::new(IOAPIC_ID, layout::IOAPIC as u32, 0).to_aml_bytes(&mut body);
    body.extend(interrupt_source_override(gsi::SCI as u8, gsi::SCI, HIGH_LEVEL));
    body.extend(lint1_is_nmi());
    super::table(*b"APIC", REVISION, &body)
}

/// ISA interrupt `source` arrives as `gsi` (5.2.12.5).
fn interrupt_source_override(source: u8, gsi: u32, flags: u16) -> [u8; 10] {
    let ([g0, g1, g2, g3], [f0, f1]) = (gsi.to_le_bytes(), flags.to_le_bytes());
    [INTERRUPT_SOURCE_OVERRIDE, 10, 0, source, g0, g1, g2, g3, f0, f1]
}

/// LINT1 of every processor (UID 0xFF) is the NMI (5.2.12.7), as KVM's `KVM_NMI` and every kernel expect.
fn lint1_is_nmi() -> [u8; 6] {
    [LOCAL_APIC_NMI, 6, 0xFF, 0, 0, 1]
}
