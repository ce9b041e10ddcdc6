use super::*;

fn holes(ranges: &[Range<usize>]) -> Holes {
    let mut holes = Holes::default();
    ranges.iter().for_each(|range| holes.insert(range.clone()));
    holes
}

#[test]
fn neighbours_become_one() {
    let all = |ranges: &[Range<usize>]| holes(ranges).ranges().collect::<Vec<_>>();
    assert_eq!(all(&[4..8, 12..16]), [4..8, 12..16]);
    assert_eq!(all(&[4..8, 12..16, 8..12]), [Range { start: 4, end: 16 }]);
    assert_eq!(all(&[4..8, 12..16, 20..24, 6..21]), [Range { start: 4, end: 24 }]);
    assert_eq!(all(&[4..8, 12..16, 0..2]), [0..2, 4..8, 12..16]);
    assert_eq!(all(&[4..8, 5..6, 4..8]), [Range { start: 4, end: 8 }]);
}

#[test]
fn what_is_covered_is_known() {
    let holes = holes(&[4..8, 8..12, 20..24]);
    for inside in [4..12, 5..6, 20..24] {
        assert!(holes.cover(&inside), "{inside:?}");
    }
    for outside in [3..5, 11..13, 12..20, 19..24, 24..25, 0..30] {
        assert!(!holes.cover(&outside), "{outside:?}");
    }
}

#[test]
fn their_number_is_bounded() {
    let mut holes = Holes::default();
    for at in 0..MOST {
        assert!(holes.has_room());
        holes.insert(3 * at..3 * at + 1);
    }
    assert!(!holes.has_room());
    holes.insert(1..3);
    assert!(holes.has_room());
}

#[test]
fn a_place_is_in_a_hole_or_before_one() {
    let holes = holes(&[4..8, 20..24]);
    assert_eq!(
        [3, 4, 7, 8, 23, 24].map(|at| holes.end_of(at)),
        [None, Some(8), Some(8), None, Some(24), None]
    );
    assert_eq!([0, 4, 8, 20].map(|at| holes.next_after(at)), [Some(4), Some(20), Some(20), None]);
}

#[test]
fn what_is_in_no_hole_is_told() {
    let mut holes = Holes::default();
    holes.insert(10..20);
    holes.insert(30..40);
    for (range, outside) in [
        (0..50, vec![0..10, 20..30, 40..50]),
        (12..18, vec![]),
        (10..31, std::iter::once(20..30).collect()),
        (5..15, std::iter::once(5..10).collect()),
        (41..45, std::iter::once(41..45).collect()),
        (7..7, vec![]),
    ] {
        assert_eq!(holes.outside(&range), outside, "{range:?}");
    }
}
