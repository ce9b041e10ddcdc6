//! Sockets of the vsock device that cannot be had: refused before anything runs. And those that can: gone with their VM.

use std::ffi::OsString;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rekindle_tests::{Case, Image, Launch, Scratch, Vm, cases, rekindle};
use rustix::process::Signal;

use crate::table::{Row, check};
use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!("input", &[], [a_vsock_socket_that_cannot_be_made_is_named]);
    cases.extend(cases!(
        "input",
        KVM,
        [
            a_vsock_socket_goes_with_its_vm,
            a_vsock_socket_in_use_is_left_alone_and_a_dead_one_is_replaced,
            a_clone_needs_a_vsock_socket_of_its_own,
            a_guest_that_never_connects_is_not_ready,
        ]
    ));
    cases
}

fn vsock(path: &Path) -> OsString {
    let mut text = OsString::from("cid=3,uds=");
    text.push(path);
    text
}

fn restore(image: &Image, socket: &Path) -> Launch {
    let mut uds = OsString::from("uds=");
    uds.push(socket);
    Launch::new(args!["restore", image.path(), "--vsock", uds])
}

fn a_vsock_socket_that_cannot_be_made_is_named() {
    let here = Scratch::new();
    here.file("file", "precious");
    let mut rows = Vec::new();
    let mut row = |what, path: &Path, says| {
        rows.push(Row { what, args: args!["boot", "--vsock", vsock(path)], code: 1, says });
    };
    row(
        "a directory that is missing",
        &here.path("none/vsock"),
        &["cannot listen on", "none/vsock", "No such file or directory", "the directory must exist"],
    );
    row("a file", &here.path("file"), &["file` exists and is not a socket", "remove it"]);
    row("a directory", here.root(), &["exists and is not a socket"]);
    let long: &[&str] = &["longer than 96 bytes", "a port has to fit", "use a shorter path"];
    row("a path that is too long", &here.path("x".repeat(97)), long);
    row("a relative path that is too long", Path::new(&"x".repeat(95)), long);
    check(&here, rows);
    assert_eq!(std::fs::read(here.path("file")).expect("it is still there"), b"precious");
}

/// Whatever ends it. A relative path is the caller's.
fn a_vsock_socket_goes_with_its_vm() {
    let here = Scratch::new();
    let ends: [fn(&mut Vm); 3] =
        [|vm| vm.signal(Signal::TERM), |vm| vm.send("off"), |vm| drop(rekindle_tests::verbs::stop(vm).ok())];
    for end in ends {
        let args = args!["boot", "--memory", "32M", "--vsock", "cid=3,uds=vsock"];
        let mut vm = Launch::new(args).in_directory(here.root()).vm();
        vm.expect("spark: ready\n");
        UnixStream::connect(here.path("vsock")).expect("the VM listens");
        end(&mut vm);
        assert_eq!(vm.wait_exit().code, Some(0));
        assert!(here.entries().is_empty(), "{:?}", here.entries());
    }
}

fn a_vsock_socket_in_use_is_left_alone_and_a_dead_one_is_replaced() {
    let here = Scratch::new();
    let path = here.path("vsock");
    let boot = || args!["boot", "--memory", "32M", "--vsock", vsock(&path)];
    drop(UnixListener::bind(&path).expect("a scratch directory can be written"));
    let mut vm = Launch::new(boot()).vm();
    vm.expect("spark: ready\n");
    let says = &["cannot set up the vsock device", "another VM listens on", "--vsock uds=PATH"];
    rekindle(boot()).fails(1, says);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    UnixStream::connect(&path).expect("the first VM still listens");
    vm.stop();
    assert!(here.entries().is_empty(), "{:?}", here.entries());
}

fn a_clone_needs_a_vsock_socket_of_its_own() {
    let here = Scratch::new();
    let path = here.path("vsock");
    let vsock = vsock(&path).into_string().expect("scratch paths are plain");
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--vsock", &vsock]);
    assert!(!path.exists());
    let mut first = Vm::restore(&image);
    assert_eq!(first.ask("echo alive"), "ok alive");
    let says = &["cannot set up the vsock device", "another VM listens on", "--vsock uds=PATH"];
    rekindle(args!["restore", image.path(), "--trust-paths"]).fails(1, says);
    let mut second = restore(&image, &here.path("second")).vm();
    assert_eq!(second.ask("echo alive"), "ok alive");
    for name in ["vsock", "second"] {
        UnixStream::connect(here.path(name)).expect("each listens");
    }
    second.stop();
    first.stop();
    let bare = Image::bake(here.path("bare"), &["--memory", "32M"]);
    let done = restore(&bare, &path).run();
    done.fails(2, &["the image has no vsock device", "`rekindle inspect`"]);
    restore(&image, &here.path("none/vsock"))
        .run()
        .fails(1, &["cannot listen on", "the directory must exist"]);
    assert_eq!(here.entries(), ["bare", "image"]);
}

fn a_guest_that_never_connects_is_not_ready() {
    let here = Scratch::new();
    let path = here.path("vsock");
    let args = args!["bake", "--memory", "32M", "--ready", "vsock:1024", "--timeout", "500ms", "--vsock"];
    let out = args!["--out", here.path("image")];
    let done = Launch::new(args).args([vsock(&path)]).args(out).run();
    done.fails(5, &["the guest was not ready within 500ms"]);
    assert!(here.entries().is_empty(), "{:?}", here.entries());
}
