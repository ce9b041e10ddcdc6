//! The two states of a VM that lives, and the transitions between them.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::{Error, Start};
use crate::device::DeviceSet;
use crate::device::virtio::balloon::Valve;
use crate::device::virtio::transport::{Busy, Patience};
use crate::lifecycle::StopReason;
use crate::machine::{self, Halting, PausedVm, RunningVm};
use crate::memory::lazy::Knife;
use crate::sys::{leftover, signals};

/// How long the end of a VM waits for a reader of the console that is slow.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a pause waits for the host to complete what the guest's devices have begun, while the guest runs on.
pub const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// How long the end of a VM waits for the same.
pub(super) const END_LIMIT: Duration = Duration::from_secs(5);

/// How long the end of a VM waits for a thread that may be waiting for a page.
const PATIENCE: Duration = Duration::from_millis(500);

/// A VM, or what is left of it.
pub(super) struct Life {
    state: State,
    /// The same for all the VM's life, so that the event loop watches one descriptor.
    returned: Arc<EventFd>,
    devices: DeviceSet,
    /// The hand on its balloon.
    valve: Option<Arc<Valve>>,
    /// Its RAM.
    memory_bytes: u64,
    /// Ends the waiting for pages, if pages are delivered.
    knife: Option<Knife>,
}

/// How a guest stands after it was to be paused.
pub(super) enum Stand {
    /// At rest, since then.
    AtRest(Instant),
    /// It had stopped of itself.
    Stopped(StopReason, Box<PausedVm>),
    /// It runs on, because a device waits for the host.
    Busy(Busy),
}

enum State {
    Running(Box<RunningVm>),
    Paused(Box<PausedVm>),
    /// Stopped of itself, or failed; what there was to tell has been told.
    Gone,
}

impl Life {
    /// The first resume, if the guest is to run.
    pub(super) fn start(vm: PausedVm, start: Start) -> Result<Self, Error> {
        let devices = vm.devices().clone();
        let valve = vm.virtio().valve().cloned();
        let memory_bytes = vm.memory().placement().iter().map(|region| region.pages().bytes()).sum();
        let knife = vm.memory().knife();
        let returned = Arc::clone(vm.returned());
        let state = match start {
            Start::Running => State::Running(Box::new(vm.resume().map_err(Error::Machine)?)),
            Start::Paused => State::Paused(Box::new(vm)),
        };
        Ok(Self { state, returned, devices, valve, memory_bytes, knife })
    }

    /// Readable when a vCPU thread has returned.
    pub(super) fn returned(&self) -> &EventFd {
        &self.returned
    }

    /// Whether a vCPU thread has returned since the last time this was asked or the guest was halted.
    pub(super) fn someone_returned(&self) -> bool {
        self.returned.read().is_ok()
    }

    /// The hand on the balloon, if there is one.
    pub(super) fn valve(&self) -> Option<&Arc<Valve>> {
        self.valve.as_ref()
    }

    /// RAM of the guest, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// The machine, if it is at rest.
    pub(super) fn at_rest(&self) -> Option<&PausedVm> {
        match &self.state {
            State::Paused(vm) => Some(vm),
            State::Running(_) | State::Gone => None,
        }
    }

