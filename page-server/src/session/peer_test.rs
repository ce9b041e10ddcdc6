use std::process::{Child, Command, Stdio};

use super::*;

/// A process that ends only if it is ended.
pub(crate) fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_process_is_gone_when_ending_it_returns() {
    let mut child = sleeper();
    let peer = Peer::of_child(&child);
    peer.end().unwrap();
    let status = child.try_wait().unwrap().expect("it has ended");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    // Ended already.
    peer.end().unwrap();
}

#[test]
fn no_process_ends_itself() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(matches!(Peer::of(&ours).end(), Err(NoProcess::Oneself)));
}

/// As on Linux before 6.5: by its number, unless that may be another process's by now.
#[test]
fn a_process_that_has_hung_up_is_not_opened_by_its_number() {
    let mut child = sleeper();
    let pid = Pid::from_child(&child);
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert!(open_by_number(&ours, pid).is_ok());
    drop(theirs);
    assert!(open_by_number(&ours, pid).is_err());
    child.kill().unwrap();
    child.wait().unwrap();
}
