use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::console::*;
use super::*;

/// One answer of the fake destination.
enum Answer {
    /// A wait that ends with this.
    Wait(Result<bool, ErrorKind>),
    /// A write that takes at most so many bytes, or fails.
    Write(Result<usize, ErrorKind>),
    /// Somebody wants the vCPU threads back, while a wait goes on; then the wait is interrupted.
    StopWanted,
}

/// A destination that follows a script, and afterwards takes everything.
struct Script {
    answers: VecDeque<Answer>,
    taken: Arc<Mutex<Vec<u8>>>,
    stop_wanted: Arc<AtomicBool>,
}

impl Sink for Script {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let most = match self.answers.pop_front() {
            None => bytes.len(),
            Some(Answer::Write(answer)) => answer?,
            Some(_) => panic!("the script has no write here"),
        };
        let taken = most.min(bytes.len());
        self.taken.lock().unwrap().extend(&bytes[..taken]);
        Ok(taken)
    }

    fn wait(&mut self, timeout: Duration) -> std::io::Result<bool> {
        match self.answers.front() {
            Some(Answer::Wait(_)) => {}
            Some(Answer::StopWanted) => {
                assert!(!timeout.is_zero(), "it would have been written to and fro without end");
                self.stop_wanted.store(true, Ordering::Release);
                self.answers.pop_front();
                return Err(ErrorKind::Interrupted.into());
            }
            Some(Answer::Write(_)) | None => return Ok(true),
        }
        let Some(Answer::Wait(answer)) = self.answers.pop_front() else { unreachable!() };
        answer.map_err(Into::into)
    }
}

struct Rig {
    out: ConsoleOut,
    taken: Arc<Mutex<Vec<u8>>>,
    stop_wanted: Arc<AtomicBool>,
}

fn rig(answers: impl IntoIterator<Item = Answer>) -> Rig {
    let (taken, stop_wanted) = (Arc::default(), Arc::<AtomicBool>::default());
    let script = Script {
        answers: answers.into_iter().collect(),
        taken: Arc::clone(&taken),
        stop_wanted: stop_wanted.clone(),
    };
    Rig { out: ConsoleOut::over(Some(Box::new(script)), stop_wanted.clone()), taken, stop_wanted }
}

impl Rig {
    fn put(&mut self, bytes: &[u8]) {
        self.out.write_all(bytes).unwrap();
    }

    fn taken(&self) -> Vec<u8> {
        self.taken.lock().unwrap().clone()
    }
}

#[test]
fn interruptions_short_writes_and_full_pipes_lose_and_reorder_nothing() {
    let mut rig = rig([
        Answer::Wait(Err(ErrorKind::Interrupted)),
        Answer::Wait(Ok(false)),
        Answer::Write(Err(ErrorKind::Interrupted)),
        Answer::Write(Ok(1)),
        Answer::Write(Err(ErrorKind::WouldBlock)),
        Answer::Wait(Ok(true)),
        Answer::Write(Ok(2)),
    ]);
    rig.put(b"abcdef");
    assert_eq!(rig.taken(), b"abcdef");
}

#[test]
fn a_vcpu_that_is_wanted_back_keeps_its_bytes_and_they_go_first_later() {
    let mut rig = rig([
        Answer::Write(Ok(1)),
        Answer::StopWanted,
        Answer::Wait(Ok(false)),
        Answer::Wait(Ok(false)),
        Answer::Write(Ok(1)),
    ]);
    rig.put(b"abc");
    rig.put(b"d");
    assert_eq!(rig.taken(), b"a", "it came back although nobody reads");
    // A third byte while the stop is still wanted, and the reader has taken some: first in, first out.
    rig.put(b"e");
    assert_eq!(rig.taken(), b"abcde");
    rig.stop_wanted.store(false, Ordering::Release);
    rig.put(b"f");
    assert_eq!(rig.taken(), b"abcdef");
}

#[test]
fn what_was_kept_is_flushed_on_request_stop_or_no_stop() {
    let mut rig = rig([Answer::Wait(Ok(false)), Answer::Wait(Ok(false)), Answer::Wait(Ok(false))]);
    rig.stop_wanted.store(true, Ordering::Release);
    rig.put(b"a");
    rig.put(b"b");
    assert_eq!(rig.out.drain(Duration::ZERO), 2, "nobody reads and there is no patience");
    assert_eq!(rig.out.drain(Duration::from_secs(1)), 0);
    assert_eq!(rig.taken(), b"ab");
}

