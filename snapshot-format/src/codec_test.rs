use super::prelude::*;
use super::{Error, Part, decode, encode};

#[derive(Clone, Debug, Default, PartialEq, Versionize)]
struct Inner {
    a: u8,
    #[version(start = 3, default_fn = "default_b")]
    b: u16,
}

impl Inner {
    fn default_b(_saved: u16) -> u16 {
        0xbb
    }
}

#[derive(Clone, Debug, Default, PartialEq, Versionize)]
struct Outer {
    inner: Vec<Inner>,
    #[version(start = 2)]
    flag: bool,
}

const PARTS: &[Part] = &[Part::of::<Outer>(), Part::of::<Inner>()];

fn sample() -> Outer {
    Outer { inner: vec![Inner { a: 1, b: 2 }, Inner { a: 3, b: 4 }], flag: true }
}

#[test]
fn every_version_writes_its_own_fields_and_reads_them_back() {
    let lens = [8 + 2, 8 + 2 + 1, 8 + 6 + 1, 8 + 6 + 1];
    let mut upgraded = sample();
    upgraded.inner.iter_mut().for_each(|inner| inner.b = 0xbb);
    for (version, len) in (1..).zip(lens) {
        let bytes = encode(&sample(), version, PARTS).unwrap();
        assert_eq!(bytes.len(), len, "version {version}");
        let read: Outer = decode(&bytes, version, PARTS).unwrap();
        let expected = match version {
            1 => Outer { flag: false, ..upgraded.clone() },
            2 => upgraded.clone(),
            _ => sample(),
        };
        assert_eq!(read, expected, "version {version}");
    }
}

#[test]
fn version_zero_is_read_as_something_and_does_not_panic() {
    let bytes = encode(&sample(), 1, PARTS).unwrap();
    assert!(decode::<Outer>(&bytes, 0, PARTS).is_ok());
}

#[test]
fn every_shorter_input_is_short_and_every_longer_one_has_something_left() {
    let bytes = encode(&sample(), 3, PARTS).unwrap();
    for len in 0..bytes.len() {
        assert!(matches!(decode::<Outer>(&bytes[..len], 3, PARTS), Err(Error::Short)), "{len}");
    }
    let longer = [&bytes[..], &[0; 3]].concat();
    assert!(matches!(decode::<Outer>(&longer, 3, PARTS), Err(Error::Trailing { bytes: 3 })));
}

#[test]
fn a_bool_is_zero_or_one() {
    let mut bytes = encode(&sample(), 3, PARTS).unwrap();
    *bytes.last_mut().unwrap() = 2;
    assert!(matches!(decode::<Outer>(&bytes, 3, PARTS), Err(Error::Decode(_))));
}

#[derive(Clone, Debug, Default, PartialEq, Versionize)]
struct Pieces {
    blob: Blob,
    words: Words,
}

#[test]
fn pieces_of_every_length_come_back() {
    for len in [0, 1, 511, 512, 513, 4095, 4096, 4097, 10_000] {
        let pieces = Pieces {
            blob: Blob((0..len).map(|n| n as u8).collect()),
            words: Words((0..len as u64).map(|n| n << 40 | n).collect()),
        };
        let bytes = encode(&pieces, 1, &[]).unwrap();
        assert_eq!(bytes.len(), 16 + len + 8 * len);
        assert_eq!(decode::<Pieces>(&bytes, 1, &[]).unwrap(), pieces, "{len}");
    }
}

#[test]
fn words_are_the_bytes_of_a_vec() {
    let words = vec![1, u64::MAX, 0x0102_0304_0506_0708];
    assert_eq!(encode(&Words(words.clone()), 1, &[]).unwrap(), encode(&words, 1, &[]).unwrap());
}

#[test]
fn the_bounds_hold_for_the_writer_as_for_the_reader() {
    let longest = Pieces { blob: Blob(vec![7; Blob::MAX]), words: Words(vec![7; Words::MAX]) };
    let bytes = encode(&longest, 1, &[]).unwrap();
    assert_eq!(decode::<Pieces>(&bytes, 1, &[]).unwrap(), longest);

    for (blob, words) in [(Blob::MAX + 1, 0), (0, Words::MAX + 1)] {
        let beyond = Pieces { blob: Blob(vec![7; blob]), words: Words(vec![7; words]) };
        assert!(matches!(encode(&beyond, 1, &[]), Err(Error::Encode(_))));
        let count = (blob.max(words) as u64).to_le_bytes();
        let bytes = [&count[..], &vec![7; 8 * (Words::MAX + 1)]].concat();
        let refused = if blob > 0 {
            decode::<Blob>(&bytes, 1, &[]).err()
        } else {
            decode::<Words>(&bytes, 1, &[]).err()
        };
        assert!(matches!(refused, Some(Error::Decode(_))));
    }
}
