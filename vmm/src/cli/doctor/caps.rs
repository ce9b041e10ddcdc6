//! The KVM capabilities that matter, and what becomes of a guest without them.

use kvm_ioctls::Cap;
use vmm::machine;

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

const fn required(cap: Cap) -> Capability {
    Capability { cap, name: name(cap), need: Need::Required }
}

const fn useful(cap: Cap, loss: &'static str) -> Capability {
    Capability { cap, name: name(cap), need: Need::Useful(loss) }
}

/// From the library's table, which has all.
const fn name(cap: Cap) -> &'static str {
    machine::Capability(cap as u32).name().expect("every capability that is asked for has its name there")
}

/// Everything that is asked for. `TSC_CONTROL` has a check of its own.
pub(super) const ALL: &[Capability] = &[
    required(Cap::UserMemory),
    required(Cap::Irqchip),
    required(Cap::IrqRouting),
    required(Cap::Irqfd),
    required(Cap::Pit2),
    required(Cap::PitState2),
    required(Cap::SetTssAddr),
    required(Cap::SetIdentityMapAddr),
    required(Cap::ExtCpuid),
    required(Cap::MpState),
    required(Cap::VcpuEvents),
    required(Cap::Debugregs),
    required(Cap::Xsave),
    required(Cap::AdjustClock),
    required(Cap::GetTscKhz),
    required(Cap::ImmediateExit),
    useful(Cap::Xsave2, "guests with more than 4 KiB of vector state (AMX) cannot be saved"),
    useful(Cap::Xcrs, "the CPU has no XSAVE, and guests do without its vector registers"),
    useful(Cap::KvmclockCtrl, "a guest may report a soft lockup after a long pause"),
    useful(Cap::TscDeadlineTimer, "guests use a timer that costs more exits"),
    useful(Cap::Clocksource, "guests have no kvmclock"),
    useful(Cap::Ioeventfd, "virtio devices of later versions are slower"),
];
