//! The client against servers that are not what they should be.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::*;

/// Connects to a server that reads a little, sends `reply` and closes; asks for a description.
fn ask_of(reply: &'static [u8], request: &Request) -> Result<Answer, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(reply).unwrap();
    });
    let answer = Client::connect(&path).unwrap().ask(request);
    server.join().unwrap();
    answer
}

#[test]
fn nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let missing = Client::connect(&path).unwrap_err();
    assert_eq!(missing.to_string(), format!("no VM listens on `{}`", path.display()));
    assert!(missing.hint().is_some());
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path), Err(Error::NoVm { .. })));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(
        Client::connect(&dir.path().join("file")),
        Err(Error::NoVm { .. } | Error::Connect { .. })
    ));
    assert!(matches!(Client::connect(Path::new("/dev/null/x")), Err(Error::Connect { .. })));
}

#[test]
fn answers_that_are_not_ours() {
    let snapshot =
        Request::Snapshot(SnapshotRequest { out: PathBuf::from("a"), resume: false, reclaim_ms: 0 });
    for (reply, request) in [
        (&b"220 smtp.example ESMTP\r\n\r\n"[..], &Request::Describe),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", &Request::Describe),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", &snapshot),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", &Request::Pause),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", &Request::Describe),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &Request::Describe),
    ] {
        let error = ask_of(reply, request).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    let endless = [b'x'; 9000].as_slice().to_vec().leak();
    assert!(matches!(ask_of(endless, &Request::Describe), Err(Error::Protocol { .. })));
}

#[test]
fn answers_that_break_off() {
    for reply in [&b""[..], b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
        assert!(matches!(ask_of(reply, &Request::Describe), Err(Error::Lost { .. })));
    }
}

#[test]
fn exit_codes_outside_the_documented_ones_are_not_believed() {
    for (reply, code) in [
        (&b"HTTP/1.1 400 Bad\r\nRekindle-Exit-Code: 3\r\nContent-Length: 21\r\n\r\n{\"fault_message\":\"m\"}"[..], 3),
        (b"HTTP/1.1 400 Bad\r\nRekindle-Exit-Code: 0\r\nContent-Length: 21\r\n\r\n{\"fault_message\":\"m\"}", 1),
        (b"HTTP/1.1 400 Bad\r\nRekindle-Exit-Code: x\r\nContent-Length: 21\r\n\r\n{\"fault_message\":\"m\"}", 1),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 21\r\n\r\n{\"fault_message\":\"m\"}", 1),
    ] {
        let Err(Error::Fault(fault)) = ask_of(reply, &Request::Stop) else { panic!() };
        assert_eq!(fault, Fault { message: "m".into(), exit_code: code });
    }
}

#[test]
fn a_silent_vm_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let _listener = UnixListener::bind(&path).unwrap();
    let client = Client::connect(&path).unwrap().with_patience(Duration::from_millis(50));
    assert!(matches!(client.ask(&Request::Pause), Err(Error::Silent { .. })));
}
