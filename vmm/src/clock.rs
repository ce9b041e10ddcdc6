//! Guest time across a snapshot: captured at save, advanced at restore. The only wall clock of the VMM.
//!
//! A restored guest finds that as much time has passed as really has. Its kvmclock and its TSC are both advanced by
//! the host's real time between the save and the restore, so that whichever of them the guest keeps its clocks by,
//! its wall time is right with nobody inside to correct it, and its monotonic time moves forward, never back. If the
//! host's clock was set back meanwhile, guest time continues from where it stood. A guest that was at work does not
//! survive long stretches ([`most`]): its time is advanced by [`MAX_AT_WORK`] at most, and its wall clock is behind by
//! the rest.
//!
//! The procedure is the kernel's own (Documentation/virt/kvm/devices/vcpu.rst, section 4.1, "Migrating the TSC"):
//! `KVM_SET_CLOCK` with `KVM_CLOCK_REALTIME` first, and from the kvmclock that results, each vCPU's TSC offset.
//! Where the kernel has no stable TSC to relate kvmclock to, the TSC's value is set instead.

use std::time::{Duration, SystemTime};

use kvm_bindings::{KVM_CLOCK_HOST_TSC, KVM_CLOCK_REALTIME, KVM_CLOCK_TSC_STABLE, kvm_clock_data};
use kvm_ioctls::{Cap, VmFd};
use snapshot_format::state::{ClockState, TscState, VcpuState};

use crate::lifecycle::Quiesced;

#[cfg(test)]
#[path = "clock_test.rs"]
mod clock_test;

/// The most that the time of a guest is advanced by which was at work when it was saved.
///
/// Both counters are also what a guest's scheduler measures with. A task that ran when the snapshot was taken has, to
/// Linux 6.6 and later, run all the time, and EEVDF multiplies that time by a weight of up to 88761 in 64 bits
/// (`avg_vruntime_add`): from some 29 hours on it overflows, and the guest dies of it now and then (`pick_eevdf` finds
/// nobody to run). An hour leaves room for some thirty such tasks. The record of stolen time ([`crate::vcpu`]) is no way
/// out: only a kernel with `CONFIG_PARAVIRT_TIME_ACCOUNTING` lets its scheduler look there, Debian's have it off, and
/// from here nobody can tell them apart.
pub const MAX_AT_WORK: Duration = Duration::from_secs(3600);

/// A vCPU that waits for an interrupt in `HLT`, and one that waits for its INIT: neither has a task on it.
const IDLE: [u32; 2] = [kvm_bindings::KVM_MP_STATE_HALTED, kvm_bindings::KVM_MP_STATE_UNINITIALIZED];

/// By how much the time of a guest may be advanced that was saved with these vCPUs. If all of them were idle, there is
/// no task to charge with the time away, and it may be any.
pub fn most(vcpus: &[VcpuState]) -> Duration {
    if vcpus.iter().all(|vcpu| IDLE.contains(&vcpu.mp_state)) { Duration::MAX } else { MAX_AT_WORK }
}

