//! Disks under stock kernels, with their own drivers and file system: what was acknowledged is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use std::ffi::OsString;

use rekindle_tests::{Image, Launch, Scratch, Vm};
use sha2::{Digest, Sha256};

use crate::guest::Guest;
use crate::lines::whole_lines;
use crate::shelf::CLOUD_6_1;

/// Bytes of a disk.
const DISK: u64 = 64 << 20;

/// A disk with an empty ext4 on it.
pub(crate) fn formatted(path: PathBuf) -> PathBuf {
    let file = std::fs::File::create(&path).expect("a scratch directory can be written");
    file.set_len(DISK).expect("it can be sparse");
    tool("mke2fs", &["-q", "-F", "-t", "ext4"], &path);
    path
}

/// Runs a program of e2fsprogs on a disk and demands that it has nothing to say against it.
#[track_caller]
fn tool(program: &str, args: &[&str], disk: &Path) {
    let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let done = Command::new(program).args(args).arg(disk).env("PATH", path).output();
    let done =
        done.unwrap_or_else(|e| panic!("cannot run {program}, which `cargo xtask test` installs: {e}"));
    assert!(done.status.success(), "{program} {args:?}: {done:?}");
}

/// Boots a guest with this disk as its root file system's.
#[track_caller]
fn boot(disk: &Path) -> Guest {
    let disk = format!("root={}", disk.display());
    let launch = Guest::launch_with("boot", CLOUD_6_1, "disk", 1, "");
    hello(launch.args(["--rng", "--disk", &disk]), "root=mounted,rw disks=1")
}

#[track_caller]
pub(crate) fn hello(launch: Launch, says: &str) -> Guest {
    let mut guest = Guest { vm: launch.vm() };
    let hello = guest.next("guest");
    assert!(hello.ends_with(says), "{hello}");
    guest
}

/// The last record whose line is on the console: it was acknowledged.
fn acknowledged(console: &str) -> u64 {
    let records = whole_lines(console).filter_map(|line| line.strip_prefix("record ")?.parse().ok());
    records.max().unwrap_or(0)
}

/// How many records the disk has; all of them are right.
#[track_caller]
fn records(guest: &mut Guest) -> u64 {
    let answer = guest.ask("check");
    let count = answer.strip_suffix(" right").and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("{answer}"))
}

/// A guest writes records, each flushed before it says so, when it is snapshotted and killed; restored, it goes on
/// writing. Nothing that it ever acknowledged is lost, neither for the restored guest nor for whoever finds the disk of
/// the killed one, and its file system is whole.
pub(crate) fn a_file_system_under_load_comes_back() {
    let here = Scratch::new();
    let disk = formatted(here.path("disk"));
    let mut guest = boot(&disk);
    let random = guest.ask("rng");
    assert!(random.starts_with("virtio_rng.0 "), "{random}");
    guest.send("records");
    (0..20).for_each(|_| drop(guest.next("record")));
    let left = guest.leave(&here.path("image"), "");
    let before = acknowledged(&left.console);
    let crashed = here.path("crashed");
    std::fs::copy(&disk, &crashed).expect("a disk can be copied");

    let mut guest = Guest { vm: Vm::restore(&left.image) };
    assert_ne!(guest.ask("rng"), random);
    (0..20).for_each(|_| drop(guest.next("record")));
    assert_eq!(guest.ask("quiet"), "done");
    let after = acknowledged(&(left.console + &guest.console()));
    assert!(after >= before + 20, "{before} records, then {after}");
    assert!(records(&mut guest) >= after);
    assert_eq!(guest.ask("errors"), "0");
    assert_eq!(guest.ask("unmount"), "done");
    guest.send("poweroff");
    assert_eq!(guest.vm.wait_exit().code, Some(0));
    tool("e2fsck", &["-f", "-n"], &disk);

    // What a power failure at the instant of the snapshot would have left: a journal to replay, and every record.
    let mut guest = boot(&crashed);
    assert!(records(&mut guest) >= before);
    assert_eq!(guest.ask("unmount"), "done");
    guest.send("poweroff");
    assert_eq!(guest.vm.wait_exit().code, Some(0));
    tool("e2fsck", &["-f", "-n"], &crashed);
}

