//! A stand-in for a VMM that says what Firecracker says: raw memory files, layers, pages of other sizes, and memory that is
//! given back while it is delivered.

use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use page_server::testing::{Memory, encoded, hand_over, send};
use rekindle_tests::patience::{SOON, scaled};
use rekindle_tests::{Case, HugePages, PageServer, Scratch, cases};
use rustix::process::Signal;

use crate::{HUGE, UFFD};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let small = cases!(
        "pages",
        UFFD,
        [
            a_raw_file_is_delivered_to_whoever_hands_over_memory,
            layers_are_delivered_as_one,
            regions_are_delivered_from_where_they_are_in_the_file,
            memory_that_is_given_back_is_zero_from_then_on,
            a_server_that_is_told_to_end_leaves_nobody_waiting,
            a_server_that_ends_too_early_leaves_no_zeros_in_place_of_pages,
        ]
    );
    let huge = cases!("pages", HUGE, [huge_pages_are_delivered]);
    small.into_iter().chain(huge).collect()
}

/// Memory that a server fills. What has not come within all patience becomes ordinary memory, so that a test that waits for
/// it fails and does not hang.
pub(crate) struct Guest {
    memory: Arc<Memory>,
    _in_time: mpsc::Sender<()>,
}

impl Guest {
    #[track_caller]
    pub(crate) fn new(len: usize, page: usize) -> Self {
        let memory = Arc::new(Memory::new(len, page).expect("there are memory and a userfaultfd"));
        let (in_time, ended) = mpsc::channel();
        let watched = Arc::downgrade(&memory);
        std::thread::spawn(move || {
            if ended.recv_timeout(scaled(SOON)) == Err(mpsc::RecvTimeoutError::Timeout)
                && let Some(memory) = watched.upgrade()
            {
                memory.release();
            }
        });
        Self { memory, _in_time: in_time }
    }
}

