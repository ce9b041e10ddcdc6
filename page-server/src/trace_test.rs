use super::*;
use std::io::{Read, Seek};

#[test]
fn a_trace_is_a_table() {
    let mut file = tempfile::tempfile().unwrap();
    let trace = Trace::new(file.try_clone().unwrap()).unwrap();
    trace.record(Cause::Fault { write: false }, 4096, 65536, Duration::from_micros(20));
    trace.record(Cause::Fault { write: true }, 0, 4096, Duration::from_micros(3));
    trace.record(Cause::Prefetch, 8192, 4096, Duration::ZERO);
    trace.flush();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(text.lines().next(), Some(HEADER));
    assert_eq!(rows[1][1..], ["read", "4096", "65536", "20"]);
    assert_eq!(rows[2][1..], ["write", "0", "4096", "3"]);
    assert_eq!(rows[3][1..], ["prefetch", "8192", "4096", "0"]);
}