/// Boots a guest with an overlay over this disk.
#[track_caller]
fn boot_over(base: &Path, overlays: &Path) -> Guest {
    let disk = format!("root={},overlay", base.display());
    let launch = Guest::launch_with("boot", CLOUD_6_1, "disk", 1, "");
    let launch =
        launch.args(["--disk".as_ref(), disk.as_ref(), "--overlay-dir".as_ref(), overlays.as_os_str()]);
    hello(launch, "root=mounted,rw disks=1")
}

pub(crate) fn restore(image: &Image, overlays: &Path) -> Launch {
    Launch::new([
        OsString::from("restore"),
        image.path().into(),
        "--trust-paths".into(),
        "--overlay-dir".into(),
        overlays.as_os_str().to_owned(),
    ])
}

fn directory(path: PathBuf) -> PathBuf {
    std::fs::create_dir(&path).expect("a scratch directory can be written");
    path
}

fn hash(path: &Path) -> Vec<u8> {
    Sha256::digest(std::fs::read(path).expect("it can be read")).to_vec()
}

/// One base, one image of a guest that wrote over it, two clones that write on at the same time: each sees its own, and
/// what the image had; an image of a clone has all of it; and the base is never written.
pub(crate) fn clones_write_over_one_base() {
    let here = Scratch::new();
    let overlays = directory(here.path("overlays"));
    let base = formatted(here.path("base"));
    let before = hash(&base);
    let mut guest = boot_over(&base, &overlays);
    assert_eq!(guest.ask("write parent"), "done");
    let left = guest.leave(&here.path("image"), "");
    left.image.verifies();
    let image = left.image.fingerprint();

    let clone = || Guest { vm: restore(&left.image, &overlays).vm() };
    let mut clones = [clone(), clone()];
    for (guest, word) in clones.iter_mut().zip(["first", "second"]) {
        assert_eq!(guest.ask("read"), "parent");
        assert_eq!(guest.ask(&format!("write {word}")), "done");
        assert_eq!(guest.ask("trim"), "done");
    }
    for (guest, word) in clones.iter_mut().zip(["first", "second"]) {
        assert_eq!(guest.ask("read"), word);
        assert_eq!(guest.ask("errors"), "0");
    }
    let [first, second] = clones;
    second.vm.stop();
    let again = first.leave(&here.path("again"), "");
    again.image.verifies();
    let mut guest = Guest { vm: restore(&again.image, &overlays).vm() };
    // A mount of its own finds on the disk what the guest's memory says of it.
    for command in ["unmount", "mount"] {
        assert_eq!(guest.ask(command), "done");
    }
    assert_eq!(guest.ask("read"), "first");
    guest.vm.stop();
    let mut guest = clone();
    assert_eq!(guest.ask("read"), "parent");
    guest.vm.stop();
    assert_eq!(left.image.fingerprint(), image);
    assert!(hash(&base) == before, "the base was written");
    assert_eq!(rekindle_tests::leftover::entries(&overlays), Vec::<String>::new());
}

/// The guest is told by its driver, reads what it could write, and neither the image nor its next clone know of it.
pub(crate) fn a_full_disk_under_an_overlay() {
    let here = Scratch::new();
    let (overlays, small) = (directory(here.path("overlays")), directory(here.path("small")));
    let base = formatted(here.path("base"));
    let mut guest = boot_over(&base, &overlays);
    assert_eq!(guest.ask("write parent"), "done");
    let left = guest.leave(&here.path("image"), "");
    let image = left.image.fingerprint();

    let mount = format!("mount -t tmpfs -o size=6M none {}", small.display());
    let mut guest = Guest { vm: restore(&left.image, &small).mounted(&mount).vm() };
    assert_eq!(guest.ask("fill 400"), "failed");
    assert_ne!(guest.ask("errors"), "0");
    assert_eq!(guest.ask("read"), "parent");
    guest.vm.stop();

    assert_eq!(left.image.fingerprint(), image);
    left.image.verifies();
    let mut guest = Guest { vm: restore(&left.image, &overlays).vm() };
    assert_eq!(guest.ask("fill 400"), "done");
    assert_eq!(guest.ask("errors"), "0");
    assert_eq!(guest.ask("read"), "parent");
    guest.vm.stop();
}
