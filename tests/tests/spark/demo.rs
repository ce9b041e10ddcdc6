//! The first command that anybody runs.

use std::time::Duration;

use rekindle_tests::{Case, Launch, cases};

use crate::KVM;

/// Ten VMs, four of which fill 64 MiB.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    cases!("spark", KVM, [the_demo_shows_what_it_says])
}

/// A guest boots, is written to an image and comes back, mapped and lazily, each of which the demo has the guest confirm.
fn the_demo_shows_what_it_says() {
    let shown = Launch::new(["demo", "--runs", "2", "--json"]).run_within(LONG).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("one JSON document");
    assert_eq!(shown["verified"], "ok verified 64 MiB seed 1");
    for way in ["boot_ready", "restore_ready", "lazy_restore_ready"] {
        let samples = shown[way]["samples_ms"].as_array().map(Vec::len);
        let lazy_is_not_here = way == "lazy_restore_ready" && !shown["why_not_lazy"].is_null();
        assert_eq!(samples, Some(if lazy_is_not_here { 0 } else { 2 }), "{way}: {shown}");
    }
}
