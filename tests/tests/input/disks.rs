//! Disks that are not there, are none, are in use, or are not what they were: refused before anything runs.

use std::fs::File;
use std::path::Path;

use rekindle_tests::{Case, Image, Launch, Scratch, Vm, cases, rekindle};

use crate::table::{Row, check};
use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!("input", &[], [a_disk_that_cannot_be_one_is_named]);
    cases.extend(cases!(
        "input",
        KVM,
        [
            a_disk_that_is_in_use_is_left_alone,
            a_container_is_no_disk_unless_a_guest_has_written_its_header,
            a_disk_that_is_not_what_it_was_is_named_at_a_restore,
            another_file_is_given_only_for_a_disk_that_there_is,
            a_base_that_is_not_what_it_was_is_named_at_a_restore,
            an_overlay_that_is_not_what_it_was_is_damage,
        ]
    ));
    cases
}

/// `--disk root=PATH`, and what else there is to say of it.
fn root(path: &Path, more: &str) -> String {
    format!("root={}{more}", path.display())
}

fn disk(path: &Path, len: u64) {
    File::create(path).and_then(|file| file.set_len(len)).expect("a scratch directory can be written");
}

fn a_disk_that_cannot_be_one_is_named() {
    let here = Scratch::new();
    disk(&here.path("half"), 513);
    disk(&here.path("empty"), 0);
    let mut rows = Vec::new();
    let mut row = |what, path: &Path, says| {
        let args = args!["boot", "--disk", root(path, "")];
        rows.push(Row { what, args, code: 1, says });
    };
    row(
        "a disk that is missing",
        &here.path("none"),
        &["cannot use disk `root`", "none`", "No such file or directory", "check the path"],
    );
    row(
        "a disk of half sectors",
        &here.path("half"),
        &["half` has 513 bytes", "512-byte sectors", "`truncate`"],
    );
    row("a disk without sectors", &here.path("empty"), &["empty` has 0 bytes", "or none"]);
    row("a directory", here.root(), &["neither a regular file nor a block device", "raw disk image"]);
    row("a device without sectors", Path::new("/dev/null"), &["neither a regular file nor a block device"]);
    // Root may write to any file, but to none that is being executed.
    let program = std::env::current_exe().expect("it has a path");
    row("a disk that cannot be written to", &program, &["cannot open disk", "may read it, and write to it"]);
    let mut many = args!["boot", "--rng"];
    for number in 0..8 {
        many.extend(args!["--disk", format!("d{number}=/dev/null,readonly")]);
    }
    let says = &["9 virtio devices do not fit into 8 slots", "leave some out"];
    rows.push(Row { what: "more devices than places", args: many, code: 2, says });
    disk(&here.path("base"), 4096);
    let over = root(&here.path("base"), ",overlay");
    for (place, reason) in [("none", "No such file or directory"), ("half", "Not a directory")] {
        let done = rekindle(["boot", "--disk", &over, "--overlay-dir", &here.path(place).to_string_lossy()]);
        done.fails(1, &["cannot keep what the guest writes in", place, reason, "--overlay-dir"]);
    }
    check(&here, rows);
}

fn a_disk_that_is_in_use_is_left_alone() {
    let here = Scratch::new();
    let path = here.path("disk");
    disk(&path, 4096);
    let says = &["disk` is in use by another VM", "end the other VM"];
    let mut vm = Vm::boot(["--memory", "32M", "--disk", &root(&path, "")]);
    vm.expect("spark: ready\n");
    for more in ["", ",readonly"] {
        rekindle(["boot", "--disk", &root(&path, more)]).fails(1, says);
    }
    vm.stop();
    let mut reader = Vm::boot(["--memory", "32M", "--disk", &root(&path, ",readonly")]);
    reader.expect("spark: ready\n");
    rekindle(["boot", "--disk", &root(&path, "")]).fails(1, says);
    let mut second = Vm::boot(["--memory", "32M", "--disk", &root(&path, ",readonly")]);
    second.expect("spark: ready\n");
    second.stop();
    reader.stop();
}

fn a_container_is_no_disk_unless_a_guest_has_written_its_header() {
    let here = Scratch::new();
    let path = here.path("disk");
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    std::fs::write(&path, &bytes).expect("a scratch directory can be written");
    for more in ["", ",readonly", ",overlay"] {
        let says = &["begins as a qcow2 file does", "qemu-img convert -O raw", "format=raw"];
        rekindle(["boot", "--disk", &root(&path, more)]).fails(1, says);
    }
    // As if the guest had written it: its image comes back as any other does.
    let options = ["--memory", "32M", "--disk", &root(&path, ",format=raw")];
    let image = Image::bake(here.path("image"), &options);
    let copy = here.path("copy");
    std::fs::copy(&path, &copy).expect("a disk can be copied");
    for instead in [None, Some(root(&copy, ""))] {
        let restore = Launch::new(["restore".as_ref(), image.path().as_os_str()]);
        let mut vm = match &instead {
            Some(disk) => restore.args(["--disk", disk]).vm(),
            None => restore.args(["--trust-paths"]).vm(),
        };
        assert_eq!(vm.ask("echo alive"), "ok alive");
        vm.stop();
    }
}

