use std::fs;

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::super::super::mock;
use super::*;
use crate::memory::GuestRam;

/// No whole number of pages, of copies' windows or of groups.
const SECTORS: u64 = (1 << 15) + 1029;
const LEN: usize = (SECTORS * SECTOR) as usize;

/// Marsaglia's xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A request's sectors: most are short, and many are near to others.
    fn sectors(&mut self) -> (u64, u64) {
        let longest = [4, 64, 1024][self.below(3) as usize];
        let count = 1 + self.below(longest);
        let start = match self.below(4) {
            0 => self.below(200),
            1 => SECTORS - count - self.below(200),
            2 => (1 << 15) - self.below(count),
            _ => self.below(SECTORS - count),
        };
        (start.min(SECTORS - count), count)
    }
}

struct Rig {
    dir: TempDir,
    memory: GuestRam,
}

impl Rig {
    /// A base on which every sector is another, and none is zero.
    fn new() -> (Self, Vec<u8>) {
        let content: Vec<u8> = (0..LEN).map(|at| (at / 512 % 251 + 1) as u8).collect();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("base"), &content).unwrap();
        (Self { dir, memory: mock::ram() }, content)
    }

    fn overlay(&self, image: Option<ImageLayer>) -> Overlay {
        let base = Disk::open(&self.dir.path().join("base"), true).unwrap();
        Overlay::new(base, image, self.dir.path()).unwrap()
    }

    /// Memory in two pieces that do not join.
    fn pieces(&self, bytes: usize) -> [VolatileSlice<'_>; 2] {
        let first = bytes / 3;
        let slice = |at, len| self.memory.get_slice(GuestAddress(at), len).unwrap();
        [slice(0x1000, first), slice(0x20_0000, bytes - first)]
    }

    fn write(&self, overlay: &mut Overlay, at: u64, bytes: &[u8]) {
        let pieces = self.pieces(bytes.len());
        pieces[0].write_slice(&bytes[..bytes.len() / 3], 0).unwrap();
        pieces[1].write_slice(&bytes[bytes.len() / 3..], 0).unwrap();
        overlay.write(&pieces, at).unwrap();
    }

    fn read(&self, overlay: &Overlay, at: u64, bytes: usize) -> Vec<u8> {
        let pieces = self.pieces(bytes);
        overlay.read(&pieces, at).unwrap();
        let mut read = vec![0; bytes];
        pieces[0].read_slice(&mut read[..bytes / 3], 0).unwrap();
        pieces[1].read_slice(&mut read[bytes / 3..], 0).unwrap();
        read
    }

    #[track_caller]
    fn is_whole(&self, overlay: &Overlay, model: &[u8]) {
        for at in (0..LEN).step_by(256 << 10) {
            let end = LEN.min(at + (256 << 10));
            assert!(self.read(overlay, at as u64, end - at) == model[at..end], "at {at:#x}");
        }
    }

    /// Writes and zeroes at random, into the overlay and the model.
    fn scribble(&self, numbers: &mut Numbers, overlay: &mut Overlay, model: &mut [u8], times: u64) {
        for _ in 0..times {
            let (start, count) = numbers.sectors();
            let (at, bytes) = ((start * SECTOR) as usize, (count * SECTOR) as usize);
            match numbers.below(4) {
                0 => {
                    overlay.write_zeroes(at as u64, bytes as u64).unwrap();
                    model[at..at + bytes].fill(0);
                }
                1 => assert!(self.read(overlay, at as u64, bytes) == model[at..at + bytes], "at {at:#x}"),
                _ => {
                    let data = vec![numbers.below(256) as u8; bytes];
                    self.write(overlay, at as u64, &data);
                    model[at..at + bytes].copy_from_slice(&data);
                }
            }
        }
    }

    /// What an image would have, opened again.
    fn image(&self, frozen: &Frozen, name: &str) -> ImageLayer {
        let path = self.dir.path().join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let index = frozen.copy(&file, &|| true).unwrap();
        index.verify(&file).unwrap();
        ImageLayer { file: File::open(&path).unwrap(), index }
    }
}

