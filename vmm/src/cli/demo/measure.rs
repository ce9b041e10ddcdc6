//! What the demo measures, and the numbers that it makes of it.

use std::time::Duration;

use serde::Serialize;
use vmm::machine::KvmKind;

/// One start of a VM: times from `exec`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// To the guest's first byte.
    pub(super) first_byte: Duration,
    /// To the guest's word that it is ready.
    pub(super) ready: Duration,
}

/// One snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    /// How long the guest stood still.
    pub(super) paused: Duration,
    /// From the request to the image on disk.
    pub(super) took: Duration,
    /// Bytes of memory in the image.
    pub(super) memory_bytes: u64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    pub(super) boots: Vec<Start>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) restores: Vec<Start>,
    pub(super) lazy_restores: Vec<Start>,
    /// There if this host cannot do that.
    pub(super) why_not_lazy: Option<String>,
    /// What the restored guest said of its memory.
    pub(super) verified: String,
}

/// The demo's result; also the JSON of `demo --json`. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) memory: String,
    pub(super) filled: String,
    pub(super) kvm: String,
    pub(super) kernel: String,
    pub(super) boot_first_byte: Times,
    pub(super) boot_ready: Times,
    pub(super) snapshot_paused_ms: f64,
    pub(super) snapshot_total_ms: f64,
    pub(super) snapshot_memory_bytes: u64,
    pub(super) restore_first_byte: Times,
    pub(super) restore_ready: Times,
    pub(super) lazy_restore_first_byte: Times,
    pub(super) lazy_restore_ready: Times,
    /// Why there are no lazy restores, if there are none.
    pub(super) why_not_lazy: Option<String>,
    /// Median boot to ready over median restore to ready.
    pub(super) ratio: f64,
    pub(super) verified: String,
}

/// The spread of one time, in milliseconds, and every sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) median_ms: f64,
    pub(super) slowest_ms: f64,
    pub(super) samples_ms: Vec<f64>,
}

impl Times {
    pub(super) fn of(samples: impl Iterator<Item = Duration>) -> Self {
        let samples_ms: Vec<f64> = samples.map(ms).collect();
        let mut sorted = samples_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Self { median_ms: median(&sorted), slowest_ms: sorted.last().copied().unwrap_or(0.0), samples_ms }
    }
}

/// The smallest sample that at least half of all samples do not exceed; 0 of none.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn ms(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

impl Measurements {
    pub(super) fn summary(&self, memory: &str, filled: &str) -> Summary {
        let boot_ready = Times::of(self.boots.iter().map(|start| start.ready));
        let restore_ready = Times::of(self.restores.iter().map(|start| start.ready));
        let snapshot = self.snapshot.map_or((0.0, 0.0, 0), |s| (ms(s.paused), ms(s.took), s.memory_bytes));
        Summary {
            memory: memory.to_owned(),
            filled: filled.to_owned(),
            kvm: KvmKind::detect().name().to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            ratio: if restore_ready.median_ms > 0.0 {
                boot_ready.median_ms / restore_ready.median_ms
            } else {
                0.0
            },
            boot_first_byte: Times::of(self.boots.iter().map(|start| start.first_byte)),
            boot_ready,
            snapshot_paused_ms: snapshot.0,
            snapshot_total_ms: snapshot.1,
            snapshot_memory_bytes: snapshot.2,
            restore_first_byte: Times::of(self.restores.iter().map(|start| start.first_byte)),
            restore_ready,
            lazy_restore_first_byte: Times::of(self.lazy_restores.iter().map(|start| start.first_byte)),
            lazy_restore_ready: Times::of(self.lazy_restores.iter().map(|start| start.ready)),
            why_not_lazy: self.why_not_lazy.clone(),
            verified: self.verified.clone(),
        }
    }
}
