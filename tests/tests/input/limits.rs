//! Limits of the host that are reached, and storage that does not answer: said by name, in bounded time, and without
//! harm to what goes on.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rekindle_tests::patience::{SOON, until};
use rekindle_tests::{Case, Launch, Need, Scratch, Stall, Vm, cases, verbs};
use rustix::process::Signal;

use crate::args;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!(
        "input",
        &[Need::Kvm, Need::Mounts, Need::OtherUser],
        [
            a_vm_that_kvm_has_no_thread_for_ends_by_name,
            a_bake_that_kvm_has_no_thread_for_ends_by_name,
            many_vcpus_without_threads_end_by_name,
        ]
    );
    cases.extend(cases!(
        "input",
        &[Need::Kvm],
        [vsock_connections_leave_descriptors_for_the_rest, a_limit_of_descriptors_is_raised]
    ));
    cases.extend(cases!(
        "input",
        &[Need::Kvm, Need::Fuse],
        [
            a_disk_that_hangs_keeps_no_pause_and_no_snapshot_waiting,
            a_disk_that_hangs_does_not_keep_a_vm_alive,
            what_a_client_gave_up_on_is_not_carried_out_later,
            a_request_in_flight_does_not_stretch_the_pause,
        ]
    ));
    cases
}

/// As somebody who may use KVM and have so many processes, in a mount namespace.
fn with_processes(launch: Launch, most: u32) -> Launch {
    // Each has a user of its own, whose processes are nobody else's.
    static USERS: AtomicU32 = AtomicU32::new(0);
    let user = 1_000_000 + std::process::id() * 10 + USERS.fetch_add(1, Ordering::Relaxed);
    launch.mounted(&format!(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/kvm c 10 232; mknod -m 666 /dev/null c 1 3; \
         set -- setpriv --reuid {user} --clear-groups prlimit --nproc={most} -- \"$@\""
    ))
}

const NO_WORKER: &[&str] = &[
    "KVM cannot start its worker thread, the limit of processes is reached",
    "hint: ",
    "`ulimit -u` (it is 2",
];

/// Its first vCPU has a thread, and KVM's own thread is one too many.
fn a_vm_that_kvm_has_no_thread_for_ends_by_name() {
    with_processes(Launch::new(["boot", "--memory", "32M"]), 2).run().fails(1, NO_WORKER);
}

fn a_bake_that_kvm_has_no_thread_for_ends_by_name() {
    let here = Scratch::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(here.root(), open).expect("it is ours");
    let bake = args!["bake", "--memory", "32M", "--ready", "port", "--out", here.path("image")];
    with_processes(Launch::new(bake), 2).run().fails(1, NO_WORKER);
    assert!(here.entries().is_empty(), "{:?}", here.entries());
}

/// The error is that a vCPU has no thread; those that have one are stopped.
fn many_vcpus_without_threads_end_by_name() {
    let says = ["cannot start a thread for vCPU", "`ulimit -u` (it is"];
    for most in [2, 3, 5] {
        let boot = Launch::new(["boot", "--memory", "32M", "--cpus", "32"]);
        with_processes(boot, most).run().fails(1, &says);
    }
}

fn a_limit_of_descriptors_is_raised() {
    let mut vm = Launch::new(["boot", "--memory", "32M"]).under(["prlimit", "--nofile=64:4096"]).vm();
    vm.expect("spark: ready\n");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", vm.pid())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is limited");
    assert!(files.split_whitespace().eq(["Max", "open", "files", "4096", "4096", "files"]), "{files}");
    vm.stop();
}

/// Host programs connect until nobody takes them any more.
fn vsock_connections_leave_descriptors_for_the_rest() {
    let here = Scratch::new();
    let boot = args!["boot", "--memory", "32M", "--vsock", "cid=3,uds=vsock"];
    let mut vm = Launch::new(boot).under(["prlimit", "--nofile=200:200"]).in_directory(here.root()).vm();
    vm.expect("spark: ready\n");
    // The guest's driver sets its device up when it is asked for something.
    let _ = vm.ask("vsock info");
    let path = here.path("vsock");
    let mut connections = Vec::new();
    let mut connect = || -> bool {
        let address = rustix::net::SocketAddrUnix::new(&path).expect("it is short");
        let kind = rustix::net::SocketType::STREAM;
        let flags = rustix::net::SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(rustix::net::AddressFamily::UNIX, kind, flags, None);
        let socket = socket.expect("a socket can be made");
        let connected = rustix::net::connect(&socket, &address).is_ok();
        connections.push(socket);
        connected
    };
    // As many as are taken, and 128 in the backlog.
    let connected = (0..400)
        .filter(|_| {
            std::thread::sleep(Duration::from_millis(1));
            connect()
        })
        .count();
    assert!((150..250).contains(&connected), "{connected} are connected");
    // Everything else works.
    verbs::snapshot_and_resume(&vm, here.path("image")).verifies();
    assert_eq!(vm.ask("echo on"), "ok on");
    let complaints = vm.stderr.text().lines().filter(|line| line.contains("vsock")).count();
    assert!((1..20).contains(&complaints), "{complaints} lines: {}", vm.stderr.text());
    // Whoever waited has a place when others leave.
    connections.clear();
    let mut client = UnixStream::connect(&path).expect("there is room again");
    client.write_all(b"nonsense\n").expect("it is taken");
    let mut end = [0];
    client.set_read_timeout(Some(SOON)).expect("a time is set");
    // It is turned away, which it can only be if it was heard.
    let heard = std::io::Read::read(&mut client, &mut end);
    assert!(
        heard.as_ref().map_or_else(|e| e.kind() == std::io::ErrorKind::ConnectionReset, |read| *read == 0),
        "{heard:?}"
    );
    std::fs::remove_dir_all(here.path("image")).expect("it is ours");
    vm.stop();
}