/// Against a plain array, through generations of images, each of which also runs on.
#[test]
fn it_is_the_disk_that_was_written() {
    let (rig, base) = Rig::new();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut model = base.clone();
    let mut overlay = rig.overlay(None);
    for generation in 0..4 {
        rig.scribble(&mut numbers, &mut overlay, &mut model, 150);
        let frozen = overlay.freeze().unwrap();
        let at_freeze = model.clone();
        // The guest runs on while the copy is made.
        rig.scribble(&mut numbers, &mut overlay, &mut model, 150);
        let image = rig.image(&frozen, &format!("disk-{generation}"));
        rig.is_whole(&overlay, &model);
        overlay = rig.overlay(Some(image));
        model = at_freeze;
        rig.is_whole(&overlay, &model);
    }
    assert_eq!(fs::read(rig.dir.path().join("base")).unwrap(), base);
}

#[test]
fn clones_of_one_image_do_not_see_each_other() {
    let (rig, mut model) = Rig::new();
    let mut parent = rig.overlay(None);
    rig.write(&mut parent, 0, &[200; 1024]);
    model[..1024].fill(200);
    let frozen = parent.freeze().unwrap();
    let image = || {
        let path = rig.dir.path().join("disk-x");
        let _ = fs::remove_file(&path);
        rig.image(&frozen, "disk-x")
    };
    let mut clones = [rig.overlay(Some(image())), rig.overlay(Some(image()))];
    for (n, clone) in (1..).zip(&mut clones) {
        rig.write(clone, 512, &[n; 1024]);
    }
    for (n, clone) in (1..).zip(&clones) {
        let mut own = model.clone();
        own[512..1536].fill(n);
        rig.is_whole(clone, &own);
    }
    rig.is_whole(&parent, &model);
}

