use std::time::Duration;

use super::measure::{Measurements, Snapshot, Start, Times};
use super::render::table;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn median_and_slowest_are_samples() {
    let times = Times::of((1..=100).rev().map(ms));
    assert_eq!((times.median_ms, times.slowest_ms), (50.0, 100.0));
    assert_eq!(times.samples_ms[0], 100.0, "samples stay in the order in which they were taken");
    let one = Times::of(std::iter::once(ms(7)));
    assert_eq!((one.median_ms, one.slowest_ms), (7.0, 7.0));
    assert_eq!(Times::of(std::iter::empty()), Times::default());
}

#[test]
fn the_table_has_every_number_and_the_ratio() {
    let start = |first, ready| Start { first_byte: ms(first), ready: ms(ready) };
    let mut measured = Measurements {
        boots: vec![start(4, 60); 3],
        snapshot: Some(Snapshot { paused: ms(31), took: ms(88), memory_bytes: 65 << 20 }),
        restores: vec![start(2, 3); 3],
        lazy_restores: vec![start(5, 6); 3],
        why_not_lazy: None,
        verified: "ok verified 64 MiB seed 1".into(),
    };
    let text = table(&measured.summary("256M", "64M"));
    for part in [
        "4.00 ms",
        "60.00 ms",
        "2.00 ms",
        "3.00 ms",
        "5.00 ms",
        "6.00 ms",
        "31.0 ms",
        "88.0 ms",
        "65.0 MiB",
        "20 times as fast",
        "ok verified 64 MiB",
    ] {
        assert!(text.contains(part), "`{part}` in:\n{text}");
    }
    measured.why_not_lazy = Some("no userfaultfd".into());
    let text = table(&measured.summary("256M", "64M"));
    assert!(text.contains("lazy restore: not here: no userfaultfd") && !text.contains("5.00 ms"), "{text}");
}
