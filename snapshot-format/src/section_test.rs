use super::*;
use crate::testing::{reseal, samples};
use crate::{ErrorKind, StateReader};

/// The sample with entry `index` of its table changed and everything sealed again.
fn with_entry(index: usize, change: impl Fn(&mut [u8])) -> Error {
    let mut file = samples::state_file().unwrap();
    let at = HEADER_BYTES + index * ENTRY_BYTES;
    change(&mut file[at..at + ENTRY_BYTES]);
    reseal::checksum_of(&mut file);
    StateReader::parse(&file).map(drop).unwrap_err()
}

fn table_error(error: Error) -> (usize, TableError) {
    assert_eq!(error.kind(), ErrorKind::Damaged);
    match error {
        Error::Table { entry, source } => (entry, source),
        other => panic!("{other}"),
    }
}

fn add(field: &mut [u8], n: i64) {
    let value = u64_at(field, 0).wrapping_add_signed(n);
    field[..8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn names_are_plain() {
    for good in ["manifest", "vcpu:31", "acpi-pm", "virtio-blk:root_disk.0", "a", &"n".repeat(32)] {
        assert!(is_name(good), "{good}");
    }
    for bad in ["", ":", "vcpu:", ":0", "a:b:c", "a b", "a/b", "ä", "a\0", "a\n", &"n".repeat(33)] {
        assert!(!is_name(bad), "{bad}");
    }
}

#[test]
fn a_kind_owns_its_names() {
    let find = |name| Kind::of(name).map(|kind| kind.name);
    assert_eq!(find("vcpu:31"), Some("vcpu"));
    assert_eq!(find("rtc"), Some("rtc"));
    for stranger in ["vcpu", "vcpu:", "rtc:0", "virtio-blk", "virtio-rng:0", "disk:0", "", "vcpus:0"] {
        assert_eq!(find(stranger), None, "{stranger}");
    }
}

#[test]
fn kinds_are_distinct_and_their_versions_make_sense() {
    for (n, kind) in KINDS.iter().enumerate() {
        assert!(kind.oldest >= 1 && kind.oldest <= kind.current, "{}", kind.name);
        assert!(is_name(kind.name) && !kind.name.contains(':'));
        assert!(KINDS[..n].iter().all(|other| other.name != kind.name), "{}", kind.name);
    }
}

#[test]
fn the_layout_is_the_one_of_format_md() {
    let file = samples::state_file().unwrap();
    let entry = &file[HEADER_BYTES + 4 * ENTRY_BYTES..][..ENTRY_BYTES];
    assert_eq!(&entry[..8], b"vcpu:0\0\0");
    assert_eq!(entry[8..32], [0; 24]);
    assert_eq!(entry[32..40], [1, 0, 0, 0, 0, 0, 0, 0]);
    let reader = StateReader::parse(&file).unwrap();
    let bytes = &reader.sections()[4].bytes;
    assert_eq!(entry[40..48], (bytes.start as u64).to_le_bytes());
    assert_eq!(entry[48..56], (bytes.len() as u64).to_le_bytes());
    assert_eq!(reader.sections()[0].bytes.start, HEADER_BYTES + reader.sections().len() * ENTRY_BYTES);
    assert_eq!(reader.sections().last().unwrap().bytes.end, file.len() - CHECKSUM_BYTES);
}

#[test]
fn names_in_a_table_are_checked() {
    let name = |at: usize, byte: u8| table_error(with_entry(6, |entry| entry[at] = byte));
    assert_eq!(name(0, 0), (6, TableError::Name));
    assert_eq!(name(1, b'/'), (6, TableError::Name));
    assert_eq!(name(0, 0xff), (6, TableError::Name));
    assert_eq!(name(20, b'x'), (6, TableError::Name));
    let duplicate = with_entry(5, |entry| entry[..6].copy_from_slice(b"vcpu:0"));
    assert_eq!(table_error(duplicate), (5, TableError::Duplicate("vcpu:0".into())));
}

#[test]
fn versions_and_reserved_fields_in_a_table_are_checked() {
    assert_eq!(table_error(with_entry(2, |entry| entry[32] = 0)), (2, TableError::Version));
    for at in 34..40 {
        assert_eq!(table_error(with_entry(2, |entry| entry[at] = 1)), (2, TableError::Reserved));
    }
}

#[test]
fn no_byte_is_hidden_shared_or_out_of_bounds() {
    let offset = |index, n| table_error(with_entry(index, |entry| add(&mut entry[40..], n)));
    let len = |index, n| table_error(with_entry(index, |entry| add(&mut entry[48..], n)));
    // A gap, an overlap, an overlap with the table, a wrap.
    assert!(matches!(offset(3, 1), (3, TableError::Offset { .. })));
    assert!(matches!(offset(3, -1), (3, TableError::Offset { .. })));
    assert!(matches!(offset(0, -8), (0, TableError::Offset { .. })));
    assert!(matches!(offset(3, i64::MIN), (3, TableError::Offset { .. })));
    // A section that ends early or late shows at the next one, or at the end.
    assert!(matches!(len(3, 1), (4, TableError::Offset { .. })));
    assert!(matches!(len(3, -1), (4, TableError::Offset { .. })));
    // One of every kind but `host-check`, and two vCPUs.
    let last = KINDS.len() - 1;
    assert!(matches!(len(last, 1), (at, TableError::Length { .. }) if at == last));
    assert!(matches!(len(last, -1), (at, TableError::Unclaimed(1)) if at == last + 1));
    assert!(matches!(len(3, i64::MIN), (3, TableError::Length { .. })));
    assert!(matches!(len(3, -1 << 20), (3, TableError::Length { .. })));
}

#[test]
fn the_number_of_sections_is_bounded() {
    let count = |count: u32| {
        let mut file = samples::state_file().unwrap();
        file[12..16].copy_from_slice(&count.to_le_bytes());
        reseal::checksum_of(&mut file);
        StateReader::parse(&file).map(drop).unwrap_err()
    };
    assert!(matches!(count(MAX_SECTIONS as u32 + 1), Error::TooManySections { .. }));
    assert!(matches!(count(u32::MAX), Error::TooManySections { .. }));
    // The table would not fit the file.
    assert!(matches!(count(MAX_SECTIONS as u32), Error::Truncated { .. }));
    // One more or fewer than there are.
    assert_eq!(table_error(count(KINDS.len() as u32 - 1)).0, 0);
    assert_eq!(table_error(count(KINDS.len() as u32 + 1)).0, 0);
    // A table without sections, and then bytes that nobody owns.
    assert!(matches!(table_error(count(0)), (0, TableError::Unclaimed(_))));
}
