//! The i8042 keyboard controller at I/O 0x60 and 0x64, interrupt 1, with a keyboard and without a mouse.
//!
//! It is there for two things: a guest resets the machine through it, and a host presses Ctrl-Alt-Del on it. All the
//! rest answers the questions that a stock driver asks while it probes (Linux's `i8042` and `atkbd`), because a
//! question without an answer costs the guest half a second.
//!
//! One range covers both ports. The three between them are left alone: 0x61 belongs to the timer in the kernel, which
//! sees it first.

mod keyboard;
mod saved;

#[cfg(test)]
mod i8042_test;

use keyboard::Keyboard;

pub use saved::SECTION;

use crate::bus::BusDevice;
use crate::irq::IrqLine;
use crate::lifecycle::{Effect, StopReason};

/// First I/O port: the data port.
pub const BASE: u64 = 0x60;
/// Number of ports, up to and including the command port, 0x64.
pub const LEN: u64 = 5;
/// The interrupt that the line is to be bound to.
pub const GSI: u32 = 1;

/// Offsets of the two ports.
const DATA: u64 = 0;
const COMMAND: u64 = 4;

/// Status register: output buffer full; the last byte written was a command; keyboard not locked; the byte that waits
/// is from the auxiliary port; a device did not answer.
const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_AUX: u8 = 1 << 5;
const STATUS_TIMEOUT: u8 = 1 << 6;
/// Command byte: keyboard interrupt; auxiliary interrupt; the system flag, which the status register shows at the same
/// place; keyboard and auxiliary port disabled; translation to scan-code set 1.
const CONTROL_KEYBOARD_INTERRUPT: u8 = 1 << 0;
const CONTROL_AUX_INTERRUPT: u8 = 1 << 1;
const CONTROL_SYSTEM: u8 = 1 << 2;
const CONTROL_KEYBOARD_OFF: u8 = 1 << 4;
const CONTROL_AUX_OFF: u8 = 1 << 5;
const CONTROL_TRANSLATE: u8 = 1 << 6;
/// Output port: the reset line (active low) and A20.
const OUTPUT_PORT_IDLE: u8 = 0b11;
const OUTPUT_PORT_NO_RESET: u8 = 1 << 0;

/// Why a saved controller was refused, or a key could not be pressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// More bytes wait than the controller and its keyboard hold.
    #[error("{len} bytes wait to be read, which is more than the controller holds")]
    QueueOverrun {
        /// Bytes in the saved queue.
        len: usize,
    },
    /// A field holds what it never holds, or contradicts another.
    #[error("{field} cannot be {value:#04x}")]
    Impossible {
        /// The field's name.
        field: &'static str,
        /// Its saved value.
        value: u8,
    },
    /// The guest has switched the keyboard off, or has no driver that ever switched it on.
    #[error("the guest has switched its keyboard off")]
    KeyboardOff,
    /// The guest does not read what was typed before.
    #[error("the guest does not read its keyboard")]
    KeyboardFull,
}

/// A byte in the output buffer that is not the keyboard's, and the status bits that come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    byte: u8,
    flags: u8,
}

/// The controller.
pub struct I8042 {
    // Connections.
    irq: IrqLine,
    /// False from a restore until [`Self::raise_pending`].
    line_open: bool,
    // Guest-visible state.
    /// Whether the last byte written was a command.
    last_was_command: bool,
    /// The auxiliary port is always off, its interrupt never on.
    control: u8,
    output_port: u8,
    /// The command that waits for its byte on the data port: one that [`takes_argument`].
    pending: Option<u8>,
    /// The controller's own answer. It is read before anything of the keyboard's, and a later one replaces it.
    answer: Option<Answer>,
    keyboard: Keyboard,
}

/// Whether the next byte on the data port belongs to `command`.
fn takes_argument(command: u8) -> bool {
    matches!(command, 0x60..=0x7f | 0xd1..=0xd4)
}

impl I8042 {
    /// A controller as firmware leaves it: keyboard on and translated. `irq` is to be bound to [`GSI`].
    pub fn new(irq: IrqLine) -> Self {
        Self {
            irq,
            line_open: true,
            last_was_command: false,
            control: CONTROL_TRANSLATE | CONTROL_AUX_OFF | CONTROL_SYSTEM | CONTROL_KEYBOARD_INTERRUPT,
            output_port: OUTPUT_PORT_IDLE,
            pending: None,
            answer: None,
            keyboard: Keyboard::default(),
        }
    }

    /// Presses Ctrl, Alt and Del and releases them, all or nothing.
    pub fn send_ctrl_alt_del(&mut self) -> Result<(), Error> {
        if self.control & CONTROL_KEYBOARD_OFF != 0 {
            return Err(Error::KeyboardOff);
        }
        let before = self.interrupts();
        self.keyboard.press_ctrl_alt_del(self.translates())?;
        self.raise_if(!before);
        Ok(())
    }

    /// Interrupts the guest if a byte of the keyboard's waits. See [`super::DeviceSet::raise_pending`].
    ///
    /// The edge was raised when the byte arrived, but may not have reached the interrupt controllers before they were
    /// saved. A handler that comes once too often finds the output buffer empty and says so to nobody.
    pub fn raise_pending(&mut self) {
        self.line_open = true;
        self.raise_if(true);
    }

