use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::thread;

use snapshot_format::WorkingSet;
use snapshot_format::handoff::{FromServer, Hello, Mapping, VERSION};
use snapshot_format::pages::PageCount;
use snapshot_format::working_set::Run;

use super::*;
use crate::inline;
use crate::testing::{Memory as Guest, Pattern, encoded, hand_over, send};

const ID: [u8; 16] = [0xab; 16];
const LEN: u64 = 1 << 20;
const SOON: Duration = Duration::from_millis(300);

fn image(id: Option<[u8; 16]>, len: u64) -> Arc<Served> {
    Served::of_parts(id, Arc::new(Pattern { len, zero: 0, fails_from: u64::MAX }), None)
}

fn hello() -> Hello {
    let image_id = "ab".repeat(16);
    Hello {
        version: VERSION,
        image_id,
        prefetch: true,
        record: false,
        write_protect: None,
        acknowledge: false,
        zeros: false,
    }
}

/// What a connection comes to on which `say` was said.
fn received(say: impl FnOnce(&UnixStream)) -> Result<Handshake, Error> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    say(&theirs);
    receive(ours, SOON).map(|received| received.handshake)
}

#[test]
fn a_handshake_may_come_in_pieces() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let bytes = encoded(vec![guest.mapping(0)], None);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            send(&theirs, &bytes[..10], &[guest.uffd()]).unwrap();
            for byte in &bytes[10..] {
                theirs.write_all(&[*byte]).unwrap();
            }
        });
        let received = receive(ours, Duration::from_secs(10)).unwrap();
        assert_eq!(received.handshake.mappings, [guest.mapping(0)]);
    });
}

#[test]
fn what_is_no_handshake_is_refused_in_time() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let good = encoded(vec![guest.mapping(0)], None);
    let null = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(received(|_| {}), Err(Error::Late { .. })));
    let half = |socket: &UnixStream| send(socket, &good[..20], &[guest.uffd()]).unwrap();
    assert!(matches!(received(half), Err(Error::Late { .. })));
    let garbage = |socket: &UnixStream| send(socket, b"GET / HTTP/1.1\r\n", &[]).unwrap();
    assert!(matches!(received(garbage), Err(Error::Handshake(_))));
    let bare = |socket: &UnixStream| send(socket, &good, &[]).unwrap();
    assert!(matches!(received(bare), Err(Error::Descriptors { count: 0 })));
    let many =
        |socket: &UnixStream| send(socket, &good, &[guest.uffd(), null.as_fd(), guest.uffd()]).unwrap();
    assert!(matches!(received(many), Err(Error::Descriptors { count: 3 })));
    // Not when all has come: until then they would be everybody's loss.
    let one_by_one = |socket: &UnixStream| {
        good[..20].iter().for_each(|byte| send(socket, &[*byte], &[null.as_fd()]).unwrap());
    };
    assert!(matches!(received(one_by_one), Err(Error::Descriptors { count: 2 })));
    let wrong = |socket: &UnixStream| send(socket, &good, &[null.as_fd()]).unwrap();
    assert!(matches!(received(wrong), Err(Error::Descriptor(_))));
    let endless = |socket: &UnixStream| {
        let mut bytes = vec![b' '; 2 * MAX_BYTES];
        bytes[0] = b'[';
        send(socket, &bytes, &[]).unwrap();
    };
    assert!(matches!(received(endless), Err(Error::TooLong { .. })));
    let gone = |socket: &UnixStream| {
        send(socket, &good[..5], &[]).unwrap();
        socket.shutdown(std::net::Shutdown::Both).unwrap();
    };
    assert!(matches!(received(gone), Err(Error::Closed { len: 5 })));
}

#[test]
fn an_image_is_found_by_its_name_or_its_length() {
    let served =
        [image(Some(ID), LEN), image(None, 2 * LEN), image(Some([1; 16]), 3 * LEN), image(None, 3 * LEN)];
    let mapping = |len| Mapping { address: 1 << 40, len, offset: 0, page_bytes: 4096 };
    let choose = |len, hello| {
        let handshake = Handshake { mappings: vec![mapping(len)], hello };
        choose(&handshake, &served).map(|image| image.source().len())
    };
    assert_eq!(choose(LEN, Some(hello())).unwrap(), LEN);
    // A part of it is as good.
    assert_eq!(choose(LEN / 2, Some(hello())).unwrap(), LEN);
    assert_eq!(choose(2 * LEN, None).unwrap(), 2 * LEN);
    assert!(matches!(choose(2 * LEN, Some(hello())), Err(Error::Beyond { .. })));
    assert!(matches!(choose(3 * LEN, None), Err(Error::Which { fitting: 2, .. })));
    assert!(matches!(choose(4 * LEN, None), Err(Error::Which { fitting: 0, .. })));
    let other = Hello { image_id: "00".repeat(16), ..hello() };
    assert!(matches!(choose(LEN, Some(other)), Err(Error::NoSuchImage { .. })));
}

/// One of ours is told; its memory stays as it is.
#[test]
fn who_is_refused_is_told_why() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = inline::serve(ours, image(Some([1; 16]), LEN), Options::default()).unwrap();
    hand_over(&theirs, &guest, Some(hello())).unwrap();
    let mut said = Vec::new();
    theirs.read_to_end(&mut said).unwrap();
    server.join().unwrap();
    let said = FromServer::parse(said.trim_ascii_end()).unwrap();
    assert!(matches!(said, FromServer::Refused { cause } if cause.contains("no image `abab")));
    assert!(!guest.is_there(0));
}

