//! What a VM that is booted consists of.

use std::path::PathBuf;

use super::{CpuCount, DevicesConfig, Error, MemorySize, SerialConfig};

/// What is booted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelConfig {
    /// The built-in guest.
    #[default]
    Spark,
    /// A kernel of the user's.
    File {
        /// An ELF kernel or a bzImage.
        kernel: PathBuf,
        /// Its initial RAM disk.
        initrd: Option<PathBuf>,
    },
}

impl KernelConfig {
    /// Takes the two paths as a command line has them: no kernel means the built-in guest, which takes no initrd.
    pub fn from_paths(kernel: Option<PathBuf>, initrd: Option<PathBuf>) -> Result<Self, Error> {
        if kernel.as_ref().is_some_and(|p| p.as_os_str().is_empty()) {
            return Err(Error::EmptyPath { what: "the kernel" });
        }
        if initrd.as_ref().is_some_and(|p| p.as_os_str().is_empty()) {
            return Err(Error::EmptyPath { what: "the initrd" });
        }
        match (kernel, initrd) {
            (Some(kernel), initrd) => Ok(Self::File { kernel, initrd }),
            (None, Some(initrd)) => Err(Error::InitrdWithoutKernel { value: initrd.display().to_string() }),
            (None, None) => Ok(Self::Spark),
        }
    }
}

/// The machine and its guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmConfig {
    /// What is booted.
    pub kernel: KernelConfig,
    /// The kernel command line; `None` for the default that goes with the kernel.
    pub cmdline: Option<String>,
    /// Guest RAM.
    pub memory: MemorySize,
    /// Number of vCPUs.
    pub cpus: CpuCount,
    /// The guest's console.
    pub serial: SerialConfig,
    /// Its virtio devices.
    pub devices: DevicesConfig,
}

/// A VM that is booted and then runs until it ends or is told to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootConfig {
    /// The machine and its guest.
    pub vm: VmConfig,
    /// Where the control API listens; `None` for no API.
    pub api_socket: Option<PathBuf>,
}
