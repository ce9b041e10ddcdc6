//! The saved types: plain data, one struct per thing that is saved, no KVM and no live object among them.
//!
//! Every struct here has a twin in the VMM that it is converted from and to, field by field, in that thing's
//! `saved.rs`. The field names are KVM's (`struct kvm_*` of the UAPI headers) or the device's data sheet's, so that a
//! reader can look them up there.
//!
//! Adding a field: read "Evolution" in `FORMAT.md`, raise the section's current version to N in
//! [`crate::section::KINDS`], and give the field `#[version(start = N, default_fn = "...")]`, whose numbers are section
//! versions in every type of the section. A new type is added to its section's `saved!` line.

pub mod chipset;
pub mod clock;
pub mod device;
pub mod manifest;
pub mod memory;
pub mod vcpu;
pub mod virtio;

pub use chipset::{ChipsetState, IoapicState, PicState, PitChannelState, PitState};
pub use clock::ClockState;
pub use device::{
    AcpiPmState, I8042State, IdentityState, PvpanicState, ReadyPortState, RtcState, SerialState,
};
pub use manifest::{CpuidWordState, HostCheckState, HostNeedsState, ManifestState};
pub use memory::{MemoryRegionState, MemoryState};
pub use vcpu::{
    CpuidEntryState, DebugRegsState, DescriptorTableState, EventsState, MsrState, RegsState, SegmentState,
    SregsState, TscState, VcpuState, XcrState,
};
pub use virtio::{
    OverlayState, RateLimitState, TokenBucketState, VirtioBalloonState, VirtioBlkState, VirtioMmioState,
    VirtioNetState, VirtioRngState, VirtioVsockState, VirtqueueState, VsockResetState,
};
