//! The host's KVM: opened and checked.

use std::io;

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm};

use super::Error;

/// An open `/dev/kvm` that has what every VM of ours needs.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
}

/// Without these there is no VM, and the order of their names is that of Linux versions: all are there since 4.12
/// at the latest.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP (interrupt controllers in the kernel)"),
    (Cap::Pit2, "KVM_CAP_PIT2 (interval timer in the kernel)"),
    (Cap::Irqfd, "KVM_CAP_IRQFD (interrupts through eventfds)"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY (guest memory from user space)"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK (setting kvmclock)"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS (pending exceptions and interrupts)"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT (stopping a vCPU without a race)"),
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
            Some((_, name)) => Err(Error::MissingCapability(name)),
            None => Ok(Self { kvm }),
        }
    }

    /// What is needed of KVM, by name, and whether it is there.
    pub fn capabilities(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        NEEDED.iter().map(|(cap, name)| (*name, self.kvm.check_extension(*cap)))
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
