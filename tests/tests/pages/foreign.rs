//! Our VMM and page-fault handlers that were written for Firecracker.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use page_server::testing::Handler;
use rekindle_tests::{Case, Image, PageServer, Scratch, cases};

use crate::KVM;
use crate::ways::{RIGHT, bake, restore_from, state_of};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        KVM,
        [
            a_handler_written_for_firecracker_serves_our_guest,
            a_handler_that_fills_all_memory_at_the_first_fault_serves_our_guest,
            our_server_takes_over_from_a_handler_that_dies,
            a_handler_that_never_delivers_the_page_asked_for_loses_the_guest,
            a_handler_that_delivers_nothing_loses_the_guest,
        ]
    )
}

/// How a fault is answered: with the handler, the page's address and its offset in the memory file.
type Answer = Box<dyn FnMut(&Handler, u64, u64) + Send>;

/// Serves one VM at `path`, and ends with it.
fn handler(path: PathBuf, answer: Answer) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket can be made");
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a VM connects");
        // Whoever comes next finds nobody.
        drop(listener);
        let handler = Handler::receive(stream).expect("a VM hands its memory over");
        handler.run(answer).expect("a handler hears of faults");
    })
}

/// The page that was asked for, and nothing else.
fn page_by_page(image: &Image) -> Answer {
    let file = File::open(image.memory()).expect("the image has a memory");
    Box::new(move |handler, address, offset| {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, offset).expect("the memory can be read");
        // It may be there already: two CPUs have asked for it.
        let _ = handler.place(address, &page);
    })
}

fn a_handler_written_for_firecracker_serves_our_guest() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "64M", "--cmdline", "spark.fill=24M"]);
    let bare = state_of(&image, &here, "bare");
    let served = handler(here.path("handler"), page_by_page(&image));
    let mut vm = restore_from(&here.path("handler"), &bare, &[]);
    assert_eq!(vm.ask("verify"), "ok verified 24 MiB seed 1");
    vm.stop();
    served.join().expect("the handler has ended with its VM");
}

/// By one request for each region, whose failure it takes for its end: not a byte may be unregistered.
fn a_handler_that_fills_all_memory_at_the_first_fault_serves_our_guest() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "64M", "--cmdline", "spark.fill=24M"]);
    let bare = state_of(&image, &here, "bare");
    let memory = std::fs::read(image.memory()).expect("the memory can be read");
    let mut is_filled = false;
    let fill: Answer = Box::new(move |handler, _, _| {
        if !std::mem::replace(&mut is_filled, true) {
            for mapping in handler.mappings() {
                let bytes = &memory[mapping.offset as usize..][..mapping.len as usize];
                let placed = handler.place_all(mapping.address, bytes).expect("all of it is registered");
                assert_eq!(placed, mapping.len);
            }
        }
    });
    let served = handler(here.path("handler"), fill);
    let mut vm = restore_from(&here.path("handler"), &bare, &[]);
    assert_eq!(vm.ask("verify"), "ok verified 24 MiB seed 1");
    vm.stop();
    served.join().expect("the handler has ended with its VM");
}

fn our_server_takes_over_from_a_handler_that_dies() {
    let here = Scratch::new();
    let image = bake(&here);
    let path = here.path("handler");
    let listener = UnixListener::bind(&path).expect("a socket can be made");
    let mut vm = restore_from(&path, &image, &[]);
    let (stream, _) = listener.accept().expect("the VM connects");
    drop(listener);
    let handler = Handler::receive(stream).expect("the VM hands its memory over");
    vm.send("verify");
    // It has read what has happened by now, and answers nothing of it.
    drop(handler);
    let server = PageServer::serve_at(&path, [image.path()]);
    vm.expect(RIGHT);
    vm.stop();
    server.stop();
}

/// It places a neighbour, with the right bytes: nothing that the guest sees is wrong, but what it wants never comes.
fn a_handler_that_never_delivers_the_page_asked_for_loses_the_guest() {
    let here = Scratch::new();
    let image = bake(&here);
    let mut deliver = page_by_page(&image);
    let elsewhere: Answer = Box::new(move |handler, address, offset| {
        if offset >= 4096 && offset.is_multiple_of(8192) {
            deliver(handler, address - 4096, offset - 4096);
        } else {
            deliver(handler, address, offset);
        }
    });
    let served = handler(here.path("handler"), elsewhere);
    let mut vm = restore_from(&here.path("handler"), &image, &["--pages-timeout", "500ms"]);
    vm.send("verify");
    let done = vm.wait_exit();
    assert!(!done.stdout.contains("bad ") && !done.stdout.contains("ok verified"), "{done:?}");
    done.fails(5, &["the page at 0x", "has not delivered it within 500ms"]);
    served.join().expect("the handler has ended with its VM");
}

fn a_handler_that_delivers_nothing_loses_the_guest() {
    let here = Scratch::new();
    let image = bake(&here);
    let served = handler(here.path("handler"), Box::new(|_, _, _| {}));
    let mut vm = restore_from(&here.path("handler"), &image, &["--pages-timeout", "300ms"]);
    vm.send("verify");
    let done = vm.wait_exit();
    assert!(done.stdout.is_empty(), "{done:?}");
    done.fails(5, &["the page at 0x", "has not delivered it within 300ms"]);
    served.join().expect("the handler has ended with its VM");
}
