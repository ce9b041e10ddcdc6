//! A [`VcpuState`] becomes a vCPU: one call per line, in an order that has reasons.
//!
//! - CPUID before everything else, because it decides which bits of CR4, EFER, XCR0, XSAVE and the MSRs KVM takes
//!   (`kvm_vcpu_after_set_cpuid`).
//! - System registers before the MP state, because `KVM_SET_SREGS` takes a boot processor that stands at the reset
//!   vector for one that was just reset and makes it runnable (`__set_sregs_common`).
//! - Registers before events, because `KVM_SET_REGS` drops a pending exception (`__set_regs`).
//! - System registers before events, because `KVM_SET_SREGS` queues the interrupt of its bitmap
//!   (`kvm_arch_vcpu_ioctl_set_sregs`), which the events then state exactly.
//! - System registers before the LAPIC, because their `apic_base` enables it and says xAPIC or x2APIC, which decides
//!   how the register page is read (`kvm_apic_set_state`).
//! - XCR0 before the XSAVE area: components that XCR0 does not enable could not have been in use.
//! - The TSC before `IA32_TSC_DEADLINE`, because the deadline is measured against the guest's TSC the moment it is
//!   written (`start_sw_tscdeadline`).
//! - The LAPIC before `IA32_TSC_DEADLINE`, because a deadline written while the timer is not in deadline mode is
//!   dropped (`kvm_set_lapic_tscdeadline_msr`).
//! - kvmclock (the VM's, in [`crate::clock`]) before the MSRs, because writing the kvmclock MSRs publishes it.
//! - Every vCPU before the IOAPIC, because setting that delivers what is pending to the LAPICs as they are
//!   (`kvm_ioapic_inject_all`).

use kvm_bindings::kvm_msr_entry;
use snapshot_format::state::VcpuState;

use super::{Blank, Error, Vcpu, VcpuFd, saved};
use crate::arch::x86_64::msr;
use crate::clock::{TimeShift, TscTarget};

/// Parts per million by which two hosts' TSC frequencies may differ and still count as the same: what NTP corrects
/// without a step, and what KVM itself tolerates (`tsc_tolerance_ppm` in arch/x86/kvm/x86.c).
const TSC_TOLERANCE_PPM: u64 = 250;

impl Blank {
    /// The vCPU as it was saved. `shift` says how far guest time has moved.
    ///
    /// Call only after every vCPU of the VM was created: a vCPU is created with its TSC at 0, which KVM takes for the
    /// value that the next write is to agree with, and so the TSCs would drift apart (`kvm_synchronize_tsc`).
    pub fn restore(self, saved: &VcpuState, shift: &TimeShift) -> Result<Restored, Error> {
        let Self { id, fd } = self;
        let Outcome { without, exact_tsc } = restore(&fd, saved, shift)?;
        let kept = saved.msrs.iter().map(|msr| msr.index).filter(|index| !without.contains(index));
        let vcpu = Vcpu { id, msrs: msr::to_save_again(kept), tsc_khz: Some(saved.tsc.khz), fd };
        Ok(Restored { vcpu, exact_tsc })
    }
}

/// A vCPU as it was saved, and how well that went.
#[derive(Debug)]
pub struct Restored {
    /// The vCPU.
    pub vcpu: Vcpu,
    /// Whether its TSC stands in exact relation to kvmclock, and not only as exactly as a value can be written.
    pub exact_tsc: bool,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// MSRs that this host does without: see [`set_msrs`].
    pub(super) without: Vec<u32>,
    pub(super) exact_tsc: bool,
}

pub(super) fn restore(fd: &impl VcpuFd, state: &VcpuState, shift: &TimeShift) -> Result<Outcome, Error> {
    let id = state.id;
    let cannot = |call| move |source| Error::Ioctl { call, vcpu: id, source };
    let parts = saved::Parts::check(state, fd.xsave_bytes())?;

    fd.set_cpuid(&parts.cpuid).map_err(cannot("set the CPUID"))?;
    let scaled = set_tsc_frequency(fd, state)?;
    fd.set_regs(&parts.regs).map_err(cannot("set the registers"))?;
    fd.set_sregs(&parts.sregs).map_err(cannot("set the system registers"))?;
    fd.set_mp_state(parts.mp_state).map_err(cannot("set the MP state"))?;
    fd.set_xcrs(&parts.xcrs).map_err(cannot("set the extended control registers"))?;
    fd.set_xsave(&state.xsave.0).map_err(cannot("set the XSAVE area"))?;
    fd.set_debugregs(&parts.debugregs).map_err(cannot("set the debug registers"))?;
    let tsc = shift.tsc(&state.tsc, scaled);
    match tsc {
        TscTarget::Offset(offset) => fd.set_tsc_offset(offset).map_err(cannot("set the TSC offset"))?,
        TscTarget::Value(value) => set_msr(fd, id, entry(msr::TSC, value))?,
    }
    let without = set_msrs(fd, id, &parts.msrs)?;
    fd.set_lapic(&parts.lapic).map_err(cannot("set the LAPIC"))?;
    if state.tsc_deadline != 0 {
        set_msr(fd, id, entry(msr::TSC_DEADLINE, state.tsc_deadline))?;
    }
    fd.set_events(&parts.events).map_err(cannot("set the pending events"))?;

    if cfg!(debug_assertions) {
        read_back(fd, &parts, id)?;
    }
    Ok(Outcome { without, exact_tsc: matches!(tsc, TscTarget::Offset(_)) })
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, ..Default::default() }
}

