//! Who is served what, and what becomes of a VM of another make that is not served, or not all of it: it gets its pages or
//! fails, and never waits for nobody.

use std::fs::{self, File, FileTimes};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use page_server::testing::hand_over;
use rekindle_tests::{Case, PageServer, Scratch, cases};
use rustix::process::Signal;

use crate::UFFD;
use crate::standin::{Guest, byte, connect, is_delivered, raw};

const PAGE: usize = 4096;
const LEN: usize = 4 << 20;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        UFFD,
        [
            a_vm_beyond_the_most_waits_until_there_is_room,
            a_vm_that_has_connected_when_a_server_ends_is_given_its_pages,
            a_vm_whose_image_cannot_be_told_fails_and_does_not_wait,
            a_socket_of_one_image_serves_it_and_no_other,
            images_come_and_go_while_a_server_runs,
            a_drain_that_loses_a_page_does_not_end_well,
        ]
    )
}

/// A guest that has handed its memory over at `socket`.
#[track_caller]
fn guest_at(socket: &Path) -> (Guest, UnixStream) {
    let memory = Guest::new(LEN, PAGE);
    let stream = UnixStream::connect(socket).expect("the server listens");
    hand_over(&stream, &memory, None).expect("the server reads");
    (memory, stream)
}

fn a_vm_beyond_the_most_waits_until_there_is_room() {
    let here = Scratch::new();
    let file = raw(&here, "memory", LEN, 1);
    let server = PageServer::serve_with(&["--max-sessions", "1"], [&file]);
    let (first, stream) = guest_at(server.socket());
    assert_eq!(first.byte(PAGE), byte(1, 1));
    let (second, _stream) = guest_at(server.socket());
    std::thread::scope(|scope| {
        let touching = scope.spawn(|| second.populate(PAGE, PAGE));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!touching.is_finished() && !second.is_there(PAGE));
        drop(stream);
        touching.join().expect("it does not panic").expect("its page comes");
    });
    is_delivered(&second, LEN, |page| byte(1, page));
    assert_eq!(server.metric("refused_total"), 0);
    server.stop();
}

/// One is served, and one has handed over its memory and was not taken yet: whoever comes now finds no socket.
fn a_vm_that_has_connected_when_a_server_ends_is_given_its_pages() {
    let here = Scratch::new();
    let file = raw(&here, "memory", LEN, 2);
    let mut server = PageServer::serve_with(&["--max-sessions", "1"], [&file]);
    let (first, _first) = guest_at(server.socket());
    assert_eq!(first.byte(PAGE), byte(2, 1));
    let (second, _second) = guest_at(server.socket());
    server.signal(Signal::TERM);
    let done = server.wait_exit();
    assert_eq!(done.code, Some(0), "{done:?}");
    for memory in [&first, &second] {
        assert!(memory.is_there(LEN - 4 * PAGE), "not everything was handed over");
        is_delivered(memory, LEN, |page| byte(2, page));
    }
}

fn a_vm_whose_image_cannot_be_told_fails_and_does_not_wait() {
    let here = Scratch::new();
    let files = [("one", 1), ("two", 2)].map(|(name, seed)| raw(&here, name, LEN, seed));
    let server = PageServer::serve(&files);
    let (memory, _stream) = guest_at(server.socket());
    server.metric_comes_to("refused_total", |now| now == 1);
    for page in [0, 7, LEN / PAGE - 1] {
        let touched = memory.populate(page * PAGE, PAGE);
        assert!(touched.is_err(), "page {page} is there, or was released: {}", server.story());
    }
    server.stop();
}

/// Two images of the same size, which a VM that does not name its own could be given one for the other.
fn a_socket_of_one_image_serves_it_and_no_other() {
    let here = Scratch::new();
    let [one, two] = [("one", 1), ("two", 2)].map(|(name, seed)| raw(&here, name, LEN, seed));
    let own = here.path("own");
    let place = format!("{}={}", own.display(), two.display());
    let server = PageServer::serve_with(&["--socket", &place], [&one]);
    for (socket, seed) in [(server.socket(), 1), (&own, 2)] {
        let (memory, _stream) = guest_at(socket);
        is_delivered(&memory, LEN, |page| byte(seed, page));
    }
    server.stop();
    assert!(!own.exists(), "its socket is left");
}

/// A list is read again on SIGHUP. One that cannot be read changes nothing.
fn images_come_and_go_while_a_server_runs() {
    let here = Scratch::new();
    let [one, two] = [("one", 1), ("two", 2)].map(|(name, seed)| raw(&here, name, LEN, seed));
    let (list, own) = (here.file("list", b"# none yet\n"), here.path("own"));
    let none: [&Path; 0] = [];
    let list_option = list.to_str().expect("UTF-8");
    let mut server = PageServer::serve_with(&["--images-from", list_option], none);
    let says = |server: &mut PageServer, text: String, said: &str| {
        fs::write(&list, text).expect("it is ours");
        server.signal(Signal::HUP);
        server.says(said);
    };
    says(&mut server, one.display().to_string(), "serving on");
    let (first, _first) = guest_at(server.socket());
    assert_eq!(first.byte(PAGE), byte(1, 1));

    // The other takes its place, on a socket of its own as well.
    let text = format!("{0}\n{1}={0}\n", two.display(), own.display());
    says(&mut server, text, "serving on");
    for socket in [server.socket(), &own] {
        let (memory, _stream) = guest_at(socket);
        is_delivered(&memory, LEN, |page| byte(2, page));
    }
    says(&mut server, here.path("missing").display().to_string(), "what is served stays as it is");
    let (memory, _stream) = guest_at(&own);
    is_delivered(&memory, LEN, |page| byte(2, page));

    says(&mut server, two.display().to_string(), "not listening on");
    assert!(UnixStream::connect(&own).is_err() && !own.exists());
    // Who has an image keeps it.
    is_delivered(&first, LEN, |page| byte(1, page));
    drop(memory);
    server.stop();
}

/// The file is another one by now, and nothing vouches for its bytes.
fn a_drain_that_loses_a_page_does_not_end_well() {
    let here = Scratch::new();
    let file = raw(&here, "memory", LEN, 3);
    let mut server = PageServer::serve([&file]);
    let memory = Guest::new(LEN, PAGE);
    let stream = connect(&server);
    hand_over(&stream, &memory, None).expect("the server reads");
    assert_eq!(memory.byte(PAGE), byte(3, 1));
    let later = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(60));
    File::options().write(true).open(&file).expect("it is ours").set_times(later).expect("a time can be set");
    server.signal(Signal::TERM);
    let done = server.wait_exit();
    done.fails(1, &["are lost: 1 VM(s)", "the page at offset 0x", "was changed while it was served"]);
    assert_eq!(memory.byte(PAGE), byte(3, 1), "what was there stays");
    assert!(memory.populate(LEN - PAGE, PAGE).is_err(), "it reads zeros where a page was lost");
}
