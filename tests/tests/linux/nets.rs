//! A network interface of a stock kernel, on a TAP: a conversation that goes on after a restore into another TAP, whose
//! neighbours are told, and data in both directions, in segments that nobody has cut.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rekindle_tests::{Launch, Scratch, patience::SOON, patience::until, rekindle, verbs};
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::guest::Guest;
use crate::shelf::CLOUD_6_1;

/// The TAPs, before and after.
pub(crate) const TAPS: [&str; 2] = ["rekindle-t0", "rekindle-t1"];
/// The host's address and the guest's, of a network that is nobody's (RFC 5737).
const HOST: &str = "192.0.2.1/24";
const GUEST: &str = "192.0.2.2";
/// What either side of the host is called on the wire, so that the guest need not ask anew.
const HOST_MAC: &str = "02:00:00:00:00:fe";
const GUEST_MAC: &str = "02:00:00:00:00:07";

/// Bytes that go in each direction, in MiB and in full.
const MIB: &str = "8";
const BYTES: usize = 8 << 20;

/// Snapshotted while host and guest talk, killed, and restored into another TAP: the connection is the same one.
pub(crate) fn a_conversation_goes_on_through_another_tap() {
    let here = Scratch::new();
    let _taps = Taps::make();
    let talk = Talk::listen();
    busybox(&["ip", "addr", "add", HOST, "dev", TAPS[0]]);

    let net = format!("eth0=tap:{},mac={GUEST_MAC}", TAPS[0]);
    let mut guest =
        Guest { vm: Guest::launch_with("boot", CLOUD_6_1, "net", 1, "").args(["--net", &net]).vm() };
    let hello = guest.next("guest");
    assert!(hello.ends_with(&format!(" mac={GUEST_MAC} mtu=1500")), "{hello}");
    guest.ask(&format!("fill {MIB}"));
    both_ways(&mut guest, TAPS[0]);
    guest.send(&format!("talk {}", talk.port));
    talk.comes_to(10);
    let said = rekindle(["boot", "--net", &format!("eth0=tap:{}", TAPS[0])]);
    said.fails(1, &["cannot use network interface `eth0`", "is in use by another process", "TAP of its own"]);

    let image = verbs::snapshot(&guest.vm, here.path("image"));
    guest.vm.signal(Signal::KILL);
    let said = guest.console();
    guest.vm.kill();
    assert!(!said.contains("talk ended"), "{said}");

    // The host's side moves, and its address only when the neighbour has been heard: it has not asked for it.
    let at = talk.count();
    let net = format!("eth0=tap:{}", TAPS[1]);
    let restore = Launch::new(["restore".as_ref(), image.path().as_os_str(), "--net".as_ref(), net.as_ref()]);
    let mut guest = Guest { vm: restore.vm() };
    let heard = until(SOON, || neighbours(TAPS[1]).contains(GUEST_MAC).then_some(()));
    assert!(heard.is_some(), "the guest does not announce itself: {}", neighbours(TAPS[1]));
    busybox(&["ip", "addr", "del", HOST, "dev", TAPS[0]]);
    busybox(&["ip", "addr", "add", HOST, "dev", TAPS[1]]);
    talk.comes_to(at + 10);
    assert_eq!(guest.ask("link").split(' ').next(), Some("1"));
    both_ways(&mut guest, TAPS[1]);
    assert!(!guest.console().contains("talk ended"), "{}", guest.console());
    assert_eq!(talk.connections(), 1, "it is the same connection");

    guest.vm.signal(Signal::KILL);
    guest.vm.kill();
    image.verifies();
}

