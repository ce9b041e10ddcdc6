//! What boot and restore build alike: the VM's descriptor, its memory, its chipset and its device lines, in the order
//! that Linux 6.18 makes cheap.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kvm_bindings::{
    KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_PMU_CAPABILITY, KVM_CAP_X86_TRIPLE_FAULT_EVENT, KVM_PMU_CAP_DISABLE,
    kvm_enable_cap,
};
use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::{Error, Host};
use crate::bus::Bus;
use crate::device::DeviceSet;
use crate::device::virtio::{Doorbell, VirtioSet};
use crate::irq::{Chipset, IrqLine};
use crate::memory::{Memory, layout};
use crate::sys::kick;
use crate::vcpu::{Shared, Traits};

/// What is known of the guest and written into its images, for people and for the next generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// What was booted: a kernel's file name, or `spark`.
    pub guest: String,
    /// The kernel command line.
    pub cmdline: String,
    /// How many snapshots lie behind it: 0 for a guest that was booted.
    pub generation: u32,
    /// The image it was restored from, all zero for a guest that was booted.
    pub parent_id: [u8; 16],
}

/// A VM without vCPUs.
#[derive(Debug)]
pub struct Frame {
    // Declared before the memory that KVM maps, so that the descriptor closes first; and before that the memory lets
    // everybody go who waits for a page of it: see `drop`.
    pub(crate) vm: VmFd,
    pub(crate) chipset: Chipset,
    pub(crate) memory: Memory,
    /// What KVM has for this VM's vCPUs.
    pub(crate) traits: Traits,
}

impl Drop for Frame {
    /// KVM asks for missing pages on threads of the kernel's (`async_pf_execute`), and a VM is gone only when they are
    /// through: nobody is to keep them waiting any more.
    fn drop(&mut self) {
        self.memory.let_go();
    }
}

/// Takes the performance counters from the guest, where the kernel can: their state is not saved, and on AMD no CPUID
/// bit hides the four oldest (`KVM_CAP_PMU_CAPABILITY`, Documentation/virt/kvm/api.rst, 8.35).
fn hide_counters(vm: &VmFd) -> Result<(), Error> {
    if vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into()) & KVM_PMU_CAP_DISABLE as i32 == 0 {
        return Ok(());
    }
    let disable = u64::from(KVM_PMU_CAP_DISABLE);
    let enable =
        kvm_enable_cap { cap: KVM_CAP_PMU_CAPABILITY, args: [disable, 0, 0, 0], ..Default::default() };
    vm.enable_cap(&enable).map_err(Error::vm("hide the performance counters"))
}

/// Capabilities that make `KVM_GET_VCPU_EVENTS` exact: without the first, a pending exception with a payload is
/// reported as if it had been injected; without the second, a pending triple fault is lost
/// (Documentation/virt/kvm/api.rst, 4.31). Enabled where the kernel has them.
pub(super) const EXACT_EVENTS: [u32; 2] = [KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_X86_TRIPLE_FAULT_EVENT];

impl Frame {
    /// Creates the VM around `memory`.
    ///
    /// - Memory slots before anything that registers a device on the in-kernel buses (`Chipset`, irqfds come later):
    ///   a slot that is set after that waits for an SRCU grace period, 4 to 6 ms.
    /// - The TSS and identity-map pages first of all: they are slots of KVM's own on Intel hosts.
    /// - The chipset before any vCPU: `KVM_CREATE_IRQCHIP` refuses a VM that has one.
    pub fn create(host: &Host, memory: Memory) -> Result<Self, Error> {
        let vm = host.kvm().create_vm().map_err(Error::vm("create a VM"))?;
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(Error::vm("place KVM's identity map"))?;
        vm.set_tss_address(layout::KVM_TSS as usize).map_err(Error::vm("place KVM's task state segment"))?;
        memory.plug(&vm).map_err(Error::Memory)?;
        let chipset = Chipset::create(&vm).map_err(Error::Chipset)?;
        hide_counters(&vm)?;
        for cap in EXACT_EVENTS {
            if vm.check_extension_raw(cap.into()) > 0 {
                let enable = kvm_enable_cap { cap, args: [1, 0, 0, 0], ..Default::default() };
                vm.enable_cap(&enable).map_err(Error::vm("enable exact exception events"))?;
            }
        }
        let traits = Traits::of(&vm);
        Ok(Self { vm, chipset, memory, traits })
    }

    /// The capabilities of this VM's KVM that saved events rely on, as `KVM_CAP_*` numbers.
    pub fn event_capabilities(vm: &VmFd) -> Vec<u32> {
        EXACT_EVENTS.into_iter().filter(|cap| vm.check_extension_raw((*cap).into()) > 0).collect()
    }

    /// Binds the devices' lines. Call after every memory slot is set and before the chipset is given its state, so
    /// that a line can be pulled as soon as it has one.
    pub(crate) fn bind(&self, lines: &[(u32, IrqLine)]) -> Result<(), Error> {
        for (gsi, line) in lines {
            self.vm.register_irqfd(line.eventfd(), *gsi).map_err(Error::vm("bind an interrupt line"))?;
        }
        Ok(())
    }

    /// Lets KVM ring the devices' doorbells without leaving the guest for this process. As [`Self::bind`], only after
    /// every memory slot is set: each is a device on the in-kernel bus.
    pub(crate) fn ring(&self, doorbells: &[Doorbell]) -> Result<(), Error> {
        for Doorbell { address, value, eventfd } in doorbells {
            let at = IoEventAddress::Mmio(*address);
            self.vm.register_ioevent(eventfd, &at, *value).map_err(Error::vm("bind a doorbell"))?;
        }
        Ok(())
    }

    /// Pulls a line and lets it go, at once: when this returns the interrupt is pending at a vCPU, if the guest takes it. An
    /// irqfd's would be on its way there, on the kernel's work queue. Call only after the chipset has its state.
    pub(crate) fn pulse(&self, gsi: u32) -> Result<(), Error> {
        let set = |level| self.vm.set_irq_line(gsi, level).map_err(Error::vm("raise an interrupt"));
        set(true)?;
        set(false)
    }

    /// Puts the devices on the buses. `stop` is the flag that their console watches.
    pub(crate) fn share(
        devices: &DeviceSet,
        virtio: &VirtioSet,
        stop: Arc<AtomicBool>,
    ) -> Result<Shared, Error> {
        kick::install().map_err(Error::Signals)?;
        let mut pio = Bus::default();
        devices.plug(&mut pio).map_err(Error::Bus)?;
        let mut mmio = Bus::default();
        virtio.plug(&mut mmio).map_err(Error::Bus)?;
        let returned = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(Error::EventFd)?;
        Ok(Shared { pio: Arc::new(pio), mmio: Arc::new(mmio), stop, returned: Arc::new(returned) })
    }
}
