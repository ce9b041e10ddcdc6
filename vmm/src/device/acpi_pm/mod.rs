//! The ACPI fixed-hardware power-management block: how the guest powers the machine off, and resets it by ACPI.
//!
//! Registers (ACPI 6.5, 4.8.3), byte-addressed, so that an access of any width at any offset means its bytes:
//!
//! | port | register | here |
//! |---|---|---|
//! | 0x600 | PM1a_STS, 16 bits | write 1 to clear; nothing ever sets a bit |
//! | 0x602 | PM1a_EN, 16 bits | kept |
//! | 0x604 | PM1a_CNT, 16 bits | `SCI_EN` is always set; `SLP_EN` with `SLP_TYP` 5 powers off |
//! | 0x60c | RESET_REG, 8 bits | writing 1 resets |
//!
//! Everything between reads as zero. No system control interrupt is ever raised, so the block has no line.

mod saved;

#[cfg(test)]
mod acpi_pm_test;

pub use saved::SECTION;

use crate::bus::BusDevice;
use crate::lifecycle::{Effect, StopReason};

/// First I/O port.
pub const BASE: u64 = 0x600;
/// Number of ports.
pub const LEN: u64 = 0x10;
/// The I/O port of PM1a_EVT_BLK: status, then enable, 4 bytes.
pub const PM1_EVENT: u64 = BASE;
/// The I/O port of PM1a_CNT_BLK, 2 bytes.
pub const PM1_CONTROL: u64 = BASE + 4;
/// The I/O port of RESET_REG.
pub const RESET: u64 = BASE + 0xc;
/// The byte that resets when it is written to [`RESET`] (RESET_VALUE of the FADT).
pub const RESET_VALUE: u8 = 1;
/// The sleep type that powers the machine off: the first element of the DSDT's `\_S5` package.
pub const SLEEP_TYPE_S5: u8 = 5;

/// PM1 status and enable bits that ACPI defines: TMR, BM, GBL, PWRBTN, SLPBTN, RTC, PCIEXP_WAKE, WAK.
const STATUS_BITS: u16 = 0xc731;
/// TMR_EN, GBL_EN, PWRBTN_EN, SLPBTN_EN, RTC_EN, PCIEXP_WAKE_DIS.
const ENABLE_BITS: u16 = 0x4721;
/// The machine is in ACPI mode: there is no other.
const SCI_EN: u16 = 1;
/// BM_RLD and SLP_TYP: what a guest reads back as it wrote it. GBL_RLS and SLP_EN are write-only.
const CONTROL_BITS: u16 = 0x1c02;
/// SLP_EN, SLP_TYP and their place in the high byte of PM1a_CNT.
const SLP_EN_HIGH: u8 = 1 << 5;
const SLP_TYP_HIGH_SHIFT: u8 = 2;
const SLP_TYP_MASK: u8 = 7;

/// Why a saved block was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A register holds bits that it never holds.
    #[error(
        "PM1 registers hold impossible bits: status {status:#06x}, enable {enable:#06x}, control {control:#06x}"
    )]
    ImpossibleRegisters {
        /// PM1a_STS.
        status: u16,
        /// PM1a_EN.
        enable: u16,
        /// PM1a_CNT.
        control: u16,
    },
}

/// The power-management block.
#[derive(Debug)]
pub struct AcpiPm {
    // Guest-visible state.
    status: u16,
    enable: u16,
    /// `SCI_EN` is set and only `CONTROL_BITS` beside it.
    control: u16,
}

impl Default for AcpiPm {
    fn default() -> Self {
        Self { status: 0, enable: 0, control: SCI_EN }
    }
}

impl AcpiPm {
    fn read_byte(&self, offset: u64) -> u8 {
        let [status, enable, control] = [self.status, self.enable, self.control].map(u16::to_le_bytes);
        match offset {
            0 | 1 => status[offset as usize],
            2 | 3 => enable[offset as usize - 2],
            4 | 5 => control[offset as usize - 4],
            _ => 0,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Effect {
        match offset {
            0 | 1 => self.status &= !in_word(offset, value),
            2 | 3 => self.enable = merge(self.enable, offset, value) & ENABLE_BITS,
            4 | 5 => {
                self.control = merge(self.control, offset, value) & CONTROL_BITS | SCI_EN;
                let sleep_type = value >> SLP_TYP_HIGH_SHIFT & SLP_TYP_MASK;
                if offset == 5 && value & SLP_EN_HIGH != 0 {
                    if sleep_type == SLEEP_TYPE_S5 {
                        return Effect::Stop(StopReason::PowerOff);
                    }
                    tracing::debug!(
                        sleep_type,
                        "the guest asked for a sleep state that the machine does not have"
                    );
                }
            }
            0xc if value == RESET_VALUE => return Effect::Stop(StopReason::Reset),
            _ => {}
        }
        Effect::Continue
    }
}

/// A byte at its place in a 16-bit register that starts at an even offset.
fn in_word(offset: u64, value: u8) -> u16 {
    u16::from(value) << (8 * (offset & 1))
}

/// `word` with the byte at `offset` replaced.
fn merge(word: u16, offset: u64, value: u8) -> u16 {
    word & !in_word(offset, 0xff) | in_word(offset, value)
}

impl BusDevice for AcpiPm {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.read_byte(at);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let mut effect = Effect::Continue;
        for (at, &byte) in (offset..).zip(data) {
            // The first reason to stop wins; the rest of the access still reaches its registers.
            let next = self.write_byte(at, byte);
            if effect == Effect::Continue {
                effect = next;
            }
        }
        effect
    }
}
