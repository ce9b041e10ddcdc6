//! The KVM capabilities that matter, by name.

use kvm_ioctls::Cap;

/// What becomes of a VM without the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// No VM runs.
    Required,
    /// Something is worse; what.
    Useful(&'static str),
}

/// One capability.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability {
    pub(super) cap: Cap,
    pub(super) name: &'static str,
    pub(super) need: Need,
}

const fn required(cap: Cap, name: &'static str) -> Capability {
    Capability { cap, name, need: Need::Required }
}

const fn useful(cap: Cap, name: &'static str, loss: &'static str) -> Capability {
    Capability { cap, name, need: Need::Useful(loss) }
}

/// Everything that is asked for. `TSC_CONTROL` has a check of its own.
pub(super) const ALL: &[Capability] = &[
    required(Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    required(Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    required(Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    required(Cap::Irqfd, "KVM_CAP_IRQFD"),
    required(Cap::Pit2, "KVM_CAP_PIT2"),
    required(Cap::PitState2, "KVM_CAP_PIT_STATE2"),
    required(Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    required(Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    required(Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    required(Cap::MpState, "KVM_CAP_MP_STATE"),
    required(Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    required(Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
    required(Cap::Xsave, "KVM_CAP_XSAVE"),
    required(Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
    required(Cap::GetTscKhz, "KVM_CAP_GET_TSC_KHZ"),
    required(Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    useful(
        Cap::Xsave2,
        "KVM_CAP_XSAVE2",
        "guests with more than 4 KiB of vector state (AMX) cannot be saved",
    ),
    useful(Cap::Xcrs, "KVM_CAP_XCRS", "the CPU has no XSAVE, and guests do without its vector registers"),
    useful(Cap::KvmclockCtrl, "KVM_CAP_KVMCLOCK_CTRL", "a guest may report a soft lockup after a long pause"),
    useful(Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER", "guests use a timer that costs more exits"),
    useful(Cap::Clocksource, "KVM_CAP_CLOCKSOURCE", "guests have no kvmclock"),
    useful(Cap::Ioeventfd, "KVM_CAP_IOEVENTFD", "virtio devices of later versions are slower"),
];

/// The name of a capability's number, as the kernel's header has it.
pub(in crate::cli) fn name(number: u32) -> Option<&'static str> {
    let tsc_control = required(Cap::TscControl, "KVM_CAP_TSC_CONTROL");
    ALL.iter().chain([&tsc_control]).find(|c| c.cap as u32 == number).map(|c| c.name)
}
