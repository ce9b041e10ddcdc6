//! The serial console: a 16550A at I/O 0x3f8, interrupt 4.
//!
//! The registers are `vm_superio`'s. This module owns what lies around them: bytes out to a [`ConsoleOut`], bytes in
//! from an owner that never offers more than fit, and the interrupt line. It knows neither stdin nor stdout.
//!
//! Input loses nothing and never spins: the owner reads at most [`Serial::room`] bytes from its source and hands them
//! to [`Serial::receive`]. When there is no room it stops watching the source, and the `drained` eventfd tells it when
//! the guest has emptied the FIFO.

mod console;
mod limit;
mod ready;
mod saved;

#[cfg(test)]
mod console_test;
#[cfg(test)]
mod limit_test;
#[cfg(test)]
mod ready_test;
#[cfg(test)]
mod serial_test;

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use vm_superio::Trigger;
use vm_superio::serial::{Error as UartError, Serial as Uart, SerialEvents, SerialState as UartState};
use vmm_sys_util::eventfd::EventFd;

pub use console::{ConsoleOut, ConsoleTap};
pub use limit::ConsoleLimits;
pub use ready::ReadyPattern;

pub use saved::SECTION;

use crate::bus::BusDevice;
use crate::irq::IrqLine;
use crate::lifecycle::Effect;

/// First I/O port.
pub const BASE: u64 = 0x3f8;
/// Number of ports.
pub const LEN: u64 = 8;
/// The interrupt that [`Wiring::irq`] is to be bound to.
pub const GSI: u32 = 4;

/// The receive FIFO's length in bytes.
const FIFO: usize = 64;

/// The modem control register's offset and its loopback bit.
const MCR: u64 = 4;
const MCR_LOOP: u8 = 1 << 4;
/// Interrupt identification: received data available, transmitter empty.
const IIR_CONDITIONS: u8 = 0b110;

/// Why a saved UART was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// More bytes wait than the FIFO holds.
    #[error("the receive FIFO holds {len} bytes, which is more than its {FIFO}")]
    FifoOverrun {
        /// Bytes in the saved FIFO.
        len: usize,
    },
    /// A register holds what it never holds, or contradicts another.
    #[error("register {register} cannot hold {value:#04x}")]
    ImpossibleRegister {
        /// The register's name.
        register: &'static str,
        /// Its saved value.
        value: u8,
    },
}

/// A UART's connections to the host.
pub struct Wiring {
    /// The interrupt line, to be bound to [`GSI`].
    pub irq: IrqLine,
    /// Where the guest's output goes.
    pub out: ConsoleOut,
    /// Written when input fits again after [`Serial::room`] has answered 0.
    pub drained: Arc<EventFd>,
}

/// The UART.
pub struct Serial {
    // Connections and guest-visible state: both inside, the line and the sink next to the registers that use them.
    uart: Uart<Line, Drained, ConsoleOut>,
}

impl Serial {
    /// A UART as it comes out of reset.
    pub fn new(wiring: Wiring) -> Self {
        Self::assemble(&UartState::default(), wiring, true).expect("the reset state is a possible one")
    }

    /// `state` is one that `vm_superio` itself could have produced. A line that is not `open` stays quiet until
    /// [`Self::raise_pending`].
    fn assemble(state: &UartState, wiring: Wiring, open: bool) -> Result<Self, Error> {
        let Wiring { irq, out, drained } = wiring;
        let line = Line { irq, open: Cell::new(open) };
        let drained = Drained { event: drained, awaited: Cell::new(false) };
        match Uart::from_state(state, line, drained, out) {
            Ok(uart) => Ok(Self { uart }),
            // The only thing that it checks itself; a line never fails and nothing was written.
            Err(UartError::FullFifo | UartError::IOError(_)) => {
                Err(Error::FifoOverrun { len: state.in_buffer.len() })
            }
            Err(UartError::Trigger(never)) => match never {},
        }
    }

    /// How many bytes [`Self::receive`] takes now. After 0, `drained` is written once as soon as the guest has emptied
    /// the FIFO; until then nobody need ask again.
    pub fn room(&self) -> usize {
        // In loopback the receiver is disconnected from the line: bytes wait outside rather than vanish.
        let room = if self.in_loopback() { 0 } else { self.uart.fifo_capacity() };
        if room == 0 {
            self.uart.events().awaited.set(true);
        }
        room
    }

