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

/// Modules that provide `/dev/kvm`, and whether they use hardware virtualization.
const MODULES: [(&str, bool); 3] = [("kvm_intel", true), ("kvm_amd", true), ("kvm_pvm", false)];

impl Kvm {
    /// Of the host that this runs on.
    pub fn here() -> Self {
        if let Err(why) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            return Self::Unusable(why.to_string());
        }
        Self::provided_by(|module| Path::new("/sys/module").join(module).exists())
    }

    fn provided_by(is_loaded: impl Fn(&str) -> bool) -> Self {
        match MODULES.into_iter().find(|(module, _)| is_loaded(module)) {
            Some((module, true)) => Self::Hardware(module),
            Some((module, false)) => Self::Emulating(module),
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
