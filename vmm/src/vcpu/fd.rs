//! The KVM calls that saving and restoring a vCPU make, as a trait, so that a recording fake can check their order.

use std::io;

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry,
    kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{Cap, VmFd};

use crate::arch::x86_64::msr;
use crate::sys;

/// One method per ioctl. Errors are the kernel's.
#[expect(missing_docs, reason = "each method is the KVM_GET_* or KVM_SET_* call of its name")]
pub trait VcpuFd {
    fn cpuid(&self) -> io::Result<CpuId>;
    fn set_cpuid(&self, cpuid: &CpuId) -> io::Result<()>;
    fn mp_state(&self) -> io::Result<kvm_mp_state>;
    fn set_mp_state(&self, state: kvm_mp_state) -> io::Result<()>;
    fn regs(&self) -> io::Result<kvm_regs>;
    fn set_regs(&self, regs: &kvm_regs) -> io::Result<()>;
    fn sregs(&self) -> io::Result<kvm_sregs>;
    fn set_sregs(&self, sregs: &kvm_sregs) -> io::Result<()>;
    /// The XSAVE area, as long as this VM's KVM makes it.
    fn xsave(&self) -> io::Result<Vec<u8>>;
    /// Sets the XSAVE area; a shorter one is filled up with zeros.
    fn set_xsave(&self, area: &[u8]) -> io::Result<()>;
    /// The length of the XSAVE area in bytes.
    fn xsave_bytes(&self) -> usize;
    fn xcrs(&self) -> io::Result<kvm_xcrs>;
    fn set_xcrs(&self, xcrs: &kvm_xcrs) -> io::Result<()>;
    fn debugregs(&self) -> io::Result<kvm_debugregs>;
    fn set_debugregs(&self, regs: &kvm_debugregs) -> io::Result<()>;
    fn lapic(&self) -> io::Result<kvm_lapic_state>;
    fn set_lapic(&self, lapic: &kvm_lapic_state) -> io::Result<()>;
    fn events(&self) -> io::Result<kvm_vcpu_events>;
    fn set_events(&self, events: &kvm_vcpu_events) -> io::Result<()>;
    /// The named MSRs without those that KVM does not read.
    fn msrs(&self, indices: &[u32]) -> io::Result<Vec<kvm_msr_entry>>;
    /// Sets MSRs in order and returns how many were taken before the first that was refused.
    fn set_msrs(&self, msrs: &[kvm_msr_entry]) -> io::Result<usize>;
    /// `KVM_VCPU_TSC_OFFSET`; `None` where the kernel has no such attribute.
    fn tsc_offset(&self) -> io::Result<Option<u64>>;
    fn set_tsc_offset(&self, offset: u64) -> io::Result<()>;
    fn tsc_khz(&self) -> io::Result<u32>;
    fn set_tsc_khz(&self, khz: u32) -> io::Result<()>;
    /// Whether the TSC's frequency can be another one than the host's.
    fn scales_tsc(&self) -> bool;
    fn kvmclock_ctrl(&self) -> io::Result<()>;
}

/// What this VM's KVM has for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Length of the XSAVE area in bytes: what `KVM_CAP_XSAVE2` reports, at least 4096.
    pub xsave_bytes: usize,
    /// Whether there are extended control registers (`KVM_CAP_XCRS`): not on a host without XSAVE.
    pub has_xcrs: bool,
    /// Whether a guest's TSC may run at another frequency than the host's (`KVM_CAP_TSC_CONTROL`).
    pub scales_tsc: bool,
}

impl Traits {
    /// Asks the VM.
    pub fn of(vm: &VmFd) -> Self {
        let xsave_bytes = usize::try_from(vm.check_extension_int(Cap::Xsave2)).unwrap_or(0).max(4096);
        Self {
            xsave_bytes,
            has_xcrs: vm.check_extension(Cap::Xcrs),
            scales_tsc: vm.check_extension(Cap::TscControl),
        }
    }
}

/// A vCPU of the kernel's.
#[derive(Debug)]
pub struct KvmVcpu {
    pub(super) fd: kvm_ioctls::VcpuFd,
    traits: Traits,
    /// `KVM_GET_VCPU_MMAP_SIZE`.
    pub(super) run_bytes: usize,
}

impl KvmVcpu {
    pub(super) fn new(fd: kvm_ioctls::VcpuFd, traits: Traits, run_bytes: usize) -> Self {
        Self { fd, traits, run_bytes }
    }
}