impl Deref for Guest {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

/// What a byte of page number `page` is, in a file of a `seed`. Every fifth page is zero.
pub(crate) fn byte(seed: u8, page: usize) -> u8 {
    if page.is_multiple_of(5) { 0 } else { ((page * 7 + usize::from(seed)) % 255) as u8 + 1 }
}

/// A memory file whose pages can be told from each other.
pub(crate) fn raw(here: &Scratch, name: &str, len: usize, seed: u8) -> PathBuf {
    let pages: Vec<u8> = (0..len / PAGE).flat_map(|page| [byte(seed, page); PAGE]).collect();
    here.file(name, pages)
}

/// Connects, and bounds what is read there.
pub(crate) fn connect(server: &PageServer) -> UnixStream {
    let stream = UnixStream::connect(server.socket()).expect("the server listens");
    stream.set_read_timeout(Some(scaled(SOON))).expect("a timeout can be set");
    stream
}

/// All of memory, as soon as it is there.
#[track_caller]
pub(crate) fn is_delivered(memory: &Memory, len: usize, byte: impl Fn(usize) -> u8) {
    // From the middle in both directions, so that nothing is in order from the start.
    let pages = len / PAGE;
    for page in (pages / 2..pages).chain((0..pages / 2).rev()) {
        // Where touching a page that cannot be had would be fatal to all tests.
        memory.populate(page * PAGE, PAGE).unwrap_or_else(|e| panic!("page {page} is not delivered: {e}"));
        for at in [0, 1000, PAGE - 1] {
            assert_eq!(memory.byte(page * PAGE + at), byte(page), "byte {at} of page {page}");
        }
    }
}

fn a_raw_file_is_delivered_to_whoever_hands_over_memory() {
    let here = Scratch::new();
    let file = raw(&here, "memory", 16 * MIB, 3);
    let server = PageServer::serve([&file]);
    let held = server.holdings();
    for page_by_page in [false, true] {
        let memory = Guest::new(16 * MIB, PAGE);
        let stream = connect(&server);
        if page_by_page {
            // A handshake may come in pieces.
            let bytes = encoded(vec![memory.mapping(0)], None);
            send(&stream, &bytes[..7], &[memory.uffd()]).expect("the server reads");
            send(&stream, &bytes[7..], &[]).expect("the server reads");
        } else {
            hand_over(&stream, &memory, None).expect("the server reads");
        }
        is_delivered(&memory, 16 * MIB, |page| byte(3, page));
        // The connection may end before the process does.
        drop(stream);
        server.metric_comes_to("sessions", |now| now == 0);
    }
    assert_eq!(server.metric("sessions_total"), 2);
    assert!(server.metric("faults_total") > 0 && server.metric("zeroed_bytes_total") > 0);
    server.holds_no_more_than(held);
    server.stop();
}

/// A sparse file of changes over a whole one, and another over both.
fn layers_are_delivered_as_one() {
    let here = Scratch::new();
    let len = 8 * MIB;
    let base = raw(&here, "base", len, 1);
    let layer = |name: &str, seed: u8, every: usize| {
        let path = here.path(name);
        let file = File::create(&path).expect("a scratch file can be made");
        file.set_len(len as u64).expect("it can be as long");
        for page in (0..len / PAGE).step_by(every) {
            let bytes = [byte(seed, page).max(1); PAGE];
            file.write_all_at(&bytes, (page * PAGE) as u64).expect("it can be written");
        }
        path
    };
    let (first, second) = (layer("first", 50, 3), layer("second", 90, 16));
    let joined = |paths: &[&Path]| {
        let names: Vec<&str> = paths.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        names.join("+")
    };
    let one = PageServer::serve([joined(&[&base, &first])]);
    let memory = Guest::new(len, PAGE);
    let stream = connect(&one);
    hand_over(&stream, &memory, None).expect("the server reads");
    is_delivered(
        &memory,
        len,
        |page| {
            if page.is_multiple_of(3) { byte(50, page).max(1) } else { byte(1, page) }
        },
    );
    let both = PageServer::serve([joined(&[&base, &first, &second])]);
    let memory = Guest::new(len, PAGE);
    let stream = connect(&both);
    hand_over(&stream, &memory, None).expect("the server reads");
    is_delivered(&memory, len, |page| match page {
        page if page.is_multiple_of(16) => byte(90, page).max(1),
        page if page.is_multiple_of(3) => byte(50, page).max(1),
        page => byte(1, page),
    });
    one.stop();
    both.stop();
}

/// Two regions in the opposite order, and a stretch of the file that nobody has.
fn regions_are_delivered_from_where_they_are_in_the_file() {
    let here = Scratch::new();
    let file = raw(&here, "memory", 16 * MIB, 8);
    let server = PageServer::serve([&file]);
    // One userfaultfd knows both: the second region is a part of the same memory.
    let memory = Guest::new(8 * MIB, PAGE);
    let whole = memory.mapping(0);
    let half = whole.len / 2;
    let upper = snapshot_format::handoff::Mapping { len: half, offset: 12 * MIB as u64, ..whole };
    let lower = snapshot_format::handoff::Mapping { address: whole.address + half, len: half, ..whole };
    let stream = connect(&server);
    send(&stream, &encoded(vec![upper, lower], None), &[memory.uffd()]).expect("the server reads");
    let (half, skipped) = (half as usize / PAGE, 12 * MIB / PAGE);
    is_delivered(&memory, 8 * MIB, |page| byte(8, if page < half { page + skipped } else { page - half }));
    server.stop();
}

/// While somebody else touches memory all over, in every order of giving back and touching.
fn memory_that_is_given_back_is_zero_from_then_on() {
    let here = Scratch::new();
    let len = 32 * MIB;
    let file = raw(&here, "memory", len, 11);
    let server = PageServer::serve([&file]);
    let memory = Guest::new(len, PAGE);
    let stream = connect(&server);
    hand_over(&stream, &memory, None).expect("the server reads");
    let block = 16 * PAGE;
    let blocks = len / block;
    let returned = |number: usize| number % 3 == 1;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..blocks).rev().filter(|number| !returned(*number)) {
                let page = number * block / PAGE + number % 16;
                assert_eq!(memory.byte(page * PAGE), byte(11, page));
            }
        });
        for number in (0..blocks).filter(|number| returned(*number)) {
            let start = number * block;
            let page = start / PAGE + 5;
            if number.is_multiple_of(2) {
                assert_eq!(memory.byte(page * PAGE + 7), byte(11, page));
                memory.write(page * PAGE, 0xee);
            }
            memory.give_back(start, block).expect("memory can be given back");
            for at in (start..start + block).step_by(PAGE) {
                assert_eq!(memory.byte(at + 9), 0, "{at:#x} comes back from the image");
            }
            if number.is_multiple_of(4) {
                // What is written anew and given back again.
                memory.write(start, 0xaa);
                memory.give_back(start, PAGE).expect("memory can be given back");
                assert_eq!(memory.byte(start), 0);
            }
        }
    });
    is_delivered(&memory, len, |page| if returned(page * PAGE / block) { 0 } else { byte(11, page) });
    server.stop();
    is_delivered(&memory, len, |page| if returned(page * PAGE / block) { 0 } else { byte(11, page) });
}

