//! VMGenID and VMClock in AML, and the event device that says when they have changed. What the pages hold is
//! `device::identity`'s.

use acpi_tables::Aml;
use acpi_tables::aml::{
    self, Interrupt, Memory32Fixed, Method, Name, Notify, Package, Path, ResourceTemplate,
};

use super::dsdt::PRESENT;
use crate::arch::x86_64::gsi;
use crate::memory::layout;

/// What a driver is notified with: for VMGenID the value of Microsoft's specification, for VMClock that of
/// `linux/vmclock-abi.h`.
const CHANGED: u8 = 0x80;

/// The nodes, for the scope `\_SB`.
///
/// A change comes as an interrupt of a Generic Event Device (ACPI 6.5, 5.6.9) and not as a general-purpose event: Linux runs
/// the method of the former on the interrupt's own real-time thread (`acpi_ged_irq_handler`), that of the latter
/// later, from a work queue (`acpi_ev_gpe_dispatch`).
pub(super) fn devices(to: &mut Vec<u8>) {
    generation_id(to);
    vmclock(to);
    events(to);
}

/// "Virtual Machine Generation ID" (Microsoft, 2012): `ADDR` is a package of the address's low and high words.
fn generation_id(to: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), &"RKDL0001");
    let cid = Name::new("_CID".into(), &"VM_Gen_Counter");
    let ddn = Name::new("_DDN".into(), &"VM_Gen_Counter");
    let status = Name::new("_STA".into(), &PRESENT);
    let (low, high) = (layout::GENERATION_ID as u32, (layout::GENERATION_ID >> 32) as u32);
    let address = Name::new("ADDR".into(), &Package::new(vec![&low, &high]));
    aml::Device::new("VGEN".into(), vec![&hid, &cid, &ddn, &status, &address]).to_aml_bytes(to);
}

/// The ids are those that Linux's driver and QEMU have agreed on; the address is a resource like any other.
fn vmclock(to: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), &"AMZNC10C");
    let cid = Name::new("_CID".into(), &"VMCLOCK");
    let ddn = Name::new("_DDN".into(), &"VMCLOCK");
    let status = Name::new("_STA".into(), &PRESENT);
    let page = Memory32Fixed::new(false, layout::VMCLOCK as u32, layout::PAGE_SIZE as u32);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&page]));
    aml::Device::new("VCLK".into(), vec![&hid, &cid, &ddn, &status, &resources]).to_aml_bytes(to);
}

/// One interrupt for both, because they change together.
fn events(to: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), &"ACPI0013");
    let uid = Name::new("_UID".into(), &aml::ZERO);
    let status = Name::new("_STA".into(), &PRESENT);
    // Active high, edge triggered, not shared.
    let interrupt = Interrupt::new(true, true, false, false, gsi::IDENTITY);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&interrupt]));
    let (generation, clock) = (Path::new("VGEN"), Path::new("VCLK"));
    let (generation, clock) = (Notify::new(&generation, &CHANGED), Notify::new(&clock, &CHANGED));
    let event = Method::new("_EVT".into(), 1, true, vec![&generation, &clock]);
    aml::Device::new("GED0".into(), vec![&hid, &uid, &status, &resources, &event]).to_aml_bytes(to);
}
