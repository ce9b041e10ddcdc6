//! VMs that are not ours, on a kernel that has `UFFDIO_POISON` and on one that has not.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::peer::{Peer, peer_test::sleeper};
use super::super::{Options, receive};
use super::*;
use crate::fault::Grain;
use crate::image::Served;
use crate::stats::Metrics;
use crate::testing::{Memory as Guest, Pattern, hand_over};

const LEN: u64 = 1 << 20;
/// The first page that cannot be read.
const LOST: usize = 0x4_3000;
const SOON: Duration = Duration::from_millis(300);

/// A session of a guest that does not say whose it is, and that guest's end of the connection.
fn session(guest: &Guest) -> (Session, UnixStream) {
    let source = Pattern { len: LEN, zero: 0, fails_from: LOST as u64 };
    let image = Served::of_parts(None, Arc::new(source), None);
    let (ours, theirs) = UnixStream::pair().unwrap();
    hand_over(&theirs, guest, None).unwrap();
    let received = receive(ours, SOON).unwrap();
    let options = Options { grain: Grain::single(), ..Options::default() };
    let stats = Metrics::new().unwrap().of_session("test", "image");
    (Session::new(received, &[image], &options, stats).unwrap(), theirs)
}

/// Lets everybody go who waits, also if a test fails: the threads of a scope are waited for.
struct Release<'a>(&'a Guest);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// What is readable once the server is to end: now.
fn stop() -> (UnixStream, UnixStream) {
    let (stop, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"now").unwrap();
    (stop, end)
}

#[test]
fn this_kernel_is_asked_whether_it_can_poison() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let (session, _theirs) = session(&guest);
    // Its answer is that of the request itself.
    let poisons = session.deliverer.memory().poison(guest.mapping(0).address, 4096).is_ok();
    assert_eq!(session.deliverer.memory().can_poison(), poisons);
}

#[test]
fn a_vm_that_loses_a_page_is_served_the_rest() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let (session, theirs) = session(&guest);
    if !session.deliverer.memory().can_poison() {
        return;
    }
    thread::scope(|scope| {
        let _release = Release(&guest);
        let end = scope.spawn(move || session.run(None::<&UnixStream>));
        assert_eq!(guest.byte(0), 1);
        assert!(guest.populate(LOST, 4096).is_err());
        assert_eq!(guest.byte(0x4_2000), 0x43);
        drop(theirs);
        let End::Lost(lost) = end.join().unwrap() else { panic!("a page was lost") };
        assert!(lost.to_string().contains("0x43000"), "{lost}");
    });
}

/// Its process goes before its memory is let go, so nobody ever reads zeros there.
#[test]
fn without_poison_a_vm_that_loses_a_page_is_ended() {
    for drains in [false, true] {
        let guest = Guest::new(LEN as usize, 4096).unwrap();
        let (mut session, _theirs) = session(&guest);
        let mut child = sleeper();
        session.deliverer.lack_poison();
        session.peer = Some(Arc::new(Peer::of_child(&child)));
        let (stop, _end) = stop();
        thread::scope(|scope| {
            let _release = Release(&guest);
            // As a vCPU would: it waits until the memory is let go.
            let touching = (!drains).then(|| scope.spawn(|| guest.populate(LOST, 4096)));
            let end = if drains { session.run(Some(&stop)) } else { session.run(None::<&UnixStream>) };
            assert!(matches!(end, End::Lost(_)), "{end:?}");
            assert!(child.try_wait().unwrap().is_some(), "it runs on");
            drop(touching);
        });
    }
}

/// Nothing can be done to it: it waits, and the server with it.
#[test]
fn without_poison_a_vm_that_cannot_be_ended_is_not_let_go() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let (mut session, theirs) = session(&guest);
    session.deliverer.lack_poison();
    let (stop, _end) = stop();
    thread::scope(|scope| {
        let release = Release(&guest);
        let session = scope.spawn(move || session.run(Some(&stop)));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !guest.is_there(LOST - 4096) {
            assert!(Instant::now() < deadline, "what can be had does not come");
            thread::sleep(Duration::from_millis(1));
        }
        let touching = scope.spawn(|| guest.populate(LOST, 4096));
        thread::sleep(SOON);
        assert!(!touching.is_finished(), "it goes on with zeros");
        assert!(!session.is_finished(), "it was let go");
        // Its end is the session's.
        drop(theirs);
        assert!(matches!(session.join().unwrap(), End::Lost(_)));
        drop(release);
        touching.join().unwrap().unwrap();
    });
}
