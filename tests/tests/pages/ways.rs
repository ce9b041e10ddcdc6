//! The ways in which one image comes back.

use std::path::Path;

use rekindle_tests::{Image, Launch, PageServer, Scratch, Vm};

/// A guest with 64 MiB of its 128 filled.
const FILLED: [&str; 4] = ["--memory", "128M", "--cmdline", "spark.fill=64M"];
/// What it says of them.
pub(crate) const RIGHT: &str = "ok verified 64 MiB seed 1";

#[track_caller]
pub(crate) fn bake(here: &Scratch) -> Image {
    Image::bake(here.path("image"), &FILLED)
}

/// `rekindle restore IMAGE` with more arguments.
pub(crate) fn launch(image: &Image, more: &[&str]) -> Launch {
    Launch::new(["restore".as_ref(), image.path().as_os_str()]).args(more)
}

#[track_caller]
pub(crate) fn restore(image: &Image, more: &[&str]) -> Vm {
    launch(image, more).vm()
}

/// Restores with pages from whoever listens at `socket`.
#[track_caller]
pub(crate) fn restore_from(socket: &Path, image: &Image, more: &[&str]) -> Vm {
    launch(image, more).args(["--pages".as_ref(), socket.as_os_str()]).vm()
}

/// The same image without its memory: what there has to be where a page server has it.
#[track_caller]
pub(crate) fn state_of(image: &Image, here: &Scratch, name: &str) -> Image {
    let bare = here.path(name);
    std::fs::create_dir(&bare).expect("a scratch directory can be made");
    std::fs::copy(image.state(), bare.join("state")).expect("the state can be copied");
    Image::at(bare)
}

/// Restores `image` by a thread of the VM's own and through a server, with and without what it has beside its state, and
/// has `check` look at each.
#[track_caller]
pub(crate) fn each_lazy_way(here: &Scratch, image: &Image, check: impl Fn(&mut Vm)) {
    let before = image.fingerprint();
    let checked = |mut vm: Vm| {
        check(&mut vm);
        vm.stop();
    };
    for prefetch in ["on", "off"] {
        checked(restore(image, &["--memory-mode", "lazy", "--prefetch", prefetch]));
    }
    let server = PageServer::serve([image.path()]);
    let held = server.holdings();
    let bare = state_of(image, here, "state-alone");
    for prefetch in ["on", "off"] {
        checked(restore_from(server.socket(), image, &["--prefetch", prefetch]));
        checked(restore_from(server.socket(), &bare, &["--prefetch", prefetch]));
    }
    server.metric_comes_to("sessions", |now| now == 0);
    assert_eq!((server.metric("sessions_total"), server.metric("refused_total")), (4, 0));
    assert_eq!(server.metric("lost_total"), 0);
    server.holds_no_more_than(held);
    server.stop();
    std::fs::remove_dir_all(bare.path()).expect("it is ours");
    assert_eq!(image.fingerprint(), before, "an image was written to");
}

/// The same by mapping it, first.
#[track_caller]
pub(crate) fn each_way(here: &Scratch, image: &Image, check: impl Fn(&mut Vm)) {
    let mut vm = Vm::restore(image);
    check(&mut vm);
    vm.stop();
    each_lazy_way(here, image, check);
}
