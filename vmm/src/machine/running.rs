//! A machine whose vCPUs run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::paused::{Parts, PausedVm, Standstill};
use super::{Error, GuestFacts};
use crate::device::DeviceSet;
use crate::device::virtio::transport::{Busy, Patience};
use crate::lifecycle::StopReason;
use crate::vcpu::Shared;
use crate::vcpu::run::{End, Returned, Thread};

/// How long to wait for a vCPU thread before it is kicked again. A kick can come while the thread is about to enter
/// a blocking call other than `KVM_RUN`, which it then does not interrupt.
const KICK_AGAIN: Duration = Duration::from_millis(2);

/// How often to look whether a kicked thread has returned: a guest that is being saved waits for this.
const LOOK_AGAIN: Duration = Duration::from_micros(20);

/// A machine whose vCPUs run, each on its own thread. Dropping it stops them, and its devices.
pub struct RunningVm {
    threads: Vec<Thread>,
    /// Taken by `halt`; there for as long as the value is in anybody's hands.
    parts: Option<Parts>,
}

/// What came of halting a machine.
pub enum Halting {
    /// It stands still.
    Halted(Box<Halted>),
    /// A device did not come to rest in time: the guest runs on.
    Busy(Box<RunningVm>, Busy),
}

/// A machine that was running and now stands still.
pub struct Halted {
    /// The machine.
    pub vm: PausedVm,
    /// When its vCPUs were told to stop.
    pub since: Instant,
    /// Why the guest stopped, if it did so itself before or while it was halted.
    pub reason: Option<StopReason>,
}

impl RunningVm {
    pub(super) fn new(parts: Parts) -> Self {
        Self { threads: Vec::new(), parts: Some(parts) }
    }

    pub(super) fn adopt(&mut self, thread: Thread) {
        self.threads.push(thread);
    }

    pub(super) fn start_devices(&self) -> Result<(), Error> {
        self.parts().virtio.resume().map_err(Error::Virtio)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.parts().shared
    }

    /// Signalled whenever a vCPU thread has returned, which it does only when the guest stops of itself, cannot go
    /// on, or is halted. Whoever sees it calls [`Self::halt`].
    pub fn returned(&self) -> &Arc<EventFd> {
        &self.shared().returned
    }

    /// The devices, which lock themselves.
    pub fn devices(&self) -> &DeviceSet {
        &self.parts().devices
    }

    /// What is known of the guest.
    pub fn facts(&self) -> &GuestFacts {
        &self.parts().facts
    }

    /// Stops every vCPU at an instruction boundary, with no exit half done, and then every device, with no request
    /// half done.
    ///
    /// # Errors
    /// A vCPU cannot go on. The machine is gone then: half of its state would be of another moment.
    pub fn halt(mut self) -> Result<Halted, Error> {
        let since = Instant::now();
        let ends = self.stop();
        self.halted(ends, since)
    }

    /// The same for a caller that does not wait for ever for the host's storage. The guest runs while devices complete
    /// what they have begun, and begin nothing new; so a slow request, a flush for example, does not make it stand still.
    ///
    /// # Errors
    /// As [`Self::halt`]; also if a device is busy that was started again while the vCPUs were being stopped. Nothing of
    /// the machine is taken apart then, because that would wait for the device.
    pub fn halt_within(mut self, patience: &Patience<'_>) -> Result<Halting, Error> {
        if let Err(busy) = self.parts().virtio.rest(patience) {
            self.parts().virtio.resume().map_err(Error::Virtio)?;
            return Ok(Halting::Busy(Box::new(self), busy));
        }
        let since = Instant::now();
        let ends = self.stop_vcpus();
        if let Err(busy) = self.parts().virtio.rest(patience) {
            std::mem::forget(ends);
            std::mem::forget(self);
            return Err(Error::Busy(busy));
        }
        self.parts().virtio.quiesce();
        self.halted(ends, since).map(|halted| Halting::Halted(Box::new(halted)))
    }

    fn halted(mut self, ends: Vec<Returned>, since: Instant) -> Result<Halted, Error> {
        let standstill = Some(Standstill::after(Duration::ZERO));
        let parts = self.parts.take().expect("only this method takes the parts, and it consumes the machine");
        // The counter says that threads have returned: now they all have.
        let _ = parts.shared.returned.read();
        let mut vcpus = Vec::with_capacity(ends.len());
        let mut reason = None;
        for returned in ends {
            match returned.end {
                End::Kicked => {}
                End::Stopped(stop) => reason = Some(graver(reason, stop)),
                End::Failed(error) => return Err(Error::Run(error)),
            }
            vcpus.push(returned.vcpu);
        }
        Ok(Halted { vm: PausedVm { vcpus, parts, standstill }, since, reason })
    }

    fn stop(&mut self) -> Vec<Returned> {
        let ends = self.stop_vcpus();
        // After the vCPUs, which would only give the devices more to do.
        if let Some(parts) = &self.parts {
            parts.virtio.quiesce();
        }
        ends
    }

    fn stop_vcpus(&mut self) -> Vec<Returned> {
        let Some(parts) = &self.parts else { return Vec::new() };
        parts.shared.stop.store(true, Ordering::SeqCst);
        let mut kicked: Option<Instant> = None;
        while self.threads.iter().any(|thread| !thread.has_returned()) {
            if kicked.is_none_or(|at| at.elapsed() > KICK_AGAIN) {
                self.threads.iter().for_each(Thread::kick);
                kicked = Some(Instant::now());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.threads.drain(..).map(Thread::join).collect()
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("only `halt` takes the parts, and it consumes the machine")
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two vCPUs may stop the guest in the same instant. What ends it outweighs what it merely says.
fn graver(known: Option<StopReason>, new: StopReason) -> StopReason {
    let weight = |reason: StopReason| match reason {
        StopReason::Ready => 0,
        StopReason::Reset => 1,
        StopReason::PowerOff => 2,
        StopReason::Panic => 3,
        StopReason::TripleFault => 4,
    };
    match known {
        Some(known) if weight(known) >= weight(new) => known,
        _ => new,
    }
}
