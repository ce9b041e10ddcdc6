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
}

/// What a VM says to a request that it has carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; there is nothing to tell.
    Done,
    /// Who the VM is.
    Description(Description),
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
