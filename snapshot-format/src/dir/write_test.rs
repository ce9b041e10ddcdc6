use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::ErrorKind;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_committed_image_is_complete_and_nothing_else_is_left() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    let mut writer = ImageWriter::create(&out).unwrap();
    writer.memory().unwrap().write_all(b"memory").unwrap();
    writer.part("disk-root").unwrap().write_all(b"disk").unwrap();
    assert!(!out.exists());
    writer.commit(b"state").unwrap();

    assert_eq!(names(parent.path()), ["warm"]);
    assert_eq!(names(&out), ["disk-root", "memory", "state"]);
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o700);
    let image = ImageDir::open(&out).unwrap();
    assert_eq!((image.state(), image.memory_len().unwrap(), image.path()), (&b"state"[..], 6, out.as_path()));
    let read = |mut file: &File| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read(image.memory().unwrap()), "memory");
    assert_eq!(read(&image.part("disk-root").unwrap().unwrap()), "disk");
    assert!(image.part("disk-other").unwrap().is_none());
}

#[test]
fn the_temporary_directory_is_private_and_beside_the_target() {
    let parent = tempfile::tempdir().unwrap();
    let writer = ImageWriter::create(&parent.path().join("warm")).unwrap();
    let found = names(parent.path());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with(&format!(".warm.tmp-{}-", std::process::id())), "{}", found[0]);
    let mode = fs::metadata(parent.path().join(&found[0])).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(writer);
    assert!(names(parent.path()).is_empty());
}

#[test]
fn an_existing_target_is_refused_whatever_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name| parent.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    File::create(at("file")).unwrap();
    symlink("nowhere", at("link")).unwrap();
    for name in ["dir", "file", "link"] {
        let error = ImageWriter::create(&at(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), format!("`{}` exists already", at(name).display()));
    }
    assert_eq!(names(parent.path()), ["dir", "file", "link"]);
    for bad in ["/", "..", ""] {
        assert!(matches!(ImageWriter::create(Path::new(bad)), Err(Error::BadTarget { .. })), "{bad}");
    }
    let nowhere = ImageWriter::create(&at("missing").join("warm")).unwrap_err();
    assert!(matches!(&nowhere, Error::Create { source, .. } if source.kind() == io::ErrorKind::NotFound));
}

#[test]
fn a_target_that_appears_meanwhile_is_not_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    let create_dir = |out: &Path| fs::create_dir(out).unwrap();
    let create_file = |out: &Path| fs::write(out, "precious").unwrap();
    for make in [&create_dir as &dyn Fn(&Path), &create_file] {
        let writer = ImageWriter::create(&out).unwrap();
        make(&out);
        assert!(matches!(writer.commit(b"state"), Err(Error::Exists { .. })));
        assert_eq!(names(parent.path()), ["warm"]);
        assert!(!out.join("state").exists());
        if out.is_dir() { fs::remove_dir(&out).unwrap() } else { fs::remove_file(&out).unwrap() }
    }
}

#[test]
fn without_the_rename_flag_a_target_is_not_replaced_either() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    let writer = ImageWriter::create(&out).unwrap();
    fs::create_dir(&out).unwrap();
    assert_eq!(writer.rename_checked(), Err(rustix::io::Errno::EXIST));
    fs::remove_dir(&out).unwrap();
    assert_eq!(writer.rename_checked(), Ok(()));
    assert_eq!(names(parent.path()), ["warm"]);
}

#[test]
fn two_writers_of_one_name_do_not_disturb_each_other() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    let first = ImageWriter::create(&out).unwrap();
    let second = ImageWriter::create(&out).unwrap();
    assert_eq!(names(parent.path()).len(), 2);
    second.commit(b"second").unwrap();
    assert!(matches!(first.commit(b"first"), Err(Error::Exists { .. })));
    assert_eq!(fs::read(out.join("state")).unwrap(), b"second");
    assert_eq!(names(parent.path()), ["warm"]);
}

/// Of writers of any name: a pipeline uses a new one each time.
#[test]
fn left_overs_are_swept_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let live = ImageWriter::create(&parent.path().join("warm")).unwrap();
    let own = names(parent.path()).remove(0);
    let stale = [".warm.tmp-4294967295-0123456789abcdef", ".other.tmp-1-0123456789abcdef"];
    let not_stale = [
        ".warm.tmp-1-0123456789abcdeg",
        ".warm.tmp-1-0123456789abcde",
        ".warm.tmp-x-0123456789abcdef",
        ".tmp-1-0123456789abcdef",
        "warm.tmp-1-0123456789abcdef",
    ];
    // No writer of ours puts such things there.
    let strangers = ["a", "b", "c", "d"].map(|name| format!(".{name}.tmp-1-0123456789abcdef"));
    let strangers = strangers.each_ref().map(String::as_str);
    for name in not_stale.iter().chain(&stale).chain(&strangers) {
        fs::create_dir(parent.path().join(name)).unwrap();
        fs::write(parent.path().join(name).join("memory"), "x").unwrap();
    }
    fs::create_dir(parent.path().join(strangers[0]).join("child")).unwrap();
    symlink("memory", parent.path().join(strangers[1]).join("state")).unwrap();
    fs::write(parent.path().join(strangers[2]).join("with spaces"), "x").unwrap();
    fs::write(parent.path().join(strangers[3]).join("thesis.txt"), "x").unwrap();
    symlink(not_stale[0], parent.path().join(".warm.tmp-1-1111111111111111")).unwrap();
    assert_eq!(sweep_stale(parent.path()).unwrap(), stale.len());
    let left = names(parent.path());
    assert!(stale.iter().all(|name| !left.contains(&(*name).to_owned())) && left.contains(&own));
    assert_eq!(left.len(), not_stale.len() + strangers.len() + 2);
    assert!(strangers.iter().all(|name| parent.path().join(name).join("memory").exists()));
    drop(live);
    assert_eq!(names(parent.path()).len(), not_stale.len() + strangers.len() + 1);
    assert!(matches!(sweep_stale(&parent.path().join("none")), Err(Error::Sweep { .. })));
}