/// Data to the guest and from it, whole, in frames far longer than the MTU.
#[track_caller]
fn both_ways(guest: &mut Guest, tap: &str) {
    let data: Vec<u8> =
        (0..BYTES / 8).flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let sum = hex(&data);
    let to_guest = Frames::of(tap, "tx");
    let port = serve(move |mut stream| stream.write_all(&data));
    assert_eq!(guest.ask(&format!("get {port}")), sum, "to the guest");
    to_guest.are_uncut();

    let from_guest = Frames::of(tap, "rx");
    let (sender, receiver) = std::sync::mpsc::channel();
    let port = serve(move |mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        sender.send(received).map_err(io::Error::other)
    });
    let sum = guest.ask(&format!("put {port}"));
    let received = receiver.recv().expect("the server has received something");
    assert_eq!((received.len(), hex(&received)), (BYTES, sum), "from the guest");
    from_guest.are_uncut();
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Serves one connection.
fn serve(serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port can be had");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || listener.accept().and_then(|(stream, _)| serve(stream)));
    port
}

/// What a TAP's counters say. The host's transmission is the guest's reception.
struct Frames {
    tap: String,
    way: &'static str,
    before: (u64, u64),
}

impl Frames {
    fn of(tap: &str, way: &'static str) -> Self {
        let mut frames = Self { tap: tap.to_owned(), way, before: (0, 0) };
        frames.before = frames.since();
        frames
    }

    /// On the average they have been longer than any frame that was cut to the MTU.
    #[track_caller]
    fn are_uncut(&self) {
        let (bytes, count) = self.since();
        assert!(bytes > count * 1600, "{}: {bytes} bytes in {count} frames", self.way);
    }

    /// Bytes and frames since then.
    fn since(&self) -> (u64, u64) {
        let count = |what: &str| -> u64 {
            let path = format!("/sys/class/net/{}/statistics/{}_{what}", self.tap, self.way);
            let text = std::fs::read_to_string(path).expect("every interface has counters");
            text.trim().parse().expect("a counter is a number")
        };
        (count("bytes") - self.before.0, count("packets") - self.before.1)
    }
}

/// A host that counts, and a guest that has to say every number before it hears the next.
struct Talk {
    port: u16,
    count: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Talk {
    fn listen() -> Self {
        let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port can be had");
        let port = listener.local_addr().expect("it is bound").port();
        let talk = Self { port, count: Arc::default(), connections: Arc::default(), ended: Arc::default() };
        let (count, connections, ended) = (talk.count.clone(), talk.connections.clone(), talk.ended.clone());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                let why = converse(&stream, &count, &ended);
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                eprintln!("the conversation was interrupted: {why:?}");
            }
        });
        talk
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn comes_to(&self, count: u64) {
        let came = until(SOON, || (self.count() >= count).then_some(()));
        assert!(came.is_some(), "the conversation stays at {} of {count}", self.count());
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Whoever waits for another connection gets one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn converse(mut stream: &TcpStream, count: &AtomicU64, ended: &AtomicBool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while !ended.load(Ordering::SeqCst) {
        let number = count.load(Ordering::SeqCst) + 1;
        stream.write_all(&number.to_le_bytes())?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        if u64::from_le_bytes(answer) != number {
            return Err(io::Error::other(format!("{number} came back as {}", u64::from_le_bytes(answer))));
        }
        count.store(number, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The two TAPs. Dropped, they are gone.
pub(crate) struct Taps;

impl Taps {
    pub(crate) fn make() -> Self {
        for tap in TAPS {
            busybox(&["tunctl", "-t", tap]);
            busybox(&["ip", "link", "set", tap, "address", HOST_MAC]);
            // A neighbour that announces itself is remembered although nobody has asked for it.
            let knob = format!("/proc/sys/net/ipv4/conf/{tap}/arp_accept");
            std::fs::write(knob, "1").expect("root can set it");
            busybox(&["ip", "link", "set", tap, "up"]);
        }
        Self
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        for tap in TAPS {
            let _ = Command::new("busybox").args(["tunctl", "-d", tap]).stdout(Stdio::null()).status();
        }
    }
}

/// What was heard on an interface of whom.
fn neighbours(tap: &str) -> String {
    let table = std::fs::read_to_string("/proc/net/arp").expect("the kernel has a table");
    table.lines().filter(|line| line.starts_with(GUEST) && line.ends_with(tap)).collect()
}

#[track_caller]
fn busybox(args: &[&str]) {
    let done = Command::new("busybox").args(args).output().expect("busybox can be run");
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}
