//! Real files: whole, sparse, and changed under the source's eyes.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use super::*;

/// Eight pages, of which 2 and 5 have data, last modified long ago: so a write now shows on any file system.
fn sparse() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let file = File::create(&path).unwrap();
    file.set_len(8 * PAGE_BYTES).unwrap();
    file.write_all_at(&[2; 4096], 2 * PAGE_BYTES).unwrap();
    file.write_all_at(&[5; 4096], 5 * PAGE_BYTES).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    (dir, path)
}

fn page(source: &MemoryFile, page: u64) -> Result<u8, Error> {
    let mut bytes = [0xff; 4096];
    source.read(page * PAGE_BYTES, &mut bytes)?;
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    Ok(bytes[0])
}

#[test]
fn pages_and_holes_are_those_of_the_file() {
    let (_dir, path) = sparse();
    let source = MemoryFile::open(&path).unwrap();
    assert_eq!(source.len(), 8 * PAGE_BYTES);
    let zeros: Vec<u64> = (0..9).map(|page| source.zeros(page * PAGE_BYTES) / PAGE_BYTES).collect();
    assert_eq!(zeros, [2, 1, 0, 2, 1, 0, 2, 1, 0]);
    let bytes: Vec<u8> = (0..8).map(|number| page(&source, number).unwrap()).collect();
    assert_eq!(bytes, [0, 0, 2, 0, 0, 5, 0, 0]);
    let extent = |page: u64| page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
    assert_eq!(source.extents().unwrap(), [extent(2), extent(5)]);
}

#[test]
fn a_file_that_is_cut_off_has_neither_bytes_nor_zeros() {
    let (_dir, path) = sparse();
    let source = MemoryFile::open(&path).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4 * PAGE_BYTES).unwrap();
    assert!(matches!(page(&source, 5), Err(Error::Changed { .. })));
    assert!(matches!(page(&source, 2), Err(Error::Changed { .. })));
    for page in 0..8 {
        assert_eq!(source.zeros(page * PAGE_BYTES), 0, "page {page}: nobody knows any more");
    }
}

#[test]
fn a_file_that_is_written_to_is_not_served_any_more() {
    let (_dir, path) = sparse();
    let source = MemoryFile::open(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 2 * PAGE_BYTES).unwrap();
    let error = page(&source, 5).unwrap_err();
    assert!(error.to_string().ends_with("was changed while it was served"), "{error}");
    assert_eq!(source.zeros(0), 0);
    assert!(matches!(source.extents(), Err(Error::Changed { .. })));
}

#[test]
fn another_name_for_the_file_is_no_change() {
    let (dir, path) = sparse();
    let source = MemoryFile::open(&path).unwrap();
    fs::hard_link(&path, dir.path().join("other")).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(page(&source, 5).unwrap(), 5);
    assert_eq!(source.zeros(0), 2 * PAGE_BYTES);
}

#[test]
fn what_is_no_memory_file_is_refused() {
    let (dir, path) = sparse();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4095).unwrap();
    let refused = MemoryFile::open(&path).unwrap_err();
    assert!(refused.to_string().contains("0xfff is not a multiple of 4096"), "{refused}");
    assert!(matches!(MemoryFile::open(dir.path()), Err(Error::Damaged { .. })));
    assert!(matches!(MemoryFile::open(&dir.path().join("none")), Err(Error::Read { .. })));
    // Reading beyond the end is the caller's mistake, and not taken for a change of the file.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let source = MemoryFile::open(&path).unwrap();
    assert!(matches!(page(&source, 1), Err(Error::Read { .. })));
}
