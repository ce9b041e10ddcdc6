//! Images with their memory packed: there and back, and what accidents do to them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use rekindle_tests::{Case, Image, Scratch, Vm, cases, rekindle};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "input",
        KVM,
        [
            an_image_that_was_packed_and_unpacked_is_the_same_and_runs,
            a_packed_image_is_not_mapped_and_the_remedy_is_named,
            a_pack_that_is_not_what_it_was_is_refused,
            what_is_no_part_of_an_image_is_left_out_by_name,
        ]
    )
}

fn an_image_that_was_packed_and_unpacked_is_the_same_and_runs() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let packed = Image::at(here.path("packed"));
    let again = Image::at(here.path("again"));
    rekindle(args!["pack", image.path(), "--out", packed.path()]).ok();
    packed.verifies();
    rekindle(args!["unpack", packed.path(), "--out", again.path()]).ok();
    for (one, other) in [(image.state(), again.state()), (image.memory(), again.memory())] {
        assert!(fs::read(one).expect("a part") == fs::read(other).expect("a part"));
    }
    let blocks = |image: &Image| fs::metadata(image.memory()).expect("a part").blocks();
    assert_eq!(blocks(&again), blocks(&image), "holes are holes again");
    let mut vm = Vm::restore(&again);
    vm.expect("spark: ready\n");
    vm.serves();
}

fn a_packed_image_is_not_mapped_and_the_remedy_is_named() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    rekindle(args!["pack", image.path(), "--out", here.path("packed")]).ok();
    let mapped = rekindle(args!["restore", here.path("packed"), "--memory-mode", "mmap"]);
    mapped.fails(1, &["is packed", "--memory-mode lazy", "rekindle unpack"]);
    // Without the option it is delivered.
    let mut vm = Vm::restore(here.path("packed"));
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    vm.stop();
    let twice = rekindle(args!["pack", here.path("packed"), "--out", here.path("twice")]);
    twice.fails(2, &["is packed already", "rekindle inspect"]);
    let over = rekindle(args!["pack", image.path(), "--out", here.path("packed")]);
    over.fails(1, &["exists already"]);
}

fn what_is_no_part_of_an_image_is_left_out_by_name() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let packed = rekindle(args!["pack", image.path(), "--out", here.path("plain")]);
    assert_eq!(packed.stderr, "");
    packed.ok();
    fs::create_dir(image.path().join("child")).expect("it is ours");
    fs::write(image.path().join("a name"), "mine").expect("it is ours");
    let packed = rekindle(args!["pack", image.path(), "--out", here.path("packed")]);
    assert!(packed.stderr.contains("left out, because no part of an image: `a name`, `child`"), "{packed:?}");
    packed.ok();
    let within = rekindle(args!["pack", image.path(), "--out", image.path().join("within")]);
    within.fails(1, &["lies within another image", "a name beside the other image"]);
    assert!(!image.path().join("within").exists() && image.path().join("child").exists());

    let said = rekindle(args!["verify", "--json", here.path("packed")]);
    let said: serde_json::Value = serde_json::from_str(&said.stdout).expect("it is JSON");
    assert_eq!((&said["vcpus"], &said["memory_bytes"]), (&1.into(), &(32 << 20).into()));
    assert!(said["data_bytes"].as_u64() > Some(8 << 20), "{said}");
}

fn a_pack_that_is_not_what_it_was_is_refused() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    rekindle(args!["pack", image.path(), "--out", here.path("packed")]).ok();
    let pack = here.path("packed").join("memory-pack");
    let len = fs::metadata(&pack).expect("a part").len();
    let file = OpenOptions::new().read(true).write(true).open(&pack).expect("it is ours");
    for at in [0, 8, 40, 100, len / 2, len - 1] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it is ours");
        file.write_all_at(&[byte[0] ^ 1], at).expect("it is ours");
        for line in [
            args!["verify", here.path("packed")],
            args!["unpack", here.path("packed"), "--out", here.path("out")],
        ] {
            rekindle(line).fails(3, &["pack", "hint: bake the image again"]);
        }
        file.write_all_at(&byte, at).expect("it is ours");
    }
    Image::at(here.path("packed")).verifies();
    file.set_len(len - 1).expect("it is ours");
    rekindle(args!["verify", here.path("packed")]).fails(3, &["bytes long, its index says"]);
    assert!(!here.path("out").exists());
}