/// Whatever is wrong with it, if it is one of ours.
#[test]
fn who_hands_over_the_wrong_things_is_told_why() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let later = encoded(vec![guest.mapping(0)], Some(Hello { version: VERSION + 1, ..hello() }));
    let bare = encoded(vec![guest.mapping(0)], Some(hello()));
    for (bytes, descriptors, why) in [(later, vec![guest.uffd()], "version"), (bare, vec![], "0 descriptors")]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        send(&theirs, &bytes, &descriptors).unwrap();
        assert!(receive(ours, SOON).is_err());
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).unwrap();
        let said = FromServer::parse(said.trim_ascii_end()).unwrap();
        assert!(matches!(&said, FromServer::Refused { cause } if cause.contains(why)), "{said:?}");
    }
}

#[test]
fn a_session_serves_and_ends_with_its_vm() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = inline::serve(ours, image(Some(ID), LEN), Options::default()).unwrap();
    hand_over(&theirs, &guest, Some(hello())).unwrap();
    for page in 0..256 {
        assert_eq!(guest.byte(page * 4096), (page % 255) as u8 + 1);
    }
    drop(theirs);
    server.join().unwrap();
}

#[test]
fn a_page_that_is_lost_is_told_and_where() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let source = Pattern { len: LEN, zero: 0, fails_from: 0x4_0000 };
    let image = Served::of_parts(Some(ID), Arc::new(source), None);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = inline::serve(ours, image, Options::default()).unwrap();
    hand_over(&theirs, &guest, Some(hello())).unwrap();
    assert_eq!(guest.byte(0x3_f000), 0x40);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| guest.populate(0x4_0000, 4096));
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).unwrap();
        let said = FromServer::parse(said.trim_ascii_end()).unwrap();
        let FromServer::Lost { offset: 0x4_0000, cause } = said else { panic!("{said:?}") };
        assert!(cause.contains("the test wants it so"), "{cause}");
        // Whoever waits is left waiting, and not with zeros: what becomes of it is the VMM's to say.
        assert!(!stuck.is_finished());
        guest.release();
        let _ = stuck.join();
    });
    server.join().unwrap();
}

/// A VMM that is not ours goes on without a server: with the pages that could be had, and with no zeros for the others.
#[test]
fn a_drain_that_cannot_have_every_page_leaves_nobody_waiting() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let source = Pattern { len: LEN, zero: 0, fails_from: 0x4_3000 };
    let image = Served::of_parts(None, Arc::new(source), None);
    let (ours, theirs) = UnixStream::pair().unwrap();
    hand_over(&theirs, &guest, None).unwrap();
    let received = receive(ours, SOON).unwrap();
    let stats = crate::stats::Metrics::new().unwrap().of_session("test", "image");
    let session = Session::new(received, &[image], &Options::default(), stats).unwrap();
    let (stop, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"now").unwrap();
    assert!(matches!(session.run(Some(&stop)), crate::session::End::Lost(_)));
    assert_eq!([guest.byte(0), guest.byte(0x4_2000)], [1, 0x43]);
    for lost in [0x4_3000, 0x4_4000, LEN as usize - 4096] {
        assert!(guest.populate(lost, 4096).is_err(), "{lost:#x}");
    }
}

/// The descriptor is the VMM's as well as the server's, and so is whether it blocks.
#[test]
fn a_vm_cannot_make_its_session_outlive_it() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = inline::serve(ours, image(Some(ID), LEN), Options::default()).unwrap();
    hand_over(&theirs, &guest, Some(hello())).unwrap();
    assert_eq!(guest.byte(0), 1);
    rustix::fs::fcntl_setfl(guest.uffd(), rustix::fs::OFlags::empty()).unwrap();
    // It looks once more, and finds nothing.
    theirs.set_nonblocking(true).unwrap();
    (&theirs).write_all(b"?").unwrap();
    thread::sleep(Duration::from_millis(50));
    drop(theirs);
    let late = Instant::now() + Duration::from_secs(5);
    while !server.is_finished() {
        assert!(Instant::now() < late);
        thread::sleep(Duration::from_millis(5));
    }
}

/// What comes ahead waits for the guest to run, and then does not wait to be asked for.
#[test]
fn a_working_set_comes_with_the_first_fault() {
    let guest = Guest::new(LEN as usize, 4096).unwrap();
    let runs = [(100, 30), (10, 5)].map(|(first, pages)| Run { first, pages, written: false }).to_vec();
    let set = WorkingSet::new(ID, runs, PageCount::from_bytes(LEN).unwrap()).unwrap();
    let image =
        Served::of_parts(Some(ID), Arc::new(Pattern { len: LEN, zero: 0, fails_from: u64::MAX }), Some(set));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let options = Options { grain: Grain::single(), ..Options::default() };
    let server = inline::serve(ours, image, options).unwrap();
    hand_over(&theirs, &guest, Some(hello())).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(!guest.is_there(100 * 4096), "nobody has asked yet");
    assert_eq!(guest.byte(200 * 4096), 201);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !(10..15).chain(100..130).all(|page| guest.is_there(page * 4096)) {
        assert!(Instant::now() < deadline, "the set does not come");
        thread::yield_now();
    }
    assert!(!guest.is_there(9 * 4096) && !guest.is_there(130 * 4096), "nor does what is not in it");
    drop(theirs);
    server.join().unwrap();
}