    /// Takes the machine, if it is at rest. Its life is over.
    pub(super) fn take(&mut self) -> Option<Box<PausedVm>> {
        match mem::replace(&mut self.state, State::Gone) {
            State::Paused(vm) => Some(vm),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The devices, which lock themselves.
    pub(super) fn devices(&self) -> &DeviceSet {
        &self.devices
    }

    /// Brings a running guest to rest; one that is at rest stays so. Gives the machine back if the guest has stopped
    /// of itself. With `is_over` the wait for devices ends early.
    pub(super) fn pause(&mut self, is_over: &dyn Fn() -> bool) -> Result<Stand, Error> {
        let running = match mem::replace(&mut self.state, State::Gone) {
            State::Running(running) => running,
            other => {
                self.state = other;
                return Ok(Stand::AtRest(Instant::now()));
            }
        };
        let patience = Patience { deadline: Instant::now() + PAUSE_LIMIT, is_over };
        let halted = match running.halt_within(&patience) {
            Ok(Halting::Halted(halted)) => halted,
            Ok(Halting::Busy(running, busy)) => {
                self.state = State::Running(running);
                return Ok(Stand::Busy(busy));
            }
            Err(e) => {
                if let machine::Error::Busy(_) = e {
                    leftover::remove_all();
                }
                return Err(Error::Machine(e));
            }
        };
        let vm = Box::new(halted.vm);
        match halted.reason {
            Some(reason) => Ok(Stand::Stopped(reason, vm)),
            None => {
                self.state = State::Paused(vm);
                Ok(Stand::AtRest(halted.since))
            }
        }
    }

    /// Lets a guest at rest run; one that runs goes on.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        // What a pause kept back of the console's output goes out now if its reader takes it, and else later.
        if let Some(mut serial) = self.devices.try_serial() {
            serial.flush(Duration::ZERO);
        }
        match mem::replace(&mut self.state, State::Gone) {
            State::Paused(vm) => self.state = State::Running(Box::new(vm.resume().map_err(Error::Machine)?)),
            other => self.state = other,
        }
        Ok(())
    }

    /// Stops the guest for good and writes out what its console still holds.
    ///
    /// # Errors
    /// A device waits for the host's storage: the guest is left as it is, and the process is to end now.
    pub(super) fn end(&mut self) -> Result<(), Busy> {
        match (mem::replace(&mut self.state, State::Gone), &self.knife) {
            (State::Running(vm), Some(knife)) if knife.may_be_needed() => stop_soon(vm, knife),
            (State::Running(vm), _) => {
                let patience = Patience { deadline: Instant::now() + END_LIMIT, is_over: &|| false };
                match vm.halt_within(&patience) {
                    Ok(Halting::Busy(vm, busy)) => {
                        self.state = State::Running(vm);
                        self.abandon();
                        return Err(busy);
                    }
                    // How a guest fares that is being ended is nobody's concern.
                    Ok(Halting::Halted(halted)) => drop(halted),
                    Err(machine::Error::Busy(busy)) => {
                        self.abandon();
                        return Err(busy);
                    }
                    Err(error) => tracing::debug!(%error, "the VM has failed while it was ended"),
                }
            }
            (state, _) => drop(state),
        }
        let lost = self.devices.serial().flush(LAST_WORDS);
        if lost > 0 {
            tracing::warn!(bytes = lost, "nobody took the guest's last console output");
        }
        Ok(())
    }

    /// Leaves everything of the guest as it is, because its memory or its storage is gone: a thread of its devices that
    /// has found that out stands still and will never give back what it holds. The process is to end now; what it would leave behind
    /// is removed.
    pub(super) fn abandon(&mut self) {
        mem::forget(mem::replace(&mut self.state, State::Gone));
        if let Some(mut serial) = self.devices.try_serial() {
            serial.flush(LAST_WORDS);
        }
        leftover::remove_all();
    }
}

/// Stops a VM whose devices may be waiting for pages that do not come, which nothing else ends than that they do. It has
/// a moment to end in good order; then its memory is taken away, and threads that still stand in it are left alone.
fn stop_soon(vm: Box<RunningVm>, knife: &Knife) {
    let (hold, ended) = mpsc::channel::<()>();
    let stop = move || {
        signals::leave_to_others();
        drop(vm);
        drop(hold);
    };
    if let Err(error) = thread::Builder::new().name("stop".to_owned()).spawn(stop) {
        // The VM went with what could not be started.
        return tracing::debug!(%error, "the VM was stopped without a thread for that");
    }
    let is_over = || ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected);
    if !is_over() {
        knife.cut();
        if !is_over() {
            leftover::remove_all();
        }
    }
}