/// Why the clock could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `KVM_GET_CLOCK` failed.
    #[error("cannot read kvmclock")]
    Get(#[source] std::io::Error),
    /// `KVM_SET_CLOCK` failed.
    #[error("cannot set kvmclock to {ns} ns")]
    Set {
        /// The value.
        ns: u64,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

/// Where a device learns the time of day. The host's clock in a machine, a fixed one in a test.
pub trait WallClock: Send + Sync {
    /// The time of day (UTC).
    fn now(&self) -> SystemTime;
}

/// The host's `CLOCK_REALTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock;

impl WallClock for HostClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The host's wall clock in ns since 1970.
pub fn realtime_ns() -> u64 {
    let since_epoch = HostClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads the VM's clock together with the host's.
pub fn capture(vm: &VmFd, _at_rest: &Quiesced<'_>) -> Result<ClockState, Error> {
    let clock = vm.get_clock().map_err(|e| Error::Get(e.into()))?;
    Ok(ClockState {
        kvmclock_ns: clock.clock,
        flags: clock.flags,
        realtime_ns: clock.realtime,
        host_tsc: clock.host_tsc,
        vmm_realtime_ns: realtime_ns(),
    })
}

/// Sets the VM's clock to where it would stand had the guest never stopped, but `most` further than it stood at most, and
/// says how TSCs must follow.
pub fn restore(vm: &VmFd, saved: &ClockState, most: Duration) -> Result<TimeShift, Error> {
    let adjusts = u32::try_from(vm.check_extension_int(Cap::AdjustClock)).unwrap_or(0);
    let host_now = realtime_ns();
    let target = target(saved, adjusts & KVM_CLOCK_REALTIME != 0, host_now, most);
    vm.set_clock(&target).map_err(|e| Error::Set { ns: target.clock, source: e.into() })?;
    let now = vm.get_clock().map_err(|e| Error::Get(e.into()))?;
    let behind = elapsed(saved, host_now).saturating_sub(most);
    Ok(TimeShift { behind, ..TimeShift::between(saved, &now) })
}

/// What to hand to `KVM_SET_CLOCK`. A kernel that takes `KVM_CLOCK_REALTIME` adds the real time that has passed
/// itself, at the instant of the call (`kvm_vm_ioctl_set_clock`), and adds nothing when the clock went backwards.
fn target(saved: &ClockState, kernel_adds: bool, now_ns: u64, most: Duration) -> kvm_clock_data {
    let elapsed = elapsed(saved, now_ns);
    if kernel_adds && elapsed < most {
        return kvm_clock_data {
            clock: saved.kvmclock_ns,
            flags: KVM_CLOCK_REALTIME,
            realtime: saved_realtime(saved),
            ..Default::default()
        };
    }
    let advance = elapsed.min(most).as_nanos() as u64;
    kvm_clock_data { clock: saved.kvmclock_ns.saturating_add(advance), ..Default::default() }
}

/// Real time since the save; none if the host's clock was set back.
fn elapsed(saved: &ClockState, now_ns: u64) -> Duration {
    Duration::from_nanos(now_ns.saturating_sub(saved_realtime(saved)))
}

fn saved_realtime(saved: &ClockState) -> u64 {
    if saved.flags & KVM_CLOCK_REALTIME != 0 { saved.realtime_ns } else { saved.vmm_realtime_ns }
}

/// By how much guest time was moved, and how host TSCs compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeShift {
    /// Guest time that passed between save and restore, ns.
    elapsed_ns: u64,
    /// How much more real time has passed than guest time.
    behind: Duration,
    /// Host TSC at the save minus host TSC now, where the kernel related both to kvmclock.
    host_tsc_delta: Option<u64>,
}

/// How to set one vCPU's TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TscTarget {
    /// By `KVM_VCPU_TSC_OFFSET`.
    Offset(u64),
    /// By writing `IA32_TSC`.
    Value(u64),
}

impl TimeShift {
    /// The shift between a saved clock and the one that KVM has now.
    pub(crate) fn between(saved: &ClockState, now: &kvm_clock_data) -> Self {
        let related = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_HOST_TSC;
        let both_related = saved.flags & now.flags & related == related;
        Self {
            behind: Duration::ZERO,
            elapsed_ns: now.clock.saturating_sub(saved.kvmclock_ns),
            host_tsc_delta: both_related.then(|| saved.host_tsc.wrapping_sub(now.host_tsc)),
        }
    }

    /// Guest time that passed between save and restore.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns)
    }

    /// By how much the guest's wall clock is behind, because more has passed than its guest can bear.
    pub fn behind(&self) -> Duration {
        self.behind
    }

    /// Where the TSC of a vCPU that was saved as `saved` belongs. `scaled` says that the host's TSC runs at another
    /// frequency than the guest's, so that differences of host TSCs mean nothing to the guest.
    pub fn tsc(&self, saved: &TscState, scaled: bool) -> TscTarget {
        let cycles = u128::from(self.elapsed_ns) * u128::from(saved.khz) / 1_000_000;
        let cycles = cycles as u64; // A TSC wraps modulo 2^64, and so does this.
        match self.host_tsc_delta {
            Some(delta) if saved.has_offset && !scaled => {
                TscTarget::Offset(saved.offset.wrapping_add(cycles).wrapping_add(delta))
            }
            _ => TscTarget::Value(saved.value.wrapping_add(cycles)),
        }
    }
}
