//! FADT: the fixed hardware (ACPI 6.5, 5.2.9).

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, port};
use crate::arch::x86_64::gsi;

/// IAPC_BOOT_ARCH (5.2.9.3): the devices that an operating system cannot find by itself.
const LEGACY_DEVICES: u16 = 1 << 0;
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
/// Keeps the kernel from touching video memory, which is not there.
const VGA_NOT_PRESENT: u16 = 1 << 2;

/// Latencies above 100 and 1000 us say that there is no C2 and no C3.
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;
/// The CMOS byte that keeps the century.
const CENTURY: u8 = 0x32;

const PM1_EVENT_LEN: u8 = 4;
const PM1_CONTROL_LEN: u8 = 2;

/// `facs` and `dsdt` are their addresses, below 4 GiB.
///
/// SMI_CMD stays 0: there is no legacy mode to leave, and SCI_EN reads as set from the start. PM_TMR_BLK and
/// its length stay 0, which since ACPI 5.0 says that there is no power-management timer.
pub(super) fn table(facs: u64, dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // No power and sleep buttons among the fixed hardware, no RTC wake-up status bit.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    // The 64-bit field for FACS must be 0 when the 32-bit one is not; for the DSDT both are to agree.
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = (gsi::SCI as u16).into();
    fadt.pm1a_evt_blk = u32::from(port::PM1A_EVENT).into();
    fadt.pm1_evt_len = PM1_EVENT_LEN;
    fadt.x_pm1a_evt_blk = port_register(port::PM1A_EVENT, PM1_EVENT_LEN, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(port::PM1A_CONTROL).into();
    fadt.pm1_cnt_len = PM1_CONTROL_LEN;
    fadt.x_pm1a_cnt_blk = port_register(port::PM1A_CONTROL, PM1_CONTROL_LEN, AccessSize::WordAccess);
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = (LEGACY_DEVICES | KEYBOARD_CONTROLLER | VGA_NOT_PRESENT).into();
    fadt.reset_reg = port_register(port::RESET, 1, AccessSize::ByteAccess);
    fadt.reset_value = port::RESET_VALUE;
    fadt.finalize()
}

fn port_register(port: u16, len: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, len * 8, 0, access, u64::from(port))
}