/// A guest that is snapshotted again and again and runs on has a bounded number of files, even if nobody merges its
/// layers.
#[test]
fn layers_are_merged_and_say_the_same() {
    let (rig, base) = Rig::new();
    let mut numbers = Numbers(77);
    let mut model = base;
    let mut overlay = rig.overlay(None);
    rig.scribble(&mut numbers, &mut overlay, &mut model, 20);
    let image = rig.image(&overlay.freeze().unwrap(), "disk-root");
    let mut overlay = rig.overlay(Some(image));
    for _ in 0..3 * MOST_FROZEN {
        rig.scribble(&mut numbers, &mut overlay, &mut model, 10);
        let frozen = overlay.freeze().unwrap();
        assert!(overlay.frozen.len() <= MOST_FROZEN && frozen.layers.len() <= MOST_FROZEN + 1);
    }
    rig.is_whole(&overlay, &model);
    let layers = overlay.frozen.len();
    overlay.freeze().unwrap();
    assert_eq!(overlay.frozen.len(), layers, "nothing was written, so there is nothing to freeze");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What a snapshot does, over and over, while the guest writes: the pause never merges, the layers stay few, every image
/// is what the disk was, and nothing is left open.
#[test]
fn layers_are_merged_beside_the_guest() {
    let (rig, base) = Rig::new();
    let mut numbers = Numbers(4711);
    let mut model = base;
    let mut overlay = rig.overlay(None);
    rig.scribble(&mut numbers, &mut overlay, &mut model, 20);
    let image = rig.image(&overlay.freeze().unwrap(), "disk-root");
    let mut overlay = rig.overlay(Some(image));
    let mut most = 0;
    for round in 0..3 * MANY_FROZEN {
        rig.scribble(&mut numbers, &mut overlay, &mut model, 10);
        let before = overlay.frozen.len();
        let frozen = overlay.freeze().unwrap();
        assert!(overlay.frozen.len() <= before + 1 && overlay.frozen.len() <= MANY_FROZEN);
        assert_eq!(frozen.merge.is_some(), overlay.frozen.len() == MANY_FROZEN);
        let at_freeze = model.clone();
        rig.scribble(&mut numbers, &mut overlay, &mut model, 10);
        let image = rig.image(&frozen, &format!("disk-{round}"));
        frozen.merge(&|| true).unwrap();
        // Before the guest's device has looked, and after.
        rig.is_whole(&overlay, &model);
        overlay.adopt();
        rig.is_whole(&overlay, &model);
        drop(frozen);
        most = most.max(descriptors());
        rig.is_whole(&rig.overlay(Some(image)), &at_freeze);
        assert!(overlay.frozen.len() < MANY_FROZEN);
    }
    // Standard streams, the base twice, the image, the layers, and what the test harness has.
    assert!(most <= MANY_FROZEN + 12, "{most} descriptors are open");
}

/// The next snapshot may come before the layers are merged, and before the result is taken into use.
#[test]
fn a_snapshot_during_a_merge_keeps_what_it_froze() {
    let (rig, base) = Rig::new();
    let mut numbers = Numbers(31);
    let mut model = base;
    let mut overlay = rig.overlay(None);
    let mut freeze = |overlay: &mut Overlay, model: &mut Vec<u8>| {
        rig.scribble(&mut numbers, overlay, model, 10);
        overlay.freeze().unwrap()
    };
    let mut frozen: Vec<_> = (0..MANY_FROZEN + 3).map(|_| freeze(&mut overlay, &mut model)).collect();
    let last = frozen.pop().unwrap();
    let first = frozen.into_iter().find(|frozen| frozen.merge.is_some()).unwrap();
    first.merge(&|| true).unwrap();
    let at_freeze = model.clone();
    let during = freeze(&mut overlay, &mut model);
    assert_eq!(overlay.frozen.len(), 5, "eight have become one, and four came after them");
    rig.is_whole(&overlay, &model);
    // Layers that are gone are merged by one who comes late: that is nobody's any more.
    last.merge(&|| true).unwrap();
    overlay.adopt();
    assert_eq!(overlay.frozen.len(), 5);
    rig.is_whole(&overlay, &model);
    rig.is_whole(&rig.overlay(Some(rig.image(&last, "disk-last"))), &at_freeze);
    rig.is_whole(&rig.overlay(Some(rig.image(&during, "disk-during"))), &model);
    let cancelled = first.merge(&|| false);
    assert!(matches!(cancelled, Err(CopyError::Cancelled)), "{cancelled:?}");
}

/// Windows whose checksums are known are not read: the index is the same, and so are the bytes.
#[test]
fn a_second_copy_is_the_first() {
    let (rig, base) = Rig::new();
    let mut numbers = Numbers(99);
    let mut model = base;
    let mut overlay = rig.overlay(None);
    rig.scribble(&mut numbers, &mut overlay, &mut model, 100);
    let frozen = overlay.freeze().unwrap();
    let copies = ["disk-1", "disk-2"].map(|name| rig.image(&frozen, name));
    assert_eq!(copies[0].index, copies[1].index);
    let known = overlay.frozen[0].sums().len();
    assert!(known > 0);
    let bytes = ["disk-1", "disk-2"].map(|name| fs::read(rig.dir.path().join(name)).unwrap());
    assert!(bytes[0] == bytes[1]);
    // Written through afresh by half a window, which both have now.
    rig.write(&mut overlay, 0, &[9; 4096]);
    model[..4096].fill(9);
    let image = rig.image(&overlay.freeze().unwrap(), "disk-3");
    rig.is_whole(&rig.overlay(Some(image)), &model);
}

/// A crash of the host takes the file, which has no name, whatever was flushed. Here it is one that cannot be flushed.
#[test]
fn a_flush_of_what_no_crash_survives_is_answered() {
    let (rig, _) = Rig::new();
    let mut overlay = rig.overlay(None);
    let (pipe, _end) = io::pipe().unwrap();
    overlay.own.file = Arc::new(File::from(std::os::fd::OwnedFd::from(pipe)));
    let storage = super::super::Storage::Overlay(overlay);
    storage.flush().unwrap();
    assert!(storage.alone(crate::sys::uring::Transfer::Sync, 0, &(0..0)).is_none());
}

/// An index has room for so many runs; with more of them it says more, and never something else.
#[test]
fn runs_are_joined_where_there_are_too_many() {
    let (rig, mut model) = Rig::new();
    let mut overlay = rig.overlay(None);
    for sector in [1, 3, 5, 100, 104, 1000] {
        rig.write(&mut overlay, sector * SECTOR, &[255; 512]);
        model[(sector * SECTOR) as usize..][..512].fill(255);
    }
    let frozen = overlay.freeze().unwrap();
    assert_eq!(frozen.runs(6), [1..2, 3..4, 5..6, 100..101, 104..105, 1000..1001]);
    assert_eq!(frozen.runs(5), [1..6, 100..101, 104..105, 1000..1001]);
    assert_eq!(frozen.runs(3), [1..6, 100..105, 1000..1001]);
    let all = frozen.runs(1);
    assert_eq!((all.len(), all[0].clone()), (1, 1..1001));
    let file = tempfile::tempfile().unwrap();
    let index = frozen.copy_runs(all, &file, &|| true).unwrap();
    index.verify(&file).unwrap();
    rig.is_whole(&rig.overlay(Some(ImageLayer { file, index })), &model);
}

#[test]
fn a_request_within_one_layer_needs_one_file() {
    let (rig, _) = Rig::new();
    let mut overlay = rig.overlay(None);
    let ino = |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    let at_once = |overlay: &Overlay, at, bytes| overlay.readable_at_once(at, bytes).map(|file| ino(file));
    let (base, own) = (ino(overlay.base().file()), ino(overlay.own()));
    assert_eq!(at_once(&overlay, 0, 1 << 20), Some(base));
    rig.write(&mut overlay, 4096, &[1; 4096]);
    assert_eq!(at_once(&overlay, 0, 4096), Some(base));
    assert_eq!(at_once(&overlay, 4096, 4096), Some(own));
    assert_eq!(at_once(&overlay, 0, 4608), None);
    assert_eq!(at_once(&overlay, 4608, 4096), None);
    assert_eq!(at_once(&overlay, LEN as u64, 0), Some(base));
}

#[test]
fn a_copy_that_is_not_wanted_ends() {
    let (rig, _) = Rig::new();
    let mut overlay = rig.overlay(None);
    rig.write(&mut overlay, 0, &[1; 512]);
    rig.write(&mut overlay, 1 << 20, &[1; 512]);
    let frozen = overlay.freeze().unwrap();
    let copied = frozen.copy(&tempfile::tempfile().unwrap(), &|| false);
    assert!(matches!(copied, Err(CopyError::Cancelled)), "{copied:?}");
}

/// Nobody can write to this one.
#[test]
fn a_write_that_finds_no_room_changes_nothing() {
    let (rig, model) = Rig::new();
    let mut overlay = rig.overlay(None);
    let path = rig.dir.path().join("full");
    fs::write(&path, vec![0; LEN]).unwrap();
    overlay.own.file = Arc::new(File::open(&path).unwrap());
    assert!(overlay.write(&rig.pieces(4096), 0).is_err());
    assert!(overlay.write_zeroes(0, 4096).is_err());
    rig.is_whole(&overlay, &model);
}

#[test]
fn a_place_that_is_none_is_named() {
    let (rig, _) = Rig::new();
    let base = || Disk::open(&rig.dir.path().join("base"), true).unwrap();
    for place in ["none", "base"] {
        let made = Overlay::new(base(), None, &rig.dir.path().join(place));
        assert!(matches!(made, Err(Error::Overlay { directory, .. }) if directory.ends_with(place)));
    }
}

#[test]
fn a_set_of_sectors_is_a_set() {
    let mut numbers = Numbers(5);
    let mut set = Sectors::default();
    let mut model = vec![false; 3 << 15];
    assert_eq!((set.runs(), set.run(0..10)), (vec![], (false, 10)));
    for _ in 0..400 {
        let longest = [3, 100, 40_000][numbers.below(3) as usize];
        let start = numbers.below(model.len() as u64 - longest);
        let end = start + 1 + numbers.below(longest);
        set.insert(start..end);
        model[start as usize..end as usize].fill(true);
        let from = numbers.below(model.len() as u64 - 1);
        let to = from + 1 + numbers.below(model.len() as u64 - from - 1);
        let same = model[from as usize..to as usize].iter().take_while(|is| **is == model[from as usize]);
        assert_eq!(set.run(from..to), (model[from as usize], from + same.count() as u64));
        if numbers.below(20) == 0 {
            set = Sectors::default();
            model.fill(false);
        }
    }
    let mut runs = Vec::new();
    for (at, is_in) in model.iter().enumerate() {
        match runs.last_mut() {
            Some(std::ops::Range { end, .. }) if *is_in && *end == at as u64 => *end += 1,
            _ if *is_in => runs.push(at as u64..at as u64 + 1),
            _ => {}
        }
    }
    assert_eq!(set.runs(), runs);
}
