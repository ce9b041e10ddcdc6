//! The server against clients that mean well and clients that do not, with a machine that is a thread.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::connection::Limits;
use super::server::MAX_CONNECTIONS;
use super::*;

const SHORT: Limits = Limits { idle: Duration::from_millis(150), message: Duration::from_millis(150) };

/// A VM whose machine answers everything at once, and a snapshot after 100 ms; ends at `PUT /stop`.
struct Vm {
    dir: tempfile::TempDir,
    machine: Option<JoinHandle<Vec<Request>>>,
}

impl Vm {
    fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(&dir.path().join("vm")).unwrap();
        let (postbox, mailbox) = Mailbox::new().unwrap();
        let server = Server::start_with(socket, postbox, limits).unwrap();
        let machine = thread::spawn(move || run(&mailbox, server));
        Self { dir, machine: Some(machine) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("vm")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends all of `bytes` as far as the server takes them, and reads until it closes.
    fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read_all(stream)
    }

    fn ask(&self, request: &Request) -> Result<Answer, Error> {
        Client::connect(&self.path()).unwrap().ask(request)
    }

    /// Ends it; gives what its machine was asked.
    fn stop(mut self) -> Vec<Request> {
        assert_eq!(self.ask(&Request::Stop).unwrap(), Answer::Done);
        let asked = self.machine.take().unwrap().join().unwrap();
        assert!(!self.path().exists(), "the socket goes with the server");
        asked
    }
}

fn run(mailbox: &Mailbox, server: Server) -> Vec<Request> {
    let mut asked = Vec::new();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(mailbox.eventfd(), PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        let Some(letter) = mailbox.try_take() else { continue };
        asked.push(letter.request.clone());
        match &letter.request {
            Request::Describe => letter.reply(Ok(Answer::Description(describe()))),
            Request::Snapshot(_) => {
                thread::sleep(Duration::from_millis(100));
                letter.reply(Ok(Answer::Snapshot(SnapshotSummary { paused_us: 5, memory_bytes: 4096 })));
            }
            Request::SendCtrlAltDel => {
                letter.reply(Err(Fault { message: "no keyboard".into(), exit_code: 5 }))
            }
            Request::DescribeBalloon => letter.reply(Ok(Answer::Balloon(Balloon { amount_mib: 3 }))),
            Request::BalloonStats => letter.reply(Ok(Answer::BalloonStats(BalloonStats::default()))),
            Request::Pause | Request::Resume | Request::SetBalloon(_) => letter.reply(Ok(Answer::Done)),
            Request::Stop => {
                letter.reply(Ok(Answer::Done));
                drop(server);
                return asked;
            }
        }
    }
}

fn describe() -> Description {
    Description {
        id: "t".into(),
        state: VmState::Running,
        vmm_version: "0".into(),
        app_name: "Rekindle".into(),
    }
}

