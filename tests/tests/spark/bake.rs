//! Baking: the image is of the moment at which the guest said that it was ready, or there is none.

use rekindle_tests::{Case, Image, Launch, Scratch, Vm, cases, rekindle};

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            a_bake_ends_at_the_readiness_port,
            a_bake_ends_at_a_line_of_the_console,
            a_guest_that_is_never_ready_leaves_no_image,
            a_guest_that_ends_before_it_is_ready_leaves_no_image,
        ]
    )
}

/// `bake` with these, into a scratch directory.
fn bake(here: &Scratch, ready: &str, args: &[&str]) -> Launch {
    Launch::new(["bake", "--memory", "32M", "--ready", ready, "--out"]).args([here.path("image")]).args(args)
}

fn a_bake_ends_at_the_readiness_port() {
    let here = Scratch::new();
    let done = bake(&here, "port", &["--serial", "stdio"]).run();
    assert_eq!(done.ok(), "spark: up, 32 MiB\nspark: filled 8 MiB seed 1\n");
    let image = Image::at(here.path("image"));
    image.verifies();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.expect("\n"), "spark: ready\n", "what a restored guest says first");
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    // The port means nothing to a guest that is not being baked.
    assert_eq!(vm.ask("port"), "ok said so");
    vm.stop();
    assert_eq!(here.entries(), ["image"]);
}

/// The guest stops at the byte with which the pattern matches, and a restored one goes on with the next.
fn a_bake_ends_at_a_line_of_the_console() {
    let here = Scratch::new();
    let said = bake(&here, r"serial:^spark: fil+ed [0-9]+", &["--serial", "stdio"]).run().ok();
    assert_eq!(said, "spark: up, 32 MiB\nspark: filled 8");
    let mut vm = Vm::restore(here.path("image"));
    assert_eq!(vm.expect("\n"), " MiB seed 1\n");
    vm.expect("spark: ready\n");
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    vm.stop();
}

fn a_guest_that_is_never_ready_leaves_no_image() {
    let here = Scratch::new();
    let done = bake(&here, "serial:never", &["--timeout", "700ms"]).run();
    done.fails(5, &["error: the guest was not ready within 700ms"]);
    assert!(here.entries().is_empty(), "{:?}", here.entries());
}

fn a_guest_that_ends_before_it_is_ready_leaves_no_image() {
    for (command, says) in [
        ("off", "error: the guest has powered off before it was ready"),
        ("reset", "error: the guest has reset the machine before it was ready"),
        ("panic", "error: the guest has panicked"),
        ("triple", "error: the guest has met a triple fault"),
    ] {
        let here = Scratch::new();
        let input = here.file("input", format!("{command}\n"));
        let input = std::fs::File::open(input).expect("just written");
        let done = bake(&here, "serial:never", &["--serial", "stdio"]).stdin(input).run();
        done.fails(5, &[says]);
        assert_eq!(here.entries(), ["input"], "after `{command}`");
    }
    // A bake that would have nowhere to go does not boot.
    let here = Scratch::new();
    here.file("image", "");
    bake(&here, "port", &[]).run().fails(1, &["exists already", "give another --out"]);
    let nowhere = here.path("none/image");
    let args = ["bake", "--ready", "port", "--out"].map(std::ffi::OsStr::new);
    rekindle(args.into_iter().chain([nowhere.as_os_str()])).fails(1, &["cannot create a directory beside"]);
}
