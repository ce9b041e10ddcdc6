//! The pvpanic port, 0x505: how a guest kernel says that it has panicked.
//!
//! The guest reads which events the device understands and writes one of them (the kernel's
//! `include/uapi/misc/pvpanic.h`). A guest with a crash kernel loaded reports that instead of the panic, and goes on
//! into the crash kernel: the machine must not be stopped under it.

mod saved;

#[cfg(test)]
mod pvpanic_test;

pub use saved::SECTION;

use crate::bus::BusDevice;
use crate::lifecycle::{Effect, StopReason};

/// The I/O port.
pub const BASE: u64 = 0x505;
/// Number of ports.
pub const LEN: u64 = 1;

/// The guest has panicked.
const PANICKED: u8 = 1 << 0;
/// The guest has panicked and runs its crash kernel now.
const CRASH_LOADED: u8 = 1 << 1;
/// What the device offers. Not the shutdown event: ACPI power-off says the same.
const OFFERED: u8 = PANICKED | CRASH_LOADED;

/// Why a saved port was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The image promises the guest events that this build does not know.
    #[error("pvpanic events {events:#04x} are not among {OFFERED:#04x}")]
    UnknownEvents {
        /// The saved event bits.
        events: u8,
    },
}

/// The pvpanic port.
#[derive(Debug)]
pub struct Pvpanic {
    // Connections.
    /// Whether the log has heard of the crash kernel: a guest may write as often as it likes.
    crash_logged: bool,
    // Guest-visible state.
    /// Bits offered to the guest: never more than `OFFERED`. State, because an older build may have offered fewer.
    events: u8,
}

impl Default for Pvpanic {
    fn default() -> Self {
        Self { crash_logged: false, events: OFFERED }
    }
}

impl BusDevice for Pvpanic {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        if let [byte, ..] = data {
            *byte = self.events;
        }
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Effect {
        let [byte, ..] = data else { return Effect::Continue };
        let event = byte & self.events;
        if event & PANICKED != 0 {
            return Effect::Stop(StopReason::Panic);
        }
        if event & CRASH_LOADED != 0 && !std::mem::replace(&mut self.crash_logged, true) {
            tracing::warn!("the guest has panicked and runs its crash kernel");
        }
        Effect::Continue
    }
}
