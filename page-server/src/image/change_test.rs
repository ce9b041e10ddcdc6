//! Images whose files change while they are served: from the second VM on as from the first.

use std::fs::{self, FileTimes};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use snapshot_format::ImageWriter;
use snapshot_format::testing::samples;
use tempfile::TempDir;

use super::*;
use crate::source;

/// The sample image in each form that has checksums, the file that has its memory, and what is in it.
fn images(dir: &TempDir) -> [(PathBuf, PathBuf); 3] {
    let commit = |name: &str, part: &str, write: &dyn Fn(&File)| {
        let path = dir.path().join(name);
        let mut writer = ImageWriter::create(&path).unwrap();
        write(&writer.part(part).unwrap());
        writer.commit(&samples::state_file().unwrap()).unwrap();
        (path.clone(), path.join(part))
    };
    let memory = |file: &File| file.write_all_at(&samples::memory_file(), 0).unwrap();
    let plain = commit("plain", "memory", &memory);
    let base = commit("base", "memory", &memory);
    let raw = dir.path().join("raw");
    fs::write(&raw, samples::memory_file()).unwrap();
    let packed = commit("packed", "memory-pack", &|file| {
        pack_memory(&MemoryFile::open(&raw).unwrap(), samples::manifest().image_id, file).unwrap();
    });
    // A layer without a page of its own.
    let layer = dir.path().join("layer");
    File::create(&layer).unwrap().set_len(samples::MEMORY_BYTES).unwrap();
    let layered = PathBuf::from(format!("{}+{}", base.0.display(), layer.display()));
    [plain, packed, (layered, base.1)]
}

/// Nothing is kept of what was decoded, so that every read is one of the file.
fn open(path: &Path) -> Arc<Served> {
    Served::open(path, &Options::new(0, Policy::default())).unwrap()
}

/// As a session reads them: at once where that is possible.
fn pages(served: &Served) -> Vec<Result<Vec<u8>, source::Error>> {
    let page = |offset| {
        let mut page = vec![0xff; 4096];
        if !served.source().read_now(offset, &mut page)? {
            served.source().read(offset, &mut page)?;
        }
        Ok(page)
    };
    (0..samples::MEMORY_BYTES).step_by(4096).map(page).collect()
}

/// Two damaged pages, and a time of modification that was put back: whether a page was read before or not.
#[test]
fn damage_that_comes_after_a_page_was_served_reaches_nobody() {
    let dir = tempfile::tempdir().unwrap();
    for (path, file) in images(&dir) {
        let served = open(&path);
        assert!(pages(&served).iter().all(Result::is_ok), "{}", path.display());
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        let file = File::options().read(true).write(true).open(&file).unwrap();
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        // One bit of every page that has data, in a pack one of every few bytes behind its index.
        let from = if path.ends_with("packed") { bytes.len() / 2 } else { 0 };
        for at in (from..bytes.len()).step_by(256) {
            if bytes[at] != 0 {
                bytes[at] ^= 1;
            }
        }
        file.write_all_at(&bytes, 0).unwrap();
        file.set_times(FileTimes::new().set_modified(before)).unwrap();
        let memory = samples::memory_file();
        let mut damaged = 0;
        for (page, right) in pages(&served).into_iter().zip(memory.chunks(4096)) {
            match page {
                Ok(page) => assert!(page == right, "wrong bytes of {}", path.display()),
                Err(source::Error::Damaged { .. }) => damaged += 1,
                Err(other) => panic!("{}: {other}", path.display()),
            }
        }
        // What was decoded of a pack stays, one block at least.
        assert!(damaged >= 2 || path.ends_with("packed"), "{damaged} of {}", path.display());
    }
}

/// The same bytes, later, and more of them behind those that are the image's.
#[test]
fn a_file_that_was_only_touched_is_served_on() {
    let dir = tempfile::tempdir().unwrap();
    let later = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(60));
    for (path, file) in images(&dir) {
        for is_read_before in [true, false] {
            let served = open(&path);
            if is_read_before {
                pages(&served).into_iter().for_each(|page| drop(page.unwrap()));
            }
            File::options().write(true).open(&file).unwrap().set_times(later).unwrap();
            let read: Vec<u8> = pages(&served).into_iter().flat_map(Result::unwrap).collect();
            assert!(read == samples::memory_file(), "{}", path.display());
        }
    }
}
