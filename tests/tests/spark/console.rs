//! The console: byte for byte both ways, and nobody hangs because nobody reads.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use rekindle_tests::{Case, Launch, Scratch, Vm, cases, verbs};
use rustix::pipe::fcntl_setpipe_size;

use crate::KVM;

/// How often a line is typed while snapshots are taken.
const LINES: usize = 600;
/// Ticks that no pipe holds.
const MANY: usize = 2000;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            stdout_carries_the_guests_bytes_and_nothing_else,
            a_file_takes_the_console,
            input_during_snapshots_is_neither_lost_nor_doubled,
            a_console_that_is_closed_early_does_not_stop_the_guest,
            a_console_that_nobody_reads_holds_the_guest_and_nothing_else,
            the_end_of_input_is_not_the_end_of_the_guest,
        ]
    )
}

fn stdout_carries_the_guests_bytes_and_nothing_else() {
    let mut vm = Launch::new(["--log-level", "trace", "boot", "--memory", "32M"]).vm();
    vm.expect("spark: ready\n");
    verbs::pause(&vm).ok();
    verbs::resume(&vm).ok();
    vm.send("off");
    let done = vm.wait_exit();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout, "spark: up, 32 MiB\nspark: filled 8 MiB seed 1\nspark: ready\n");
    assert!(done.stderr.contains("rekindle: the guest has powered off\n"), "{done:?}");
}

fn a_file_takes_the_console() {
    let here = Scratch::new();
    let console = here.path("console");
    let to = format!("file:{}", console.display());
    let vm = Vm::boot(["--memory", "32M", "--serial", &to]);
    let there = rekindle_tests::patience::until(rekindle_tests::patience::SOON, || {
        std::fs::read_to_string(&console).ok().filter(|text| text.ends_with("spark: ready\n"))
    });
    assert_eq!(there.as_deref(), Some("spark: up, 32 MiB\nspark: filled 8 MiB seed 1\nspark: ready\n"));
    assert!(vm.stdout.bytes().is_empty());
    vm.stop();
}

fn input_during_snapshots_is_neither_lost_nor_doubled() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    let mut stdin = vm.take_stdin().expect("the console's input is a pipe");
    let typist = std::thread::spawn(move || {
        for i in 0..LINES {
            writeln!(stdin, "echo line number {i:04}").expect("the VM takes its input");
        }
        stdin
    });
    // The typist is far ahead, in the pipe: what counts is where the guest is.
    let last = format!("ok line number {:04}\n", LINES - 1);
    let mut snapshots = 0;
    while !vm.stdout.text().ends_with(&last) {
        verbs::snapshot_and_resume(&vm, here.path(format!("image-{snapshots}")));
        snapshots += 1;
        assert!(snapshots < LINES, "no line comes any more: {}", vm.story());
    }
    let stdin = typist.join().expect("the typist is well");
    let said = vm.expect(&last);
    let wanted: String = (0..LINES).map(|i| format!("ok line number {i:04}\n")).collect();
    assert_eq!(said, wanted, "after {snapshots} snapshots");
    assert!(snapshots >= 3, "only {snapshots} snapshots while {LINES} lines were answered");
    drop(stdin);
    vm.stop();
}

fn a_console_that_is_closed_early_does_not_stop_the_guest() {
    let here = Scratch::new();
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let vm =
        Launch::new(["boot", "--memory", "32M"]).stdout(File::from(std::os::fd::OwnedFd::from(writer))).vm();
    vm.serves();
    verbs::pause(&vm).ok();
    let image = verbs::snapshot_and_resume(&vm, here.path("image"));
    image.verifies();
    vm.stop();
}

fn a_console_that_nobody_reads_holds_the_guest_and_nothing_else() {
    let here = Scratch::new();
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    fcntl_setpipe_size(&writer, 4096).expect("a pipe can be made small");
    let mut vm =
        Launch::new(["boot", "--memory", "32M"]).stdout(File::from(std::os::fd::OwnedFd::from(writer))).vm();
    vm.serves();
    vm.send(&format!("tick {MANY} 0"));
    // Until the pipe is full and the guest stands before it.
    std::thread::sleep(Duration::from_millis(500));
    verbs::pause(&vm).ok();
    let image = verbs::snapshot_and_resume(&vm, here.path("image"));
    image.verifies();
    verbs::pause(&vm).ok();
    verbs::resume(&vm).ok();

    let last = format!("ok ticked {MANY}\n");
    let said = read_up_to(reader, &last);
    let ticks: String = (1..=MANY).map(|i| format!("tick {i}\n")).collect();
    assert!(said.ends_with(&format!("spark: ready\n{ticks}{last}")), "the guest's output has a gap: {said}");
    // The reader has gone with this function's end: the VM still ends as it should.
    vm.stop();
}

fn read_up_to(mut from: impl Read, end: &str) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !said.ends_with(end.as_bytes()) {
        let read = from.read(&mut buffer).expect("a pipe can be read");
        assert_ne!(read, 0, "the console was closed: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn the_end_of_input_is_not_the_end_of_the_guest() {
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    vm.send("echo the last words");
    drop(vm.take_stdin());
    vm.expect("ok the last words\n");
    verbs::pause(&vm).ok();
    verbs::resume(&vm).ok();
    vm.stop();
}
