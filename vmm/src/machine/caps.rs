//! The names of KVM's capabilities (`KVM_CAP_*` of linux/kvm.h): of all that this program asks for.

use std::fmt;

use kvm_bindings as kvm;

/// A capability's number, shown by its name if there is one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(pub u32);

/// `name!(A, B, …)`: numbers and their names.
macro_rules! named {
    ($($name:ident),* $(,)?) => { &[$((kvm::$name, stringify!($name))),*] };
}

const NAMES: &[(u32, &str)] = named![
    KVM_CAP_ADJUST_CLOCK,
    KVM_CAP_CLOCKSOURCE,
    KVM_CAP_DEBUGREGS,
    KVM_CAP_EXCEPTION_PAYLOAD,
    KVM_CAP_EXT_CPUID,
    KVM_CAP_GET_TSC_KHZ,
    KVM_CAP_IMMEDIATE_EXIT,
    KVM_CAP_IOEVENTFD,
    KVM_CAP_IRQCHIP,
    KVM_CAP_IRQFD,
    KVM_CAP_IRQ_ROUTING,
    KVM_CAP_KVMCLOCK_CTRL,
    KVM_CAP_MP_STATE,
    KVM_CAP_PIT2,
    KVM_CAP_PIT_STATE2,
    KVM_CAP_PMU_CAPABILITY,
    KVM_CAP_SET_IDENTITY_MAP_ADDR,
    KVM_CAP_SET_TSS_ADDR,
    KVM_CAP_TSC_CONTROL,
    KVM_CAP_TSC_DEADLINE_TIMER,
    KVM_CAP_USER_MEMORY,
    KVM_CAP_VCPU_EVENTS,
    KVM_CAP_X86_TRIPLE_FAULT_EVENT,
    KVM_CAP_XCRS,
    KVM_CAP_XSAVE,
    KVM_CAP_XSAVE2,
];

impl Capability {
    /// Its name, if it is one that is asked for anywhere.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        let mut at = 0;
        while at < NAMES.len() {
            if NAMES[at].0 == self.0 {
                return Some(NAMES[at].1);
            }
            at += 1;
        }
        None
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
#[path = "caps_test.rs"]
mod caps_test;
