//! Shares of a limit.

use super::descriptors::{RESERVE, within};

#[test]
fn connections_leave_descriptors_for_the_rest() {
    assert_eq!(within(None, 1023), 1023);
    assert_eq!(within(Some(1 << 20), 1023), 1023);
    assert_eq!(within(Some(1024), 1023), 1024 - RESERVE as usize);
    assert_eq!(within(Some(64), 1023), 16);
    assert_eq!(within(Some(0), 1023), 0);
}
