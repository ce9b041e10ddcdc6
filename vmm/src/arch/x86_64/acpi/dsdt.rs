//! DSDT: the devices that are always there, in AML, and the ones the machine was given.

use acpi_tables::Aml;
use acpi_tables::aml::{self, EISAName, IO, Interrupt, Name, Package, ResourceTemplate, Scope};
use acpi_tables::sdt::Sdt;

use super::{Device, SLEEP_TYPE_S5, identity, port};
use crate::arch::x86_64::gsi;

/// From revision 2 on, AML's integers have 64 bits.
const REVISION: u8 = 2;
/// `_STA`: present, enabled, shown, working.
pub(super) const PRESENT: u8 = 0x0F;

/// `cpus` is at most 32.
pub(super) fn table(cpus: u32, devices: &[Device<'_>]) -> Sdt {
    let mut body = Vec::new();
    sleep_states(&mut body);
    let mut inside = Vec::new();
    (0..cpus as u8).for_each(|uid| processor(uid, &mut inside));
    serial(&mut inside);
    clock(&mut inside);
    keyboard(&mut inside);
    pvpanic(&mut inside);
    identity::devices(&mut inside);
    motherboard(&mut inside);
    devices.iter().for_each(|device| device.to_aml_bytes(&mut inside));
    body.extend(Scope::raw("_SB_".into(), inside));
    super::table(*b"DSDT", REVISION, &body)
}

/// Soft-off, and no other sleep state.
fn sleep_states(to: &mut Vec<u8>) {
    let (a, zero) = (SLEEP_TYPE_S5, aml::ZERO);
    Name::new("_S5_".into(), &Package::new(vec![&a, &zero, &zero, &zero])).to_aml_bytes(to);
}

/// The processor whose MADT entry has the same UID.
fn processor(uid: u8, to: &mut Vec<u8>) {
    let name = format!("C{uid:03}");
    device(&name, &"ACPI0007", uid, &[], to);
}

fn serial(to: &mut Vec<u8>) {
    let resources: [&dyn Aml; 2] = [&ports(port::COM1, 8), &isa_interrupt(gsi::SERIAL)];
    device("COM1", &EISAName::new("PNP0501"), 0, &resources, to);
}

fn clock(to: &mut Vec<u8>) {
    let resources: [&dyn Aml; 2] = [&ports(port::RTC, 2), &isa_interrupt(gsi::RTC)];
    device("RTC_", &EISAName::new("PNP0B00"), 0, &resources, to);
}

/// A keyboard and no mouse.
fn keyboard(to: &mut Vec<u8>) {
    let (data, command) = (ports(port::KEYBOARD_DATA, 1), ports(port::KEYBOARD_COMMAND, 1));
    let resources: [&dyn Aml; 3] = [&data, &command, &isa_interrupt(gsi::KEYBOARD)];
    device("PS2K", &EISAName::new("PNP0303"), 0, &resources, to);
}

fn pvpanic(to: &mut Vec<u8>) {
    device("PEVT", &"QEMU0001", 0, &[&ports(port::PVPANIC, 1)], to);
}

/// Ports that belong to no device of their own, so that nothing else is put there.
fn motherboard(to: &mut Vec<u8>) {
    let resources: [&dyn Aml; 2] = [&ports(port::READY, 1), &ports(port::PM1A_EVENT, port::POWER_LEN)];
    device("MBRD", &EISAName::new("PNP0C02"), 0, &resources, to);
}

/// `_CRS` is left out where there are no resources.
fn device(name: &str, hid: &dyn Aml, uid: u8, resources: &[&dyn Aml], to: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), hid);
    let uid = Name::new("_UID".into(), &uid);
    let status = Name::new("_STA".into(), &PRESENT);
    let current = Name::new("_CRS".into(), &ResourceTemplate::new(resources.to_vec()));
    let mut children: Vec<&dyn Aml> = vec![&hid, &uid, &status];
    if !resources.is_empty() {
        children.push(&current);
    }
    aml::Device::new(name.into(), children).to_aml_bytes(to);
}

fn ports(first: u16, len: u8) -> IO {
    IO::new(first, first, 1, len)
}

/// Active high, edge triggered, not shared.
fn isa_interrupt(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}
