//! What an image names on the host: nothing of it is used unless the user says so. And what lies in an image's directory
//! without being part of it: nothing of it is touched.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use rekindle_tests::{Case, Image, Launch, Need, Scratch, Vm, cases, leftover, rekindle, verbs};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!(
        "input",
        KVM,
        [
            an_image_s_word_opens_nothing_of_the_host,
            a_disk_is_had_by_each_way_of_allowing_it,
            nothing_but_the_working_set_changes_in_an_image_s_directory,
            an_image_within_an_image_is_refused,
        ]
    );
    cases.extend(cases!(
        "input",
        &[Need::Kvm, Need::Mounts],
        [an_image_that_cannot_be_written_is_not_recorded, an_image_on_an_overlay_is_recorded]
    ));
    cases
}

fn a_disk_is_had_by_each_way_of_allowing_it() {
    let here = Scratch::new();
    fs::create_dir(here.path("disks")).expect("a scratch directory can be written");
    let path = here.path("disks/disk");
    File::create(&path).and_then(|file| file.set_len(4096)).expect("a scratch directory can be written");
    let disk = format!("root={}", path.display());
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--disk", &disk]);
    let ways = [
        args!["--trust-paths"],
        args!["--disk-root", here.path("disks")],
        args!["--disk-root", here.path("none"), "--disk-root", here.root()],
        args!["--disk", &disk],
    ];
    for way in ways {
        let mut vm = Launch::new(args!["restore", image.path()]).args(way).vm();
        assert_eq!(vm.ask("echo alive"), "ok alive");
        vm.stop();
    }
    let elsewhere = rekindle(args!["restore", image.path(), "--disk-root", here.path("image")]);
    elsewhere.fails(2, &["disk `root` is", "disks/disk`, to read and write"]);

    // The path is still the recorded one, and leads to what its owner never meant to give away.
    fs::rename(&path, here.path("precious")).expect("it is ours");
    symlink("../precious", &path).expect("a link can be made");
    let out = rekindle(args!["restore", image.path(), "--disk-root", here.path("disks")]);
    out.fails(2, &["the way to disk", "leads out of", "--disk root=PATH"]);
}

fn an_image_s_word_opens_nothing_of_the_host() {
    let here = Scratch::new();
    let (path, socket) = (here.path("disk"), here.path("vsock"));
    File::create(&path).and_then(|file| file.set_len(4096)).expect("a scratch directory can be written");
    let vsock = format!("cid=3,uds={}", socket.display());
    for kind in ["", ",readonly", ",overlay"] {
        let disk = format!("root={}{kind}", path.display());
        let args = ["--memory", "32M", "--disk", &disk, "--vsock", &vsock];
        let image = Image::bake(here.path(format!("image{kind}")), &args);
        let done = rekindle(args!["restore", image.path()]);
        let access = if kind.is_empty() { "disk`, to read and write" } else { "disk`, to read" };
        let named = format!("--disk root={} --vsock uds={}", path.display(), socket.display());
        done.fails(
            2,
            &["names what is not its own", access, "vsock", "--trust-paths", "--disk-root DIR", &named],
        );
        rekindle(args!["restore", image.path(), "--disk-root", here.root()])
            .fails(2, &["the vsock device has socket"]);
        assert!(!socket.exists());
        let shown = rekindle(args!["inspect", image.path()]);
        assert!(shown.stdout.contains("not its own   disk `root` is"), "{shown:?}");
    }
}

/// A child image, the disk that the VM runs from, a socket, links, names that no part has.
fn nothing_but_the_working_set_changes_in_an_image_s_directory() {
    let here = Scratch::new();
    let raw = here.path("raw.img");
    File::create(&raw).and_then(|file| file.set_len(4096)).expect("a scratch directory can be written");
    let disk = format!("root={}", raw.display());
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--disk", &disk]);
    let child = Image::bake(here.path("child"), &["--memory", "32M"]);
    let within = |name: &str| image.path().join(name);
    fs::rename(child.path(), within("child")).expect("it is ours");
    fs::rename(&raw, within("raw.img")).expect("it is ours");
    fs::write(within("a name with spaces"), "mine").expect("it is ours");
    symlink("state", within("link")).expect("a link can be made");
    let _socket = UnixListener::bind(within("socket")).expect("it can be made");
    let before = leftover::entries(image.path());
    let inode =
        |name: &str| fs::symlink_metadata(within(name)).map(|about| about.ino()).expect("it is there");
    let inodes: Vec<u64> = before.iter().map(|name| inode(name)).collect();

    let disk = format!("root={}", within("raw.img").display());
    let mut vm = Launch::new(args!["restore", image.path(), "--record=10m", "--disk", disk]).vm();
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    vm.stop();
    assert!(within("working-set").exists());
    assert_eq!(before.iter().map(|name| inode(name)).collect::<Vec<_>>(), inodes);
    assert_eq!(leftover::entries(image.path()).len(), before.len() + 1);
    assert_eq!(here.entries(), ["image"]);
    Image::at(within("child")).verifies();
}

fn an_image_within_an_image_is_refused() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = leftover::entries(image.path());
    let mut vm = Vm::restore(&image);
    vm.serves();
    let done = verbs::snapshot_command(vm.socket(), &image.path().join("child")).run();
    done.fails(1, &["lies within another image", "a name beside the other image"]);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
    assert_eq!(leftover::entries(image.path()), before);
}

/// It is found out before the guest runs, not when there is something to write.
fn an_image_that_cannot_be_written_is_not_recorded() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let place = image.path().display();
    let script = format!("mount --bind {place} {place} && mount -o remount,ro,bind {place}");
    let done = Launch::new(args!["restore", image.path(), "--record"]).mounted(&script).run();
    assert_eq!(done.stdout, "", "the guest ran");
    done.fails(1, &["cannot add the working set to the image", "Read-only file system", "record in a copy"]);
    assert_eq!(leftover::entries(image.path()), ["memory", "state"]);
    assert_eq!(here.entries(), ["image"]);
}

/// As in a container whose image has the image: a file gains a name there, and a directory cannot be exchanged.
fn an_image_on_an_overlay_is_recorded() {
    let here = Scratch::new();
    for name in ["lower", "changes", "merged"] {
        fs::create_dir(here.path(name)).expect("a scratch directory can be written");
    }
    let image = Image::bake(here.path("lower/image"), &["--memory", "32M"]);
    let at = |name: &str| here.path(name).display().to_string();
    let script = format!(
        "mount -t tmpfs none {changes} && mkdir {changes}/upper {changes}/work && mount -t overlay none {merged} \
         -o lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work",
        changes = at("changes"),
        merged = at("merged"),
        lower = at("lower"),
    );
    let mut vm =
        Launch::new(args!["restore", here.path("merged/image"), "--record=10m"]).mounted(&script).vm();
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    let seen = std::path::PathBuf::from(format!("/proc/{}/root", vm.pid()));
    let upper = seen.join(here.path("changes/upper").strip_prefix("/").expect("scratch paths are absolute"));
    let root = File::open(&upper).expect("the VM's file system can be seen");
    verbs::stop(&vm).ok();
    assert_eq!(vm.wait_exit().code, Some(0));
    // Held open, it outlives the VM's view of it.
    let held = format!("/proc/self/fd/{}/image", std::os::fd::AsRawFd::as_raw_fd(&root));
    assert_eq!(leftover::entries(held.as_ref()), ["working-set"], "and no memory was copied");
    assert_eq!(leftover::entries(image.path()), ["memory", "state"]);
}