#[test]
fn a_flush_ends_when_its_patience_does() {
    let mut rig = rig(std::iter::repeat_with(|| Answer::Wait(Ok(false))).take(1_000_000));
    rig.stop_wanted.store(true, Ordering::Release);
    rig.put(b"a");
    assert_eq!(rig.out.drain(Duration::from_millis(2)), 1);
}

#[test]
fn a_console_that_fails_goes_silent_and_the_guest_goes_on() {
    for failure in [
        Answer::Write(Err(ErrorKind::BrokenPipe)),
        Answer::Write(Err(ErrorKind::StorageFull)),
        Answer::Write(Ok(0)),
    ] {
        let mut rig = rig([Answer::Write(Ok(1)), failure]);
        rig.put(b"abc");
        rig.put(b"def");
        assert_eq!(rig.taken(), b"a");
        assert_eq!(rig.out.drain(Duration::from_secs(1)), 0, "nothing is kept for nobody");
    }
}

#[test]
fn a_tap_sees_every_byte_even_of_a_silent_console() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let tap = move |byte| {
        log.lock().unwrap().push(byte);
        Effect::Continue
    };
    let mut out = ConsoleOut::null().with_tap(Box::new(tap));
    out.write_all(b"quiet").unwrap();
    assert_eq!(*seen.lock().unwrap(), b"quiet");
    assert_eq!(out.take_effect(), Effect::Continue);
}

#[test]
fn a_regular_file_gets_the_bytes_as_they_come() {
    let mut file = tempfile::tempfile().unwrap();
    let mut out = ConsoleOut::descriptor(file.try_clone().unwrap(), Arc::default()).unwrap();
    for byte in b"first light" {
        out.write_all(&[*byte]).unwrap();
    }
    file.rewind().unwrap();
    let mut read = String::new();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, "first light");
}

/// A real descriptor, blocking and not, whose reader is slower than the guest.
#[test]
fn a_slow_reader_gets_everything_in_order() {
    for nonblocking in [false, true] {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(nonblocking).unwrap();
        let mut out = ConsoleOut::descriptor(File::from(OwnedFd::from(writer)), Arc::default()).unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let read = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        for chunk in sent.chunks(4099) {
            out.write_all(chunk).unwrap();
        }
        drop(out);
        assert!(read.join().unwrap() == sent);
    }
}

/// Nobody reads, nobody signals: the wish to stop alone ends the wait.
#[test]
fn a_blocked_writer_comes_back_without_a_signal() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let (stop_wanted, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut out = ConsoleOut::descriptor(File::from(OwnedFd::from(writer)), stop_wanted.clone()).unwrap();
    let guest = {
        let (stop_wanted, sent) = (stop_wanted.clone(), sent.clone());
        std::thread::spawn(move || {
            while !stop_wanted.load(Ordering::Acquire) {
                out.write_all(&[b'x'; 100]).unwrap();
                sent.fetch_add(100, Ordering::Release);
            }
            out
        })
    };
    // It gets nowhere: blocked.
    let (mut before, mut still) = (0, 0);
    while still < 5 {
        std::thread::sleep(Duration::from_millis(5));
        let now = sent.load(Ordering::Acquire);
        still = if now == before && now > 0 { still + 1 } else { 0 };
        before = now;
    }
    stop_wanted.store(true, Ordering::Release);
    let mut out = guest.join().unwrap();

    // And what it could not write was kept.
    let total = sent.load(Ordering::Acquire);
    let read = std::thread::spawn(move || reader.read_exact(&mut vec![0; total]));
    assert_eq!(out.drain(Duration::from_secs(10)), 0);
    read.join().unwrap().unwrap();
}

#[test]
fn a_reader_that_is_gone_silences_the_console() {
    let (reader, writer) = UnixStream::pair().unwrap();
    let mut out = ConsoleOut::descriptor(File::from(OwnedFd::from(writer)), Arc::default()).unwrap();
    drop(reader);
    out.write_all(b"anybody?").unwrap();
    assert_eq!(out.drain(Duration::ZERO), 0);
}
