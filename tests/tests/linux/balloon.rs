//! The balloon: what a stock guest does not need is in no image, whether it was booted or restored.

use std::fs;
use std::path::{Path, PathBuf};

use rekindle_tests::{Image, Launch, Scratch, note, verbs};

use crate::guest::Guest;
use crate::shelf::CLOUD_6_1;

const MIB: u64 = 1 << 20;
/// A disk that the guest reads into its page cache.
const DISK: u64 = 64 * MIB;
/// What must come back of it.
const ENOUGH: u64 = DISK / 100 * 80;
/// A disk that is larger than all that the guest needs beside it.
const LARGE: u64 = 128 * MIB;

/// A disk without a page of zeros.
fn disk(here: &Scratch, bytes: u64) -> PathBuf {
    let path = here.path("disk");
    fs::write(&path, vec![0x5a; bytes as usize]).expect("a scratch file can be written");
    path
}

fn launch(verb: &str, disk: &Path) -> Launch {
    let disk = format!("data={},readonly", disk.display());
    Guest::launch(verb, CLOUD_6_1, 2, "").args(["--balloon", "--disk", &disk])
}

/// Everything of an image that takes space, after the guest has given back what it could.
#[track_caller]
fn reclaimed(guest: &Guest, out: PathBuf) -> Image {
    let command = verbs::snapshot_command(guest.vm.socket(), &out).args(["--reclaim", "1m", "--resume"]);
    let done = command.run();
    assert!(!done.stderr.contains("has not given all"), "{done:?}");
    done.ok();
    Image::at(out)
}

/// Page cache that was filled and dropped is still in guest memory, and would be in every image. It goes, and what the guest
/// still uses stays.
pub(crate) fn empties_the_image() {
    let here = Scratch::new();
    let disk = disk(&here, DISK);
    let mut guest = Guest { vm: launch("boot", &disk).vm() };
    guest.next("guest");
    guest.ask("module");
    let sum = guest.ask("file 8");
    guest.ask("cache");
    let full = verbs::snapshot_and_resume(&guest.vm, here.path("full"));
    guest.ask("drop");
    let empty = reclaimed(&guest, here.path("empty"));
    empty.verifies();
    let (before, after) = (full.disk_bytes(), empty.disk_bytes());
    assert!(before - after >= ENOUGH, "{} MiB, and then {} MiB", before / MIB, after / MIB);
    assert_eq!(guest.ask("sum"), sum, "the guest goes on");
    let about = verbs::request(guest.vm.socket(), "GET", "/balloon/statistics", "");
    let (status, about) = about.expect("the VM serves its socket");
    assert!(status == 200 && about.contains("\"total_memory\":"), "{about}");
    guest.vm.kill();

    // The same of a guest whose image is full: what it shares with that is gone as well.
    let mut guest = Guest::restore(&full);
    guest.ask("drop");
    let emptied = reclaimed(&guest, here.path("emptied"));
    let shared = emptied.disk_bytes();
    assert!(before - shared >= ENOUGH, "{} MiB, and then {} MiB", before / MIB, shared / MIB);
    guest.vm.kill();
    for image in [&empty, &emptied] {
        let mut guest = Guest::restore(image);
        assert_eq!(guest.ask("sum"), sum);
        guest.vm.stop();
    }
    note(format!(
        "of {} MiB of freed page cache a balloon reclaimed {} MiB from a guest that was booted, and {} MiB that a \
         restored one shared with its image",
        DISK / MIB,
        (before - after) / MIB,
        (before - shared) / MIB
    ));
}

/// `bake --reclaim` goes on behind the moment at which the guest is ready.
pub(crate) fn a_bake_waits_for_free_memory() {
    let here = Scratch::new();
    let disk = disk(&here, LARGE);
    let out = here.path("image");
    let launch =
        launch("bake", &disk).args(["--serial", "stdio", "--ready", "serial:^drop ", "--timeout", "600s"]);
    let mut baking = Guest { vm: launch.args(["--reclaim", "1m", "--out"]).args([&out]).vm() };
    baking.next("guest");
    baking.ask("module");
    let sum = baking.ask("file 8");
    baking.ask("cache");
    baking.send("drop");
    baking.vm.wait_exit().ok();
    let image = Image::at(out);
    image.verifies();
    assert!(image.disk_bytes() < LARGE, "the cache is in the image: {} MiB", image.disk_bytes() / MIB);
    let mut guest = Guest::restore(&image);
    assert_eq!(guest.ask("sum"), sum);
    guest.vm.stop();
}
