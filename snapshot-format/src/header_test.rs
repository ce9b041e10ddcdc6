use super::{HEADER_BYTES, Header, MAGIC, MAX_STATE_BYTES, checksum};
use crate::section::KINDS;
use crate::testing::{reseal, samples};
use crate::{Architecture, Error, ErrorKind};

fn parse(file: &[u8]) -> Error {
    Header::parse(file).unwrap_err()
}

#[test]
fn the_layout_is_the_one_of_format_md() {
    let file = samples::state_file().unwrap();
    assert_eq!(&file[..8], b"REKINDLE");
    assert_eq!(file[8..10], [1, 0]);
    assert_eq!(file[10..12], [1, 0]);
    // One of every kind that every image has, and two vCPUs.
    let sections = KINDS.len() as u32;
    assert_eq!(file[12..16], sections.to_le_bytes());
    assert_eq!(file[16..24], (file.len() as u64).to_le_bytes());
    assert_eq!(file[24..32], [0; 8]);
    let header = Header::parse(&file).unwrap();
    assert_eq!((header.sections, header.file_len), (sections, file.len() as u64));
    assert_eq!(header.architecture, Architecture::X86_64);
}

#[test]
fn the_checksum_is_crc_64_jones() {
    assert_eq!(checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    assert_eq!(checksum(&[0; 5]), 0);
}

#[test]
fn what_is_no_image_is_told_from_a_damaged_one() {
    let file = samples::state_file().unwrap();
    for other in [&b""[..], b"\x7fELF", b"REKINDLF", &[0; 4096], &[0xff; 40]] {
        assert_eq!(parse(other).kind(), ErrorKind::NotAnImage);
    }
    for cut in [1, 7, 8, 20, 39] {
        assert!(matches!(parse(&file[..cut]), Error::Truncated { len, .. } if len == cut), "{cut}");
    }
    let huge = [&MAGIC[..], &vec![0; MAX_STATE_BYTES as usize]].concat();
    assert!(matches!(parse(&huge), Error::TooLarge { .. }));
}

#[test]
fn a_newer_version_is_named_only_if_the_file_is_intact() {
    let mut file = samples::state_file().unwrap();
    file[8] = 2;
    assert_eq!(parse(&file).kind(), ErrorKind::Damaged);
    reseal::checksum_of(&mut file);
    let error = parse(&file);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "the image was written in format version 2, this build reads 1");
}

#[test]
fn every_field_is_checked_behind_the_checksum() {
    let changed = |at: usize, byte: u8| {
        let mut file = samples::state_file().unwrap();
        file[at] ^= byte;
        reseal::checksum_of(&mut file);
        parse(&file)
    };
    assert!(matches!(changed(10, 3), Error::Architecture { found: 2 }));
    assert_eq!(changed(10, 3).kind(), ErrorKind::WrongArchitecture);
    assert!(matches!(changed(16, 1), Error::Length { .. }));
    assert!(matches!(changed(23, 0x80), Error::Length { .. }));
    for at in 24..HEADER_BYTES {
        assert!(matches!(changed(at, 1), Error::Reserved), "{at}");
    }
}
