//! What `/dev/kvm` is on this host, which decides what can be tested here and what goes to the lab.

use std::fmt;
use std::fs::OpenOptions;
use std::path::Path;

/// The `/dev/kvm` of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// There is none, or it cannot be opened, for the reason given.
    Unusable(String),
    /// Hardware virtualization: stock guests run at full speed.
    Hardware(&'static str),
    /// A guest's kernel mode is emulated, instruction by instruction: stock kernels take minutes to boot.
    Emulating(&'static str),
    /// It opens, but no module that we know provides it.
    Unknown,
}

/// Modules that provide `/dev/kvm`, and the processor's flag without which they do not; none uses no hardware
/// virtualization.
const MODULES: [(&str, Option<&str>); 3] =
    [("kvm_intel", Some("vmx")), ("kvm_amd", Some("svm")), ("kvm_pvm", None)];

impl Kvm {
    /// Of the host that this runs on.
    pub fn here() -> Self {
        if let Err(why) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            return Self::Unusable(why.to_string());
        }
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self::provided_by(|file| Path::new("/sys/module").join(file).exists(), &cpuinfo)
    }

    /// As `KvmKind::detect` of the VMM, which is not linked here. Modules that are built into the kernel are all listed, so
    /// of several the one is meant that was loaded, and else the one for this processor.
    fn provided_by(exists: impl Fn(&str) -> bool, cpuinfo: &str) -> Self {
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        let has = |flag: &str| flags.split_ascii_whitespace().any(|word| word == flag);
        let present: Vec<_> = MODULES.into_iter().filter(|(module, ..)| exists(module)).collect();
        let loaded = present.iter().find(|(module, ..)| exists(&format!("{module}/initstate")));
        let fitting = || present.iter().find(|(_, flag)| flag.is_none_or(has));
        let only = if present.len() == 1 { present.first() } else { None };
        match only.or(loaded).or_else(fitting) {
            Some((module, Some(_))) => Self::Hardware(module),
            Some((module, None)) => Self::Emulating(module),
            None => Self::Unknown,
        }
    }

    /// Whether it can be opened at all.
    pub fn is_usable(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }

    /// Whether a stock Linux kernel boots on it in reasonable time.
    pub fn runs_stock_guests(&self) -> bool {
        matches!(self, Self::Hardware(_) | Self::Unknown)
    }
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => write!(f, "/dev/kvm: not usable here ({why})"),
            Self::Hardware(module) => write!(f, "/dev/kvm: {module}, hardware virtualization"),
            Self::Emulating(module) => write!(f, "/dev/kvm: {module}, which emulates guest kernel mode"),
            Self::Unknown => write!(f, "/dev/kvm: there, of a kind we do not know"),
        }
    }
}

#[cfg(test)]
#[path = "host_test.rs"]
mod host_test;
