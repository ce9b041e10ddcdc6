//! Who listens at a path may be a handler of another VMM, or a server of ours that says so.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use snapshot_format::MemoryIndex;
use snapshot_format::handoff::FromServer;
use snapshot_format::pages::{CHUNK_BYTES, ChunkSums, FileOffset, Gpa, PageCount};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{Image, Memory};
use crate::sys::page_stub::{self, Taken};

/// Three chunks, of which the one in the middle is zeros.
const LEN: u64 = 3 * CHUNK_BYTES;

fn page_at(offset: u64) -> [u8; 4096] {
    if offset / CHUNK_BYTES == 1 { [0; 4096] } else { [(offset / 4096 % 250) as u8 + 1; 4096] }
}

fn index() -> MemoryIndex {
    let pages = PageCount::from_bytes(LEN).unwrap();
    let mut sums = ChunkSums::new(pages);
    for offset in (0..LEN).step_by(4096) {
        sums.add(offset / 4096, &page_at(offset)).unwrap();
    }
    let region = Region::new(Gpa::new(0).unwrap(), pages, FileOffset::new(0).unwrap()).unwrap();
    MemoryIndex::new(vec![region], sums).unwrap()
}

/// The file, which has a hole in the middle.
fn here() -> Here {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LEN).unwrap();
    for offset in (0..LEN).step_by(4096).filter(|offset| offset / CHUNK_BYTES != 1) {
        file.write_all_at(&page_at(offset), offset).unwrap();
    }
    Here::File(Arc::new(Image::new(file, index())))
}

/// Memory that is handed over to whoever listens at a path, which is `serve`. What that gives is sent, and its end of the
/// connection is kept.
fn served<T: Send + 'static>(
    serve: impl FnOnce(&Taken, &mut UnixStream) -> T + Send + 'static,
) -> (Memory, mpsc::Receiver<T>) {
    served_beside(here(), serve)
}

fn served_beside<T: Send + 'static>(
    here: Here,
    serve: impl FnOnce(&Taken, &mut UnixStream) -> T + Send + 'static,
) -> (Memory, mpsc::Receiver<T>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let listener = UnixListener::bind(&path).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let taken = page_stub::take(&stream);
        let _ = tell.send(serve(&taken, &mut stream));
        // Until the VMM goes.
        let _ = io::Read::read(&mut stream, &mut [0; 64]);
    });
    let options =
        Options { image_id: [0xab; 16], prefetch: true, record: false, timeout: Duration::from_secs(5) };
    let server = Server::connect(path, Duration::ZERO, |_| ()).unwrap();
    (Memory::lazy(&index(), here, server, &options).unwrap(), told)
}

fn byte(memory: &Memory, at: u64) -> u8 {
    memory.ram().read_obj(GuestAddress(at)).unwrap()
}

/// It waits for the first fault, and fills every region by one request, as a well-known example does.
#[test]
fn a_handler_that_fills_each_region_by_one_request_serves_us() {
    let (memory, filled) = served(|taken, _| {
        while taken.fault(Duration::from_millis(5)).is_none() {}
        let all: Vec<u8> = (0..LEN).step_by(4096).flat_map(page_at).collect();
        taken.fill(&all)
    });
    for offset in (0..LEN).step_by(4096 * 5) {
        assert_eq!(byte(&memory, offset), page_at(offset)[0], "{offset:#x}");
    }
    filled.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    let start = Instant::now();
    while memory.completeness() != Some(true) {
        assert!(start.elapsed() < Duration::from_secs(5), "it is not seen that nothing is missing");
        thread::sleep(Duration::from_millis(5));
    }
}

/// It says that it is ours, and is asked for no page of zeros from then on, nor does it have to deliver one.
#[test]
fn a_server_that_says_it_is_ours_is_spared_the_zeros() {
    let (memory, asked) = served(|taken, stream| {
        assert!(taken.handshake.hello.as_ref().unwrap().acknowledge);
        stream.write_all(&FromServer::Serving.encode()).unwrap();
        let refused = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            // ENOENT once they are not registered any more.
            !taken.deliver(2 * CHUNK_BYTES - 4096, &[0; 4096])
        });
        for offset in (0..LEN).step_by(4096).filter(|offset| offset / CHUNK_BYTES != 1) {
            taken.deliver(offset, &page_at(offset));
        }
        refused
    });
    assert!(asked.recv_timeout(Duration::from_secs(10)).unwrap(), "zeros are still registered");
    for offset in (0..LEN).step_by(4096 * 5) {
        assert_eq!(byte(&memory, offset), page_at(offset)[0], "{offset:#x}");
    }
    // No page but those that were delivered was waited for.
    let start = Instant::now();
    while memory.completeness() != Some(true) {
        assert!(start.elapsed() < Duration::from_secs(5), "the zeros are waited for");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The memory is not here, and the sum alone says that the chunk in the middle may be zeros: the server says that it is, and
/// lies about the last one.
#[test]
fn zeros_that_a_server_of_ours_tells_of_are_not_asked_for() {
    let (memory, asked) = served_beside(Here::Nothing, |taken, stream| {
        let hello = taken.handshake.hello.as_ref().unwrap();
        assert!(hello.acknowledge && hello.zeros);
        stream.write_all(&FromServer::Serving.encode()).unwrap();
        let told = vec![[u64::MAX - 4095, 4096], [CHUNK_BYTES, u64::MAX], [1, 0]];
        stream.write_all(&FromServer::Zeros(told).encode()).unwrap();
        let refused = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            !taken.deliver(2 * CHUNK_BYTES - 4096, &[0; 4096])
        });
        let mut data = (0..LEN).step_by(4096).filter(|offset| offset / CHUNK_BYTES != 1);
        refused && data.all(|offset| taken.deliver(offset, &page_at(offset)))
    });
    assert!(asked.recv_timeout(Duration::from_secs(20)).unwrap(), "other stretches are registered");
    for offset in (0..LEN).step_by(4096 * 5) {
        assert_eq!(byte(&memory, offset), page_at(offset)[0], "{offset:#x}");
    }
    let start = Instant::now();
    while memory.completeness() != Some(true) {
        assert!(start.elapsed() < Duration::from_secs(5), "the zeros are waited for");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Who tells of zeros without being asked, or before it serves, is no server.
#[test]
fn zeros_that_come_before_the_server_serves_are_no_message() {
    let (memory, ended) = served_beside(Here::Nothing, |_, stream| {
        stream.write_all(&FromServer::Zeros(vec![[0, LEN]]).encode()).unwrap();
        io::Read::read(stream, &mut [0; 64]).is_ok_and(|read| read == 0)
    });
    assert!(ended.recv_timeout(Duration::from_secs(10)).unwrap(), "it is not hung up on");
    assert_eq!(memory.completeness(), Some(false));
}
