use super::*;

#[test]
fn what_is_taken_is_cut_out() {
    let taken = [4..8, 10..12, 20..30];
    let one = |range: Range<u64>| std::iter::once(range).collect::<Vec<_>>();
    for (range, left) in [
        (0..40, vec![0..4, 8..10, 12..20, 30..40]),
        (5..7, vec![]),
        (5..11, one(8..10)),
        (8..10, one(8..10)),
        (25..35, one(30..35)),
        (30..31, one(30..31)),
        (12..20, one(12..20)),
    ] {
        assert_eq!(without(range.clone(), &taken), left, "{range:?}");
    }
    assert_eq!(without(3..9, &[]), one(3..9));
}

#[test]
fn ranges_are_united() {
    assert_eq!(united(vec![8..12, 0..2, 4..8, 5..6, 20..24, 22..30]), [0..2, 4..12, 20..30]);
    assert_eq!(united(Vec::new()), []);
}

#[test]
fn a_base_that_was_cut_off_is_not_taken_for_zeros() {
    let file = tempfile::tempfile().unwrap();
    let samples = snapshot_format::testing::samples::memory_file();
    file.write_all_at(&samples, 0).unwrap();
    let base =
        Arc::new(Image::new(file.try_clone().unwrap(), snapshot_format::testing::samples::memory_index()));
    assert!(check_base(None).is_ok());
    assert!(check_base(Some(&base)).is_ok());
    file.set_len(samples.len() as u64 - 1).unwrap();
    assert!(matches!(check_base(Some(&base)), Err(Error::Base(_))));
}
