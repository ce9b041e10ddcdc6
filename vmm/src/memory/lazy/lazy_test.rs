use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use snapshot_format::MemoryIndex;
use snapshot_format::handoff::FromServer;
use snapshot_format::pages::{ChunkSums, FileOffset, Gpa, PageCount};
use std::io::Write;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::*;
use crate::lifecycle::Quiesced;
use crate::memory::{Image, Memory, give_back};
use crate::sys::page_stub::{self, Taken};
use crate::sys::ram::Access;

pub(super) const MIB: u64 = 1 << 20;
/// Where the second region lies.
pub(super) const HIGH: u64 = 16 * MIB;
/// In the memory file as well.
const FILE: u64 = 6 * MIB;
/// The chunk from here on is zeros.
const ZEROS: u64 = 2 * MIB;
const SOON: Duration = Duration::from_millis(300);

pub(super) fn page_at(offset: u64) -> [u8; 4096] {
    if (ZEROS..ZEROS + 2 * MIB).contains(&offset) {
        [0; 4096]
    } else {
        [(offset / 4096 % 250) as u8 + 1; 4096]
    }
}

/// 4 MiB at 0 and 2 MiB at [`HIGH`].
fn index() -> MemoryIndex {
    let region = |at, bytes, offset| {
        let (at, pages) = (Gpa::new(at).unwrap(), PageCount::from_bytes(bytes).unwrap());
        Region::new(at, pages, FileOffset::new(offset).unwrap()).unwrap()
    };
    let mut sums = ChunkSums::new(PageCount::from_bytes(FILE).unwrap());
    for offset in (0..FILE).step_by(4096) {
        sums.add(offset / 4096, &page_at(offset)).unwrap();
    }
    MemoryIndex::new(vec![region(0, 4 * MIB, 0), region(HIGH, 2 * MIB, 4 * MIB)], sums).unwrap()
}

/// The memory file, with a hole where it is zero.
fn file_here() -> Here {
    let file = tempfile::tempfile().unwrap();
    file.set_len(FILE).unwrap();
    for offset in (0..FILE).step_by(4096).filter(|offset| page_at(*offset)[0] != 0) {
        file.write_all_at(&page_at(offset), offset).unwrap();
    }
    Here::File(Arc::new(Image::new(file, index())))
}

fn options(timeout: Duration) -> Options {
    Options { image_id: [0xab; 16], prefetch: true, record: false, timeout }
}

/// Delivers what is asked for, until told to go.
fn serve(taken: &Taken, go: &AtomicBool) {
    while !go.load(Ordering::SeqCst) {
        if let Some(offset) = taken.fault(Duration::from_millis(5)) {
            taken.deliver(offset, &page_at(offset));
        }
    }
}

/// A server on a thread of its own, which ends when this is dropped.
pub(super) struct Stub {
    go: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    fn start(serve: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let go = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&go);
        Self { go, thread: Some(thread::spawn(move || serve(&told))) }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.go.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Memory whose server is `serve`, on a socket pair.
pub(super) fn served_by(
    timeout: Duration,
    serve: impl FnOnce(UnixStream, &AtomicBool) + Send + 'static,
) -> (Stub, Memory) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stub = Stub::start(move |go| serve(theirs, go));
    let server = Server { stream: ours, path: None };
    (stub, Memory::lazy(&index(), Here::Nothing, server, &options(timeout)).unwrap())
}

/// Memory whose server is `serve`, given what was handed over.
fn delivered(serve: impl FnOnce(Taken, &AtomicBool) + Send + 'static) -> (Stub, Memory) {
    served_by(Duration::from_secs(10), |stream, go| serve(page_stub::take(&stream), go))
}

pub(super) fn byte(memory: &Memory, at: u64) -> u8 {
    memory.ram().read_obj(GuestAddress(at)).unwrap()
}

