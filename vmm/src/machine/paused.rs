//! A machine at rest.

use kvm_ioctls::VmFd;

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
    /// Whether the guest has run before, in this process or in the one that saved it: then it is told that it stood
    /// still.
    pub(super) has_run: bool,
}

impl PausedVm {
    /// A machine that was just built. `has_run` for one that was restored.
    pub(crate) fn new(vcpus: Vec<Vcpu>, parts: Parts, has_run: bool) -> Self {
        Self { vcpus, parts, has_run }
    }

    /// Lets the guest run.
    ///
    /// # Errors
    /// A thread could not be started; the machine is gone then.
    pub fn resume(self) -> Result<RunningVm, Error> {
        let Self { vcpus, parts, has_run } = self;
        if has_run {
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