/// A guest whose disk hangs, with requests on their way.
fn with_hanging_disk(stall: &Stall) -> Vm {
    let disk = format!("root={}", stall.file().display());
    let mut vm = Launch::new(args!["boot", "--memory", "32M", "--disk", disk]).vm();
    vm.expect("spark: ready\n");
    vm.serves();
    assert!(vm.ask("disk fill 7").starts_with("ok "), "{}", vm.story());
    let before = stall.answered();
    vm.send("disk run 2000 1 8");
    let runs = until(SOON, || (stall.answered() > before + 20).then_some(()));
    assert!(runs.is_some(), "{}", vm.story());
    // The guest has up to eight requests on their way at any time.
    stall.hang();
    std::thread::sleep(Duration::from_millis(100));
    vm
}

fn stall() -> Stall {
    Stall::new(4 << 20).expect("FUSE works")
}

fn a_disk_that_hangs_keeps_no_pause_and_no_snapshot_waiting() {
    let (here, stall) = (Scratch::new(), stall());
    let mut vm = with_hanging_disk(&stall);
    let says = ["disk `root` waits for the host", "the guest runs on"];
    verbs::pause(&vm).fails(1, &says);
    assert_eq!(verbs::describe(&vm).expect("it answers")["state"], "Running");
    verbs::snapshot_command(vm.socket(), &here.path("image")).run().fails(1, &says);
    assert!(here.entries().is_empty(), "{:?}", here.entries());
    // The guest has run all the while, and has lost its own patience.
    vm.expect("bad a request that is never answered\n");
    stall.go_on();
    assert!(vm.ask("disk info").starts_with("ok "), "{}", vm.story());
    verbs::pause(&vm).ok();
    verbs::resume(&vm).ok();
    assert_eq!(vm.ask("echo on"), "ok on");
    vm.stop();
}

fn a_disk_that_hangs_does_not_keep_a_vm_alive() {
    for end in ["signal", "stop"] {
        let stall = stall();
        let mut vm = with_hanging_disk(&stall);
        match end {
            "signal" => vm.signal(Signal::TERM),
            _ => drop(verbs::stop(&vm).ok()),
        }
        vm.wait_exit().fails(1, &["its storage does not answer", "disk `root` waits for the host", "hint: "]);
    }
}

fn what_a_client_gave_up_on_is_not_carried_out_later() {
    let (here, stall) = (Scratch::new(), stall());
    let mut vm = with_hanging_disk(&stall);
    let given_up = |verb: Launch| {
        let start = Instant::now();
        verb.args(["--timeout", "300ms"]).run().fails(1, &["did not answer within", "does not begin"]);
        assert!(start.elapsed() < Duration::from_secs(5), "after {:?}", start.elapsed());
    };
    let socket = vm.socket().to_owned();
    // The first is being carried out; the others wait behind it.
    let verb = |name: &str| Launch::new(args![name, "--api-socket", socket.clone()]);
    given_up(verb("pause"));
    let waits = std::thread::spawn({
        let pause = verb("pause");
        move || pause.run()
    });
    std::thread::sleep(Duration::from_millis(500));
    given_up(verb("pause"));
    given_up(verbs::snapshot_command(&socket, &here.path("image")));
    given_up(verb("stop"));
    waits.join().expect("it is well").fails(1, &["disk `root` waits for the host"]);
    vm.expect("bad a request that is never answered\n");
    stall.go_on();
    assert_eq!(vm.ask("echo on"), "ok on");
    assert_eq!(verbs::describe(&vm).expect("it answers")["state"], "Running");
    assert!(here.entries().is_empty(), "{:?}", here.entries());
    vm.stop();
}

/// The guest runs while its disk completes what was begun, and only then stands still.
fn a_request_in_flight_does_not_stretch_the_pause() {
    let (here, stall) = (Scratch::new(), stall());
    let mut vm = with_hanging_disk(&stall);
    let snapshot = verbs::snapshot_command(vm.socket(), &here.path("image")).args(["--resume"]);
    let asker = std::thread::spawn(move || snapshot.run());
    std::thread::sleep(Duration::from_secs(2));
    stall.go_on();
    let said = asker.join().expect("it is well").ok();
    let paused: f64 = said
        .split_once("paused for ")
        .and_then(|(_, rest)| rest.split_once(" ms"))
        .and_then(|(ms, _)| ms.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!(paused < 1000.0, "{said}");
    vm.expect("ok disk 2000\n");
    std::fs::remove_dir_all(here.path("image")).expect("it is ours");
    let still = until(Duration::from_secs(1), || (!vm.is_alive()).then_some(()));
    assert!(still.is_none(), "{}", vm.story());
    vm.stop();
}