/// Waits for a loss, and gives it.
pub(super) fn loss_of(memory: &Memory, within: Duration) -> Lost {
    let (loss, start) = (memory.loss().unwrap(), Instant::now());
    loop {
        if let Some(lost) = loss.get() {
            return lost.clone();
        }
        assert!(start.elapsed() < within, "nothing was lost within {within:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Nobody gets anything out of it, and nobody waits.
fn is_severed(memory: &Memory) -> bool {
    let start = Instant::now();
    let failed = memory.region(0).unwrap().populate(&(0..4096), Access::Read).is_err();
    failed && start.elapsed() < SOON
}

#[test]
fn every_page_is_what_it_was() {
    let (_stub, memory) = delivered(|taken, go| {
        let hello = taken.handshake.hello.as_ref().unwrap();
        assert_eq!((hello.image_id.as_str(), hello.prefetch), ("ab".repeat(16).as_str(), true));
        serve(&taken, go)
    });
    for offset in (0..4 * MIB).step_by(4096 * 7) {
        assert_eq!(byte(&memory, offset), page_at(offset)[0], "{offset:#x}");
    }
    assert_eq!(byte(&memory, HIGH + 5000), page_at(4 * MIB + 4096)[0]);
}

/// The pages that are asked for to see whether the server lives come one a second, and some hundred are before this one.
#[test]
fn a_page_that_is_withheld_among_many_that_come_is_found_out() {
    let withhold = |stream: UnixStream, go: &AtomicBool| {
        let taken = page_stub::take(&stream);
        while !go.load(Ordering::SeqCst) {
            match taken.fault(Duration::from_millis(5)) {
                Some(MIB) | None => {}
                Some(offset) => {
                    taken.deliver(offset, &page_at(offset));
                }
            }
        }
    };
    let (_stub, memory) = served_by(Duration::from_millis(500), withhold);
    thread::scope(|scope| {
        let stuck = scope
            .spawn(|| memory.region(0).unwrap().populate(&(MIB as usize..MIB as usize + 4096), Access::Read));
        let lost = loss_of(&memory, Duration::from_secs(20));
        assert_eq!((lost.gpa, lost.cause), (MIB, Cause::Late(Duration::from_millis(500))));
        assert!(stuck.join().unwrap().is_err(), "nobody gets a page that is lost");
    });
}

#[test]
fn what_is_zero_in_the_image_is_asked_of_nobody() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let _stub = Stub::start(move |go| {
        let taken = page_stub::take(&theirs);
        while !go.load(Ordering::SeqCst) {
            // The watch asks for pages as well.
            let Some(offset) = taken.fault(Duration::from_millis(5)) else { continue };
            assert!(!(ZEROS..ZEROS + 2 * MIB).contains(&offset), "{offset:#x}");
            taken.deliver(offset, &page_at(offset));
        }
    });
    let server = Server { stream: ours, path: None };
    let memory = Memory::lazy(&index(), file_here(), server, &options(Duration::from_secs(10))).unwrap();
    assert_eq!([ZEROS, ZEROS + 2 * MIB - 1].map(|at| byte(&memory, at)), [0, 0]);
    memory.ram().write_obj(7_u8, GuestAddress(ZEROS)).unwrap();
    assert_eq!(byte(&memory, ZEROS), 7);
}

#[test]
fn what_was_given_back_is_zero_whoever_delivers_it() {
    let (_stub, memory) = delivered(|taken, go| {
        while !go.load(Ordering::SeqCst) {
            if let Some(offset) = taken.fault(Duration::from_millis(5)) {
                taken.deliver(offset, &page_at(offset));
                // It has not heard of anything.
                taken.deliver(MIB, &page_at(MIB));
            }
        }
    });
    assert_ne!(byte(&memory, MIB + 4096), 0);
    assert_eq!(give_back(memory.ram(), MIB..MIB + 8192).unwrap(), 8192);
    assert_eq!(byte(&memory, HIGH), page_at(4 * MIB)[0]);
    assert_eq!([MIB, MIB + 4096].map(|at| byte(&memory, at)), [0, 0]);
    assert_eq!(byte(&memory, MIB + 8192), page_at(MIB + 8192)[0]);
    // It can be given back again.
    memory.ram().write_obj(7_u8, GuestAddress(MIB)).unwrap();
    assert_eq!(give_back(memory.ram(), MIB..MIB + 4096).unwrap(), 4096);
    assert_eq!(byte(&memory, MIB), 0);
}

#[test]
fn a_snapshot_without_the_file_has_everything_brought_in() {
    let (_stub, memory) = delivered(|taken, go| serve(&taken, go));
    give_back(memory.ram(), MIB..MIB + 4096).unwrap();
    let own = memory.own_pages(&Quiesced::in_test(), &|| true).unwrap();
    let bytes: usize = own.data.iter().map(|run| run.bytes.len()).sum();
    assert_eq!(bytes as u64, FILE - 4096);
    let zeros: usize = memory.given_back(&Quiesced::in_test()).iter().map(|run| run.bytes.len()).sum();
    assert_eq!(zeros as u64, 4096);
    assert!(memory.base().is_none());
}

#[test]
fn once_every_page_is_there_the_server_may_go() {
    let (stub, memory) = served_by(Duration::from_millis(500), |mut stream, go| {
        let taken = page_stub::take(&stream);
        for offset in (0..FILE).step_by(4096) {
            taken.deliver(offset, &page_at(offset));
        }
        stream.write_all(&FromServer::Complete.encode()).unwrap();
        serve(&taken, go);
    });
    let start = Instant::now();
    while !matches!(memory.completeness(), Some(true)) {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(5));
    }
    drop(stub);
    thread::sleep(SOON);
    assert!(memory.loss().unwrap().get().is_none());
    assert_eq!(byte(&memory, HIGH), page_at(4 * MIB)[0]);
    // Nothing is below any more, however often it is given back.
    assert_eq!(give_back(memory.ram(), MIB..MIB + 4096).unwrap(), 4096);
    assert_eq!(byte(&memory, MIB), 0);
}

#[test]
fn a_server_that_says_complete_and_is_not_is_asked_for_the_rest() {
    let (_stub, memory) = served_by(Duration::from_secs(10), |mut stream, go| {
        let taken = page_stub::take(&stream);
        stream.write_all(&FromServer::Complete.encode()).unwrap();
        serve(&taken, go);
    });
    let start = Instant::now();
    while !matches!(memory.completeness(), Some(true)) {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(byte(&memory, 0x5000), page_at(0x5000)[0]);
}

#[test]
fn a_server_that_is_gone_takes_memory_along() {
    let (_stub, memory) = delivered(|taken, _| drop(taken));
    let lost = loss_of(&memory, SOON);
    assert_eq!(lost, Lost { gpa: 0, cause: Cause::Gone });
    assert!(is_severed(&memory));
}

#[test]
fn a_server_that_says_nothing_is_found_out_and_nobody_waits_for_ever() {
    let limit = Duration::from_millis(400);
    let (_stub, memory) = served_by(limit, |stream, go| {
        let _taken = page_stub::take(&stream);
        while !go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let start = Instant::now();
    thread::scope(|scope| {
        // As a vCPU would.
        let waits = scope.spawn(|| memory.region(1).unwrap().populate(&(0..4096), Access::Write));
        let lost = loss_of(&memory, Duration::from_secs(5));
        assert_eq!(lost, Lost { gpa: ZEROS - 4096, cause: Cause::Late(limit) });
        assert!(waits.join().unwrap().is_err());
    });
    assert!(start.elapsed() >= limit);
    assert!(is_severed(&memory));
    // A snapshot of it fails, does not wait, and says why.
    let failed = memory.own_pages(&Quiesced::in_test(), &|| true);
    assert!(
        matches!(failed, Err(crate::memory::Error::Lazy(Error::Lost(Lost { gpa: 0x1f_f000, .. })))),
        "{failed:?}"
    );
    assert!(memory.keep(&Quiesced::in_test()).is_err());
}

#[test]
fn a_page_that_the_server_has_lost_is_named() {
    let (_stub, memory) = served_by(Duration::from_secs(10), |mut stream, go| {
        let taken = page_stub::take(&stream);
        let cause = "the disk is on fire".to_owned();
        stream.write_all(&FromServer::Lost { offset: 4 * MIB + 0x3000, cause }.encode()).unwrap();
        serve(&taken, go);
    });
    let lost = loss_of(&memory, SOON);
    assert_eq!(lost, Lost { gpa: HIGH + 0x3000, cause: Cause::Told("the disk is on fire".to_owned()) });
    assert_eq!(lost.to_string(), "the page at 0x1003000 of guest memory is missing");
    assert!(is_severed(&memory));
}

#[test]
fn a_server_that_refuses_ends_it() {
    let (_stub, memory) = served_by(Duration::from_secs(10), |mut stream, _| {
        let _taken = page_stub::take(&stream);
        stream.write_all(&FromServer::Refused { cause: "unknown".to_owned() }.encode()).unwrap();
    });
    assert_eq!(loss_of(&memory, SOON).cause, Cause::Refused("unknown".to_owned()));
}

#[test]
fn nonsense_is_the_end_of_a_server() {
    let (_stub, memory) = served_by(Duration::from_secs(10), |mut stream, go| {
        let taken = page_stub::take(&stream);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        serve(&taken, go);
    });
    assert_eq!(loss_of(&memory, SOON).cause, Cause::Gone);
}

/// A server at `path` that takes one VM and ends with its connection when told.
fn listen(path: &Path, behave: fn(&Taken, &AtomicBool)) -> Stub {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    Stub::start(move |go| {
        let (stream, _) = listener.accept().unwrap();
        let taken = page_stub::take(&stream);
        behave(&taken, go);
    })
}

#[test]
fn a_server_that_never_stops_talking_keeps_nobody() {
    let limit = Duration::from_millis(400);
    let endless = |mut stream: UnixStream, go: &AtomicBool| {
        let _taken = page_stub::take(&stream);
        let line = FromServer::Complete.encode().repeat(1000);
        while !go.load(Ordering::SeqCst) && stream.write_all(&line).is_ok() {}
    };
    let (stub, memory) = served_by(limit, endless);
    assert_eq!(loss_of(&memory, Duration::from_secs(5)).cause, Cause::Late(limit));
    drop((memory, stub));

    let (stub, memory) = served_by(Duration::from_secs(60), endless);
    thread::sleep(SOON);
    let start = Instant::now();
    drop(memory);
    assert!(start.elapsed() < SOON);
    drop(stub);
}

#[test]
fn what_is_read_at_length_is_not_taken_away_meanwhile() {
    let (stub, memory) = delivered(|taken, go| serve(&taken, go));
    assert_eq!(byte(&memory, 0), page_at(0)[0]);
    let at_rest = Quiesced::in_test();
    let kept = memory.keep(&at_rest).unwrap();
    drop(stub);
    loss_of(&memory, Duration::from_secs(5));
    assert_eq!(byte(&memory, 0), page_at(0)[0]);
    drop(kept);
    thread::sleep(SOON);
    assert!(is_severed(&memory));
}

#[test]
fn who_waits_for_a_page_is_let_go_when_the_vm_ends() {
    let hang = |stream: UnixStream, go: &AtomicBool| {
        let taken = page_stub::take(&stream);
        taken.deliver(0, &page_at(0));
        while !go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let (_stub, mut memory) = served_by(Duration::from_secs(60), hang);
    thread::scope(|scope| {
        let ram = memory.ram().clone();
        let start = Instant::now();
        // As the kernel would on KVM's behalf.
        let waits = scope.spawn(move || ram.iter().nth(1).unwrap().populate(&(0..4096), Access::Write));
        thread::sleep(SOON);
        memory.let_go();
        assert!(waits.join().unwrap().is_ok());
        assert!(start.elapsed() < 3 * SOON);
    });
}

#[test]
fn who_waits_for_a_page_is_cut_off_where_it_cannot_be_told_to_stop() {
    let hang = |stream: UnixStream, go: &AtomicBool| {
        let _taken = page_stub::take(&stream);
        while !go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let (_stub, memory) = served_by(Duration::from_secs(60), hang);
    let knife = memory.knife().unwrap();
    assert!(knife.may_be_needed());
    thread::scope(|scope| {
        let waits = scope.spawn(|| memory.region(1).unwrap().populate(&(0..4096), Access::Write));
        thread::sleep(SOON);
        knife.cut();
        assert!(waits.join().unwrap().is_err());
    });
    assert!(memory.loss().unwrap().get().is_none());
    assert!(is_severed(&memory));
}

#[test]
fn another_server_takes_over_and_what_the_first_left_unanswered_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    // Reads the first fault, and dies with it.
    let first = listen(&path, |taken, _| while taken.fault(Duration::from_millis(5)).is_none() {});
    let server = Server::connect(path.clone(), Duration::ZERO, |_| ()).unwrap();
    let memory = Memory::lazy(&index(), Here::Nothing, server, &options(Duration::from_secs(10))).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| byte(&memory, HIGH));
        drop(first);
        thread::sleep(SOON);
        let _second = listen(&path, serve);
        assert_eq!(waits.join().unwrap(), page_at(4 * MIB)[0]);
        assert_eq!(byte(&memory, 0x7000), page_at(0x7000)[0]);
    });
}

/// As a server does that has as many VMs as it may have.
#[test]
fn a_server_that_hangs_up_before_the_handshake_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::connect(path.clone(), Duration::ZERO, |_| ()).unwrap();
    drop(listener.accept().unwrap());
    drop(listener);
    let _second = listen(&path, serve);
    let memory = Memory::lazy(&index(), Here::Nothing, server, &options(Duration::from_secs(10))).unwrap();
    assert_eq!(byte(&memory, HIGH), page_at(4 * MIB)[0]);
}

#[test]
fn a_server_that_does_not_come_back_is_not_waited_for_beyond_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let first = listen(&path, |_, _| ());
    let server = Server::connect(path.clone(), Duration::ZERO, |_| ()).unwrap();
    let limit = Duration::from_millis(400);
    let start = Instant::now();
    let memory = Memory::lazy(&index(), Here::Nothing, server, &options(limit)).unwrap();
    drop(first);
    assert_eq!(loss_of(&memory, Duration::from_secs(5)).cause, Cause::NotReplaced(limit));
    assert!(start.elapsed() >= limit);
    assert!(matches!(Server::connect(path, Duration::ZERO, |_| ()), Err(Error::Connect { .. })));
}

#[test]
fn the_end_of_a_vm_waits_for_no_server() {
    let (_stub, memory) = served_by(Duration::from_secs(60), |stream, go| {
        let _taken = page_stub::take(&stream);
        while !go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    });
    // By then a page is being asked for.
    thread::sleep(SOON);
    let start = Instant::now();
    drop(memory);
    assert!(start.elapsed() < SOON);
}
