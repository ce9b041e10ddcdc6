//! The 8259s, the IOAPIC and the 8254, all in the kernel.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY, kvm_irqchip,
    kvm_pit_config,
};
use kvm_ioctls::VmFd;
use snapshot_format::state::ChipsetState;

use super::{Error, saved};
use crate::lifecycle::Quiesced;

/// Proof that the VM has its chipset, and the way to save and set it.
#[derive(Debug)]
pub struct Chipset(());

impl Chipset {
    /// Creates the chipset. Call only after every memory slot is set: on Linux 6.18 creating it registers devices
    /// on the in-kernel buses, which starts an SRCU grace period that the next slot would wait for
    /// (`kvm_io_bus_register_dev`, `kvm_swap_active_memslots`). vCPUs come after, because their LAPICs belong to it.
    pub fn create(vm: &VmFd) -> Result<Self, Error> {
        vm.create_irq_chip().map_err(cannot("create the interrupt controllers"))?;
        // The speaker port (0x61) is the kernel's as well, so that a guest that calibrates by it does not exit.
        let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(config).map_err(cannot("create the interval timer"))?;
        Ok(Self(()))
    }

    /// Reads the state. Call before the vCPUs are saved: what the timer raises after that is in a LAPIC or nowhere.
    pub fn save(&self, vm: &VmFd, _at_rest: &Quiesced<'_>) -> Result<ChipsetState, Error> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map(|()| chip).map_err(cannot("read an interrupt controller"))
        };
        let pit = vm.get_pit2().map_err(cannot("read the interval timer"))?;
        Ok(ChipsetState {
            pic_master: saved::pic(&chip(KVM_IRQCHIP_PIC_MASTER)?),
            pic_slave: saved::pic(&chip(KVM_IRQCHIP_PIC_SLAVE)?),
            ioapic: saved::ioapic(&chip(KVM_IRQCHIP_IOAPIC)?),
            pit: saved::pit(&pit),
        })
    }

    /// Sets the state.
    ///
    /// - After the vCPUs, because setting the IOAPIC delivers what is pending in it to the LAPICs as they are
    ///   (`kvm_ioapic_inject_all`).
    /// - The timer after the controllers, because it starts to tick at once (`kvm_pit_load_count`).
    pub fn set(&self, vm: &VmFd, state: &ChipsetState) -> Result<(), Error> {
        let ChipsetState { pic_master, pic_slave, ioapic, pit } = state;
        let set = |chip: kvm_irqchip| vm.set_irqchip(&chip).map_err(cannot("set an interrupt controller"));
        set(saved::to_pic(KVM_IRQCHIP_PIC_MASTER, pic_master))?;
        set(saved::to_pic(KVM_IRQCHIP_PIC_SLAVE, pic_slave))?;
        set(saved::to_ioapic(ioapic))?;
        vm.set_pit2(&saved::to_pit(pit)).map_err(cannot("set the interval timer"))
    }
}

fn cannot(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |e| Error::Ioctl { call, source: e.into() }
}
