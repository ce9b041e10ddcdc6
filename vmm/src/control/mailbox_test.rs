//! Letters, wake-ups and replies.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::*;

static OPEN: AtomicBool = AtomicBool::new(false);

fn snapshot() -> Request {
    Request::Snapshot(SnapshotRequest { out: "image".into(), resume: true, reclaim_ms: 0 })
}

fn next(mailbox: &Mailbox) -> Letter {
    loop {
        match mailbox.try_take() {
            Some(letter) => return letter,
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn the_wake_up_counts_letters() {
    let (postbox, mailbox) = Mailbox::new().unwrap();
    assert!(mailbox.try_take().is_none());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| postbox.ask(Request::Describe, Asker::default(), &OPEN));
        }
        let letters = [next(&mailbox), next(&mailbox), next(&mailbox)];
        assert!(mailbox.try_take().is_none());
        // Taking a letter may outrun its wake-up by an instant; the count still ends at what was taken.
        drop(letters);
    });
    while mailbox.try_take().is_some() {}
}

#[test]
fn one_wake_up_per_letter_is_left_when_one_of_two_is_taken() {
    let (postbox, mailbox) = Mailbox::new().unwrap();
    thread::scope(|scope| {
        let asked = [
            scope.spawn(|| postbox.ask(Request::Pause, Asker::default(), &OPEN)),
            scope.spawn(|| postbox.ask(Request::Pause, Asker::default(), &OPEN)),
        ];
        // Let both arrive, letter and wake-up.
        thread::sleep(Duration::from_millis(50));
        mailbox.try_take().unwrap().reply(Ok(Answer::Done));
        let mut count = [0; 8];
        rustix::io::read(mailbox.eventfd(), &mut count).expect("the second letter keeps the loop awake");
        assert_eq!(u64::from_ne_bytes(count), 1);
        mailbox.try_take().unwrap().reply(Ok(Answer::Done));
        for asked in asked {
            assert_eq!(asked.join().unwrap(), Ok(Answer::Done));
        }
    });
}

#[test]
fn a_second_snapshot_is_refused_while_one_is_under_way_and_taken_after_it() {
    let (postbox, mailbox) = Mailbox::new().unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| postbox.ask(snapshot(), Asker::default(), &OPEN));
        let letter = next(&mailbox);
        let refused = postbox.clone().ask(snapshot(), Asker::default(), &OPEN).unwrap_err();
        assert!(
            refused.message.starts_with("a snapshot of this VM is already under way\n  hint: "),
            "{refused:?}"
        );
        letter.reply(Err(Fault::refused("disk full")));
        assert_eq!(first.join().unwrap(), Err(Fault::refused("disk full")));

        let again = scope.spawn(|| postbox.ask(snapshot(), Asker::default(), &OPEN));
        next(&mailbox).reply(Ok(Answer::Done));
        assert_eq!(again.join().unwrap(), Ok(Answer::Done));
    });
}

#[test]
fn whoever_asked_is_told_when_the_machine_goes_away() {
    let (postbox, mailbox) = Mailbox::new().unwrap();
    thread::scope(|scope| {
        let dropped_letter = scope.spawn(|| postbox.ask(Request::Stop, Asker::default(), &OPEN));
        drop(next(&mailbox));
        assert_eq!(dropped_letter.join().unwrap().unwrap_err().message, "the VM ended before it answered");

        let dropped_mailbox = scope.spawn(|| postbox.ask(Request::Stop, Asker::default(), &OPEN));
        thread::sleep(Duration::from_millis(20));
        drop(mailbox);
        assert!(dropped_mailbox.join().unwrap().is_err());
    });
    assert!(postbox.ask(Request::Describe, Asker::default(), &OPEN).is_err());
}

#[test]
fn closing_ends_the_wait_for_a_machine_that_does_not_answer() {
    let (postbox, _mailbox) = Mailbox::new().unwrap();
    let closing = AtomicBool::new(true);
    assert!(postbox.ask(Request::Describe, Asker::default(), &closing).is_err());
}
