//! The verbs that talk to a running VM, against a machine that is a thread.

use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Parser;
use vmm::control::{
    Answer, ControlSocket, Fault, Mailbox, Reply, Request, Server, SnapshotRequest, SnapshotSummary,
};

use super::args::{Cli, Command};
use super::exit::{Exit, Failure};
use super::{classify, power, snapshot};

/// Runs one command line against a VM that gives `reply`; gives what the VM was asked and what became of the command.
fn run(line: &[&str], reply: Reply) -> (Request, Result<(), Failure>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let (postbox, mailbox) = Mailbox::new().unwrap();
    let _server = Server::start(ControlSocket::bind(&path).unwrap(), postbox).unwrap();
    let machine = thread::spawn(move || {
        loop {
            match mailbox.try_take() {
                Some(letter) => {
                    let asked = letter.request.clone();
                    letter.reply(reply);
                    return asked;
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    });
    let result = command(&[line, &["--api-socket", path.to_str().unwrap()]].concat());
    (machine.join().unwrap(), result)
}

fn command(line: &[&str]) -> Result<(), Failure> {
    let result = match Cli::try_parse_from([&["rekindle"], line].concat()).unwrap().command {
        Command::Pause(args) => power::pause(&args),
        Command::Resume(args) => power::resume(&args),
        Command::Stop(args) => power::stop(&args),
        Command::Snapshot(args) => snapshot::run(args),
        other => panic!("{other:?}"),
    };
    result.map_err(classify)
}

#[test]
fn verbs_ask_what_they_are_named_after() {
    for (verb, request) in [("pause", Request::Pause), ("resume", Request::Resume), ("stop", Request::Stop)] {
        let (asked, result) = run(&[verb], Ok(Answer::Done));
        assert_eq!(asked, request);
        result.unwrap();
    }
}

#[test]
fn a_snapshot_goes_where_the_user_is_not_where_the_vm_is() {
    let summary = SnapshotSummary { paused_us: 1, memory_bytes: 2 };
    let (asked, result) =
        run(&["snapshot", "--out", "images/warm", "--resume"], Ok(Answer::Snapshot(summary)));
    let out = std::env::current_dir().unwrap().join("images/warm");
    assert_eq!(asked, Request::Snapshot(SnapshotRequest { out, resume: true, reclaim_ms: 0 }));
    result.unwrap();
}

#[test]
fn the_vms_own_message_and_code_are_the_commands() {
    let message = "cannot write `w`\n  caused by: no space left on device".to_owned();
    for (code, exit) in [(1, Exit::Failed), (5, Exit::GuestFailed)] {
        let fault = Fault { message: message.clone(), exit_code: code };
        let (_, result) = run(&["snapshot", "--out", "w"], Err(fault));
        let failure = result.unwrap_err();
        assert_eq!(failure.exit, exit);
        assert_eq!(failure.render(), format!("error: {message}"));
    }
}

#[test]
fn no_vm_is_an_error_that_names_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm");
    let failure = command(&["pause", "--api-socket", path.to_str().unwrap()]).unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(
        failure.render().starts_with(&format!("error: no VM listens on `{}`\n  caused by: ", path.display()))
    );
    assert!(failure.render().contains("\n  hint: "));
    assert!(!Path::new(&path).exists());
}
