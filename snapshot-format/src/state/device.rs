//! The devices that are emulated by the VMM itself and are always there. One section per device.

use crate::codec::prelude::*;

/// A 16550A UART. Section `serial:0`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the 16550's register names")]
pub struct SerialState {
    pub baud_divisor_low: u8,
    pub baud_divisor_high: u8,
    pub interrupt_enable: u8,
    pub interrupt_identification: u8,
    pub line_control: u8,
    pub line_status: u8,
    pub modem_control: u8,
    pub modem_status: u8,
    pub scratch: u8,
    /// Bytes received and not yet read by the guest, oldest first; at most the FIFO's 64.
    pub in_buffer: Vec<u8>,
}

/// The i8042 keyboard controller and the keyboard behind it. Section `i8042`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct I8042State {
    /// The status register (port 0x64) without its output-buffer bit, which follows from `output`.
    pub status: u8,
    /// The command byte ("controller configuration byte").
    pub control: u8,
    /// The output port (P2).
    pub output_port: u8,
    /// The controller command that waits for its data byte on port 0x60, 0 for none.
    pub pending_command: u8,
    /// The keyboard command that waits for its data byte on port 0x60, 0 for none.
    pub pending_keyboard_command: u8,
    /// Bytes waiting to be read from port 0x60, oldest first; at most 15.
    pub output: Vec<u8>,
    /// Whether the first byte of `output` is the controller's own answer; all others are the keyboard's.
    pub answer_first: bool,
    /// Whether the keyboard sends what is typed.
    pub keyboard_scanning: bool,
    /// The keyboard's scan-code set: 1 or 2.
    pub keyboard_scan_set: u8,
}

/// The MC146818 real-time clock and its CMOS memory. Section `rtc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct RtcState {
    /// The register selected through port 0x70: 0 to 127.
    pub index: u8,
    /// The 128 bytes of CMOS memory. The time registers among them count only while the guest holds the clock still
    /// (the SET bit of register B); otherwise they are 0, and the time follows the host's clock.
    pub cmos: Blob,
    /// What the guest's clock is ahead of the host's, in seconds: changed when the guest sets the time.
    pub offset_seconds: i64,
}

/// The ACPI fixed-hardware power-management block: PM1a event and control registers. Section `acpi-pm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct AcpiPmState {
    /// PM1a_STS.
    pub pm1_status: u16,
    /// PM1a_EN.
    pub pm1_enable: u16,
    /// PM1a_CNT.
    pub pm1_control: u16,
}

/// The devices by which a guest learns that it is a new instance. Section `identity`.
///
/// Only what ACPI has told the guest: the identity itself is never saved, because every restore makes a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct IdentityState {
    /// Guest-physical address of the generation ID, 16 bytes.
    pub generation_id: u64,
    /// Guest-physical address of the VMClock's page.
    pub vmclock: u64,
    /// The interrupt that says that they have changed.
    pub gsi: u32,
}

/// The readiness port. Section `ready-port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct ReadyPortState {
    /// The last byte that the guest wrote, 0 if none.
    pub last: u8,
}

/// The pvpanic port. Section `pvpanic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct PvpanicState {
    /// The events that the device offers to the guest (`PVPANIC_*` bits).
    pub events: u8,
}
