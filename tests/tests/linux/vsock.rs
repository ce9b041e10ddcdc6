//! Sockets between a stock guest and its host: data both ways, and what is left of them after a restore.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use rekindle_tests::patience::{SOON, scaled};
use rekindle_tests::{Image, Launch, Scratch, Vm, verbs};
use rustix::process::Signal;

use crate::checks;
use crate::guest::Guest;
use crate::shelf::CLOUD_6_1;

/// Ports of the guest's and of the host's.
const SERVED: u32 = 1024;
const ECHO: u32 = 2048;
const HELD: u32 = 2049;
/// Bytes of a conversation: more than every buffer on the way together.
const LONG: usize = 768 << 10;

/// The host's socket for one of its ports.
fn port(socket: &Path, port: u32) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(format!("_{port}"));
    path.into()
}

/// Sends back all that anybody sends to the host's port.
fn echo(socket: &Path) {
    let listener = UnixListener::bind(port(socket, ECHO)).expect("a scratch directory can be written");
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::spawn(move || -> std::io::Result<u64> {
                let mut connection = connection?;
                std::io::copy(&mut connection.try_clone()?, &mut connection)
            });
        }
    });
}

/// A connection to the guest's server.
#[track_caller]
fn call(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("the VM listens");
    stream.set_read_timeout(Some(scaled(SOON))).expect("a socket has a time limit");
    stream.write_all(format!("CONNECT {SERVED}\n").as_bytes()).expect("the VM listens to what is said");
    let mut line = String::new();
    let heard = BufReader::with_capacity(1, &stream).read_line(&mut line);
    assert!(heard.is_ok() && line.starts_with("OK "), "{heard:?} {line:?}");
    stream
}

/// Says something, and hears it again.
#[track_caller]
fn converse(stream: &mut UnixStream, bytes: usize) {
    let said: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
    let mut sender = stream.try_clone().expect("there are descriptors left");
    let mut heard = vec![0; bytes];
    thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&said));
        stream.read_exact(&mut heard).expect("what was said comes back");
    });
    assert!(heard == said, "it comes back as it was said");
}

/// A guest that serves its port.
fn serving(socket: &Path) -> Guest {
    let vsock = format!("cid=3,uds={}", socket.display());
    let mut guest = Guest { vm: Guest::launch("boot", CLOUD_6_1, 2, "").args(["--vsock", &vsock]).vm() };
    guest.next("guest");
    guest.ask("module");
    assert_eq!(guest.ask(&format!("serve {SERVED}")), "ready");
    guest
}

/// The end of a connection that a restore has cut.
const RESET: &str = "ended Connection reset by peer (os error 104)";

pub(crate) fn carries_data_and_listens_again() {
    let here = Scratch::new();
    let socket = here.path("vsock");
    echo(&socket);
    let held = UnixListener::bind(port(&socket, HELD)).expect("a scratch directory can be written");
    let mut guest = serving(&socket);
    assert_eq!(guest.ask(&format!("call {ECHO} 1 3")), "right");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut stream = call(&socket);
                converse(&mut stream, LONG);
                stream.shutdown(Shutdown::Write).expect("it is open");
                assert_eq!(stream.read(&mut [0]).expect("it ends in order"), 0);
            });
        }
    });
    for _ in 0..3 {
        assert_eq!(guest.next("serve"), format!("ended {LONG} in order"));
    }

    // Snapshotted with a connection of each kind. The guest that goes on notices nothing.
    let mut to_guest = call(&socket);
    converse(&mut to_guest, 100);
    assert_eq!(guest.ask(&format!("hold {HELD}")), "connected");
    let (mut from_guest, _) = held.accept().expect("the guest has called");
    let image = verbs::snapshot_and_resume(&guest.vm, here.path("image"));
    converse(&mut to_guest, 5000);
    from_guest.write_all(&[7]).expect("it is open");
    assert_eq!(guest.next("hold"), "heard 7");
    guest.vm.signal(Signal::KILL);
    assert_eq!(to_guest.read(&mut [0]).expect("its end has gone"), 0);
    guest.vm.kill();

    // Two clones at a time, the first where the killed one was.
    let mut first = Guest::restore(&image);
    let other = here.path("other");
    echo(&other);
    let mut uds = std::ffi::OsString::from("uds=");
    uds.push(&other);
    let restore = Launch::new(["restore".as_ref(), image.path().as_os_str(), "--vsock".as_ref(), &uds]);
    let mut second = Guest { vm: restore.vm() };
    for (guest, socket) in [(&mut first, &socket), (&mut second, &other)] {
        was_reset_and_listens(guest, socket);
    }
    first.vm.stop();
    second.vm.stop();
    assert!(!socket.exists() && !other.exists(), "each takes its socket along");
}

/// Both connections of the image end, in whichever order the guest tells of them, and new ones can be made.
#[track_caller]
fn was_reset_and_listens(guest: &mut Guest, socket: &Path) {
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let line = guest.vm.line();
        if line.starts_with("hold ended") || line.starts_with("serve ended") {
            ends.push(line);
        }
    }
    ends.sort();
    assert_eq!(ends, [format!("hold {RESET}"), "serve ended 100 ".to_owned() + &RESET["ended ".len()..]]);
    let mut stream = call(socket);
    converse(&mut stream, 100_000);
    drop(stream);
    assert_eq!(guest.next("serve"), "ended 100000 in order");
    guest.send(&format!("hold {ECHO}"));
    assert_eq!(guest.next("hold"), "connected");
}

/// The guest says that it is ready by connecting to a port of the host's, which nobody but the VM serves.
pub(crate) fn bakes_until_a_connection() {
    let here = Scratch::new();
    let (socket, out) = (here.path("vsock"), here.path("image"));
    let vsock = format!("cid=3,uds={}", socket.display());
    let ready = format!("vsock:{HELD}");
    let launch = Guest::launch("bake", CLOUD_6_1, 2, "").args(["--serial", "stdio", "--vsock", &vsock]);
    let launch = launch.args(["--ready", &ready, "--timeout", "600s"]);
    let mut baking = Guest { vm: launch.args(["--out".as_ref(), out.as_os_str()]).vm() };
    baking.next("guest");
    baking.ask("module");
    baking.send(&format!("hold {HELD}"));
    assert_eq!(baking.vm.wait_exit().code, Some(0));
    assert_eq!(here.entries(), ["image"], "the socket goes with the bake");

    let mut guest = Guest { vm: Vm::restore(Image::at(out)) };
    // Its program was told that it is connected, whether it said so before the snapshot or not; now it hears the end.
    while guest.next("hold") != RESET {}
    checks::timers_fire(&mut guest);
    assert_eq!(guest.ask(&format!("serve {SERVED}")), "ready");
    converse(&mut call(&socket), 1000);
    guest.vm.stop();
}
