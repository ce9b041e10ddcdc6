use std::sync::Barrier;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::source::mock::Mock;

/// A source of which all reads wait for one another: so many at once, or none.
#[derive(Debug)]
struct Together(Barrier);

impl PageSource for Together {
    fn len(&self) -> u64 {
        1 << 30
    }

    fn zeros(&self, _: u64) -> u64 {
        0
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
        self.0.wait();
        Ok(())
    }
}

fn job(source: &Arc<dyn PageSource>, to: &Arc<Mailbox>, id: u64, haste: Haste) -> Job {
    Job { source: Arc::clone(source), offset: id * 4096, len: 4096, haste, id, to: Arc::clone(to) }
}

fn all_of(mailbox: &Mailbox, count: usize) -> Vec<Arrived> {
    let mut all = Vec::new();
    while all.len() < count {
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(mailbox, PollFlags::IN)], Some(&limit)).unwrap();
        assert!(ready > 0, "{} of {count} have come", all.len());
        all.extend(mailbox.take());
    }
    all
}

#[test]
fn reads_that_wait_for_one_another_end() {
    let pool: &'static Pool = Box::leak(Box::default());
    let mailbox = Mailbox::new().unwrap();
    let source: Arc<dyn PageSource> = Arc::new(Together(Barrier::new(16)));
    for id in 0..16 {
        assert!(pool.read(job(&source, &mailbox, id, Haste::First)).is_ok());
    }
    let mut ids: Vec<u64> = all_of(&mailbox, 16).iter().map(|arrived| arrived.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, Vec::from_iter(0..16));
    assert!(mailbox.is_empty());
}

/// However much is to come ahead, what a thread waits for is read.
#[test]
fn what_comes_ahead_takes_no_more_than_half_of_the_threads() {
    let pool: &'static Pool = Box::leak(Box::default());
    let mailbox = Mailbox::new().unwrap();
    let stuck: Arc<dyn PageSource> = Arc::new(Together(Barrier::new(2 * MOST)));
    for id in 0..2 * MOST as u64 - 1 {
        assert!(pool.read(job(&stuck, &mailbox, id, Haste::Ahead)).is_ok());
    }
    let mock: Arc<Mock> = Arc::new(Mock::numbered(8));
    let source: Arc<dyn PageSource> = mock.clone();
    mock.failures.lock().unwrap().push(Mock::io_error());
    assert!(pool.read(job(&source, &mailbox, 1, Haste::First)).is_ok());
    assert!(all_of(&mailbox, 1)[0].bytes.is_err(), "one attempt, and that failed");
    assert!(pool.read(job(&source, &mailbox, 7, Haste::Waiting)).is_ok());
    assert_eq!(all_of(&mailbox, 1)[0].bytes.as_deref().unwrap(), [7; 4096]);
    assert_eq!(mock.reads.load(Ordering::Relaxed), 2);
    assert!(pool.lock().reading_ahead <= MOST_AHEAD);
}

/// Whoever asks reads it himself then, as if there were no threads.
#[test]
fn a_source_that_hangs_keeps_no_other_waiting() {
    let pool: &'static Pool = Box::leak(Box::default());
    let mailbox = Mailbox::new().unwrap();
    let stuck: Arc<dyn PageSource> = Arc::new(Together(Barrier::new(2 * MOST)));
    for id in 0..MOST as u64 {
        assert!(pool.read(job(&stuck, &mailbox, id, Haste::First)).is_ok());
    }
    let source: Arc<dyn PageSource> = Arc::new(Mock::numbered(8));
    let back = pool.read(job(&source, &mailbox, 7, Haste::Waiting)).unwrap_err();
    assert_eq!((back.id, back.haste), (7, Haste::Waiting));
}