impl VcpuFd for KvmVcpu {
    fn cpuid(&self) -> io::Result<CpuId> {
        Ok(self.fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES)?)
    }

    fn set_cpuid(&self, cpuid: &CpuId) -> io::Result<()> {
        Ok(self.fd.set_cpuid2(cpuid)?)
    }

    fn mp_state(&self) -> io::Result<kvm_mp_state> {
        Ok(self.fd.get_mp_state()?)
    }

    fn set_mp_state(&self, state: kvm_mp_state) -> io::Result<()> {
        Ok(self.fd.set_mp_state(state)?)
    }

    fn regs(&self) -> io::Result<kvm_regs> {
        Ok(self.fd.get_regs()?)
    }

    fn set_regs(&self, regs: &kvm_regs) -> io::Result<()> {
        Ok(self.fd.set_regs(regs)?)
    }

    fn sregs(&self) -> io::Result<kvm_sregs> {
        Ok(self.fd.get_sregs()?)
    }

    fn set_sregs(&self, sregs: &kvm_sregs) -> io::Result<()> {
        Ok(self.fd.set_sregs(sregs)?)
    }

    fn xsave(&self) -> io::Result<Vec<u8>> {
        sys::kvm::xsave(&self.fd, self.traits.xsave_bytes)
    }

    fn set_xsave(&self, area: &[u8]) -> io::Result<()> {
        sys::kvm::set_xsave(&self.fd, area, self.traits.xsave_bytes)
    }

    fn xsave_bytes(&self) -> usize {
        self.traits.xsave_bytes
    }

    fn xcrs(&self) -> io::Result<kvm_xcrs> {
        if self.traits.has_xcrs { Ok(self.fd.get_xcrs()?) } else { Ok(kvm_xcrs::default()) }
    }

    fn set_xcrs(&self, xcrs: &kvm_xcrs) -> io::Result<()> {
        // A vCPU without them can only have been saved with none; one that has some fails here, by name.
        if !self.traits.has_xcrs && xcrs.nr_xcrs == 0 { Ok(()) } else { Ok(self.fd.set_xcrs(xcrs)?) }
    }

    fn debugregs(&self) -> io::Result<kvm_debugregs> {
        Ok(self.fd.get_debug_regs()?)
    }

    fn set_debugregs(&self, regs: &kvm_debugregs) -> io::Result<()> {
        Ok(self.fd.set_debug_regs(regs)?)
    }

    fn lapic(&self) -> io::Result<kvm_lapic_state> {
        Ok(self.fd.get_lapic()?)
    }

    fn set_lapic(&self, lapic: &kvm_lapic_state) -> io::Result<()> {
        Ok(self.fd.set_lapic(lapic)?)
    }

    fn events(&self) -> io::Result<kvm_vcpu_events> {
        Ok(self.fd.get_vcpu_events()?)
    }

    fn set_events(&self, events: &kvm_vcpu_events) -> io::Result<()> {
        Ok(self.fd.set_vcpu_events(events)?)
    }

    fn msrs(&self, indices: &[u32]) -> io::Result<Vec<kvm_msr_entry>> {
        let mut values = Vec::with_capacity(indices.len());
        let mut rest = indices;
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(msr::MAX_PER_CALL)];
            let entries: Vec<_> =
                batch.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
            let mut msrs = Msrs::from_entries(&entries).map_err(|_| io::ErrorKind::InvalidInput)?;
            let got = self.fd.get_msrs(&mut msrs)?.min(batch.len());
            values.extend_from_slice(&msrs.as_slice()[..got]);
            // KVM stops at the first it cannot read: go on behind that one.
            let skip = if got < batch.len() { got + 1 } else { got };
            rest = &rest[skip..];
        }
        Ok(values)
    }

    fn set_msrs(&self, msrs: &[kvm_msr_entry]) -> io::Result<usize> {
        let mut taken = 0;
        for batch in msrs.chunks(msr::MAX_PER_CALL) {
            let entries = Msrs::from_entries(batch).map_err(|_| io::ErrorKind::InvalidInput)?;
            let set = self.fd.set_msrs(&entries)?;
            taken += set;
            if set < batch.len() {
                break;
            }
        }
        Ok(taken)
    }

    fn tsc_offset(&self) -> io::Result<Option<u64>> {
        match sys::kvm::tsc_offset(&self.fd) {
            Ok(offset) => Ok(Some(offset)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENOTTY | libc::EINVAL)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn set_tsc_offset(&self, offset: u64) -> io::Result<()> {
        sys::kvm::set_tsc_offset(&self.fd, offset)
    }

    fn tsc_khz(&self) -> io::Result<u32> {
        Ok(self.fd.get_tsc_khz()?)
    }

    fn set_tsc_khz(&self, khz: u32) -> io::Result<()> {
        Ok(self.fd.set_tsc_khz(khz)?)
    }

    fn scales_tsc(&self) -> bool {
        self.traits.scales_tsc
    }

    fn kvmclock_ctrl(&self) -> io::Result<()> {
        Ok(self.fd.kvmclock_ctrl()?)
    }
}
