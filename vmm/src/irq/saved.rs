//! Between KVM's structures and the saved types, field by field, both ways.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, kvm_ioapic_state, kvm_ioapic_state__bindgen_ty_1, kvm_irqchip,
    kvm_irqchip__bindgen_ty_1, kvm_pic_state, kvm_pit_channel_state, kvm_pit_state2,
};
use snapshot_format::state::{IoapicState, PicState, PitChannelState, PitState};

use crate::sys::kvm as raw;

pub(super) fn pic(chip: &kvm_irqchip) -> PicState {
    let kvm_pic_state {
        last_irr,
        irr,
        imr,
        isr,
        priority_add,
        irq_base,
        read_reg_select,
        poll,
        special_mask,
        init_state,
        auto_eoi,
        rotate_on_auto_eoi,
        special_fully_nested_mode,
        init4,
        elcr,
        elcr_mask,
    } = raw::pic(chip);
    PicState {
        last_irr,
        irr,
        imr,
        isr,
        priority_add,
        irq_base,
        read_reg_select,
        poll,
        special_mask,
        init_state,
        auto_eoi,
        rotate_on_auto_eoi,
        special_fully_nested_mode,
        init4,
        elcr,
        elcr_mask,
    }
}

pub(super) fn to_pic(chip_id: u32, saved: &PicState) -> kvm_irqchip {
    let PicState {
        last_irr,
        irr,
        imr,
        isr,
        priority_add,
        irq_base,
        read_reg_select,
        poll,
        special_mask,
        init_state,
        auto_eoi,
        rotate_on_auto_eoi,
        special_fully_nested_mode,
        init4,
        elcr,
        elcr_mask,
    } = *saved;
    let pic = kvm_pic_state {
        last_irr,
        irr,
        imr,
        isr,
        priority_add,
        irq_base,
        read_reg_select,
        poll,
        special_mask,
        init_state,
        auto_eoi,
        rotate_on_auto_eoi,
        special_fully_nested_mode,
        init4,
        elcr,
        elcr_mask,
    };
    kvm_irqchip { chip_id, pad: 0, chip: kvm_irqchip__bindgen_ty_1 { pic } }
}

pub(super) fn ioapic(chip: &kvm_irqchip) -> IoapicState {
    let kvm_ioapic_state { base_address, ioregsel, id, irr, pad: _, redirtbl } = raw::ioapic(chip);
    IoapicState { base_address, ioregsel, id, irr, redirtbl: redirtbl.map(raw::redirection_bits) }
}

pub(super) fn to_ioapic(saved: &IoapicState) -> kvm_irqchip {
    let IoapicState { base_address, ioregsel, id, irr, redirtbl } = *saved;
    let redirtbl = redirtbl.map(|bits| kvm_ioapic_state__bindgen_ty_1 { bits });
    let ioapic = kvm_ioapic_state { base_address, ioregsel, id, irr, pad: 0, redirtbl };
    kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, pad: 0, chip: kvm_irqchip__bindgen_ty_1 { ioapic } }
}

pub(super) fn pit(pit: &kvm_pit_state2) -> PitState {
    let kvm_pit_state2 { channels, flags, reserved: _ } = *pit;
    let channel = |channel: kvm_pit_channel_state| {
        let kvm_pit_channel_state {
            count,
            latched_count,
            count_latched,
            status_latched,
            status,
            read_state,
            write_state,
            write_latch,
            rw_mode,
            mode,
            bcd,
            gate,
            count_load_time,
        } = channel;
        PitChannelState {
            count,
            latched_count,
            count_latched,
            status_latched,
            status,
            read_state,
            write_state,
            write_latch,
            rw_mode,
            mode,
            bcd,
            gate,
            count_load_time,
        }
    };
    PitState { channels: channels.map(channel), flags }
}

pub(super) fn to_pit(saved: &PitState) -> kvm_pit_state2 {
    let PitState { channels, flags } = *saved;
    let channel = |channel: PitChannelState| {
        let PitChannelState {
            count,
            latched_count,
            count_latched,
            status_latched,
            status,
            read_state,
            write_state,
            write_latch,
            rw_mode,
            mode,
            bcd,
            gate,
            count_load_time,
        } = channel;
        kvm_pit_channel_state {
            count,
            latched_count,
            count_latched,
            status_latched,
            status,
            read_state,
            write_state,
            write_latch,
            rw_mode,
            mode,
            bcd,
            gate,
            count_load_time,
        }
    };
    kvm_pit_state2 { channels: channels.map(channel), flags, reserved: [0; 9] }
}
