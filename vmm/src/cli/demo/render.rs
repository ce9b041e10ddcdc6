//! The demo's table.

use std::fmt::Write;

use super::measure::{Summary, Times};

/// The summary for people.
pub(super) fn table(summary: &Summary) -> String {
    let Summary { memory, filled, kvm, kernel, ratio, verified, .. } = summary;
    let mut text = format!(
        "spark, the built-in guest: {memory} of memory, {filled} of it filled; 1 vCPU; KVM kind {kvm}, host Linux {kernel}\n\n"
    );
    text.push_str("from exec of rekindle to                     median    slowest\n");
    row(&mut text, "boot: the guest's first byte", &summary.boot_first_byte);
    row(&mut text, "boot: the guest is ready", &summary.boot_ready);
    row(&mut text, "restore: the guest's first byte", &summary.restore_first_byte);
    row(&mut text, "restore: the guest is ready", &summary.restore_ready);
    match &summary.why_not_lazy {
        None => {
            row(&mut text, "lazy restore: the guest's first byte", &summary.lazy_restore_first_byte);
            row(&mut text, "lazy restore: the guest is ready", &summary.lazy_restore_ready);
        }
        Some(why) => {
            let _ = writeln!(text, "  lazy restore: not here: {why}; see `rekindle doctor`");
        }
    }
    let mib = summary.snapshot_memory_bytes as f64 / f64::from(1 << 20);
    let (paused, total) = (summary.snapshot_paused_ms, summary.snapshot_total_ms);
    let runs = summary.boot_ready.samples_ms.len();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "\nsnapshot while it runs: paused for {paused:.1} ms, on disk after {total:.1} ms, {mib:.1} MiB of memory\n\
         restored guest: {verified}\n\
         {runs} runs each, page cache hot. Restore is {ratio:.0} times as fast as boot.\n"
    );
    text
}

fn row(text: &mut String, name: &str, times: &Times) {
    let _ = writeln!(text, "  {name:<36} {:>9.2} ms {:>7.2} ms", times.median_ms, times.slowest_ms);
}
