//! Images that gain parts, and what is left when they do not.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::replace::exchange;
use super::*;
use crate::ErrorKind;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An image `warm` with a sparse memory and a disk.
fn image() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    let mut writer = ImageWriter::create(&out).unwrap();
    let memory = writer.memory().unwrap();
    memory.set_len(1 << 20).unwrap();
    memory.write_all_at(b"memory", 1 << 19).unwrap();
    writer.part("disk-root").unwrap().write_all(b"disk").unwrap();
    writer.commit(b"state").unwrap();
    (parent, out)
}

fn set(image: &ImageDir) -> String {
    let mut text = String::new();
    image.part("working-set").unwrap().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_image_gains_a_part_and_keeps_the_others_as_the_same_files() {
    let (parent, out) = image();
    fs::write(out.join("later"), "a part of a later version").unwrap();
    let old = ImageDir::open(&out).unwrap();
    let inode = fs::metadata(out.join("memory")).unwrap().ino();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o750)).unwrap();
    replace_part(&old, "working-set", b"first").unwrap();

    assert_eq!(names(parent.path()), ["warm"]);
    assert_eq!(names(&out), ["disk-root", "later", "memory", "state", "working-set"]);
    let new = ImageDir::open(&out).unwrap();
    assert_eq!((new.state(), set(&new)), (&b"state"[..], "first".to_owned()));
    assert_eq!(fs::metadata(out.join("memory")).unwrap().ino(), inode);
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o750);
    let mut memory = [0; 6];
    old.memory().unwrap().read_exact_at(&mut memory, 1 << 19).unwrap();
    assert_eq!(&memory, b"memory", "who has the old one open keeps it");

    replace_part(&new, "working-set", b"second").unwrap();
    assert_eq!(set(&ImageDir::open(&out).unwrap()), "second");
    assert_eq!(names(parent.path()), ["warm"]);
}

#[test]
fn a_link_to_an_image_stays_one() {
    let (parent, out) = image();
    let link = parent.path().join("latest");
    symlink("warm", &link).unwrap();
    replace_part(&ImageDir::open(&link).unwrap(), "working-set", b"set").unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("warm"));
    assert_eq!(set(&ImageDir::open(&out).unwrap()), "set");
}

#[test]
fn an_image_that_is_not_the_one_that_was_opened_is_left_alone() {
    let (parent, out) = image();
    let old = ImageDir::open(&out).unwrap();
    replace_part(&old, "working-set", b"first").unwrap();
    let error = replace_part(&old, "working-set", b"second").unwrap_err();
    assert!(matches!(error, Error::Replaced { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(set(&ImageDir::open(&out).unwrap()), "first");
    assert_eq!(names(parent.path()), ["warm"]);
}

#[test]
fn of_two_that_replace_an_image_the_second_is_told() {
    let (parent, out) = image();
    let held = fs::File::open(&out).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = replace_part(&ImageDir::open(&out).unwrap(), "working-set", b"set").unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    assert_eq!(names(parent.path()), ["warm"]);
    assert_eq!(names(&out), ["disk-root", "memory", "state"]);
    drop(held);
    replace_part(&ImageDir::open(&out).unwrap(), "working-set", b"set").unwrap();
}

/// Somebody without locks puts another image there in the last moment.
#[test]
fn what_was_put_there_meanwhile_is_put_back() {
    let (parent, out) = image();
    let old = ImageDir::open(&out).unwrap();
    let mut writer = ImageWriter::beside(&out).unwrap();
    writer.write_state(b"new").unwrap();
    writer.flush().unwrap();
    fs::rename(&out, parent.path().join("away")).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("state"), "a stranger's").unwrap();
    assert!(matches!(exchange(&mut writer, &out, &old), Err(Error::Replaced { .. })));
    drop(writer);
    assert_eq!(names(parent.path()), ["away", "warm"]);
    assert_eq!(fs::read(out.join("state")).unwrap(), b"a stranger's");

    let mut writer = ImageWriter::beside(&out).unwrap();
    writer.write_state(b"new").unwrap();
    writer.flush().unwrap();
    fs::remove_dir_all(&out).unwrap();
    assert!(matches!(exchange(&mut writer, &out, &old), Err(Error::Replaced { .. })));
    drop(writer);
    assert_eq!(names(parent.path()), ["away"]);
}

#[test]
fn parts_that_cannot_be_taken_over_leave_the_image_as_it_was() {
    let (parent, out) = image();
    let image = ImageDir::open(&out).unwrap();
    for bad in ["state", "../x", ""] {
        assert!(matches!(replace_part(&image, bad, b""), Err(Error::BadPart { .. })), "{bad}");
    }
    let mut writer = ImageWriter::create(&parent.path().join("copy")).unwrap();
    assert!(matches!(writer.share(&image, "none"), Err(Error::MissingPart { .. })));
    symlink("state", out.join("linked")).unwrap();
    assert!(matches!(writer.share(&image, "linked"), Err(Error::NotRegular { .. })));
    writer.share(&image, "memory").unwrap();
    assert!(matches!(writer.share(&image, "memory"), Err(Error::BadPart { .. })));
    drop(writer);
    assert_eq!(names(parent.path()), ["warm"]);
}

/// `/dev/shm` and the temporary directory are often two file systems, and always two to `linkat` if they are.
#[test]
fn a_part_on_another_file_system_is_copied_with_its_holes() {
    let (_parent, out) = image();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let mut writer = ImageWriter::create(&elsewhere.path().join("copy")).unwrap();
    writer.share(&ImageDir::open(&out).unwrap(), "memory").unwrap();
    writer.commit(b"state").unwrap();
    let copy = elsewhere.path().join("copy").join("memory");
    assert_eq!(fs::read(&copy).unwrap(), fs::read(out.join("memory")).unwrap());
    assert!(fs::metadata(&copy).unwrap().blocks() * 512 < 1 << 20);
}
