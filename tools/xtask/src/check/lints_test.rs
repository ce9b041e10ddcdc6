//! Each rule on a file that breaks it, and on the same code where it is right.

use super::*;

/// Lines of the findings of `rule` in `text`, were it at `path`.
fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    let source = Source::parse(path, text).unwrap();
    rule(&source).into_iter().map(|finding| finding.line).collect()
}

#[test]
fn unsafe_code() {
    let text = "fn f() {\n    unsafe { g() }\n}\n";
    assert_eq!(lines(unsafe_in_sys, "vmm/src/memory/lazy.rs", text), [2]);
    assert!(lines(unsafe_in_sys, "vmm/src/sys/uffd.rs", text).is_empty());
    assert!(lines(unsafe_in_sys, "vmm/spark/src/main.rs", text).is_empty());
    assert_eq!(lines(unsafe_in_sys, "vmm/src/sysfs.rs", text), [2]);
    assert!(lines(unsafe_in_sys, "vmm/src/lib.rs", "#![deny(unsafe_code)]").is_empty());
}

#[test]
fn rest_patterns_in_saved() {
    let text = "fn f() {\n    let A { x, .. } = a;\n    let (b, ..) = c;\n    let D { .. } = d;\n    A { x, ..a }\n}\n";
    assert_eq!(lines(rest_in_saved, "vmm/src/device/rtc/saved.rs", text), [2, 3, 4, 5]);
    assert!(lines(rest_in_saved, "vmm/src/device/rtc/mod.rs", text).is_empty());
    let ranges = "fn f() { for i in 0..n { a[..i].len() } }";
    assert!(lines(rest_in_saved, "vmm/src/device/rtc/saved.rs", ranges).is_empty());
}

#[test]
fn clocks_and_randomness() {
    let text = "fn f(t: SystemTime) {\n    SystemTime::now();\n    Instant::now();\n    UNIX_EPOCH.elapsed();\n    UNIX_EPOCH + d;\n}\n";
    assert_eq!(lines(wall_clock, "vmm/src/restore/mod.rs", text), [2, 4]);
    assert!(lines(wall_clock, "vmm/src/clock.rs", text).is_empty());
    assert!(lines(wall_clock, "tests/src/lib.rs", text).is_empty());
    let text = "fn f() { getrandom::fill(b) }";
    assert_eq!(lines(randomness, "vmm/src/boot/mod.rs", text), [1]);
    assert_eq!(lines(randomness, "vmm/src/device/virtio/blk/mod.rs", text), [1]);
    assert!(lines(randomness, "vmm/src/device/identity/mod.rs", text).is_empty());
    assert!(lines(randomness, "vmm/src/device/virtio/rng/mod.rs", text).is_empty());
}

#[test]
fn codec_crates() {
    let text = "use versionize::Versionize;\n";
    assert_eq!(lines(codec, "snapshot-format/src/state/vcpu.rs", text), [1]);
    assert_eq!(lines(codec, "vmm/src/codec.rs", text), [1]);
    assert!(lines(codec, "snapshot-format/src/codec.rs", text).is_empty());
    let text = "fn f() { crc64::crc64(0, b) }";
    assert!(lines(codec, "snapshot-format/src/header.rs", text).is_empty());
    assert_eq!(lines(codec, "vmm/src/snapshot/mod.rs", text), [1, 1]);
    assert!(lines(codec, "snapshot-format/src/state/vcpu.rs", "use crate::codec::prelude::*;").is_empty());
}

#[test]
fn edges_between_modules() {
    let text = "use crate::{config, machine::Paused};\nuse crate::boot;\n";
    assert_eq!(lines(module_edges, "vmm/src/device/serial/mod.rs", text), [1]);
    assert_eq!(lines(module_edges, "vmm/src/restore/plan.rs", text), [2]);
    assert_eq!(lines(module_edges, "vmm/src/boot/mod.rs", "use crate::restore::plan;"), [1]);
    assert!(lines(module_edges, "vmm/src/machine/mod.rs", text).is_empty());
    assert!(lines(module_edges, "page-server/src/session.rs", text).is_empty());
}

#[test]
fn printing_and_anyhow() {
    let text = "fn f() -> anyhow::Result<()> {\n    println!(\"x\");\n    print;\n}\n";
    assert_eq!(lines(printing, "vmm/src/restore/mod.rs", text), [2]);
    assert_eq!(lines(anyhow_in_libraries, "snapshot-format/src/dir.rs", text), [1]);
    for path in
        ["vmm/src/main.rs", "vmm/src/cli/demo.rs", "tools/xtask/src/main.rs", "vmm/src/bus/bus_test.rs"]
    {
        assert!(lines(printing, path, text).is_empty(), "{path}");
        assert!(lines(anyhow_in_libraries, path, text).is_empty(), "{path}");
    }
}

#[test]
fn size_and_opening() {
    assert_eq!(lines(proportion, "vmm/src/a.rs", "fn f() {}\n"), [1]);
    assert!(lines(proportion, "vmm/src/a_test.rs", "fn f() {}\n").is_empty());
    assert!(lines(proportion, "a/src/lib.rs", "#![doc = include_str!(\"../FORMAT.md\")]\n").is_empty());
    let long = |n| format!("//! Long.\n{}", "struct A;\n\n// why\n".repeat(n));
    assert!(lines(proportion, "vmm/src/a.rs", &long(MAX_CODE_LINES)).is_empty());
    assert_eq!(lines(proportion, "vmm/src/a.rs", &long(MAX_CODE_LINES + 1)), [1]);
}
