//! Whether an image's needs are known to be met by this host: a digest of both, written at a snapshot and compared at a
//! restore.
//!
//! Asking KVM what it offers a guest (`KVM_GET_SUPPORTED_CPUID`) executes CPUID a hundred times, each of which is an
//! exit where the host is a virtual machine itself: a tenth of a restore. What KVM answers is made once, as its module comes up
//! (`kvm_set_cpu_caps`), and none of the module's parameters that enter into it can be written later. So the answer is
//! the same for as long as the host runs, its processor is the same, and the module has not been loaded anew; and an image of a
//! guest that ran on that host needs no more than that host offers, because its guest booted there or was compared with it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use snapshot_format::pages::digest;
use snapshot_format::state::{
    CpuidEntryState, CpuidWordState, HostCheckState, HostNeedsState, MsrState, VcpuState, XcrState,
};

use super::KvmKind;
use crate::arch::x86_64::cpuid::Registers;

#[cfg(test)]
#[path = "host_check_test.rs"]
mod host_check_test;

/// Raised whenever a restore compares more than before: what was met by the old rules may not be by the new ones.
const RULES: u32 = 1;

/// A new one at each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This host, its boot, its processor and its KVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostId(Vec<u8>);

impl HostId {
    /// Of this host; `None` where `/proc` or `/sys` do not tell. `cpuid` is the processor's.
    pub(crate) fn here(kind: KvmKind, cpuid: impl Fn(u32, u32) -> Registers) -> Option<Self> {
        let boot = std::fs::read(BOOT_ID).ok()?;
        // A directory's number in sysfs is not given a second time (`__kernfs_new_node`): a module that was loaded anew
        // has another one.
        let number = |path: &Path| path.metadata().ok().map(|about| about.ino());
        let modules = [number(Path::new("/sys/module/kvm"))?, number(&kind.directory()?)?];
        // Should the host be a virtual machine that was moved to another processor.
        let [signature, ..] = cpuid(1, 0);
        let mut bytes = boot;
        bytes.extend(modules.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(signature.to_le_bytes());
        Some(Self(bytes))
    }
}

/// The digest of `needs` and of what these vCPUs rely on, on the host `id`.
pub(crate) fn digest_of(id: &HostId, needs: &HostNeedsState, vcpus: &[VcpuState]) -> HostCheckState {
    let HostNeedsState { cpu_vendor, kvm_kind, cpuid, kvm_caps, tsc_khz: _, xsave_bytes } = needs;
    let mut bytes = id.0.clone();
    let mut add = |word: u64| bytes.extend(word.to_le_bytes());
    add(u64::from(RULES));
    add(u64::from(*xsave_bytes));
    for name in [cpu_vendor, kvm_kind] {
        add(name.len() as u64);
        name.bytes().for_each(|byte| add(u64::from(byte)));
    }
    add(cpuid.len() as u64);
    for &CpuidWordState { function, index, register, bits } in cpuid {
        [function, index, u32::from(register), bits].iter().for_each(|&word| add(u64::from(word)));
    }
    add(kvm_caps.len() as u64);
    kvm_caps.iter().for_each(|&cap| add(u64::from(cap)));
    for VcpuState { cpuid, sregs, xcrs, msrs, .. } in vcpus {
        add(sregs.efer);
        add(xcrs.len() as u64);
        for &XcrState { xcr, value } in xcrs {
            add(u64::from(xcr));
            add(value);
        }
        add(cpuid.len() as u64);
        for &CpuidEntryState { function, index, flags, eax, ebx, ecx, edx } in cpuid {
            [function, index, flags, eax, ebx, ecx, edx].iter().for_each(|&word| add(u64::from(word)));
        }
        add(msrs.len() as u64);
        for &MsrState { index, data } in msrs {
            add(u64::from(index));
            add(data);
        }
    }
    HostCheckState { digest: digest(&bytes) }
}
