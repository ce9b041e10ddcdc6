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

const fn useful(cap: Cap, loss: &'static str) -> Capability {
    Capability { cap, name: name(cap), need: Need::Useful(loss) }
}

/// From the library's table, which has all.
const fn name(cap: Cap) -> &'static str {
    machine::Capability(cap as u32).name().expect("every capability that is asked for has its name there")
}

/// What something is worse without. `TSC_CONTROL` has a check of its own.
const USEFUL: [Capability; 5] = [
    useful(Cap::Xsave2, "guests with more than 4 KiB of vector state (AMX) cannot be saved"),
    useful(Cap::Xcrs, "the CPU has no XSAVE, and guests do without its vector registers"),
    useful(Cap::KvmclockCtrl, "a guest may report a soft lockup after a long pause"),
    useful(Cap::TscDeadlineTimer, "guests use a timer that costs more exits"),
    useful(Cap::Clocksource, "guests have no kvmclock"),
];

/// Everything that is asked for: what every VM needs is what the library itself asks for before it makes one.
pub(super) fn all() -> impl Iterator<Item = Capability> {
    let needed = machine::NEEDED.iter().map(|(cap, _)| Capability {
        cap: *cap,
        name: name(*cap),
        need: Need::Required,
    });
    needed.chain(USEFUL)
}