fn a_disk_that_is_not_what_it_was_is_named_at_a_restore() {
    let here = Scratch::new();
    let path = here.path("disk");
    disk(&path, 4096);
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--rng", "--disk", &root(&path, "")]);
    let restore = || rekindle(args!["restore", image.path(), "--trust-paths"]);
    let before = image.fingerprint();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    restore().fails(1, &["cannot use disk `root`", "in use by another VM"]);
    vm.stop();

    let kept = here.path("kept");
    std::fs::copy(&path, &kept).expect("a disk can be copied");
    disk(&path, 4096);
    restore().fails(1, &["was modified since the image was taken", "name a copy of it", "--disk root=PATH"]);
    disk(&path, 8192);
    restore().fails(1, &["disk` has 8192 bytes, it had 4096", "--disk root=PATH"]);
    std::fs::remove_file(&path).expect("a scratch directory can be written");
    restore().fails(1, &["cannot open disk", "No such file or directory", "--disk root=PATH"]);

    // A copy from then does, wherever it is.
    let mut vm = Launch::new([
        "restore".as_ref(),
        image.path().as_os_str(),
        "--disk".as_ref(),
        root(&kept, "").as_ref(),
    ])
    .vm();
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
    image.verifies();
    assert_eq!(image.fingerprint(), before);
}

fn another_file_is_given_only_for_a_disk_that_there_is() {
    let here = Scratch::new();
    let path = here.path("disk");
    disk(&path, 4096);
    disk(&here.path("long"), 8192);
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--disk", &root(&path, ",readonly")]);
    let bare = Image::bake(here.path("bare"), &["--memory", "32M"]);
    let restore = |image: &Image, disk: String| {
        rekindle(["restore".as_ref(), image.path().as_os_str(), "--disk".as_ref(), disk.as_ref()])
    };
    let says = &["the image has no disk `swap`; it has `root`", "`rekindle inspect`"];
    restore(&image, format!("swap={}", path.display())).fails(2, says);
    restore(&bare, root(&path, "")).fails(2, &["the image has no disk `root`; it has none"]);
    let says = &["long` has 8192 bytes, it had 4096 when the image was taken"];
    restore(&image, root(&here.path("long"), "")).fails(1, says);
    restore(&image, root(here.root(), "")).fails(1, &["neither a regular file nor a block device"]);
}

/// Any number of guests have one base, and it must be what it was.
fn a_base_that_is_not_what_it_was_is_named_at_a_restore() {
    let here = Scratch::new();
    let base = here.path("base");
    disk(&base, 4096);
    let place = here.root().to_string_lossy().into_owned();
    let over = root(&base, ",overlay");
    let image =
        Image::bake(here.path("image"), &["--memory", "32M", "--disk", &over, "--overlay-dir", &place]);
    let restore = |more: &[&str]| {
        let args = ["restore".into(), image.path().to_string_lossy().into_owned()];
        let trust: &[&str] = if more.is_empty() { &["--trust-paths"] } else { &[] };
        Launch::new(args).args(["--overlay-dir", &place]).args(trust).args(more)
    };
    let mut clones = [restore(&[]).vm(), restore(&[]).vm()];
    for clone in &mut clones {
        assert_eq!(clone.ask("echo alive"), "ok alive");
    }
    rekindle(["boot", "--disk", &root(&base, "")]).fails(1, &["base` is in use by another VM"]);
    clones.into_iter().for_each(Vm::stop);

    let kept = here.path("kept");
    std::fs::copy(&base, &kept).expect("a disk can be copied");
    disk(&base, 4096);
    restore(&[]).run().fails(1, &["cannot use disk `root`", "was modified since the image was taken"]);
    disk(&base, 512);
    restore(&[]).run().fails(1, &["base` has 512 bytes, it had 4096"]);
    std::fs::remove_file(&base).expect("a scratch directory can be written");
    restore(&[]).run().fails(1, &["cannot open disk", "No such file or directory", "--disk root=PATH"]);
    let mut vm = restore(&["--disk", &root(&kept, "")]).vm();
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
}

fn an_overlay_that_is_not_what_it_was_is_damage() {
    let here = Scratch::new();
    let base = here.path("base");
    disk(&base, 1 << 20);
    let place = here.root().to_string_lossy().into_owned();
    let over = root(&base, ",overlay");
    let image =
        Image::bake(here.path("image"), &["--memory", "32M", "--disk", &over, "--overlay-dir", &place]);
    image.verifies();
    let restore =
        |image: &Image| rekindle(args!["restore", image.path(), "--overlay-dir", &place, "--trust-paths"]);
    let verify = |image: &Image| rekindle(["verify".as_ref(), image.path().as_os_str()]);

    let flipped = image.copy_to(here.path("flipped"));
    let file = File::options().write(true).open(flipped.path().join("disk-root")).expect("it is there");
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 5000).expect("a copy can be written");
    verify(&flipped).fails(3, &["disk `root`", "has 1 pages of data, its index says 0"]);
    file.set_len(512).expect("a copy can be written");
    for done in [verify(&flipped), restore(&flipped)] {
        done.fails(3, &["disk `root`", "it has 512 bytes, its index says 1048576"]);
    }
    std::fs::remove_file(flipped.path().join("disk-root")).expect("a copy can be written");
    for done in [verify(&flipped), restore(&flipped)] {
        done.fails(3, &["has no file `disk-root`"]);
    }
    std::os::unix::fs::symlink("/dev/null", flipped.path().join("disk-root")).expect("a link can be made");
    restore(&flipped).fails(3, &["is not a regular file"]);
}
