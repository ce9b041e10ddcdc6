use super::*;
use crate::testing::Memory;

#[test]
fn whole_places_are_expected_and_no_others() {
    let guest = Memory::new(16 << 20, 4096).unwrap();
    let start = guest.mapping(0).address.next_multiple_of(HUGE_BYTES);
    let mut huge = Huge::new().unwrap();
    huge.expect(&(start + 4096..start + 3 * HUGE_BYTES - 4096));
    assert_eq!(huge.expected(start), None);
    let second = start + HUGE_BYTES..start + 2 * HUGE_BYTES;
    assert_eq!(huge.expected(second.start), Some(second.clone()));
    assert_eq!(huge.expected(second.end - 1), Some(second.clone()));
    assert_eq!(huge.expected(second.end), None);
}

#[test]
fn what_is_not_mapped_is_not_expected() {
    let mut huge = Huge::new().unwrap();
    huge.expect(&(0..HUGE_BYTES));
    huge.expect(&(u64::MAX - 4096..u64::MAX));
    assert_eq!(huge.expected(0), None);
}
