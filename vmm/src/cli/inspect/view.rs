//! What is shown of an image, as plain data; also the JSON of `inspect --json`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use snapshot_format::handoff::spell_id;
use snapshot_format::state::{CpuidWordState, HostNeedsState, ManifestState};
use vmm::device::virtio::{Outside, VirtioSetState};
use vmm::machine::Capability;

use super::devices::DeviceView;

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct View {
    /// The image's path as it was given.
    pub(super) image: String,
    pub(super) image_id: String,
    /// The image that the guest had been restored from; none for a guest that had been booted.
    pub(super) parent_id: Option<String>,
    /// Number of snapshots since the boot.
    pub(super) generation: u32,
    /// UTC, as RFC 3339 has it.
    pub(super) created: String,
    pub(super) created_ns: u64,
    pub(super) written_by: String,
    pub(super) guest: String,
    pub(super) cmdline: String,
    pub(super) vcpus: u32,
    pub(super) memory_bytes: u64,
    pub(super) memory: MemoryView,
    pub(super) working_set: Option<WorkingSetView>,
    pub(super) host: HostView,
    /// The virtio devices; none of their states is of use if one is of a version that this build cannot read.
    pub(super) devices: Option<Vec<DeviceView>>,
    /// What the devices name on the host, as a restore has to be told or to trust; as `devices`.
    pub(super) outside: Option<Vec<OutsideView>>,
    pub(super) sections: Vec<SectionView>,
}

/// Something of the host's that an image names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct OutsideView {
    /// What it is, for people.
    pub(super) what: String,
    /// The option of `restore` that names the same again.
    pub(super) option: String,
}

impl OutsideView {
    pub(super) fn of(state: &VirtioSetState) -> Vec<Self> {
        let view = |outside: &Outside| Self { what: outside.to_string(), option: outside.option() };
        state.outside().iter().map(view).collect()
    }
}

/// How the image keeps its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kept", rename_all = "kebab-case")]
pub(in crate::cli) enum MemoryView {
    /// In a file, to be mapped.
    Plain,
    /// Compressed.
    Packed {
        /// Length of the pack.
        bytes: u64,
    },
    /// A page server has it.
    Elsewhere,
}

/// What a restored guest touches first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(in crate::cli) enum WorkingSetView {
    Good {
        pages: u64,
        written_pages: u64,
    },
    /// Of a later version, or damaged.
    Unusable {
        error: String,
    },
}

/// What the image needs of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct HostView {
    pub(super) cpu_vendor: String,
    pub(super) kvm_kind: String,
    pub(super) tsc_khz: u32,
    pub(super) xsave_bytes: u32,
    /// Whether the guest has XSAVE: without it no host needs to.
    pub(super) uses_xsave: bool,
    /// Names, or numbers for what has no name here.
    pub(super) kvm_caps: Vec<String>,
    pub(super) cpuid: Vec<CpuidView>,
}

/// CPU feature bits that the guest may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CpuidView {
    /// For example `0x7.0:ebx`.
    pub(super) word: String,
    pub(super) bits: String,
}

/// One section of the `state` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct SectionView {
    /// For example `vcpu:0`.
    pub(in crate::cli) name: String,
    /// Version that it was saved by.
    pub(in crate::cli) version: u16,
    /// Its length.
    pub(in crate::cli) bytes: u64,
}

impl View {
    /// What is shown of the image at `image`.
    pub(in crate::cli) fn new(
        image: &Path,
        manifest: ManifestState,
        memory: MemoryView,
        working_set: Option<WorkingSetView>,
        (devices, outside): (Option<Vec<DeviceView>>, Option<Vec<OutsideView>>),
        sections: Vec<SectionView>,
    ) -> Self {
        let ManifestState {
            image_id,
            parent_id,
            generation,
            created_ns,
            written_by,
            guest,
            cmdline,
            vcpus,
            memory_bytes,
            host,
        } = manifest;
        let created = UNIX_EPOCH + Duration::from_nanos(created_ns);
        Self {
            image: image.display().to_string(),
            image_id: spell_id(&image_id),
            parent_id: (parent_id != [0; 16]).then(|| spell_id(&parent_id)),
            generation,
            created: humantime::format_rfc3339_seconds(created).to_string(),
            created_ns,
            written_by,
            guest,
            cmdline,
            vcpus,
            memory_bytes,
            memory,
            working_set,
            host: HostView::new(host),
            devices,
            outside,
            sections,
        }
    }
}

impl HostView {
    fn new(host: HostNeedsState) -> Self {
        let HostNeedsState { cpu_vendor, kvm_kind, cpuid, kvm_caps, tsc_khz, xsave_bytes } = host;
        Self {
            cpu_vendor,
            kvm_kind,
            tsc_khz,
            xsave_bytes,
            uses_xsave: cpuid.iter().any(is_xsave),
            kvm_caps: kvm_caps.into_iter().map(|number| Capability(number).to_string()).collect(),
            cpuid: cpuid.into_iter().map(CpuidView::new).collect(),
        }
    }
}

/// CPUID.1:ECX.XSAVE, bit 26.
fn is_xsave(word: &CpuidWordState) -> bool {
    let CpuidWordState { function, index: _, register, bits } = word;
    (*function, *register) == (1, 2) && bits >> 26 & 1 == 1
}

impl CpuidView {
    fn new(word: CpuidWordState) -> Self {
        let CpuidWordState { function, index, register, bits } = word;
        let register = match register {
            0 => "eax".to_owned(),
            1 => "ebx".to_owned(),
            2 => "ecx".to_owned(),
            3 => "edx".to_owned(),
            other => other.to_string(),
        };
        Self { word: format!("{function:#x}.{index}:{register}"), bits: format!("{bits:#010x}") }
    }
}
