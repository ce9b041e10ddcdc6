//! The keyboard behind the controller: the commands that drivers send while they probe, and three keys.

use std::collections::VecDeque;

use super::Error;

/// The most bytes that wait. With the controller's own answer they stay below 16, at which Linux's driver
/// (`i8042_flush`) takes the controller for absent.
pub(super) const QUEUE: usize = 14;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;

/// Ctrl, Alt and Del pressed, then released in reverse order: scan-code set 1, which is also what the controller makes
/// of set 2.
const CTRL_ALT_DEL_SET_1: &[u8] = &[0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d];
/// The same in set 2.
const CTRL_ALT_DEL_SET_2: &[u8] = &[0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14];

/// An AT keyboard.
#[derive(Debug)]
pub(super) struct Keyboard {
    /// What waits to be read, oldest first and translated already; at most [`QUEUE`].
    pub(super) queue: VecDeque<u8>,
    /// The command that waits for its byte: one that [`takes_argument`].
    pub(super) pending: Option<u8>,
    /// Whether what is typed is sent.
    pub(super) scanning: bool,
    /// 1 or 2.
    pub(super) scan_set: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self { queue: VecDeque::with_capacity(QUEUE), pending: None, scanning: true, scan_set: 2 }
    }
}

/// Whether the next byte belongs to `command`: LEDs, scan-code set, repeat rate.
pub(super) fn takes_argument(command: u8) -> bool {
    matches!(command, 0xed | 0xf0 | 0xf3)
}

impl Keyboard {
    /// Queues a byte for the guest. A guest that does not read loses it, as with a keyboard whose buffer is full.
    pub(super) fn push(&mut self, byte: u8, translate: bool) {
        if self.queue.len() < QUEUE {
            self.queue.push_back(if translate { translated(byte) } else { byte });
        }
    }

    pub(super) fn press_ctrl_alt_del(&mut self, translate: bool) -> Result<(), Error> {
        if !self.scanning {
            return Err(Error::KeyboardOff);
        }
        let codes = if translate || self.scan_set == 1 { CTRL_ALT_DEL_SET_1 } else { CTRL_ALT_DEL_SET_2 };
        if self.queue.len() + codes.len() > QUEUE {
            return Err(Error::KeyboardFull);
        }
        self.queue.extend(codes);
        Ok(())
    }

    /// A byte from the guest.
    pub(super) fn write(&mut self, byte: u8, translate: bool) {
        // No argument has its top bit set: such a byte is the next command, and the one before is forgotten.
        if let Some(command) = self.pending.take().filter(|_| byte < 0x80) {
            return self.argument(command, byte, translate);
        }
        match byte {
            // Echo.
            0xee => self.push(0xee, translate),
            0xed | 0xf0 | 0xf3 => {
                self.pending = Some(byte);
                self.push(ACK, translate);
            }
            // Identify: an MF2 keyboard.
            0xf2 => [ACK, 0xab, 0x83].into_iter().for_each(|b| self.push(b, translate)),
            // Enable; disable; defaults. All three forget what was typed.
            0xf4..=0xf6 => {
                self.reset(byte != 0xf5, byte == 0xf4);
                self.push(ACK, translate);
            }
            0xff => {
                self.reset(true, false);
                self.push(ACK, translate);
                self.push(SELF_TEST_PASSED, translate);
            }
            _ => self.push(RESEND, translate),
        }
    }

    /// Forgets what was typed; unless it is to `keep_set`, goes back to the default scan-code set too.
    fn reset(&mut self, scanning: bool, keep_set: bool) {
        self.queue.clear();
        self.scanning = scanning;
        if !keep_set {
            self.scan_set = 2;
        }
    }

    fn argument(&mut self, command: u8, byte: u8, translate: bool) {
        match (command, byte) {
            (0xf0, 0) => {
                self.push(ACK, translate);
                self.push(self.scan_set, translate);
            }
            (0xf0, 1 | 2) => {
                self.scan_set = byte;
                self.push(ACK, translate);
            }
            // Set 3 is refused; a driver then stays with what it has.
            (0xf0, _) => self.push(RESEND, translate),
            // Lamps and repeat rates are for people.
            _ => self.push(ACK, translate),
        }
    }
}

/// What the controller makes of a byte of set 2: of the bytes that this keyboard sends one at a time, only these
/// change.
fn translated(byte: u8) -> u8 {
    match byte {
        // The second byte of the identification.
        0x83 => 0x41,
        // The numbers of the scan-code sets.
        1 => 0x43,
        2 => 0x41,
        other => other,
    }
}
