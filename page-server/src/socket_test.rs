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
