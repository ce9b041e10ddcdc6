//! Images that accidents have happened to: every byte, every length, and the parts.

use std::fs::OpenOptions;

use rekindle_tests::{Case, Image, Scratch, Vm, cases, rekindle};
use snapshot_format::{ErrorKind, StateReader};

use crate::table::{Row, check};
use crate::{KVM, args};

/// How many of the many bytes and lengths are shown to the program itself.
const SAMPLES: usize = 48;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "input",
        KVM,
        [
            any_byte_of_state_flipped_is_damage,
            state_of_any_other_length_is_damage,
            parts_that_are_not_what_they_were_are_refused,
            what_is_no_image_is_refused,
            a_flipped_byte_of_memory_is_found_by_verify,
            memory_that_is_cut_off_under_a_guest_ends_it_with_a_message,
        ]
    )
}

fn any_byte_of_state_flipped_is_damage() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let sound = std::fs::read(image.state()).expect("an image has a state");
    let mut bytes = sound.clone();
    for at in 0..sound.len() {
        bytes[at] ^= 1 << (at % 8);
        let kind = StateReader::parse(&bytes).err().map(|error| error.kind());
        let wanted = if at < 8 { ErrorKind::NotAnImage } else { ErrorKind::Damaged };
        assert_eq!(kind, Some(wanted), "byte {at}");
        bytes[at] = sound[at];
    }

    let damaged = image.copy_to(here.path("damaged"));
    for at in (0..SAMPLES).map(|sample| sample * (sound.len() - 1) / (SAMPLES - 1)) {
        bytes[at] ^= 0x10;
        std::fs::write(damaged.state(), &bytes).expect("a copy can be written");
        bytes[at] = sound[at];
        for verb in ["restore", "inspect", "verify"] {
            let says = if at < 8 { "not a Rekindle image" } else { "the state file is damaged: checksum" };
            rekindle(args![verb, damaged.path()]).fails(3, &["damaged", says]);
        }
    }
}

fn state_of_any_other_length_is_damage() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let mut bytes = std::fs::read(image.state()).expect("an image has a state");
    let len = bytes.len();
    for shorter in 0..len {
        let kind = StateReader::parse(&bytes[..shorter]).err().map(|error| error.kind());
        // Too short for the magic, it could be anything.
        let wanted = if shorter == 0 { ErrorKind::NotAnImage } else { ErrorKind::Damaged };
        assert_eq!(kind, Some(wanted), "length {shorter}");
    }
    bytes.resize(len + 4096, 0);
    for longer in [1, 7, 8, 56, 4096] {
        assert!(StateReader::parse(&bytes[..len + longer]).is_err(), "{longer} bytes more");
    }
    let cut = image.copy_to(here.path("cut"));
    for length in (0..SAMPLES).map(|sample| sample * (len + 100) / SAMPLES).filter(|length| *length != len) {
        std::fs::write(cut.state(), &bytes[..length]).expect("a copy can be written");
        rekindle(args!["restore", cut.path()]).fails(3, &["cut", "cannot read the state of image"]);
    }
}

