use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;

use super::*;
use crate::testing::Pattern;

fn endpoint(path: &Path) -> Endpoint {
    let image = Served::of_parts(None, Arc::new(Pattern { len: 4096, zero: 0, fails_from: u64::MAX }), None);
    Endpoint::new(Socket::bind(path).unwrap(), vec![image])
}

/// Those who were faster are taken, those who come later are told, and the path is free at once.
#[test]
fn who_has_connected_before_a_socket_was_given_up_is_still_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let first = endpoint(&path);
    let mut connected: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // At the limit of descriptors there is no other one to be had.
    let descriptor = first.listener().as_raw_fd();
    let retired = first.retire().unwrap();
    assert_eq!(retired.listener.as_raw_fd(), descriptor);
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let second = endpoint(&path);
    let _theirs = UnixStream::connect(&path).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| retired.next().unwrap()).collect();
    assert_eq!(taken.len(), 3);
    assert_eq!(taken[0].1[0].source().len(), 4096);
    drop((taken, retired));
    for stream in &mut connected {
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
    assert!(second.listener().accept().is_ok());
}
