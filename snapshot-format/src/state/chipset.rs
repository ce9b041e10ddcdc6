//! The interrupt controllers and the timer that live in the kernel. Section `chipset`.

use crate::codec::prelude::*;

/// The two 8259s, the IOAPIC, the 8254 and nothing else: LAPICs are saved with their vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct ChipsetState {
    /// `KVM_IRQCHIP_PIC_MASTER`.
    pub pic_master: PicState,
    /// `KVM_IRQCHIP_PIC_SLAVE`.
    pub pic_slave: PicState,
    /// `KVM_IRQCHIP_IOAPIC`.
    pub ioapic: IoapicState,
    /// `KVM_GET_PIT2`.
    pub pit: PitState,
}

/// `struct kvm_pic_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the field names of struct kvm_pic_state")]
pub struct PicState {
    pub last_irr: u8,
    pub irr: u8,
    pub imr: u8,
    pub isr: u8,
    pub priority_add: u8,
    pub irq_base: u8,
    pub read_reg_select: u8,
    pub poll: u8,
    pub special_mask: u8,
    pub init_state: u8,
    pub auto_eoi: u8,
    pub rotate_on_auto_eoi: u8,
    pub special_fully_nested_mode: u8,
    pub init4: u8,
    pub elcr: u8,
    pub elcr_mask: u8,
}

/// `struct kvm_ioapic_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the field names of struct kvm_ioapic_state")]
pub struct IoapicState {
    pub base_address: u64,
    pub ioregsel: u32,
    pub id: u32,
    pub irr: u32,
    /// The redirection table, one 64-bit entry per pin.
    pub redirtbl: [u64; 24],
}

/// `struct kvm_pit_state2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct PitState {
    /// The three counters of the 8254.
    pub channels: [PitChannelState; 3],
    /// `KVM_PIT_FLAGS_*`.
    pub flags: u32,
}

/// `struct kvm_pit_channel_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the field names of struct kvm_pit_channel_state")]
pub struct PitChannelState {
    pub count: u32,
    pub latched_count: u16,
    pub count_latched: u8,
    pub status_latched: u8,
    pub status: u8,
    pub read_state: u8,
    pub write_state: u8,
    pub write_latch: u8,
    pub rw_mode: u8,
    pub mode: u8,
    pub bcd: u8,
    pub gate: u8,
    /// Host `CLOCK_MONOTONIC` ns at which the count was loaded; KVM starts the count anew when it is set.
    pub count_load_time: i64,
}
