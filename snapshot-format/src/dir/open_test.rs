use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::header::MAX_STATE_BYTES;
use crate::pages::PageCount;
use crate::working_set::{self, Run, WorkingSet};

/// A directory with `state` and `memory`, opened after `change`.
fn opened(change: impl FnOnce(&Path)) -> Result<ImageDir, Error> {
    let dir: TempDir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state"), "state").unwrap();
    fs::write(dir.path().join("memory"), "memory").unwrap();
    change(dir.path());
    ImageDir::open(dir.path())
}

#[test]
fn what_is_no_image_is_told_from_a_damaged_one() {
    assert_eq!(opened(|_| ()).unwrap().state(), b"state");
    let kind = |change: fn(&Path)| opened(change).unwrap_err().kind();
    assert_eq!(kind(|dir| fs::remove_file(dir.join("state")).unwrap()), ErrorKind::NotAnImage);
    assert_eq!(ImageDir::open(Path::new("/proc/self/exe")).unwrap_err().kind(), ErrorKind::NotAnImage);
    let missing = ImageDir::open(Path::new("/nonexistent")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert_eq!(missing.to_string(), "cannot open image `/nonexistent`");
}

#[test]
fn parts_that_are_no_regular_files_neither_hang_nor_confuse() {
    type Make = fn(&Path);
    let makers: [Make; 5] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("memory", path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
        |path| drop(UnixListener::bind(path).unwrap()),
    ];
    for (n, make) in makers.iter().enumerate() {
        for part in ["state", "memory"] {
            let replace = |dir: &Path| {
                fs::remove_file(dir.join(part)).unwrap();
                make(&dir.join(part));
            };
            let error = opened(replace).unwrap_err();
            assert!(matches!(&error, Error::NotRegular { path } if path.ends_with(part)), "{n}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }
}

#[test]
fn a_large_state_is_refused_before_it_is_read() {
    let with_len = |len| opened(move |dir| File::create(dir.join("state")).unwrap().set_len(len).unwrap());
    assert!(matches!(with_len(MAX_STATE_BYTES + 1), Err(Error::StateTooLarge { .. })));
    assert!(matches!(with_len(1 << 40), Err(Error::StateTooLarge { .. })));
    assert_eq!(with_len(MAX_STATE_BYTES).unwrap().state().len() as u64, MAX_STATE_BYTES);
}

#[test]
fn the_image_itself_may_be_a_link() {
    let parent = tempfile::tempdir().unwrap();
    ImageWriter::create(&parent.path().join("real")).unwrap();
    let mut writer = ImageWriter::create(&parent.path().join("real")).unwrap();
    writer.memory().unwrap();
    writer.commit(b"state").unwrap();
    symlink("real", parent.path().join("latest")).unwrap();
    assert_eq!(ImageDir::open(&parent.path().join("latest")).unwrap().state(), b"state");
}

#[test]
fn other_parts_are_found_by_plain_names_only() {
    let image = opened(|dir| fs::write(dir.join("working-set"), "").unwrap()).unwrap();
    // The directory is gone by now, the open descriptor of it is not.
    assert!(image.part("working-set").unwrap().is_none());
    for bad in ["../state", "/etc/passwd", "..", ""] {
        assert!(matches!(image.part(bad), Err(Error::BadPart { .. })), "{bad}");
    }
}

#[test]
fn an_image_without_memory_opens_and_says_what_is_missing_when_it_is_asked_for() {
    let memory = |change: fn(&Path)| opened_here(change).1;
    let error = memory(|dir| fs::remove_file(dir.join("memory")).unwrap());
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().ends_with("has no file `memory`"), "{error}");
    let error = memory(|dir| fs::rename(dir.join("memory"), dir.join("memory-pack")).unwrap());
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().ends_with("is packed"), "{error}");
}

/// What asking for memory says, while the directory is there.
fn opened_here(change: fn(&Path)) -> (ImageDir, Error) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state"), "state").unwrap();
    fs::write(dir.path().join("memory"), "memory").unwrap();
    change(dir.path());
    let image = ImageDir::open(dir.path()).unwrap();
    assert!(!image.has_memory());
    let error = image.memory().unwrap_err();
    assert_eq!(image.memory_len().unwrap_err().to_string(), error.to_string());
    (image, error)
}

#[test]
fn an_image_that_was_replaced_says_so_rather_than_that_a_part_is_missing() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("warm");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("state"), "old").unwrap();
    let old = ImageDir::open(&out).unwrap();
    assert!(old.part("disk-root").unwrap().is_none());
    fs::rename(&out, parent.path().join("away")).unwrap();
    assert!(old.part("disk-root").unwrap().is_none(), "renamed is not replaced");
    fs::create_dir(&out).unwrap();
    assert!(matches!(old.part("disk-root"), Err(Error::Replaced { .. })));
}

#[test]
fn all_parts_are_listed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["state", "memory", "later", ".hidden", "a part"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::create_dir(dir.path().join("directory")).unwrap();
    symlink("state", dir.path().join("link")).unwrap();
    assert_eq!(ImageDir::open(dir.path()).unwrap().part_names().unwrap(), ["later", "memory", "state"]);
}

#[test]
fn a_working_set_is_read_bounded_and_belongs_to_the_image() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state"), "").unwrap();
    let image = ImageDir::open(dir.path()).unwrap();
    let pages = PageCount::from_bytes(8 * 4096).unwrap();
    assert!(image.working_set([1; 16], pages).unwrap().is_none());

    let set = WorkingSet::new([1; 16], vec![Run { first: 2, pages: 3, written: true }], pages).unwrap();
    let part = dir.path().join("working-set");
    fs::write(&part, set.encode()).unwrap();
    assert_eq!(image.working_set([1; 16], pages).unwrap(), Some(set));
    assert!(matches!(image.working_set([2; 16], pages), Err(working_set::Error::OtherImage)));
    File::create(&part).unwrap().set_len(working_set::MAX_BYTES + 1).unwrap();
    assert!(matches!(image.working_set([1; 16], pages), Err(working_set::Error::TooLarge)));
    fs::remove_file(&part).unwrap();
    fs::create_dir(&part).unwrap();
    assert!(matches!(image.working_set([1; 16], pages), Err(working_set::Error::Part(_))));
}
