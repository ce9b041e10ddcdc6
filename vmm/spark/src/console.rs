//! The console: a 16550 that is polled for output and interrupts for input.

use crate::port::{self, COM1};
use crate::simd::Vectors;
use crate::text::Text;
use crate::trap;

/// Receive and transmit register.
const DATA: u16 = COM1;
const INTERRUPT_ENABLE: u16 = COM1 + 1;
const FIFO_CONTROL: u16 = COM1 + 2;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;

/// Interrupt enable: a byte has been received.
const RECEIVED: u8 = 1;
/// FIFO control: on, and an interrupt for every byte.
const FIFO_ON: u8 = 1;
/// Modem control: DTR, RTS, and OUT2, which on a PC lets the interrupt out.
const MODEM_READY: u8 = 0x0b;
/// Line status: there is a byte to read.
const DATA_READY: u8 = 1;
/// Line status: the transmitter's FIFO is empty.
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Line status: nothing is on its way out any more.
const TRANSMITTER_IDLE: u8 = 0x40;

/// Bytes that an empty transmitter takes without being asked again.
const FIFO: usize = 16;

/// The only one there is; it carries no state, so that a fault can be reported over whatever was being printed.
#[derive(Clone, Copy)]
pub struct Console;

impl Console {
    /// Sends the `s` of the first line with nothing before it: the transmitter is empty after reset.
    pub fn greet() -> Self {
        port::write8(DATA, b's');
        // Switching the FIFOs on clears them.
        while port::read8(LINE_STATUS) & TRANSMITTER_IDLE == 0 {}
        port::write8(FIFO_CONTROL, FIFO_ON);
        Self
    }

    /// The console when it is too late to be handed one.
    pub fn in_trouble() -> Self {
        Self
    }

    /// Sends `text` and a newline.
    pub fn line(self, text: &Text) {
        self.send(text.bytes());
        self.send(b"\n");
    }

    fn send(self, bytes: &[u8]) {
        for chunk in bytes.chunks(FIFO) {
            while port::read8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
            for &byte in chunk {
                port::write8(DATA, byte);
            }
        }
    }

    /// Has received bytes interrupt. Call only after [`crate::apic::set_up`].
    pub fn listen(self) {
        port::write8(MODEM_CONTROL, MODEM_READY);
        port::write8(INTERRUPT_ENABLE, RECEIVED);
    }

    /// What was received before may not have been read, and its interrupt will not come again.
    pub fn look_again(self) {
        trap::UART_EVENT.set();
    }

    /// The next byte received, if its interrupt has come. Call [`Self::look_again`] before the first time.
    pub fn received(self) -> Option<u8> {
        if !trap::UART_EVENT.is_set() {
            return None;
        }
        // In this order, as below. The FIFO may hold more: the event is set again for what is left in it.
        trap::UART_EVENT.clear();
        let byte = (port::read8(LINE_STATUS) & DATA_READY != 0).then(|| port::read8(DATA))?;
        trap::UART_EVENT.set();
        Some(byte)
    }

    /// The next byte received, sleeping until there is one with `vectors` in the vector registers.
    pub fn receive(self, vectors: &mut Vectors) -> u8 {
        loop {
            // In this order: a byte that comes after the look at the line status sets the event again.
            trap::UART_EVENT.clear();
            if port::read8(LINE_STATUS) & DATA_READY != 0 {
                return port::read8(DATA);
            }
            vectors.wait(&trap::UART_EVENT);
        }
    }
}
