//! A machine's connections to this process and the world: made first, by whoever starts the machine.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vmm_sys_util::eventfd::EventFd;

use super::Error;
use crate::clock::HostClock;
use crate::device::Wiring;
use crate::device::serial::{ConsoleLimits, ConsoleOut, ConsoleTap};
use crate::irq::IrqLine;

/// What a machine is connected to.
pub struct Connections {
    /// What the devices are given.
    pub(crate) wiring: Wiring,
    /// Set while vCPU threads are to stop: the console looks at it, too.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Connections {
    /// Console output goes to `output`, or nowhere; `tap` sees it pass. `ready_armed` says whether the guest's write
    /// to the readiness port stops it.
    pub fn new(
        output: Option<File>,
        tap: Option<Box<dyn ConsoleTap>>,
        ready_armed: bool,
    ) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let console = match output {
            Some(file) => ConsoleOut::descriptor(file, Arc::clone(&stop)).map_err(Error::EventFd)?,
            None => ConsoleOut::null(),
        };
        let console = match tap {
            Some(tap) => console.with_tap(tap),
            None => console,
        };
        let wiring = Wiring {
            serial_irq: line()?,
            console,
            input_drained: Arc::new(eventfd().map_err(Error::EventFd)?),
            keyboard_irq: line()?,
            clock: Arc::new(HostClock),
            ready_armed,
        };
        Ok(Self { wiring, stop })
    }

    /// The same with a console that writes no more than `limits` allow.
    #[must_use]
    pub fn limit_console(self, limits: ConsoleLimits) -> Self {
        let wiring = Wiring { console: self.wiring.console.limited(limits), ..self.wiring };
        Self { wiring, ..self }
    }
}

fn line() -> Result<IrqLine, Error> {
    IrqLine::new().map_err(Error::EventFd)
}

fn eventfd() -> io::Result<EventFd> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
}