/// Copies of an image, each with one thing done to a part.
fn parts_that_are_not_what_they_were_are_refused() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let mut rows = Vec::new();
    let mut spoil = |name: &str, says: &'static [&'static str], how: &dyn Fn(&Image)| {
        let copy = image.copy_to(here.path(name));
        how(&copy);
        for verb in ["restore", "verify"] {
            rows.push(Row { what: "a part", args: args![verb, copy.path()], code: 3, says });
        }
    };
    let resize = |copy: &Image, len: u64| {
        let file = OpenOptions::new().write(true).open(copy.memory()).expect("a copy can be written");
        file.set_len(len).expect("a copy can be resized");
    };
    let link = |path: std::path::PathBuf| {
        let moved = path.with_extension("moved");
        std::fs::rename(&path, &moved).expect("a copy can be changed");
        std::os::unix::fs::symlink(&moved, &path).expect("a link can be made");
    };
    let directory = |path: std::path::PathBuf| {
        std::fs::remove_file(&path).expect("a copy can be changed");
        std::fs::create_dir(&path).expect("a copy can be changed");
    };
    spoil("memory-shorter", &["memory file is", "its index says 33554432"], &|copy| {
        resize(copy, (32 << 20) - 4096)
    });
    spoil("memory-ragged", &["memory file is 33554431 bytes"], &|copy| resize(copy, (32 << 20) - 1));
    spoil("memory-empty", &["memory file is 0 bytes"], &|copy| resize(copy, 0));
    spoil("memory-longer", &["memory file is", "its index says 33554432"], &|copy| {
        resize(copy, (32 << 20) + 4096)
    });
    spoil("memory-gone", &["has no file `memory`"], &|copy| {
        std::fs::remove_file(copy.memory()).expect("a copy can be changed");
    });
    spoil("memory-linked", &["memory", "not a regular file"], &|copy| link(copy.memory()));
    spoil("memory-directory", &["memory", "not a regular file"], &|copy| directory(copy.memory()));
    spoil("state-gone", &["not a Rekindle image: it has no file `state`"], &|copy| {
        std::fs::remove_file(copy.state()).expect("a copy can be changed");
    });
    spoil("state-linked", &["state", "not a regular file"], &|copy| link(copy.state()));
    spoil("state-directory", &["state", "not a regular file"], &|copy| directory(copy.state()));
    spoil("state-pipe", &["state", "not a regular file"], &|copy| {
        std::fs::remove_file(copy.state()).expect("a copy can be changed");
        let made = std::process::Command::new("mkfifo").arg(copy.state()).status();
        assert!(made.expect("there is a mkfifo").success());
    });
    spoil("state-endless", &["state", "larger than"], &|copy| {
        let file = OpenOptions::new().write(true).open(copy.state()).expect("a copy can be written");
        file.set_len(1 << 40).expect("a copy can be resized");
    });
    check(&here, rows);
}

fn what_is_no_image_is_refused() {
    let here = Scratch::new();
    here.file("file", "no image");
    std::fs::create_dir(here.path("empty")).expect("a scratch directory can be written");
    std::os::unix::fs::symlink("nowhere", here.path("dangling")).expect("a link can be made");
    let mut rows = Vec::new();
    for verb in ["restore", "inspect", "verify"] {
        let mut row =
            |name: &str, code, says| rows.push(Row { what: "no image", args: args![verb, name], code, says });
        row("missing", 1, &["missing", "No such file or directory"]);
        row("dangling", 1, &["dangling", "No such file or directory"]);
        row("file", 3, &["`file` is not a Rekindle image: it is not a directory"]);
        row("empty", 3, &["`empty` is not a Rekindle image: it has no file `state`"]);
    }
    check(&here, rows);
}

fn a_flipped_byte_of_memory_is_found_by_verify() {
    use std::os::unix::fs::FileExt;
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    // In a page that is filled, and in one that is a hole.
    for at in [4 << 20, (31 << 20) + 5] {
        let copy = image.copy_to(here.path(format!("flipped-{at}")));
        let file =
            OpenOptions::new().read(true).write(true).open(copy.memory()).expect("a copy can be written");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a copy can be read");
        file.write_all_at(&[byte[0] ^ 1], at).expect("a copy can be written");
        let chunk = format!("chunk {} of the memory file", at >> 21);
        let guest = format!("{:#x}..{:#x}", at >> 21 << 21, (at >> 21 << 21) + (2 << 20));
        rekindle(args!["verify", copy.path()]).fails(3, &["is damaged", &chunk, &guest]);
    }
    image.verifies();
}

/// Whether the guest looks at what it has lost, or only stands there; whether all is lost, or what it filled.
fn memory_that_is_cut_off_under_a_guest_ends_it_with_a_message() {
    for left in [0, 2 << 20, (32 << 20) - 4096] {
        for command in ["verify", ""] {
            let here = Scratch::new();
            let image = Image::bake(here.path("image"), &["--memory", "32M"]);
            let mut vm = Vm::restore(&image);
            vm.expect("spark: ready\n");
            vm.serves();
            let file = OpenOptions::new().write(true).open(image.memory()).expect("it is ours");
            file.set_len(left).expect("it is ours");
            if vm.is_alive() {
                vm.try_send(command);
            }
            let done = vm.wait_exit();
            done.fails(3, &["caused by", "memory file", "hint: `rekindle verify IMAGE`; never modify"]);
        }
    }
}
