use vmm::lifecycle::{Effect, StopReason};

use super::console_tail::ConsoleTail;

fn write(tail: &ConsoleTail, text: &[u8]) {
    let mut tap = tail.watch(None);
    for &byte in text {
        assert_eq!(tap.saw(byte), Effect::Continue);
    }
}

#[test]
fn the_last_ten_lines_are_shown_and_what_steers_a_terminal_is_not() {
    let tail = ConsoleTail::default();
    let text: String = (0..50).map(|n| format!("line {n}\r\n\r\n")).collect();
    write(&tail, (text + "\x1b[31mlogin: ").as_bytes());
    let shown = tail.lines();
    assert_eq!(shown.lines().count(), 10);
    assert!(shown.starts_with("  | line 41\n"), "{shown}");
    assert!(shown.ends_with("  | \\u{1b}[31mlogin: \n"), "{shown}");
}

#[test]
fn a_guest_that_writes_without_end_costs_no_memory() {
    let tail = ConsoleTail::default();
    write(&tail, &b"x".repeat(1 << 20));
    assert!(tail.lines().len() < 5000);
    assert_eq!(ConsoleTail::default().lines(), "");
}

#[test]
fn readiness_is_seen_through_it() {
    let ready = |byte| if byte == b'!' { Effect::Stop(StopReason::Ready) } else { Effect::Continue };
    let mut tap = ConsoleTail::default().watch(Some(Box::new(ready)));
    assert_eq!(tap.saw(b'?'), Effect::Continue);
    assert_eq!(tap.saw(b'!'), Effect::Stop(StopReason::Ready));
}