/// Until the end of the stream; a reset behind the reply is an end as well.
fn read_all(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

fn fault(reply: &str) -> String {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no reply: {reply:?}"));
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{reply}");
    assert!(head.contains("\r\nRekindle-Exit-Code: 1"), "{reply}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["fault_message"].as_str().unwrap().to_owned()
}

#[test]
fn every_request_reaches_the_machine_and_its_answer_comes_back() {
    let vm = Vm::start(Limits::default());
    assert_eq!(vm.ask(&Request::Describe).unwrap(), Answer::Description(describe()));
    assert_eq!(vm.ask(&Request::Pause).unwrap(), Answer::Done);
    assert_eq!(vm.ask(&Request::Resume).unwrap(), Answer::Done);
    let snapshot = Request::Snapshot(SnapshotRequest { out: "/i".into(), resume: true, reclaim_ms: 0 });
    let summary = SnapshotSummary { paused_us: 5, memory_bytes: 4096 };
    assert_eq!(vm.ask(&snapshot).unwrap(), Answer::Snapshot(summary));
    let Err(Error::Fault(fault)) = vm.ask(&Request::SendCtrlAltDel) else { panic!() };
    assert_eq!(fault, Fault { message: "no keyboard".into(), exit_code: 5 });
    let asked = vm.stop();
    let all = [
        Request::Describe,
        Request::Pause,
        Request::Resume,
        snapshot,
        Request::SendCtrlAltDel,
        Request::Stop,
    ];
    assert_eq!(asked, all);
}

#[test]
fn one_connection_carries_many_requests_and_they_may_be_sent_ahead() {
    let vm = Vm::start(Limits::default());
    let mut stream = vm.connect();
    let put = "PATCH /vm HTTP/1.1\r\nContent-Length: 18\r\n\r\n{\"state\":\"Paused\"}";
    let bad = "PATCH /vm HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
    let last = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{put}{bad}{put}{last}{put}").as_bytes()).unwrap();
    let replies = read_all(stream);
    let statuses: Vec<_> = replies.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
    assert_eq!(statuses, ["204", "400", "204", "200"]);
    assert_eq!(vm.stop(), [Request::Pause, Request::Pause, Request::Describe, Request::Stop]);
}

#[test]
fn a_client_that_closes_its_half_still_gets_its_reply() {
    let vm = Vm::start(Limits::default());
    assert!(vm.talk(b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(vm.talk(b"PUT /actions HTTP/1.0\r\n\r\n").contains("Connection: close"));
    vm.stop();
}

#[test]
fn a_client_that_sends_byte_by_byte_is_served() {
    let vm = Vm::start(Limits::default());
    let mut stream = vm.connect();
    for byte in b"PATCH /vm HTTP/1.1\r\nContent-Length: 18\r\nConnection: close\r\n\r\n{\"state\":\"Paused\"}"
    {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(read_all(stream).starts_with("HTTP/1.1 204 "));
    vm.stop();
}

#[test]
fn a_client_that_waits_for_a_go_ahead_gets_one() {
    let vm = Vm::start(Limits::default());
    let mut stream = vm.connect();
    let head =
        "PATCH /vm HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 18\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut go = [0; 25];
    stream.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{\"state\":\"Paused\"}").unwrap();
    assert!(read_all(stream).starts_with("HTTP/1.1 204 "));
    vm.stop();
}

#[test]
fn garbage_gets_a_fault_and_the_connection_is_closed() {
    let vm = Vm::start(Limits::default());
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(33));
    let long_head = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000));
    let long_value = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(9000));
    let newlines = "\r\n".repeat(6000);
    for (sent, message) in [
        ("\0\u{1}\u{2}", "the message is not HTTP/1.1\n  caused by: "),
        ("GET / HTTP/2.0\r\n\r\n", "the message is not HTTP/1.1"),
        ("GET /\r\n\r\n", "the message is not HTTP/1.1"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", "the message is not HTTP/1.1"),
        (&many_headers, "the message is not HTTP/1.1"),
        (&long_head, "the message head is longer than 8192 bytes"),
        (&long_value, "the message head is longer than 8192 bytes"),
        (&newlines, "the message head is longer than 8192 bytes"),
        (
            "PUT /stop HTTP/1.1\r\nContent-Length: 51201\r\n\r\n",
            "the message body has 51201 bytes, more than the 51200",
        ),
        (
            "PUT /stop HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "the message body has 9999",
        ),
        ("PUT /stop HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "the header `Content-Length` is not one number"),
        ("PUT /stop HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "the header `Content-Length` is not one number"),
        ("PUT /stop HTTP/1.1\r\nContent-Length:\r\n\r\n", "the header `Content-Length` is not one number"),
        (
            "PUT /stop HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx",
            "the header `Content-Length` is not one number",
        ),
        (
            "PUT /stop HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
            "the header `Content-Length` is not one number",
        ),
        (
            "PUT /stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "the header `Transfer-Encoding` is not supported",
        ),
        ("GET / HTTP/1.1\r\n", "the peer closed the connection in the middle of a message"),
        ("PUT /stop HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}", "the peer closed the connection in the middle"),
    ] {
        let reply = vm.talk(sent.as_bytes());
        let said = fault(&reply);
        assert!(said.starts_with(message), "{sent:.60?}: {said}");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
    }
    assert_eq!(vm.stop(), [Request::Stop], "nothing of it reached the machine");
}

#[test]
fn a_body_of_the_allowed_length_is_taken() {
    let vm = Vm::start(Limits::default());
    let body = format!("{{\"state\":\"Paused\"{}}}", " ".repeat(51_200 - 18));
    let sent = format!("PATCH /vm HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert!(vm.talk(sent.as_bytes()).starts_with("HTTP/1.1 204 "));
    assert_eq!(vm.stop(), [Request::Pause, Request::Stop]);
}

#[test]
fn silent_and_dripping_clients_are_let_go() {
    let vm = Vm::start(SHORT);
    let started = Instant::now();
    assert_eq!(read_all(vm.connect()), "", "an idle connection is closed without a word");

    let mut half = vm.connect();
    half.write_all(b"GET / HT").unwrap();
    assert_eq!(fault(&read_all(half)), "the message did not arrive in full in time");

    let mut body = vm.connect();
    body.write_all(b"PUT /stop HTTP/1.1\r\nContent-Length: 2\r\n\r\n{").unwrap();
    assert_eq!(fault(&read_all(body)), "the message did not arrive in full in time");

    let mut drip = vm.connect();
    // Each byte comes well within the limit; all of them do not.
    while drip.write_all(b"G").is_ok() {
        thread::sleep(Duration::from_millis(20));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(vm.stop(), [Request::Stop]);
}

#[test]
fn silent_clients_in_every_place_hold_nobody_up_for_longer_than_the_limit() {
    let vm = Vm::start(SHORT);
    let _silent: Vec<_> = (0..MAX_CONNECTIONS + 4).map(|_| vm.connect()).collect();
    assert_eq!(vm.ask(&Request::Describe).unwrap(), Answer::Description(describe()));
    vm.stop();
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let vm = Vm::start(SHORT);
    let mut stream = vm.connect();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    // Requests without end, whose replies nobody reads: at some point the server has had enough and closes.
    let batch = "GET /x HTTP/1.1\r\n\r\n".repeat(100);
    let error = (0..10_000).find_map(|_| stream.write_all(batch.as_bytes()).err());
    // Not the client's own time-out: the server's end is gone.
    assert!(matches!(error.unwrap().kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset));
    vm.stop();
}

#[test]
fn a_client_that_leaves_during_a_snapshot_harms_nobody() {
    let vm = Vm::start(Limits::default());
    let mut stream = vm.connect();
    stream.write_all(b"PUT /snapshot HTTP/1.1\r\nContent-Length: 11\r\n\r\n{\"out\":\"a\"}").unwrap();
    thread::sleep(Duration::from_millis(30));
    drop(stream);
    assert_eq!(vm.ask(&Request::Describe).unwrap(), Answer::Description(describe()));
    assert_eq!(vm.stop().len(), 3);
}

#[test]
fn of_two_snapshots_at_once_the_second_is_refused_by_name() {
    let vm = Vm::start(Limits::default());
    let mut first = vm.connect();
    let snapshot =
        b"PUT /snapshot HTTP/1.1\r\nConnection: close\r\nContent-Length: 11\r\n\r\n{\"out\":\"a\"}";
    first.write_all(snapshot).unwrap();
    thread::sleep(Duration::from_millis(30));
    assert!(fault(&vm.talk(snapshot)).starts_with("a snapshot of this VM is already under way"));
    assert!(read_all(first).starts_with("HTTP/1.1 200 OK\r\n"));
    vm.stop();
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let vm = Vm::start(Limits::default());
    let idle: Vec<_> = (0..3).map(|_| vm.connect()).collect();
    let started = Instant::now();
    vm.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "the idle limit is 10 s");
    for stream in idle {
        assert_eq!(read_all(stream), "");
    }
}

#[test]
fn a_server_ends_with_its_threads_whatever_its_machine_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let (postbox, mailbox) = Mailbox::new().unwrap();
    let server = Server::start(ControlSocket::bind(&path).unwrap(), postbox).unwrap();
    let client = thread::spawn({
        let path = path.clone();
        move || Client::connect(&path).unwrap().ask(&Request::Describe)
    });
    while rustix::io::read(mailbox.eventfd(), &mut [0; 8]).is_err() {
        thread::sleep(Duration::from_millis(1));
    }
    // The letter stays in the box: nobody will ever answer it.
    drop(server);
    let Err(Error::Fault(fault)) = client.join().unwrap() else { panic!() };
    assert_eq!(fault.message, "the VM ended before it answered");
    assert!(!path.exists());
}
