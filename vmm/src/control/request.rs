//! What can be asked of a VM, and what it answers. Plain data: how they look on the wire is `route`'s business.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Fault;

/// Something that a client asks of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `GET /`: who the VM is and how it is. Answered with [`Answer::Description`].
    Describe,
    /// `PATCH /vm` with `Paused`: let the guest stand still. A paused VM stays so.
    Pause,
    /// `PATCH /vm` with `Resumed`: let the guest run. A running VM goes on.
    Resume,
    /// `PUT /snapshot`: write an image. Answered with [`Answer::Snapshot`].
    Snapshot(SnapshotRequest),
    /// `PUT /stop`: end the VM without asking the guest. Answered before the process ends.
    Stop,
    /// `GET /balloon`: how large the balloon is to be. Answered with [`Answer::Balloon`].
    DescribeBalloon,
    /// `PATCH /balloon`: how large the balloon is to be from now on.
    SetBalloon(Balloon),
    /// `GET /balloon/statistics`: what the guest says of its memory. Answered with [`Answer::BalloonStats`].
    BalloonStats,
    /// `PUT /actions` with `SendCtrlAltDel`: press the three keys on the guest's keyboard.
    SendCtrlAltDel,
}

/// The operands of [`Request::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// The image to write; must not exist. A relative path starts at the VM's working directory.
    pub out: PathBuf,
    /// Whether the guest runs afterwards; it stays paused otherwise.
    #[serde(default)]
    pub resume: bool,
    /// For how long to wait, before the snapshot, for a guest that runs to give its free memory back, in milliseconds; 0 for not
    /// asking it to. At most [`Self::MOST_RECLAIM_MS`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reclaim_ms: u64,
}

impl SnapshotRequest {
    /// A minute: meanwhile nothing else is done on request.
    pub const MOST_RECLAIM_MS: u64 = 60_000;
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

/// The size of the balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    /// In MiB.
    pub amount_mib: u64,
}

/// The balloon and the guest's memory: the fields of Firecracker's `GET /balloon/statistics`. Memory and swap in bytes,
/// faults since the guest's boot; what the guest does not say is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonStats {
    /// The size that the balloon is to have, in pages of 4 KiB.
    pub target_pages: u32,
    /// The size that it has.
    pub actual_pages: u32,
    /// The first in MiB.
    pub target_mib: u64,
    /// The second in MiB.
    pub actual_mib: u64,
    /// Swapped in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_in: Option<u64>,
    /// Swapped out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_out: Option<u64>,
    /// Page faults that waited for a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    /// Page faults that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor_faults: Option<u64>,
    /// Used for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_memory: Option<u64>,
    /// All there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_memory: Option<u64>,
    /// What programs could have without swapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_memory: Option<u64>,
    /// Disk caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_caches: Option<u64>,
}

/// What a VM says to a request that it has carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; there is nothing to tell.
    Done,
    /// Who the VM is.
    Description(Description),
    /// How large the balloon is to be.
    Balloon(Balloon),
    /// How large it is, and what the guest says of its memory.
    BalloonStats(BalloonStats),
    /// What was written.
    Snapshot(SnapshotSummary),
}

/// What comes back to whoever asked.
pub type Reply = Result<Answer, Fault>;

/// Who a VM is and how it is: the fields of Firecracker's `GET /`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The VM's name.
    pub id: String,
    /// Whether the guest runs.
    pub state: VmState,
    /// Version of the program.
    pub vmm_version: String,
    /// Name of the program: `Rekindle`.
    pub app_name: String,
}

/// Whether the guest of a VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmState {
    /// vCPUs run.
    Running,
    /// vCPUs stand still, and can be resumed.
    Paused,
}

/// What a snapshot cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// How long the guest stood still for it, in microseconds. For a guest that stays paused: how long it took.
    pub paused_us: u64,
    /// Bytes of guest memory that were written; the rest are holes.
    pub memory_bytes: u64,
}
