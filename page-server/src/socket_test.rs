use super::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

#[test]
fn a_socket_is_its_owners_alone_and_goes_with_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    let socket = Socket::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(UnixStream::connect(&path).is_ok());
    assert!(matches!(Socket::bind(&path), Err(Error::InUse { .. })));
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_dead_servers_socket_is_replaced_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    drop(UnixListener::bind(&path).unwrap());
    let socket = Socket::bind(&path).unwrap();
    // Somebody else's file at the path is left alone.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    drop(socket);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(matches!(Socket::bind(&path), Err(Error::NotASocket { .. })));
    let nowhere = dir.path().join("no/such/place");
    assert!(matches!(Socket::bind(&nowhere), Err(Error::Listen { .. })));
    let long = dir.path().join("x".repeat(120));
    assert!(matches!(Socket::bind(&long), Err(Error::Listen { .. })));
}

/// Of several servers that find a dead one's socket, one has it in the end, and it is reached.
#[test]
fn one_of_many_takes_a_dead_servers_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    for round in 0..300 {
        drop(UnixListener::bind(&path).unwrap());
        let start = std::sync::Barrier::new(4);
        let bound: Vec<_> = thread::scope(|scope| {
            let bind = || {
                start.wait();
                Socket::bind(&path)
            };
            let binding: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            binding.into_iter().map(|binding| binding.join().unwrap()).collect()
        });
        let winners: Vec<Socket> = bound.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let _client = UnixStream::connect(&path).unwrap();
        assert!(winners[0].listener().accept().is_ok(), "round {round}");
        drop(winners);
        assert!(!path.exists());
    }
}
