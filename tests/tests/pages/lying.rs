//! Page servers that are none, or say what no server says.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rekindle_tests::{Case, Image, Scratch, cases};
use snapshot_format::handoff::FromServer;

use crate::KVM;
use crate::ways::{bake, restore_from, state_of};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        KVM,
        [
            a_server_that_cannot_be_reached_is_named,
            a_server_that_says_nothing_loses_the_guest,
            a_server_that_closes_at_once_loses_the_guest,
            a_server_that_talks_nonsense_loses_the_guest,
            a_server_that_lies_about_the_end_loses_the_guest,
            what_a_server_says_of_a_lost_page_is_told,
        ]
    )
}

fn a_server_that_cannot_be_reached_is_named() {
    let here = Scratch::new();
    let image = bake(&here);
    let dead = here.path("dead");
    drop(UnixListener::bind(&dead).expect("a socket can be made"));
    let file = here.file("file", "no socket");
    let long = here.path("x".repeat(200));
    for (path, why) in [
        (here.path("missing"), "No such file"),
        (dead, "Connection refused"),
        (file, "Connection refused"),
        (here.root().to_owned(), "Connection refused"),
        (long, ""),
    ] {
        let mut vm = restore_from(&path, &image, &["--pages-timeout", "300ms"]);
        let shown = path.display().to_string();
        let done = vm.wait_exit();
        assert!(done.stdout.is_empty(), "the guest has run: {done:?}");
        let said = done.fails(1, &["cannot connect to the page server at `", &shown, why]);
        assert!(said.contains("hint: start it first: `rekindle-pages serve"), "{said}");
    }
}

/// Listens at a path until the test is over, and has `answer` treat each connection.
struct Liar {
    path: std::path::PathBuf,
    /// Ends the thread at its next connection.
    _over: mpsc::Sender<()>,
}

impl Liar {
    fn start(path: &Path, mut answer: impl FnMut(UnixStream) + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a socket can be made");
        let (over, is_over) = mpsc::channel::<()>();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if matches!(is_over.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
                    return;
                }
                answer(stream);
            }
        });
        Self { path: path.to_owned(), _over: over }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let (over, _) = mpsc::channel();
        drop(std::mem::replace(&mut self._over, over));
        // It looks whether it is over when somebody comes.
        let _ = UnixStream::connect(&self.path);
    }
}

/// Restores from a liar with little patience. The guest never says a word.
#[track_caller]
fn is_lost(here: &Scratch, image: &Image, says: &[&str], answer: impl FnMut(UnixStream) + Send + 'static) {
    let path = here.path("liar");
    let liar = Liar::start(&path, answer);
    let bare = state_of(image, here, "bare");
    let mut vm = restore_from(&path, &bare, &["--pages-timeout", "300ms"]);
    let done = vm.wait_exit();
    assert!(done.stdout.is_empty(), "the guest has run: {done:?}");
    let said = done.fails(5, &["the page at 0x"]);
    for part in says {
        assert!(said.contains(part), "`{part}` is not in {said}");
    }
    drop(liar);
    std::fs::remove_dir_all(bare.path()).expect("it is ours");
    std::fs::remove_file(&path).expect("it is ours");
}

fn a_server_that_says_nothing_loses_the_guest() {
    let here = Scratch::new();
    let image = bake(&here);
    let mut kept = Vec::new();
    is_lost(&here, &image, &["has not delivered it within 300ms"], move |stream| kept.push(stream));
}

fn a_server_that_closes_at_once_loses_the_guest() {
    let here = Scratch::new();
    let image = bake(&here);
    is_lost(&here, &image, &["page server"], drop);
    // Or as soon as it has been given everything.
    is_lost(&here, &image, &["page server"], |stream| {
        let _ = page_server::testing::Handler::receive(stream);
    });
}

fn a_server_that_talks_nonsense_loses_the_guest() {
    let here = Scratch::new();
    let image = bake(&here);
    for said in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\n\n\n", b"{\"lost\":{}}\n", &[0xff; 9000], b"\"compl"]
    {
        let mut kept = Vec::new();
        is_lost(&here, &image, &["page server"], move |mut stream| {
            // It may have been hung up on already.
            let _ = stream.write_all(said);
            kept.push(stream);
        });
    }
}

/// Everything is delivered, it says, and nothing was.
fn a_server_that_lies_about_the_end_loses_the_guest() {
    let here = Scratch::new();
    let image = bake(&here);
    for stays in [true, false] {
        let mut kept = Vec::new();
        is_lost(&here, &image, &["page server"], move |mut stream| {
            let _ = stream.write_all(&FromServer::Complete.encode());
            kept.extend(Some(stream).filter(|_| stays));
        });
    }
}

/// Word for word, but for what would steer a terminal.
fn what_a_server_says_of_a_lost_page_is_told() {
    let here = Scratch::new();
    let image = bake(&here);
    let mut kept = Vec::new();
    is_lost(&here, &image, &["the page at 0x123000", "the disk is on fire"], move |mut stream| {
        let cause = "the disk is on fire\u{1b}[2J".to_owned();
        let _ = stream.write_all(&FromServer::Lost { offset: 0x12_3000, cause }.encode());
        kept.push(stream);
    });
    let mut kept = Vec::new();
    is_lost(&here, &image, &["refuses to serve this VM", "not today"], move |mut stream| {
        let _ = stream.write_all(&FromServer::Refused { cause: "not today".to_owned() }.encode());
        kept.push(stream);
    });
    // A page that no guest has: nobody is better off for the lie.
    let mut kept = Vec::new();
    is_lost(&here, &image, &["nowhere"], move |mut stream| {
        let lost = FromServer::Lost { offset: u64::MAX - 4095, cause: "nowhere".to_owned() };
        let _ = stream.write_all(&lost.encode());
        kept.push(stream);
    });
}