fn refused(vcpu: u32, msr: &kvm_msr_entry) -> Error {
    Error::MsrRefused { vcpu, index: msr.index, data: msr.data }
}

fn set_msr(fd: &impl VcpuFd, vcpu: u32, msr: kvm_msr_entry) -> Result<(), Error> {
    let taken = fd.set_msrs(&[msr]).map_err(|source| Error::Ioctl { call: "set the MSRs", vcpu, source })?;
    if taken == 1 { Ok(()) } else { Err(refused(vcpu, &msr)) }
}

/// Sets `msrs` in order, and returns those that this host does without.
///
/// An MSR that was saved as 0, that KVM refuses, and that does not exist here or is 0 already, is one that the guest
/// never used: the kernel that it was saved on knew it and this one does not.
fn set_msrs(fd: &impl VcpuFd, vcpu: u32, msrs: &[kvm_msr_entry]) -> Result<Vec<u32>, Error> {
    let cannot = |call| move |source| Error::Ioctl { call, vcpu, source };
    let (mut rest, mut without) = (msrs, Vec::new());
    loop {
        let taken = fd.set_msrs(rest).map_err(cannot("set the MSRs"))?;
        let Some((msr, later)) = rest.get(taken..).and_then(<[_]>::split_first) else { return Ok(without) };
        let is_zero = |found: &kvm_msr_entry| found.data == 0;
        let found = fd.msrs(&[msr.index]).map_err(cannot("read an MSR"))?;
        if msr.data != 0 || !found.iter().all(is_zero) {
            return Err(refused(vcpu, msr));
        }
        tracing::debug!(vcpu, msr = format!("{:#x}", msr.index), "this KVM does not have it, nor needs it");
        without.push(msr.index);
        rest = later;
    }
}

/// Gives the guest its TSC frequency, and says whether the host's is another one.
fn set_tsc_frequency(fd: &impl VcpuFd, state: &VcpuState) -> Result<bool, Error> {
    let (vcpu, guest) = (state.id, state.tsc.khz);
    let host =
        fd.tsc_khz().map_err(|source| Error::Ioctl { call: "read the TSC frequency", vcpu, source })?;
    let tolerated = u64::from(host) * TSC_TOLERANCE_PPM / 1_000_000;
    if u64::from(host.abs_diff(guest)) <= tolerated {
        return Ok(false);
    }
    // Without hardware scaling KVM would take a faster guest all the same, and set its TSC forward at every entry
    // (`set_tsc_khz`, tsc_always_catchup): a guest that reads it twice between two entries sees it stand still.
    if !fd.scales_tsc() {
        return Err(Error::TscFrequency { guest, host });
    }
    fd.set_tsc_khz(guest).map_err(|_| Error::TscFrequency { guest, host })?;
    Ok(true)
}

/// What KVM keeps as it was written must read back the same. Debug builds only.
fn read_back(fd: &impl VcpuFd, parts: &saved::Parts, vcpu: u32) -> Result<(), Error> {
    let cannot = |call| move |source| Error::Ioctl { call, vcpu, source };
    let differs =
        |field| Error::Impossible { vcpu, field, problem: "reads back differently from KVM".into() };
    if fd.regs().map_err(cannot("read back the registers"))? != parts.regs {
        return Err(differs("regs"));
    }
    if fd.debugregs().map_err(cannot("read back the debug registers"))? != parts.debugregs {
        return Err(differs("debugregs"));
    }
    if saved::xcrs(&fd.xcrs().map_err(cannot("read back the extended control registers"))?)
        != saved::xcrs(&parts.xcrs)
    {
        return Err(differs("xcrs"));
    }
    Ok(())
}
