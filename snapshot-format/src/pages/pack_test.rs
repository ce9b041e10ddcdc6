//! Indices good and bad, and what is made of hostile bytes.

use super::*;
use crate::testing::reseal;

const ID: [u8; 16] = [7; 16];

fn pages(count: u64) -> PageCount {
    PageCount::from_bytes(count * 4096).unwrap()
}

/// Three whole frames and one of a page: compressed, zero, raw, raw.
fn frames() -> [Vec<u8>; 4] {
    [vec![1; 100], vec![], vec![3; 64 << 10], vec![4; 4096]]
}

fn sample() -> PackIndex {
    let entries = (0..).zip(&frames()).map(|(number, bytes)| Entry::of(number, bytes)).collect();
    PackIndex::new(ID, pages(49), entries).unwrap()
}

const START: u64 = 64 + 4 * 12 + 8;
const PACK_LEN: u64 = START + 100 + 65536 + 4096;

/// The sample with `bytes` put at `at` and the checksum made right again.
fn altered(at: usize, bytes: &[u8]) -> Result<PackIndex, Error> {
    let mut file = sample().encode();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    reseal::checksum_of(&mut file);
    PackIndex::parse(&file, PACK_LEN)
}

#[test]
fn an_index_comes_back_and_says_where_its_frames_are() {
    let bytes = sample().encode();
    assert_eq!(bytes.len() as u64, START);
    let index = PackIndex::parse(&bytes, PACK_LEN).unwrap();
    assert_eq!(index, sample());
    assert_eq!((index.frames(), index.pack_len(), index.file_pages()), (4, PACK_LEN, pages(49)));
    let found: Vec<_> = (0..4).map(|number| index.frame(number)).collect();
    let places: Vec<_> = found.iter().map(|f| (f.offset - START, f.len, f.memory_bytes, f.coding)).collect();
    let expected = [
        (0, 100, 65536, Coding::Zstd),
        (100, 0, 65536, Coding::Zero),
        (100, 65536, 65536, Coding::Raw),
        (65636, 4096, 4096, Coding::Raw),
    ];
    assert_eq!(places, expected);
    for (frame, bytes) in found.iter().zip(&frames()) {
        frame.check(bytes).unwrap();
    }
    index.check_image(ID, pages(49)).unwrap();
    assert!(matches!(index.check_image([8; 16], pages(49)), Err(Error::OtherImage)));
    assert!(matches!(index.check_image(ID, pages(50)), Err(Error::MemoryLength { .. })));
}

#[test]
fn offsets_are_right_across_groups() {
    let count = 3 * GROUP as u64 + 5;
    let entries = (0..count).map(|n| Entry::of(n, &vec![1; (n % 7) as usize * 10])).collect();
    let index = PackIndex::new(ID, pages(16 * count), entries).unwrap();
    let mut offset = frames_start(pages(16 * count));
    for number in 0..count {
        assert_eq!(index.frame(number).offset, offset, "{number}");
        offset += number % 7 * 10;
    }
    assert_eq!(index.pack_len(), offset);
}

#[test]
fn frames_that_changed_or_changed_places_are_found() {
    let frame = sample().frame(0);
    let mut bytes = frames()[0].clone();
    bytes[50] ^= 1;
    assert!(matches!(frame.check(&bytes), Err(Error::Frame { frame: 0, .. })));
    assert!(frame.check(&frames()[0][..99]).is_err());
    let two = PackIndex::new(ID, pages(32), vec![Entry::of(0, b"same"), Entry::of(1, b"same")]).unwrap();
    assert_ne!(two.frame(0).sum, two.frame(1).sum);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage() {
    let good = sample().encode();
    for at in 0..good.len() * 8 {
        let mut file = good.clone();
        file[at / 8] ^= 1 << (at % 8);
        let error = PackIndex::parse(&file, PACK_LEN).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "bit {at}: {error}");
    }
    for len in 0..good.len() {
        let error = PackIndex::parse(&good[..len], PACK_LEN).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{len} bytes: {error}");
    }
}

#[test]
fn what_the_checksum_does_not_find_is_found_by_the_fields() {
    assert!(altered(0, &[]).is_ok());
    assert!(matches!(altered(8, &[2]), Err(Error::Version { found: 2 })));
    assert_eq!(altered(8, &[2]).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(matches!(altered(15, &[1]), Err(Error::Reserved)));
    assert!(matches!(altered(63, &[1]), Err(Error::Reserved)));
    assert!(matches!(altered(32, &[1]), Err(Error::MemoryLength { .. })));
    assert!(matches!(altered(39, &[0xff]), Err(Error::MemoryLength { .. })));
    assert!(matches!(altered(40, &[5]), Err(Error::FrameCount { found: 5, expected: 4 })));
    assert!(matches!(altered(48, &[0; 8]), Err(Error::FileLength { stated: 0, .. })));
    assert!(matches!(altered(64, &[101]), Err(Error::FileLength { .. })));
    assert!(matches!(altered(64, &[0xff; 4]), Err(Error::FrameLength { frame: 0, len: u32::MAX })));
    assert!(matches!(altered(64 + 36, &[1, 16, 0, 0]), Err(Error::FrameLength { frame: 3, len: 4097 })));
    assert!(matches!(altered(64 + 12 + 4, &[1]), Err(Error::EmptySum { frame: 1 })));
    for len in [PACK_LEN - 1, PACK_LEN + 1, 0, u64::MAX] {
        let refused = PackIndex::parse(&sample().encode(), len);
        assert!(matches!(refused, Err(Error::FileLength { .. })), "{len}");
    }
    assert!(matches!(PackIndex::new(ID, pages(49), vec![]), Err(Error::FrameCount { found: 0, .. })));
}

#[test]
fn a_file_is_read_no_further_than_its_index_and_not_beyond_its_end() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&sample().encode(), 0).unwrap();
    assert!(matches!(PackIndex::read(&file), Err(Error::FileLength { actual: START, .. })));
    file.set_len(PACK_LEN).unwrap();
    assert_eq!(PackIndex::read(&file).unwrap(), sample());
    // A terabyte of memory, according to a file of a few bytes.
    file.write_all_at(&MAX_MEMORY_BYTES.to_le_bytes(), 32).unwrap();
    assert!(matches!(PackIndex::read(&file), Err(Error::Truncated { len: PACK_LEN, .. })));
    file.set_len(63).unwrap();
    assert!(matches!(PackIndex::read(&file), Err(Error::Truncated { len: 63, min: 64 })));
    file.set_len(0).unwrap();
    assert!(matches!(PackIndex::read(&file), Err(Error::NotAPack)));
}

#[test]
fn memory_of_no_pages_has_a_pack_of_no_frames() {
    let index = PackIndex::new(ID, pages(0), Vec::new()).unwrap();
    assert_eq!(PackIndex::parse(&index.encode(), index.pack_len()).unwrap(), index);
}
