//! `rekindle snapshot`.

use std::path::Path;

use anyhow::{Context, Result};
use vmm::config::ReclaimLimit;
use vmm::control::{Answer, Request, SnapshotRequest, SnapshotSummary};

use super::args::SnapshotArgs;
use super::exit::printable;
use super::output;

/// Asks a VM to write itself to an image.
pub(super) fn run(args: SnapshotArgs) -> Result<()> {
    let SnapshotArgs { socket, out, resume, reclaim } = args;
    // The VM may have been started in another directory.
    let absolute =
        std::path::absolute(&out).with_context(|| format!("cannot name the image `{}`", out.display()))?;
    let request = Request::Snapshot(SnapshotRequest {
        out: absolute,
        resume,
        reclaim_ms: reclaim.map_or(0, ReclaimLimit::milliseconds),
    });
    match socket.connect()?.ask(&request)? {
        Answer::Snapshot(summary) => output::text(&render(&out, summary, resume)),
        Answer::Done | Answer::Description(_) | Answer::Balloon(_) | Answer::BalloonStats(_) => Ok(()),
    }
}

/// One line for the terminal.
pub(super) fn render(out: &Path, summary: SnapshotSummary, resumed: bool) -> String {
    let SnapshotSummary { paused_us, memory_bytes } = summary;
    let line = format!(
        "{}: {:.1} MiB of memory written, {}",
        out.display(),
        memory_bytes as f64 / f64::from(1 << 20),
        if resumed {
            format!("guest paused for {:.1} ms", paused_us as f64 / 1000.0)
        } else {
            "the guest stays paused until `rekindle resume`".to_owned()
        },
    );
    printable(&line) + "\n"
}
