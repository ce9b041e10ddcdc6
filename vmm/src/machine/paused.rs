//! A machine at rest.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use super::running::RunningVm;
use super::{Error, Frame, GuestFacts};
use crate::device::DeviceSet;
use crate::device::virtio::VirtioSet;
use crate::irq::Chipset;
use crate::lifecycle::Quiesced;
use crate::memory::Memory;
use crate::vcpu::run::Thread;
use crate::vcpu::{Shared, Vcpu};

/// Everything of a machine but the question who runs.
pub(crate) struct Parts {
    pub frame: Frame,
    pub devices: DeviceSet,
    pub virtio: VirtioSet,
    pub shared: Shared,
    pub facts: GuestFacts,
}

/// A machine whose vCPUs stand still: just built, or halted.
pub struct PausedVm {
    // Declared first, so that vCPU descriptors close before the VM's.
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) parts: Parts,
    /// There once the guest has run, in this process or in the one that saved it: then it is told that it stood still.
    pub(super) standstill: Option<Standstill>,
}

/// For how long a guest has stood still without having been told.
pub(super) struct Standstill {
    since: Cell<Instant>,
    /// Before that: guest time that passed while there was no machine.
    before: Cell<Duration>,
}

impl Standstill {
    /// It begins now, after `before` in which there was no machine.
    pub(super) fn after(before: Duration) -> Self {
        Self { since: Cell::new(Instant::now()), before: Cell::new(before) }
    }

    /// All of it, once: what is told begins anew.
    fn take(&self) -> Duration {
        let now = Instant::now();
        self.before.take().saturating_add(now - self.since.replace(now))
    }
}

impl PausedVm {
    /// A machine that was just built. `away` for one that was restored: the guest time that has passed since its save.
    pub(crate) fn new(vcpus: Vec<Vcpu>, parts: Parts, away: Option<Duration>) -> Self {
        Self { vcpus, parts, standstill: away.map(Standstill::after) }
    }

    /// Lets the guest run.
    ///
    /// # Errors
    /// A thread could not be started; the machine is gone then.
    pub fn resume(self) -> Result<RunningVm, Error> {
        self.tell_of_standstill();
        let Self { vcpus, parts, standstill } = self;
        if standstill.is_some() {
            vcpus.iter().for_each(Vcpu::mark_stopped);
        }
        parts.shared.stop.store(false, std::sync::atomic::Ordering::SeqCst);
        let mut running = RunningVm::new(parts);
        for vcpu in vcpus {
            let id = vcpu.id();
            let thread = Thread::start(vcpu, running.shared().clone());
            // On failure the machine is dropped, which halts the threads that have started.
            running.adopt(thread.map_err(|source| Error::Thread { vcpu: id, source })?);
        }
        // After the vCPUs: a guest that was restored runs before its devices have their threads.
        running.start_devices()?;
        Ok(running)
    }

    /// Enters the time for which the guest has stood still into its records, so that its scheduler charges it to nobody.
    /// Called before the guest runs, and before its clock and its memory are saved.
    pub fn tell_of_standstill(&self) {
        if let Some(standstill) = &self.standstill {
            let lost = standstill.take();
            self.vcpus.iter().for_each(|vcpu| vcpu.account_stolen(self.memory().ram(), lost));
        }
    }

    /// Proof that this machine is at rest, for as long as it is borrowed.
    pub fn quiesced(&self) -> Quiesced<'_> {
        Quiesced::lend(self)
    }

    /// The vCPUs.
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus
    }

    /// Guest memory.
    pub fn memory(&self) -> &Memory {
        &self.parts.frame.memory
    }

    /// The devices.
    pub fn devices(&self) -> &DeviceSet {
        &self.parts.devices
    }

    /// The virtio devices, which have no threads now.
    pub fn virtio(&self) -> &VirtioSet {
        &self.parts.virtio
    }

    /// The in-kernel chipset.
    pub fn chipset(&self) -> &Chipset {
        &self.parts.frame.chipset
    }

    /// Signalled whenever a vCPU thread has returned, once the machine runs: see [`RunningVm::returned`].
    pub fn returned(&self) -> &Arc<EventFd> {
        &self.parts.shared.returned
    }

    /// What is known of the guest.
    pub fn facts(&self) -> &GuestFacts {
        &self.parts.facts
    }

    /// The VM's descriptor.
    pub(crate) fn vm(&self) -> &VmFd {
        &self.parts.frame.vm
    }

    /// Length of the XSAVE area in bytes.
    pub(crate) fn xsave_bytes(&self) -> usize {
        self.parts.frame.traits.xsave_bytes
    }
}
