//! Indices good and bad, and files that match them or do not.

use super::*;

fn state(words: &[u64]) -> OverlayState {
    OverlayState { len: 100 * SECTOR_BYTES, runs: Words(words.to_vec()), data_pages: 1, sum: 2 }
}

#[test]
fn an_index_goes_through_its_saved_type() {
    let good = state(&[0, 1, 2, 8, 99, 1]);
    let index = OverlayIndex::try_from(good.clone()).unwrap();
    assert_eq!(index.runs(), [0..1, 2..10, 99..100]);
    assert_eq!((index.disk_bytes(), index.data_bytes()), (51_200, 4096));
    assert_eq!(index.to_state(), good);
    assert_eq!(OverlayIndex::try_from(state(&[])).unwrap().runs(), []);
}

#[test]
fn runs_that_no_disk_has_are_refused() {
    for (words, bad) in [
        (&[0][..], 0),
        (&[0, 0], 0),
        (&[100, 1], 0),
        (&[99, 2], 0),
        (&[u64::MAX, 1], 0),
        (&[u64::MAX, u64::MAX], 0),
        (&[0, 1, 1, 1], 1),
        (&[5, 5, 3, 1], 1),
        (&[5, 5, 5, 1], 1),
        (&[5, 5, 20], 1),
    ] {
        let refused = OverlayIndex::try_from(state(words));
        assert!(matches!(refused, Err(Error::Run { run }) if run == bad), "{words:?}: {refused:?}");
    }
    for len in [0, 511, 513] {
        let refused = OverlayIndex::try_from(OverlayState { len, ..state(&[]) });
        assert!(matches!(refused, Err(Error::Length { .. })), "{len}: {refused:?}");
    }
}

#[test]
fn a_file_is_what_was_written_or_it_is_not() {
    // No whole number of pages, and data at both ends.
    let len = 9 * 4096 + 512;
    let mut bytes = vec![0; len];
    bytes[1] = 7;
    bytes[len - 1] = 9;
    let mut sum = OverlaySum::default();
    let mut padded = bytes.clone();
    padded.resize(10 * 4096, 0);
    for (page, bytes) in (0..).zip(padded.as_chunks::<4096>().0) {
        assert_eq!(sum.add(page, bytes), page == 0 || page == 9);
    }
    let index = OverlayIndex::new(len as u64, vec![0..1, 72..73], sum).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk-root");
    let check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        index.verify(&File::open(&path).unwrap())
    };
    check(&bytes).unwrap();
    assert!(matches!(check(&bytes[..len - 512]), Err(Error::FileLength { .. })));
    bytes[1] = 8;
    assert!(matches!(check(&bytes), Err(Error::Sum { .. })));
    bytes[1] = 7;
    bytes[5 * 4096] = 1;
    assert!(matches!(check(&bytes), Err(Error::DataPages { stated: 2, actual: 3 })));
    assert_eq!(part_name("root"), "disk-root");
}
