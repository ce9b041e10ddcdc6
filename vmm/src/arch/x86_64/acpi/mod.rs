//! The ACPI tables: what a kernel is told of the machine. Full ACPI, not the hardware-reduced kind, because
//! the machine has a PC's 8259s, PIT, RTC and keyboard controller.
//!
//! Refuses to know what a later device is: it brings its own description, as AML.

use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, sdt::Sdt};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::memory::GuestRam;
use crate::memory::layout;

mod dsdt;
mod fadt;
mod identity;
mod madt;

#[cfg(test)]
mod acpi_test;

/// A device described to the guest beside the ones that are always there: for example a virtio-mmio device as
/// `LNRO0005`. It is put into the scope `\_SB`, and its name must not be one that the DSDT already has.
pub type Device<'a> = &'a dyn Aml;

/// The most vCPUs a guest may have.
pub const MAX_CPUS: u32 = 32;

/// I/O ports of the machine's own devices, as the tables tell the guest. Their emulation lives elsewhere.
pub mod port {
    /// PM1a event block: status and enable, 4 bytes.
    pub const PM1A_EVENT: u16 = 0x600;
    /// PM1a control block: 2 bytes.
    pub const PM1A_CONTROL: u16 = 0x604;
    /// Reset register: [`RESET_VALUE`] resets the machine.
    pub const RESET: u16 = 0x60C;
    /// What is written to [`RESET`].
    pub const RESET_VALUE: u8 = 1;
    /// All of the ports from [`PM1A_EVENT`] on that are ours.
    pub const POWER_LEN: u8 = 0x10;
    /// The readiness port.
    pub const READY: u16 = 0x5E0;
    /// pvpanic.
    pub const PVPANIC: u16 = 0x505;
    /// The first serial port: 8 bytes.
    pub const COM1: u16 = 0x3F8;
    /// The real-time clock: index and data.
    pub const RTC: u16 = 0x70;
    /// The keyboard controller: data.
    pub const KEYBOARD_DATA: u16 = 0x60;
    /// The keyboard controller: command and status.
    pub const KEYBOARD_COMMAND: u16 = 0x64;
}

/// SLP_TYP of the soft-off state: what the guest writes to PM1a_CNT, together with SLP_EN, to power off.
pub const SLEEP_TYPE_S5: u8 = 5;

const OEM_ID: [u8; 6] = *b"REKNDL";
const OEM_TABLE_ID: [u8; 8] = *b"REKINDLE";
const OEM_REVISION: u32 = 1;
/// Where a table of variable length keeps the length of its header (ACPI 6.5, 5.2.6).
const HEADER_LEN: u32 = 36;
/// FACS must be aligned to 64 bytes (ACPI 6.5, 5.2.10); one alignment for all is simplest.
const ALIGNMENT: u64 = 64;

/// Why the tables could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not 1 to [`MAX_CPUS`].
    #[error("cannot describe {cpus} vCPUs in ACPI tables: 1 to {MAX_CPUS} are possible")]
    Cpus {
        /// What was asked for.
        cpus: u32,
    },
    /// The devices' descriptions are too long for the place below 1 MiB.
    #[error("ACPI tables take {len} bytes, more than the {room} below 1 MiB")]
    TooLong {
        /// What they take, in bytes.
        len: u64,
        /// What there is, in bytes.
        room: u64,
    },
    /// Guest memory does not reach up to them.
    #[error("cannot write an ACPI table at {gpa:#x}")]
    Write {
        /// Guest-physical address of the table.
        gpa: u64,
        /// What guest memory said.
        #[source]
        source: GuestMemoryError,
    },
}

/// Tables laid out, not yet written.
struct Tables {
    /// Guest-physical address and bytes of each.
    placed: Vec<(u64, Vec<u8>)>,
    /// Where the next one goes, a multiple of [`ALIGNMENT`].
    next: u64,
}

impl Tables {
    /// Adds a table and returns its address.
    fn place(&mut self, table: &dyn Aml) -> u64 {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        let at = self.next;
        self.next = (at + bytes.len() as u64).next_multiple_of(ALIGNMENT);
        self.placed.push((at, bytes));
        at
    }

    /// All tables of a machine; the RSDP comes first, at [`layout::ACPI_START`].
    fn of_machine(cpus: u32, devices: &[Device<'_>]) -> Self {
        let rsdp_end = layout::ACPI_START + Rsdp::len() as u64;
        let mut tables = Self { placed: Vec::new(), next: rsdp_end.next_multiple_of(ALIGNMENT) };
        let facs = tables.place(&FACS::new());
        let dsdt = tables.place(&dsdt::table(cpus, devices));
        let fadt = tables.place(&fadt::table(facs, dsdt));
        let madt = tables.place(&madt::table(cpus));
        let mut root = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        root.add_entry(fadt);
        root.add_entry(madt);
        let xsdt = tables.place(&root);
        let mut rsdp = Vec::new();
        Rsdp::new(OEM_ID, xsdt).to_aml_bytes(&mut rsdp);
        tables.placed.push((layout::ACPI_START, rsdp));
        tables
    }
}

/// Writes the tables of a machine with `cpus` vCPUs, whose APIC ids are 0, 1, 2 and so on, and returns the
/// guest-physical address of the RSDP.
///
/// # Errors
/// `cpus` is not 1 to [`MAX_CPUS`], the tables do not fit below 1 MiB (many `devices`), or guest memory ends there.
pub fn write(memory: &GuestRam, cpus: u32, devices: &[Device<'_>]) -> Result<u64, Error> {
    if !(1..=MAX_CPUS).contains(&cpus) {
        return Err(Error::Cpus { cpus });
    }
    let tables = Tables::of_machine(cpus, devices);
    if tables.next > layout::ACPI_END {
        let room = layout::ACPI_END - layout::ACPI_START;
        return Err(Error::TooLong { len: tables.next - layout::ACPI_START, room });
    }
    for (gpa, bytes) in tables.placed {
        memory.write_slice(&bytes, GuestAddress(gpa)).map_err(|source| Error::Write { gpa, source })?;
    }
    Ok(layout::ACPI_START)
}

/// A table with our names in its header and `body` after it, its length and checksum right.
fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Sdt {
    let mut table = Sdt::new(signature, HEADER_LEN, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(body);
    table
}
