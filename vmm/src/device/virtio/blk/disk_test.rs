use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use snapshot_format::codec::Blob;
use snapshot_format::state::VirtioBlkState;
use tempfile::TempDir;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::super::mock;
use super::*;
use crate::config::PathTrust;

fn dir_with(name: &str, len: usize) -> (TempDir, std::path::PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, vec![7; len]).unwrap();
    (dir, path)
}

/// What an image would say of the disk.
fn state_of(disk: &Disk) -> VirtioBlkState {
    VirtioBlkState {
        transport: Default::default(),
        path: Blob(disk.path().as_os_str().as_bytes().to_vec()),
        read_only: disk.is_read_only(),
        overlay: false,
        len: disk.len(),
        modified_ns: disk.modified_ns().unwrap(),
        limit: Default::default(),
    }
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let (dir, path) = dir_with("odd", 513);
    assert!(matches!(Disk::open(&path, false), Err(Error::Length { len: 513, .. })));
    fs::write(&path, b"").unwrap();
    assert!(matches!(Disk::open(&path, false), Err(Error::Length { len: 0, .. })));
    assert!(matches!(Disk::open(dir.path(), true), Err(Error::Kind { .. })));
    assert!(matches!(Disk::open(Path::new("/dev/null"), true), Err(Error::Kind { .. })));
    assert!(matches!(Disk::open(&dir.path().join("none"), true), Err(Error::Open { .. })));
}

#[test]
fn one_may_write_or_many_may_read() {
    let (_dir, path) = dir_with("disk", 1024);
    let writer = Disk::open(&path, false).unwrap();
    assert!(matches!(Disk::open(&path, false), Err(Error::Busy { .. })));
    assert!(matches!(Disk::open(&path, true), Err(Error::Busy { .. })));
    drop(writer);
    let readers = [Disk::open(&path, true).unwrap(), Disk::open(&path, true).unwrap()];
    assert!(matches!(Disk::open(&path, false), Err(Error::Busy { .. })));
    drop(readers);
    Disk::open(&path, false).unwrap();
}

#[test]
fn a_disk_that_has_changed_is_not_the_image_s() {
    let (dir, path) = dir_with("disk", 1024);
    let state = state_of(&Disk::open(&path, false).unwrap());
    assert_eq!(Disk::reopen(&state, None, &PathTrust::All).unwrap().len(), 1024);

    let file = fs::File::options().write(true).open(&path).unwrap();
    let later = file.metadata().unwrap().modified().unwrap() + std::time::Duration::from_nanos(1);
    file.set_modified(later).unwrap();
    assert!(matches!(Disk::reopen(&state, None, &PathTrust::All), Err(Error::Modified { .. })));
    // Another file is the user's word; but not another length.
    let other = dir.path().join("other");
    fs::write(&other, [0; 1024]).unwrap();
    assert_eq!(Disk::reopen(&state, Some(&other), &PathTrust::Named).unwrap().path(), other);
    fs::write(&other, [0; 512]).unwrap();
    assert!(matches!(
        Disk::reopen(&state, Some(&other), &PathTrust::Named),
        Err(Error::Resized { len: 512, saved: 1024, .. })
    ));
    file.set_len(2048).unwrap();
    assert!(matches!(
        Disk::reopen(&state, None, &PathTrust::All),
        Err(Error::Resized { len: 2048, saved: 1024, .. })
    ));
    fs::remove_file(&path).unwrap();
    assert!(matches!(Disk::reopen(&state, None, &PathTrust::All), Err(Error::Open { .. })));
}

#[test]
fn a_record_that_no_disk_leaves_is_refused() {
    let (_dir, path) = dir_with("disk", 1024);
    let good = state_of(&Disk::open(&path, true).unwrap());
    let refused = |change: &dyn Fn(&mut VirtioBlkState)| {
        let mut state = good.clone();
        change(&mut state);
        matches!(Disk::reopen(&state, None, &PathTrust::All), Err(Error::Record { .. }))
    };
    assert!(refused(&|state| state.path = Blob(b"disk".to_vec())));
    assert!(refused(&|state| state.path = Blob(b"/di\0sk".to_vec())));
    assert!(refused(&|state| state.path = Blob(Vec::new())));
    assert!(refused(&|state| (state.read_only, state.overlay) = (true, true)));
    assert!(refused(&|state| state.len = 0));
    assert!(refused(&|state| state.len = 1000));
}

