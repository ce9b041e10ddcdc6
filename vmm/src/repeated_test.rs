//! What is logged of many repeats.

use super::repeated::Repeated;

#[test]
fn a_thousand_repeats_are_logged_ten_times() {
    let mut repeated = Repeated::default();
    let logged: Vec<u64> = (0..1000).filter_map(|_| repeated.again()).collect();
    assert_eq!(logged, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
}
