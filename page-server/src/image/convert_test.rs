//! Images there and back.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use snapshot_format::testing::samples;
use snapshot_format::{ErrorKind, ImageWriter};
use tempfile::TempDir;

use super::*;

/// The sample image, with memory that has holes, a disk and a working set that nobody can read.
fn image() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain");
    let mut writer = ImageWriter::create(&path).unwrap();
    let memory = writer.memory().unwrap();
    memory.set_len(samples::MEMORY_BYTES).unwrap();
    for (page, bytes) in samples::memory_file().as_chunks::<4096>().0.iter().enumerate() {
        if bytes.iter().any(|byte| *byte != 0) {
            memory.write_all_at(bytes, page as u64 * 4096).unwrap();
        }
    }
    writer.part("disk-root").unwrap().write_all_at(b"disk", 0).unwrap();
    writer.part("working-set").unwrap().write_all_at(b"later", 0).unwrap();
    writer.commit(&samples::state_file().unwrap()).unwrap();
    (dir, path)
}

#[test]
fn an_image_comes_back_byte_for_byte_with_its_holes_and_its_other_parts() {
    let (dir, plain) = image();
    let at = |name| dir.path().join(name);
    let packed = pack(&plain, &at("packed")).unwrap();
    assert_eq!(packed.pack_bytes, fs::metadata(at("packed").join("memory-pack")).unwrap().len());
    assert!(!at("packed").join("memory").exists());
    assert_eq!(verify(&at("packed")).unwrap(), 4 * 4096);
    unpack(&at("packed"), &at("again")).unwrap();
    for part in ["state", "memory", "disk-root", "working-set"] {
        let read = |image: PathBuf| fs::read(image.join(part)).unwrap();
        assert_eq!(read(at("again")), read(plain.clone()), "{part}");
    }
    let blocks = |image: PathBuf| fs::metadata(image.join("memory")).unwrap().blocks();
    assert_eq!(blocks(at("again")), blocks(plain.clone()));
    assert_eq!(fs::read(at("packed").join("state")).unwrap(), fs::read(plain.join("state")).unwrap());
    assert_eq!(verify(&plain).unwrap(), 4 * 4096);
}

/// What is converted is what was opened, parts and memory, and not half of what has the name by now.
#[test]
fn memory_and_state_are_of_the_same_image() {
    let (dir, plain) = image();
    let opened = ImageDir::open(&plain).unwrap();
    fs::rename(&plain, dir.path().join("elsewhere")).unwrap();
    fs::write(&plain, vec![7; 4096]).unwrap();
    let served = Served::of_dir(&opened, &Options::default()).unwrap();
    assert_eq!(served.id(), Some(samples::manifest().image_id));
    let mut memory = vec![0; samples::MEMORY_BYTES as usize];
    served.source().read(0, &mut memory).unwrap();
    assert_eq!(memory, samples::memory_file());
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let (dir, plain) = image();
    let at = |name| dir.path().join(name);
    pack(&plain, &at("packed")).unwrap();
    assert!(matches!(pack(&at("packed"), &at("out")), Err(Error::AlreadyPacked { .. })));
    assert!(matches!(unpack(&plain, &at("out")), Err(Error::NotPacked { .. })));
    assert_eq!(pack(&plain, &at("packed")).unwrap_err().kind(), ErrorKind::Refused);
    assert!(!at("out").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn damage_goes_into_no_other_image() {
    let (dir, plain) = image();
    let at = |name| dir.path().join(name);
    pack(&plain, &at("packed")).unwrap();
    let flip = |path: &Path, offset: u64| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    };
    flip(&plain.join("memory"), 3 * 4096 + 17);
    assert_eq!(pack(&plain, &at("out")).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(verify(&plain).unwrap_err().kind(), ErrorKind::Damaged);
    let pack_file = at("packed").join("memory-pack");
    for offset in 0..fs::metadata(&pack_file).unwrap().len() {
        flip(&pack_file, offset);
        let error = verify(&at("packed")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "byte {offset}: {error}");
        flip(&pack_file, offset);
    }
    verify(&at("packed")).unwrap();
    flip(&pack_file, 100);
    assert_eq!(unpack(&at("packed"), &at("out")).unwrap_err().kind(), ErrorKind::Damaged);
    assert!(!at("out").exists());
}

/// A pack that is intact, of memory that is not the state's.
#[test]
fn a_pack_of_other_memory_is_found_by_the_checksums_of_the_state() {
    let (dir, plain) = image();
    let packed = dir.path().join("packed");
    pack(&plain, &packed).unwrap();
    let raw = dir.path().join("raw");
    let mut bytes = samples::memory_file();
    bytes[4096] = 1;
    fs::write(&raw, bytes).unwrap();
    let file = File::create(packed.join("memory-pack")).unwrap();
    pack_memory(&MemoryFile::open(&raw).unwrap(), samples::manifest().image_id, &file).unwrap();
    assert!(matches!(verify(&packed), Err(Error::Memory { .. })));
    let refused = unpack(&packed, &dir.path().join("out")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged);
}
