//! A page server as it is run for many VMs: by a service manager, replaced while they run, with as many descriptors as there
//! are.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use page_server::testing::hand_over;
use rekindle_tests::patience::SOON;
use rekindle_tests::{Case, Launch, PageServer, Scratch, Vm, cases};
use rustix::process::Signal;

use crate::standin::{Guest, byte, connect, is_delivered, raw};
use crate::ways::{RIGHT, bake, restore, restore_from};
use crate::{KVM, UFFD};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let guests = cases!(
        "pages",
        KVM,
        [
            an_idle_guest_does_not_fill_itself,
            a_server_that_comes_after_the_guest_is_waited_for,
            a_server_that_hands_over_leaves_running_guests_to_the_next,
        ]
    );
    let standins = cases!(
        "pages",
        UFFD,
        [
            a_server_takes_as_many_vms_as_it_has_descriptors_for,
            a_service_managers_socket_is_served_and_left_alone,
            a_socket_is_for_whoever_may_connect,
        ]
    );
    guests.into_iter().chain(standins).collect()
}

/// Bytes of a process's own memory.
fn own_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") << 10
}

/// Nothing is delivered that no thread has asked for, and the guest is there when it is wanted.
fn an_idle_guest_does_not_fill_itself() {
    let here = Scratch::new();
    let image = bake(&here);
    let server = PageServer::serve([image.path()]);
    let mut alone = restore(&image, &["--memory-mode", "lazy"]);
    let mut served = restore_from(server.socket(), &image, &[]);
    for vm in [&mut alone, &mut served] {
        vm.expect("spark: ready");
    }
    thread::sleep(Duration::from_millis(500));
    let before = (server.metric("copied_bytes_total"), own_memory(alone.pid()));
    thread::sleep(Duration::from_secs(4));
    let after = (server.metric("copied_bytes_total"), own_memory(alone.pid()));
    assert_eq!(after.0, before.0, "{}", server.story());
    // A second of the walk that it once was is more.
    assert!(after.1 < before.1 + (256 << 10), "{before:?} {after:?}");
    for mut vm in [alone, served] {
        assert_eq!(vm.ask("verify"), RIGHT);
        vm.stop();
    }
    server.stop();
}

fn a_server_that_comes_after_the_guest_is_waited_for() {
    let here = Scratch::new();
    let image = bake(&here);
    let socket = here.path("pages");
    let mut vm = restore_from(&socket, &image, &[]);
    assert!(vm.stderr.wait_for("waiting for a page server at `", SOON).is_some());
    let server = PageServer::serve_at(&socket, [image.path()]);
    assert_eq!(vm.ask("verify"), RIGHT);
    vm.stop();
    server.stop();
}

/// It ends at once, having delivered nothing that nobody wanted; a VM of another make is given everything.
fn a_server_that_hands_over_leaves_running_guests_to_the_next() {
    let here = Scratch::new();
    let image = bake(&here);
    let file = raw(&here, "memory", 16 * MIB, 3);
    let socket = here.path("pages");
    let launch = || Launch::pages(["serve", "--handover"]).args([image.path(), file.as_path()]);
    let mut server = PageServer::launch_at(&socket, launch());
    let mut guests: Vec<Vm> = (0..2).map(|_| restore_from(&socket, &image, &[])).collect();
    for vm in &mut guests {
        vm.expect("spark: ready");
    }
    guests[0].send("verify");
    let foreign = Guest::new(16 * MIB, PAGE);
    let stream = connect(&server);
    hand_over(&stream, &foreign, None).expect("the server reads");
    server.metric_comes_to("sessions", |now| now == 3);
    let resident: Vec<u64> = guests.iter().map(|vm| own_memory(vm.pid())).collect();
    server.signal(Signal::TERM);
    let done = server.wait_exit();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stderr.matches("is left to the next server").count(), 2, "{done:?}");
    let next = PageServer::launch_at(&socket, launch());
    next.metric_comes_to("sessions", |now| now == 2);
    let grown = own_memory(guests[1].pid()).saturating_sub(resident[1]);
    assert!(grown < 8 * MIB as u64, "an idle guest that was handed over has {grown} bytes more");
    guests[0].expect(RIGHT);
    for mut vm in guests {
        assert_eq!(vm.ask("verify"), RIGHT);
        vm.stop();
    }
    // Nobody serves it any more, and nobody has to.
    is_delivered(&foreign, 16 * MIB, |page| byte(3, page));
    next.stop();
}

