//! The socket's file in all its states.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_socket_is_for_its_owner_only_and_goes_with_its_vm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let socket = ControlSocket::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_dead_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the standard library leaves the file");
    let socket = ControlSocket::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_socket_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let first = ControlSocket::bind(&path).unwrap();
    assert!(matches!(ControlSocket::bind(&path), Err(Error::InUse { .. })));
    UnixStream::connect(&path).unwrap();
    drop(first);
}

#[test]
fn a_live_socket_with_a_full_backlog_is_in_use_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let _first = ControlSocket::bind(&path).unwrap();
    let found = (0..64).find_map(|_| match ControlSocket::bind(&path) {
        Err(Error::InUse { .. }) => None,
        other => Some(other),
    });
    assert!(found.is_none(), "{found:?}");
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
    for path in [file.as_path(), link.as_path(), dir.path()] {
        assert!(matches!(ControlSocket::bind(path), Err(Error::NotASocket { .. })), "{}", path.display());
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");

    let datagram = dir.path().join("datagram");
    let _other = UnixDatagram::bind(&datagram).unwrap();
    assert!(matches!(ControlSocket::bind(&datagram), Err(Error::Listen { .. })));
    assert!(datagram.exists());
}

#[test]
fn paths_that_cannot_be_bound() {
    let dir = tempfile::tempdir().unwrap();
    let of_len = |len: usize| dir.path().join("x".repeat(len - dir.path().as_os_str().len() - 1));
    let longest = of_len(107);
    let socket = ControlSocket::bind(&longest).unwrap();
    Client::connect(&longest).unwrap();
    drop(socket);
    for len in [108, 109, 200] {
        for error in [
            ControlSocket::bind(&of_len(len)).map(drop).unwrap_err(),
            Client::connect(&of_len(len)).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, Error::PathTooLong { .. }), "{error:?}");
            assert!(error.to_string().contains("107 bytes"), "{error}");
        }
    }
    assert!(matches!(ControlSocket::bind(&dir.path().join("no/vm")), Err(Error::Listen { .. })));
    assert!(matches!(ControlSocket::bind(Path::new("")), Err(Error::Listen { .. })));
}

#[test]
fn somebody_elses_file_at_the_path_survives_the_drop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let socket = ControlSocket::bind(&path).unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    fs::write(&path, "new").unwrap();
    drop(socket);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}
