//! The MC146818 real-time clock and its 128 bytes of CMOS memory, at I/O 0x70 and 0x71.
//!
//! The clock does not tick: it is the host's wall clock (UTC) plus an offset, which changes when the guest sets the
//! time. So it is right after a restore however long the image lay on the shelf.
//!
//! There is no interrupt: alarm, periodic and update interrupts never fire and register C reads as 0. Alarm registers
//! are kept and read back. The machine must not promise the guest an IRQ 8.

mod calendar;
mod saved;

#[cfg(test)]
mod calendar_test;
#[cfg(test)]
mod rtc_test;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use calendar::{Civil, Format};

pub use saved::SECTION;

use crate::bus::BusDevice;
use crate::clock::WallClock;
use crate::lifecycle::Effect;

/// First I/O port: the index.
pub const BASE: u64 = 0x70;
/// Number of ports: index and data.
pub const LEN: u64 = 2;
/// The register that holds the century, for the FADT.
pub const CENTURY: u8 = 0x32;

/// Bytes of CMOS memory, registers included.
const CMOS: usize = 128;
/// The registers that follow the clock: seconds, minutes, hours, day of the week, day, month, year, century.
const TIME: [u8; 8] = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, CENTURY];
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const REGISTER_D: u8 = 0x0d;

/// Register A: update in progress.
const UIP: u8 = 1 << 7;
/// Register A after reset, as firmware leaves it: 32768 Hz time base, 1024 Hz rate.
const REGISTER_A_RESET: u8 = 0x26;
/// Register B: the guest holds the time registers still to set them; binary instead of BCD; 24 hours instead of 12.
const SET: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
/// Register D: valid RAM and time, always: the battery is never flat.
const VRT: u8 = 1 << 7;
/// The index port's top bit masks NMIs, which this machine has no use for.
const INDEX: u8 = 0x7f;

/// How long before the next second UIP is set: what the data sheet promises a guest that finds it clear.
const UPDATE_NOTICE: Duration = Duration::from_micros(244);

/// The widest offset that setting the clock can bring about, in seconds: ten thousand years.
const OFFSET_MAX: i64 = 10_000 * 366 * 86_400;

/// Why a saved clock was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The CMOS memory has another size.
    #[error("the CMOS memory has {len} bytes, not {CMOS}")]
    CmosLength {
        /// Its saved length in bytes.
        len: usize,
    },
    /// The register selected is beyond the CMOS memory.
    #[error("the selected register {index:#04x} does not exist")]
    Index {
        /// The saved index.
        index: u8,
    },
    /// A register holds what it never holds.
    #[error("register {register:#04x} cannot hold {value:#04x}")]
    ImpossibleRegister {
        /// Its number.
        register: u8,
        /// Its saved value.
        value: u8,
    },
    /// The guest's clock is further from the host's than a guest can set it.
    #[error("the clock cannot be {seconds} s away from the host's")]
    Offset {
        /// The saved offset in seconds.
        seconds: i64,
    },
}

/// The clock.
pub struct Rtc {
    // Connections.
    clock: Arc<dyn WallClock>,
    // Guest-visible state.
    /// Below `CMOS`.
    index: u8,
    /// The registers of `TIME` are 0 unless SET is; so are C, D and the UIP bit of A, always.
    cmos: [u8; CMOS],
    /// Guest's clock minus host's clock, within `OFFSET_MAX` either way.
    offset_seconds: i64,
}

impl Rtc {
    /// A clock that shows the time of `clock`.
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        let mut cmos = [0; CMOS];
        cmos[usize::from(REGISTER_A)] = REGISTER_A_RESET;
        cmos[usize::from(REGISTER_B)] = HOURS_24;
        Self { clock, index: 0, cmos, offset_seconds: 0 }
    }

    /// The host's time: seconds since 1970, within the years that the registers can show, and the rest of the second.
    fn host_time(&self) -> (i64, Duration) {
        let now = self.clock.now();
        let (seconds, rest) = match now.duration_since(UNIX_EPOCH) {
            Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
            // Before 1970 only whole seconds count.
            Err(before) => (i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s), 0),
        };
        (calendar::clamp(seconds), Duration::from_nanos(rest.into()))
    }

    /// The guest's time, seconds since 1970.
    fn guest_seconds(&self) -> i64 {
        calendar::clamp(self.host_time().0.saturating_add(self.offset_seconds))
    }

    fn is_held(&self) -> bool {
        self.register_b() & SET != 0
    }

    fn register_b(&self) -> u8 {
        self.cmos[usize::from(REGISTER_B)]
    }

    fn format(&self) -> Format {
        let b = self.register_b();
        Format { binary: b & BINARY != 0, hours_24: b & HOURS_24 != 0 }
    }

    /// What the time registers show now, in the order of [`TIME`].
    fn running(&self) -> [u8; 8] {
        Civil::from_unix(self.guest_seconds()).to_registers(self.format())
    }

    /// Sets the clock by the time registers. A date that does not exist leaves the clock as it is.
    fn set_clock(&mut self, registers: [u8; 8]) {
        if let Some(civil) = Civil::from_registers(registers, self.format()) {
            self.offset_seconds = civil.to_unix() - self.host_time().0;
        }
    }

    fn read_register(&self) -> u8 {
        let stored = self.cmos[usize::from(self.index)];
        match self.index {
            REGISTER_A if !self.is_held() && self.host_time().1 >= Duration::from_secs(1) - UPDATE_NOTICE => {
                stored | UIP
            }
            REGISTER_D => VRT,
            index if !self.is_held() => match TIME.iter().position(|&t| t == index) {
                Some(at) => self.running()[at],
                None => stored,
            },
            _ => stored,
        }
    }

    fn write_register(&mut self, value: u8) {
        let index = usize::from(self.index);
        match self.index {
            REGISTER_A => self.cmos[index] = value & !UIP,
            REGISTER_B => self.write_register_b(value),
            REGISTER_C | REGISTER_D => {}
            time if !self.is_held() && TIME.contains(&time) => {
                let mut registers = self.running();
                for (register, _) in registers.iter_mut().zip(TIME).filter(|&(_, at)| at == time) {
                    *register = value;
                }
                self.set_clock(registers);
            }
            _ => self.cmos[index] = value,
        }
    }

    /// The registers stand still from the moment SET is set; the clock is set by them when it is cleared.
    fn write_register_b(&mut self, value: u8) {
        let (was_held, running) = (self.is_held(), self.running());
        self.cmos[usize::from(REGISTER_B)] = value;
        match (was_held, self.is_held()) {
            (false, true) => {
                for (at, byte) in TIME.into_iter().zip(running) {
                    self.cmos[usize::from(at)] = byte;
                }
            }
            (true, false) => {
                let registers = TIME.map(|at| std::mem::take(&mut self.cmos[usize::from(at)]));
                self.set_clock(registers);
            }
            (true, true) | (false, false) => {}
        }
    }
}

impl BusDevice for Rtc {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            // The index port cannot be read: its bytes stay ones.
            if at == 1 {
                *byte = self.read_register();
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        for (at, &byte) in (offset..).zip(data) {
            match at {
                0 => self.index = byte & INDEX,
                _ => self.write_register(byte),
            }
        }
        Effect::Continue
    }
}
