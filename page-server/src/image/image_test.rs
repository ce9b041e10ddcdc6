//! What paths come to.

use std::fs;
use std::os::unix::fs::FileExt;

use snapshot_format::testing::samples;
use snapshot_format::working_set::Run;
use snapshot_format::{ErrorKind, ImageWriter};
use tempfile::TempDir;

use super::*;
use crate::source;

/// The sample image at `name`, its memory as `part` in whatever form `write` gives it.
fn image(dir: &TempDir, name: &str, part: &str, write: impl FnOnce(&File)) -> PathBuf {
    let path = dir.path().join(name);
    let mut writer = ImageWriter::create(&path).unwrap();
    write(&writer.part(part).unwrap());
    writer.commit(&samples::state_file().unwrap()).unwrap();
    path
}

fn plain(dir: &TempDir) -> PathBuf {
    image(dir, "plain", "memory", |file| file.write_all_at(&samples::memory_file(), 0).unwrap())
}

fn packed(dir: &TempDir, id: [u8; 16]) -> PathBuf {
    let raw = dir.path().join("raw");
    fs::write(&raw, samples::memory_file()).unwrap();
    let source = MemoryFile::open(&raw).unwrap();
    image(dir, "packed", "memory-pack", |file| {
        pack_memory(&source, id, file).unwrap();
    })
}

fn open(path: &Path) -> Result<Arc<Served>, Error> {
    Served::open(path, &Options::default())
}

fn content(served: &Served) -> Result<Vec<u8>, source::Error> {
    let mut bytes = vec![0xff; served.source().len() as usize];
    served.source().read(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn an_image_is_served_plain_or_packed_and_known_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let id = samples::manifest().image_id;
    for path in [plain(&dir), packed(&dir, id)] {
        let served = open(&path).unwrap();
        assert_eq!((served.id(), served.path()), (Some(id), path.as_path()));
        assert_eq!(served.index(), Some(&samples::memory_index()));
        assert!(served.working_set().is_none());
        assert_eq!(content(&served).unwrap(), samples::memory_file());
    }
}

#[test]
fn a_raw_file_is_served_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mem+file");
    fs::write(&path, samples::memory_file()).unwrap();
    let served = open(&path).unwrap();
    assert!(served.id().is_none() && served.index().is_none());
    assert_eq!(content(&served).unwrap(), samples::memory_file());
    fs::write(&path, "no whole page").unwrap();
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn layers_lie_on_an_image_or_on_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let base = plain(&dir);
    let layer = |name: &str, page: u64| {
        let path = dir.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(samples::MEMORY_BYTES).unwrap();
        file.write_all_at(&[page as u8; 4096], page * 4096).unwrap();
        path
    };
    let (first, second) = (layer("first", 1), layer("second", 2));
    let stack = format!("{}+{}+{}", base.display(), first.display(), second.display());
    let served = open(Path::new(&stack)).unwrap();
    let mut expected = samples::memory_file();
    expected[4096..8192].fill(1);
    expected[8192..12288].fill(2);
    assert_eq!(content(&served).unwrap(), expected);
    assert!(served.id().is_none() && served.index().is_none(), "what the image says is not of the stack");

    let stack = format!("{}+{}", first.display(), second.display());
    assert_eq!(content(&open(Path::new(&stack)).unwrap()).unwrap()[4096..12288], expected[4096..12288]);
    let lacking = format!("{}+", base.display());
    assert_eq!(open(Path::new(&lacking)).unwrap_err().kind(), ErrorKind::Io);
    let missing = format!("{}+{}", base.display(), dir.path().join("none").display());
    let error = open(Path::new(&missing)).unwrap_err();
    assert!(error.to_string().contains("none`"), "{error}");
}

#[test]
fn images_with_the_same_pack_share_what_was_decoded_and_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let first = packed(&dir, samples::manifest().image_id);
    let second = dir.path().join("second");
    fs::create_dir(&second).unwrap();
    for part in ["state", "memory-pack"] {
        fs::hard_link(first.join(part), second.join(part)).unwrap();
    }
    let options = Options::default();
    let opened = [&first, &second].map(|path| Served::open(path, &options.clone()).unwrap());
    for served in &opened {
        assert_eq!(content(served).unwrap(), samples::memory_file());
    }
    assert_eq!(options.cache.bytes(), samples::MEMORY_BYTES);
    drop(opened);
    assert_eq!(options.cache.bytes(), 0);
    assert_eq!(content(&Served::open(&first, &options).unwrap()).unwrap(), samples::memory_file());
}

#[test]
fn damage_is_found_before_a_byte_of_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, "bad", "memory", |file| {
        let mut bytes = samples::memory_file();
        bytes[3 * 4096] ^= 1;
        file.write_all_at(&bytes, 0).unwrap();
    });
    assert!(matches!(content(&open(&path).unwrap()), Err(source::Error::Damaged { .. })));

    let shorter = image(&dir, "shorter", "memory", |file| file.set_len(4096).unwrap());
    assert_eq!(open(&shorter).unwrap_err().kind(), ErrorKind::Damaged);
    let none = image(&dir, "none", "other", |_| ());
    let error = open(&none).unwrap_err();
    assert!(error.to_string().ends_with("has no file `memory`"), "{error}");
    let foreign = packed(&dir, [9; 16]);
    let error = open(&foreign).unwrap_err();
    assert!(matches!(error, Error::Pack { .. }) && error.kind() == ErrorKind::Damaged);
}

#[test]
fn a_working_set_comes_along_and_a_bad_one_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = plain(&dir);
    let runs = vec![Run { first: 8, pages: 1, written: true }];
    let (id, pages) = (samples::manifest().image_id, samples::memory_index().file_pages());
    let set = WorkingSet::new(id, runs, pages).unwrap();
    fs::write(path.join("working-set"), set.encode()).unwrap();
    assert_eq!(open(&path).unwrap().working_set(), Some(&set));
    fs::write(path.join("working-set"), &set.encode()[1..]).unwrap();
    let served = open(&path).unwrap();
    assert!(served.working_set().is_none());
    assert_eq!(content(&served).unwrap(), samples::memory_file());
}

/// A recording gives the image another working set while it is opened: one or the other comes along.
#[test]
fn an_image_that_is_replaced_while_it_is_opened_is_opened_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = packed(&dir, samples::manifest().image_id);
    let (id, pages) = (samples::manifest().image_id, samples::memory_index().file_pages());
    let replace = |first| {
        let set = WorkingSet::new(id, vec![Run { first, pages: 1, written: false }], pages).unwrap();
        let image = ImageDir::open(&path).unwrap();
        dir::replace_part(&image, dir::WORKING_SET, &set.encode()).unwrap();
    };
    replace(0);
    std::thread::scope(|scope| {
        let replacing = scope.spawn(|| (0..300).for_each(|round| replace(round % 8)));
        let mut opened = Vec::new();
        while !replacing.is_finished() {
            opened.push(open(&path).map(|served| served.working_set().is_some()));
        }
        opened.into_iter().for_each(|has_set| assert!(has_set.unwrap()));
    });
}

/// Frames that earlier versions compressed, decoded by this one.
#[test]
fn the_packed_golden_gives_the_samples_memory() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snapshot-format/goldens/v1/packed");
    let served = open(&golden).unwrap();
    assert_eq!(content(&served).unwrap(), samples::memory_file());
    assert_eq!(served.working_set(), Some(&samples::working_set()));
    assert_eq!(verify(&golden).unwrap(), 4 * 4096);
}