/// The soft limit is raised; at the hard one those that are beyond have to wait, and nothing is lost on the way.
fn a_server_takes_as_many_vms_as_it_has_descriptors_for() {
    let here = Scratch::new();
    let file = raw(&here, "memory", MIB, 5);
    let limited = |soft: u32, hard: u32, socket: &Path| {
        let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$@\"");
        let launch = Launch::pages(["serve"]).args([&file]).under(["sh", "-c", &script, "sh"]);
        PageServer::launch_at(socket, launch)
    };
    let socket = here.path("pages");
    let server = limited(40, 400, &socket);
    let guests: Vec<(Guest, UnixStream)> = (0..60).map(|_| served(&server)).collect();
    for (memory, _) in &guests {
        is_delivered(memory, MIB, |page| byte(5, page));
    }
    assert_eq!((server.metric("sessions"), server.metric("refused_total")), (60, 0));
    drop(guests);
    server.stop();

    let mut server = limited(100, 100, &socket);
    let refused = server.metric("refused_total");
    let said = server.story();
    assert!(said.contains("RLIMIT_NOFILE allows no more") && refused == 0, "{said}");
    // Whoever is beyond is neither told that it sent no descriptor nor the end of anybody else.
    let first = served(&server);
    server.metric_comes_to("sessions", |now| now == 1);
    let crowd: Vec<UnixStream> = (0..80).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    is_delivered(&first.0, MIB, |page| byte(5, page));
    drop(crowd);
    let late = served(&server);
    is_delivered(&late.0, MIB, |page| byte(5, page));
    let said = server.story();
    assert!(!said.contains("0 descriptors came"), "{said}");
    drop((first, late));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit().code, Some(0));
}

/// Memory that a server was given, taken again for as long as it has no room.
#[track_caller]
fn served(server: &PageServer) -> (Guest, UnixStream) {
    let before = server.metric("sessions_total");
    for _ in 0..100 {
        let (memory, stream) = (Guest::new(MIB, PAGE), connect(server));
        if hand_over(&stream, &memory, None).is_ok() {
            for _ in 0..20 {
                if server.metric("sessions_total") > before {
                    return (memory, stream);
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    panic!("it is not taken: {}", server.story());
}

fn a_service_managers_socket_is_served_and_left_alone() {
    let here = Scratch::new();
    let file = raw(&here, "memory", MIB, 9);
    let (socket, notify) = (here.path("pages"), here.path("notify"));
    let listener = UnixListener::bind(&socket).expect("a socket can be made");
    let manager = UnixDatagram::bind(&notify).expect("a socket can be made");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let told = |state: &str| {
        let mut bytes = [0; 256];
        let len = manager.recv(&mut bytes).expect("the service manager is told");
        let said = String::from_utf8_lossy(&bytes[..len]).into_owned();
        assert!(said.starts_with(state), "{said}");
    };
    let launch = |path: &Path| {
        let passed = OwnedFd::from(listener.try_clone().expect("there is a descriptor"));
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        Launch::pages(["serve"])
            .args([path])
            .under(["sh", "-c", script, "sh"])
            .stdin(File::from(passed))
            .env("NOTIFY_SOCKET", notify.to_str().expect("scratch paths are UTF-8"))
    };
    for _ in 0..2 {
        let mut server = PageServer::launch_at(&socket, launch(&file));
        told("READY=1");
        let memory = Guest::new(MIB, PAGE);
        let stream = connect(&server);
        hand_over(&stream, &memory, None).expect("the server reads");
        is_delivered(&memory, MIB, |page| byte(9, page));
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit().code, Some(0));
        told("STOPPING=1");
        assert!(socket.exists(), "the socket is the service manager's");
    }
    // One that no option names.
    let other = here.path("other");
    let done = launch(&file).args(["--socket".as_ref(), other.as_os_str()]).run();
    done.fails(1, &["sockets were passed that no option names", "pages`"]);
}

fn a_socket_is_for_whoever_may_connect() {
    let here = Scratch::new();
    let file = raw(&here, "memory", MIB, 9);
    let socket = here.path("pages");
    // Only root may give a file to any group.
    let own = rustix::process::getegid().as_raw();
    let group = if rustix::process::geteuid().is_root() { 12345 } else { own };
    let more = ["--socket-mode", "0660", "--socket-group", &group.to_string()];
    let launch = Launch::pages(["serve"]).args(more).args([&file]);
    let server = PageServer::launch_at(&socket, launch.under(["sh", "-c", "umask 077; exec \"$@\"", "sh"]));
    let about = std::fs::metadata(&socket).expect("the socket is there");
    assert_eq!(about.permissions().mode() & 0o7777, 0o660);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&about), group);
    server.stop();
}
