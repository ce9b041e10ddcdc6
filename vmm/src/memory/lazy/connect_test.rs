use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_server_that_comes_later_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let mut told = None;
    thread::scope(|scope| {
        let connects = scope.spawn(|| Server::connect(path.clone(), LONG, |why| told = Some(why.kind())));
        thread::sleep(Duration::from_millis(50));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(connects.join().unwrap().is_ok());
        assert!(listener.accept().is_ok());
    });
    assert_eq!(told, Some(io::ErrorKind::NotFound));
}

/// As the backlog of a server that all VMs of a host come to at once.
#[test]
fn a_server_without_room_is_waited_for_and_not_taken_for_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        match connect::now(&path) {
            Ok(stream) => waiting.push(stream),
            Err(full) => break full,
        }
        assert!(waiting.len() < 10_000);
    };
    assert!(connect::is_busy(&full), "{full:?}");
    assert!(!Error::connect_hint(&full).contains("start it first"));
    let start = Instant::now();
    let limit = Duration::from_millis(100);
    let failed = Server::connect(path.clone(), limit, |_| ());
    assert!(matches!(&failed, Err(Error::Connect { source, .. }) if connect::is_busy(source)), "{failed:?}");
    assert!(start.elapsed() >= limit);
    thread::scope(|scope| {
        let connects = scope.spawn(|| Server::connect(path.clone(), LONG, |_| ()));
        thread::sleep(Duration::from_millis(50));
        assert!(!connects.is_finished());
        drop(listener.accept().unwrap());
        assert!(connects.join().unwrap().is_ok());
    });
}

#[test]
fn what_does_not_pass_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let start = Instant::now();
    for path in [file.join("pages"), file, dir.path().join("x".repeat(120))] {
        let failed = Server::connect(path, LONG, |why| panic!("{why}"));
        assert!(matches!(failed, Err(Error::Connect { .. })), "{failed:?}");
    }
    assert!(start.elapsed() < LONG / 2);
}
