//! What an image is and what it needs. Section `manifest`, the first one.

use crate::codec::prelude::*;

/// What `rekindle inspect` prints, and what `restore::plan` decides on before anything is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct ManifestState {
    /// Tells this image from every other: a digest of its memory, its registers and its moment.
    pub image_id: [u8; 16],
    /// The id of the image that this guest was last restored from; all zero for a guest that was booted.
    pub parent_id: [u8; 16],
    /// How many snapshots lie between the boot and this image, this one included: 1 for the first.
    pub generation: u32,
    /// When the image was written: ns since 1970 on the host's `CLOCK_REALTIME`.
    pub created_ns: u64,
    /// Program and version that wrote it, for people.
    pub written_by: String,
    /// What was booted, for people: the kernel's file name, or `spark`.
    pub guest: String,
    /// The kernel command line, for people.
    pub cmdline: String,
    /// Number of vCPUs, 1 to 32; there is one section `vcpu:N` for each.
    pub vcpus: u32,
    /// Guest RAM in bytes, a multiple of 4096.
    pub memory_bytes: u64,
    /// What the host must have.
    pub host: HostNeedsState,
}

/// What an image needs of the host that restores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct HostNeedsState {
    /// CPUID vendor string of the host that wrote it, for example `AuthenticAMD`.
    pub cpu_vendor: String,
    /// The kind of KVM: `vmx`, `svm` or `pvm`. Their guest-visible states differ.
    pub kvm_kind: String,
    /// CPU feature bits that the guest was shown and that the hardware itself provided.
    pub cpuid: Vec<CpuidWordState>,
    /// `KVM_CAP_*` numbers without which the state cannot be put back.
    pub kvm_caps: Vec<u32>,
    /// The guest's TSC frequency in kHz.
    pub tsc_khz: u32,
    /// Length of the XSAVE area in bytes.
    pub xsave_bytes: u32,
}

/// Where the needs of this image are known to be met. Section `host-check`, which may be absent.
///
/// Only a hint: a reader that finds another digest than its own, or does not look, compares the needs with the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct HostCheckState {
    /// A digest, by the writer's own rules, of the needs, of the rules by which they are compared, and of the host,
    /// its boot and its KVM module.
    pub digest: [u8; 16],
}

/// One feature word of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct CpuidWordState {
    /// CPUID leaf.
    pub function: u32,
    /// CPUID sub-leaf.
    pub index: u32,
    /// 0 for EAX, 1 for EBX, 2 for ECX, 3 for EDX.
    pub register: u8,
    /// The bits that must be set.
    pub bits: u32,
}
