//! Images that gain parts, and what is left when they do not.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

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
    let inodes = || ["", "memory", "state"].map(|name| fs::metadata(out.join(name)).unwrap().ino());
    let before = inodes();
    fs::set_permissions(out.join("state"), fs::Permissions::from_mode(0o640)).unwrap();
    replace_part(&old, "working-set", b"first").unwrap();

    assert_eq!(names(parent.path()), ["warm"]);
    assert_eq!(names(&out), ["disk-root", "later", "memory", "state", "working-set"]);
    assert_eq!(inodes(), before);
    assert_eq!(set(&old), "first", "who has it open has the part");
    assert_eq!(fs::metadata(out.join("working-set")).unwrap().mode() & 0o777, 0o640, "as the state");

    replace_part(&old, "working-set", b"second").unwrap();
    assert_eq!(set(&ImageDir::open(&out).unwrap()), "second");
    assert_eq!(names(&out), ["disk-root", "later", "memory", "state", "working-set"]);
}

/// What a user keeps in an image's directory stays: other images, a disk that a guest writes to, sockets, links.
#[test]
fn what_is_no_part_of_an_image_is_left_alone() {
    let (_parent, out) = image();
    let mut child = ImageWriter::create(&out.with_file_name("child")).unwrap();
    child.memory().unwrap().write_all(b"precious").unwrap();
    child.commit(b"state").unwrap();
    fs::rename(out.with_file_name("child"), out.join("child")).unwrap();
    fs::write(out.join("raw.img"), "raw").unwrap();
    fs::write(out.join("a name with spaces"), "kept").unwrap();
    fs::write(out.join(".hidden"), "kept").unwrap();
    symlink("state", out.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap();
    let before = names(&out);
    let raw = fs::metadata(out.join("raw.img")).unwrap().ino();

    let image = ImageDir::open(&out).unwrap();
    assert_eq!(image.others().unwrap(), [".hidden", "a name with spaces", "child", "link", "socket"]);
    replace_part(&image, "working-set", b"set").unwrap();
    let mut expected = before;
    expected.push("working-set".to_owned());
    expected.sort();
    assert_eq!(names(&out), expected);
    assert_eq!(fs::metadata(out.join("raw.img")).unwrap().ino(), raw);
    assert_eq!(fs::read(out.join("child").join("memory")).unwrap(), b"precious");
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
fn an_image_that_has_the_name_now_is_left_alone() {
    let (parent, out) = image();
    let old = ImageDir::open(&out).unwrap();
    fs::rename(&out, parent.path().join("moved")).unwrap();
    ImageWriter::create(&out).unwrap().commit(b"another").unwrap();
    replace_part(&old, "working-set", b"set").unwrap();
    assert_eq!(names(&out), ["state"]);
    assert_eq!(fs::read(parent.path().join("moved").join("working-set")).unwrap(), b"set");

    fs::remove_dir_all(parent.path().join("moved")).unwrap();
    for error in [
        replace_part(&old, "working-set", b"set").unwrap_err(),
        check_replaceable(&old, "working-set").unwrap_err(),
    ] {
        assert!(matches!(error, Error::Replaced { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
    assert_eq!(names(&out), ["state"]);
}

#[test]
fn what_killed_writers_have_left_is_swept_and_nothing_else() {
    let (_parent, out) = image();
    let live = format!(".working-set.tmp-{}-0123456789abcdef", std::process::id());
    let strangers = [live.as_str(), ".working-set.tmp-1-0123456789abcdeg", ".other.tmp-1-0123456789abcdef"];
    for name in strangers.iter().chain([&".working-set.tmp-1-0123456789abcdef"]) {
        fs::write(out.join(name), "half").unwrap();
    }
    let held = fs::File::open(out.join(&live)).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let image = ImageDir::open(&out).unwrap();
    check_replaceable(&image, "working-set").unwrap();
    let mut expected: Vec<String> =
        strangers.iter().chain(&["disk-root", "memory", "state"]).map(|name| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(names(&out), expected);
}

#[test]
fn what_cannot_be_a_new_part_leaves_the_image_as_it_was() {
    let (parent, out) = image();
    let image = ImageDir::open(&out).unwrap();
    for bad in ["state", "memory", "memory-pack", "../x", ".hidden", ""] {
        assert!(matches!(replace_part(&image, bad, b""), Err(Error::BadPart { .. })), "{bad}");
    }
    fs::create_dir(out.join("working-set")).unwrap();
    assert!(matches!(replace_part(&image, "working-set", b"set"), Err(Error::Write { .. })));
    fs::remove_dir(out.join("working-set")).unwrap();
    assert_eq!(names(&out), ["disk-root", "memory", "state"]);

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