    /// Whether a byte of the keyboard's waits and the guest wants to be interrupted for it. The controller's own
    /// answers are polled for.
    fn interrupts(&self) -> bool {
        self.answer.is_none() && self.key_waits() && self.control & CONTROL_KEYBOARD_INTERRUPT != 0
    }

    fn key_waits(&self) -> bool {
        self.control & CONTROL_KEYBOARD_OFF == 0 && !self.keyboard.queue.is_empty()
    }

    fn translates(&self) -> bool {
        self.control & CONTROL_TRANSLATE != 0
    }

    /// Raises an edge for the byte that waits, if it is `new` at its place.
    fn raise_if(&self, new: bool) {
        if new && self.line_open && self.interrupts() {
            // Fails only when 2^64 - 2 edges wait in the eventfd already: then the guest has its interrupt.
            let _ = self.irq.pulse();
        }
    }

    /// All of the status register except the output-buffer bit.
    fn status_flags(&self) -> u8 {
        let command = if self.last_was_command { STATUS_COMMAND } else { 0 };
        STATUS_UNLOCKED | command | self.control & CONTROL_SYSTEM | self.answer.map_or(0, |a| a.flags)
    }

    fn status(&self) -> u8 {
        let full = self.answer.is_some() || self.key_waits();
        self.status_flags() | if full { STATUS_OUTPUT_FULL } else { 0 }
    }

    fn read_data(&mut self) -> u8 {
        if let Some(Answer { byte, flags: _ }) = self.answer.take() {
            self.raise_if(true);
            return byte;
        }
        if !self.key_waits() {
            return 0;
        }
        let byte = self.keyboard.queue.pop_front().unwrap_or(0);
        // The next byte moves up and raises its own edge.
        self.raise_if(true);
        byte
    }

    fn reply(&mut self, byte: u8) {
        self.answer = Some(Answer { byte, flags: 0 });
    }

    fn command(&mut self, command: u8) -> Effect {
        self.pending = takes_argument(command).then_some(command);
        match command {
            0x20 => self.reply(self.control),
            // The controller's other RAM, which nobody has a use for.
            0x21..=0x3f => self.reply(0),
            // Auxiliary port: on and off do nothing, and the test finds its clock line stuck, which is how a driver
            // learns that there is none. (A guest that leaves out the test sees that the port will not switch on.)
            0xa9 => self.reply(0x01),
            // Self-test passed; keyboard interface works.
            0xaa => {
                self.control |= CONTROL_SYSTEM;
                self.reply(0x55);
            }
            0xab => self.reply(0x00),
            0xad => self.control |= CONTROL_KEYBOARD_OFF,
            0xae => self.control &= !CONTROL_KEYBOARD_OFF,
            // Input port: the keyboard is not locked.
            0xc0 => self.reply(0x80),
            0xd0 => self.reply(self.output_port),
            // Pulses the output lines whose bits are 0; the lowest is the reset line.
            0xf0..=0xff if command & 1 == 0 => return Effect::Stop(StopReason::Reset),
            _ => {}
        }
        Effect::Continue
    }

    fn argument(&mut self, command: u8, byte: u8) -> Effect {
        match command {
            0x60 => self.control = (byte | CONTROL_AUX_OFF) & !CONTROL_AUX_INTERRUPT,
            0xd1 if byte & OUTPUT_PORT_NO_RESET == 0 => return Effect::Stop(StopReason::Reset),
            0xd1 => self.output_port = byte,
            // "Write keyboard output buffer": the byte comes back as if it had been typed.
            0xd2 => self.keyboard.push(byte, false),
            // "Write auxiliary output buffer": on a controller with that port the byte comes back as it went. Linux
            // must be answered at once but must not see its byte.
            0xd3 => self.answer = Some(Answer { byte: !byte, flags: STATUS_AUX }),
            // "Write to auxiliary device": nobody answered.
            0xd4 => self.answer = Some(Answer { byte: 0xfe, flags: STATUS_AUX | STATUS_TIMEOUT }),
            _ => {}
        }
        Effect::Continue
    }

    fn write_data(&mut self, byte: u8) -> Effect {
        if let Some(command) = self.pending.take() {
            return self.argument(command, byte);
        }
        // Talking to the keyboard switches its clock on again, as in the original controller.
        self.control &= !CONTROL_KEYBOARD_OFF;
        self.keyboard.write(byte, self.translates());
        Effect::Continue
    }

    fn write_port(&mut self, offset: u64, byte: u8) -> Effect {
        let before = self.interrupts();
        let effect = match offset {
            DATA => {
                self.last_was_command = false;
                self.write_data(byte)
            }
            COMMAND => {
                self.last_was_command = true;
                self.command(byte)
            }
            _ => Effect::Continue,
        };
        self.raise_if(!before);
        effect
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            match at {
                DATA => *byte = self.read_data(),
                COMMAND => *byte = self.status(),
                _ => {}
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let mut effect = Effect::Continue;
        for (at, &byte) in (offset..).zip(data) {
            let next = self.write_port(at, byte);
            if effect == Effect::Continue {
                effect = next;
            }
        }
        effect
    }
}
