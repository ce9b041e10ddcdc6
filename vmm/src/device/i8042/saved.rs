//! The keyboard controller to and from its section.

use snapshot_format::state::I8042State;

use super::keyboard::{self, Keyboard, QUEUE};
use super::{
    Answer, CONTROL_AUX_INTERRUPT, CONTROL_AUX_OFF, Error, I8042, OUTPUT_PORT_NO_RESET, STATUS_AUX,
    STATUS_COMMAND, STATUS_TIMEOUT, takes_argument,
};
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "i8042";

impl Persist for I8042 {
    type State = I8042State;
    /// The interrupt line, to be bound to [`super::GSI`].
    type Wiring = IrqLine;
    type Error = Error;

    fn save(&self, _at_rest: &Quiesced<'_>) -> I8042State {
        let Self {
            irq: _,
            line_open: _,
            last_was_command: _,
            control,
            output_port,
            pending,
            answer,
            keyboard,
        } = self;
        let Keyboard { queue, pending: keyboard_pending, scanning, scan_set } = keyboard;
        I8042State {
            // Holds `last_was_command` and the answer's flags.
            status: self.status_flags(),
            control: *control,
            output_port: *output_port,
            pending_command: pending.unwrap_or(0),
            pending_keyboard_command: keyboard_pending.unwrap_or(0),
            output: answer.iter().map(|a| a.byte).chain(queue.iter().copied()).collect(),
            answer_first: answer.is_some(),
            keyboard_scanning: *scanning,
            keyboard_scan_set: *scan_set,
        }
    }

    /// The line stays quiet until [`I8042::raise_pending`].
    fn restore(state: I8042State, irq: IrqLine) -> Result<Self, Error> {
        let I8042State {
            status,
            control,
            output_port,
            pending_command,
            pending_keyboard_command,
            mut output,
            answer_first,
            keyboard_scanning: scanning,
            keyboard_scan_set: scan_set,
        } = state;
        let keys = output.split_off(usize::from(answer_first).min(output.len()));
        if keys.len() > QUEUE {
            return Err(Error::QueueOverrun { len: output.len() + keys.len() });
        }
        let aux_is_absent = control & CONTROL_AUX_OFF != 0 && control & CONTROL_AUX_INTERRUPT == 0;
        let keyboard_pending_fits =
            pending_keyboard_command == 0 || keyboard::takes_argument(pending_keyboard_command);
        let checks = [
            ("command byte", control, aux_is_absent),
            ("output port", output_port, output_port & OUTPUT_PORT_NO_RESET != 0),
            ("pending command", pending_command, pending_command == 0 || takes_argument(pending_command)),
            ("pending keyboard command", pending_keyboard_command, keyboard_pending_fits),
            ("scan-code set", scan_set, matches!(scan_set, 1 | 2)),
            ("answer flag", u8::from(answer_first), answer_first != output.is_empty()),
        ];
        if let Some(&(field, value, _)) = checks.iter().find(|(_, _, possible)| !possible) {
            return Err(Error::Impossible { field, value });
        }
        let restored = Self {
            irq,
            line_open: false,
            last_was_command: status & STATUS_COMMAND != 0,
            control,
            output_port,
            pending: (pending_command != 0).then_some(pending_command),
            answer: output
                .first()
                .map(|&byte| Answer { byte, flags: status & (STATUS_AUX | STATUS_TIMEOUT) }),
            keyboard: Keyboard {
                queue: keys.into(),
                pending: (pending_keyboard_command != 0).then_some(pending_keyboard_command),
                scanning,
                scan_set,
            },
        };
        // All that the status register holds follows from the rest, so it must come out as it went in.
        if restored.status_flags() != status {
            return Err(Error::Impossible { field: "status", value: status });
        }
        Ok(restored)
    }
}
