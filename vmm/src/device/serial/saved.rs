//! The UART to and from its section.

use snapshot_format::state::SerialState;

use super::{Error, FIFO, IIR_CONDITIONS, Serial, UartState, Wiring};
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "serial:0";

/// Line status: transmitter empty and idle, always, because every byte is gone when the guest's instruction ends.
const LSR_IDLE: u8 = 0x60;
/// Line status: data ready, exactly while the FIFO holds a byte.
const LSR_DATA_READY: u8 = 1;
/// Modem status: carrier, data set ready, clear to send. Nothing ever changes it.
const MSR_CONNECTED: u8 = 0xb0;
/// Interrupt identification when nothing is pending.
const IIR_NONE: u8 = 1;

impl Persist for Serial {
    type State = SerialState;
    type Wiring = Wiring;
    type Error = Error;

    /// Bytes that the console has not got rid of are not part of it: they were written by this run of the guest, and
    /// this process writes them out.
    fn save(&self, _at_rest: &Quiesced<'_>) -> SerialState {
        let Self { uart } = self;
        let UartState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer,
        } = uart.state();
        SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer,
        }
    }

    /// The line stays quiet until [`Serial::raise_pending`].
    fn restore(state: SerialState, wiring: Wiring) -> Result<Self, Error> {
        let SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer,
        } = state;
        if in_buffer.len() > FIFO {
            return Err(Error::FifoOverrun { len: in_buffer.len() });
        }
        let data_ready = if in_buffer.is_empty() { 0 } else { LSR_DATA_READY };
        let pending = interrupt_identification & IIR_CONDITIONS != 0;
        let checks = [
            ("IER", interrupt_enable, interrupt_enable & 0xf0 == 0),
            (
                "IIR",
                interrupt_identification,
                interrupt_identification & !IIR_CONDITIONS == u8::from(!pending) * IIR_NONE,
            ),
            ("LSR", line_status, line_status == LSR_IDLE | data_ready),
            ("MSR", modem_status, modem_status == MSR_CONNECTED),
        ];
        for (register, value, possible) in checks {
            if !possible {
                return Err(Error::ImpossibleRegister { register, value });
            }
        }
        let state = UartState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer,
        };
        Self::assemble(&state, wiring, false)
    }
}
