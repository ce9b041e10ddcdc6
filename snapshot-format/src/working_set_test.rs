//! Working sets good and bad, and what is made of hostile bytes.

use super::*;
use crate::testing::reseal;

const ID: [u8; 16] = [7; 16];

fn pages(count: u64) -> PageCount {
    PageCount::from_bytes(count * 4096).unwrap()
}

fn run(first: u64, pages: u64, written: bool) -> Run {
    Run { first, pages, written }
}

fn sample() -> WorkingSet {
    WorkingSet::new(ID, vec![run(40, 8, true), run(0, 3, false), run(3, 1, true)], pages(48)).unwrap()
}

/// The sample with `bytes` put at `at` and the checksum made right again.
fn altered(at: usize, bytes: &[u8]) -> Result<WorkingSet, Error> {
    let mut file = sample().encode();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    reseal::checksum_of(&mut file);
    WorkingSet::parse(&file, ID, pages(48))
}

#[test]
fn a_set_comes_back_in_its_order() {
    let set = sample();
    assert_eq!((set.pages(), set.written_pages(), set.image_id()), (12, 9, ID));
    let bytes = set.encode();
    assert_eq!(bytes.len(), 48 + 3 * 16 + 8);
    let read = WorkingSet::parse(&bytes, ID, pages(48)).unwrap();
    assert_eq!(read, set);
    assert_eq!(read.runs()[0], run(40, 8, true));
    let empty = WorkingSet::new(ID, Vec::new(), pages(0)).unwrap();
    assert_eq!(WorkingSet::parse(&empty.encode(), ID, pages(0)).unwrap(), empty);
}

#[test]
fn the_layout_is_that_of_the_document() {
    let bytes = sample().encode();
    assert_eq!(&bytes[..8], b"REKINSET");
    assert_eq!(&bytes[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[16..32], ID);
    assert_eq!(&bytes[32..48], [3, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[48..64], [40, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage() {
    let good = sample().encode();
    for at in 0..good.len() * 8 {
        let mut file = good.clone();
        file[at / 8] ^= 1 << (at % 8);
        let error = WorkingSet::parse(&file, ID, pages(48)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "bit {at}: {error}");
    }
    for len in 0..good.len() {
        let error = WorkingSet::parse(&good[..len], ID, pages(48)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{len} bytes: {error}");
    }
}

#[test]
fn what_the_checksum_does_not_find_is_found_by_the_fields() {
    assert!(altered(0, &[]).is_ok());
    let error = altered(8, &[2]).unwrap_err();
    assert!(matches!(error, Error::Version { found: 2 }));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(matches!(altered(10, &[1]), Err(Error::Reserved)));
    assert!(matches!(altered(16, &[8]), Err(Error::OtherImage)));
    assert!(matches!(altered(32, &[2]), Err(Error::Length { count: 2, .. })));
    assert!(matches!(altered(32, &[0xff; 8]), Err(Error::TooManyRuns { count: u64::MAX })));
    assert!(matches!(altered(40, &[13]), Err(Error::Pages { stated: 13, actual: 12 })));
    assert!(matches!(altered(60, &[3]), Err(Error::Reserved)));
    assert!(matches!(altered(48, &[0xff; 8]), Err(Error::Run { run: 0 })));
    assert!(matches!(altered(48, &[41]), Err(Error::Run { run: 0 })));
    assert!(matches!(altered(56, &[0; 4]), Err(Error::Run { run: 0 })));
    assert!(matches!(altered(80, &[2]), Err(Error::Twice { page: 2 })));
}

#[test]
fn the_writer_keeps_the_readers_bounds() {
    let refused = |runs, file_pages| WorkingSet::new(ID, runs, file_pages).unwrap_err();
    assert!(matches!(refused(vec![run(0, 49, false)], pages(48)), Error::Run { run: 0 }));
    assert!(matches!(refused(vec![run(0, 2, false), run(1, 1, true)], pages(48)), Error::Twice { page: 1 }));
    assert!(matches!(refused(vec![run(5, 1, false); 2], pages(48)), Error::Twice { page: 5 }));
    let every_other = |count: u64| (0..count).map(|n| run(2 * n, 1, false)).collect::<Vec<_>>();
    let (most, file) = (MAX_RUNS as u64, pages(1 << 22));
    let largest = WorkingSet::new(ID, every_other(most), file).unwrap().encode();
    assert_eq!(largest.len() as u64, MAX_BYTES);
    assert!(WorkingSet::parse(&largest, ID, file).is_ok());
    assert!(matches!(refused(every_other(most + 1), file), Error::TooManyRuns { .. }));
    let longer = [&largest[..], &[0]].concat();
    assert!(matches!(WorkingSet::parse(&longer, ID, file), Err(Error::TooLarge)));
}

#[test]
fn a_set_of_other_memory_is_refused() {
    let bytes = sample().encode();
    assert!(matches!(WorkingSet::parse(&bytes, [8; 16], pages(48)), Err(Error::OtherImage)));
    assert!(matches!(WorkingSet::parse(&bytes, ID, pages(47)), Err(Error::Run { run: 0 })));
}
