//! A source of which one read does not come, seen by a VM with several vCPUs.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::image::Served;
use crate::inline;
use crate::source::{Error, PageSource};
use crate::testing::{Memory, Pattern, hand_over};

/// The first page does not come before it may.
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
        while offset == 0 && !self.1.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        self.0.read(offset, buffer)
    }
}

#[test]
fn a_vcpu_goes_on_while_another_waits_for_a_slow_read() {
    let memory = Arc::new(Memory::new(4 << 20, 4096).unwrap());
    let may_go = Arc::new(AtomicBool::new(false));
    let pattern = Pattern { len: 4 << 20, zero: 0, fails_from: u64::MAX };
    let served = Served::of_parts(None, Arc::new(Stuck(pattern, Arc::clone(&may_go))), None);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = inline::serve(theirs, served, Default::default()).unwrap();
    hand_over(&ours, &memory, None).unwrap();
    let touch = |page: usize| {
        let (memory, (tell, told)) = (Arc::clone(&memory), mpsc::channel());
        thread::spawn(move || tell.send(memory.byte(page * 4096)));
        told
    };
    let stuck = touch(0);
    assert!(stuck.recv_timeout(Duration::from_millis(100)).is_err());
    for page in [512, 100, 1000] {
        let byte = touch(page).recv_timeout(Duration::from_secs(10));
        assert_eq!(byte, Ok((page % 255) as u8 + 1), "page {page} waits for another one");
    }
    assert!(stuck.try_recv().is_err());
    may_go.store(true, Ordering::SeqCst);
    assert_eq!(stuck.recv_timeout(Duration::from_secs(10)), Ok(1));
    drop(ours);
    server.join().unwrap();
}
