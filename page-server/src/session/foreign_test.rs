//! VMs that are not ours, and a server that ends while their sessions are busy.

use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use rustix::io::Errno;

use super::super::peer::peer_test::sleeper;
use super::super::{End, Options, Session, receive};
use super::*;
use crate::image::Served;
use crate::source::{Error, PageSource};
use crate::stats::Metrics;
use crate::testing::{Memory as Guest, Pattern, hand_over};

const LEN: u64 = 4 << 20;
const SOON: Duration = Duration::from_secs(10);

/// No read of the first 64 KiB comes before it may.
#[derive(Debug)]
struct Stuck(Pattern, Arc<AtomicBool>);

impl PageSource for Stuck {
    fn len(&self) -> u64 {
        self.0.len
    }

    fn zeros(&self, _: u64) -> u64 {
        0
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        while offset < 0x1_0000 && !self.1.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        self.0.read(offset, buffer)
    }
}

/// A session of a guest that does not say whose it is, in the middle of its drain, and what the end of the server knows of it.
struct Busy {
    foreign: Foreign,
    session: JoinHandle<End>,
    may_go: Arc<AtomicBool>,
    _theirs: UnixStream,
}

fn busy(guest: &Guest) -> Busy {
    let may_go = Arc::new(AtomicBool::new(false));
    let source = Stuck(Pattern { len: LEN, zero: 0, fails_from: u64::MAX }, Arc::clone(&may_go));
    let image = Served::of_parts(None, Arc::new(source), None);
    let (ours, theirs) = UnixStream::pair().unwrap();
    hand_over(&theirs, guest, None).unwrap();
    let received = receive(ours, SOON).unwrap();
    let foreign = received.foreign().expect("it is not ours");
    let stats = Metrics::new().unwrap().of_session("test", "image");
    let session = Session::new(received, &[image], &Options::default(), stats).unwrap();
    let (stop, end) = UnixStream::pair().unwrap();
    drop(end);
    let session = thread::spawn(move || session.run(Some(&stop)));
    Busy { foreign, session, may_go, _theirs: theirs }
}

#[test]
fn what_is_missing_when_the_server_ends_is_poisoned_and_never_placed_any_more() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let Busy { foreign, session, may_go, _theirs } = busy(&guest);
    if !foreign.memory.can_poison() {
        may_go.store(true, Ordering::SeqCst);
        return;
    }
    let foreigners = Foreigners::default();
    foreigners.expect();
    foreigners.enter(1, Some(foreign));
    let start = Instant::now();
    foreigners.forsake_all();
    assert!(start.elapsed() < SOON, "it waits for the session");
    for at in [0, 0xf000, 0x1_0000, LEN as usize - 4096] {
        assert!(guest.is_there(at) || guest.populate(at, 4096).is_err(), "zeros at {at:#x}");
    }
    assert!(guest.populate(0, 4096).is_err(), "the page that is being read is not lost");
    // Its read comes after all, and its page is nobody's.
    may_go.store(true, Ordering::SeqCst);
    assert!(matches!(session.join().unwrap(), End::VmGone));
    assert!(guest.populate(0, 4096).is_err());
}

/// Its process goes while its memory is registered.
#[test]
fn without_poison_a_vm_is_ended_before_the_server_is() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let Busy { mut foreign, session, may_go, _theirs } = busy(&guest);
    let mut child = sleeper();
    foreign.memory.lacks_poison = true;
    foreign.peer = Arc::new(Peer::of_child(&child));
    let foreigners = Foreigners::default();
    foreigners.expect();
    foreigners.enter(1, Some(foreign));
    foreigners.forsake_all();
    assert!(child.try_wait().unwrap().is_some(), "it runs on");
    may_go.store(true, Ordering::SeqCst);
    session.join().unwrap();
}

#[test]
fn who_has_connected_and_was_not_known_yet_is_forsaken_as_well() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let Busy { foreign, session, may_go, _theirs } = busy(&guest);
    let can_poison = foreign.memory.can_poison();
    let foreigners = Foreigners::default();
    foreigners.expect();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(PATIENCE / 4);
            foreigners.enter(7, Some(foreign));
        });
        foreigners.forsake_all();
    });
    assert!(!can_poison || guest.populate(0, 4096).is_err());
    may_go.store(true, Ordering::SeqCst);
    session.join().unwrap();
    // Nobody is left, and one who says nothing is not waited for.
    foreigners.expect();
    let start = Instant::now();
    foreigners.forsake_all();
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_session_that_is_over_is_let_alone() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let Busy { foreign, session, may_go, _theirs } = busy(&guest);
    may_go.store(true, Ordering::SeqCst);
    let foreigners = Foreigners::default();
    foreigners.expect();
    foreigners.enter(3, Some(foreign));
    assert!(matches!(session.join().unwrap(), End::Complete));
    foreigners.leave(3);
    foreigners.forsake_all();
    guest.give_back(0, 4096).unwrap();
    assert_eq!(guest.byte(0), 0);
}

#[test]
fn memory_that_was_taken_over_is_not_placed_into_by_others() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let fd = guest.uffd().try_clone_to_owned().unwrap();
    let memory = Memory::new(fd).unwrap();
    let mut taken = memory.share();
    let at = guest.mapping(0).address;
    assert_eq!(memory.copy(at, &[7; 4096], false), Ok(4096));
    assert!(taken.take_over(Instant::now() + SOON));
    assert_eq!(memory.copy(at + 4096, &[7; 4096], false), Err(Errno::SRCH));
    assert_eq!(memory.zero(at + 4096, 4096), Err(Errno::SRCH));
    assert_eq!(memory.unregister(at, LEN), Err(Errno::SRCH));
    assert_eq!(taken.zero(at + 4096, 4096), Ok(4096));
}
