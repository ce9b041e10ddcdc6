//! The host's KVM: opened and checked.

use std::io;

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm};

use super::{Capability, Error};

/// An open `/dev/kvm` that has what every VM of ours needs.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
}

/// Without these there is no VM, with what each is for; `rekindle doctor` asks for the same. All are there since Linux
/// 4.12 at the latest.
pub const NEEDED: [(Cap, &str); 17] = [
    (Cap::Irqchip, "interrupt controllers in the kernel"),
    (Cap::IrqRouting, "their inputs by number"),
    (Cap::Irqfd, "interrupts through eventfds"),
    (Cap::Ioeventfd, "doorbells of virtio devices"),
    (Cap::Pit2, "interval timer in the kernel"),
    (Cap::PitState2, "its state"),
    (Cap::UserMemory, "guest memory from user space"),
    (Cap::SetTssAddr, "KVM's own page for real mode"),
    (Cap::SetIdentityMapAddr, "KVM's own page table for real mode"),
    (Cap::ExtCpuid, "the CPUID that a guest sees"),
    (Cap::MpState, "halted vCPUs"),
    (Cap::VcpuEvents, "pending exceptions and interrupts"),
    (Cap::Debugregs, "debug registers"),
    (Cap::Xsave, "vector registers"),
    (Cap::AdjustClock, "setting kvmclock"),
    (Cap::GetTscKhz, "the TSC's frequency"),
    (Cap::ImmediateExit, "stopping a vCPU without a race"),
];

impl Host {
    /// Opens `/dev/kvm` and checks it.
    pub fn open() -> Result<Self, Error> {
        let kvm = Kvm::new().map_err(|e| match io::Error::from(e) {
            e if e.kind() == io::ErrorKind::NotFound => Error::NoKvm(e),
            e if e.kind() == io::ErrorKind::PermissionDenied => Error::KvmPermission(e),
            e => Error::OpenKvm(e),
        })?;
        let found = kvm.get_api_version();
        if u32::try_from(found) != Ok(KVM_API_VERSION) {
            return Err(Error::ApiVersion { found });
        }
        match NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            Some((cap, purpose)) => Err(Error::MissingCapability { cap: Capability(*cap as u32), purpose }),
            None => Ok(Self { kvm }),
        }
    }

    /// What KVM can show a guest by CPUID (`KVM_GET_SUPPORTED_CPUID`).
    pub(crate) fn supported_cpuid(&self) -> Result<Vec<kvm_cpuid_entry2>, Error> {
        let supported = self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        Ok(supported.map_err(Error::vm("read what CPUID KVM supports"))?.as_slice().to_vec())
    }

    /// The MSRs that KVM keeps for a guest (`KVM_GET_MSR_INDEX_LIST`).
    pub(crate) fn listed_msrs(&self) -> Result<Vec<u32>, Error> {
        let listed = self.kvm.get_msr_index_list().map_err(Error::vm("read which MSRs KVM has"))?;
        Ok(listed.as_slice().to_vec())
    }

    /// What a guest reads from an MSR that says what the host can do, if KVM gives it out
    /// (`KVM_CAP_GET_MSR_FEATURES`).
    pub(crate) fn feature_msr(&self, index: u32) -> Option<u64> {
        let mut msrs = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
        let read = self.kvm.get_msrs(&mut msrs).ok()?;
        msrs.as_slice().get(..read)?.first().map(|msr| msr.data)
    }

    /// For the calls on `/dev/kvm` itself.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}
