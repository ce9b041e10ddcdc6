use std::os::unix::net::{UnixDatagram, UnixStream};

use super::*;

#[test]
fn a_socket_that_was_passed_is_found_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let [pages, metrics, other] = ["pages", "metrics", "other"].map(|name| dir.path().join(name));
    let mut passed: Vec<OwnedFd> = vec![
        UnixDatagram::bind(&other).unwrap().into(),
        UnixListener::bind(&metrics).unwrap().into(),
        UnixStream::pair().unwrap().0.into(),
        UnixListener::bind(&pages).unwrap().into(),
        std::fs::File::open("/dev/null").unwrap().into(),
    ];
    let _waiting = UnixStream::connect(&pages).unwrap();
    let listener = take_from(&mut passed, &pages).unwrap();
    assert!(listener.accept().is_ok(), "who connected before is still there");
    assert_eq!(passed.len(), 4);
    assert!(take_from(&mut passed, &pages).is_none());
    assert!(take_from(&mut passed, &other).is_none());
    assert!(take_from(&mut passed, &metrics).is_some());
}
