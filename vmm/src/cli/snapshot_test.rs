//! The line that `rekindle snapshot` ends with.

use std::path::Path;

use vmm::control::SnapshotSummary;

use super::snapshot::render;

#[test]
fn the_summary_has_units() {
    let summary = SnapshotSummary { paused_us: 12_345, memory_bytes: 3 << 19 };
    let running = render(Path::new("warm\u{7}"), summary, true);
    assert_eq!(running, "warm\\u{7}: 1.5 MiB of memory written, guest paused for 12.3 ms\n");
    let paused = render(Path::new("warm"), summary, false);
    assert_eq!(paused, "warm: 1.5 MiB of memory written, the guest stays paused until `rekindle resume`\n");
}