/// Its writer commits it, and is gone, after another writer has opened it and before that has locked it.
#[test]
fn what_was_committed_while_it_was_looked_at_is_no_left_over() {
    let parent = tempfile::tempdir().unwrap();
    let writer = ImageWriter::create(&parent.path().join("warm")).unwrap();
    let path = parent.path().join(&names(parent.path())[0]);
    let open = File::open(&path).unwrap();
    assert!(temporary::is_at(&open, &path));
    writer.commit(b"").unwrap();
    assert!(!temporary::is_at(&open, &path), "it is an image by now");
    assert!(temporary::is_at(&open, &parent.path().join("warm")));
}

/// Its own name's at once, for the room that they take; the others' once nobody waits for it.
#[test]
fn a_writer_sweeps_for_others_when_it_is_done() {
    let parent = tempfile::tempdir().unwrap();
    let (own, other) = (".warm.tmp-1-0123456789abcdef", ".other.tmp-1-0123456789abcdef");
    for name in [own, other] {
        fs::create_dir(parent.path().join(name)).unwrap();
    }
    let writer = ImageWriter::create(&parent.path().join("warm")).unwrap();
    assert!(!parent.path().join(own).exists() && parent.path().join(other).exists());
    writer.commit(b"").unwrap();
    assert_eq!(names(parent.path()), ["warm"]);
}

/// The temporary name is longer than the name, and a file's name has an end.
#[test]
fn the_longest_name_that_a_file_can_have_is_one_for_an_image() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["x".repeat(228), "x".repeat(255), "\u{e9}".repeat(127)] {
        let out = parent.path().join(&name);
        ImageWriter::create(&out).unwrap().commit(b"").unwrap();
        assert_eq!(names(parent.path()), [name.as_str()]);
        let stale = temporary::name(name.as_ref());
        assert!(stale.len() <= 255 && stale.to_str().is_some());
        fs::create_dir(parent.path().join(&stale)).unwrap();
        fs::remove_dir_all(&out).unwrap();
        drop(ImageWriter::create(&out).unwrap());
        assert!(names(parent.path()).is_empty());
    }
}

#[test]
fn an_image_within_an_image_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    ImageWriter::create(&out).unwrap().commit(b"REKINDLE and so on").unwrap();
    let error = ImageWriter::create(&out.join("child")).unwrap_err();
    assert!(matches!(error, Error::WithinImage { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(names(&out), ["state"]);
    // A file of that name does not make an image of a directory.
    fs::write(parent.path().join("state"), "of something else").unwrap();
    ImageWriter::create(&parent.path().join("other")).unwrap().commit(b"").unwrap();
}

#[test]
fn a_new_writer_sweeps_for_itself() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join(".warm.tmp-1-0123456789abcdef")).unwrap();
    ImageWriter::create(&parent.path().join("warm")).unwrap().commit(b"").unwrap();
    assert_eq!(names(parent.path()), ["warm"]);
}

#[test]
fn part_names_are_plain_and_serve_once() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = ImageWriter::create(&parent.path().join("warm")).unwrap();
    writer.memory().unwrap();
    for bad in ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\0", "state", "memory"] {
        assert!(matches!(writer.part(bad), Err(Error::BadPart { .. })), "{bad}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_says_why() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("x".repeat(256));
    let error = ImageWriter::create(&out).unwrap_err();
    assert!(
        matches!(&error, Error::Create { source, .. } if source.kind() == io::ErrorKind::InvalidFilename)
    );
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(names(parent.path()).is_empty());
}

#[test]
fn a_full_disk_is_recognised() {
    let write = |errno| Error::Write {
        path: "warm".into(),
        part: "memory".into(),
        source: io::Error::from_raw_os_error(errno),
    };
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    const EIO: i32 = 5;
    assert!(write(ENOSPC).is_disk_full() && write(EDQUOT).is_disk_full() && !write(EIO).is_disk_full());
    assert!(!Error::Exists { path: "warm".into() }.is_disk_full());
}