/// It is not ours, and cannot be told anything: all of it is there, and nobody has to deliver any more.
fn a_server_that_is_told_to_end_leaves_nobody_waiting() {
    let here = Scratch::new();
    let file = raw(&here, "memory", 64 * MIB, 2);
    let mut server = PageServer::serve([&file]);
    let memory = Guest::new(64 * MIB, PAGE);
    let stream = connect(&server);
    hand_over(&stream, &memory, None).expect("the server reads");
    assert_eq!(memory.byte(MIB), byte(2, MIB / PAGE));
    server.signal(Signal::TERM);
    let done = server.wait_exit();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(memory.is_there(64 * MIB - 6 * PAGE), "not everything was handed over");
    is_delivered(&memory, 64 * MIB, |page| byte(2, page));
    memory.give_back(0, MIB).expect("memory can be given back");
    assert_eq!(memory.byte(PAGE), 0, "ordinary memory from then on");
}

/// The server's descriptor is the last one of the memory of these two: what it has not delivered must not be zero after it.
fn a_server_that_ends_too_early_leaves_no_zeros_in_place_of_pages() {
    const LEN: usize = 64 * MIB;
    let here = Scratch::new();
    let file = raw(&here, "memory", LEN, 2);
    let mut server = PageServer::serve_with(&["--drain-timeout", "0s"], [&file]);
    let mut guests: Vec<(Memory, UnixStream)> = Vec::new();
    for _ in 0..2 {
        let mut memory = Memory::new(LEN, PAGE).expect("there are memory and a userfaultfd");
        let stream = connect(&server);
        hand_over(&stream, &memory, None).expect("the server reads");
        assert_eq!(memory.byte(MIB), byte(2, MIB / PAGE));
        memory.close();
        guests.push((memory, stream));
    }
    server.signal(Signal::TERM);
    server.wait_exit().fails(1, &["VMs had not been given all their pages", "hint: "]);
    for (memory, _stream) in &guests {
        let mut lost = 0;
        for page in 0..LEN / PAGE {
            match memory.populate(page * PAGE, PAGE) {
                Ok(()) => assert_eq!(memory.byte(page * PAGE), byte(2, page), "page {page} is made up"),
                Err(_) => lost += 1,
            }
        }
        assert!(lost > 0, "nothing was missing");
    }
}

fn huge_pages_are_delivered() {
    const HUGE_PAGE: usize = 2 * MIB;
    let here = Scratch::new();
    // Zero pages of 4 KiB in all of them, and one that is nothing else.
    let pages: Vec<u8> = (0..4 * HUGE_PAGE / PAGE)
        .flat_map(|page| [if page / 512 == 2 { 0 } else { byte(6, page) }; PAGE])
        .collect();
    let file = here.file("memory", pages);
    let server = PageServer::serve([&file]);
    let reserved = HugePages::reserve(4).expect("there were some a moment ago");
    let memory = Guest::new(4 * HUGE_PAGE, HUGE_PAGE);
    let stream = connect(&server);
    hand_over(&stream, &memory, None).expect("the server reads");
    is_delivered(&memory, 4 * HUGE_PAGE, |page| if page / 512 == 2 { 0 } else { byte(6, page) });
    memory.give_back(HUGE_PAGE, HUGE_PAGE).expect("memory can be given back");
    memory
        .populate(HUGE_PAGE, HUGE_PAGE)
        .unwrap_or_else(|e| panic!("not delivered: {e}: {}", server.story()));
    assert_eq!(memory.byte(HUGE_PAGE + PAGE), 0);
    server.stop();
    drop((memory, reserved));
}
