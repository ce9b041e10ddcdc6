use std::time::Duration;

use super::*;
use crate::conditions::Conditions;

fn results() -> Results {
    let series = vec![
        Series::times("restore", [1500, 999].map(Duration::from_micros)),
        Series::sizes("memory of a clone", [1 << 19]),
    ];
    let group = Group { title: "Starts", boundary: "exec to first byte", series };
    let conditions =
        Conditions { version: "rekindle 9".into(), load: "0.1".into(), cpus: 2, ..Default::default() };
    Results { conditions, groups: vec![group], not_measured: Vec::new() }
}

#[test]
fn plain_text_is_aligned() {
    let text = render(&results(), Style::Plain);
    assert!(text.contains("                     median       p99       min  n\n"), "{text}");
    assert!(text.contains("restore              999 us   1.50 ms    999 us  2\n"), "{text}");
    assert!(text.contains("memory of a clone  0.50 MiB  0.50 MiB  0.50 MiB  1\n"), "{text}");
    assert!(text.contains("  version: rekindle 9\n"), "{text}");
}

#[test]
fn markdown_is_a_table() {
    let text = render(&results(), Style::Markdown);
    assert!(text.contains("### Starts\n"), "{text}");
    assert!(text.contains("|---|--:|--:|--:|--:|\n"), "{text}");
    assert!(text.contains("| restore           |   999 us |  1.50 ms |   999 us | 2 |\n"), "{text}");
}

#[test]
fn what_was_not_measured_is_told() {
    let mut results = results();
    assert!(!render(&results, Style::Plain).contains("Not measured"));
    results.not_measured.push("TAP: why not".into());
    assert!(render(&results, Style::Plain).contains("\nNot measured\n  TAP: why not\n"));
    assert!(render(&results, Style::Markdown).contains("### Not measured\n\n- TAP: why not\n"));
}