    /// Puts `bytes` into the FIFO and interrupts the guest. Gives back how many were taken: all of them when there
    /// are no more than [`Self::room`] answered under the same lock.
    #[must_use = "the bytes beyond the number given back were not taken"]
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let fits = bytes.len().min(self.room());
        if fits == 0 {
            return 0;
        }
        match self.uart.enqueue_raw_bytes(&bytes[..fits]) {
            Ok(taken) => taken,
            Err(UartError::Trigger(never)) => match never {},
            // `fits` was not 0, and enqueueing writes nothing out.
            Err(UartError::FullFifo | UartError::IOError(_)) => 0,
        }
    }

    /// Writes out what a pause kept back, for at most `patience`; gives back how many bytes are still kept. To be
    /// called after a resume and before the process ends.
    pub fn flush(&mut self, patience: Duration) -> usize {
        self.uart.writer_mut().drain(patience)
    }

    /// Interrupts the guest if a condition is pending. See [`super::DeviceSet::raise_pending`].
    ///
    /// An edge is only as good as the controller that latched it. `KVM_IRQFD` injects from a work queue, so an edge
    /// that was raised just before the pause may not have reached the PIC and IOAPIC state that was saved, and would
    /// be lost. The identification register tells: a condition stays in it from the edge until the guest acknowledges
    /// it. So while it is there the edge is raised again, even if the guest has disabled it since, because enabling a
    /// condition that is identified already raises none. If the first edge was latched after all, either both merge
    /// in the controller's request bit, or the handler is running and finds, the second time, that nothing is pending:
    /// an interrupt may come once too often but never once too seldom, and no byte is seen twice.
    pub fn raise_pending(&mut self) {
        self.uart.interrupt_evt().open.set(true);
        if self.uart.state().interrupt_identification & IIR_CONDITIONS != 0 {
            let Ok(()) = self.uart.interrupt_evt().trigger();
        }
    }

    fn in_loopback(&self) -> bool {
        self.uart.state().modem_control & MCR_LOOP != 0
    }

    fn write_register(&mut self, offset: u64, value: u8) {
        let was_in_loopback = offset == MCR && self.in_loopback();
        match self.uart.write(offset as u8, value) {
            Ok(()) => {}
            Err(UartError::Trigger(never)) => match never {},
            // The console swallows its own errors, and a full FIFO in loopback drops the byte as the hardware does.
            Err(UartError::FullFifo | UartError::IOError(_)) => {}
        }
        if was_in_loopback && value & MCR_LOOP == 0 {
            // Room has come back without the FIFO having been emptied.
            self.uart.events().in_buffer_empty();
        }
    }
}

impl BusDevice for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        // A wide access to this 8-bit device is one access to each port, lowest first, as on an ISA bus.
        for (at, byte) in (offset..).zip(data) {
            *byte = self.uart.read(at as u8);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        for (at, &byte) in (offset..).zip(data) {
            self.write_register(at, byte);
        }
        self.uart.writer_mut().take_effect()
    }

    fn write_string(&mut self, offset: u64, data: &[u8], size: usize) -> Effect {
        self.uart.writer_mut().hold();
        for element in data.chunks_exact(size) {
            for (at, &byte) in (offset..).zip(element) {
                self.write_register(at, byte);
            }
        }
        self.uart.writer_mut().let_go();
        self.uart.writer_mut().take_effect()
    }
}

/// The line, quiet until it is opened.
struct Line {
    irq: IrqLine,
    open: Cell<bool>,
}

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        if self.open.get() {
            // Fails only when 2^64 - 2 edges wait in the eventfd already: then the guest has its interrupt.
            let _ = self.irq.pulse();
        }
        Ok(())
    }
}

/// Tells the owner of the input that there is room, if it waits for that.
struct Drained {
    event: Arc<EventFd>,
    awaited: Cell<bool>,
}

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        if self.awaited.replace(false) {
            // As for the line: a counter that is full has been written before.
            let _ = self.event.write(1);
        }
    }
}
