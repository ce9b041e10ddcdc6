//! Which implementation of KVM a host has.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::arch::x86_64::cpuid::{self, Registers};

#[cfg(test)]
#[path = "kind_test.rs"]
mod kind_test;

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

/// What the processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hardware {
    Vmx,
    Svm,
    Neither,
}

impl Hardware {
    /// By the vendor, and by the bit that says whether it is there: the one of another vendor's extension may have any
    /// meaning.
    fn of(cpuid: &impl Fn(u32, u32) -> Registers) -> Self {
        match cpuid::vendor(cpuid).as_str() {
            "AuthenticAMD" | "HygonGenuine" if cpuid(0x8000_0001, 0)[2] >> 2 & 1 != 0 => Self::Svm,
            "GenuineIntel" | "CentaurHauls" | "  Shanghai  " if cpuid(1, 0)[2] >> 5 & 1 != 0 => Self::Vmx,
            _ => Self::Neither,
        }
    }
}

impl KvmKind {
    const MODULES: [(Self, &'static str, &'static str); 3] =
        [(Self::Pvm, "pvm", "kvm_pvm"), (Self::Vmx, "vmx", "kvm_intel"), (Self::Svm, "svm", "kvm_amd")];

    /// Looks which of the modules provides this host's KVM.
    pub fn detect() -> Self {
        Self::provider(Path::exists, &cpuid::host)
    }

    /// Only one can provide it, but several may be in `/sys/module`: a module that is built into the kernel is listed
    /// there whether or not it found what it needs. One that was loaded has found it, or it would not have stayed; only
    /// such a one has a state (`module_add_modinfo_attrs` in kernel/module/sysfs.c). Among built-in modules the processor
    /// decides: those for hardware come up before PVM, and only on their own.
    pub(crate) fn provider(exists: impl Fn(&Path) -> bool, cpuid: &impl Fn(u32, u32) -> Registers) -> Self {
        let listed = |kind: &Self| kind.directory().is_some_and(|directory| exists(&directory));
        let present: Vec<Self> = Self::MODULES.map(|(kind, ..)| kind).into_iter().filter(listed).collect();
        if let [only] = present[..] {
            return only;
        }
        let loaded = |kind: &&Self| kind.directory().is_some_and(|at| exists(&at.join("initstate")));
        if let Some(loaded) = present.iter().find(loaded) {
            return *loaded;
        }
        let by_hardware = match Hardware::of(cpuid) {
            Hardware::Vmx => Self::Vmx,
            Hardware::Svm => Self::Svm,
            Hardware::Neither => Self::Pvm,
        };
        if present.contains(&by_hardware) { by_hardware } else { Self::Unknown }
    }

    /// The name that an image records.
    pub fn name(self) -> &'static str {
        self.row().map_or("unknown", |(_, name, _)| name)
    }

    /// The name of the kernel module, as `/sys/module` has it.
    pub fn module(self) -> Option<&'static str> {
        self.row().map(|(.., module)| module)
    }

    /// What `/sys` has of the module.
    pub(crate) fn directory(self) -> Option<PathBuf> {
        self.module().map(|module| Path::new("/sys/module").join(module))
    }

    fn row(self) -> Option<(Self, &'static str, &'static str)> {
        Self::MODULES.into_iter().find(|(kind, ..)| *kind == self)
    }
}

impl fmt::Display for KvmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
