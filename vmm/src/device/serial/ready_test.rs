use regex::bytes::Regex;

use super::*;
use crate::lifecycle::StopReason;

/// After how many bytes of `output` the guest is stopped.
fn stops_after(pattern: &str, output: &[u8]) -> Option<usize> {
    let mut watcher = ReadyPattern::new(Regex::new(pattern).unwrap());
    let stops: Vec<usize> = (1..)
        .zip(output)
        .filter_map(|(n, &byte)| (watcher.saw(byte) == Effect::Stop(StopReason::Ready)).then_some(n))
        .collect();
    assert!(stops.len() <= 1, "it fires once");
    stops.first().copied()
}

#[test]
fn a_prompt_is_seen_before_its_line_ends() {
    assert_eq!(stops_after("login: $", b"booting\nhost login: "), Some(20));
    assert_eq!(stops_after("ready", b"not yet\nready ready\n"), Some(13));
}

#[test]
fn lines_are_searched_one_by_one() {
    assert_eq!(stops_after("a.*b", b"a\nb\n"), None);
    assert_eq!(stops_after("^b", b"ab\nb"), Some(4));
    assert_eq!(stops_after(r"up\r\n", b"up up\r\n"), Some(7), "the end of a line belongs to it");
}

#[test]
fn bytes_that_are_not_utf8_are_no_obstacle() {
    assert_eq!(stops_after("ok", b"\xff\xfe\x00ok"), Some(5));
    assert_eq!(stops_after(r"(?-u)\xff\xfe", b"\xff\xfe"), Some(2));
}

#[test]
fn a_line_without_end_is_searched_to_its_end_and_costs_bounded_memory() {
    let mut endless = vec![b'-'; 5_000];
    endless.extend(b"there");
    assert_eq!(stops_after("there", &endless), Some(endless.len()));
    assert_eq!(stops_after("^there|^-there", &endless), None, "its beginning is not forgotten");
    assert_eq!(stops_after(r"\bthere", &endless), Some(endless.len()));
}
