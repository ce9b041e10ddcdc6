//! A vCPU that is none: it keeps what it is given, and notes the order of the calls.

use std::cell::RefCell;
use std::io;

use kvm_bindings::{
    CpuId, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs,
};

use super::VcpuFd;
use crate::arch::x86_64::msr;

/// What a recorder holds and was asked.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) state: RefCell<State>,
    pub(super) calls: RefCell<Vec<String>>,
    /// MSRs that this vCPU refuses to have set.
    pub refuses: Vec<u32>,
    /// MSRs that this vCPU does not let be read.
    pub unreadable: Vec<u32>,
    /// Whether the kernel has `KVM_VCPU_TSC_OFFSET`.
    pub has_tsc_offset: bool,
    /// Whether the host can scale the TSC.
    pub scales_tsc: bool,
    /// What `KVM_GET_TSC_KHZ` says; 0 for 2 GHz.
    pub khz: u32,
}

#[derive(Clone, Default)]
pub(super) struct State {
    cpuid: Vec<kvm_bindings::kvm_cpuid_entry2>,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: Vec<u8>,
    xcrs: kvm_xcrs,
    debugregs: kvm_debugregs,
    lapic: kvm_lapic_state,
    events: kvm_vcpu_events,
    msrs: Vec<kvm_msr_entry>,
    tsc_offset: u64,
}

impl Recorder {
    /// The calls so far, as verb and object; an MSR by its number.
    pub(in crate::vcpu) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// Where a call first stands.
    pub(in crate::vcpu) fn position(&self, call: &str) -> usize {
        let calls = self.calls();
        calls.iter().position(|made| made == call).unwrap_or_else(|| panic!("no `{call}` among {calls:?}"))
    }

    /// The value of an MSR.
    pub(in crate::vcpu) fn msr(&self, index: u32) -> Option<u64> {
        let state = self.state.borrow();
        state.msrs.iter().rev().find(|msr| msr.index == index).map(|msr| msr.data)
    }

    /// Has an MSR hold a value before anything is restored.
    pub(in crate::vcpu) fn begins_with(&self, index: u32, data: u64) {
        self.state.borrow_mut().msrs.push(kvm_msr_entry { index, data, ..Default::default() });
    }

    /// The TSC offset that was set.
    pub(in crate::vcpu) fn offset(&self) -> u64 {
        self.state.borrow().tsc_offset
    }

    fn note(&self, call: impl Into<String>) {
        self.calls.borrow_mut().push(call.into());
    }

    fn set(&self, call: &str, change: impl FnOnce(&mut State)) -> io::Result<()> {
        self.note(format!("set {call}"));
        change(&mut self.state.borrow_mut());
        Ok(())
    }

    fn get<T>(&self, call: &str, look: impl FnOnce(&State) -> T) -> io::Result<T> {
        self.note(format!("get {call}"));
        Ok(look(&self.state.borrow()))
    }
}

impl VcpuFd for Recorder {
    fn cpuid(&self) -> io::Result<CpuId> {
        self.get("cpuid", |s| CpuId::from_entries(&s.cpuid).unwrap())
    }

    fn set_cpuid(&self, cpuid: &CpuId) -> io::Result<()> {
        self.set("cpuid", |s| s.cpuid = cpuid.as_slice().to_vec())
    }

    fn mp_state(&self) -> io::Result<kvm_mp_state> {
        self.get("mp_state", |s| s.mp_state)
    }

    fn set_mp_state(&self, state: kvm_mp_state) -> io::Result<()> {
        self.set("mp_state", |s| s.mp_state = state)
    }

    fn regs(&self) -> io::Result<kvm_regs> {
        self.get("regs", |s| s.regs)
    }

    fn set_regs(&self, regs: &kvm_regs) -> io::Result<()> {
        self.set("regs", |s| s.regs = *regs)
    }

    fn sregs(&self) -> io::Result<kvm_sregs> {
        self.get("sregs", |s| s.sregs)
    }

    fn set_sregs(&self, sregs: &kvm_sregs) -> io::Result<()> {
        self.set("sregs", |s| s.sregs = *sregs)
    }

    fn xsave(&self) -> io::Result<Vec<u8>> {
        self.get("xsave", |s| s.xsave.clone())
    }

    fn set_xsave(&self, area: &[u8]) -> io::Result<()> {
        self.set("xsave", |s| s.xsave = area.to_vec())
    }

    fn xsave_bytes(&self) -> usize {
        4096 + 2048
    }

    fn xcrs(&self) -> io::Result<kvm_xcrs> {
        self.get("xcrs", |s| s.xcrs)
    }

    fn set_xcrs(&self, xcrs: &kvm_xcrs) -> io::Result<()> {
        self.set("xcrs", |s| s.xcrs = *xcrs)
    }

    fn debugregs(&self) -> io::Result<kvm_debugregs> {
        self.get("debugregs", |s| s.debugregs)
    }

    fn set_debugregs(&self, regs: &kvm_debugregs) -> io::Result<()> {
        self.set("debugregs", |s| s.debugregs = *regs)
    }

    fn lapic(&self) -> io::Result<kvm_lapic_state> {
        self.get("lapic", |s| s.lapic)
    }

    fn set_lapic(&self, lapic: &kvm_lapic_state) -> io::Result<()> {
        self.set("lapic", |s| s.lapic = *lapic)
    }

    fn events(&self) -> io::Result<kvm_vcpu_events> {
        self.get("events", |s| s.events)
    }

    fn set_events(&self, events: &kvm_vcpu_events) -> io::Result<()> {
        self.set("events", |s| s.events = *events)
    }

    fn msrs(&self, indices: &[u32]) -> io::Result<Vec<kvm_msr_entry>> {
        indices.iter().for_each(|index| self.note(format!("get msr {index:#x}")));
        let known =
            |&index: &u32| kvm_msr_entry { index, data: self.msr(index).unwrap_or(0), ..Default::default() };
        Ok(indices.iter().filter(|index| !self.unreadable.contains(index)).map(known).collect())
    }

    fn set_msrs(&self, msrs: &[kvm_msr_entry]) -> io::Result<usize> {
        for (taken, msr) in msrs.iter().enumerate() {
            if self.refuses.contains(&msr.index) {
                return Ok(taken);
            }
            self.set(&format!("msr {:#x}", msr.index), |s| s.msrs.push(*msr))?;
        }
        Ok(msrs.len())
    }

    fn tsc_offset(&self) -> io::Result<Option<u64>> {
        self.get("tsc_offset", |s| self.has_tsc_offset.then_some(s.tsc_offset))
    }

    fn set_tsc_offset(&self, offset: u64) -> io::Result<()> {
        self.set("tsc_offset", |s| s.tsc_offset = offset)
    }

    fn tsc_khz(&self) -> io::Result<u32> {
        Ok(if self.khz == 0 { 2_000_000 } else { self.khz })
    }

    fn set_tsc_khz(&self, _khz: u32) -> io::Result<()> {
        // As KVM does, even where it cannot scale.
        self.note("set tsc_khz");
        Ok(())
    }

    fn scales_tsc(&self) -> bool {
        self.scales_tsc
    }

    fn kvmclock_ctrl(&self) -> io::Result<()> {
        self.note("kvmclock_ctrl");
        Ok(())
    }
}

/// The name by which a recorder notes that the TSC's value was set.
pub(super) fn set_tsc() -> String {
    format!("set msr {:#x}", msr::TSC)
}
