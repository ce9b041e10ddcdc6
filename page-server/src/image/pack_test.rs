//! Packing and unpacking, with holes.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use snapshot_format::pages::{CHUNK_BYTES, PAGE_BYTES, PageCount, data_extents};
use snapshot_format::testing::samples;

use super::*;
use crate::source;

/// Memory of three frames and a page: pages of data here and there, holes elsewhere.
fn memory(path: &Path) -> MemoryFile {
    let file = File::create(path).unwrap();
    let pages = 3 * 16 + 1;
    file.set_len(pages * 4096).unwrap();
    for page in [1, 2, 3, 7, 15, 16, 40, 48] {
        file.write_all_at(&[page as u8; 4096], page * 4096).unwrap();
    }
    MemoryFile::open(path).unwrap()
}

#[test]
fn memory_comes_back_byte_for_byte_and_hole_for_hole() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let source = memory(&at("memory"));
    let create = |name| File::options().read(true).write(true).create_new(true).open(at(name)).unwrap();
    let file = create("pack");
    let packed = pack_memory(&source, [3; 16], &file).unwrap();
    assert_eq!(packed.memory_bytes, 3 * 65536 + 4096);
    assert!(packed.pack_bytes < 4096, "{packed:?}");

    let pack = Pack::new(file, "pack".into()).unwrap();
    let copy = create("copy");
    let sums = unpack_memory(&pack, &copy).unwrap();
    assert_eq!(std::fs::read(at("copy")).unwrap(), std::fs::read(at("memory")).unwrap());
    let pages = pack.index().file_pages();
    let extents = |file: &File| data_extents(file, pages).unwrap();
    assert_eq!(extents(&copy), extents(&File::open(at("memory")).unwrap()));
    assert_eq!(copy.metadata().unwrap().blocks(), std::fs::metadata(at("memory")).unwrap().blocks());
    let region = samples::memory_index().regions()[0];
    assert_eq!(MemoryIndex::new(vec![region], sums).unwrap().data_pages(), 8);
}

/// As the snapshot wrote it, so that the page cache can keep it as a huge page.
#[test]
fn a_chunk_that_is_nearly_full_comes_back_in_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let file = File::create(&path).unwrap();
    file.set_len(3 * CHUNK_BYTES).unwrap();
    // Without a frame in the middle and one at the end of the second chunk; the third has a page more than nothing.
    for page in (512..768).chain(784..1008).chain([1024]) {
        file.write_all_at(&[page as u8 | 1; PAGE_BYTES as usize], page * PAGE_BYTES).unwrap();
    }
    let copy = tempfile::tempfile().unwrap();
    unpack_memory(&MemoryFile::open(&path).unwrap(), &copy).unwrap();
    let extents = data_extents(&copy, PageCount::from_bytes(3 * CHUNK_BYTES).unwrap()).unwrap();
    assert_eq!((extents.len(), &extents[0]), (1, &(CHUNK_BYTES..2 * CHUNK_BYTES + PAGE_BYTES)));
    let mut bytes = vec![1; 3 * CHUNK_BYTES as usize];
    copy.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, std::fs::read(&path).unwrap());
}

#[test]
fn damage_stops_both_ways() {
    let broken = || {
        let mock = source::mock::Mock::numbered(20);
        let how = "so".to_owned();
        let error = source::Error::Damaged { what: "mock".into(), offset: 0, how };
        mock.failures.lock().unwrap().push(error);
        mock
    };
    let out = tempfile::tempfile().unwrap();
    let failed = pack_memory(&broken(), [0; 16], &out).unwrap_err();
    assert_eq!(failed.kind(), snapshot_format::ErrorKind::Damaged);
    assert!(matches!(unpack_memory(&broken(), &out), Err(Error::Copy(_))));
    let read_only = File::open("/proc/self/exe").unwrap();
    let failed = pack_memory(&source::mock::Mock::numbered(20), [0; 16], &read_only).unwrap_err();
    assert!(matches!(failed, Error::Write { .. }));
}