/// More pieces than the kernel takes at a time, and empty ones among them.
#[test]
fn many_pieces_are_read_and_written() {
    let (_dir, path) = dir_with("disk", 8192);
    let content: Vec<u8> = (0..8192_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&path, &content).unwrap();
    let disk = Disk::open(&path, false).unwrap();
    let memory = mock::ram();
    let piece = |n: u64| memory.get_slice(GuestAddress(2 * n), (n % 3) as usize).unwrap();
    let pieces: Vec<_> = (0..3000).map(piece).collect();
    disk::read(disk.file(), &pieces, 512).unwrap();
    let mut at = 512;
    for slice in &pieces {
        let mut bytes = vec![0; slice.len()];
        slice.copy_to(&mut bytes[..]);
        assert_eq!(bytes, content[at..at + slice.len()]);
        at += slice.len();
    }
    disk::write(disk.file(), &pieces, 1024).unwrap();
    assert_eq!(fs::read(&path).unwrap()[1024..1024 + at - 512], content[512..at]);
    assert!(disk::read(disk.file(), &pieces, 8192 - 100).is_err(), "the disk ends");
}

/// Opening one needs a device and the right to it: where there is none, the kind alone is looked at.
#[test]
fn an_image_s_word_is_not_enough_for_a_block_device() {
    let (_dir, path) = dir_with("disk", 1024);
    let mut disk = Disk::open(&path, true).unwrap();
    disk.is_file = false;
    assert_eq!(disk.modified_ns(), None);
    assert!(matches!(disk.unmodified_since(0), Err(Error::Untold { .. })));
}

/// As QEMU takes them (`block/file-posix.c`): a byte for each permission in use, and one for each that is not shared.
#[test]
fn locks_of_other_programs_are_seen_and_ours_by_them() {
    use crate::sys::ofd::{END, Kind, is_locked, try_lock};
    let (_dir, path) = dir_with("disk", 1024);
    let other = || fs::File::options().read(true).write(true).open(&path).unwrap();
    let with = |kind, ranges: &[(u64, u64)]| {
        let file = other();
        ranges.iter().for_each(|(start, end)| assert!(try_lock(&file, kind, &(*start..*end)).unwrap()));
        file
    };
    let open = |read_only| match Disk::open(&path, read_only) {
        Ok(_) => true,
        Err(Error::Busy { .. }) => false,
        Err(other) => panic!("{other}"),
    };
    // Cloud Hypervisor's writer, and its reader.
    let held = with(Kind::Exclusive, &[(0, END)]);
    assert_eq!([open(false), open(true)], [false, false]);
    drop(held);
    let held = with(Kind::Shared, &[(0, 100)]);
    assert_eq!([open(false), open(true)], [false, true]);
    drop(held);
    // QEMU's writer, and its reader.
    let held = with(Kind::Shared, &[(100, 102), (103, 104), (201, 202), (203, 204)]);
    assert_eq!([open(false), open(true)], [false, false]);
    drop(held);
    let held = with(Kind::Shared, &[(100, 101), (201, 202), (203, 204)]);
    assert_eq!([open(false), open(true)], [false, true]);
    drop(held);

    let locked = |byte: u64| is_locked(&other(), &(byte..byte + 1)).unwrap();
    let reader = Disk::open(&path, true).unwrap();
    assert_eq!([100, 101, 103, 200, 201, 203].map(locked), [true, false, false, false, true, true]);
    drop(reader);
    let writer = Disk::open(&path, false).unwrap();
    assert_eq!([0, 100, 101, 200, 201, 1 << 40].map(locked), [true; 6]);
    drop(writer);
    assert!(!locked(0));
}

#[test]
fn a_container_is_no_raw_disk_unless_a_guest_has_made_it_look_like_one() {
    let (_dir, path) = dir_with("disk", 1024);
    let file = fs::File::options().write(true).open(&path).unwrap();
    let headers: [(u64, &[u8], &str); 4] = [
        (0, b"QFI\xfb\0\0\0\x03", "qcow2"),
        (0, b"KDMV", "vmdk"),
        (0, b"vhdxfile", "vhdx"),
        (64, b"\x7f\x10\xda\xbe", "vdi"),
    ];
    for (at, header, name) in headers {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 512], 0).unwrap();
        assert!(Disk::open(&path, true).unwrap().unless_container().is_ok());
        std::os::unix::fs::FileExt::write_all_at(&file, header, at).unwrap();
        let refused = Disk::open(&path, true).unwrap().unless_container();
        assert!(matches!(refused, Err(Error::Container { format, .. }) if format == name), "{name}");
        // A disk that a guest has had is its image's, whatever the guest has written to it.
        let state = state_of(&Disk::open(&path, true).unwrap());
        assert!(Disk::reopen(&state, None, &PathTrust::All).is_ok());
        assert!(Disk::reopen(&state, Some(&path), &PathTrust::Named).is_ok());
    }
}
