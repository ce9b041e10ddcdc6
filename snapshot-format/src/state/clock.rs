//! The VM's clock. Section `clock`.

use crate::codec::prelude::*;

/// `KVM_GET_CLOCK`, and the host's own clocks at the same instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct ClockState {
    /// kvmclock, ns since the VM was created.
    pub kvmclock_ns: u64,
    /// `KVM_CLOCK_*` flags that came with it: which of the next two fields the kernel filled in.
    pub flags: u32,
    /// The host's `CLOCK_REALTIME`, ns since 1970, taken by the kernel together with `kvmclock_ns`
    /// (`KVM_CLOCK_REALTIME`).
    pub realtime_ns: u64,
    /// The host's TSC, taken by the kernel together with `kvmclock_ns` (`KVM_CLOCK_HOST_TSC`).
    pub host_tsc: u64,
    /// The host's `CLOCK_REALTIME`, ns since 1970, read by the VMM next to the call: for kernels that set no flag.
    pub vmm_realtime_ns: u64,
}
