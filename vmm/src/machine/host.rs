//! The host's KVM: opened, checked, and told apart by kind.

use std::fmt;
use std::io;
use std::path::Path;

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::{Cap, Kvm};

use super::Error;

/// Which implementation of KVM the host has. The state of a guest can be put back only on the same kind: the MSRs
/// and the exceptions of a guest differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvmKind {
    /// Intel VMX.
    Vmx,
    /// AMD SVM.
    Svm,
    /// PVM: shadow paging and emulation, without hardware virtualization.
    Pvm,
    /// None of the modules is there under a name we know.
    Unknown,
}

impl KvmKind {
    const MODULES: [(Self, &'static str, &'static str); 3] = [
        (Self::Pvm, "pvm", "/sys/module/kvm_pvm"),
        (Self::Vmx, "vmx", "/sys/module/kvm_intel"),
        (Self::Svm, "svm", "/sys/module/kvm_amd"),
    ];

    /// Looks which vendor module is loaded or built in; KVM allows one at a time.
    pub fn detect() -> Self {
        let loaded = Self::MODULES.iter().find(|(.., module)| Path::new(module).exists());
        loaded.map_or(Self::Unknown, |(kind, ..)| *kind)
    }

    /// The name that an image records.
    pub fn name(self) -> &'static str {
        let named = Self::MODULES.iter().find(|(kind, ..)| *kind == self);
        named.map_or("unknown", |(_, name, _)| *name)
    }
}

impl fmt::Display for KvmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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

    /// For the calls on `/dev/kvm` itself.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}
