//! The legacy devices that every machine has, as one thing that is built, plugged, saved and restored.
//!
//! Everything here is destructured in full, so a device that is added without being saved does not compile. Which
//! section of an image a state goes to is the snapshot's business; the names are the devices' `SECTION` constants.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use snapshot_format::state::{
    AcpiPmState, I8042State, IdentityState, PvpanicState, ReadyPortState, RtcState, SerialState,
};
use vmm_sys_util::eventfd::EventFd;

use super::{AcpiPm, Error, I8042, Identity, Pvpanic, ReadyPort, Rtc, Serial};
use super::{acpi_pm, i8042, pvpanic, ready_port, rtc, serial};
use crate::bus::{self, Bus};
use crate::clock::WallClock;
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::GuestRam;

/// The devices' connections to the host.
pub struct Wiring {
    /// The UART's line, to be bound to [`serial::GSI`].
    pub serial_irq: IrqLine,
    /// Where the guest's console output goes.
    pub console: serial::ConsoleOut,
    /// Written when console input fits again: see [`Serial::room`].
    pub input_drained: Arc<EventFd>,
    /// The keyboard's line, to be bound to [`i8042::GSI`].
    pub keyboard_irq: IrqLine,
    /// What the real-time clock follows.
    pub clock: Arc<dyn WallClock>,
    /// Whether a write to the readiness port stops the guest.
    pub ready_armed: bool,
}

impl Wiring {
    /// The interrupt lines, each with the GSI that it is to be bound to.
    pub fn lines(&self) -> Vec<(u32, IrqLine)> {
        vec![(serial::GSI, self.serial_irq.clone()), (i8042::GSI, self.keyboard_irq.clone())]
    }
}

/// The state of every device of the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSetState {
    /// Section [`serial::SECTION`].
    pub serial: SerialState,
    /// Section [`i8042::SECTION`].
    pub i8042: I8042State,
    /// Section [`rtc::SECTION`].
    pub rtc: RtcState,
    /// Section [`acpi_pm::SECTION`].
    pub acpi_pm: AcpiPmState,
    /// Section [`ready_port::SECTION`].
    pub ready_port: ReadyPortState,
    /// Section [`pvpanic::SECTION`].
    pub pvpanic: PvpanicState,
    /// Section [`super::identity::SECTION`].
    pub identity: IdentityState,
}

/// The devices. Cloning shares them.
#[derive(Clone)]
pub struct DeviceSet {
    serial: Arc<Mutex<Serial>>,
    i8042: Arc<Mutex<I8042>>,
    rtc: Arc<Mutex<Rtc>>,
    acpi_pm: Arc<Mutex<AcpiPm>>,
    ready_port: Arc<Mutex<ReadyPort>>,
    pvpanic: Arc<Mutex<Pvpanic>>,
    identity: Arc<Identity>,
    input_drained: Arc<EventFd>,
}

/// A panic elsewhere does not make a device's registers worse than they are.
fn lock<T>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared<T>(device: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(device))
}

impl DeviceSet {
    /// The devices as they come out of reset, and a new identity in `memory`.
    ///
    /// # Errors
    /// The host has no random numbers for an identity.
    pub fn build(wiring: Wiring, memory: &GuestRam) -> Result<Self, Error> {
        let Wiring { serial_irq, console, input_drained, keyboard_irq, clock, ready_armed } = wiring;
        let serial = serial::Wiring { irq: serial_irq, out: console, drained: Arc::clone(&input_drained) };
        Ok(Self {
            serial: shared(Serial::new(serial)),
            i8042: shared(I8042::new(keyboard_irq)),
            rtc: shared(Rtc::new(clock)),
            acpi_pm: shared(AcpiPm::default()),
            ready_port: shared(ReadyPort::new(ready_armed)),
            pvpanic: shared(Pvpanic::default()),
            identity: Arc::new(Identity::new(memory.clone()).map_err(Error::Identity)?),
            input_drained,
        })
    }

