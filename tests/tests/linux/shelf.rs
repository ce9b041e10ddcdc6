//! Kernels, and images of their guests that several cases restore: made once, by whoever needs them first.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use cpio::newc::{self, ModeFileType};
use rekindle_tests::{Image, Scratch};

use crate::guest::Guest;

/// A stock kernel, by the directory that it was unpacked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel(&'static str);

pub(crate) const CLOUD_6_1: Kernel = Kernel("cloud-6.1");
pub(crate) const GENERIC_6_1: Kernel = Kernel("generic-6.1");
pub(crate) const CLOUD_6_12: Kernel = Kernel("cloud-6.12");

impl Kernel {
    /// For the name of a case.
    pub(crate) fn identifier(self) -> String {
        self.0.replace(['-', '.'], "_")
    }

    fn directory(self) -> PathBuf {
        let guests =
            std::env::var_os("REKINDLE_GUESTS").expect("cases that need stock kernels run only with them");
        Path::new(&guests).join(self.0)
    }

    pub(crate) fn image(self) -> PathBuf {
        self.directory().join("vmlinuz")
    }

    /// Busybox and the script of that name in `tests/guests`, and behind them an archive with the probe: a kernel unpacks
    /// one after the other.
    pub(crate) fn initrd(self, script: &str) -> PathBuf {
        with_shelf(|shelf| {
            let path = shelf.place.path(format!("{}-{script}.cpio", self.0));
            if !path.exists() {
                let mut archive = fs::read(self.directory().join(format!("initramfs/{script}.cpio")))
                    .expect("there is an initramfs for every kernel and script");
                archive.resize(archive.len().next_multiple_of(4), 0);
                archive.extend(probe());
                fs::write(&path, archive).expect("an initramfs can be written");
            }
            path
        })
    }
}

/// An archive with `/bin/guest-probe`.
fn probe() -> Vec<u8> {
    let program = fs::read(env!("CARGO_BIN_EXE_guest-probe")).expect("cargo has built the probe");
    let size = u32::try_from(program.len()).expect("the probe is small");
    let entry = newc::Builder::new("bin/guest-probe").mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let mut writer = entry.write(Vec::new(), size);
    writer.write_all(&program).expect("memory can be written");
    newc::trailer(writer.finish().expect("memory can be written")).expect("memory can be written")
}

/// What a guest was when it was snapshotted and killed.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) image: Image,
    /// Its console up to that instant, which may be in the middle of a line.
    pub(crate) console: String,
    /// The checksum of its file.
    pub(crate) sum: String,
    /// When, by the host's clock.
    pub(crate) at: SystemTime,
}

struct Shelf {
    place: Scratch,
    left: HashMap<(Kernel, u32), Arc<Left>>,
}

static SHELF: Mutex<Option<Shelf>> = Mutex::new(None);

fn with_shelf<T>(run: impl FnOnce(&mut Shelf) -> T) -> T {
    let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
    run(shelf.get_or_insert_with(|| Shelf { place: Scratch::new(), left: HashMap::new() }))
}

/// Removes everything.
pub(crate) fn clear() {
    SHELF.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// A guest with a file of 64 MiB that was counting and watching its clocks when it was snapshotted.
pub(crate) fn counting(kernel: Kernel, cpus: u32) -> Arc<Left> {
    if let Some(left) = with_shelf(|shelf| shelf.left.get(&(kernel, cpus)).cloned()) {
        return left;
    }
    let mut guest = Guest::boot(kernel, cpus, "");
    let sum = guest.ask("file 64");
    guest.ask("clear");
    guest.send("watch");
    guest.send("count");
    (0..4).for_each(|_| drop(guest.next("count")));
    guest.next("watch");
    let path = with_shelf(|shelf| shelf.place.path(format!("{}-{cpus}", kernel.0)));
    let left = Arc::new(guest.leave(&path, &sum));
    with_shelf(|shelf| shelf.left.insert((kernel, cpus), Arc::clone(&left)));
    left
}