    /// Puts every device at its I/O ports.
    pub fn plug(&self, pio: &mut Bus) -> Result<(), bus::Error> {
        let Self { serial, i8042, rtc, acpi_pm, ready_port, pvpanic, identity: _, input_drained: _ } = self;
        pio.insert(serial::BASE, serial::LEN, serial.clone())?;
        pio.insert(i8042::BASE, i8042::LEN, i8042.clone())?;
        pio.insert(rtc::BASE, rtc::LEN, rtc.clone())?;
        pio.insert(acpi_pm::BASE, acpi_pm::LEN, acpi_pm.clone())?;
        pio.insert(ready_port::BASE, ready_port::LEN, ready_port.clone())?;
        pio.insert(pvpanic::BASE, pvpanic::LEN, pvpanic.clone())
    }

    /// The guest-visible state of every device.
    pub fn save(&self, at_rest: &Quiesced<'_>) -> DeviceSetState {
        let Self { serial, i8042, rtc, acpi_pm, ready_port, pvpanic, identity, input_drained: _ } = self;
        DeviceSetState {
            serial: lock(serial).save(at_rest),
            i8042: lock(i8042).save(at_rest),
            rtc: lock(rtc).save(at_rest),
            acpi_pm: lock(acpi_pm).save(at_rest),
            ready_port: lock(ready_port).save(at_rest),
            pvpanic: lock(pvpanic).save(at_rest),
            identity: identity.save(at_rest),
        }
    }

    /// The devices as they were saved, and a new identity in `memory`. Their interrupt lines are quiet until
    /// [`Self::raise_pending`].
    pub fn restore(state: DeviceSetState, wiring: Wiring, memory: &GuestRam) -> Result<Self, Error> {
        let Wiring { serial_irq, console, input_drained, keyboard_irq, clock, ready_armed } = wiring;
        let DeviceSetState { serial, i8042, rtc, acpi_pm, ready_port, pvpanic, identity } = state;
        let serial_wiring =
            serial::Wiring { irq: serial_irq, out: console, drained: Arc::clone(&input_drained) };
        let Ok(ready_port) = ReadyPort::restore(ready_port, ready_armed);
        Ok(Self {
            serial: shared(Serial::restore(serial, serial_wiring).map_err(Error::Serial)?),
            i8042: shared(I8042::restore(i8042, keyboard_irq).map_err(Error::I8042)?),
            rtc: shared(Rtc::restore(rtc, clock).map_err(Error::Rtc)?),
            acpi_pm: shared(AcpiPm::restore(acpi_pm, ()).map_err(Error::AcpiPm)?),
            ready_port: shared(ready_port),
            pvpanic: shared(Pvpanic::restore(pvpanic, ()).map_err(Error::Pvpanic)?),
            identity: Arc::new(Identity::restore(identity, memory.clone()).map_err(Error::Identity)?),
            input_drained,
        })
    }

    /// Opens the interrupt lines of a restored set and raises what was pending.
    ///
    /// Call only after the interrupt controllers have been given their state and the lines are bound, and before the
    /// first vCPU runs: an edge that comes earlier is overwritten with the controllers' state. Calling it before any
    /// other resume does no harm.
    pub fn raise_pending(&self) {
        lock(&self.serial).raise_pending();
        lock(&self.i8042).raise_pending();
    }

    /// The interrupt by which a restored guest is told that it is another one. It has no line: it is raised once, by
    /// whoever restores the machine.
    pub fn identity_gsi(&self) -> u32 {
        self.identity.gsi()
    }

    /// Written when console input fits again.
    pub fn input_drained(&self) -> Arc<EventFd> {
        Arc::clone(&self.input_drained)
    }

    /// The UART, for the owner of the console's input.
    ///
    /// Waits as long as a vCPU waits for the reader of the console's output. Not to be called, while vCPUs run, from
    /// the thread that would pause them.
    pub fn serial(&self) -> MutexGuard<'_, Serial> {
        lock(&self.serial)
    }

    /// The same for whoever must not wait: `None` while a vCPU is in it, which may be for as long as nobody reads the
    /// console's output.
    pub fn try_serial(&self) -> Option<MutexGuard<'_, Serial>> {
        match self.serial.try_lock() {
            Ok(serial) => Some(serial),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The keyboard controller, for whoever presses Ctrl-Alt-Del.
    pub fn i8042(&self) -> MutexGuard<'_, I8042> {
        lock(&self.i8042)
    }
}
